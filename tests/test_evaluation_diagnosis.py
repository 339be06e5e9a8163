"""Shares with their intervals, and what a selection took, against plain Python loops, closed forms and simulation."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings, strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from cltools.evaluation import (
    Diagnosis,
    Share,
    diagnose,
    diagnosis,
    hubness,
    mined_purity_by_k,
    same_class_by_rank,
    self_hits,
    share_of,
)
from cltools.evaluation.diagnosis import CLOSE_TO, closest
from cltools.evaluation.intervals import Z, student, wilson
from cltools.mining import (
    AllNegatives,
    AugmentedView,
    Band,
    HardnessWeighted,
    NearestKeys,
    NegativeRule,
    OracleNegatives,
    PositiveRule,
    RandomNegatives,
    RankBand,
    Selection,
    Similarities,
    SoftenedBand,
    select,
    similarities,
)
from cltools.queue import Queue

seeds = st.integers(0, 2**31)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ints(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


# Shares and their intervals


@st.composite
def counted(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Hits and counts of some anchors, among them anchors without a pair."""
    counts = draw(st.lists(st.integers(0, 30), max_size=12))
    hits = [draw(st.integers(0, count)) for count in counts]
    return ints(*hits), ints(*counts)


@given(counted())
def test_a_share_is_that_of_all_pairs_inside_its_interval(pairs: tuple[Tensor, Tensor]) -> None:
    hits, counts = pairs
    share = share_of(hits, counts)
    assert share.count == sum(counts.tolist())
    if not share.count:
        assert math.isnan(share.value) and math.isnan(share.low) and math.isnan(share.high)
        return
    assert share.value == sum(hits.tolist()) / share.count
    assert 0 <= share.low <= share.value <= share.high <= 1 and share.low < share.high


@given(counted())
def test_the_interval_is_that_of_the_residuals_of_a_loop(pairs: tuple[Tensor, Tensor]) -> None:
    hits, counts = pairs
    share = share_of(hits, counts)
    live = [(h, c) for h, c in zip(hits.tolist(), counts.tolist(), strict=True) if c]
    assume(share.value not in (0, 1) and len(live) > 1)
    squares = math.fsum((h - share.value * c) ** 2 for h, c in live)
    variance = len(live) / (len(live) - 1) * squares / share.count**2 * (student(len(live) - 1) / Z) ** 2
    spread = share.value * (1 - share.value)
    n = min(share.count, spread / variance) if variance else share.count
    assert (share.low, share.high) == pytest.approx(wilson(share.value, n), abs=1e-9)


@given(value=st.floats(0, 1), n=st.floats(0.5, 1e7))
def test_wilsons_ends_are_as_far_from_the_share_as_their_own_deviation_says(value: float, n: float) -> None:
    for end in wilson(value, n):
        assert 0 <= end <= 1
        assert (end - value) ** 2 == pytest.approx(Z**2 * end * (1 - end) / n, abs=1e-9)


def test_wilson_closed_forms() -> None:
    assert wilson(0, 10) == (0, pytest.approx(Z**2 / (10 + Z**2)))
    assert wilson(1, 10) == (pytest.approx(10 / (10 + Z**2)), 1)
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=5e-5)  # a textbook's


@pytest.mark.parametrize(
    ("freedom", "point"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (5, 2.5706), (10, 2.2281), (30, 2.0423), (1000, 1.9623)],
)
def test_students_points_are_the_tables(freedom: int, point: float) -> None:
    assert student(freedom) == pytest.approx(point, rel=0.01) and student(freedom) > Z


def test_a_share_of_none_or_all_has_an_interval_as_of_one_pair_an_anchor() -> None:
    none, all_of_them = share_of(ints(0, 0, 0, 0), ints(9, 3, 0, 5)), share_of(ints(9, 3, 0, 5), ints(9, 3, 0, 5))
    assert none == Share(0.0, 0.0, wilson(0, 3)[1], 17)
    assert all_of_them == Share(1.0, wilson(1, 3)[0], 1.0, 17)


def test_a_single_anchor_says_as_much_as_one_pair() -> None:
    share = share_of(ints(0, 30), ints(0, 100))
    assert (share.low, share.high) == wilson(0.3, 1) and share.high - share.low > 0.7


def test_anchors_that_agree_exactly_are_trusted_as_far_as_their_pairs_go() -> None:
    share = share_of(ints(1, 2, 3), ints(10, 20, 30))
    assert (share.low, share.high) == wilson(0.1, 60)


def test_nothing_counted_is_nan() -> None:
    for hits, counts in ((ints(), ints()), (ints(0, 0), ints(0, 0))):
        share = share_of(hits, counts)
        assert math.isnan(share.value) and math.isnan(share.low) and share.count == 0 and str(share) == "none"


def test_more_pairs_of_the_same_kind_teach_nothing_and_more_anchors_do() -> None:
    hits, counts = ints(1, 4, 0, 7, 2, 9), ints(10, 10, 5, 10, 8, 10)
    once, copied = share_of(hits, counts), share_of(50 * hits, 50 * counts)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    often = share_of(hits.repeat(50), counts.repeat(50))
    assert often.value == once.value and often.high - often.low < (once.high - once.low) / 6


def clustered(anchors: int, mean: float, correlation: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Anchors with a share each, Beta-distributed as the number of successes among `scale` urns, and 1 to 30 pairs."""
    scale = (1 - correlation) / correlation
    part = [
        torch._standard_gamma(torch.full((anchors,), a * scale, dtype=torch.double), generator=generator)
        for a in (mean, 1 - mean)
    ]
    shares = part[0] / (part[0] + part[1])
    counts = torch.randint(1, 31, (anchors,), generator=generator)
    drawn = torch.rand(anchors, 30, generator=generator, dtype=torch.double) < shares[:, None]
    return (drawn & (torch.arange(30) < counts[:, None])).sum(1), counts


@pytest.mark.parametrize("mean", [0.1, 0.5])
def test_the_interval_covers_where_one_over_pairs_does_not(mean: float) -> None:
    generator, covered, naive, rounds = seeded(1), 0, 0, 1000
    for _ in range(rounds):
        share = share_of(*clustered(150, mean, 0.2, generator))
        covered += share.low <= mean <= share.high
        low, high = wilson(share.value, share.count)
        naive += low <= mean <= high
    assert 0.925 <= covered / rounds <= 0.97
    assert naive / rounds < 0.75


# What is close


@st.composite
def ranked(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, own and same class of some anchors with some keys; half of the time with many equal scores."""
    anchors, keys, generator = draw(st.integers(1, 5)), draw(st.integers(0, 25)), seeded(draw(seeds))
    score = torch.randn(anchors, keys, generator=generator)
    if draw(st.booleans()):
        score = score.round()
    own = torch.rand(anchors, keys, generator=generator) < draw(st.sampled_from((0.0, 0.2, 1.0)))
    same = (torch.rand(anchors, keys, generator=generator) < 0.4) | own
    return score, own, same


def order_by_hand(score: list[float], own: list[bool]) -> list[int]:
    return sorted((j for j in range(len(score)) if not own[j]), key=lambda j: -score[j])


def shares_by_hand(ranked: tuple[Tensor, Tensor, Tensor], spans: list[tuple[int, int]]) -> list[Share]:
    """P(same class) among the ranks of each span, anchor by anchor."""
    score, own, same = (tensor.tolist() for tensor in ranked)
    shares = []
    for a, b in spans:
        taken = [[row[j] for j in order_by_hand(x, o)[a:b]] for x, o, row in zip(score, own, same, strict=True)]
        shares.append(share_of(ints(*map(sum, taken)), ints(*map(len, taken))))
    return shares


def equal(found: tuple[Share, ...], expected: list[Share]) -> bool:
    return str(list(found)) == str(expected)  # as text, because NaN is not NaN


@given(ranked(), st.lists(st.floats(0, 1), min_size=2, max_size=5, unique=True).map(sorted))
def test_same_class_by_rank_agrees_with_a_loop(case: tuple[Tensor, Tensor, Tensor], shares: list[float]) -> None:
    edges = [math.floor(share * case[0].shape[1] + 0.5) for share in shares]
    assert equal(same_class_by_rank(*case, shares), shares_by_hand(case, list(pairwise(edges))))


@given(ranked(), st.lists(st.integers(1, 40), max_size=4))
def test_purity_by_k_agrees_with_a_loop(case: tuple[Tensor, Tensor, Tensor], ks: list[int]) -> None:
    score, own, same = case
    score = score + torch.arange(score.shape[1]) * -1e-3  # top-k takes any of equals
    assert equal(mined_purity_by_k(score, own, same, ks), shares_by_hand((score, own, same), [(0, k) for k in ks]))


def test_ranks_in_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    score, own = torch.randn(7, 20, generator=seeded()), torch.eye(7, 20, dtype=torch.bool)
    same = torch.rand(7, 20, generator=seeded(1)) < 0.3
    whole = same_class_by_rank(score, own, same, diagnosis.RANK_SHARES)
    monkeypatch.setattr(diagnosis, "CELLS", 45)  # two rows at a time
    assert equal(same_class_by_rank(score, own, same, diagnosis.RANK_SHARES), list(whole))


def test_closeness_that_is_the_class_is_a_step() -> None:
    same = torch.zeros(4, 10, dtype=torch.bool)
    same[:, :3] = True
    none = torch.zeros_like(same)
    near, far = same_class_by_rank(same.float(), none, same, (0, 0.3, 1))
    assert (near.value, near.count, far.value, far.count) == (1, 12, 0, 28)
    assert [share.value for share in mined_purity_by_k(same.float(), none, same, (1, 3, 6))] == [1, 1, 0.5]


# Keys


@given(ranked(), st.integers(1, 30))
def test_the_closest_are_those_of_a_loop(case: tuple[Tensor, Tensor, Tensor], k: int) -> None:
    score, own, _ = case
    score = score + torch.arange(score.shape[1]) * -1e-3
    rows = zip(score.tolist(), own.tolist(), strict=True)
    assert closest(score, own, k).tolist() == [j for x, o in rows for j in order_by_hand(x, o)[:k]]


@given(st.lists(st.integers(0, 6), max_size=40))
def test_hubness_is_the_moment_of_a_loop(chosen: list[int]) -> None:
    found = hubness(ints(*chosen), 7)
    counts = [chosen.count(key) for key in range(7)]
    mean = sum(counts) / 7
    variance = sum((c - mean) ** 2 for c in counts) / 7
    assert (found.largest, found.mean) == (max(counts), pytest.approx(mean))
    assert found.never == pytest.approx(counts.count(0) / 7)
    if variance:
        assert found.skew == pytest.approx(sum((c - mean) ** 3 for c in counts) / 7 / variance**1.5)
    else:
        assert math.isnan(found.skew)


def test_one_hub_that_all_choose_has_the_largest_skew() -> None:
    found = hubness(torch.full((12, 1), 3), 50)
    assert found.skew == pytest.approx(48 / 7) and found.largest == 12 and found.never == pytest.approx(49 / 50)


def test_hubness_without_keys_is_nan() -> None:
    found = hubness(torch.zeros(4, 0, dtype=torch.int64), 0)
    assert math.isnan(found.skew) and math.isnan(found.never) and math.isnan(found.mean) and found.largest == 0


def test_choosing_by_chance_has_the_skew_and_the_rest_said() -> None:
    found = hubness(torch.randint(0, 2000, (1000, 8), generator=seeded()), 2000)
    assert found.mean == 4 and found.skew == pytest.approx(4**-0.5, abs=0.15)
    assert found.never == pytest.approx(math.exp(-4), abs=0.01)


def test_vectors_of_many_dimensions_have_hubs_and_of_few_have_not() -> None:
    """Radovanović et al., JMLR 2010, figure 1: the skew grows with the dimension."""
    skews = []
    for dim in (3, 100):
        x = torch.randn(1000, dim, generator=seeded())
        skews.append(hubness(closest(-torch.cdist(x, x), torch.eye(1000, dtype=torch.bool), 5), 1000).skew)
    assert skews[0] < 1 and skews[1] > 3


def test_self_hits_count_anchors_and_not_keys() -> None:
    own = torch.tensor([[True, True, False], [False, False, False], [False, False, True], [False, False, False]])
    share = self_hits(own)
    assert share.value == 0.5 and share.count == 4 and 0 < share.low < 0.5 < share.high < 1


def expected_self_hits(queue_size: int, images: int) -> float:
    """Chance that an anchor meets a key of its own image: epochs newly shuffled, a full queue, small batches."""
    part = min(queue_size / images, 2)
    return part**2 / 2 if part <= 1 else 1 - (2 - part) ** 2 / 2


@pytest.mark.parametrize("queue_size", [60, 120, 240, 360, 480, 500])
def test_self_hits_happen_as_often_as_expected(queue_size: int) -> None:
    images, batch, generator = 240, 4, seeded()
    queue, hits, anchors = Queue(queue_size, 1), 0, 0
    for epoch in range(16):
        for ids in torch.randperm(images, generator=generator).split(batch):
            if epoch >= 4:  # the queue is full
                hits += int((ids[:, None] == queue.ids).any(1).sum())
                anchors += batch
            queue.enqueue(torch.zeros(batch, 1), ids, ids)
    assert hits / anchors == pytest.approx(expected_self_hits(queue_size, images), abs=0.02)


# The whole


def compared(anchors: int = 40, keys: int = 90, classes: int = 4, seed: int = 0) -> Similarities:
    """Noisy classes on the sphere; some keys are of the anchors' own images."""
    generator = seeded(seed)
    centres = torch.randn(classes, 16, generator=generator)
    labels, key_labels = (torch.randint(0, classes, (n,), generator=generator) for n in (anchors, keys))
    ids, key_ids = torch.arange(anchors), torch.randint(0, 4 * anchors, (keys,), generator=generator)
    own_place = key_ids < anchors
    key_labels[own_place] = labels[key_ids[own_place]]

    def views(of: Tensor) -> Tensor:
        return normalize(centres[of] + 2 * torch.randn(len(of), 16, generator=generator), dim=1)

    return similarities(
        views(labels),
        views(labels),
        views(key_labels),
        ids[:, None] == key_ids,
        same_class=labels[:, None] == key_labels,
    )


MINING = NearestKeys(k=4, min_weight="mean", start=0, ramp=0)


def chosen(s: Similarities, rule: NegativeRule | None = None, positives: PositiveRule = MINING) -> Selection:
    return select(s, positives, rule or RankBand(0.05, 0.5), generator=seeded())


def mean_of(tensor: Tensor) -> float:
    return float(tensor.double().mean())


def among(pairs: list[tuple[bool, bool]]) -> float:
    """Share of the marked among the counted, of (counted, marked)."""
    marks = [marked for counted, marked in pairs if counted]
    return sum(marks) / len(marks)


@pytest.mark.parametrize("seed", range(3))
def test_a_diagnosis_agrees_with_a_loop(seed: int) -> None:
    s = compared(seed=seed)
    selection = chosen(s)
    d = diagnose(s, selection)
    assert s.same_class is not None and s.positive_keys is not None
    bands, same, own = (t.flatten().tolist() for t in (selection.band, s.same_class, s.own))
    assert (d.anchors, d.keys) == (40, 90) and 0 < d.bands[Band.OWN].keys < 2
    assert d.base_rate.value == among([(not o, c) for o, c in zip(own, same, strict=True)])
    for band in Band:
        held = d.bands[band]
        assert held.keys == pytest.approx(bands.count(band) / 40) and held.share == pytest.approx(held.keys / 90)
        if band in bands:
            assert held.same_class.value == among([(b == band, c) for b, c in zip(bands, same, strict=True)])
            assert held.same_class.count == bands.count(band)
        else:
            assert math.isnan(held.same_class.value)
    dropped = [(c and not o, b != Band.POTENTIAL) for o, c, b in zip(own, same, bands, strict=True)]
    assert d.recall.value == among(dropped)
    assert d.false_negative_share == d.bands[Band.POTENTIAL].same_class and d.false_negative_share.count > 0
    assert d.mined_purity is d.bands[Band.MINED].same_class and d.mined_purity.count > 0
    assert equal(d.by_rank, list(same_class_by_rank(s.positive_keys, s.own, s.same_class, diagnosis.RANK_SHARES)))
    assert equal(d.by_k, list(mined_purity_by_k(s.positive_keys, s.own, s.same_class, diagnosis.KS)))
    assert d.hubness == hubness(closest(s.positive_keys, s.own, 10), 90) and d.hubness.mean == pytest.approx(400 / 90)
    mined = [place % 90 for place, band in enumerate(bands) if band == Band.MINED]
    assert d.mined_hubness == hubness(ints(*mined), 90)
    assert d.self_hits == self_hits(s.own)


def test_close_keys_are_of_the_anchors_class_more_often_than_the_base_rate() -> None:
    d = diagnose(s := compared(200, 300), chosen(s))
    near, middle, far = same_class_by_rank(s.positive_keys, s.own, s.same_class, (0, 0.05, 0.5, 1))
    assert near.low > d.base_rate.high and near.low > middle.high and middle.low > far.high
    assert d.by_k[0].value > d.by_k[-1].value > d.base_rate.high


def test_the_purity_of_all_k_mined_is_that_by_k() -> None:
    s = compared()
    positives = NearestKeys(k=5, start=0, ramp=0)
    d = diagnose(s, chosen(s, AllNegatives(), positives))
    assert str(d.mined_purity) == str(d.by_k[diagnosis.KS.index(5)]) and d.bands[Band.MINED].keys == 5


def test_chance_drops_the_anchors_class_as_often_as_any_other() -> None:
    s = compared(200, 400, classes=2)
    d = diagnose(s, chosen(s, RandomNegatives(0.4), AugmentedView()))
    assert d.recall.low < 0.6 < d.recall.high
    assert d.false_negative_share.low < d.base_rate.value < d.false_negative_share.high


def test_the_oracle_keeps_no_false_negative_and_recalls_all() -> None:
    s = compared()
    d = diagnose(s, chosen(s, OracleNegatives(), AugmentedView()))
    assert d.false_negative_share.value == 0 and d.false_negative_share.high > 0
    assert d.recall.value == 1 and d.bands[Band.OTHER].same_class.value == 1


def without_labels(d: Diagnosis) -> str:
    """What is left of a diagnosis when every share of classes is taken out; as text, because NaN is not NaN."""
    none = share_of(ints(), ints())
    bands = {band: replace(held, same_class=none) for band, held in d.bands.items()}
    shares = {"base_rate": none, "recall": none, "false_negative_share": none}
    return repr(replace(d, by_rank=(), by_k=(), bands=bands, **shares))


@pytest.mark.parametrize("margin", [0.01, 0.5])
def test_softened_keys_are_kept(margin: float) -> None:
    s = compared()
    assert s.same_class is not None
    softened, plain = (diagnose(s, chosen(s, rule)) for rule in (SoftenedBand(margin), AllNegatives()))
    assert softened.bands[Band.SOFTENED].keys > 0 == plain.bands[Band.SOFTENED].keys
    assert softened.recall == plain.recall and softened.false_negative_share == plain.false_negative_share
    assert str(softened).splitlines()[-4:] == str(plain).splitlines()[-4:]


@pytest.mark.parametrize("rule", [RankBand(), RandomNegatives(), AllNegatives()])
def test_labels_change_counts_of_classes_and_nothing_else(rule: NegativeRule) -> None:
    s = compared()
    assert s.same_class is not None
    others = replace(s, same_class=s.same_class.roll(1, 0)), replace(s, same_class=None)
    known, permuted, unknown = (diagnose(each, chosen(each, rule)) for each in (s, *others))
    assert repr(known) != repr(permuted)
    assert without_labels(known) == without_labels(permuted) == without_labels(unknown)


def test_without_labels_the_rest_is_still_counted() -> None:
    s = replace(compared(), same_class=None)
    d = diagnose(s, chosen(s))
    labelled = (d.base_rate, d.recall, d.false_negative_share, d.mined_purity, *d.by_rank, *d.by_k)
    assert all(math.isnan(share.value) and share.count == 0 for share in labelled)
    assert len(d.by_rank) == len(diagnosis.RANK_SHARES) - 1 and len(d.by_k) == len(diagnosis.KS)
    assert d.bands[Band.POTENTIAL].keys > 0 and d.hubness.skew > 0 and d.self_hits.count == 40
    assert "P(same class)" not in str(d) and "POTENTIAL" in str(d) and "hubs" in str(d) and "nan" not in str(d)


@given(seed=seeds, anchors=st.integers(1, 6), keys=st.integers(0, 12), owned=st.booleans(), labelled=st.booleans())
@settings(max_examples=25)
def test_few_keys_own_keys_and_none_are_ordinary(
    seed: int, anchors: int, keys: int, owned: bool, labelled: bool
) -> None:
    s = compared(anchors, keys, seed=seed)
    s = replace(s, own=torch.ones_like(s.own) if owned else s.own, same_class=s.same_class if labelled else None)
    d = diagnose(s, chosen(s))
    assert sum(held.keys for held in d.bands.values()) == pytest.approx(keys)
    assert "nan" not in str(d)


def test_close_is_by_the_positive_where_it_was_compared_or_by_what_is_given() -> None:
    s = compared()
    assert s.positive_keys is not None and s.same_class is not None
    selection = chosen(s, AllNegatives(), AugmentedView())
    for given_s, by, expected, said in (
        (s, None, s.positive_keys, "positive"),
        (replace(s, positive_keys=None), None, s.anchor_keys, "anchor"),
        (s, "anchor", s.anchor_keys, "anchor"),
        (s, "either", torch.maximum(s.anchor_keys, s.positive_keys), "either"),
    ):
        d = diagnose(given_s, selection, by=by)  # type: ignore[arg-type]
        assert d.by == said and f"similar to the {CLOSE_TO[d.by]}" in str(d)
        assert equal(d.by_k, list(mined_purity_by_k(expected, s.own, s.same_class, diagnosis.KS)))
        assert equal(d.by_rank, list(same_class_by_rank(expected, s.own, s.same_class, diagnosis.RANK_SHARES)))
        assert d.hubness == hubness(closest(expected, s.own, 10), d.keys)


def test_a_diagnosis_asks_for_no_gradient() -> None:
    anchor = normalize(torch.randn(4, 8, generator=seeded()), dim=1).requires_grad_()
    keys = normalize(torch.randn(9, 8, generator=seeded(1)), dim=1)
    s = similarities(anchor, anchor.detach(), keys, torch.zeros(4, 9, dtype=torch.bool), reads=())
    diagnose(s, chosen(s, AllNegatives(), AugmentedView()))


def full() -> Diagnosis:
    s = compared(200, 300)
    return diagnose(s, chosen(s))


def test_the_table_has_the_base_rate_on_top_and_a_line_for_all_that_holds_keys() -> None:
    d = full()
    lines = str(d).splitlines()
    assert lines[0] == "200 anchors with 300 keys each; 95 % intervals, over anchors"
    assert lines[3].startswith("base rate") and lines[3].endswith(str(d.base_rate))
    assert lines[4].startswith("rank 1–2 ") and lines[4].endswith(str(d.by_rank[1]))
    assert sum(line.startswith("rank") for line in lines) == sum(share.count > 0 for share in d.by_rank) == 8
    assert sum(line.startswith("closest") for line in lines) == len(diagnosis.KS)
    for band in Band:
        (line,) = (line for line in lines if line.startswith(band.name))
        assert line.endswith(str(d.bands[band].same_class)) and f"{d.bands[band].keys:,.1f}" in line
    signs = {line.index("%", 40) for line in lines[3:-4] if "[" in line}
    assert len(signs) == 1 and max(map(len, lines)) <= 120
    assert str(d.recall) in lines[-4] and "hubs" in lines[-3] and str(d.self_hits) in lines[-1]


def test_clamped_masses_are_reported() -> None:
    """By the formula: the sum of the negatives less τ₊ of the positive's, against its floor N·e^{−1/τ}."""
    s, tau = compared(), 0.5
    rule = HardnessWeighted(beta=0.0, tau_plus=0.7)
    selection = select(s, AugmentedView(), rule)
    clamped = 0
    for row in range(len(s.own)):
        negative = [math.exp(float(c) / tau) for c, own in zip(s.anchor_keys[row], s.own[row], strict=True) if not own]
        rest = sum(negative) - len(negative) * 0.7 * math.exp(float(s.anchor_positive[row]) / tau)
        clamped += rest / 0.3 <= len(negative) * math.exp(-1 / tau)
    found = diagnose(s, selection, temperature=tau)
    assert found.clamped is not None and 0 < clamped < len(s.own)
    assert found.clamped.value == clamped / len(s.own) and found.clamped.count == len(s.own)
    assert "anchors whose negatives' mass is clamped" in str(found)
    assert diagnose(s, selection).clamped is None, "without a temperature"
    nothing = select(s, AugmentedView(), AllNegatives())
    assert diagnose(s, nothing, temperature=tau).clamped is None, "where nothing is subtracted"
