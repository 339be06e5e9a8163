"""The tables of the experiments: `python -m experiments.report data/results` prints those of docs/results.md."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from pandas import DataFrame

from cltools.provenance import read_record
from cltools.reports.arms import BASELINE
from cltools.reports.table import markdown
from cltools.reports.verdicts import SEEDS, interval, max_t
from experiments.analysis import BySeed, Line, differences, less, line
from experiments.rules import CONTROL

Record = Mapping[str, Any]
FIGURES = {"knn200": "kNN-200", "probe": "probe"}
DIALLED = "repaired-"
"""Prefix of the arms whose purity is dialled; what follows is the purity."""


def between(given: BySeed | Sequence[float], digits: int = 1) -> str:
    """Format a mean with its 95 % interval; empty without a value."""
    values = [*given.values()] if isinstance(given, Mapping) else [*given]
    if not values:
        return ""
    mean, low, high = interval(values)
    ends = f" [{low:+.{digits}f}, {high:+.{digits}f}]" if len(values) > 1 else ""
    return f"{mean:+.{digits}f}{ends}"


def p_values(gained: Mapping[str, BySeed]) -> dict[str, str]:
    """Return p-values that hold for all arms together, of the arms that have every seed; of none below eight seeds."""
    seeds = {seed for of in gained.values() for seed in of}
    whole = {arm: [of[seed] for seed in sorted(seeds)] for arm, of in gained.items() if {*of} == seeds}
    return {arm: f"{p:.3f}" for arm, p in (max_t(whole) if whole and len(seeds) >= SEEDS else {}).items()}


def arms_table(record: Record, arms: Callable[[str], bool] = lambda arm: True) -> str:
    """Return every arm's differences to the baseline, and what its mined keys are like in the last epoch."""
    gained = {figure: differences(record, figure) for figure in FIGURES}
    names = [arm for arm in gained["knn200"] if arms(arm)]
    p = {figure: p_values({arm: gained[figure][arm] for arm in names}) for figure in FIGURES}
    rows = []
    for arm in names:
        row: dict[str, str] = {"arm": f"`{arm}`", "seeds": f"{len(gained['knn200'][arm])}{_lost(record, arm)}"}
        for figure, name in FIGURES.items():
            row[f"{name} against {BASELINE}"] = between(gained[figure][arm])
            row[f"p, {name}"] = p[figure].get(arm, "")
        row |= {name: _last(record, arm, curve) for curve, name in MINED.items()}
        rows.append(row)
    cells = DataFrame(rows)
    return markdown(_caption(record), cells.loc[:, (cells != "").any()], left=("arm",))


MINED = {"mined_purity": "purity", "mined_cosine": "cosine", "mined_pull": "share of the attraction"}
"""Curves of the mined keys, and the heads of their columns."""


def _last(record: Record, arm: str, curve: str) -> str:
    values = [row["curves"][curve][-1] for row in record["rows"] if row["arm"] == arm and "curves" in row]
    known = [value for value in values if value is not None]
    return f"{statistics.fmean(known):.2f}" if known else ""


def _lost(record: Record, arm: str) -> str:
    lost = sum(row["arm"] == arm and "diverged" in row for row in record["rows"])
    return f", diverged {lost}" if lost else ""


def _caption(record: Record) -> str:
    reached = [row["knn200"] for row in record["rows"] if row["arm"] == BASELINE and "knn200" in row]
    epochs = record["baseline"]["training"]["epochs"]
    return (
        f"{record['images']}; {record['warm_epochs']} epochs of {BASELINE}, then {epochs} of each arm. Mean difference "
        f"within a seed [95 % interval]; {BASELINE} reaches {statistics.fmean(reached):.1f}. "
        f"Commit {record['commit']}, {record['hardware']['device']}."
    )


def headroom_table(records: Mapping[str, Record]) -> str:
    """Return the differences of all arms that read labels, with a row for each setting and arm."""
    rows = []
    for name, record in records.items():
        gained = {figure: differences(record, figure) for figure in FIGURES}
        for arm, values in gained["knn200"].items():
            seeds = f"{len(values)}{_lost(record, arm)}"
            row = {"setting": f"{name.removeprefix('headroom-')}", "arm": f"`{arm}`", "seeds": seeds}
            rows.append(row | {figure: between(gained[key][arm]) for key, figure in FIGURES.items()})
    caption = f"Difference to `{BASELINE}` within a seed, in points [95 % interval], on held-out training images."
    return markdown(caption, DataFrame(rows), left=("setting", "arm"))


def dialled(record: Record, figure: str = "knn200") -> tuple[list[float], np.ndarray]:
    """Return the purities of a dial, and the differences at each [P, S], of the seeds that have all."""
    gained = {arm: of for arm, of in differences(record, figure).items() if arm.startswith(DIALLED)}
    seeds = sorted(set.intersection(*({*of} for of in gained.values())))
    values = np.array([[of[seed] for seed in seeds] for of in gained.values()])
    return [float(arm.removeprefix(DIALLED)) for arm in gained], values


def line_in_words(fitted: Line) -> str:
    """Return the slope and the crossing of a line in words."""
    mean, low, high = fitted.slope
    ends = "" if math.isnan(low) else f" [{low:+.1f}, {high:+.1f}]"
    text = f"from purity 0 to 1 the line changes by {mean:+.1f} points{ends}"
    if fitted.crossing is None:
        return f"{text} and does not cross 0 in the dialled range."
    first, last = ("beyond" if end is None else f"{end:.2f}" for end in fitted.crossings)
    beyond = f"; {100 * fitted.without:.0f} % of resampled lines cross beyond the range" if fitted.without else ""
    return f"{text} and crosses 0 at a purity of {fitted.crossing:.2f} [{first}, {last}]{beyond}."


def dial_report(record: Record) -> str:
    """Return the table of a dial and, for both figures, its line in words."""
    lines = []
    for figure, name in FIGURES.items():
        purities, gained = dialled(record, figure)
        if gained.shape[1] > 1:
            lines.append(f"- By {name}, {line_in_words(line(purities, gained))}")
            lines.append(f"- By {name}, `mined` lies {between(beside_line(record, figure))} from the line of its seed.")
    return "\n".join([arms_table(record), "", *lines])


def beside_line(record: Record, figure: str) -> list[float]:
    """Return for each seed how far the unswapped arm lies above the line that is fitted to the dialled arms."""
    dial = {arm: of for arm, of in differences(record, figure).items() if arm.startswith(DIALLED)}
    mined = differences(record, figure).get("mined", {})
    purity = {row["seed"]: row.get("mined_purity") for row in record["rows"] if row["arm"] == "mined"}
    found = []
    for seed, gain in mined.items():
        at = {float(arm.removeprefix(DIALLED)): of[seed] for arm, of in dial.items() if seed in of}
        if len(at) == len(dial) and purity[seed] is not None:
            slope, start = np.polyfit([*at], [*at.values()], 1)
            found.append(float(gain - (start + slope * purity[seed])))
    return found


def chance_table(record: Record) -> str:
    """Return each rule's gain over its control of equal count, and both gains over the tuned baseline."""
    gained = differences(record)
    over = {arm: less(of, gained[f"{CONTROL}{arm}"]) for arm, of in gained.items() if f"{CONTROL}{arm}" in gained}
    rules = {arm: of for arm, of in gained.items() if not arm.startswith(CONTROL)}
    p_chance, p_baseline = p_values(over), p_values(rules)
    rows = [
        {
            "rule": f"`{arm}`",
            "seeds": f"{len(of)}{_lost(record, arm)}",
            "over chance": between(over[arm]) if arm in over else "",
            "p, chance": p_chance.get(arm, ""),
            f"over {BASELINE}": between(of),
            f"p, {BASELINE}": p_baseline.get(arm, ""),
            f"chance over {BASELINE}": between(gained[f"{CONTROL}{arm}"]) if arm in over else "",
        }
        for arm, of in rules.items()
    ]
    return markdown(_caption(record), DataFrame(rows), left=("rule",))


def false_negatives_table(records: Mapping[str, Record]) -> str:
    """Return, for each number of classes, what dropping false negatives gains over dropping as many keys at random."""
    rows: list[dict[str, str]] = []
    slopes: dict[str, dict[int, float]] = {}
    for name, record in records.items():
        gained, classes = differences(record), name.rpartition("-")[2]
        shares = [float(arm.removeprefix("oracle-")) for arm in gained if arm.startswith("oracle-")]
        over = {q: less(gained[f"oracle-{q:g}"], gained[f"{CONTROL}oracle-{q:g}"]) for q in shares}
        seeds = sorted(set.intersection(*({*of} for of in over.values())))
        slopes[classes] = {seed: float(np.polyfit(shares, [over[q][seed] for q in shares], 1)[0]) for seed in seeds}
        rows += [{"classes": classes, "share": f"{q:g}", "over chance": between(of)} for q, of in over.items()]
        rows.append({"classes": classes, "share": "slope", "over chance": between(slopes[classes])})
    (few, of_few), (many, of_many) = sorted(slopes.items(), key=lambda each: int(each[0]))
    difference = {"classes": f"{many} − {few}", "share": "slope", "over chance": between(less(of_many, of_few))}
    caption = f"{_caption(record)} Here against as many keys dropped at random."
    return markdown(caption, DataFrame([*rows, difference]), left=("classes",))


def gap_table(record: Record) -> str:
    """Return L − L_oracle after the first and the last epoch, and CKA with the baseline after the last."""
    rows = []
    for arm in record["arms"]:
        runs = [row for row in record["rows"] if row["arm"] == arm]
        alike = statistics.fmean(row["cka"][-1] for row in runs)
        for labels, by_temperature in runs[0]["gap"].items():
            for tau in by_temperature:
                first, last = (statistics.fmean(row["gap"][labels][tau][epoch] for row in runs) for epoch in (0, -1))
                row = {"run": f"`{arm}`", "false negatives by": labels, "τ": tau}
                rows.append(row | {"first epoch": f"{first:.3f}", "last epoch": f"{last:.3f}", "CKA": f"{alike:.3f}"})
    caption = f"{record['images']}. L − L_oracle in nats, and CKA with `{BASELINE}`. Commit {record['commit']}."
    return markdown(caption, DataFrame(rows), left=("run", "false negatives by"))


def report(folder: Path) -> dict[str, str]:
    """Return the text of each experiment whose records are in a folder, by the name of its section."""
    found = {path.stem: read_record(path) for path in sorted(folder.glob("*.json"))}

    def named(prefix: str) -> dict[str, Record]:
        return {name: record for name, record in found.items() if name.startswith(prefix)}

    texts = {}
    if scans := named("headroom-"):
        texts["headroom"] = headroom_table(scans)
    for name in ("dial-cifar10", "leakage-superclasses", "leakage-other-classes"):
        if name in found:
            texts[name] = dial_report(found[name])
    if name := next(iter(named("dial-cifar10-controls")), ""):
        texts[name] = arms_table(found[name])
    for name, record in named("rules-").items():
        texts[name] = chance_table(record)
    if len(shares := named("false-negatives-")) > 1:
        texts["false-negatives"] = false_negatives_table(shares)
    for name, record in named("gap-").items():
        texts[name] = gap_table(record)
    return texts


def main(folder: tyro.conf.Positional[Path] = Path("data/results")) -> None:
    """Print the tables of the experiments whose records are in a folder."""
    for name, text in report(folder).items():
        print(f"## {name}\n\n{text}\n")


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.report")
