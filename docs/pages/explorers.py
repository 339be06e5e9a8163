"""Explorers on pages of the site: an element with sentence and still image, which the site's script makes live.

In a notebook's kernel this is an IPython extension, which adds the element to what an explorer displays.
"""

import base64
import html
import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from cltools.explorer.explorer import Explorer
from cltools.explorer.front.bundle import bundle
from cltools.explorer.session import Session
from cltools.explorer.standalone import as_shown, base64_of, page_data, png
from cltools.files import write_text
from cltools.snapshot import Snapshot, content_key

FOLDER = "CLTOOLS_SITE_SNAPSHOTS"
"""Environment variable that names the folder of the snapshots' scripts."""
HERE = Path(__file__).parent
_numbers: WeakKeyDictionary[Session, int] = WeakKeyDictionary()


def number_of(session: Session) -> int:
    """Return the number of an explorer in this process, by which a check on its page finds it."""
    return _numbers.setdefault(session, len(_numbers) + 1)


def embedded(session: Session, show: Iterable[str], folder: Path) -> str:
    """Return an explorer for a page; its snapshots are written into the folder, as scripts that pages share."""
    names = [snapshot_script(each, folder) for each in session.snapshots]
    told = html.escape(json.dumps({"snapshots": names, **as_shown(session.snapshots, session.state, show)}))
    picture = base64.b64encode(png(session)).decode()
    still = f'<p>{html.escape(session.sentence)}</p><img alt="" src="data:image/png;base64,{picture}">'
    return f'<div class="cltools-explorer" data-session="{number_of(session)}" data-explorer="{told}">{still}</div>'


def snapshot_script(snapshot: Snapshot, folder: Path) -> str:
    """Write a snapshot as a classic script, unless it is there, and return its name, which is a digest."""
    text = json.dumps(page_data(snapshot, base64_of))
    name = content_key(text)[:16]
    if not (path := folder / f"{name}.js").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, f'(globalThis.cltoolsSnapshots ??= {{}})["{name}"] = {text};\n')
    return name


@cache
def site_script() -> str:
    """Return the script of the site's pages; the snapshots are beside it, in the folder `snapshots`."""
    return (
        f"const cltoolsMade = () => {{\n{bundle(HERE / 'site.js', 'cltools')}return cltools;\n}};\n"
        'cltoolsMade().live(new URL("snapshots/", document.currentScript.src).href, '
        "`(${cltoolsMade})().serveCensus(self);`);\n"
    )


def load_ipython_extension(shell: Any) -> None:
    """Add the element to what explorers display in this kernel."""
    folder = Path(os.environ[FOLDER])
    formatter = shell.display_formatter.formatters["text/html"]
    formatter.for_type(Explorer, lambda shown: embedded(shown, shown.widget.show, folder))
