"""Files are UTF-8 wherever they are written and read, whatever the system's own encoding is."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = """
import json, sys, warnings
from dataclasses import replace
from pathlib import Path

import numpy as np, torch

warnings.filterwarnings("error", category=EncodingWarning, module="(cltools|course)")
from cltools import Run, explore, fit, load_snapshot, snapshot_of_embeddings
from cltools.datasets import DataSettings
from course.run_plots import read_confusion
from test_training_checkpoint import MOCO, made, training

assert sys.stdout.encoding == "cp1252" and open(Path(sys.argv[0]).with_name("t"), "w").encoding.lower() != "utf-8"
folder, names = Path(sys.argv[1]), ["größe", "猫", "😀"]

vectors = np.random.default_rng(0).normal(size=(12, 4))
more = {"texts": names * 4, "metadata": {"țară": names * 4}}
snapshot = snapshot_of_embeddings(vectors, labels=names * 4, name="Bücher", **more)
snapshot.save(folder / "s.npz")
explorer = explore(load_snapshot(folder / "s.npz"))
explorer.set(truth=True)
assert "größe" in explorer.sentence and "größe" in explorer.csv()
explorer.to_csv(folder / "keys.csv")
explorer.save_html(folder / "page.html")
page = (folder / "page.html").read_bytes().decode("utf-8")
assert "Bücher: which samples" in page and "größe" in page and "\\N{GREEK SMALL LETTER TAU}" in page
data = explorer._repr_mimebundle_()
assert "✕" in explorer.widget._esm and "τ" in explorer.widget._esm, "signs on buttons"
explorer.static().savefig(folder / "still.png")

images = replace(made(), classes=tuple([*names, "d"]), name="Bücher")
protocols = {"größe": lambda run: 1.5}
asked = replace(training(MOCO, epochs=1), data=DataSettings(name="Bücher"))
run = fit(asked, images=images, out=folder / "run", protocols=protocols)
for name in ("config.json", "record.json"):  # as an editor writes them
    file = folder / "run" / name
    plain = json.loads(file.read_bytes())
    file.write_bytes(json.dumps(plain, ensure_ascii=False).encode())
loaded = Run.load(folder / "run")
assert loaded.history.column("größe") == [1.5] and loaded.experiment.data.name == "Bücher"
loaded.save()
(folder / "run" / "confusion-test-knn10.csv").write_bytes("true \\\\ predicted by knn10,größe\\ngröße,3\\n".encode())
assert read_confusion(folder / "run", "knn10").classes == ("größe",)
"""


def unnamed(source: str) -> list[str]:
    """Calls that read or write text in the system's encoding, as far as their names tell; ruff sees more of files."""
    found = []
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call) or "encoding" in {each.arg for each in call.keywords}:
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        texts = name in ("read_text", "write_text") and isinstance(call.func, ast.Attribute)
        if texts or ({each.arg for each in call.keywords} & {"text", "universal_newlines"} and name in PROCESSES):
            found.append(ast.unparse(call))
    return found


PROCESSES = ("run", "Popen", "check_output")
PARTS = ("cltools", "benchmarks", "experiments", "notebooks", "docs", "data", "tests")
FILES = [path for part in PARTS for path in (ROOT / part).rglob("*.py")]


def test_every_text_is_read_and_written_in_a_named_encoding() -> None:
    calls = ["path.read_text()", "run(a, text=True)", "path.write_text(b.read_text(encoding='utf-8'))"]
    assert unnamed("; ".join(calls)) == calls
    assert {str(path): calls for path in FILES if (calls := unnamed(path.read_text(encoding="utf-8")))} == {}


@pytest.mark.slow
def test_where_the_system_is_not_utf8_files_are_all_the_same(tmp_path: Path) -> None:
    """As under cp1252 of Windows or GBK: names of classes, columns and data that ASCII does not have."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    environment = os.environ | {
        "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "cp1252:replace",
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in (".", "tests", "notebooks")),
    }  # fmt: skip
    command = [sys.executable, "-X", "warn_default_encoding", str(script), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="cp1252", errors="replace")
    assert done.returncode == 0, done.stderr
