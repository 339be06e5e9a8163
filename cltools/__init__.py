"""Which samples a contrastive loss learns from, and which it should."""

from cltools.config import EvaluationSettings, Experiment, TrainingSettings
from cltools.contrast import contrastive_loss
from cltools.datasets import DataSettings, ImageSet, load_images
from cltools.encoders import Encoder, EncoderSettings
from cltools.evaluation import (
    Diagnosis,
    alignment,
    diagnose,
    embed,
    evaluate,
    knn_accuracy,
    linear_probe,
    uniformity,
)
from cltools.explorer import explore
from cltools.gradients import info_nce_gradients
from cltools.interop import ContrastiveLoss, as_metric_learning_miner
from cltools.losses import LossSettings, info_nce, negative_mass
from cltools.mining import (
    AllNegatives,
    Band,
    BandNegatives,
    CancelFalseNegatives,
    Debiased,
    Estimate,
    HardnessWeighted,
    MixedNegatives,
    NegativeRule,
    OracleNegatives,
    PositiveRule,
    RandomNegatives,
    RingNegatives,
    Selection,
    Similarities,
    select,
    similarities,
    terms,
)
from cltools.presets import laptop, preset, preset_names
from cltools.queue import Queue
from cltools.snapshot import (
    Recorder,
    Snapshot,
    load_snapshot,
    read_embeddings,
    snapshot_of_embeddings,
    take_snapshot,
)
from cltools.training import History, Run, TensorBoard, fit
from cltools.views import ViewSettings, augment

__version__ = "0.1.0"

__all__ = [
    "AllNegatives",
    "Band",
    "BandNegatives",
    "CancelFalseNegatives",
    "ContrastiveLoss",
    "DataSettings",
    "Debiased",
    "Diagnosis",
    "Encoder",
    "EncoderSettings",
    "Estimate",
    "EvaluationSettings",
    "Experiment",
    "HardnessWeighted",
    "History",
    "ImageSet",
    "LossSettings",
    "MixedNegatives",
    "NegativeRule",
    "OracleNegatives",
    "PositiveRule",
    "Queue",
    "RandomNegatives",
    "Recorder",
    "RingNegatives",
    "Run",
    "Selection",
    "Similarities",
    "Snapshot",
    "TensorBoard",
    "TrainingSettings",
    "ViewSettings",
    "alignment",
    "as_metric_learning_miner",
    "augment",
    "contrastive_loss",
    "diagnose",
    "embed",
    "evaluate",
    "explore",
    "fit",
    "info_nce",
    "info_nce_gradients",
    "knn_accuracy",
    "laptop",
    "linear_probe",
    "load_images",
    "load_snapshot",
    "negative_mass",
    "preset",
    "preset_names",
    "read_embeddings",
    "select",
    "similarities",
    "snapshot_of_embeddings",
    "take_snapshot",
    "terms",
    "uniformity",
]
