"""Offline mining on made-up corpora whose answer is known by construction, and the faults others were told of."""

import math
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch.nn.functional import normalize

from cltools import (
    AllNegatives,
    Context,
    CosineBand,
    Debiased,
    EveryKey,
    HardnessWeighted,
    LearnedThreshold,
    MarginBand,
    MixedNegatives,
    NearestKeys,
    OracleNegatives,
    PositiveRule,
    RandomNegatives,
    RankBand,
    RingNegatives,
    select,
    similarities,
)
from cltools.contrast import contrastive_loss, mean_over_anchors
from cltools.errors import CltoolsError
from cltools.interop import mine_pairs
from cltools.interop.pairs import QUANTILES, MinedPairs, pairs_of
from cltools.losses import LossSettings
from cltools.mining import AugmentedView, Band, DifficultAnchors, NegativeRule, Selection, Similarities, SoftenedBand
from cltools.mining.bands import rank_count


def at(*degrees: float) -> torch.Tensor:
    """Unit vectors in a plane."""
    angle = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def keys_of(mined: MinedPairs, anchor: int = 0) -> list[int]:
    pairs = mined.pairs
    return [int(key) for key in pairs["key"][pairs["anchor"] == anchor]]


# --- three corpora whose answer is known


def test_a_fan_of_ranks() -> None:
    """Twenty keys at 1°, 2°, … from the anchor: ranks are degrees."""
    corpus = at(*range(1, 21))
    rule = RankBand(drop_closest=0.1, keep_within=0.5, by="anchor")
    mined = mine_pairs(at(0.0), at(-30.0), corpus, None, rule, negatives=5)
    assert keys_of(mined) == [2, 3, 4, 5, 6], "3° to 10° are kept, the closest five are returned"
    assert mined.report.counts == {
        "own": 0, "easy": 10, "potential": 8, "hard": 2, "mined": 0, "other": 0, "softened": 0,
    }  # fmt: skip
    assert mined.report.short == 0 and mined.report.loosen == ()
    assert mined.pairs["cosine"].tolist() == pytest.approx([math.cos(math.radians(d)) for d in range(3, 8)], abs=1e-6)
    assert mined.report.quantiles["positive"] == pytest.approx([math.cos(math.radians(30))] * 7, abs=1e-6)
    taken = sorted(math.cos(math.radians(degrees)) for degrees in range(3, 8))

    def quantile(share: float) -> float:
        place = share * (len(taken) - 1)
        below = int(place)
        return taken[below] + (place - below) * (taken[min(below + 1, len(taken) - 1)] - taken[below])

    assert mined.report.quantiles["negative"] == pytest.approx([quantile(share) for share in QUANTILES], abs=1e-6)
    differences = [math.cos(math.radians(30)) - quantile(1 - share) for share in QUANTILES]
    assert mined.report.quantiles["difference"] == pytest.approx(differences, abs=1e-6)


def test_two_anchors_of_which_one_is_short_and_the_setting_to_loosen() -> None:
    """The first anchor has four keys between the edges, the second none: all of its keys are too close."""
    corpus = torch.cat([at(40, 50, 60, 70, 120), at(181, 182, 183)])
    rule = CosineBand(above=0.2, below=0.9, by="anchor")
    mined = mine_pairs(at(0, 180), at(10, 190), corpus, None, rule, negatives=4)
    assert keys_of(mined, 0) == [0, 1, 2, 3] and keys_of(mined, 1) == [4]
    report = mined.report
    assert (report.short, report.wanted) == (1, 4)
    assert report.loosen[0].startswith("CosineBand(above") and report.loosen[1] == "CosineBand(below=…)"
    assert "1 anchor has fewer than the 4" in str(report) and "CosineBand(below=…)" in str(report)
    assert sum(report.counts.values()) == 2 * 8 and report.counts["hard"] == 3


def test_clusters_of_a_known_class() -> None:
    """Four clusters of five: an oracle drops the own cluster, mined positives are of it."""
    corpus = torch.cat([at(*(90 * c + d for d in (-4, -2, 1, 2, 4))) for c in range(4)])
    classes, places = torch.arange(4), torch.arange(4).repeat_interleave(5)
    anchors = at(0, 90, 180, 270)
    mined = mine_pairs(
        anchors, anchors, corpus, NearestKeys(k=2, weighting="uniform", start=0, ramp=0), OracleNegatives(),
        negatives=15, labels=(classes, places),
    )  # fmt: skip
    for anchor in range(4):
        pairs = mined.pairs[mined.pairs["anchor"] == anchor]
        positives = pairs[pairs["band"] == "mined"]
        assert sorted(positives["key"] // 5) == [anchor] * 2 and positives["weight"].tolist() == [0.25, 0.25]
        assert sorted(pairs["key"][pairs["band"] == "potential"]) == [j for j in range(20) if j // 5 != anchor]
    assert mined.report.counts["other"] == 4 * 3, "the rest of each own cluster"


def test_a_label_below_0_is_of_no_class() -> None:
    corpus, classes = at(10, 20, 30), torch.tensor([-1, 1, 1])
    mined = mine_pairs(
        at(0, 0.5), at(5, 5.5), corpus, None, OracleNegatives(), negatives=3, labels=(torch.tensor([-1, 1]), classes)
    )
    assert keys_of(mined, 0) == [0, 1, 2] and keys_of(mined, 1) == [0]


def test_rules_act_as_at_the_end_of_a_training() -> None:
    """Rules of one's own, which say something else until then."""

    @dataclass(frozen=True)
    class WaitsToMine(NearestKeys):
        late: bool = False

        def at(self, progress: float) -> "WaitsToMine":
            return WaitsToMine(k=2 if progress == 1 else 1, weighting="uniform", start=0, ramp=0)

    @dataclass(frozen=True)
    class WaitsToDrop(AllNegatives):
        def at(self, progress: float) -> NegativeRule:
            return CosineBand(above=0.0, by="anchor") if progress == 1 else self

    corpus = at(10, 20, 30, 120)
    mined = mine_pairs(at(0), at(5), corpus, WaitsToMine(k=1), WaitsToDrop(), negatives=4)
    bands = mined.pairs["band"].astype(str).tolist()
    assert keys_of(mined) == [0, 1, 2] and bands == ["mined", "mined", "potential"]


def test_the_weight_is_the_one_in_the_loss() -> None:
    """A softened key weighs e^{-margin/temperature}, whatever the temperature, and an anchor's weight multiplies."""
    mined = mine_pairs(
        at(0), at(5), at(10, 20, 30, 40), None, SoftenedBand(margin=0.3, soften_within=0.5), negatives=4,
        temperature=0.7,
    )  # fmt: skip
    assert mined.pairs["weight"].tolist() == pytest.approx([math.exp(-0.3 / 0.7)] * 2 + [1.0] * 2)
    assert mined.pairs["band"].astype(str).tolist() == ["softened"] * 2 + ["potential"] * 2
    rule = DifficultAnchors(min_cosine=0.9, tolerated=0.5, anchor_weight=0.25)
    weighed = mine_pairs(at(0, 90), at(1, 91), at(5, 10, 15, 180), None, rule, negatives=4).pairs
    assert [weighed["weight"][weighed["anchor"] == anchor].tolist() for anchor in (0, 1)] == [[0.25] * 4, [1.0] * 4]


# --- what is returned is what select says


@given(
    st.integers(0, 10**6),
    st.sampled_from([RankBand(by="anchor"), RankBand(), CosineBand(above=-0.2), MarginBand(relative=0.9)]),
    st.sampled_from([1, 3, 100]),
)
def test_it_agrees_with_select_whatever_the_block(seed: int, rule: NegativeRule, block: int) -> None:
    g = torch.Generator().manual_seed(seed)
    z, positive, n = (normalize(torch.randn(rows, 4, generator=g), dim=1) for rows in (7, 7, 30))
    mined = mine_pairs(3 * z, positive, 0.5 * n, None, rule, negatives=4, block=block)
    s = similarities(z, positive, n, torch.zeros(7, 30, dtype=torch.bool))
    chosen = select(s, AugmentedView(), rule)
    for anchor in range(7):
        kept = [j for j in range(30) if chosen.negative_weight[anchor, j] > 0]
        assert keys_of(mined, anchor) == sorted(kept, key=lambda j: -float(s.anchor_keys[anchor, j]))[:4]
    assert mined.report.counts["hard"] == int((chosen.band == Band.HARD).sum())


def test_a_random_pick_is_seeded_and_of_the_kept() -> None:
    g = torch.Generator().manual_seed(0)
    z, n = torch.randn(5, 4, generator=g), torch.randn(200, 4, generator=g)
    rule = CosineBand(above=0.0, by="anchor")
    draws = [mine_pairs(z, z, n, None, rule, pick="random", seed=seed).pairs for seed in (0, 0, 1)]
    assert draws[0].equals(draws[1]) and not draws[0].equals(draws[2])
    assert (draws[0]["cosine"] >= 0).all() and (draws[0].groupby("anchor").size() == 10).all()


def test_arrays_lists_and_half_precision_are_taken() -> None:
    z, n = at(0, 90), at(10, 50, 100)
    wanted = mine_pairs(z, z, n, negatives=2).pairs
    assert mine_pairs(z.numpy(), z.tolist(), np.asarray(n), negatives=2).pairs.equals(wanted)  # type: ignore[arg-type]
    assert keys_of(mine_pairs(z.half(), z.half(), n.half(), negatives=2)) == [0, 1]


@pytest.mark.parametrize("scale", [1e25, 1e-30, 1e38])
def test_the_length_of_vectors_does_not_matter(scale: float) -> None:
    z, positive, n = at(0), at(5), at(20, 30, 170)
    plain, scaled = mine_pairs(z, positive, n), mine_pairs(scale * z, scale * positive, scale * n)
    assert scaled.pairs["cosine"].tolist() == pytest.approx(plain.pairs["cosine"].tolist(), abs=1e-6)
    far = mine_pairs(z.double().numpy() * 1e-200, positive, n.double().numpy() * 1e200)
    assert far.pairs["cosine"].tolist() == pytest.approx(plain.pairs["cosine"].tolist(), abs=1e-6)


def test_ids_reach_a_rule_that_reads_them() -> None:
    @dataclass(frozen=True)
    class DropsEven(NegativeRule):
        reads = frozenset({"ids"})

        def judge(self, s: Similarities, context: Context) -> torch.Tensor:
            assert s.ids is not None and s.ids[0].tolist() == [7]
            return torch.where(s.ids[1] % 2 == 0, Band.OTHER, Band.POTENTIAL).to(torch.int8).expand(s.own.shape)

    mined = mine_pairs(at(0), at(1), at(10, 20, 30), None, DropsEven(), negatives=3, ids=([7], [2, 3, 4]))
    assert keys_of(mined) == [1]


def test_anchors_that_a_rule_leaves_out_are_counted() -> None:
    rule = DifficultAnchors(min_cosine=0.9, tolerated=0.5)
    mined = mine_pairs(at(0, 90), at(1, 91), at(5, 10, 15, 180), None, rule, negatives=4)
    assert keys_of(mined, 0) == [] and len(keys_of(mined, 1)) == 4
    assert mined.report.left_out == 1 and "1 anchor has the weight 0 by the negative rule" in str(mined.report)
    alone = mine_pairs(at(90), at(91), at(5, 10, 15, 180), None, rule, negatives=4).report
    assert alone.left_out == 0 and "no weight" not in str(alone)


@pytest.mark.parametrize(
    ("positive_rule", "negative_rule", "loosen"),
    [
        (None, RandomNegatives(share=0.2), ("RandomNegatives(share=…)",)),
        (None, RingNegatives(inner=0.4, outer=0.5), ("RingNegatives(inner, outer=…)",)),
        (NearestKeys(k=5, weighting="uniform"), AllNegatives(), ("NearestKeys(k=…)",)),
        (EveryKey(), AllNegatives(), ("EveryKey",)),
        (None, MarginBand(relative=0.9), ("MarginBand(relative=…)",)),
    ],
    ids=str,
)
def test_what_to_loosen_is_a_setting_that_drops_keys(
    positive_rule: PositiveRule | None, negative_rule: NegativeRule, loosen: tuple[str, ...]
) -> None:
    corpus = at(*range(10, 130, 10))
    mined = mine_pairs(at(0), at(45), corpus, positive_rule, negative_rule, negatives=10)
    assert mined.report.short == 1 and mined.report.loosen == loosen


# --- the faults that were reported of sentence-transformers' mine_hard_negatives


def test_a_relative_margin_below_a_negative_score_drops_what_is_closer() -> None:
    """#3819, #3821: s ≤ 0.9·s⁺ keeps closer keys where s⁺ is negative."""
    anchor, positive = at(0), at(120)  # a cosine of −0.5: keys must stay below −0.55
    mined = mine_pairs(anchor, positive, at(119, 121, 122, 124, 150), None, MarginBand(relative=0.9), negatives=5)
    assert keys_of(mined) == [3, 4]


def test_the_positive_is_never_a_candidate_and_never_dropped_by_its_own_rule() -> None:
    """#3817: the positive stands in the corpus, and a margin of 0 or a rank band meets it first."""
    corpus = at(5, 20, 40)
    for rule in (MarginBand(margin=0.0), RankBand(drop_closest=0.0, keep_within=1.0), AllNegatives()):
        mined = mine_pairs(at(0), at(5), corpus, None, rule, negatives=2)
        assert keys_of(mined) == [1, 2] and mined.report.counts["own"] == 1
    by_id = mine_pairs(at(0), at(6), corpus, negatives=2, ids=(torch.tensor([7]), torch.tensor([7, 1, 2])))
    assert keys_of(by_id) == [1, 2], "also where it is not equal to the positive"


@pytest.mark.parametrize("block", [1, 2, None])
def test_no_positive_of_an_anchor_is_a_negative_in_another_of_its_rows(block: int | None) -> None:
    """An anchor with two positives stands in two rows; between them is an anchor of other positives."""
    anchors, positives, corpus = at(0, 20, 0), at(5, 12, 10), at(5, 10, 41, 50, 0)
    mined = mine_pairs(anchors, positives, corpus, negatives=5, block=block)
    assert [keys_of(mined, anchor) for anchor in range(3)] == [[2, 3], [1, 0, 4, 2, 3], [2, 3]]
    assert mined.report.counts["own"] == 6


def test_the_positive_is_no_candidate_whatever_its_id() -> None:
    mined = mine_pairs(at(0), at(5), at(5, 10, 40), negatives=2, ids=(torch.tensor([7]), torch.tensor([1, 7, 3])))
    assert keys_of(mined) == [2], "key 0 is the positive, key 1 has the anchor's id"


def test_memory_grows_with_the_block_and_not_with_the_anchors(monkeypatch: pytest.MonkeyPatch) -> None:
    """#3816: no matrix of all anchors by all keys."""
    from cltools.interop import pairs

    widest: list[int] = []
    compare = pairs.similarities

    def counted(z: torch.Tensor, *more: Any, **named: Any) -> Similarities:
        widest.append(len(z))
        return compare(z, *more, **named)

    monkeypatch.setattr(pairs, "similarities", counted)
    monkeypatch.setattr(pairs, "PAIRS", 1000)
    mine_pairs(torch.randn(50, 3), torch.randn(50, 3), torch.randn(100, 3), negatives=2)
    assert max(widest) == 10 and sum(widest) == 50


MEASURED = """
import resource, numpy as np
from cltools import RankBand
from cltools.interop import mine_pairs
z, n = (np.random.default_rng(0).standard_normal((rows, 128), dtype=np.float32) for rows in ({anchors}, {keys}))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
before = peak()
mine_pairs(z, z + 0.1, n, None, RankBand(0.001, 0.1, by="anchor"))
print(peak() - before, peak())
"""


def memory_of(anchors: int, keys: int) -> tuple[float, float]:
    """MiB that mining takes above its vectors, and MiB in all."""
    script = MEASURED.format(anchors=anchors, keys=keys)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    above, peak = map(float, done.stdout.split())
    return above, peak


@pytest.mark.slow
def test_memory_is_bounded_as_measured() -> None:
    """#3816: the cosines of 4,000 anchors with 50,000 keys alone would take 763 MiB.

    What a process had at its most before is not counted, and now and then that is more than is needed.
    """
    assert memory_of(4000, 50_000)[0] < 700


@pytest.mark.nightly
def test_a_large_corpus_is_mined_within_2_gib(capsys: pytest.CaptureFixture[str]) -> None:
    """Its cosines alone would take 15 GiB."""
    above, peak = memory_of(20_000, 200_000)
    with capsys.disabled():
        print(f"\n20,000 anchors, 200,000 keys: {above:.0f} MiB above the vectors, {peak:.0f} MiB in all")
    assert peak < 2048


def test_of_a_window_of_ranks_smaller_than_what_is_asked_the_report_says_what_to_loosen() -> None:
    """#3904."""
    corpus, rule = torch.randn(30, 2), RankBand(drop_closest=0.1, keep_within=0.2)
    mined = mine_pairs(at(0), at(1), corpus, None, rule, negatives=4)
    assert "fewer than the 4 negatives asked for. Loosen RankBand(keep_within=…)" in str(mined.report)
    for wanted in (3, 4):
        assert len(keys_of(mine_pairs(at(0), at(1), corpus, None, rule, negatives=wanted))) == 3


def test_every_candidate_of_the_corpus_is_looked_at() -> None:
    """#3872: an approximate search returns too few; here the only key that fits is the last in rank."""
    corpus = torch.cat([at(*np.linspace(1, 30, 500).tolist()), at(80)])
    assert keys_of(mine_pairs(at(0), at(2), corpus, None, CosineBand(above=None, below=0.5), negatives=1)) == [500]


@pytest.mark.parametrize(
    "rule", [LearnedThreshold(start=0.0), DifficultAnchors(min_cosine=0.2, anchor_weight=0.3), SoftenedBand()]
)
def test_in_chunks_gradients_and_what_is_learned_are_those_of_the_whole(rule: NegativeRule) -> None:
    """#3862: a loss whose chunks gave other gradients, without a word."""
    g = torch.Generator().manual_seed(0)
    given, positive, n = (normalize(torch.randn(rows, 8, generator=g), dim=1) for rows in (10, 10, 60))
    ids = torch.arange(10), 100 + torch.arange(60)
    state = rule.new_state(ids[0], torch.device("cpu"))
    if state is not None:
        state["threshold"].copy_(torch.linspace(-0.2, 0.6, 10))
    found: list[tuple[torch.Tensor, torch.Tensor, Any]] = []
    for chunk in (None, 3):
        z, seen = given.clone().requires_grad_(), list[Selection]()
        losses = contrastive_loss(
            z, positive, n, AugmentedView(), rule, LossSettings(), ids=ids, state=state, chunk=chunk,
            observe=lambda s, selection, seen=seen: seen.append(selection),
        )  # fmt: skip
        loss = mean_over_anchors(losses, [each.anchor_weight for each in seen])
        measured = [each.measured for each in seen if each.measured is not None]
        loss.backward()
        assert z.grad is not None
        found.append((loss.detach(), z.grad, torch.cat(measured) if measured else None))
    (loss, gradient, learned), (again, in_chunks, in_turn) = found
    assert torch.allclose(loss, again, atol=1e-6) and torch.allclose(gradient, in_chunks, atol=1e-6)
    assert (learned is None) == (state is None) and (learned is None or torch.equal(learned, in_turn))


def test_nothing_is_remembered_between_calls() -> None:
    """#3871: a cache whose key left out what decides the embeddings."""
    corpus = at(10, 20, 30)
    first = keys_of(mine_pairs(at(0), at(1), corpus, negatives=1))
    corpus.copy_(corpus.flip(0))
    assert (first, keys_of(mine_pairs(at(0), at(1), corpus, negatives=1))) == ([0], [2])


def test_an_anchor_without_negatives_is_counted_and_not_made_up_for() -> None:
    """#3279: it is said how many candidates each edge dropped, and what to loosen."""
    mined = mine_pairs(at(0, 90), at(1, 91), at(2, 3), None, MarginBand(margin=0.5), negatives=1)
    assert keys_of(mined, 0) == [] and keys_of(mined, 1) == [1]
    assert mined.report.short == 1 and mined.report.loosen == ("MarginBand(margin=…)",)


# --- arguments of theirs, and what is refused


def theirs(
    z: np.ndarray, positive: np.ndarray, corpus: np.ndarray, count: int, range_min: int = 0,
    range_max: int | None = None, max_score: float | None = None, min_score: float | None = None,
    absolute_margin: float | None = None, relative_margin: float | None = None,
) -> list[list[int]]:  # fmt: skip
    """The candidate search of mine_hard_negatives, in our own words; each positive stands in the corpus once."""
    cuts = (absolute_margin, relative_margin, max_score)
    if range_max is None:
        range_max = range_min + 1 + count * (1 if all(cut is None for cut in cuts) else 10)
    found = []
    assert range_max + 1 <= len(corpus), "more than all of them is an error there: one place is the positive's"
    for anchor, own in zip(z, positive, strict=True):
        score, known = corpus @ anchor, float(anchor @ own)
        ranked = [int(key) for key in np.argsort(-score, kind="stable")[: range_max + 1]]
        kept = []
        for key in ranked:
            dropped = (
                np.array_equal(corpus[key], own)
                or (absolute_margin is not None and score[key] + absolute_margin > known)
                or (relative_margin is not None and score[key] > known - abs(known) * relative_margin)
                or (max_score is not None and score[key] > max_score)
                or (min_score is not None and score[key] < min_score)
            )
            if not dropped:
                kept.append(key)
        # ranks are those of what no other edge dropped, which matters for a band of ranks alone
        found.append(kept[range_min:range_max][:count])
    return found


def arguments_of(rule: NegativeRule, keys: int) -> dict[str, Any]:
    """Arguments with which sentence-transformers' function has a rule's candidates, keys on an edge aside."""
    unranked = {"range_max": keys - 1}  # without it the function looks only at the closest few (its issue 3872)
    if isinstance(rule, RankBand):
        closest, last = rank_count(rule.drop_closest, keys), rank_count(rule.keep_within, keys)
        return {"range_min": closest, "range_max": min(last, keys - 1)}
    if isinstance(rule, CosineBand):
        return unranked | {"max_score": rule.below, "min_score": rule.above}
    if isinstance(rule, MarginBand):
        margin = {"absolute_margin": rule.margin} if rule.relative is None else {"relative_margin": 1 - rule.relative}
        return unranked | margin
    return unranked


@pytest.mark.parametrize(
    "rule",
    [
        RankBand(drop_closest=0.01, keep_within=0.1, by="anchor"),
        CosineBand(above=None, below=0.3, by="anchor"),
        CosineBand(above=0.1, below=None, by="anchor"),
        MarginBand(margin=0.5),
        MarginBand(relative=0.5),
        AllNegatives(),
    ],
    ids=str,
)
def test_mine_hard_negatives_has_the_same_candidates_by_these_arguments(rule: NegativeRule) -> None:
    g = np.random.default_rng(0)

    def unit(rows: np.ndarray) -> np.ndarray:
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    z, n = unit(g.standard_normal((20, 16))), unit(g.standard_normal((2000, 16)))
    positive = unit(z + 0.1 * g.standard_normal((20, 16)))
    corpus = np.concatenate([n, positive])
    mined = mine_pairs(z, positive, corpus, None, rule, negatives=3)
    expected = theirs(z, positive, corpus, 3, **arguments_of(rule, len(corpus)))
    assert [keys_of(mined, anchor) for anchor in range(20)] == expected and all(expected)


@dataclass(frozen=True)
class ReadsIds(AllNegatives):
    reads = frozenset({"ids"})


USUAL: dict[str, Any] = {"anchors": at(0), "positives": at(1), "corpus": at(10, 20), "negatives": 1}


def as_it_is(function: Any) -> Any:
    """A function without the run-time types of the tests."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"corpus": torch.randn(5, 3)}, r"corpus are \[1, 2\], \[1, 2\] and \[5, 3\]; give .* one d for all"),
        ({"positives": torch.randn(2, 2)}, r"\[1, 2\], \[2, 2\] and .*; give as many positives as anchors"),
        (
            {"corpus": torch.tensor([[1.0, 0.0], [0.0, 0.0]])},
            "1 of 2 rows of corpus are all zeros.*: 1. Leave them out",
        ),
        ({"anchors": torch.tensor([[math.nan, 0.0]])}, "1 of 1 rows of anchors hold numbers that are not finite.*: 0"),
        ({"anchors": torch.randn(2)}, r"anchors are torch.float32 \[2\]; give real numbers \[rows, d\]"),
        ({"anchors": np.array([[1 + 2j, 0]])}, "anchors are torch.complex128 .*; give real numbers"),
        ({"corpus": np.array([[True, False]])}, "corpus are torch.bool .*; give real numbers"),
        ({"negatives": 0}, "negatives is 0"),
        ({"block": 0}, "block is 0"),
        ({"negative_rule": LearnedThreshold()}, "learns a state per image while training"),
        ({"negative_rule": MixedNegatives()}, "MixedNegatives .* makes new ones"),
        ({"negative_rule": Debiased()}, "Debiased estimates the mass"),
        ({"negative_rule": HardnessWeighted(tau_plus=0.0)}, "HardnessWeighted estimates the mass"),
        ({"ids": ([1, 2], [3, 4])}, r"ids are .* \[2\] and .* \[2\]; give whole numbers, of the 1 anchors"),
        ({"ids": torch.tensor([7, 8])}, "ids must be a pair: ids="),
        ({"ids": ([1.5], [3.0, 4.0])}, "ids are torch.float32 .*; give whole numbers"),
        ({"labels": ([1], [3])}, r"labels are .*; give whole numbers, of the 1 anchors and of the 2 keys"),
        ({"negative_rule": ReadsIds()}, r"ReadsIds reads ids, which .* give ids="),
        ({"negative_rule": OracleNegatives()}, "Give labels="),
    ],
)
def test_what_cannot_be_mined_is_refused_in_words(given: dict[str, object], named: str) -> None:
    """In the function itself, as it is without the run-time types of the tests."""
    with pytest.raises(ValueError, match=named):
        as_it_is(mine_pairs)(**(USUAL | given))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"positive_rule": RankBand(), "negative_rule": AugmentedView()}, "A positive rule .* is of type RankBand"),
        ({"positive_rule": RankBand()}, "A positive rule .* is of type RankBand"),
        ({"negative_rule": RankBand}, "A negative rule .* is the class RankBand"),
    ],
)
def test_what_is_no_rule_is_refused_in_words(given: dict[str, object], named: str) -> None:
    with pytest.raises(TypeError, match=named):
        as_it_is(mine_pairs)(**(USUAL | given))


def test_an_unknown_pick_is_refused_in_words() -> None:
    given = {"positive_rule": AugmentedView(), "negative_rule": AllNegatives(), "keys": 2, "negatives": 1}
    with pytest.raises(ValueError, match=r"Unknown pick 'top'.*closest, random"):
        as_it_is(pairs_of)([], **given, pick="top", draws=torch.Generator())


def test_a_rule_that_makes_negatives_without_reading_vectors_is_refused_when_it_mines() -> None:
    @dataclass(frozen=True)
    class MakesOnes(AllNegatives):
        def synthesise(self, s: Similarities, kept: torch.Tensor, context: Context) -> torch.Tensor:
            return torch.ones(len(kept), 1, 2)

    with pytest.raises(ValueError, match=r"MakesOnes .* makes new ones"):
        mine_pairs(at(0), at(1), at(10, 20), None, MakesOnes(), negatives=1)


def test_tensors_with_gradients_are_taken() -> None:
    z, n = at(0).requires_grad_(), at(10, 20).requires_grad_()
    assert keys_of(mine_pairs(z, z + 0.1, n, negatives=2)) == [0, 1]


@pytest.mark.gpu
def test_tensors_on_the_gpu_are_taken() -> None:
    z, n, ids, labels = at(0, 90), at(10, 20, 80), torch.arange(2), torch.arange(3)
    given = (z, z, n), (ids, labels)
    on_cpu, on_gpu = (
        mine_pairs(
            *(x.to(device) for x in given[0]), None, OracleNegatives(), negatives=2,
            ids=(ids.to(device), labels.to(device)), labels=(ids.to(device), labels.to(device)),
        )
        for device in ("cpu", "cuda")
    )  # fmt: skip
    assert on_gpu.pairs.equals(on_cpu.pairs)


@pytest.mark.parametrize("given", [{"labels": [0, 1, 0]}, {"ids": np.arange(3)}, {"labels": ([0, 1, 0],)}, {"ids": 5}])
def test_ids_and_labels_are_pairs(given: dict[str, Any], unchecked: None) -> None:
    z = torch.eye(3)
    with pytest.raises(CltoolsError, match=rf"{next(iter(given))} must be a pair: \w+=\(of the anchors, of the keys\)"):
        mine_pairs(z, z, z, negatives=1, **given)
