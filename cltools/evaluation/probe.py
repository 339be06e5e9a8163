"""Linear probe: a multinomial logistic regression on frozen features, solved and not trained.

The problem is convex, so the answer depends on the features and on one number, the L2 penalty, and on no learning
rate, schedule, augmentation or seed.

Legend: N bank images, Q queries, D features, C classes.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from cltools.errors import check_number
from cltools.evaluation.checks import as_bank, as_features, as_queries, check_labels
from cltools.evaluation.classes import accuracy
from cltools.mining.handed_in import Numbers, as_labels, as_rows, as_usual, moderate

STEPS = 500  # far above what features standardised and penalised as here need (about 30 to 150)
LARGEST_PENALTY = 1e15  # weights are 0 from far below on, and not numbers from far above on
CONSTANT = 1e-6  # a deviation below this share of the mean is rounding, not information


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes:
        mean: [D], of the bank.
        deviation: [D], of the bank; infinite for constant features, so that they become 0.
        weight: [C, D], on standardised features.
        bias: [C].
        classes: [C], the labels that occur in the bank, ascending.
        scale: [1, D], what raw features are divided by first: 1, but the largest where float32 holds no square of it.
    """

    mean: Tensor
    deviation: Tensor
    weight: Tensor
    bias: Tensor
    classes: Tensor
    scale: Tensor

    def logits(self, features: Float[Tensor, "Q D"]) -> Float[Tensor, "Q C"]:
        """Scores of each class, for raw features on the probe's device."""
        with torch.autocast(features.device.type, enabled=False):
            return ((features / self.scale).float() - self.mean) / self.deviation @ self.weight.T + self.bias


def linear_probe(bank: Numbers, bank_labels: Any, queries: Numbers, labels: Any, *, l2: float = 1e-3) -> float:
    """Percent of queries that a probe fitted on the bank (`fit_probe`) classifies rightly.

    Args:
        bank: features [N, D] of the training images, unaugmented.
        bank_labels: their classes [N], any whole numbers from 0 up, or texts; see `as_labels`.
        queries: features [Q, D] of the images to classify.
        labels: their classes [Q]; one that the bank lacks counts as missed.
        l2: the penalty.

    Raises:
        ValueError: unknown labels (-1); no images; features that are not finite or do not match; a penalty below 0.
    """
    queries, (bank_labels, labels) = as_rows("queries", queries), as_labels("labels", bank_labels, labels)
    check_labels(queries, labels, "queries")
    return accuracy(probe_predict(bank, bank_labels, queries, l2=l2), labels)


def probe_predict(bank: Numbers, bank_labels: Any, queries: Numbers, *, l2: float = 1e-3) -> Int[Tensor, " Q"]:
    """The class that a probe fitted on the bank (`fit_probe`) scores highest for each query, on the bank's device.

    Args:
        bank: features [N, D] of the training images.
        bank_labels: their classes [N].
        queries: features [Q, D] of the images to classify.
        l2: the penalty.

    Raises:
        ValueError: as of `linear_probe`.
    """
    bank = as_features("bank", bank, "bank")
    queries, probe = as_queries(queries, bank), fit_probe(bank, bank_labels, l2=l2)
    return probe.classes[probe.logits(queries).argmax(1)]


@as_usual()
def fit_probe(bank: Numbers, bank_labels: Any, *, l2: float = 1e-3) -> Probe:
    """The minimum over W and b of mean cross-entropy + l2/2·‖W‖², by L-BFGS in float32 from zero.

    The same as scikit-learn's `LogisticRegression(C=1/(l2·N))` on standardised features; the bias is free.

    Args:
        bank: features [N, D], standardised here by their own mean and deviation.
        bank_labels: classes [N].
        l2: the penalty on the mean loss, at least 0. At 0 classes that can be separated have no minimum, and the
            answer is where the last of 500 steps ends.

    Raises:
        ValueError: unknown labels (-1); no images; features that are not finite; a penalty below 0.
    """
    l2 = min(check_number("The probe's L2 penalty", l2, "at least 0 and finite", ", such as 0.001."), LARGEST_PENALTY)
    features, places, classes = as_bank(bank, bank_labels)
    with torch.autocast(features.device.type, enabled=False):
        x = features.detach().to(torch.promote_types(features.dtype, torch.float32))
        scale = moderate(x, 0)
        x = (x / scale).float()
        deviation, mean = torch.std_mean(x, dim=0, correction=0)
        # A constant feature, such as a dead unit, says nothing.
        deviation = deviation.masked_fill(deviation <= CONSTANT * mean.abs(), torch.inf)
        x = (x - mean) / deviation
        weight = x.new_zeros(len(classes), x.shape[1]).requires_grad_()
        bias = x.new_zeros(len(classes)).requires_grad_()
        solver = torch.optim.LBFGS(
            [weight, bias], max_iter=STEPS, history_size=20, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
        )

        def objective() -> Tensor:
            solver.zero_grad()
            loss = cross_entropy(x @ weight.T + bias, places) + l2 / 2 * weight.square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        solver.step(objective)  # type: ignore[no-untyped-call]  # which turns gradients on, also under no_grad
    return Probe(mean, deviation, weight.detach(), bias.detach(), classes, scale)
