"""Tables of measurements, and that README shows what the records say."""

import json
from pathlib import Path

import pytest

from benchmarks import RuleBenchFlags, StepBenchFlags, bench_rules, bench_steps, table

ROOT = Path(__file__).parents[2]
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


def test_a_bench_of_steps_is_a_row_a_setting(tmp_path: Path) -> None:
    out = tmp_path / "steps.json"
    bench_steps(StepBenchFlags(("digits-moco",), bn_groups=(32,), device="cpu", repeats=1, out=out))
    record = json.loads(out.read_text())
    caption, _, head, rule, *rows = table([out, out]).splitlines()
    assert "timed in turn" in caption and rule.count("|") == head.count("|") == rows[0].count("|")
    assert len(rows) == 4 and rows[:2] == rows[2:], "records of one device and commit stand in one table"
    assert rows[0].startswith("| `digits-moco` | tiny | 2,048 | a view |") and "| 32 images |" in rows[1]
    assert "`added MiB`: the most that a step holds at once beyond what is held between steps" in caption
    assert head.endswith("| added MiB | total MiB |")
    memory = [record["rows"][0][name] for name in ("added MiB", "total MiB")]
    assert rows[0].endswith(f"| {' | '.join(f'{m:,.0f}' if m >= 100 else f'{m:.1f}' for m in memory)} |")
    other = tmp_path / "other.json"
    other.write_text(json.dumps(record | {"commit": "another"}))
    with pytest.raises(ValueError, match="several commits or devices cannot be put together"):
        table([out, other])
    other.write_text('{"kind": "bench", "rows": {}}')
    with pytest.raises(ValueError, match=r"other\.json is damaged or of another version: it lacks commit"):
        table([other])
    for row in record["rows"]:
        row["peak MiB"] = row.pop("total MiB")  # as it was named once, for what is now added
    other.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"other\.json is damaged or of another version: its rows lack total MiB\."):
        table([other])


def test_a_bench_against_a_dataloader_is_a_row_a_preset(tmp_path: Path) -> None:
    row = {
        "ours": 4000.4, "dataloader": 1600.0, "ratio": 2.5, "workers": 1, "transforms": "v1 pil",
        "views/s by workers": {"0": 900.0, "1": 1600.0}, "ms a view by transforms": {"v1 pil": 0.5},
    }  # fmt: skip
    record = {
        "kind": "bench against dataloader", "commit": "abc", "versions": {}, "images": "random", "count": 10_000,
        "hardware": {"device": "a processor", "threads": 2}, "rows": {"cifar10-simclr": row},
    }  # fmt: skip
    out = tmp_path / "against.json"
    out.write_text(json.dumps(record))
    *_, last = table([out]).splitlines()
    assert last == "| `cifar10-simclr` | 4,000 | 1,600 | 2.50 | 1 | v1 pil | 0: 900, 1: 1,600 |"
    with pytest.raises(ValueError, match="several records cannot be put together"):
        table([out, out])


@pytest.mark.parametrize("name", ["bench-rules", "bench-steps", "bench-against"])
def test_the_readme_shows_what_the_records_say(name: str) -> None:
    paths = sorted(RESULTS.glob(f"{name}*.json"))
    assert paths and table(paths) in (ROOT / "README.md").read_text(), (
        f"paste: python -m benchmarks table data/results/{name}*.json"
    )
