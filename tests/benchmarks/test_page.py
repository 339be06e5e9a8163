"""That figures of the page make a table; what measures them runs with the browser's tests."""

from benchmarks.__main__ import rendered
from benchmarks.measuring import Run
from benchmarks.page import KIND, random_snapshot


def test_a_record_makes_a_table() -> None:
    figures = {name: {"median": 2.04, "p95": 8.0} for name in ("compute", "draw", "step", "frame")}
    record = Run(device="cpu").record(KIND, rows=[{"points": 1500, "ratio": 2, **figures}], seconds=2.0)
    caption, _, _, _, row = rendered(record).splitlines()
    assert "dragged for 2 seconds" in caption and row == f"| 1,500 | 2 |{' 2.0 / 8.0 |' * 4}"


def test_its_snapshots_are_whole() -> None:
    snapshot = random_snapshot(40)
    assert len(snapshot) == 40 and snapshot.labelled and snapshot.epochs == (30,)
