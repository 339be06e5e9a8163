"""Which samples a contrastive loss learns from, and which it should."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cltools.config import EvaluationSettings, Experiment, OutsideSettings, TrainingSettings
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
    "OutsideSettings",
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

_NAMES = {
    "config": "EvaluationSettings Experiment OutsideSettings TrainingSettings",
    "contrast": "contrastive_loss",
    "datasets": "DataSettings ImageSet load_images",
    "encoders": "Encoder EncoderSettings",
    "evaluation": "Diagnosis alignment diagnose embed evaluate knn_accuracy linear_probe uniformity",
    "explorer": "explore",
    "gradients": "info_nce_gradients",
    "interop": "ContrastiveLoss as_metric_learning_miner",
    "losses": "LossSettings info_nce negative_mass",
    "mining": "AllNegatives Band BandNegatives CancelFalseNegatives Debiased Estimate HardnessWeighted MixedNegatives "
    "NegativeRule OracleNegatives PositiveRule RandomNegatives RingNegatives "
    "Selection Similarities select similarities terms",
    "presets": "laptop preset preset_names",
    "queue": "Queue",
    "snapshot": "Recorder Snapshot load_snapshot read_embeddings snapshot_of_embeddings take_snapshot",
    "training": "History Run TensorBoard fit",
    "views": "ViewSettings augment",
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}
_EXTRA_OF = {"explorer": "notebooks", "snapshot": "notebooks", "training": "train", "evaluation": "train"}


def __getattr__(name: str) -> object:
    """Import the module of a public name when the name is first used, so that `import cltools` alone loads nothing.

    Raises:
        AttributeError: no such name.
        ImportError: a library that the name needs is not installed; the message names the extra that brings it.
    """
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'cltools' has no attribute {name!r}")
    module = _MODULE_OF[name]
    try:
        value = getattr(import_module(f"cltools.{module}"), name)
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get(module)
        if extra is None or (error.name or "").split(".")[0] == "cltools":
            raise
        raise ImportError(
            f"cltools.{name} needs {error.name}, which is not installed. Install it with: "
            f'pip install "cltools[{extra}]"',
            name=error.name,
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
