"""Tables of records, and that README shows what the records say."""

import json
from pathlib import Path

import pytest

from cltools.bench import RuleBenchFlags, bench_rules
from cltools.tables import table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "data" / "results"


def test_a_bench_of_rules_is_multiples_of_plain_infonce_at_each_size(tmp_path: Path) -> None:
    out = tmp_path / "rules.json"
    bench_rules(RuleBenchFlags((4, 8), (32,), ("moco", "mochi"), device="cpu", repeats=1, out=out))
    sizes = json.loads(out.read_text())["sizes"]
    caption, _, head, rule, plain, *rows = table([out]).splitlines()
    assert "anchors × keys, 128 dimensions" in caption
    assert head == "| method | 4 × 32 | 8 × 32 | MiB at 8 × 32 |" and rule.count("|") == head.count("|")
    assert plain.split("|")[2].strip() == f"{sizes[0]['parts ms'][sizes[0]['plain']]:.1f} ms"
    for line, method in zip(rows, ("moco", "mochi"), strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[:3] == [f"`{method}`", *(f"{size['methods'][method]['× plain']:.1f}" for size in sizes)]
    with pytest.raises(ValueError, match="Times of several records cannot be put together"):
        table([out, out])


def test_a_record_that_is_no_table_is_named(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"kind": "bench"}')
    with pytest.raises(ValueError, match=r"other\.json holds a record of kind 'bench', which is no table; known: comp"):
        table([other])


@pytest.mark.parametrize("name", ["bench-rules", "compare-shapes", "late-shapes", "compare-cifar10"])
def test_the_readme_shows_what_the_records_say(name: str) -> None:
    paths = sorted(RESULTS.glob(f"{name}*.json"))
    assert paths and table(paths) in (ROOT / "README.md").read_text(), (
        f"paste: python -m cltools table data/results/{name}*.json"
    )


def test_the_readme_shows_the_runs_beside_published_figures() -> None:
    paths = sorted(RESULTS.glob("run-*.json"))
    assert paths and table(paths, references=True) in (ROOT / "README.md").read_text(), (
        "paste: python -m cltools table --references data/results/run-*.json"
    )
