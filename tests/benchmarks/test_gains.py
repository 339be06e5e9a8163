"""That what was made faster is measured here and in an older checkout, and that every row does its work."""

from pathlib import Path

import pytest
import torch

from benchmarks import gains, work
from benchmarks.__main__ import rendered
from benchmarks.measuring import Run
from cltools.errors import CltoolsError

ROOT = Path(__file__).parents[2]
ONCE = Run("cpu", 1)


def test_a_row_is_measured_here_and_in_another_checkout() -> None:
    record = gains.gains(before=ROOT, rows=("crop",), run=ONCE)
    row = record["rows"]["crop"]
    assert {*row} == {f"{side} {what}" for side in ("before", "now") for what in ("ms", "yardstick ms", "ratio")}
    assert row["now ratio"] == pytest.approx(row["now ms"] / row["now yardstick ms"])
    assert "| `crop` | The crops of 256 images" in rendered(record)


def test_without_another_checkout_the_kept_record_says_what_was_before(monkeypatch: pytest.MonkeyPatch) -> None:
    class Done:
        """A worker, as the test above has started them, without a process."""

        def __init__(self, *_: object) -> None: ...

        def round(self, name: str) -> list[float]:
            return [3.0, 2.0]

        def close(self) -> None: ...

    monkeypatch.setattr(gains, "Worker", Done)
    monkeypatch.setattr(gains, "kept_before", lambda _: {"crop": {"before ratio": 4.0}, "tiny": {"before ratio": 1.0}})
    record = gains.gains(rows=("crop",), run=ONCE)
    assert {*record["rows"]} == {"crop"} and record["rows"]["crop"]["before ratio"] == 4.0
    assert record["rows"]["crop"]["now ratio"] == 1.5
    monkeypatch.setattr(gains, "kept_before", lambda _: {})
    (line,) = rendered(gains.gains(rows=("crop",), run=ONCE)).splitlines()[-1:]
    assert line.split("|")[3].strip() == line.split("|")[5].strip() == ""


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CltoolsError, match="no row 'crops'"):
        gains.gains(rows=("crops",))
    with pytest.raises(CltoolsError, match="not a checkout"):
        gains.gains(before=tmp_path)


def test_a_goal_stands_for_every_row() -> None:
    assert gains.GOALS.keys() == work.ROWS.keys()
    for goal in gains.GOALS.values():
        assert float(goal.removeprefix("÷ ")) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", work.ROWS)
def test_every_row_works(name: str) -> None:
    for each in work.ROWS[name]():
        each()


def test_the_yardsticks_of_crops_and_pixels_compute_the_same() -> None:
    crop, pixels = ([each() for each in work.ROWS[name]()] for name in ("crop", "pixels"))
    torch.testing.assert_close(*crop, rtol=0, atol=1e-5)
    (mean, deviation), (their_deviation, their_mean) = pixels  # type: ignore[misc]
    torch.testing.assert_close(255 * mean.flatten(), their_mean, rtol=1e-4, atol=0)
    torch.testing.assert_close(255 * deviation.flatten(), their_deviation, rtol=1e-4, atol=0)
