"""What records of a comparison say, seed by seed: `comparison("shapes")` reads `data/results/compare-shapes-*.json`.

Nothing is typed into a notebook: further seeds, once recorded, change what it shows.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cltools.comparison import BASELINE, comparison_table
from cltools.records import read_record

RESULTS = Path(__file__).resolve().parents[2] / "data" / "results"


@dataclass(frozen=True)
class Comparison:
    """Arms that went on from one warm start, with several seeds.

    Attributes:
        rows: of each arm and seed, as `compare` wrote them.
    """

    rows: tuple[dict[str, Any], ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds, ascending."""
        return tuple(sorted({row["seed"] for row in self.rows}))

    def of(self, arm: str, figure: str = "knn200") -> dict[int, float]:
        """A figure of an arm by seed; seeds without it are left out.

        Raises:
            ValueError: no seed has it.
        """
        found = {row["seed"]: row[figure] for row in self.rows if row["arm"] == arm and row.get(figure) is not None}
        if not found:
            raise ValueError(f"The records hold no {figure} of an arm {arm!r}.")
        return found

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
            mined = [row["mined_purity"] for row in self.rows if row["arm"] == arm and row["mined_purity"] is not None]
            rows.append(
                {
                    "arm": arm,
                    "what it does": words,
                    f"kNN-200 against {against}": statistics.fmean(near.values()),
                    "ahead in": f"{sum(gain > 0 for gain in near.values())} of {len(near)} seeds",
                    f"probe against {against}": statistics.fmean(probe.values()),
                    "mined purity %": 100 * statistics.fmean(mined) if mined else None,
                }
            )
        return rows


def comparison(images: str, kind: str = "compare", folder: Path = RESULTS) -> Comparison:
    """All seeds that are recorded for these images.

    Args:
        images: of the records `KIND-IMAGES-*.json`.
        kind: "compare" for every arm after a short warm start, "late" for arms that mine after a long one.
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
