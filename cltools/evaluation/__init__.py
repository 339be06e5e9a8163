"""How good an encoder is, and how well samples were chosen: labels are read here, and never steer training."""

from cltools.config import EvaluationSettings
from cltools.evaluation.embed import HasFeatures, embed
from cltools.evaluation.geometry import (
    alignment,
    false_negative_share,
    mined_purity,
    neighbour_purity,
    uniformity,
)
from cltools.evaluation.knn import Protocol, knn_accuracy
from cltools.evaluation.probe import Probe, fit_probe, linear_probe
from cltools.evaluation.report import evaluate, limited

__all__ = [
    "EvaluationSettings",
    "HasFeatures",
    "Probe",
    "Protocol",
    "alignment",
    "embed",
    "evaluate",
    "false_negative_share",
    "fit_probe",
    "knn_accuracy",
    "limited",
    "linear_probe",
    "mined_purity",
    "neighbour_purity",
    "uniformity",
]
