"""Records of comparisons as one table."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cltools.evaluation import spread
from cltools.provenance import check_record
from cltools.reports.arms import BASELINE
from cltools.reports.comparing import ENTRIES, KIND, unlike


def comparison_table(paths: Sequence[Path], records: Sequence[dict[str, Any]]) -> str:
    """Mean ± deviation over seeds of each arm, and the mean difference to the baseline of the same seed.

    Seeds in which an arm diverged are counted beside the others, and enter no mean.

    Raises:
        ValueError: damaged records, or ones that cannot be put together.
    """
    first = records[0]
    for path, record in zip(paths, records, strict=True):
        check_record(path, record, KIND, ENTRIES)
        if other := unlike(first, record):
            raise ValueError(f"{path} differs from {paths[0]} in {', '.join(other)}; make a table of each.")
    rows = [row for record in records for row in record["rows"]]
    if len({(row["arm"], row["seed"]) for row in rows}) < len(rows):
        raise ValueError("Two of the records hold the same arm with the same seed; name one of them.")
    by_arm: dict[str, dict[int, dict[str, Any]]] = {row["arm"]: {} for row in rows}
    diverged = Counter(row["arm"] for row in rows if "diverged" in row)
    for row in rows:
        if "diverged" not in row:
            by_arm[row["arm"]][row["seed"]] = row
    baseline = by_arm.get(BASELINE, {})
    head = [
        "arm",
        "seeds",
        "kNN-200",
        "against moco",
        "probe",
        "against moco",
        "kept",
        "false negatives",
        "mined purity",
    ]
    lines = [_caption(first), "", f"| {' | '.join(head)} |", f"|---{'|---:' * (len(head) - 1)}|"]
    for name in [arm for arm in {**first["arms"], **by_arm} if arm in by_arm]:  # in the order they are defined in
        seeds = by_arm[name]
        cells = [f"`{name}`", f"{len(seeds)}{f', diverged {diverged[name]}' * (name in diverged)}"]
        for figure in ("knn200", "probe"):
            reached = spread([row[figure] for row in seeds.values()]) if seeds else ""
            cells += [reached, _gain(seeds, baseline, figure, name)]
        cells += [_percent(_mean(seeds, column)) for column in ("kept", "false_negative_share", "mined_purity")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _caption(record: dict[str, Any]) -> str:
    epochs = record["baseline"]["training"]["epochs"]
    share = record["baseline"].get("data", {}).get("holdout", 0)
    judged = f"{100 * share:g} % of the training images, held out," if share else "the test images"
    return (
        f"`{record['images']}`: {record['warm_epochs']} epochs of {BASELINE}, then {epochs} of each arm; percent of "
        f"{judged} after the last epoch, mean ± deviation over seeds. Commit {record['commit'] or 'unknown'}, "
        f"{record['hardware']['device']}."
    )


def _gain(seeds: dict[int, dict[str, Any]], baseline: dict[int, dict[str, Any]], figure: str, name: str) -> str:
    shared = [seeds[seed][figure] - baseline[seed][figure] for seed in seeds if seed in baseline]
    return "" if name == BASELINE or not shared else spread(shared, layout="+")


def _mean(seeds: dict[int, dict[str, Any]], column: str) -> float:
    values = [row[column] for row in seeds.values() if row[column] is not None]
    return statistics.fmean(values) if values else math.nan


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:.1f} %"
