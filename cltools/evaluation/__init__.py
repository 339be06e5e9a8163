"""How good an encoder is, and how well samples were chosen: labels are read here, and never steer training."""

from cltools.config import EvaluationSettings
from cltools.evaluation.classes import accuracy, confusion, per_class
from cltools.evaluation.diagnosis import BandCount, Diagnosis, diagnose, mined_purity_by_k, same_class_by_rank
from cltools.evaluation.embed import HasFeatures, embed
from cltools.evaluation.finetune import FinetuneRecipe, few_labels, finetune, finetune_predict
from cltools.evaluation.geometry import (
    alignment,
    neighbour_purity,
    uniformity,
)
from cltools.evaluation.intervals import Share, share_of
from cltools.evaluation.keys import Hubness, KeyAge, expected_self_hits, hubness, self_hits
from cltools.evaluation.knn import Protocol, knn_accuracy, knn_predict
from cltools.evaluation.linear import LinearHead, LinearRecipe, fit_linear, linear_predict
from cltools.evaluation.probe import Probe, fit_probe, linear_probe, probe_predict
from cltools.evaluation.report import PROTOCOLS, Predictions, Recipes, evaluate, limited, predict
from cltools.evaluation.seeds import check_seeds, figures, over_seeds, spread

__all__ = [
    "PROTOCOLS",
    "BandCount",
    "Diagnosis",
    "EvaluationSettings",
    "FinetuneRecipe",
    "HasFeatures",
    "Hubness",
    "KeyAge",
    "LinearHead",
    "LinearRecipe",
    "Predictions",
    "Probe",
    "Protocol",
    "Recipes",
    "Share",
    "accuracy",
    "alignment",
    "check_seeds",
    "confusion",
    "diagnose",
    "embed",
    "evaluate",
    "expected_self_hits",
    "few_labels",
    "figures",
    "finetune",
    "finetune_predict",
    "fit_linear",
    "fit_probe",
    "hubness",
    "knn_accuracy",
    "knn_predict",
    "limited",
    "linear_predict",
    "linear_probe",
    "mined_purity_by_k",
    "neighbour_purity",
    "over_seeds",
    "per_class",
    "predict",
    "probe_predict",
    "same_class_by_rank",
    "self_hits",
    "share_of",
    "spread",
    "uniformity",
]
