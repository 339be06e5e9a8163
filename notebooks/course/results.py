"""What records say, seed by seed: `comparison("shapes")` reads `compare-shapes-*.json`, `recorded_runs` whole runs.

Nothing is typed into a notebook: further seeds, once recorded, change what it shows.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cltools.provenance import check_record, read_record
from cltools.reports import BASELINE, comparison_table
from cltools.training.record import ENTRIES, KIND as RUN

RESULTS = Path(__file__).resolve().parents[2] / "data" / "results"


@dataclass(frozen=True)
class Comparison:
    """Arms that went on from one warm start, with several seeds.

    Attributes:
        rows: of each arm and seed, as `compare` wrote them; of one that diverged without figures.
    """

    rows: tuple[dict[str, Any], ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds, ascending."""
        return tuple(sorted({row["seed"] for row in self.rows}))

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that reached a figure in some seed, in their order; one that always diverged is none of them."""
        return tuple(dict.fromkeys(row["arm"] for row in self.rows if "diverged" not in row))

    def of(self, arm: str, figure: str = "knn200") -> dict[int, float]:
        """A figure of an arm by seed; seeds without it are left out.

        Raises:
            ValueError: no seed has it.
        """
        found = {row["seed"]: row[figure] for row in self.rows if row["arm"] == arm and row.get(figure) is not None}
        if not found:
            raise ValueError(f"The records hold no {figure} of an arm {arm!r}{self._why(arm)}.")
        return found

    def curves(self, arm: str, column: str = "knn") -> dict[int, dict[int, float]]:
        """A column of the history of an arm by seed and epoch; where it was not measured it is left out.

        Raises:
            ValueError: no record of that arm has curves.
        """
        kept = {row["seed"]: row["curves"][column] for row in self.rows if row["arm"] == arm and "curves" in row}
        if not kept:
            raise ValueError(f"The records hold no curves of an arm {arm!r}{self._why(arm)}.")
        known = {seed: {e: v for e, v in enumerate(values, 1) if v is not None} for seed, values in kept.items()}
        return {seed: values for seed, values in known.items() if values}

    def _why(self, arm: str) -> str:
        rows = [row for row in self.rows if row["arm"] == arm]
        return ": it diverged in every seed" if rows and all("diverged" in row for row in rows) else ""

    def gains(self, arm: str, figure: str = "knn200", *, against: str = BASELINE) -> dict[int, float]:
        """What an arm has more than another of the same seed, in percentage points."""
        mine, theirs = self.of(arm, figure), self.of(against, figure)
        return {seed: mine[seed] - theirs[seed] for seed in mine if seed in theirs}

    def table(self, arms: Mapping[str, str], *, against: str = BASELINE) -> list[dict[str, Any]]:
        """A row an arm: mean differences over seeds, in how many seeds it is ahead, and how pure its positives were.

        Args:
            arms: what each arm does, in words.
            against: what they are compared with.
        """
        rows = []
        for arm, words in arms.items():
            near, probe = self.gains(arm, against=against), self.gains(arm, "probe", against=against)
            mined = [row.get("mined_purity") for row in self.rows if row["arm"] == arm]
            known = [share for share in mined if share is not None]
            rows.append(
                {
                    "arm": arm,
                    "what it does": words,
                    f"kNN-200 against {against}": statistics.fmean(near.values()),
                    "ahead in": f"{sum(gain > 0 for gain in near.values())} of {len(near)} seeds",
                    f"probe against {against}": statistics.fmean(probe.values()),
                    "mined purity %": 100 * statistics.fmean(known) if known else None,
                }
            )
        return rows


def comparison(images: str, kind: str = "compare", folder: Path = RESULTS) -> Comparison:
    """All seeds that are recorded for these images.

    Args:
        images: of the records `KIND-IMAGES-*.json`.
        kind: "compare" for every arm after a short warm start, "late" for arms that mine after a long one; "short" and
            "grid" for every arm and for bands, measured on images held out.
        folder: where the records lie.

    Raises:
        FileNotFoundError: none is.
        ValueError: records that are damaged, or cannot be put together.
    """
    paths = sorted(folder.glob(f"{kind}-{images}-*.json"))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no {kind}-{images}-*.json; `python -m cltools compare` writes one.")
    records = [read_record(path) for path in paths]
    comparison_table(paths, records)  # refuses what cannot be put together
    return Comparison(tuple(row for record in records for row in record["rows"]))


def recorded_runs(images: str = "*", folder: Path = RESULTS) -> dict[Path, dict[str, Any]]:
    """The records of whole runs on these images, by file: `run-IMAGES-*.json`; none where there are none.

    Raises:
        ValueError: a damaged record.
    """
    found = {path: read_record(path) for path in sorted(folder.glob(f"run-{images}-*.json"))}
    for path, record in found.items():
        check_record(path, record, RUN, ENTRIES)
    return found


def figures_by_method(records: Mapping[Path, Mapping[str, Any]], figure: str) -> dict[str, dict[int, float]]:
    """A figure of the last epoch's test report by method and seed; runs without it are left out."""
    found: dict[str, dict[int, float]] = {}
    for path, record in records.items():
        report = record["evaluations"].get("test", {})
        if figure in report:
            found.setdefault(method_of(path), {})[record["seed"]] = report[figure]
    return found


def method_of(path: Path) -> str:
    """The method in the name of a recorded run's file, `run-IMAGES-METHOD-SEED.json`."""
    return path.stem.split("-", 2)[2].rpartition("-")[0]


def best_and_last(record: Mapping[str, Any]) -> tuple[float, float]:
    """The best kNN accuracy that was measured while training, and the last: what choosing by test labels would add.

    Raises:
        ValueError: none was measured.
    """
    measured = [row["knn"] for row in record["accuracy"]["by_epoch"] if row["knn"] is not None]
    if not measured:
        raise ValueError("This record holds no kNN accuracy by epoch; evaluation.every was larger than its epochs.")
    return max(measured), measured[-1]


def deviation(sides: Sequence[Mapping[int, float]]) -> float:
    """The deviation over seeds that several methods share: the root of their mean variance."""
    return math.sqrt(statistics.fmean(statistics.variance(side.values()) for side in sides))
