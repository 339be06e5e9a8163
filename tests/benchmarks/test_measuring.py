"""Medians, memory, records and tables."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import costs, measuring
from benchmarks.__main__ import main, rendered
from benchmarks.measuring import Run, peak_mebibytes
from benchmarks.vectors import Contrast
from cltools.mining import similarities
from cltools.presets import preset

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
RECORDS = sorted((ROOT / "data" / "results").glob("bench-*.json"))


def test_a_figure_is_the_median_over_rounds_that_time_every_work(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, order = {"a": [9.0, 0.004, 0.001], "b": [0.5, 0.3, 0.4]}, []

    class Timer:
        def __init__(self, stmt: str, globals: dict[str, Any], num_threads: int) -> None:
            self.name, self.threads = globals["work"], num_threads

        def timeit(self, number: int) -> Any:
            order.append((self.name, self.threads))
            return SimpleNamespace(mean=seconds[self.name].pop(0))

    monkeypatch.setattr(measuring, "Timer", Timer)
    works: Any = {"a": "a", "b": "b"}
    assert Run("cpu", 3).medians(works) == pytest.approx({"a": 4.0, "b": 400.0})
    assert order == [("a", torch.get_num_threads()), ("b", torch.get_num_threads())] * 3


def test_peak_memory_is_what_is_held_at_once() -> None:
    def work() -> None:
        a = torch.zeros(256, 1024)
        b = a + 1
        del a
        c = b * 2
        del b, c

    assert peak_mebibytes(work, CPU) == pytest.approx(2.0, abs=0.01)
    assert peak_mebibytes(lambda: None, CPU) == 0


def test_what_a_work_frees_of_the_one_before_is_not_counted_twice() -> None:
    kept = [torch.zeros(256, 1024)]  # as a step its gradients, allocated before anything counts

    def work() -> None:
        kept.clear()
        kept.append(torch.zeros(256, 1024))
        torch.zeros(128, 1024)

    assert peak_mebibytes(work, CPU) == pytest.approx(0.5, abs=0.01)


def test_cross_entropy_is_the_loss_of_every_key_and_nothing_mined() -> None:
    work = Contrast((6, 40, 8), preset("cifar10-moco"), CPU)
    s = similarities(work.anchor, work.positive, work.keys, torch.zeros_like(work.own))
    torch.testing.assert_close(work.gradient(s, work.chosen(s)), work.cross_entropy())


def test_rules_are_measured_beside_cross_entropy_and_their_memory_grows_with_the_keys(tmp_path: Path) -> None:
    out = tmp_path / "new" / "rules.json"
    record = costs.costs((16,), (512, 2048), ("moco", "potential"), run=Run("cpu", 1, out))
    assert json.loads(out.read_text(encoding="utf-8")) == record and record["versions"]["torch"] == torch.__version__
    few, many = (size["methods"]["potential"] for size in record["sizes"])
    assert few["× plain"] == few["all ms"] / few["plain ms"] and all(math.isfinite(x) and x > 0 for x in few.values())
    assert 3.5 < many["peak MiB"] / few["peak MiB"] < 4.2
    last = rendered(record).splitlines()[-1]
    assert last.startswith(f"| `potential` | {few['× plain']:.1f} | {many['× plain']:.1f} |")
    with pytest.raises(ValueError, match="Did you mean cifar10-hcl"):
        costs.costs(methods=("hlc",))


def test_a_command_line_prints_what_its_record_shows_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r.json"
    main(["costs", "--anchors", "4", "--keys", "8", "--methods", "moco", "--device", "cpu", "--out", str(out)])
    first = capsys.readouterr().out
    main(["table", str(out)])
    assert capsys.readouterr().out == first and "| `moco` |" in first


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"kind": "bunch"}', "bunch"), ('{"kind": "bench"}', "lacks"), ("{", "cannot be read"), (None, "is not a file")],
)
def test_what_is_no_table_ends_in_a_message(
    text: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "r.json").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        main(["table", str(tmp_path / "r.json")])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_page_shows_what_each_record_says(path: Path) -> None:
    shown, pages = (
        rendered(json.loads(path.read_text(encoding="utf-8"))),
        [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")],
    )
    command = f"python -m benchmarks table {path.relative_to(ROOT)}"
    assert any(shown in page.read_text(encoding="utf-8") for page in pages), f"paste what this shows: {command}"
