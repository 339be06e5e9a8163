"""The explorer in a notebook: a session whose page computes and draws, and is told of the state that Python sets.

The page answers by itself while a cell runs. Python hears of a state once the kernel is free, and answers for rules
that only it knows.
"""

import json
import os
import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from threading import RLock
from typing import Any

import anywidget
import numpy as np
import traitlets
from IPython.core.getipython import get_ipython

from cltools.config import to_plain
from cltools.datasets import ImageSet
from cltools.errors import CltoolsError
from cltools.explorer.front.bundle import bundle
from cltools.explorer.session import Session
from cltools.explorer.standalone import HERE, draw, epoch_data, page_data, parts, png, save_html
from cltools.explorer.state import SIDES, State, check
from cltools.snapshot import Snapshot, content_key, recorder_of, with_epoch
from cltools.training import Run

PYTHON = "python"
"""Who set a state, if it was not a page."""

_shown: dict[str, tuple[str, list[Callable[[], None]]]] = {}
"""For each cell, by its id: which run of it shows something, and how that is closed."""


@cache
def module_script() -> str:
    """The page's script as the module that anywidget asks for; it passes on its own text, which a worker runs.

    A function's text is what was written, so that the script stands in a saved notebook once.
    """
    return (
        f"const made = () => {{\n{bundle(HERE / 'kernel.js', 'cltools')}return cltools;\n}};\n"
        "const code = `(${made})().serveCensus(self);`;\n"
        "export default { render: (context) => made().render(context, code) };\n"
    )


class Front(anywidget.AnyWidget):
    """The page's part.

    Attributes:
        state: `{"revision": n, "author": who, "seen": m, "state": {…}}`, m the revision that Python told last before;
            pages and Python follow each other's.
        digest: of the snapshots, which a page asks for once.
        show: which parts are shown.
        trains: whether there is a button to train.
    """

    _esm = module_script()
    _css = (HERE / "page.css").read_text(encoding="utf-8")

    state: Any = traitlets.Unicode().tag(sync=True)
    digest: Any = traitlets.Unicode().tag(sync=True)
    show: Any = traitlets.List(traitlets.Unicode()).tag(sync=True)
    trains: Any = traitlets.Bool().tag(sync=True)


class Explorer(Session):
    """Question and answer for one anchor, the axis with its two edges, pictures, map, and the controls of the rules.

    Attributes:
        errors: what went wrong when the page asked for something, as text.
        group: ids of the keys that were circled on the map last.
        widget: the anywidget.
    """

    def __init__(
        self, *session: Any, show: Iterable[str], train: Callable[..., Run] | None, images: ImageSet | None
    ) -> None:
        """Arguments as of `explore`; those without a name are the session's."""
        super().__init__(*session)
        self.errors: list[str] = []
        self.group: tuple[int, ...] = ()
        self._train, self._images, self._stopped = train, images, False
        self._revision, self._spoken, self._following = 0, 0, False
        self._lock = RLock()  # kernels may answer a page in a thread of its own, while a cell runs
        self.widget = Front(state=self._told(), digest=self._digest(), show=parts(show), trains=train is not None)
        self.widget.observe(self._heard, "state")
        self.widget.on_msg(self._asked)
        _replace_in_cell(self.close)

    def updated(self) -> None:
        """Tell the page, unless it told us."""
        if not self._following:
            self._revision = self._spoken = self._revision + 1
            self.widget.state = self._told()

    def _go(self, state: State) -> None:
        with self._lock:
            super()._go(state)

    def close(self) -> None:
        """Take it off the page and free its widgets; a training that it began stops after its epoch."""
        self._stopped = True
        layout: Any = self.widget.layout
        self.widget.close()
        layout.close()

    def follow(self) -> Callable[[Run], None]:
        """A callback that adds each epoch while it trains: `fit(experiment, callbacks=[explorer.follow()])`.

        Points move on the map by PCA. Epochs that the explorer has from there on, such as those of an earlier run, go.

        Raises:
            ValueError: the explorer shows two snapshots, or one of other images.
        """
        recorder = recorder_of(self._alone(), self._images)

        def add(run: Run) -> None:
            recorder(run)
            with self._lock:
                self.extend(with_epoch(self._alone(), recorder, run))
                self.widget.digest = self._digest()
                added = epoch_data(self.snapshots[0], buffers := _Buffers(), [-1])
                self.widget.send({"added": added, "digest": self.widget.digest}, buffers)

        return add

    def _alone(self) -> Snapshot:
        if len(self.snapshots) == 2:
            raise CltoolsError("Two snapshots follow no training; explore one alone: explore(explorer.snapshots[0]).")
        return self.snapshots[0]

    def train(self) -> Run:
        """Train with the active side's rules and temperature, and show what comes of it as side B.

        Side A stays as it is, so that before and after stand beside each other.

        Raises:
            ValueError: the explorer was made without `train`; the images are not those of the snapshot; or the button
                has stopped it.
        """
        if self._train is None:
            raise CltoolsError("This explorer trains nothing; make it with explore(snapshot, train=fit).")
        side, before = self.state.side, self.snapshots[0]
        loss = replace(before.experiment.loss, temperature=side.temperature)
        run = replace(before.experiment, positives=side.positives, negatives=side.negatives, loss=loss)
        recorder = recorder_of(before, self._images, [*before.epochs, run.training.epochs])

        self._stopped = False

        def tell(so_far: Run) -> None:
            self.widget.send({"training": f"epoch {len(so_far.history.rows)} of {run.training.epochs} is done"})
            if self._stopped:
                raise CltoolsError("Training was stopped; what is shown is as it was.")

        theirs = getattr(self._train, "keywords", {}).get("callbacks", ())  # of a partial(fit, callbacks=…)
        trained = self._train(run, callbacks=[*theirs, recorder, tell])
        with self._lock:
            self.put_beside(recorder.snapshot(trained), side)
            self.widget.digest = self._digest()
            self.widget.send({"renewed": self.widget.digest})
        return trained

    def _told(self) -> str:
        # the newest epoch tells which ones it has who sets a state
        told = {"revision": self._revision, "author": PYTHON, "seen": self._spoken, "count": len(self.snapshots)}
        return json.dumps(told | {"newest": self.snapshots[0].epochs[-1], "state": to_plain(self.state)})

    def _digest(self) -> str:
        """A digest of all that a page is told of the snapshots: equal ones are sent to it once."""
        return content_key(json.dumps([page_data(each, content_key) for each in self.snapshots]))

    def _heard(self, change: dict[str, Any]) -> None:
        """Follow a state that a page has set.

        Not of one that had not seen what Python set last. The page is set back where a state cannot be, which is kept
        in `errors`.
        """
        told = json.loads(change["new"])
        if told["author"] == PYTHON:
            return
        with self._lock:
            if told["seen"] != self._spoken:  # it comes from before what Python has set
                self.widget.state = self._told()
                return
            self._revision, self._following = told["revision"], True
            try:
                self.restore(self.fitted(State.from_json(json.dumps(told["state"])), told["newest"]))
            except Exception as error:
                self._failed(error)
                self._following = False
                self.updated()
            finally:
                self._following = False

    def _asked(self, _: Any, content: dict[str, Any], __: Any) -> None:
        """Answer a page: with the snapshots, or with what only Python knows of a side; train; or keep a group."""
        answer, buffers = {"number": content.get("number")}, _Buffers()
        try:
            if "want" in content:
                held = [page_data(each, buffers) for each in self.snapshots]
                text = json.dumps(held, ensure_ascii=False)  # names of files may hold what no message can
                answer |= {"digest": content["want"], "held": json.loads(text.encode("utf-8", "replace"))}
            elif "judge" in content:
                state, name = State.from_json(json.dumps(content["state"])), SIDES[content["judge"]]
                check(state, self.snapshots)
                chosen = self._judged(state.anchor, name, state.of(name)).selection
                for array in (chosen.band[0], chosen.negative_weight[0]):
                    buffers(array.numpy())
                answer["anchorWeight"] = 1.0 if chosen.anchor_weight is None else float(chosen.anchor_weight)
            elif "train" in content:
                self.train()
            elif "stop" in content:
                self._stopped = True
            else:
                self.group = tuple(content["group"])
        except (Exception, KeyboardInterrupt) as error:  # the page is answered all the same, or it would wait for ever
            self._failed(error)
            answer["error"] = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        self.widget.send(answer, buffers)

    def _failed(self, error: BaseException) -> None:
        """Keep what went wrong: a person's mistake in words, one of ours with its trace."""
        self.errors.append(str(error) if isinstance(error, ValueError) else "".join(traceback.format_exception(error)))

    def _repr_mimebundle_(self, **_: Any) -> Any:
        """The widget, and for viewers without widgets its sentence; with CLTOOLS_STILL its still picture too."""
        data, metadata = self.widget._repr_mimebundle_() or ({}, {})
        if os.environ.get("CLTOOLS_STILL"):
            data = {**data, "image/png": png(self)}
        return {**data, "text/plain": self.sentence}, metadata

    save_html = save_html

    def static(self) -> Any:
        """The same as a still picture, a matplotlib figure."""
        return draw(self)


class _Buffers(list[bytes]):
    """The arrays of a message; called with one it keeps its bytes, and gives the place."""

    def __call__(self, array: np.ndarray) -> int:
        self.append(np.ascontiguousarray(array).tobytes())
        return len(self) - 1


# which explorer a cell shows


def _replace_in_cell(close: Callable[[], None]) -> None:
    """Close what an earlier run of the running cell has shown, and remember how to close what this one shows.

    Two explorers of one run of a cell stand beside each other. Outside of notebooks nothing happens.
    """
    cell, run = _running()
    if cell is None:
        return
    before, shown = _shown.get(cell, (run, []))
    if before != run:
        for close_old in shown:
            close_old()
        shown = []
    _shown[cell] = run, [*shown, close]


def _running() -> tuple[str | None, str]:
    """Id of the cell that runs, and of this run of it; None where no notebook says so."""
    kernel = getattr(get_ipython(), "kernel", None)
    parent: dict[str, Any] = kernel.get_parent("shell") if kernel else {}
    return parent.get("metadata", {}).get("cellId"), parent.get("header", {}).get("msg_id", "")
