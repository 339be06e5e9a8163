"""The page's engine selects what `select` selects: key for key, with the loss's own gradient, anchor by anchor and over
all anchors. Node runs the bundle that the page runs, and the same with faults in it."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_cases import (
    ANCHORS,
    KS,
    NEGATIVES,
    POSITIVES,
    STATES,
    Case,
    agree,
    cases,
    censuses,
    close,
    engine,
    expected,
    has,
    numbers,
    run,
    shares,
    snapshots,
)
from jaxtyping import config
from moves import BANDS, edges_of, ranked_by

from cltools.evaluation.diagnosis import Census
from cltools.explorer.judgement import Judgement, judge, reference_score
from cltools.explorer.state import Side
from cltools.interop.pairs import settings_of
from cltools.mining import AllNegatives, AugmentedView, Band, NearestKeys, Selection, Similarities, terms
from cltools.mining.bands import KEPT
from cltools.mining.negatives import closeness
from cltools.mining.similarities import own_last
from cltools.snapshot import Snapshot

NEAR = 1e-6
"""How near to an edge a score must lie for a key to be set aside, relative to the score where that is above 1."""
EVERY = 50
"""How often each rule, each unit, each `by` and each k occurs at least."""


@pytest.fixture(scope="module", autouse=True)
def unchecked_shapes() -> Iterator[None]:
    """Other tests check the shapes of all that is called here; here it would take most of the time."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What the engine makes of all cases."""
    return run([case.job for case in cases()], tmp_path_factory.mktemp("engine"))[0]


def test_each_rule_unit_by_and_k_occurs_often() -> None:
    rules = Counter(type(rule).__name__ for case in cases() for rule in (case.side.negatives, case.side.positives))
    assert {*rules} == {*NEGATIVES, *POSITIVES} and min(rules.values()) >= EVERY
    bys = Counter(
        (type(r).__name__, r.by)
        for case in cases()
        for r in (case.side.negatives, case.side.positives)
        if has(type(r), "by")
    )
    assert len(bys) >= 11 and min(bys.values()) >= EVERY
    ks = Counter(case.side.positives.k for case in cases() if has(type(case.side.positives), "k"))
    assert {*ks} == {*KS} and min(ks.values()) >= EVERY
    edges = Counter(
        name
        for case in cases()
        for name in ("drop_closest", "above", "below", "margin", "relative", "within")
        if getattr(case.side.negatives, name, None) is not None
    )
    assert len(edges) == 6 and min(edges.values()) >= EVERY
    kinds = Counter(case.snapshot for case in cases())
    assert len(kinds) == 9 and min(kinds.values()) >= EVERY and len(cases()) >= 2000


def near_an_edge(case: Case, s: Similarities, selection: Selection, row: int, key: int) -> bool:
    """Whether a key's score lies within rounding of one of another band, or its soft weight of the gate."""
    score = reference_score(s, case.side.negatives, case.side.temperature)
    line, bands = score[row].double(), selection.band[row]
    others = line[bands != bands[key]]
    if bool(((others - line[key]).abs() <= NEAR * line[key].abs().clamp_min(1)).any()):
        return True
    rule, index = case.side.positives, selection.positive_index[row]
    if not isinstance(rule, NearestKeys) or rule.min_weight is None or key not in index:
        return False
    least = 1 / rule.k if rule.min_weight == "mean" else float(rule.min_weight)
    soft = (own_last(closeness(s, rule.by), s.own)[row, index].double() / rule.temperature).softmax(0)
    return abs(float(soft[index == key]) / least - 1 + NEAR) <= NEAR


def test_every_key_gets_the_band_that_select_gives(answers: list[Any]) -> None:
    aside = pairs = 0
    for case, (s, selection, _), answer in zip(cases(), expected(), answers, strict=True):
        assert "error" not in answer, (case, answer["error"])
        found, band = numbers(answer["band"], np.int8, ANCHORS), selection.band.numpy()
        pairs += band.size
        for row, key in zip(*np.nonzero(found != band), strict=True):
            assert near_an_edge(case, s, selection, row, key), (case, row, key, found[row], band[row])
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


def counts_of(j: Judgement) -> np.ndarray:
    """How many keys but the own one have a score in each of 48 bins, by band."""
    score, band = j.score[j.band != Band.OWN], j.band[j.band != Band.OWN]
    low = float(score.min())
    place = np.minimum(((score - low) * (48 / max(float(score.max()) - low, 1e-6))).astype(np.int64), 47)
    return np.bincount(place * len(Band) + band, minlength=48 * len(Band)).reshape(48, len(Band))


def test_order_edges_bins_and_counts_are_those_of_the_judgement(answers: list[Any]) -> None:
    compared = 0
    for case, _, _, _, answer in list(agreed(answers))[::13]:
        snapshot = replace(snapshots()[case.snapshot])
        if type(case.side.negatives).__name__ == "LearnedThreshold":
            continue  # `judge` is given no state
        for row, anchor in enumerate(case.anchors):
            j = judge(snapshot.similarities(torch.tensor([anchor])), case.side, case.form)
            if getattr(case.side.negatives, "by", "") != "force":
                assert numbers(answer["order"], np.int32, ANCHORS)[row].tolist() == j.order.tolist()
                counts = numbers(answer["counts"], np.int32, ANCHORS)[row].reshape(48, 7)
                assert np.array_equal(counts[:, : len(Band)], counts_of(j)), case
            plain = plain_force(j, case.side)
            assert close(numbers(answer["plain"], np.float32, ANCHORS)[row : row + 1], plain[None].astype(float))
            rule = case.side.negatives
            if not isinstance(rule, BANDS):
                assert answer["edges"][row] is None
            else:
                edges = edges_of(rule, ranked_by(rule, j.similarities, case.side.temperature), j.similarities)
                *counts, high, low, unit_, measure = answer["edges"][row]
                assert [*counts, unit_, measure] == [edges.closest, edges.beyond, edges.unit, edges.measure], case
                scores = edges.closest_score, edges.beyond_score
                ends = [float(each.replace("Infinity", "inf")) for each in (high, low)]
                assert ends == pytest.approx(scores, rel=1e-6), case
            check_summary(snapshot, j, anchor, answer["summary"][row])
            compared += 1
    assert compared > 250


def plain_force(j: Judgement, side: Side) -> np.ndarray:
    """Each key's share of the push if every key were kept and none mined."""
    return judge(j.similarities, replace(side, positives=AugmentedView(), negatives=AllNegatives()), "sep").force


def check_summary(snapshot: Snapshot, j: Any, anchor: int, found: dict[str, Any]) -> None:
    count = np.bincount(j.band, minlength=7)
    count[Band.OWN] = 0
    assert found["keys"] == count.tolist() and found["others"] == count.sum()
    if snapshot.labelled:
        alike = (snapshot.labels == snapshot.labels[anchor]) & (snapshot.labels >= 0)
        same = np.bincount(j.band[alike], minlength=7)
        same[Band.OWN] = 0
        assert found["same"] == same.tolist()
    else:
        assert found["same"] is None


# faults that the comparison must catch

FAULTS = {
    "the edge itself is kept": ("if (score[i] >= high)", "if (score[i] > high)"),
    "the other edge itself is dropped": ("if (score[i] < low)", "if (score[i] <= low)"),
    "another rounding of shares": ("Math.floor(share * keys + 0.5)", "Math.ceil(share * keys)"),
    "own keys are kept": ("if (s.own[i]) band[i] = BAND.OWN;", ""),
    "own keys rank by their score": ("own[i] ? -INFINITE : value + 0", "value + 0"),
    "equal scores do not share one fate": (
        "if (cut !== null) return bandsOfCut(score, cut);",
        """if (cut !== null) {
          const band = bandsOfCut(score, cut);
          const { order } = rankingBy(s, rankedBy(rule), temperature);
          const last = rankCount(rule.drop_closest ?? 1, score.length);
          return band.map((code, i) => (code === BAND.HARD && order.indexOf(i) >= last ? BAND.POTENTIAL : code));
        }""",
    ),
    "mined keys stay negatives": ("band[mined.index[i]] = BAND.MINED;", ""),
    "mined keys count among those that are rescaled": ("eligible[mined.index[i]] = 0;", ""),
    "the margin's sign is wrong": ("Math.fround(-rule.margin)", "Math.fround(rule.margin)"),
    "the relative margin forgets that a cosine may be negative": ("* Math.abs(anchorPositive)", "* anchorPositive"),
    "the temperature is left out": ("(1 + beta) / temperature", "1 + beta"),
    "the tilt is taken for constant": ("if (!detach) byNegative", "if (false) byNegative"),
    "the mass is clamped too early": ("const floor = logCount - 1 / temperature;", "const floor = logCount + 9;"),
    "forces along the anchor count": ("* Math.sqrt(Math.max(0, (1 - cosine) * (1 + cosine)))", ""),
    "the form of the loss is forgotten": ('if (form === "sep") {', "if (true) {"),
    "the strength is not applied": ("if (rule.strength === 1) return", "if (rule.strength > 0) return"),
    "draws depend on the key alone": ("mixed(anchor ^ folded(id)) + anchor", "mixed(folded(id))"),
    "vectors keep the length that float16 left them": ("/= length;", "/= 1;"),
    "cosines are rounded to half": ("found[i] = even + odd;", "found[i] = Math.round((even + odd) * 2048) / 2048;"),
    "the gate of weights has no room for rounding": ("least * (1 - ROUNDING)", "least * (1 + ROUNDING)"),
    "a census takes the mined for kept": ("inBand[code]--;", ""),
    "a census forgets the mined of the class": ("inClass[code] -= isSame;", ""),
    "an interval forgets that few anchors tell little": ("(student(anchors - 1) / Z) ** 2", "1"),
}  # fmt: skip
SAMPLE = sorted(np.random.default_rng(0).choice(STATES, 160, replace=False).tolist())
"""Cases that engines with a fault are asked."""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What the engine with each fault makes of a sample of the cases, and of the censuses."""
    scripts = []
    for before, after in FAULTS.values():
        assert engine().count(before) == 1, before
        scripts.append(engine().replace(before, after))
    jobs = [cases()[i].job for i in SAMPLE] + [each.job for each in censuses()[:6]]
    return dict(zip(FAULTS, run(jobs, tmp_path_factory.mktemp("faults"), scripts), strict=True))


def same(case: Case, selection: Selection, exact: Any, answer: Any) -> bool:
    """Whether bands, weights of negatives and gradients are those of Python."""
    band, weight = selection.band.numpy(), selection.negative_weight.numpy()
    return (
        "error" not in answer
        and np.array_equal(numbers(answer["band"], np.int8, ANCHORS), band)
        and np.allclose(numbers(answer["weight"], np.float32, ANCHORS), weight, rtol=1e-6, atol=0)
        and close(numbers(answer["byNegative"], np.float64, ANCHORS), exact[1])
        and close(numbers(answer["pull"], np.float64, ANCHORS), exact[0], 2e-7 / case.side.temperature)
        and (selection.synthetic is not None or close(numbers(answer["push"], np.float32, ANCHORS), shares(exact[2])))
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_engine_is_caught(fault: str, faulty: dict[str, list[Any]], answers: list[Any]) -> None:
    wrong = 0
    for i, answer in zip(SAMPLE, faulty[fault], strict=False):
        case, (_, selection, exact), right = cases()[i], expected()[i], answers[i]
        wrong += same(case, selection, exact, right) and not same(case, selection, exact, answer)
    for each, answer in zip(censuses()[:6], faulty[fault][-6:], strict=True):
        wrong += "error" in answer or not all(map(agree, answer, each.expected, each.labelled))
    assert wrong > 0


def test_counts_over_all_anchors_are_those_of_python(tmp_path: Path) -> None:
    for each, answer in zip(censuses(), run([each.job for each in censuses()], tmp_path)[0], strict=True):
        assert "error" not in answer, answer
        for side, found, census, labelled in zip(each.sides, answer, each.expected, each.labelled, strict=True):
            assert agree(found, census, labelled), (each.snapshot, side)
            for wanted, told in zip((1, 10, 30), found["loosening"], strict=True):
                assert told == loosening(census, side, wanted), (each.snapshot, side, wanted)


def loosening(census: Census, side: Side, wanted: int) -> dict[str, Any]:
    """What `mine_pairs` reports of the same counts, with bare names of settings."""
    short = census.in_bands[:, KEPT].sum(1) < wanted
    dropped = census.in_bands[short].sum(0)
    named = settings_of(side.positives, side.negatives)
    bare = {band: (re.findall(r"\((.*)=…\)", name) or ["the rule"])[0] for band, name in named.items()}
    bare[Band.MINED] = "k" if hasattr(side.positives, "k") else "mining"
    codes = [band for band in sorted(named) if dropped[band]]
    codes.sort(key=lambda band: -int(dropped[band]))
    return {"short": int(short.sum()), "settings": [*dict.fromkeys(bare[band] for band in codes)]}
