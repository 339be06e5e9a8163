"""What a notebook shows of the records is what they say, and its title says no more."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from cltools.teaching import comparison
from cltools.teaching.figures import MINING
from cltools.teaching.records import RESULTS

ROOT = Path(__file__).parent.parent


def record(folder: Path, seed: int, rows: list[dict[str, Any]], **more: Any) -> None:
    same = json.loads((RESULTS / "compare-shapes-0.json").read_text())
    (folder / f"compare-shapes-{seed}.json").write_text(json.dumps(same | more | {"rows": rows}))


def row(arm: str, seed: int, knn200: float, probe: float, purity: float | None = None) -> dict[str, Any]:
    return {
        "arm": arm,
        "seed": seed,
        "knn200": knn200,
        "probe": probe,
        "kept": 1.0,
        "false_negative_share": None,
        "mined_purity": purity,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    record(tmp_path, 0, [row("moco", 0, 70, 90), row("nnclr", 0, 69, 91, 0.5)])
    record(tmp_path, 1, [row("moco", 1, 60, 80), row("nnclr", 1, 63, 82, 0.6), row("sce", 1, 60, 79)])
    return tmp_path


def test_differences_are_within_a_seed(folder: Path) -> None:
    records = comparison("shapes", folder=folder)
    assert records.seeds == (0, 1)
    assert records.of("moco") == {0: 70, 1: 60}
    assert records.gains("nnclr") == {0: -1, 1: 3}
    assert records.gains("nnclr", "probe") == {0: 1, 1: 2}
    assert records.gains("sce", against="nnclr") == {1: -3}


def test_a_row_an_arm(folder: Path) -> None:
    first, second = comparison("shapes", folder=folder).table({"nnclr": "replace", "sce": "every key"})
    assert first == {
        "arm": "nnclr",
        "what it does": "replace",
        "kNN-200 against moco": 1,
        "ahead in": "1 of 2 seeds",
        "probe against moco": 1.5,
        "mined purity %": pytest.approx(55),
    }
    assert second["ahead in"] == "0 of 1 seeds" and second["mined purity %"] is None


def test_what_cannot_be_told_is_refused(folder: Path, tmp_path: Path) -> None:
    records = comparison("shapes", folder=folder)
    with pytest.raises(ValueError, match="no knn200 of an arm 'mocco'"):
        records.gains("mocco")
    with pytest.raises(ValueError, match="no mined_purity of an arm 'moco'"):
        records.of("moco", "mined_purity")
    with pytest.raises(FileNotFoundError, match=r"no compare-digits-\*\.json"):
        comparison("digits", folder=folder)
    record(tmp_path, 2, [row("moco", 2, 60, 80)], warm_epochs=9)
    with pytest.raises(ValueError, match="warm_epochs"):
        comparison("shapes", folder=folder)


# What notebook 03 says of the records


def test_after_a_short_start_no_arm_that_mines_reaches_moco() -> None:
    records = comparison("shapes")
    assert len(records.seeds) >= 3
    means = {arm: statistics.fmean(records.gains(arm).values()) for arm in MINING}
    assert len(means) == 9 and max(means.values()) < 0
    for arm, without in (("potential", "band"), ("potential-random", "random")):
        assert statistics.fmean(records.gains(arm, against=without).values()) < 0
    of_oracle = records.gains("potential-oracle", against="oracle")
    assert abs(statistics.fmean(of_oracle.values())) < 0.5


def test_after_a_long_start_four_of_them_are_level_with_it() -> None:
    records = comparison("shapes", "late")
    assert len(records.seeds) >= 3
    arms = {row["arm"] for row in records.rows} - {"moco"}
    gains = [[*records.gains(arm).values()] for arm in arms]
    assert len(arms) == 4 and all(abs(statistics.fmean(gain)) <= 0.5 for gain in gains)
    assert all(min(gain) <= 0 < max(gain) for gain in gains)  # ahead in some seeds, not in others
    purity = [row["mined_purity"] for row in records.rows if row["mined_purity"] is not None]
    assert min(purity) > 0.75 and max(purity) < 0.85  # four guesses in five


def test_its_title_says_so() -> None:
    notebook = json.loads((ROOT / "notebooks" / "03_mined_positives.ipynb").read_text())
    text = "".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    assert text.startswith("# 03 · When does a mined positive help? On `shapes` it did not")
    for claim in ("nine arms, none ahead of MoCo", "did no harm, and no good", "Now four guesses in five were right"):
        assert claim in text
