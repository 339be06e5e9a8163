"""Evaluation of fixed features: alignment, uniformity, effective rank, nearest neighbours and a linear probe.

The nearest-neighbour vote needs no training. The probe is a multinomial logistic regression, a convex problem that is
solved to its optimum: the result depends on the features and the L2 penalty, and not on a learning rate, schedule,
augmentation or seed.

Legend: N images, such as those of the bank, Q queries, D features, C classes, k neighbours.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from cltools.errors import CltoolsError, check_number, unknown
from cltools.evaluation.embed import accuracy, as_bank, as_features, as_queries, check_labels
from cltools.mining.handed_in import Numbers, as_labels, as_rows, moderate, to_length_1, torch_defaults
from cltools.mining.similarities import largest

KnnProtocol = Literal["knn200", "knn10"]
"""knn200: 200 neighbours, votes e^{cos/0.1} (arXiv:1805.01978). knn10: 10 neighbours, one vote each."""

NEIGHBOURS = {"knn200": 200, "knn10": 10}
VOTE_TEMPERATURE = 0.1
CELLS = 2**24  # similarities in memory at once: 64 MiB of float32
QUERIES = 256  # at least so many at once (`python -m benchmarks growth`)
STEPS = 500  # standardised, penalised features need about 30 to 150
CONSTANT = 1e-6  # a deviation below this share of the mean is rounding error


@torch.no_grad()
def alignment(z: Float[Tensor, "N D"] | Numbers, z_positive: Float[Tensor, "N D"] | Numbers) -> float:
    """Return the mean squared distance of two views on the unit sphere: 0 identical, 2 orthogonal, 4 opposite.

    Wang & Isola, arXiv:2005.10242, with their α = 2. Vectors are L2-normalised here.

    Args:
        z: embeddings [N, D] of one view of each image.
        z_positive: embeddings [N, D] of another view of the same images.

    Raises:
        ValueError: there are no rows, the views have different shapes, or vectors are not finite.

    Example:
        >>> from cltools import alignment
        >>> alignment([[1.0, 0.0]], [[1.0, 0.0]]), alignment([[1.0, 0.0]], [[0.0, 1.0]])
        (0.0, 2.0)
    """
    z, z_positive = as_features("z", z, "first views"), as_features("z_positive", z_positive, "second views")
    if z.shape != z_positive.shape:
        raise CltoolsError(f"The views are {[*z.shape]} and {[*z_positive.shape]}; give two views of the same images.")
    with torch.autocast(z.device.type, enabled=False):
        return float((to_length_1(z) - to_length_1(z_positive.to(z.device))).square().sum(1).mean())


@torch.no_grad()
def uniformity(z: Float[Tensor, "N D"] | Numbers, t: float = 2.0) -> float:
    """Return the log of the mean of e^{-t·distance²} over pairs of rows on the unit sphere; lower is more uniform.

    It is 0 if all rows coincide and -4t for two opposite rows. Wang & Isola, arXiv:2005.10242. Vectors are
    L2-normalised here. The sum is taken in blocks of rows and in log space, which bounds memory and allows a large t.

    Args:
        z: embeddings [N, D].
        t: scale of the squared distances, above 0.

    Raises:
        ValueError: there are fewer than two rows, vectors are not finite, or t is not above 0.

    Example:
        >>> from cltools import uniformity
        >>> spread, close = [[1.0, 0.0], [-1.0, 0.0]], [[1.0, 0.0], [0.6, 0.8]]
        >>> round(uniformity(spread), 3), round(uniformity(close), 3)
        (-8.0, -1.6)
    """
    z = as_features("z", z, "embedding")
    if len(z) < 2:
        raise CltoolsError("Uniformity is a mean over pairs; give at least two rows.")
    t = check_number("t", t, "above 0, a number from 1e-6 to 1e6")
    with torch.autocast(z.device.type, enabled=False):
        z = to_length_1(z)
        step = max(1, CELLS // len(z))
        blocks = []
        for start in range(0, len(z) - 1, step):
            cosine = z[start : start + step] @ z[start + 1 :].T
            # Row r is image start+r, column c image start+1+c: the pairs i < j lie on and above the diagonal.
            below = torch.ones_like(cosine, dtype=torch.bool).tril(-1)
            # ‖a-b‖² = 2-2cos; rounding may put a cosine above 1.
            blocks.append((2 * t * (cosine.clamp(-1, 1) - 1)).masked_fill(below, -torch.inf).flatten().logsumexp(0))
        return float(torch.stack(blocks).logsumexp(0)) - math.log(len(z) * (len(z) - 1) / 2)


@torch.no_grad()
def effective_rank(z: Float[Tensor, "N D"] | Numbers) -> float:
    """Return e^H of the singular values' shares: the effective number of directions, from 1 (collapse) to min(N, D).

    RankMe, arXiv:2210.02885, eq. 1 and 2. Vectors are L2-normalised here, and not centred.

    Args:
        z: embeddings [N, D].

    Raises:
        ValueError: there are no rows, or vectors are not finite.

    Example:
        >>> from cltools import effective_rank
        >>> round(effective_rank([[1.0, 0.0], [0.0, 1.0]]), 3), round(effective_rank([[1.0, 0.0], [1.0, 0.0]]), 3)
        (2.0, 1.0)
    """
    z = as_features("z", z, "embedding")
    with torch.autocast(z.device.type, enabled=False):
        values = torch.linalg.svdvals(to_length_1(z))
    share = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
    return math.exp(-float(torch.special.xlogy(share, share).sum()))


def knn_accuracy(
    bank: Numbers, bank_labels: Any, queries: Numbers, labels: Any, *, protocol: KnnProtocol = "knn200"
) -> float:
    """Return the kNN accuracy in percent, by the cosine of L2-normalised features in float32 (arXiv:1805.01978).

    `knn200`: the min(200, N) nearest vote with weight e^{cos/0.1}. `knn10`: the min(10, N) nearest have one vote each;
    among classes with equal votes, the larger sum of cosines wins. Remaining ties go to the smaller label, so that the
    same features always give the same number.

    Args:
        bank: features [N, D] of the training images, unaugmented.
        bank_labels: their classes [N], any whole numbers from 0 up, or strings; see `as_labels`.
        queries: features [Q, D] of the images to classify.
        labels: their classes [Q]; a class that is not in the bank counts as an error.
        protocol: the voting rule.

    Raises:
        ValueError: the protocol is unknown; there are unknown labels (-1) or no images; or features are not finite or
            do not match.

    Example:
        >>> from cltools import knn_accuracy
        >>> bank, classes = [[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], ["cat", "cat", "dog", "dog"]
        >>> knn_accuracy(bank, classes, [[0.8, 0.2], [0.3, 0.7]], ["cat", "cat"])
        50.0
    """
    queries, (bank_labels, labels) = as_rows("queries", queries), as_labels("labels", bank_labels, labels)
    check_labels(queries, labels, "queries")
    return accuracy(knn_predict(bank, bank_labels, queries, protocol=protocol), labels)


@torch.no_grad()
def knn_predict(
    bank: Numbers, bank_labels: Any, queries: Numbers, *, protocol: KnnProtocol = "knn200"
) -> Int[Tensor, " Q"]:
    """Return the class that each query's nearest bank images vote for, on the bank's device; see `knn_accuracy`.

    If the bank's labels are strings, it is the index into these, sorted.

    Raises:
        ValueError: as in `knn_accuracy`.
    """
    if protocol not in NEIGHBOURS:
        raise unknown("kNN protocol", protocol, NEIGHBOURS)
    bank, class_index, classes = as_bank(bank, bank_labels)
    queries = as_queries(queries, bank)
    k = min(NEIGHBOURS[protocol], len(bank))
    elected = []
    with torch.autocast(bank.device.type, enabled=False):
        bank, queries = to_length_1(bank), to_length_1(queries)
        rows = min(len(queries), max(QUERIES, CELLS // len(bank)))
        memory = bank.new_empty(rows * min(len(bank), max(k, CELLS // rows)))  # of every part
        for part in queries.split(rows):
            cosine, index = _nearest(part, bank, k, memory)
            elected.append(_elected(cosine, class_index[index], len(classes), by_cosine=protocol == "knn200"))
    return classes[torch.cat(elected)]


def _nearest(queries: Tensor, bank: Tensor, k: int, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Return the k largest cosines of each query and their indices in the bank, which is searched in blocks."""
    found, begin = [], 0
    for block in torch.split(bank, max(k, len(memory) // len(queries))):
        cells = memory[: len(queries) * len(block)].view(len(queries), -1)
        cosine, index = largest(torch.mm(queries, block.T, out=cells), min(k, len(block)))
        found.append((cosine, index + begin))
        begin += len(block)
    cosine, index = (torch.cat(each, dim=1) for each in zip(*found, strict=True))
    best, place = cosine.topk(k)
    return best, index.gather(1, place)


def _elected(cosine: Tensor, voters: Tensor, classes: int, *, by_cosine: bool) -> Int[Tensor, " Q"]:
    """Return the class with the largest sum of e^{cos/0.1} over its neighbours (at most 200·e^10, safe in float32).

    Without `by_cosine`, return the class with the most neighbours; among equals, the one with the larger cosine sum.
    """
    none = cosine.new_zeros(len(cosine), classes)
    if by_cosine:
        return none.scatter_add(1, voters, (cosine / VOTE_TEMPERATURE).exp()).argmax(1)
    counts, sums = (none.scatter_add(1, voters, weight) for weight in (torch.ones_like(cosine), cosine))
    return sums.masked_fill(counts < counts.amax(1, keepdim=True), -torch.inf).argmax(1)


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes:
        mean: [D], mean of the bank.
        deviation: [D], standard deviation of the bank; infinite for constant features, so that they become 0.
        weight: [C, D], weights of standardised features.
        bias: [C].
        classes: [C], the labels that occur in the bank, ascending.
        scale: [1, D], divisor of raw features before anything else: 1, or the largest value if its square would leave
            the range of float32.
    """

    mean: Tensor
    deviation: Tensor
    weight: Tensor
    bias: Tensor
    classes: Tensor
    scale: Tensor

    def logits(self, features: Float[Tensor, "Q D"]) -> Float[Tensor, "Q C"]:
        """Return the scores of each class, for raw features on the probe's device."""
        with torch.autocast(features.device.type, enabled=False):
            return ((features / self.scale).float() - self.mean) / self.deviation @ self.weight.T + self.bias


def linear_probe(bank: Numbers, bank_labels: Any, queries: Numbers, labels: Any, *, l2: float = 1e-3) -> float:
    """Return the accuracy, in percent of queries, of a probe fitted on the bank (`fit_probe`).

    Args:
        bank: features [N, D] of the training images, unaugmented.
        bank_labels: their classes [N], any whole numbers from 0 up, or strings; see `as_labels`.
        queries: features [Q, D] of the images to classify.
        labels: their classes [Q]; a class that is not in the bank counts as an error.
        l2: the penalty.

    Raises:
        ValueError: there are unknown labels (-1) or no images; features are not finite or do not match; or the penalty
            is below 0.

    Example:
        >>> from cltools import linear_probe
        >>> bank, classes = [[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], ["cat", "cat", "dog", "dog"]
        >>> linear_probe(bank, classes, [[0.8, 0.2], [0.3, 0.7]], ["cat", "cat"])
        50.0
    """
    queries, (bank_labels, labels) = as_rows("queries", queries), as_labels("labels", bank_labels, labels)
    check_labels(queries, labels, "queries")
    return accuracy(probe_predict(bank, bank_labels, queries, l2=l2), labels)


def probe_predict(bank: Numbers, bank_labels: Any, queries: Numbers, *, l2: float = 1e-3) -> Int[Tensor, " Q"]:
    """Return the class that a probe fitted on the bank (`fit_probe`) scores highest for each query, on its device.

    Args:
        bank: features [N, D] of the training images.
        bank_labels: their classes [N].
        queries: features [Q, D] of the images to classify.
        l2: the penalty.

    Raises:
        ValueError: as in `linear_probe`.
    """
    bank = as_features("bank", bank, "bank")
    queries, probe = as_queries(queries, bank), fit_probe(bank, bank_labels, l2=l2)
    return probe.classes[probe.logits(queries).argmax(1)]


@torch_defaults()
def fit_probe(bank: Numbers, bank_labels: Any, *, l2: float = 1e-3) -> Probe:
    """Minimise mean cross-entropy + l2/2·‖W‖² over W and b, by L-BFGS in float32 from zero.

    The result is that of scikit-learn's `LogisticRegression(C=1/(l2·N))` on standardised features; the bias is not
    penalised.

    Args:
        bank: features [N, D], standardised here by their own mean and deviation.
        bank_labels: classes [N].
        l2: the penalty on the mean loss, at least 0. At 0 there is no minimum if the classes are separable, and the
            result is that of the last of 500 steps.

    Raises:
        ValueError: there are unknown labels (-1) or no images, features are not finite, or the penalty is below 0.
    """
    l2 = check_number("The probe's L2 penalty", l2, "at least 0 and finite", ", such as 0.001.")
    features, class_index, classes = as_bank(bank, bank_labels)
    with torch.autocast(features.device.type, enabled=False):
        x = features.detach().to(torch.promote_types(features.dtype, torch.float32))
        scale = moderate(x, 0)
        x = (x / scale).float()
        deviation, mean = torch.std_mean(x, dim=0, correction=0)
        # A constant feature, such as that of a dead unit, carries no information.
        deviation = deviation.masked_fill(deviation <= CONSTANT * mean.abs(), torch.inf)
        x = (x - mean) / deviation
        weight = x.new_zeros(len(classes), x.shape[1]).requires_grad_()
        bias = x.new_zeros(len(classes)).requires_grad_()
        solver = torch.optim.LBFGS(
            [weight, bias], max_iter=STEPS, history_size=20, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
        )

        def objective() -> Tensor:
            solver.zero_grad()
            # the penalty is cut at 1e15, where weights are 0 already; much larger ones give NaN
            loss = cross_entropy(x @ weight.T + bias, class_index) + min(l2, 1e15) / 2 * weight.square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        solver.step(objective)  # type: ignore[no-untyped-call]  # it enables gradients even under no_grad
    return Probe(mean, deviation, weight.detach(), bias.detach(), classes, scale)
