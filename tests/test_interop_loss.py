"""Our rules as a pytorch-metric-learning miner, and our loss in lightly's call, against loops and by hand."""

import inspect
import io
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import oracles
import pytest
import torch
from jaxtyping import TypeCheckError
from pytorch_metric_learning import losses as pml_losses, miners as pml_miners
from torch import Tensor, nn
from torch.nn.functional import normalize

from cltools import (
    AllNegatives,
    AugmentedView,
    Band,
    Context,
    ContrastiveLoss,
    Debiased,
    EveryKey,
    HardnessWeighted,
    MixedNegatives,
    NearestKeys,
    NegativeRule,
    OracleNegatives,
    PositiveRule,
    RandomNegatives,
    RankBand,
    as_metric_learning_miner,
    info_nce,
)
from cltools.interop import mined_pairs

NOTHING_MINED = AugmentedView()
NEAREST = NearestKeys(k=2, weighting="uniform")
D = 8


def draw(seed: int, *shape: int, spread: float = 1.0) -> Tensor:
    """Random rows with a common direction, as a trained encoder's have."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g) * spread + 0.5


@dataclass(frozen=True)
class DropClosest(NegativeRule):
    """A reader's own rule: drops the n rows closest to the anchor."""

    n: int = 2

    def judge(self, s: Any, context: Context) -> Tensor:
        score = s.anchor_keys.masked_fill(s.own, -torch.inf)
        edge = score.topk(min(self.n, score.shape[1]), dim=1).values[:, -1:]
        return torch.where(score >= edge, Band.HARD, Band.POTENTIAL).to(torch.int8)


@dataclass(frozen=True)
class Halved(AllNegatives):
    """A reader's own rule with weights that no list of pairs can say."""

    def weigh(self, s: Any, kept: Tensor, context: Context) -> Tensor:
        return 0.5 * kept


@dataclass(frozen=True)
class Made(AllNegatives):
    """A reader's own rule that makes negatives without reading vectors."""

    def synthesise(self, s: Any, kept: Tensor, context: Context) -> Tensor:
        return torch.ones(len(kept), 1, D)


# --- the miner -------------------------------------------------------------------------------------------------------


def expected_pairs(
    embeddings: Tensor, labels: Tensor, ref: Tensor, ref_labels: Tensor, positives: PositiveRule, negatives: Any
) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """The pairs by loops over Python numbers; `negatives` is a RankBand or AllNegatives."""
    z, n = (normalize(x, dim=1).tolist() for x in (embeddings, ref))
    itself = ref is embeddings
    positive_pairs, negative_pairs = set(), set()
    for i, label in enumerate(labels.tolist()):
        own = [other == label for other in ref_labels.tolist()]
        views = [j for j, mine in enumerate(own) if mine and not (itself and i == j)]
        if not views:
            continue
        anchor = [oracles.dot(z[i], key) for key in n]
        key = [oracles.dot(n[views[0]], other) for other in n]
        search = oracles.closeness_row(getattr(positives, "by", "positive"), anchor, key)
        mines = not isinstance(positives, AugmentedView)
        count = oracles.candidate_count(getattr(positives, "k", None), None, len(n)) if mines else 0
        chosen = sorted(range(len(n)), key=lambda j: (own[j], -search[j]))[:count]
        weights = oracles.mined_weights(positives, chosen, search, own) if mines else [1.0]
        mined = {j for j, weight in zip(chosen, weights[1:], strict=True) if weight > 0}
        positive_pairs |= {(i, j) for j in mined | set(views if weights[0] > 0 else [])}
        if isinstance(negatives, RankBand):
            scores = oracles.score_row(negatives.by, anchor, key, 0.2)
            judged = oracles.rank_bands(scores, own, negatives.drop_closest, negatives.keep_within)
        else:
            judged = [oracles.POTENTIAL] * len(n)
        bands = oracles.final_bands(judged, own, [j in mined for j in range(len(n))])
        negative_pairs |= {(i, j) for j, band in enumerate(bands) if band == oracles.POTENTIAL}
    return positive_pairs, negative_pairs


def as_sets(pairs: tuple[Tensor, ...]) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """The two sets of pairs, after what holds of every answer is checked."""
    assert type(pairs) is tuple and len(pairs) == 4
    assert all(x.dtype == torch.int64 and x.ndim == 1 and not x.requires_grad for x in pairs)
    a1, p, a2, n = (x.tolist() for x in pairs)
    positive, negative = set(zip(a1, p, strict=True)), set(zip(a2, n, strict=True))
    assert len(positive) == len(a1) and len(negative) == len(a2), "a pair is listed twice"
    assert not positive & negative
    return positive, negative


RULES: list[tuple[PositiveRule, NegativeRule]] = [
    (NOTHING_MINED, AllNegatives()),
    (NOTHING_MINED, RankBand(drop_closest=0.1, keep_within=0.6)),
    (NEAREST, AllNegatives()),
    (NearestKeys(k=1, weighting="uniform", augmented_share=0.0), AllNegatives()),
    (NearestKeys(k=4, min_weight="mean"), RankBand(drop_closest=0.1, keep_within=0.6)),
    (NearestKeys(k=3, min_weight="mean", by="anchor"), RankBand(drop_closest=0.0, keep_within=0.5, by="anchor")),
    (NearestKeys(k=3, weighting="uniform", min_cosine=0.5, by="either"), RankBand(by="force")),
    (EveryKey(), AllNegatives()),
]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("positives", "negatives"), RULES)
def test_pairs_are_those_of_the_loops(seed: int, positives: PositiveRule, negatives: NegativeRule) -> None:
    embeddings = draw(seed, 14, D)
    labels = torch.randint(7, (14,), generator=torch.Generator().manual_seed(seed))  # some are alone
    pairs = as_sets(as_metric_learning_miner(positives, negatives)(embeddings, labels))
    assert pairs == expected_pairs(embeddings, labels, embeddings, labels, positives, negatives)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("positives", "negatives"), RULES)
def test_reference_rows_are_other_rows(seed: int, positives: PositiveRule, negatives: NegativeRule) -> None:
    embeddings, ref = draw(seed, 6, D), draw(seed + 100, 11, D)
    labels, ref_labels = torch.arange(6), torch.arange(11) % 5  # the anchor of label 5 has no view there
    pairs = as_sets(as_metric_learning_miner(positives, negatives)(embeddings, labels, ref, ref_labels))
    assert pairs == expected_pairs(embeddings, labels, ref, ref_labels, positives, negatives)
    assert 5 not in {i for i, _ in pairs[0] | pairs[1]}


def test_two_views_of_each_image_give_every_pair_of_simclr() -> None:
    labels = torch.arange(4).repeat(2)
    positive, negative = as_sets(as_metric_learning_miner(NOTHING_MINED, AllNegatives())(draw(0, 8, D), labels))
    assert positive == {(i, (i + 4) % 8) for i in range(8)}
    assert negative == {(i, j) for i in range(8) for j in range(8) if i % 4 != j % 4}


def test_nothing_selected_is_four_empty_tensors() -> None:
    alone = as_metric_learning_miner(NEAREST, AllNegatives())(draw(0, 5, D), torch.arange(5))
    assert as_sets(alone) == (set(), set())
    one_label = as_metric_learning_miner(NEAREST, AllNegatives())(draw(0, 3, D), torch.zeros(3, dtype=torch.int64))
    assert as_sets(one_label) == ({(i, j) for i in range(3) for j in range(3) if i != j}, set())
    none = as_metric_learning_miner(NEAREST, AllNegatives())
    against_nothing = none(draw(0, 2, D), torch.arange(2), torch.empty(0, D), torch.empty(0, dtype=torch.int64))
    assert as_sets(against_nothing) == (set(), set())
    assert as_sets(none(torch.empty(0, D), torch.empty(0, dtype=torch.int64))) == (set(), set())


def test_length_and_precision_of_the_embeddings_change_nothing() -> None:
    miner, labels = as_metric_learning_miner(NearestKeys(k=3, min_weight="mean"), RankBand()), torch.arange(6).repeat(2)
    embeddings = draw(1, 12, D)
    plain, longer = as_sets(miner(embeddings, labels)), embeddings * torch.linspace(0.1, 9, 12)[:, None]
    assert as_sets(miner(longer, labels)) == as_sets(miner(longer.double(), labels)) == plain
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert as_sets(miner(embeddings, labels)) == plain


def test_an_own_rule_works() -> None:
    labels = torch.arange(6).repeat(2)
    every = as_sets(as_metric_learning_miner(NOTHING_MINED, AllNegatives())(draw(2, 12, D), labels))
    fewer = as_sets(as_metric_learning_miner(NOTHING_MINED, DropClosest(n=3))(draw(2, 12, D), labels))
    assert fewer[0] == every[0] and fewer[1] < every[1]
    assert len(every[1]) - len(fewer[1]) == 12 * 3


def test_what_is_drawn_follows_the_generator() -> None:
    def pairs(seed: int) -> Any:
        miner = as_metric_learning_miner(
            NOTHING_MINED, RandomNegatives(0.3), generator=torch.Generator().manual_seed(seed)
        )
        return as_sets(miner(draw(2, 12, D), torch.arange(6).repeat(2)))

    assert pairs(0) == pairs(0) != pairs(1)


def test_a_schedule_is_resolved_by_the_caller() -> None:
    labels, embeddings = torch.arange(6).repeat(2), draw(3, 12, D)

    def positive_pairs(rule: PositiveRule) -> int:
        return len(as_sets(as_metric_learning_miner(rule, MixedNegatives().at(0.0))(embeddings, labels))[0])

    assert positive_pairs(NEAREST.at(0.0)) == 12 < positive_pairs(NEAREST)


@pytest.mark.parametrize("negatives", [AllNegatives(), RankBand(drop_closest=0.05, keep_within=0.6), DropClosest()])
@pytest.mark.parametrize(
    "loss",
    [pml_losses.TripletMarginLoss(), pml_losses.NTXentLoss(), pml_losses.MultiSimilarityLoss()],
    ids=lambda loss: type(loss).__name__,
)
def test_feeds_the_losses_of_the_library(loss: nn.Module, negatives: NegativeRule) -> None:
    miner = as_metric_learning_miner(NearestKeys(k=2, min_weight="mean"), negatives)
    assert isinstance(miner, pml_miners.BaseMiner)
    embeddings, labels = draw(4, 16, D).requires_grad_(), torch.arange(8).repeat(2)
    value = loss(embeddings, labels, miner(embeddings, labels))
    value.backward()
    assert value.isfinite() and value > 0
    assert embeddings.grad is not None and embeddings.grad.isfinite().all() and embeddings.grad.abs().sum() > 0


def test_works_in_the_memory_of_the_library() -> None:
    memory = pml_losses.CrossBatchMemory(
        pml_losses.NTXentLoss(),
        D,
        memory_size=24,
        miner=as_metric_learning_miner(NearestKeys(k=2, min_weight="mean"), RankBand()),
    )
    for step in range(3):
        embeddings = draw(step, 16, D).requires_grad_()
        memory(embeddings, torch.arange(8).repeat(2) + 8 * step).backward()
        assert embeddings.grad is not None and embeddings.grad.isfinite().all()


@pytest.mark.parametrize(
    ("negatives", "message"),
    [
        (MixedNegatives(), "MixedNegatives weighs .* or makes new ones"),
        (HardnessWeighted(tau_plus=0.0), "HardnessWeighted .* estimates their mass"),
        (Debiased(), "Debiased .* estimates their mass"),
        (RankBand(rescale=True), "without rescale"),
        (RandomNegatives(rescale=True), "without rescale"),
        (OracleNegatives(), "Use AllNegatives, and give the classes as labels"),
    ],
)
def test_a_rule_that_pairs_cannot_express_is_refused_when_the_miner_is_made(
    negatives: NegativeRule, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        as_metric_learning_miner(NOTHING_MINED, negatives)


@pytest.mark.parametrize("negatives", [Halved(), Made()])
def test_an_own_rule_that_pairs_cannot_express_is_refused_when_it_mines(negatives: NegativeRule) -> None:
    miner = as_metric_learning_miner(NOTHING_MINED, negatives)
    with pytest.raises(ValueError, match=f"{type(negatives).__name__} weighs"):
        miner(draw(0, 8, D), torch.arange(4).repeat(2))


def test_neutral_settings_of_a_refused_rule_are_taken() -> None:
    for negatives in (HardnessWeighted(beta=0, tau_plus=0, detach=False), MixedNegatives(pairs=0, with_anchor=0)):
        as_metric_learning_miner(NOTHING_MINED, negatives)
    with pytest.raises(ValueError, match="above 0"):
        as_metric_learning_miner(NOTHING_MINED, AllNegatives(), temperature=0)


def test_a_missing_library_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning.miners", None)
    with pytest.raises(ModuleNotFoundError, match="pip install pytorch-metric-learning"):
        as_metric_learning_miner(NOTHING_MINED, AllNegatives())


# --- the loss --------------------------------------------------------------------------------------------------------


def step(loss: ContrastiveLoss, out0: Tensor, out1: Tensor, ids: Tensor | None = None) -> Tensor:
    """One training call with its backward pass; the gradient by `out0`."""
    out0 = out0.clone().requires_grad_()
    loss(out0, out1, ids).backward()
    assert out0.grad is not None
    return out0.grad


def filled(size: int, *, ids: Tensor | None = None, seed: int = 50, **settings: Any) -> ContrastiveLoss:
    """A loss whose bank of `size` keys is full."""
    loss = ContrastiveLoss(memory_bank_size=(size, D), **settings)
    step(loss, draw(seed, size, D), draw(seed + 1, size, D), ids)
    assert loss.bank is not None and len(loss.bank.queue) == size
    return loss


def bank_of(loss: ContrastiveLoss) -> Any:
    """The bank's contents, copied."""
    assert loss.bank is not None
    return loss.bank.get_extra_state()


def cosines(a: Tensor, b: Tensor) -> Tensor:
    return normalize(a.float(), dim=1) @ normalize(b.float(), dim=1).T


@pytest.mark.parametrize("form", ["sep", "in", "out", "decoupled"])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_without_a_bank_it_is_simclr_by_hand(batch: int, form: Any) -> None:
    out0, out1 = draw(0, batch, D), draw(1, batch, D)
    rows = torch.cat([out0, out1])
    expected = []
    for i, row in enumerate(cosines(rows, rows)):
        others = [j for j in range(2 * batch) if j % batch != i % batch]
        positive, negative = row[[(i + batch) % (2 * batch)]], row[others]
        expected.append(oracles.loss(positive.tolist(), negative.tolist(), [1.0], [1.0] * len(others), 0.5, form))
    assert ContrastiveLoss(form=form)(out0, out1).item() == pytest.approx(sum(expected) / len(expected), abs=1e-5)


def test_without_a_bank_the_gradient_reaches_both_sides_alike() -> None:
    out0, out1 = draw(0, 6, D).requires_grad_(), draw(1, 6, D).requires_grad_()
    loss = ContrastiveLoss(temperature=0.2)
    one = torch.autograd.grad(loss(out0, out1), (out0, out1))
    other = torch.autograd.grad(loss(out1, out0), (out0, out1))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)
        assert a.abs().sum() > 0


def test_rows_of_one_image_in_a_batch_are_no_negatives_of_each_other() -> None:
    out0, out1 = draw(0, 3, D), draw(1, 3, D)
    ids = torch.tensor([7, 7, 9])
    z = torch.cat([out0, out1])
    positive = cosines(out0, out1).diag().repeat(2)[:, None]
    differs = (ids.repeat(2)[:, None] != ids.repeat(2)).float()
    expected = info_nce(positive, cosines(z, z), temperature=0.5, negative_weight=differs)
    torch.testing.assert_close(ContrastiveLoss()(out0, out1, ids), expected)


@pytest.mark.parametrize("form", ["sep", "in", "out", "decoupled"])
def test_with_a_bank_it_is_moco_by_hand(form: Any) -> None:
    loss = filled(12, form=form, temperature=0.2)
    out0, out1 = draw(0, 5, D).requires_grad_(), draw(1, 5, D).requires_grad_()
    positive = (normalize(out0, dim=1) * normalize(out1.detach(), dim=1)).sum(1, keepdim=True)
    expected = info_nce(positive, cosines(out0, bank_of(loss)["keys"]), temperature=0.2, form=form)
    got = loss(out0, out1)
    torch.testing.assert_close(got, expected)
    got.backward()
    assert out1.grad is None, "the positives carry no gradient"
    torch.testing.assert_close(out0.grad, torch.autograd.grad(expected, out0)[0])


def test_mines_and_drops_by_its_rules() -> None:
    positives, negatives = NearestKeys(k=2, weighting="uniform"), RankBand(drop_closest=0.25, keep_within=0.75)
    loss = filled(12, positive_rule=positives, negative_rule=negatives, temperature=0.2)
    out0, out1 = draw(0, 5, D), draw(1, 5, D)
    keys = bank_of(loss)["keys"]
    expected = []
    for z, z_key in zip(normalize(out0, dim=1), normalize(out1, dim=1), strict=True):
        anchor, key = (keys @ z).tolist(), (keys @ z_key).tolist()
        order = sorted(range(12), key=lambda j: -key[j])
        mined, kept = order[:2], order[3:9]
        positive = [float(z @ z_key), *(anchor[j] for j in mined)]
        expected.append(
            oracles.loss(
                positive, [anchor[j] for j in kept if j not in mined], [0.5, 0.25, 0.25], [1.0] * 6, 0.2, "sep"
            )
        )
    assert loss(out0, out1).item() == pytest.approx(sum(expected) / 5, abs=1e-5)


@pytest.mark.parametrize("size", [0, (16, D)])
def test_takes_rules_that_make_or_weigh_negatives(size: Any) -> None:
    for negatives in (
        MixedNegatives(hardest=4, pairs=3, with_anchor=2),
        HardnessWeighted(),
        RankBand(rescale=True),
    ):
        loss = ContrastiveLoss(negative_rule=negatives, memory_bank_size=size)
        for seed in range(3):
            assert step(loss, draw(seed, 6, D), draw(seed + 9, 6, D)).isfinite().all()


def test_the_first_call_has_an_empty_bank_and_a_finite_gradient() -> None:
    for form in ("sep", "in", "out", "decoupled"):
        loss = ContrastiveLoss(NearestKeys(k=3, min_weight="mean"), RankBand(), form=form, memory_bank_size=(8, D))
        assert step(loss, draw(0, 4, D), draw(1, 4, D)).isfinite().all()
        assert loss.bank is not None and len(loss.bank.queue) == 4
        torch.testing.assert_close(loss.bank.queue.keys, normalize(draw(1, 4, D), dim=1))


@pytest.mark.parametrize("size", [1, 5, 8, 13])
def test_holds_the_newest_keys_of_batches_of_any_size(size: int) -> None:
    loss, seen = ContrastiveLoss(memory_bank_size=(size, D)), torch.empty(0, D)
    for seed, batch in enumerate([5, 5, 3, 1, 5, 14]):
        out1 = draw(seed, batch, D)
        step(loss, draw(seed + 50, batch, D), out1)
        seen = torch.cat([seen, normalize(out1, dim=1)])[-size:]
        rows = {tuple(key) for key in bank_of(loss)["keys"].tolist()}
        assert rows == {tuple(key) for key in seen.tolist()}


def test_evaluation_leaves_the_bank_alone() -> None:
    loss = filled(8)
    before = bank_of(loss)
    loss(draw(0, 4, D), draw(1, 4, D))  # nothing asks for a gradient
    with torch.no_grad():
        loss(draw(0, 4, D).requires_grad_(), draw(1, 4, D))
    with torch.inference_mode():
        loss(draw(0, 4, D), draw(1, 4, D))
    loss(draw(0, 4, D).requires_grad_(), draw(1, 4, D))  # computed, never differentiated
    after = bank_of(loss)
    assert torch.equal(before["keys"], after["keys"]) and before["pointer"] == after["pointer"]


def test_keys_are_taken_once_however_often_the_graph_is_used() -> None:
    loss = ContrastiveLoss(memory_bank_size=(8, D))
    value = loss(draw(0, 3, D).requires_grad_(), draw(1, 3, D))
    value.backward(retain_graph=True)
    value.backward()
    assert loss.bank is not None and len(loss.bank.queue) == 3


def test_both_terms_of_a_symmetric_loss_see_the_bank_without_their_batch() -> None:
    loss = filled(12, temperature=0.2)
    keys = bank_of(loss)["keys"]
    q0, q1, k0, k1 = (draw(seed, 4, D).requires_grad_(seed < 2) for seed in range(4))

    def by_hand(q: Tensor, k: Tensor) -> Tensor:
        return info_nce(cosines(q, k).diag()[:, None], cosines(q, keys), temperature=0.2)

    value = (loss(q0, k1) + loss(q1, k0)) / 2
    torch.testing.assert_close(value, (by_hand(q0, k1) + by_hand(q1, k0)) / 2)
    value.backward()
    rows = {tuple(key) for key in bank_of(loss)["keys"].tolist()}
    assert {tuple(key) for key in normalize(torch.cat([k0, k1]), dim=1).tolist()} <= rows


def test_terms_with_a_backward_pass_each_need_ids() -> None:
    q0, q1, k0, k1 = (draw(seed, 4, D) for seed in range(4))
    ids, older = torch.arange(4), torch.arange(100, 112)
    named, unnamed = filled(12, ids=older), filled(12, ids=older)
    keys = torch.cat([normalize(k1, dim=1), bank_of(named)["keys"][4:]])  # the first term's keys, over the oldest
    step(named, q0, k1, ids)
    step(unnamed, q0, k1)
    positive, negative = cosines(q1, k0).diag()[:, None], cosines(q1, keys)
    torch.testing.assert_close(unnamed(q1, k0), info_nce(positive, negative, temperature=0.5))
    others = torch.cat([1 - torch.eye(4), torch.ones(4, 8)], dim=1)
    expected = info_nce(positive, negative, temperature=0.5, negative_weight=others)
    torch.testing.assert_close(named(q1, k0, ids), expected)


def test_a_graph_outlives_what_the_bank_takes_in_between() -> None:
    loss = filled(6)
    first, second = draw(0, 6, D).requires_grad_(), draw(1, 6, D).requires_grad_()
    a, b = loss(first, draw(2, 6, D)), loss(second, draw(3, 6, D))
    expected = torch.autograd.grad(deepcopy(loss)(second, draw(3, 6, D)), second)[0]
    a.backward()
    b.backward()
    torch.testing.assert_close(second.grad, expected)


def test_an_images_older_keys_are_never_its_negatives_nor_mined() -> None:
    ids = torch.arange(6)
    out = draw(0, 6, D)
    loss = ContrastiveLoss(NearestKeys(k=1, weighting="uniform", augmented_share=0.0), memory_bank_size=(6, D))
    step(loss, out, out, ids)  # now each image's nearest key is its own
    seen: list[Tensor] = []

    class Watch(AllNegatives):
        def judge(self, s: Any, context: Context) -> Tensor:
            seen.extend([s.own, context.eligible])
            return super().judge(s, context)

    loss.negative_rule = Watch()
    loss(out, out, ids)
    own, eligible = seen
    assert torch.equal(own, torch.eye(6, dtype=torch.bool))
    assert not (eligible & own).any() and eligible.sum() == 6 * 4, (
        "one own and one mined key less, which is not the own"
    )
    seen.clear()
    loss(out, out)
    assert not seen[0].any(), "without ids nobody knows"


def test_an_image_without_a_name_has_no_own_keys_but_its_two_views() -> None:
    out0, out1 = draw(0, 4, D), draw(1, 4, D)
    for size in (0, (8, D)):
        loss = ContrastiveLoss(memory_bank_size=size)
        if size:
            step(loss, draw(2, 8, D), draw(3, 8, D), torch.full((8,), -1))
        assert loss(out0, out1, torch.full((4,), -1)) == loss(out0, out1) > 0.1


def test_an_evaluated_module_and_a_term_that_asks_for_it_enqueue_nothing() -> None:
    loss = filled(8)
    before = bank_of(loss)
    loss(draw(0, 3, D).requires_grad_(), draw(1, 3, D), enqueue=False).backward()
    loss.eval()
    step(loss, draw(0, 3, D), draw(1, 3, D))
    for one, other in zip(before.values(), bank_of(loss).values(), strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    loss.train()
    step(loss, draw(0, 3, D), draw(1, 3, D))
    assert bank_of(loss)["pointer"] == 3


def test_a_symmetric_loss_leaves_one_key_an_image() -> None:
    loss = ContrastiveLoss(memory_bank_size=(16, D))
    q0, q1, k0, k1 = (draw(seed, 4, D) for seed in range(4))
    q0.requires_grad_()
    (loss(q0, k1) + loss(q1.requires_grad_(), k0, enqueue=False)).backward()
    assert loss.bank is not None and len(loss.bank.queue) == 4
    torch.testing.assert_close(loss.bank.queue.keys, normalize(k1, dim=1))


def test_says_what_it_is() -> None:
    text = repr(ContrastiveLoss(negative_rule=RankBand(drop_closest=0.05), temperature=0.2))
    assert "RankBand(drop_closest=0.05" in text and "temperature=0.2" in text


def test_rules_in_the_wrong_order_are_refused_at_once() -> None:
    for call in (
        lambda: ContrastiveLoss(RankBand()),  # type: ignore[arg-type]
        lambda: as_metric_learning_miner(AllNegatives(), NearestKeys(min_weight="mean")),  # type: ignore[arg-type]
    ):
        with pytest.raises((ValueError, TypeCheckError), match="PositiveRule"):
            call()


def test_in_a_memory_of_the_batch_the_positive_is_another_view() -> None:
    """As pytorch-metric-learning's CrossBatchMemory gives it: the reference holds the very rows, in another tensor."""
    rows, labels = draw(0, 8, D), torch.arange(4).repeat(2)
    for order in (torch.arange(8), torch.arange(8).flip(0)):
        pairs = mined_pairs(rows, labels, rows[order].clone(), labels[order], NEAREST, RankBand(0.1, 0.6))
        inside = mined_pairs(rows, labels, rows, labels, NEAREST, RankBand(0.1, 0.6))
        a2, n = pairs[2], order[pairs[3]]
        assert {*zip(a2.tolist(), n.tolist(), strict=True)} == {
            *zip(inside[2].tolist(), inside[3].tolist(), strict=True)
        }


def saved(loss: nn.Module) -> Any:
    file = io.BytesIO()
    torch.save(loss.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_the_bank_is_saved_and_loaded() -> None:
    whole, resumed = filled(12, ids=torch.arange(12)), ContrastiveLoss(memory_bank_size=(12, D))
    resumed.load_state_dict(saved(whole))
    for seed in range(3):
        ids = torch.arange(seed, seed + 5)
        a, b = (step(loss, draw(seed, 5, D), draw(seed + 9, 5, D), ids) for loss in (whole, resumed))
        assert torch.equal(a, b)
    for one, other in zip(bank_of(whole).values(), bank_of(resumed).values(), strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    inside, copy = (nn.ModuleDict({"loss": ContrastiveLoss(memory_bank_size=(12, D))}) for _ in range(2))
    step(inside["loss"], draw(0, 5, D), draw(1, 5, D))  # type: ignore[arg-type]
    copy.load_state_dict(saved(inside))
    assert len(copy["loss"].bank.queue) == 5  # type: ignore[arg-type]


def test_a_loss_without_a_bank_loads_too() -> None:
    assert ContrastiveLoss().state_dict() == {}, "so that a checkpoint from before the loss loads too"
    ContrastiveLoss().load_state_dict(saved(ContrastiveLoss()))


@pytest.mark.parametrize("sizes", [((12, D), (8, D)), ((12, D), 0), (0, (12, D))])
def test_a_bank_of_another_size_is_refused(sizes: tuple[Any, Any]) -> None:
    of, into = (ContrastiveLoss(memory_bank_size=size) for size in sizes)
    with pytest.raises((ValueError, RuntimeError), match=r"bank\._extra_state|like the saved one"):
        into.load_state_dict(saved(of))


@pytest.mark.parametrize("size", [0, (8, D)])
def test_everything_is_float32_under_autocast(size: Any) -> None:
    def values() -> list[Tensor]:
        negatives = MixedNegatives(pairs=2, with_anchor=2)
        loss = ContrastiveLoss(
            NearestKeys(k=2, min_weight="mean"), negatives, memory_bank_size=size, generator=torch.Generator()
        )
        outputs = []
        for seed in range(3):
            out0 = draw(seed, 4, D).bfloat16().requires_grad_()
            outputs.append(loss(out0, draw(seed + 9, 4, D).bfloat16()))
            outputs[-1].backward()
            assert out0.grad is not None and out0.grad.isfinite().all()
        return outputs

    plain = values()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = values()
    assert all(value.dtype == torch.float32 for value in plain + under)
    assert [value.item() for value in plain] == [value.item() for value in under]


def test_keys_stay_float32_whatever_the_loss_is_cast_to() -> None:
    loss = ContrastiveLoss(memory_bank_size=(8, D)).to("cpu", torch.float64)
    step(loss, draw(0, 3, D).double(), draw(1, 3, D).double())
    assert bank_of(loss)["keys"].dtype == torch.float32


@pytest.mark.gpu
def test_runs_on_the_gpu_as_on_the_cpu() -> None:
    losses = [
        ContrastiveLoss(NearestKeys(k=2, min_weight="mean"), RankBand(), memory_bank_size=(16, D)) for _ in range(2)
    ]
    miner, labels = as_metric_learning_miner(NearestKeys(k=2, min_weight="mean"), RankBand()), torch.arange(6).repeat(2)
    for seed in range(5):
        out0, out1, ids = draw(seed, 5, D), draw(seed + 9, 5, D), torch.arange(seed, seed + 5)
        here, there = step(losses[0], out0, out1, ids), step(losses[1], out0.cuda(), out1.cuda(), ids)
        torch.testing.assert_close(here, there.cpu(), rtol=1e-4, atol=1e-6)
        rows = draw(seed, 12, D)
        pairs = miner(rows.cuda(), labels.cuda())
        assert all(x.device.type == "cuda" for x in pairs)
        assert as_sets(pairs) == as_sets(miner(rows, labels))
    assert losses[1].bank is not None and losses[1].bank.queue.keys.is_cuda
    losses[0].load_state_dict(losses[1].cuda().state_dict())
    step(losses[0], draw(0, 5, D), draw(1, 5, D))


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "a size without dimension": (lambda: ContrastiveLoss(memory_bank_size=64), "give \\(number of keys, their dim"),
    "three sizes": (lambda: ContrastiveLoss(memory_bank_size=(4, 4, 4)), "give \\(number of keys, their dim"),
    "a negative size": (lambda: ContrastiveLoss(memory_bank_size=(-1, 4)), "must be at least 1"),
    "labels": (lambda: ContrastiveLoss(negative_rule=OracleNegatives()), "needs labels"),
    "temperature": (lambda: ContrastiveLoss(temperature=0.0), "above 0"),
    "the bank's dimension": (
        lambda: ContrastiveLoss(memory_bank_size=(8, 4))(torch.ones(2, 3), torch.ones(2, 3)),
        "keys of dimension 4, but the outputs have 3",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_meant_is_refused(wrong: str) -> None:
    call, message = WRONG[wrong]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_bank_of_no_keys_is_none() -> None:
    assert ContrastiveLoss(memory_bank_size=(0, D)).bank is None


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((4, 3), (4, 3), (5,))])
def test_shapes_that_do_not_match_are_refused_outside_the_tests_too(shapes: Any) -> None:
    plain = inspect.unwrap(ContrastiveLoss.forward)
    with pytest.raises(ValueError, match="give \\[B, d\\] twice"):
        plain(ContrastiveLoss(), *(torch.ones(shape) for shape in shapes))
