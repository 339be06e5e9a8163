"""`select` against plain Python loops over random and adversarial similarities, and what follows for the loss."""

from dataclasses import replace
from typing import Any

import brute_force
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import Tensor

from cltools.losses import info_nce
from cltools.mining import (
    AllNegatives,
    AugmentedView,
    Band,
    CosineBand,
    Estimate,
    EveryKey,
    MarginBand,
    NearestKeys,
    NegativeRule,
    OracleNegatives,
    PositiveRule,
    RandomNegatives,
    RankBand,
    Selection,
    Similarities,
    select,
    similarities,
    terms,
)
from cltools.mining.bands import KEPT, rank_edges

quick = settings(deadline=None, derandomize=True, max_examples=60)
NOTHING_MINED = AugmentedView()


def random_similarities(seed: int, rows: int, keys: int, kind: str = "smooth", own: float = 0.1) -> Similarities:
    """Cosines drawn directly. "grid": few values, so ties and exact ±1; "equal": one value; "bf16": rounded to bf16."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        x = torch.rand(*shape, generator=g) * 2 - 1
        if kind == "grid":
            return (x * 4).round() / 4
        if kind == "equal":
            return torch.full(shape, 0.5)
        return x.bfloat16().float() if kind == "bf16" else x

    return Similarities(
        anchor_keys=draw(rows, keys),
        positive_keys=draw(rows, keys),
        anchor_positive=draw(rows),
        own=torch.rand(rows, keys, generator=g) < own,
        same_class=torch.rand(rows, keys, generator=g) < 0.3,
    )


inputs = st.builds(
    random_similarities,
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 4),
    keys=st.integers(0, 12),
    kind=st.sampled_from(["smooth", "grid", "equal", "bf16"]),
    own=st.sampled_from([0.0, 0.1, 0.6, 1.0]),
)
gates = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"min_cosine": st.sampled_from([-1.0, 0.0, 0.25, 0.7, 1.0])}),
    st.fixed_dictionaries({"min_weight": st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0, "mean"])}),
    st.fixed_dictionaries({"min_cosine": st.just(0.25), "min_weight": st.just(0.2)}),
)


strengths = st.sampled_from([0.0, 0.5, 1.0])
positive_rules = st.one_of(
    st.builds(
        lambda k, pick, gate, **more: NearestKeys(k, pick=pick if pick is None else min(pick, k), **gate, **more),
        k=st.sampled_from([1, 2, 3, 5, 20]),
        pick=st.sampled_from([None, 1, 3]),
        gate=gates,
        weighting=st.sampled_from(["softmax", "uniform"]),
        augmented_share=st.sampled_from([None, 0.0, 0.3, 0.5, 1.0]),
        temperature=st.sampled_from([0.1, 0.5, 1.0]),
        by=st.sampled_from(["positive", "anchor", "either"]),
        strength=strengths,
    ),
    st.builds(
        EveryKey,
        temperature=st.sampled_from([0.1, 0.5, 1.0]),
        augmented_share=st.sampled_from([0.0, 0.3, 1.0]),
        strength=strengths,
    ),
    st.just(AugmentedView()),
)


def edges(*values: float) -> st.SearchStrategy[list[float]]:
    """Two of the values, the smaller first."""
    return st.lists(st.sampled_from(values), min_size=2, max_size=2, unique=True).map(sorted)


rank_bands = st.builds(
    lambda e, **more: RankBand(*e, **more),
    edges(0.0, 0.02, 0.1, 0.25, 0.5, 0.7, 0.96, 1.0),
    by=st.sampled_from(["positive", "anchor", "force"]),
    rescale=st.booleans(),
)
cosine_bands = st.builds(
    lambda e, open, **more: CosineBand(
        None if open == "below" else e[0], None if open == "above" or e[1] == 1 else e[1], **more
    ),
    edges(-1.0, -0.5, -0.25, 0.0, 0.3, 0.5, 1.0),
    open=st.sampled_from(["above", "below", "neither"]),
    by=st.sampled_from(["positive", "anchor"]),
    rescale=st.booleans(),
)
margin_bands = st.builds(
    lambda top, within, rescale: MarginBand(**top, within=within, rescale=rescale),
    top=st.one_of(
        st.fixed_dictionaries({"margin": st.sampled_from([-0.5, -0.25, 0.0, 0.1, 0.25])}),
        st.fixed_dictionaries({"relative": st.sampled_from([0.0, 0.5, 0.95, 1.0, 1.5])}),
    ),
    within=st.sampled_from([None, 0.1, 0.25, 1.0]),
    rescale=st.booleans(),
)
band_rules = st.one_of(rank_bands, cosine_bands, margin_bands)


def row(values: Tensor | None, b: int) -> Any:
    return None if values is None else values[b].tolist()


def mined_mask(chosen: Selection, b: int, keys: int) -> list[bool]:
    taken = zip(row(chosen.positive_index, b), row(chosen.positive_weight, b)[1:], strict=True)
    mined = {j for j, weight in taken if weight > 0}
    return [j in mined for j in range(keys)]


def judged_row(s: Similarities, rule: NegativeRule, b: int, temperature: float) -> list[int]:
    cosines = row(s.anchor_keys, b)
    if isinstance(rule, RankBand):
        scores = brute_force.score_row(rule.by, cosines, row(s.positive_keys, b), temperature)
        return brute_force.rank_bands(scores, row(s.own, b), rule.drop_closest, rule.keep_within)
    if isinstance(rule, CosineBand):
        scores = brute_force.closeness_row(rule.by, cosines, row(s.positive_keys, b))
        return brute_force.value_bands(scores, rule.above, rule.below)
    if isinstance(rule, MarginBand):
        positive = s.anchor_positive[b].item()
        return brute_force.margin_bands(cosines, positive, rule.margin, rule.relative, rule.within)
    if isinstance(rule, OracleNegatives):
        return [brute_force.OTHER if same else brute_force.POTENTIAL for same in row(s.same_class, b)]
    return [brute_force.POTENTIAL] * s.own.shape[1]


def check_invariants(s: Similarities, chosen: Selection) -> None:
    """What holds for every selection, whatever the rules."""
    rows, keys = s.anchor_keys.shape
    candidates = chosen.positive_index.shape[1]
    assert chosen.positive_index.dtype == torch.int64
    assert chosen.positive_weight.dtype == chosen.negative_weight.dtype == torch.float32
    assert chosen.band.dtype == torch.int8
    assert chosen.positive_weight.shape == (rows, 1 + candidates)
    assert chosen.band.shape == chosen.negative_weight.shape == (rows, keys)
    assert (chosen.positive_weight >= 0).all()
    torch.testing.assert_close(chosen.positive_weight.sum(1), torch.ones(rows))
    mined = torch.tensor([mined_mask(chosen, b, keys) for b in range(rows)], dtype=torch.bool).reshape(rows, keys)
    assert ((chosen.band == Band.OWN) == s.own).all()
    assert ((chosen.band == Band.MINED) == mined).all()
    assert not (mined & s.own).any()
    assert (torch.isin(chosen.band, torch.tensor(KEPT)) == (chosen.negative_weight > 0)).all()
    tensors = (chosen.positive_weight, chosen.negative_weight)
    assert all(t.isfinite().all() and not t.requires_grad for t in tensors)


@quick
@given(s=inputs, rule=positive_rules, seed=st.integers(0, 99))
def test_positives_agree_with_the_loop(s: Similarities, rule: PositiveRule, seed: int) -> None:
    rows = len(s.anchor_keys)
    chosen = select(s, rule, AllNegatives(), generator=torch.Generator().manual_seed(seed))
    check_invariants(s, chosen)
    mines = not isinstance(rule, AugmentedView) and rule.strength > 0
    for b in range(rows):
        got, weights = row(chosen.positive_index, b), row(chosen.positive_weight, b)
        if not mines:
            assert weights == [1.0] + [0.0] * len(got)
            continue
        search = brute_force.closeness_row(
            getattr(rule, "by", "positive"), row(s.anchor_keys, b), row(s.positive_keys, b)
        )
        if search:
            brute_force.check_candidates(
                got, search, row(s.own, b), getattr(rule, "k", None), getattr(rule, "pick", None)
            )
        assert weights == pytest.approx(brute_force.mined_weights(rule, got, search, row(s.own, b)), abs=2e-6)


@quick
@given(
    s=inputs,
    positive=positive_rules,
    negative=st.one_of(
        band_rules, st.builds(OracleNegatives, rescale=st.booleans()), st.builds(AllNegatives), band_rules
    ),
    temperature=st.sampled_from([0.1, 0.2, 0.5]),
)
def test_negatives_agree_with_the_loop(
    s: Similarities, positive: PositiveRule, negative: NegativeRule, temperature: float
) -> None:
    rows, keys = s.anchor_keys.shape
    chosen = select(s, positive, negative, temperature=temperature)
    check_invariants(s, chosen)
    for b in range(rows):
        mined = mined_mask(chosen, b, keys)
        bands = brute_force.final_bands(judged_row(s, negative, b, temperature), row(s.own, b), mined)
        assert row(chosen.band, b) == bands
        weights = brute_force.negative_weights(bands, getattr(negative, "rescale", False))
        assert row(chosen.negative_weight, b) == pytest.approx(weights)


@pytest.mark.parametrize("keys", [0, 1])
@pytest.mark.parametrize("own", [0.0, 1.0])
@pytest.mark.parametrize(
    "negative", [AllNegatives(), RankBand(drop_closest=0.6, keep_within=0.9), RandomNegatives(share=0.2)]
)
def test_tiny_queues_and_all_own_keys_are_ordinary(keys: int, own: float, negative: NegativeRule) -> None:
    s = random_similarities(0, 3, keys, own=own)
    chosen = select(s, NearestKeys(weighting="uniform"), negative)
    check_invariants(s, chosen)
    if own or keys == 0:
        assert (chosen.positive_weight[:, 0] == 1).all()
        assert (chosen.negative_weight == 0).all()
    s.anchor_keys.requires_grad_()
    loss = info_nce(**terms(s, chosen), temperature=0.2)
    assert loss.isfinite()
    if loss.requires_grad:
        loss.backward()
        assert s.anchor_keys.grad is None or s.anchor_keys.grad.isfinite().all()


@pytest.mark.parametrize("form", ["sep", "in", "out"])
@pytest.mark.parametrize(
    ("positive", "negative"),
    [
        (NOTHING_MINED, AllNegatives()),
        (NearestKeys(min_weight="mean", augmented_share=1.0), AllNegatives()),
        (NearestKeys(min_weight="mean", strength=0.0), AllNegatives()),
        (NearestKeys(min_weight="mean").at(0.0), AllNegatives()),
        (NOTHING_MINED, RandomNegatives(share=1.0)),
        *((NOTHING_MINED, RankBand(drop_closest=0.0, keep_within=1.0, by=r)) for r in ("positive", "anchor", "force")),
        *((NOTHING_MINED, CosineBand(above=-1.0, below=None, by=r)) for r in ("positive", "anchor")),
        (NOTHING_MINED, RankBand(drop_closest=0.0, keep_within=1.0, rescale=True)),
    ],
)
def test_neutral_settings_are_plain_infonce(form: Any, positive: PositiveRule, negative: NegativeRule) -> None:
    g = torch.Generator().manual_seed(2)
    z, p, n = (F.normalize(torch.randn(k, 8, generator=g), dim=1) for k in (5, 5, 20))
    n[:5], n[5:10] = -p, z  # keys exactly opposite and exactly equal, up to rounding
    s = similarities(z.requires_grad_(), p, n, torch.zeros(5, 20, dtype=torch.bool))
    got = info_nce(**terms(s, select(s, positive, negative)), temperature=0.2, form=form)
    logits = torch.cat([(z * p).sum(1, keepdim=True), z @ n.T], dim=1) / 0.2
    expected = F.cross_entropy(logits, torch.zeros(5, dtype=torch.int64))
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(torch.autograd.grad(got, z), torch.autograd.grad(expected, z))


@quick
@given(
    seed=st.integers(0, 10**6),
    positive=positive_rules.filter(lambda rule: getattr(rule, "pick", None) is None),
    negative=st.one_of(band_rules, st.just(OracleNegatives())),
)
def test_order_of_keys_does_not_matter(seed: int, positive: PositiveRule, negative: NegativeRule) -> None:
    s = random_similarities(seed, 3, 11)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(seed))
    assert s.positive_keys is not None and s.same_class is not None
    moved = replace(
        s,
        anchor_keys=s.anchor_keys[:, order],
        positive_keys=s.positive_keys[:, order],
        own=s.own[:, order],
        same_class=s.same_class[:, order],
    )
    here, there = select(s, positive, negative), select(moved, positive, negative)
    assert torch.equal(there.band, here.band[:, order])
    torch.testing.assert_close(there.negative_weight, here.negative_weight[:, order])
    torch.testing.assert_close(
        info_nce(**terms(moved, there), temperature=0.2), info_nce(**terms(s, here), temperature=0.2)
    )


@pytest.mark.parametrize("form", ["sep", "in", "out", "decoupled"])
def test_whole_path_gives_finite_gradients_on_degenerate_vectors(form: Any) -> None:
    """All vectors equal, or opposite: every score ties, cosines are ±1, the force on the anchor is 0."""
    same = F.normalize(torch.ones(3, 4), dim=1)
    for keys in (same, -same, torch.cat([same, -same])):
        for negative in (RankBand(drop_closest=0.1, keep_within=0.5, by="force"), RankBand(), AllNegatives()):
            z = same.clone().requires_grad_()
            own = torch.zeros(3, len(keys), dtype=torch.bool)
            s = similarities(z, same, keys, own)
            chosen = select(s, NearestKeys(k=2, min_weight="mean"), negative)
            check_invariants(s, chosen)
            info_nce(**terms(s, chosen), temperature=0.01, form=form).backward()
            assert z.grad is not None and z.grad.isfinite().all()


def test_terms_lays_out_cosines_and_weights() -> None:
    g = torch.Generator().manual_seed(3)
    z, p, n = (F.normalize(torch.randn(k, 6, generator=g), dim=1) for k in (4, 4, 9))
    s = similarities(z.requires_grad_(), p, n, torch.zeros(4, 9, dtype=torch.bool))
    chosen = select(s, NearestKeys(k=3), RankBand(drop_closest=0.1, keep_within=0.9))
    got = terms(s, chosen)
    assert set(got) == {"positive", "negative", "positive_weight", "negative_weight", "estimate"}
    for b in range(4):
        mined = [s.anchor_keys[b, j].item() for j in chosen.positive_index[b]]
        assert got["positive"][b].tolist() == pytest.approx([s.anchor_positive[b].item(), *mined])
    assert torch.equal(got["negative"], s.anchor_keys)
    assert torch.equal(got["positive_weight"], chosen.positive_weight)
    assert torch.equal(got["negative_weight"], chosen.negative_weight)
    assert got["estimate"] == Estimate()
    assert got["positive"].requires_grad and got["negative"].requires_grad

    made = F.normalize(torch.randn(4, 2, 6, generator=g), dim=2)
    mixed = terms(s, replace(chosen, synthetic=made, estimate=Estimate(beta=1.0)))
    assert mixed["negative"].shape == mixed["negative_weight"].shape == (4, 11)
    assert (mixed["negative_weight"][:, 9:] == 1).all()
    assert mixed["estimate"] == Estimate(beta=1.0)
    for b in range(4):
        expected = [brute_force.dot(z[b].tolist(), vector) for vector in made[b].tolist()]
        assert mixed["negative"][b, 9:].tolist() == pytest.approx(expected, abs=1e-6)


def test_selection_temperature_must_be_positive() -> None:
    with pytest.raises(ValueError, match="temperature"):
        select(random_similarities(0, 2, 4), NearestKeys(min_weight="mean"), AllNegatives(), temperature=0.0)


def test_edges_are_the_same_where_algorithms_must_be_deterministic() -> None:
    score, own = (
        torch.rand(5, 60, generator=torch.Generator().manual_seed(0)).half(),
        torch.zeros(5, 60, dtype=torch.bool),
    )
    expected = rank_edges(score, own, (0, 20, 40))  # half precision is sorted as a GPU's numbers are
    torch.use_deterministic_algorithms(True)
    try:
        found = rank_edges(score, own, (0, 20, 40))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
