"""How good an encoder is, and how well samples were chosen: labels are read here, and never steer training."""

from cltools.config import EvaluationSettings
from cltools.evaluation.diagnosis import BandCount, Diagnosis, diagnose, mined_purity_by_k, same_class_by_rank
from cltools.evaluation.embed import HasFeatures, embed
from cltools.evaluation.geometry import (
    alignment,
    neighbour_purity,
    uniformity,
)
from cltools.evaluation.intervals import Share, share_of
from cltools.evaluation.keys import Hubness, KeyAge, expected_self_hits, hubness, self_hits
from cltools.evaluation.knn import Protocol, knn_accuracy
from cltools.evaluation.probe import Probe, fit_probe, linear_probe
from cltools.evaluation.report import evaluate, limited

__all__ = [
    "BandCount",
    "Diagnosis",
    "EvaluationSettings",
    "HasFeatures",
    "Hubness",
    "KeyAge",
    "Probe",
    "Protocol",
    "Share",
    "alignment",
    "diagnose",
    "embed",
    "evaluate",
    "expected_self_hits",
    "fit_probe",
    "hubness",
    "knn_accuracy",
    "limited",
    "linear_probe",
    "mined_purity_by_k",
    "neighbour_purity",
    "same_class_by_rank",
    "self_hits",
    "share_of",
    "uniformity",
]
