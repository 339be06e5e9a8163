"""Nearest-neighbour accuracy: what the features know, with nothing trained on top.

Legend: N bank images, Q queries, D features, C classes, k neighbours.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cltools.errors import unknown
from cltools.evaluation.checks import as_bank, as_queries, check_labels
from cltools.evaluation.classes import accuracy
from cltools.mining.handed_in import Numbers, as_labels, as_rows, to_length_1

KnnProtocol = Literal["knn200", "knn10"]
"""knn200: 200 neighbours, votes e^{cos/0.1} (arXiv:1805.01978). knn10: 10 neighbours, one vote each."""

NEIGHBOURS = {"knn200": 200, "knn10": 10}
VOTE_TEMPERATURE = 0.1
CELLS = 2**24  # similarities held at once: 64 MiB of float32


def knn_accuracy(
    bank: Numbers, bank_labels: Any, queries: Numbers, labels: Any, *, protocol: KnnProtocol = "knn200"
) -> float:
    """Percent of queries whose nearest bank images vote for their class; cosine of L2-normalised features, float32.

    `knn200`: the min(200, N) nearest vote with weight e^{cos/0.1}. `knn10`: the min(10, N) nearest have one vote each;
    between classes with as many votes the larger sum of cosines wins. What is then still equal goes to the smaller
    label, so that the same features always give the same number.

    Args:
        bank: features [N, D] of the training images, unaugmented.
        bank_labels: their classes [N], any whole numbers from 0 up, or texts; see `as_labels`.
        queries: features [Q, D] of the images to classify.
        labels: their classes [Q]; one that the bank lacks counts as missed.
        protocol: how neighbours vote.

    Raises:
        ValueError: unknown protocol; unknown labels (-1); no images; features that are not finite or do not match.
    """
    queries, (bank_labels, labels) = as_rows("queries", queries), as_labels("labels", bank_labels, labels)
    check_labels(queries, labels, "queries")
    return accuracy(knn_predict(bank, bank_labels, queries, protocol=protocol), labels)


@torch.no_grad()
def knn_predict(
    bank: Numbers, bank_labels: Any, queries: Numbers, *, protocol: KnnProtocol = "knn200"
) -> Int[Tensor, " Q"]:
    """The class that each query's nearest bank images vote for, on the bank's device; see `knn_accuracy`.

    Of texts it is the place among all that occur, in the order of the alphabet.

    Raises:
        ValueError: as of `knn_accuracy`.
    """
    if protocol not in NEIGHBOURS:
        raise unknown("kNN protocol", protocol, NEIGHBOURS)
    bank, places, classes = as_bank(bank, bank_labels)
    queries = as_queries(queries, bank)
    k = min(NEIGHBOURS[protocol], len(bank))
    elected = []
    with torch.autocast(bank.device.type, enabled=False):
        bank, queries = to_length_1(bank), to_length_1(queries)
        for part in torch.split(queries, max(1, CELLS // len(bank))):
            cosine, index = (part @ bank.T).topk(k, dim=1)
            elected.append(_elected(cosine, places[index], len(classes), by_cosine=protocol == "knn200"))
    return classes[torch.cat(elected)]


def _elected(cosine: Tensor, voters: Tensor, classes: int, *, by_cosine: bool) -> Int[Tensor, " Q"]:
    """The class with the largest sum of e^{cos/0.1} over its neighbours, at most 200·e^10, far inside float32.

    Or that with the most neighbours; among equals, the one whose neighbours are closer in sum.
    """
    if by_cosine:
        return _sums((cosine / VOTE_TEMPERATURE).exp(), voters, classes).argmax(1)
    counts = _sums(torch.ones_like(cosine), voters, classes)
    beaten = counts < counts.amax(1, keepdim=True)
    return _sums(cosine, voters, classes).masked_fill(beaten, -torch.inf).argmax(1)


def _sums(weight: Float[Tensor, "Q k"], voters: Int[Tensor, "Q k"], classes: int) -> Float[Tensor, "Q C"]:
    """Sum of the weights of each class."""
    return weight.new_zeros(len(weight), classes).scatter_add_(1, voters, weight)
