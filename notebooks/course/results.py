"""Records by seed: `comparison("shapes")` reads `compare-shapes-*.json`, `recorded_runs` reads whole runs.

Notebooks contain no copied figures: if further seeds are recorded, their tables and figures change.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pandas import Series

from cltools.errors import CltoolsError
from cltools.provenance import read_record
from cltools.reports.arms import BASELINE
from cltools.reports.table import frame_of, gains, rows_of
from cltools.training.record import RunRecord

RESULTS = Path(__file__).resolve().parents[2] / "data" / "results"


class Comparison:
    """Arms that continued from one warm start, with several seeds.

    Attributes:
        frame: one row per arm and seed, as returned by `frame_of`; without figures if the arm diverged.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Create a comparison from rows as written by `compare`."""
        self.frame = frame_of(rows)

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds, ascending."""
        return tuple(sorted(map(int, self.frame.index.unique("seed"))))

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms with figures for at least one seed, in their order; arms that always diverged are left out."""
        return tuple(self.frame[self.frame["diverged"].isna()].index.unique("arm"))

    def of(self, arm: str, figure: str = "knn200") -> dict[int, float]:
        """Return a figure of an arm by seed; seeds without it are left out.

        Raises:
            ValueError: no seed has it.
        """
        return self._by_seed(self.frame[figure], arm, figure)

    def curves(self, arm: str, column: str = "knn") -> dict[int, dict[int, float]]:
        """Return a column of the history of an arm by seed and epoch; epochs without a measurement are left out.

        Raises:
            ValueError: no record of that arm has curves.
        """
        kept = self._by_seed(self.frame["curves"], arm, "curves")
        known = {seed: {e: v for e, v in enumerate(of[column], 1) if v is not None} for seed, of in kept.items()}
        return {seed: values for seed, values in known.items() if values}

    def gains(self, arm: str, figure: str = "knn200", *, against: str = BASELINE) -> dict[int, float]:
        """Return the gain of an arm over another with the same seed, in percentage points.

        Raises:
            ValueError: no seed has the figure of one of them.
        """
        self.of(arm, figure), self.of(against, figure)
        both = gains(self.frame, figure, against).dropna()
        return self._by_seed(both, arm, figure) if arm in both.index.unique("arm") else {}

    def _by_seed(self, values: Series, arm: str, name: str) -> dict[int, Any]:
        arms = self.frame.index.get_level_values("arm")
        found = values.dropna()
        found = found[found.index.get_level_values("arm") == arm].droplevel("arm")
        if found.empty:
            lost = arm in arms and self.frame.loc[[arm], "diverged"].notna().all()
            why = ": it diverged in every seed" if lost else ""
            raise CltoolsError(f"The records contain no {name} of an arm {arm!r}{why}.")
        return {int(seed): value for seed, value in found.items()}

    def table(self, arms: Mapping[str, str], *, against: str = BASELINE) -> list[dict[str, Any]]:
        """Return one row per arm: mean differences over seeds, number of seeds in which it is ahead, and purity.

        Args:
            arms: what each arm does, in words.
            against: the arm they are compared with.
        """
        rows = []
        for arm, words in arms.items():
            near, probe = self.gains(arm, against=against), self.gains(arm, "probe", against=against)
            purity = self.frame.loc[[arm], "mined_purity"].dropna()
            rows.append(
                {
                    "arm": arm,
                    "what it does": words,
                    f"kNN-200 against {against}": statistics.fmean(near.values()),
                    "ahead in": f"{sum(gain > 0 for gain in near.values())} of {len(near)} seeds",
                    f"probe against {against}": statistics.fmean(probe.values()),
                    "mined purity %": None if purity.empty else 100 * statistics.fmean(purity),
                }
            )
        return rows


def comparison(images: str, kind: str = "compare", folder: Path = RESULTS) -> Comparison:
    """Read all seeds that are recorded for these images.

    Args:
        images: the images in the names of the records, `KIND-IMAGES-*.json`.
        kind: "compare" for every arm after a short warm start, "late" for arms that mine after a long one; "short" and
            "grid" for every arm and for bands, measured on held-out images.
        folder: the folder of the records.

    Raises:
        FileNotFoundError: there is no such record.
        ValueError: records are damaged or cannot be combined.
    """
    paths = sorted(folder.glob(f"{kind}-{images}-*.json"))
    if not paths:
        raise FileNotFoundError(f"{folder} has no {kind}-{images}-*.json; `python -m cltools compare` writes one.")
    records = [(path, read_record(path)) for path in paths]
    rows_of(records)  # raises for records that cannot be combined
    return Comparison(row for _, record in records for row in record["rows"])


def recorded_runs(images: str = "*", folder: Path = RESULTS) -> dict[Path, RunRecord]:
    """Return the records of whole runs on these images by file, `run-IMAGES-*.json`; may be empty.

    Raises:
        ValueError: a record is damaged.
    """
    paths = sorted(folder.glob(f"run-{images}-*.json"))
    return {path: RunRecord.from_plain(path, read_record(path)) for path in paths}


def figures_by_method(records: Mapping[Path, RunRecord], figure: str) -> dict[str, dict[int, float]]:
    """Return a figure of the last epoch's test report by method and seed; runs without it are left out."""
    found: dict[str, dict[int, float]] = {}
    for path, record in records.items():
        report = record.evaluations.get("test", {})
        if figure in report:
            found.setdefault(method_of(path), {})[record.seed] = report[figure]
    return found


def method_of(path: Path) -> str:
    """Return the method in the name of a recorded run's file, `run-IMAGES-METHOD-SEED.json`."""
    return path.stem.split("-", 2)[2].rpartition("-")[0]


def best_and_last(record: RunRecord) -> tuple[float, float]:
    """Return the best kNN accuracy measured during training and the last one; the gap is the bias of choosing on test.

    Raises:
        ValueError: none was measured.
    """
    measured = [row.knn for row in record.by_epoch if row.knn is not None]
    if not measured:
        raise CltoolsError("This record has no kNN accuracy by epoch; evaluation.every was larger than its epochs.")
    return max(measured), measured[-1]


def deviation(sides: Sequence[Mapping[int, float]]) -> float:
    """Return the pooled deviation over seeds of several methods: the root of their mean variance."""
    return math.sqrt(statistics.fmean(statistics.variance(side.values()) for side in sides))
