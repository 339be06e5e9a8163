"""Our rules as a pytorch-metric-learning miner, against loops."""

import copy
import math
import pickle
import sys
from dataclasses import dataclass
from typing import Any

import brute_force
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
    Debiased,
    DifficultAnchors,
    EveryKey,
    HardnessWeighted,
    LearnedThreshold,
    MixedNegatives,
    NearestKeys,
    NegativeRule,
    OracleNegatives,
    PositiveRule,
    RandomNegatives,
    RankBand,
    SoftenedBand,
    as_metric_learning_miner,
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
        anchor = [brute_force.dot(z[i], key) for key in n]
        key = [brute_force.dot(n[views[0]], other) for other in n]
        search = brute_force.closeness_row(getattr(positives, "by", "positive"), anchor, key)
        mines = not isinstance(positives, AugmentedView)
        count = brute_force.candidate_count(getattr(positives, "k", None), None, len(n)) if mines else 0
        chosen = sorted(range(len(n)), key=lambda j: (own[j], -search[j]))[:count]
        weights = brute_force.mined_weights(positives, chosen, search, own) if mines else [1.0]
        mined = {j for j, weight in zip(chosen, weights[1:], strict=True) if weight > 0}
        positive_pairs |= {(i, j) for j in mined | set(views if weights[0] > 0 else [])}
        if isinstance(negatives, RankBand):
            scores = brute_force.score_row(negatives.by, anchor, key, 0.2)
            judged = brute_force.rank_bands(scores, own, negatives.drop_closest, negatives.keep_within)
        else:
            judged = [brute_force.POTENTIAL] * len(n)
        bands = brute_force.final_bands(judged, own, [j in mined for j in range(len(n))])
        negative_pairs |= {(i, j) for j, band in enumerate(bands) if band == brute_force.POTENTIAL}
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


@pytest.mark.parametrize(("positives", "negatives"), RULES)
def test_pairs_are_those_of_the_loops(positives: PositiveRule, negatives: NegativeRule) -> None:
    for seed in range(4):
        embeddings = draw(seed, 14, D)
        labels = torch.randint(7, (14,), generator=torch.Generator().manual_seed(seed))  # some are alone
        pairs = as_sets(as_metric_learning_miner(positives, negatives)(embeddings, labels))
        assert pairs == expected_pairs(embeddings, labels, embeddings, labels, positives, negatives), seed


@pytest.mark.parametrize(("positives", "negatives"), RULES)
def test_reference_rows_are_other_rows(positives: PositiveRule, negatives: NegativeRule) -> None:
    for seed in range(3):
        embeddings, ref = draw(seed, 6, D), draw(seed + 100, 11, D)
        labels, ref_labels = torch.arange(6), torch.arange(11) % 5  # the anchor of label 5 has no view there
        pairs = as_sets(as_metric_learning_miner(positives, negatives)(embeddings, labels, ref, ref_labels))
        assert pairs == expected_pairs(embeddings, labels, ref, ref_labels, positives, negatives), seed
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
        return len(as_sets(as_metric_learning_miner(rule, AllNegatives())(embeddings, labels))[0])

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
        (MixedNegatives(), "MixedNegatives .* or makes new ones"),
        (Made(), "Made .* or makes new ones"),
        (HardnessWeighted(tau_plus=0.0), "HardnessWeighted estimates the mass"),
        (Debiased(), "Debiased estimates the mass"),
        (RankBand(rescale=True), "without rescale"),
        (RandomNegatives(rescale=True), "without rescale"),
        (OracleNegatives(), "reads classes.* use AllNegatives, and give classes as labels"),
        (LearnedThreshold(), "learns a state per image while training: use fit"),
    ],
)
def test_a_rule_that_pairs_cannot_express_is_refused_when_the_miner_is_made(
    negatives: NegativeRule, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        as_metric_learning_miner(NOTHING_MINED, negatives)


@pytest.mark.parametrize("negatives", [Halved(), SoftenedBand(), DifficultAnchors(min_cosine=-1)])
def test_an_own_rule_that_pairs_cannot_express_is_refused_when_it_mines(negatives: NegativeRule) -> None:
    miner = as_metric_learning_miner(NOTHING_MINED, negatives)
    with pytest.raises(ValueError, match=f"{type(negatives).__name__} weighs"):
        miner(draw(0, 8, D), torch.arange(4).repeat(2))


def test_neutral_settings_of_a_refused_rule_are_taken() -> None:
    as_metric_learning_miner(NOTHING_MINED, HardnessWeighted(beta=0, tau_plus=0, detach=False))
    with pytest.raises(ValueError, match="above 0"):
        as_metric_learning_miner(NOTHING_MINED, AllNegatives(), temperature=0)


def test_a_missing_library_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning.miners", None)
    monkeypatch.delitem(sys.modules, "cltools.interop.rule_miner", raising=False)
    with pytest.raises(ModuleNotFoundError, match="pip install pytorch-metric-learning"):
        as_metric_learning_miner(NOTHING_MINED, AllNegatives())


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


def test_rules_in_the_wrong_order_are_refused_at_once() -> None:
    with pytest.raises((ValueError, TypeCheckError), match="PositiveRule"):
        as_metric_learning_miner(AllNegatives(), NearestKeys(min_weight="mean"))  # type: ignore[arg-type]


@pytest.mark.gpu
def test_runs_on_the_gpu_as_on_the_cpu() -> None:
    miner, labels = as_metric_learning_miner(NearestKeys(k=2, min_weight="mean"), RankBand()), torch.arange(6).repeat(2)
    for seed in range(5):
        rows = draw(seed, 12, D)
        pairs = miner(rows.cuda(), labels.cuda())
        assert all(x.device.type == "cuda" for x in pairs)
        assert as_sets(pairs) == as_sets(miner(rows, labels))


def test_a_copy_and_another_process_mine_alike() -> None:
    miner = as_metric_learning_miner(
        NearestKeys(k=3, pick=1), RandomNegatives(0.4), generator=torch.Generator().manual_seed(3)
    )
    z, labels = draw(0, 8, D), torch.arange(8) % 4
    copies = copy.deepcopy(miner), pickle.loads(pickle.dumps(miner))
    expected = miner(z, labels)
    for other in copies:
        assert all(torch.equal(a, b) for a, b in zip(other(z, labels), expected, strict=True))


def test_labels_are_texts_or_numbers_and_embeddings_arrays() -> None:
    z, labels = draw(0, 8, D), torch.arange(8) % 4
    expected = mined_pairs(z, labels, z, labels, NEAREST, AllNegatives())
    array, names = z.numpy(), ["abcd"[i] for i in labels]
    found = mined_pairs(array, names, array, names, NEAREST, AllNegatives())
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    with pytest.raises(ValueError, match=r"give \[A, d\], \[A\], \[R, d\], \[R\]"):
        mined_pairs(z, labels[:5], z, labels, NEAREST, AllNegatives())


@pytest.mark.parametrize("missing", [-1, None, math.nan])
def test_rows_of_unknown_label_are_of_no_class(missing: Any) -> None:
    rows = draw(0, 6, D)
    labels = [0, 0, missing, missing, 1, 1]
    anchor, positive, other, negative = mined_pairs(rows, labels, rows, labels, NOTHING_MINED, AllNegatives())
    assert {*anchor.tolist()} == {0, 1, 4, 5} and not {2, 3} & {*positive.tolist()}
    assert {*negative[other == 0].tolist()} == {2, 3, 4, 5}
