"""Tables of experiments, of records that are made here, and that the page of results shows those of data/results."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.analysis import Line
from experiments.report import (
    arms_table,
    beside_line,
    between,
    chance_table,
    dial_report,
    dialled,
    false_negatives_table,
    gap_table,
    headroom_table,
    line_in_words,
    p_values,
    report,
)

ROOT = Path(__file__).parents[2]


def made(gains: dict[str, list[float]], figures: dict[str, float] | None = None, **more: Any) -> dict[str, Any]:
    """A record of `moco` at 40 and of arms that gain as much, a seed each."""
    seeds = len(next(iter(gains.values())))
    every = {"moco": [0.0] * seeds, **gains}
    rows = [
        {"arm": arm, "seed": seed, "knn200": 40 + gain, "probe": 50 - gain, "curves": CURVES, **(figures or {})}
        for arm, of in every.items()
        for seed, gain in enumerate(of)
    ]
    origin = {"commit": "abc", "hardware": {"device": "a processor"}, "baseline": {"training": {"epochs": 10}}}
    return {"images": "images", "warm_epochs": 5, "arms": dict.fromkeys(every), "rows": rows, **origin, **more}


CURVES = {name: [0.1, 0.5] for name in ("mined_purity", "mined_cosine", "mined_pull")}


def seeds(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


EIGHT = [1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98, 1.0]


def test_an_interval_and_p_values_are_those_of_eight_seeds() -> None:
    assert between([1.0, 2.0, 3.0]) == "+2.0 [-0.5, +4.5]" and between([1.0]) == "+1.0"
    assert p_values({"a": seeds(EIGHT), "b": seeds(EIGHT[:7])}) == {"a": "0.008"} and p_values({"a": {0: 1.0}}) == {}


def test_every_arm_has_its_row_the_lost_ones_too() -> None:
    record = made({"a": EIGHT, "b": [-gain for gain in EIGHT]})
    record["rows"].append({"arm": "b", "seed": 8, "diverged": "yes"})
    head, *rows = [line for line in arms_table(record).splitlines() if line.startswith("| ")]
    assert head.startswith("| arm | seeds | kNN-200 against moco | p, kNN-200 | probe against moco | p, probe | purity")
    assert rows[0] == "| `a` | 8 | +1.0 [+0.9, +1.1] | 0.008 | -1.0 [-1.1, -0.9] | 0.008 | 0.50 | 0.50 | 0.50 |"
    assert rows[1].startswith("| `b` | 8, diverged 1 | -1.0 [-1.1, -0.9]")
    assert "moco reaches 40.0" in arms_table(record)


def test_a_scan_has_a_row_for_each_setting_and_arm() -> None:
    shown = headroom_table(
        {"headroom-x": made({"oracle": [1.0, 2.0, 3.0]}), "headroom-y": made({"oracle": [0.0, 1.0]})}
    )
    assert "| x | `oracle` | 3 | +2.0 [-0.5, +4.5] |" in shown and "| y | `oracle` | 2 |" in shown


def test_a_dial_is_told_by_its_line() -> None:
    purities = (0.1, 0.5, 1)
    noise = np.array([0.01, -0.01, 0.0, 0.02, -0.02, 0.01, -0.01, 0.0])
    gains = {f"repaired-{p:g}": (4 * (p - 0.6) + noise).tolist() for p in purities} | {"mined": [-1.0] * 8}
    text = dial_report(made(gains))
    rise = "from purity 0 to 1 the line changes by"
    assert f"By kNN-200, {rise} +4.0 points [+4.0, +4.0] and crosses 0 at a purity of 0.60 [0." in text
    assert f"By probe, {rise} -4.0 points" in text and "| `mined` |" in text
    assert line_in_words(Line((1.0, -1.0, 3.0), None, (None, None), 0.9)).endswith(
        "does not cross 0 in the dialled range."
    )


def test_seeds_are_paired_where_other_seeds_of_other_arms_are_lost() -> None:
    gains = {f"repaired-{p:g}": [10.0 * seed + p for seed in range(8)] for p in (0.0, 0.5, 1.0)}
    record = made(gains | {"mined": [10.0 * seed + 0.5 for seed in range(8)]}, figures={"mined_purity": 0.5})
    lost = {("repaired-0", 1), ("repaired-1", 6)}
    record["rows"] = [row for row in record["rows"] if (row["arm"], row["seed"]) not in lost]
    purities, gained = dialled(record)
    assert purities == [0.0, 0.5, 1.0] and gained.shape == (3, 6)
    assert np.allclose(np.polyfit(purities, gained, 1)[0], 1.0)
    assert np.allclose(beside_line(record, "knn200"), 0) and len(beside_line(record, "knn200")) == 6
    record = made({"mined": EIGHT, "random-as-mined": [gain - 1 for gain in EIGHT]})
    lost = {("mined", 0), ("random-as-mined", 5)}
    record["rows"] = [row for row in record["rows"] if (row["arm"], row["seed"]) not in lost]
    assert "| `mined` | 7 | +1.0 [+1.0, +1.0] |" in chance_table(record)


def test_rules_are_compared_with_chance() -> None:
    gains = {"mined": EIGHT, "hcl": [0.1, -0.1] * 4, "random-as-mined": [2 * gain for gain in EIGHT]}
    rows = [line for line in chance_table(made(gains)).splitlines() if line.startswith("| `")]
    assert rows[0] == "| `mined` | 8 | -1.0 [-1.1, -0.9] | 0.008 | +1.0 [+0.9, +1.1] | 0.016 | +2.0 [+1.9, +2.1] |"
    assert rows[1].startswith("| `hcl` | 8 |  |  | +0.0 [") and len(rows) == 2


def test_false_negatives_are_compared_with_as_many_random_keys() -> None:
    def of(scale: float) -> dict[str, Any]:
        shares = (0.25, 0.5, 0.75, 1.0)
        gains = {f"oracle-{q:g}": [scale * q + 0.1 * seed for seed in range(8)] for q in shares}
        return made(gains | {f"random-as-oracle-{q:g}": [0.1 * seed for seed in range(8)] for q in shares})

    text = false_negatives_table({"false-negatives-100": of(1), "false-negatives-20": of(3)})
    for row in ("| 20 | 0.5 | +1.5 [+1.5, +1.5] |", "| 100 | slope | +1.0 [", "| 100 − 20 | slope | -2.0 ["):
        assert row in text


def test_the_gap_is_shown_at_the_first_and_the_last_epoch() -> None:
    rows = [{"arm": "moco", "seed": seed, "gap": {"20": {"0.2": [0.1, 0.2 + seed]}}, "cka": [1.0]} for seed in (0, 1)]
    shown = gap_table({"images": "i", "commit": "c", "arms": {"moco": {}}, "rows": rows})
    assert "| `moco` | 20 | 0.2 | 0.100 | 0.700 | 1.000 |" in shown


def test_the_page_of_results_shows_what_the_records_say() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    missing = [name for name, text in report(ROOT / "data" / "results").items() if text not in page]
    assert missing == [], "paste these of: python -m experiments.report"
