"""Growth: slopes, points in their own processes, what fails; never how long it took."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from test_steps import ONCE

from benchmarks import growing, growth
from benchmarks.__main__ import rendered
from benchmarks.growth import exponent, measured, point, series
from benchmarks.measuring import PrivateMemory, Run

TINY: dict[str, tuple[int, ...]] = {"keys": (8, 16), "anchors": (4, 8), "images": (20, 40), "rows": (20, 40)}
LINUX = pytest.mark.skipif(not PrivateMemory.STATM.exists(), reason="memory is read from Linux")


def of_size(size: int, folder: Path) -> growing.Works:
    """Two works whose results grow with the size; the second writes a file, and fails for a size of 7."""
    kept: list[torch.Tensor] = []

    def write() -> Path:
        if size == 7:
            raise MemoryError("7 is too large")
        path = folder / "file"
        path.write_bytes(b"x" * 1000 * size)
        return path

    return {"hold": lambda: kept.append(torch.zeros(size, 2**18)), "write": write}


def test_an_exponent_is_the_slope_over_the_larger_half() -> None:
    squares = {10: 5.0, 20: 5.0, 40: 16.0, 80: 64.0, 160: 256.0}
    assert exponent(squares) == pytest.approx(2.0) and exponent({10: 3.0, 1000: 30.0}) == pytest.approx(0.5)
    assert math.isnan(exponent({10: 3.0})) and math.isnan(exponent({10: 3.0, 20: 0.0})) and math.isnan(exponent({}))


@LINUX
def test_private_memory_is_the_most_held_at_once() -> None:
    with PrivateMemory() as memory:
        a = torch.ones(64, 2**18)
        held = max(a.sum().item() for _ in range(3))
    assert held and memory.mebibytes == pytest.approx(64, abs=8)


def test_private_memory_is_unknown_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PrivateMemory, "STATM", Path("nowhere"))
    assert measured(lambda: None, 1)["MiB"] is None


def test_a_long_work_runs_once_and_a_short_one_once_more_than_there_are_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls, seconds = [0.0], [0], [0.1]

    def work() -> None:
        calls[0] += 1
        clock[0] += seconds[0] * calls[0]

    monkeypatch.setattr(growth, "timer", lambda: clock[0])
    assert measured(work, 3)["seconds"] == pytest.approx(0.3) and calls == [4]
    seconds[0] = 1.0
    assert measured(work, 3)["seconds"] == pytest.approx(5.0) and calls == [5]


def test_a_point_ends_at_the_first_work_that_fails() -> None:
    whole, cut = (point(of_size, size, 1, None) for size in (2, 7))
    assert list(whole) == ["hold", "write"] and whole["write"]["MB"] == pytest.approx(2e-3)
    assert cut["hold"].keys() == whole["hold"].keys() and cut["write"] == {"error": "MemoryError: 7 is too large"}


@LINUX
def test_a_point_in_its_own_process_may_take_no_more_than_its_limit() -> None:
    """Of two terabytes the system would kill the process only when they are written."""
    (name, figures), *_ = growth.apart(of_size, 2**21, 1, 2 * 10**9).items()
    assert name == "hold" and "RuntimeError" in figures["error"] and "memory" in figures["error"]


def test_a_killed_process_is_a_row_and_not_the_end() -> None:
    assert growth.apart(killed, 4, 1, None) == {"": {"error": growth.KILLED}}


def killed(size: int, folder: Path) -> growing.Works:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)
    return {}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure in this process, without a limit."""
    monkeypatch.setattr(growth, "apart", lambda prepare, size, rounds, _: point(prepare, size, rounds, None))


def test_every_part_is_measured_at_every_size(here: None) -> None:
    record = growth.growth(**TINY, run=ONCE)
    assert {group: each["sizes"] for group, each in record["groups"].items()} == {k: [*v] for k, v in TINY.items()}
    for each in record["groups"].values():
        for name, by_size in each["rows"].items():
            assert [*by_size] == [str(size) for size in each["sizes"]], name
            assert all(figures["seconds"] > 0 for figures in by_size.values()), (name, by_size)
    images, snapshots = (record["groups"][group]["rows"] for group in ("images", "rows"))
    works = [name.removeprefix("mapped: ") for name in images if name.startswith("mapped")]
    assert [f"in memory: {name}" for name in works[2:]] == [name for name in images if name.startswith("in memory")]
    assert snapshots["write"]["40"]["MB"] > 0 and snapshots["write its page"]["40"]["MB"] > 0
    assert "| `simclr` | " in rendered(record) and "| write its page: MB |" in rendered(record)


def test_a_table_has_exponents_files_and_what_failed() -> None:
    rows = {
        "make": {"10": {"seconds": 0.1, "MiB": 50.0}, "20": {"seconds": 0.4, "MiB": 100.0}, "30": {"error": "No: why"}},
        "write": {"10": {"seconds": 1.0, "MiB": None, "MB": 2.0}, "20": {"seconds": 2.0, "MiB": 1.0, "MB": 4.0}},
    }
    record = Run("cpu").record(growth.KIND, groups={"rows": {"sizes": [10, 20, 30], "rows": rows}})
    *_, make, write, file, _, failed = rendered(record).splitlines()
    assert make == "| make | 100 | 400 |  | 2.00 | 100 | 1.00 |"
    assert write == "| write | 1,000 | 2,000 |  | 1.00 | 1 |  |"
    assert file == "| write: MB | 2 | 4 |  | 1.00 |  |  |" and failed == "- make, 30: No: why"


def test_a_part_without_sizes_is_left_out_and_features_are_of_few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "EMBEDDED", 20)
    sizes = {each.name: each.sizes for each in series(TINY | {"keys": (), "rows": ()})}
    assert sizes["features by the tiny encoder"] == (20,) and sizes["kNN"] == (20, 40)
    assert {each.group for each in series(TINY | {"keys": (), "rows": ()})} == {"anchors", "images"}


def test_what_cannot_be_measured_is_refused_before_anything_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "apart", None)
    none: Any = dict.fromkeys(TINY, ())
    for wanted, message in [
        (none, "There are no sizes"),
        (none | {"rows": (3,)}, "--rows has 3"),
        (none | {"images": (10**12,)}, "set TMPDIR"),
        (none | {"keys": (8,), "run": Run("cpu", 0)}, "at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            growth.growth(**{"run": ONCE, **wanted})


def test_a_file_is_read_anew_from_disk(tmp_path: Path) -> None:
    """Batches of mapped images are those that were written, after the system has dropped them from memory."""
    works = growing.images_mapped(40, tmp_path)
    before = growing.mapped(tmp_path / "images.npy")
    next(iter(works.values()))()
    after = growing.mapped(tmp_path / "images.npy")
    assert torch.equal(before.images, after.images) and len(after) == 40
