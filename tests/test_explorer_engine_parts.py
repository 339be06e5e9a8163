"""The parts of the page's engine beside selection: edges, states, draws, samples, and how modules are joined."""

import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_cases import ENTRY, NEGATIVES, POSITIVES, UNLABELLED, cases, choices, engine, numbers, run, snapshots
from moves import controlled, converted, edges_of, moved, placed, ranked_by, widened
from numpy import ndarray

from cltools.config import from_plain, to_plain
from cltools.errors import CltoolsError
from cltools.explorer.front.bundle import FROM, bundle
from cltools.explorer.judgement import difference, judge
from cltools.explorer.standalone import HERE
from cltools.explorer.state import Side, State, check
from cltools.mining import Band, NearestKeys, NegativeRule, RankBand
from cltools.mining.draws import Draws
from cltools.snapshot import Snapshot
from pages.explorers import HERE as PAGES


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Each question and what the engine answers to it, by name: one run of Node for all of them."""
    jobs = other_jobs()
    found = run([*jobs.values()], tmp_path_factory.mktemp("others"))[0]
    return {name: (job, answer) for (name, job), answer in zip(jobs.items(), found, strict=True)}


# questions


def walks() -> list[dict[str, Any]]:
    """Bands whose edges are moved, placed and converted in turn."""
    draw, found = np.random.default_rng(3), []
    for i in range(120):
        place = int(draw.integers(5))
        name = ("RankBand", "CosineBand", "MarginBand")[i % 3]
        plain = {"rule": name} | ({"by": str(draw.choice(choices(NEGATIVES[name])))} if i % 3 < 2 else {})
        moves: list[list[Any]] = []
        for _ in range(8):
            kind = str(draw.choice(["move", "place", "convert"]))
            rank = name == "RankBand"
            values = (
                draw.integers(-2, 45, 2) + draw.choice([0, 0.5], 2) if rank else draw.uniform(-1.3, 1.3, 2).round(2)
            )
            if kind == "convert":
                name = str(draw.choice(["RankBand", "CosineBand", "MarginBand"]))
                moves.append([kind, {"rule": name} | ({"by": "anchor"} if name != "MarginBand" else {})])
            elif kind == "move":
                moves.append([kind, str(draw.choice(["closest", "beyond"])), float(values[0])])
            else:
                moves.append(
                    [kind, float(values.min() if rank else values.max()), float(values.max() if rank else values.min())]
                )
        anchor = int(draw.integers(len(snapshots()[place].anchor_ids)))
        found.append(
            {"job": "edges", "snapshot": place, "place": anchor, "rule": plain, "temperature": 0.2, "moves": moves}
        )
    return found


def walked(job: dict[str, Any]) -> Iterator[NegativeRule]:
    """The same by `moves.py`."""
    s = snapshots()[job["snapshot"]].similarities(torch.tensor([job["place"]]))

    def ranked(rule: Any) -> ndarray:
        return ranked_by(rule, s, job["temperature"])

    rule: Any = from_plain(NegativeRule, job["rule"], "negatives")
    for kind, *more in job["moves"]:
        edges = edges_of(rule, ranked(rule), s)
        if kind == "move":
            rule = moved(rule, more[0], more[1], edges)
        elif kind == "place":
            rule = placed(rule, more[0], more[1], edges.keys)
        else:
            free: Any = widened(from_plain(NegativeRule, more[0], "negatives"))
            rule = converted(free, edges, ranked(free))
        yield rule


def test_edges_move_and_convert_as_in_python(others: Any) -> None:
    for name, (job, answer) in others.items():
        if not name.startswith("edges"):
            continue
        assert "error" not in answer, (job, answer)
        for found, rule in zip(answer, walked(job), strict=True):
            plain = {k: v for k, v in to_plain(rule).items() if v is not None and not isinstance(v, bool)}
            assert {k: v for k, v in found.items() if v is not None and not isinstance(v, bool)} == pytest.approx(
                plain, abs=1e-12
            ), job


WRONG: dict[str, list[dict[str, Any]]] = {
    "RankBand": [
        {"drop_closest": 0.5},
        {"keep_within": 1.2},
        {"by": "either"},
        {"anneal": 0.2},
        {"anneal": 0.2, "keep_within_from": 1.0},
        {"anneal": 0},
        {"drop_closest_from": 0.7},
        {"rescale": 1},
        {"share": 1},
        {"drop_closest": None},
        {"drop_closest": True},
    ],
    "CosineBand": [
        {"above": None, "below": None},
        {"above": 0.5, "below": 0.5},
        {"above": None, "above_from": 0.1},
        {"below": 1.5},
        {"by": "force"},
    ],
    "MarginBand": [
        {"margin": 0.1, "relative": 0.9},
        {"within": 0},
        {"margin": 3},
        {"relative": -1},
        {"within": 4.5},
        {"within_from": 0.2},
    ],
    "RingNegatives": [{"outer": 0}, {"inner": 1}, {"outer_from": 1.0, "anneal": 1}],
    "CancelFalseNegatives": [{"k": 0}, {"k": 2.5}, {"min_cosine": 3}],
    "HardnessWeighted": [{"beta": -1}, {"tau_plus": 1}, {"anneal": 2}],
    "Debiased": [{"tau_plus": -0.1}],
    "MixedNegatives": [{"hardest": 0}, {"pairs": -1}, {"start": 2}],
    "RandomNegatives": [{"share": 0}, {"share_from": 1.0}],
    "AllNegatives": [{"k": 1}],
    "SoftenedBand": [{"margin": 5}, {"skip_closest": 0.2}],
    "LearnedThreshold": [{"alpha": 1}],
    "DifficultAnchors": [{"tolerated": 2}],
    "OracleNegatives": [{"share": 2}],
}
"""Settings by rule, most of them without a meaning."""
OF_NEAREST_KEYS: list[dict[str, Any]] = [
    {"k": 0},
    {"pick": 6},
    {"pick": 0},
    {"pick": 2},
    {"min_weight": "mean"},
    {"min_weight": "median"},
    {"min_weight": 1.5},
    {"augmented_share": None},
    {"augmented_share": 1.1},
    {"temperature": 0},
    {"strength": 2},
    {"start": -1},
    {"ramp": None},
    {"weighting": "hard"},
    {"min_cosine": "0.1"},
    {"by": "either"},
    {"by": "force"},
    {"k": None},
]


CONTROLS: list[list[Any]] = [
    ["closest", 3], ["rule", "CosineBand"], ["by", "anchor"], ["closest", 0.4], ["rule", "MarginBand"], ["beyond", -1],
    ["rule", "RankBand"], ["by", "force"], ["closest", 5], ["beyond", 20], ["rule", "MarginBand"],
    ["rule", "AllNegatives"], ["rule", "RingNegatives"], ["rule", "RankBand"], ["beyond", 4], ["by", "anchor"],
    ["rule", "CosineBand"],
]  # fmt: skip


def test_controls_do_what_they_do_in_python(others: Any) -> None:
    snapshot, state = snapshots()[0], first(snapshots()[0])
    s, side = snapshot.similarities(torch.tensor([11])), state.side
    for (name, value), found in zip(CONTROLS, others["controls"][1], strict=True):
        rule = controlled(side, s, name, NEGATIVES[value]() if name == "rule" else value)
        side = replace(side, negatives=rule)
        assert found == pytest.approx(to_plain(rule), nan_ok=True), name


def first(snapshot: Snapshot) -> State:
    """Where these walks begin."""
    return State(int(snapshot.ids[11]), Side(NearestKeys(k=3).at(1.0), RankBand(0.05, 0.5), 0.2, 5))


def lines() -> list[str]:
    """States, and what is wrong with some."""
    good = [
        State(int(snapshots()[0].ids[i % 40]), case.side, cases()[i + 1].side if i % 3 else None)
        for i, case in enumerate(cases()[:300:3])
    ]
    found = [each.to_json() for each in good]
    side = to_plain(good[0].a)

    def broken(**more: Any) -> str:
        return json.dumps({"anchor": 7, "a": side} | more)

    def of_rule(part: str, rule: str, **more: Any) -> str:
        return broken(a=side | {part: {"rule": rule} | more})

    found += [
        broken(),
        broken(b=side, active="B", colour="difference"),
        "{",
        "[]",
        "null",
        broken(anchor=8),
        broken(anchor="7"),
    ]
    found += [
        broken(active="B"),
        broken(colour="difference"),
        broken(colour="red"),
        broken(truth=1),
        broken(map="none"),
    ]
    found += [broken(more=1), broken(colour="class"), broken(colour="class", truth=True), broken(a={}), broken(a=None)]
    found += [broken(a=side | {"temperature": t}) for t in (0, -1, "1", 0.3)] + [
        broken(a=side | {"epoch": e}) for e in (5, 6, 5.5)
    ]
    found += [of_rule("negatives", name) for name in NEGATIVES] + [of_rule("positives", name) for name in POSITIVES]
    found += [
        of_rule("negatives", name, **more) for name, faults in WRONG.items() if name in NEGATIVES for more in faults
    ]
    found += [of_rule("positives", "NearestKeys", **more) for more in OF_NEAREST_KEYS]
    plain = [side | {"negatives": {}}, side | {"negatives": "RankBand"}, side | {"positives": {"rule": 3}}]
    return found + [broken(a=each) for each in plain]


def read_by_python(line: str) -> str | None:
    try:
        state = State.from_json(line)
        check(state, snapshots()[:1])
    except CltoolsError:
        return None
    return state.to_json()


def test_states_are_read_refused_and_written_as_in_python(others: Any) -> None:
    refused = 0
    for i, line in enumerate(lines()):
        answer, line_of_python = others[f"state {i}"][1], read_by_python(line)
        assert answer is None or isinstance(answer, str), (line, answer)
        assert (answer is None) == (line_of_python is None), line
        if answer is None or line_of_python is None:
            refused += 1
            continue
        found, known = json.loads(answer), json.loads(line_of_python)
        assert found == known, line
    assert 40 < refused < len(lines()) - 100


def rules_within(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for side in filter(None, (state["a"], state["b"])):
        yield from (side["positives"], side["negatives"])


def other_jobs() -> dict[str, dict[str, Any]]:
    """Jobs by name, a word and a number."""
    band = np.random.default_rng(2).integers(1, 6, 40)
    band[11] = Band.OWN
    plain = to_plain(cases()[0].side)
    found = {f"edges {i}": job for i, job in enumerate(walks())}
    found |= {f"state {i}": {"job": "state", "snapshot": 0, "line": line} for i, line in enumerate(lines())}
    for i, seed in enumerate((0, 1, 2**32 - 1)):
        anchors, columns = [0, 7, 2**31, 2**32 + 5, 2**52 + 3, -4], [0, 1, 41, 2**31 + 1, 2**40 + 9, -1]
        found[f"draws {i}"] = {"job": "draws", "seed": seed, "stream": i, "anchors": anchors, "columns": columns}
    oracle = plain | {"negatives": {"rule": "OracleNegatives"}}
    beginning = to_plain(first(snapshots()[0]).a)
    found["controls"] = {"job": "controls", "snapshot": 0, "place": 11, "side": beginning, "moves": CONTROLS}
    return found | {
        "fields": {"job": "fields"},
        "shuffled": {"job": "shuffled", "snapshot": 0},
        "halves": {"job": "halves"},
        "unknown oracle": {"job": "unknown", "snapshot": UNLABELLED, "side": oracle},
        "known oracle": {"job": "unknown", "snapshot": 0, "side": oracle},
        "unknown rule": {"job": "unknown", "snapshot": 0, "side": plain | {"negatives": {"rule": "MyRule", "of": 3}}},
        "recorded": {
            "job": "recorded",
            "snapshot": 0,
            "place": 11,
            "band": band.tolist(),
            "side": plain | {"negatives": {"rule": "MyRule"}},
        },
        "difference": {"job": "difference", "a": band.tolist(), "b": band[::-1].tolist()},
        "misplaced": {"job": "misplaced", "kept": snapshots()[0].kept[0, 0].tolist()},
        "spaced": {"job": "spaced", "places": list(range(100)), "count": 12},
        "borders": {"job": "borders", "order": [4, 2, 0, 1, 3, 5], "band": [2, 2, 3, 1, 3, 0]},
    }


def test_every_setting_has_the_default_of_python(others: Any) -> None:
    _, found = others["fields"]
    for kinds, part in ((NEGATIVES, "negatives"), (POSITIVES, "positives")):
        assert {*kinds} == {*found[part]}
        for name, kind in kinds.items():
            known = {f.name: f.default for f in fields(kind) if f.default is not MISSING}
            assert found[part][name] == known, name


def test_draws_are_the_same_hash(others: Any) -> None:
    for i in range(3):
        job, answer = others[f"draws {i}"]
        anchors, columns = (torch.tensor(job[name]) for name in ("anchors", "columns"))
        drawn = Draws(job["seed"], anchors, columns).uniform(columns, job["stream"])
        assert answer == drawn.tolist()


def test_anchors_are_sampled_in_an_order_that_is_no_order(others: Any) -> None:
    places = others["shuffled"][1]
    assert sorted(places) == list(range(40)) and abs(np.corrcoef(places, range(40))[0, 1]) < 0.4


def test_halves_are_unpacked_as_numpy_does(others: Any) -> None:
    with np.errstate(invalid="ignore"):
        expected = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
    assert np.array_equal(numbers(others["halves"][1], np.float32, 1)[0], expected, equal_nan=True)


def test_what_cannot_be_answered_says_why(others: Any) -> None:
    assert (
        others["unknown oracle"][1] == "OracleNegatives cannot be answered here. It reads classes, and these have none."
    )
    assert others["known oracle"][1] == ""
    assert others["unknown rule"][1] == "MyRule is a rule that only Python knows."


def test_recorded_bands_of_a_rule_of_python_are_judged(others: Any) -> None:
    job, answer = others["recorded"]
    band, s = np.array(job["band"]), snapshots()[0].similarities(torch.tensor([11]))
    cosine = s.anchor_keys[0].double().numpy()
    force = np.exp(cosine / job["side"]["temperature"]) * np.sqrt(1 - cosine**2) * (band == Band.POTENTIAL)
    assert answer["push"] == pytest.approx((force / force.sum()).tolist(), abs=1e-6)
    assert answer["summary"]["keys"][1:6] == np.bincount(band, minlength=6)[1:].tolist()


def test_differences_misplaced_points_and_samples(others: Any) -> None:
    job, answer = others["difference"]
    j = judge(snapshots()[0].similarities(torch.tensor([11])), cases()[0].side, "sep")
    a, b = (replace(j, band=np.array(job[name], np.int8)) for name in ("a", "b"))
    assert answer == difference(a, b).tolist()
    assert others["misplaced"][1] == np.flatnonzero(snapshots()[0].kept[0, 0] < 0.2).tolist()
    assert others["spaced"][1] == [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 99]
    assert others["borders"][1] == {"closest": [0, 2], "beyond": [3, 1]}


def test_a_bundle_is_one_script(tmp_path: Path) -> None:
    def joined(**modules: str) -> str:
        for name, text_ in modules.items():
            (tmp_path / f"{name}.js").write_text(text_, encoding="utf-8")
        return bundle(tmp_path / "a.js", "it")

    b = "/** Ä */\nexport const two = 2;\nconst hidden = 1;\n"
    a = 'import { two } from "./b.js";\nexport { two } from "./b.js";\nexport function four() {\n  return 2 * two;\n}\n'
    script = joined(a=a, b=b)
    assert "import" not in script and "export" not in script and "return { four, two };" in script
    assert "return { four };" in joined(a=a.replace('export { two } from "./b.js";\n', ""), b=b), "what is exported"
    with pytest.raises(RecursionError):  # modules that import each other
        joined(a=a, b='import { four } from "./a.js";\n')


@pytest.mark.parametrize(
    "entry", [HERE / "kernel.js", HERE / "standalone.js", PAGES / "site.js"], ids=lambda path: path.stem
)
def test_the_modules_can_be_joined(entry: Path) -> None:
    """No import or export has a form that is left over, and no name of a module is another module's, too."""
    script = bundle(entry, "it")
    assert not re.findall(r"^(?:import|export)\b.*", script, re.MULTILINE)
    names = [each for path in HERE.rglob("*.js") for _, each, _ in FROM.findall(path.read_text(encoding="utf-8"))]
    assert names and not re.search(r"\w+ as \w+", " ".join(names))
    defined = re.findall(r"^(?:async )?(?:function\*?|class|const|let) (\w+)", script, re.MULTILINE)
    assert len(defined) > 100 and len({*defined}) == len(defined)


def test_the_engine_is_small_and_names_no_browser() -> None:
    assert len(engine().encode()) < 75_000
    assert not {"document", "window", "navigator", "localStorage"} & {*engine().replace(".", " ").split()}
    assert engine() == bundle(ENTRY, "cltoolsEngine"), "one text each time"
