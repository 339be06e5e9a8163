"""What every measurement refuses, in one place, so that a number is never computed from something it cannot mean."""

from torch import Tensor

from cltools.errors import CltoolsError
from cltools.mining.handed_in import Numbers, as_tensor


def as_features(name: str, numbers: Numbers, what: str) -> Tensor:
    """Features as a tensor; refuses those without a row, or with NaN or infinity, which would look like a poor result.

    Args:
        name: of the argument, for messages.
        numbers: what was given for it.
        what: they are features of.
    """
    features = as_tensor(name, numbers)
    if not len(features):
        raise CltoolsError(f"The {what} holds no image; give at least one.")
    if not features.isfinite().all():
        raise CltoolsError(f"The features of the {what} hold NaN or infinity: training diverged or weights are broken.")
    return features


def check_labels(features: Tensor, labels: Tensor, what: str) -> None:
    """Refuse labels that are missing, unknown, or of another number than the features."""
    if len(labels) != len(features):
        raise CltoolsError(f"The {what} has {len(features)} features but {len(labels)} labels; give one per image.")
    if unknown := int((labels < 0).sum()):
        raise CltoolsError(
            f"{unknown} of {len(labels)} labels of the {what} are unknown (-1), and this measurement counts "
            "agreement of labels. Use images with a class each, such as a folder with one sub-folder a class."
        )


def as_bank(bank: Numbers, bank_labels: Numbers) -> tuple[Tensor, Tensor]:
    """A bank and its labels, int64, as tensors on the bank's device; raises ValueError where they mean nothing."""
    bank, labels = as_features("bank", bank, "bank"), as_tensor("bank_labels", bank_labels)
    check_labels(bank, labels, "bank")
    return bank, labels.to(bank.device).long()


def as_queries(queries: Numbers, bank: Tensor) -> Tensor:
    """Queries as a tensor on the bank's device; raises ValueError where they cannot be compared with it."""
    queries = as_features("queries", queries, "queries")
    if (known := bank.shape[1]) != (asked := queries.shape[1]):
        raise CltoolsError(f"The bank has {known} features, the queries {asked}; embed both with the same encoder.")
    return queries.to(bank.device)
