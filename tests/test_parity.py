"""Our loss, mining and kNN give the numbers of lightly and pytorch-metric-learning, to 1e-5, values and gradients.

Where conventions differ a comment says what is matched to what.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightly.loss import DCLLoss, NTXentLoss
from lightly.models.modules import NNMemoryBankModule
from pytorch_metric_learning import losses as pml
from torch import Tensor
from torch.nn.functional import normalize

from cltools import (
    AllNegatives,
    AugmentedView,
    ContrastiveLoss,
    NearestKeys,
    RankBand,
    as_metric_learning_miner,
    info_nce,
    knn_accuracy,
    select,
    similarities,
)

D = 16
seeds = pytest.mark.parametrize("seed", range(2))
BATCHES = [(0, 0.07, 5), (1, 0.2, 32), (2, 1.0, 2), (3, 0.07, 32)]
batches = pytest.mark.parametrize(("seed", "temperature", "batch"), BATCHES)
labelled = pytest.mark.parametrize(
    ("seed", "temperature", "rows", "classes"), [(0, 0.07, 24, 5), (1, 0.2, 8, 3), (2, 1.0, 24, 20), (3, 0.07, 24, 20)]
)


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=dtype) + 0.3


def assert_same(ours: Callable[..., Tensor], theirs: Callable[..., Tensor], *leaves: Tensor) -> None:
    """Both functions of the same leaves have the same value and the same gradient by each leaf."""
    results = []
    for function in (ours, theirs):
        inputs = [leaf.clone().requires_grad_() for leaf in leaves]
        value = function(*inputs)
        results.append((value.detach(), torch.autograd.grad(value, inputs)))
    (value, gradients), (expected, expected_gradients) = results
    assert value > 0 and all(gradient.abs().max() > 0 for gradient in gradients), "the comparison says nothing"
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-5)


# --- lightly ---------------------------------------------------------------------------------------------------------


@batches
def test_lightly_ntxent_in_batch(seed: int, temperature: float, batch: int) -> None:
    ours, theirs = ContrastiveLoss(temperature=temperature), NTXentLoss(temperature=temperature)
    assert_same(ours, theirs, draw(seed, batch, D), draw(seed + 10, batch, D))


@batches
def test_lightly_ntxent_with_a_memory_bank(seed: int, temperature: float, batch: int) -> None:
    size = 4 * batch  # lightly drops what does not fit at the bank's end; whole batches always fit
    ours = ContrastiveLoss(temperature=temperature, memory_bank_size=(size, D))
    theirs = NTXentLoss(temperature=temperature, memory_bank_size=(size, D))
    same_keys(ours, theirs)
    for step in range(6):  # past the bank's end
        out0, out1 = draw(seed + step, batch, D), draw(seed + step + 50, batch, D)
        # lightly lets the gradient reach out1, the momentum encoder's output, unless it is detached; ours never does.
        assert_same(lambda x, y=out1: ours(x, y), lambda x, y=out1: theirs(x, y), out0)
        # lightly's bank takes keys when the loss is computed, ours when it is differentiated.
        assert ours.bank is not None
        torch.testing.assert_close(ours.bank.queue.keys, theirs.memory_bank.bank, rtol=0, atol=1e-6)


def same_keys(ours: ContrastiveLoss, theirs: Any) -> None:
    """Our bank, empty at first, takes the random rows with which lightly's begins."""
    assert ours.bank is not None
    unknown = torch.full((ours.bank.queue.size,), -1)
    ours.bank.queue.enqueue(theirs.memory_bank.bank, unknown, unknown)


@seeds
def test_evaluation_with_a_memory_bank(seed: int) -> None:
    ours, theirs = ContrastiveLoss(memory_bank_size=(20, D)), NTXentLoss(memory_bank_size=(20, D))
    same_keys(ours, theirs)
    for step in range(3):
        out0, out1 = draw(seed + step, 7, D), draw(seed + step + 50, 7, D)
        torch.testing.assert_close(ours(out0, out1), theirs(out0, out1), rtol=1e-5, atol=1e-5)


@batches
def test_lightly_decoupled(seed: int, temperature: float, batch: int) -> None:
    # Both leave the positive out of the denominator, and keep both views of every other image in it.
    ours, theirs = ContrastiveLoss(form="decoupled", temperature=temperature), DCLLoss(temperature=temperature)
    # A decoupled loss may be negative; a constant that changes no gradient lifts it above 0.
    out0, out1 = draw(seed, batch, D), draw(seed + 10, batch, D)
    assert_same(lambda x, y: ours(x, y) + 99, lambda x, y: theirs(x, y) + 99, out0, out1)


@seeds
@pytest.mark.parametrize("by", ["positive", "anchor"])
@pytest.mark.parametrize("keys", [10, 300])
def test_lightly_nearest_neighbour(seed: int, by: Any, keys: int) -> None:
    theirs = NNMemoryBankModule(size=(keys, D))
    z, z_key = (normalize(draw(seed + n, 20, D), dim=1) for n in (0, 10))
    s = similarities(z, z_key, theirs.bank, torch.zeros(20, keys, dtype=torch.bool))
    rule = NearestKeys(k=1, weighting="uniform", augmented_share=0.0, by=by)
    chosen = select(s, rule, AllNegatives())
    # lightly knows one vector, whose neighbour it seeks; here that is z' or z.
    assert torch.equal(theirs.bank[chosen.positive_index[:, 0]], theirs(z_key if by == "positive" else z))
    assert chosen.positive_weight.tolist() == [[0.0, 1.0]] * 20


@seeds
@pytest.mark.parametrize("bank", [50, 1000])
def test_lightly_knn(seed: int, bank: int) -> None:
    from lightly.utils.benchmarking.knn import knn_predict  # which loads all of pytorch_lightning

    labels = torch.randint(10, (bank,), generator=torch.Generator().manual_seed(seed))
    centres = draw(seed + 1, 10, D) / 2
    features = draw(seed + 2, bank, D) + centres[labels]
    queries = draw(seed + 3, 60, D) + centres[torch.arange(60) % 10]
    # lightly leaves the normalising, and a k no larger than the bank, to its caller.
    unit = normalize(features, dim=1)
    predicted = knn_predict(normalize(queries, dim=1), unit.T, labels, num_classes=10, knn_k=min(200, bank))[:, 0]
    assert knn_accuracy(features, labels, queries, predicted, protocol="knn200") == 100
    truth = torch.arange(60) % 10
    accuracy = 100 * (predicted == truth).sum().item() / 60
    assert knn_accuracy(features, labels, queries, truth, protocol="knn200") == accuracy
    assert len(predicted.unique()) > 1 and accuracy < 100, "the comparison says nothing"


# --- pytorch-metric-learning -----------------------------------------------------------------------------------------


def labels_of(seed: int, rows: int, classes: int) -> Tensor:
    return torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(seed))


def by_labels(embeddings: Tensor, labels: Tensor, temperature: float, form: Any) -> tuple[Tensor, Tensor]:
    """Our loss of each row that has another of its class, and how many it has: all positives weigh alike."""
    z = normalize(embeddings, dim=1)
    cosine = z @ z.T
    same = labels[:, None] == labels
    positive = (same & ~torch.eye(len(labels), dtype=torch.bool)).to(cosine.dtype)
    count = positive.sum(1)
    rows = count > 0
    loss = info_nce(
        cosine[rows],
        cosine[rows],
        temperature=temperature,
        positive_weight=positive[rows] / count[rows, None],
        negative_weight=(~same[rows]).to(cosine.dtype),
        form=form,
        reduction="none",
    )
    return loss, count[rows]


@labelled
def test_metric_learning_ntxent(seed: int, temperature: float, rows: int, classes: int) -> None:
    labels = labels_of(seed, rows, classes)

    def ours(embeddings: Tensor) -> Tensor:
        # Each positive stands alone against the negatives ("sep"). They take the mean over pairs, we over anchors.
        loss, count = by_labels(embeddings, labels, temperature, "sep")
        return (loss * count).sum() / count.sum()

    theirs = pml.NTXentLoss(temperature=temperature)
    assert_same(ours, lambda embeddings: theirs(embeddings, labels), draw(seed, rows, D))


@labelled
def test_metric_learning_supcon(seed: int, temperature: float, rows: int, classes: int) -> None:
    labels = labels_of(seed, rows, classes)

    def ours(embeddings: Tensor) -> Tensor:
        # All positives are in the denominator ("out"). They take the mean over losses above 0, so over the anchors
        # that have a positive.
        return by_labels(embeddings, labels, temperature, "out")[0].mean()

    theirs = pml.SupConLoss(temperature=temperature)
    assert_same(ours, lambda embeddings: theirs(embeddings, labels), draw(seed, rows, D))


@batches
@pytest.mark.parametrize("name", ["NTXentLoss", "SupConLoss"])
def test_metric_learning_self_supervised(seed: int, temperature: float, batch: int, name: str) -> None:
    # With one positive each all forms agree, and pairs are as many as anchors.
    ours = ContrastiveLoss(temperature=temperature)
    theirs = pml.SelfSupervisedLoss(getattr(pml, name)(temperature=temperature))
    assert_same(ours, theirs, draw(seed, batch, D), draw(seed + 10, batch, D))


@batches
def test_metric_learning_one_sided(seed: int, temperature: float, batch: int) -> None:
    theirs = pml.SelfSupervisedLoss(pml.NTXentLoss(temperature=temperature), symmetric=False)

    def ours(out0: Tensor, out1: Tensor) -> Tensor:
        # Anchors of one view, and only the other view of other images as negatives.
        cosine = normalize(out0, dim=1) @ normalize(out1, dim=1).T
        others = 1 - torch.eye(batch)
        return info_nce(cosine.diag()[:, None], cosine, temperature=temperature, negative_weight=others)

    assert_same(ours, theirs, draw(seed, batch, D), draw(seed + 10, batch, D))


@pytest.mark.parametrize(("seed", "temperature"), [(0, 0.07), (1, 0.2), (2, 1.0)])
def test_metric_learning_with_our_miner(seed: int, temperature: float) -> None:
    # One positive each, so that no soft weight is lost: their loss over our pairs is our loss with our rule.
    nothing, band = AugmentedView(), RankBand(drop_closest=0.1, keep_within=0.7)
    ours = ContrastiveLoss(nothing, band, temperature=temperature)
    theirs, miner = pml.NTXentLoss(temperature=temperature), as_metric_learning_miner(nothing, band)
    labels = torch.arange(12).repeat(2)

    def mined(out0: Tensor, out1: Tensor) -> Tensor:
        embeddings = torch.cat([out0, out1])
        return theirs(embeddings, labels, miner(embeddings, labels))

    assert_same(ours, mined, draw(seed, 12, D), draw(seed + 10, 12, D))


def test_metric_learning_supcon_leaves_out_an_anchor_whose_loss_vanishes() -> None:
    # It averages over losses above 0: one that float32 rounds to 0 is left out there, and counts as 0 here.
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.6, 0.8]])
    labels = torch.tensor([0, 0, 1, 1])
    ours, _ = by_labels(embeddings, labels, 0.01, "out")
    assert (ours > 0).tolist() == [False, False, False, True]
    torch.testing.assert_close(pml.SupConLoss(temperature=0.01)(embeddings, labels), ours[3])
