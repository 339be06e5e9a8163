"""Which samples a contrastive loss learns from, and which it should."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cltools.config import (
        EvaluationSettings as EvaluationSettings,
        Experiment as Experiment,
        OutsideSettings as OutsideSettings,
        TrainingSettings as TrainingSettings,
    )
    from cltools.contrast import contrastive_loss as contrastive_loss
    from cltools.datasets import DataSettings as DataSettings, ImageSet as ImageSet, load_images as load_images
    from cltools.encoders import Encoder as Encoder, EncoderSettings as EncoderSettings
    from cltools.errors import CltoolsError as CltoolsError
    from cltools.evaluation import (
        Diagnosis as Diagnosis,
        alignment as alignment,
        diagnose as diagnose,
        effective_rank as effective_rank,
        embed as embed,
        evaluate as evaluate,
        knn_accuracy as knn_accuracy,
        linear_probe as linear_probe,
        uniformity as uniformity,
    )
    from cltools.explorer import explore as explore
    from cltools.gradients import info_nce_gradients as info_nce_gradients
    from cltools.interop import ContrastiveLoss as ContrastiveLoss, as_metric_learning_miner as as_metric_learning_miner
    from cltools.interop.offline import (
        mine_hard_negatives_arguments as mine_hard_negatives_arguments,
        mine_pairs as mine_pairs,
    )
    from cltools.losses import LossSettings as LossSettings, info_nce as info_nce, negative_mass as negative_mass
    from cltools.mining import *  # noqa: F403  # every rule, so that a new one is named in one place
    from cltools.presets import laptop as laptop, preset as preset, preset_names as preset_names
    from cltools.queue import Queue as Queue
    from cltools.snapshot import (
        Recorder as Recorder,
        Snapshot as Snapshot,
        load_snapshot as load_snapshot,
        read_embeddings as read_embeddings,
        snapshot_of_embeddings as snapshot_of_embeddings,
        take_snapshot as take_snapshot,
        with_map as with_map,
        with_umap as with_umap,
    )
    from cltools.training import History as History, Run as Run, TensorBoard as TensorBoard, fit as fit
    from cltools.views import ViewSettings as ViewSettings, augment as augment

__version__ = "0.2.0"

_NAMES = {
    "config": "EvaluationSettings Experiment OutsideSettings TrainingSettings",
    "contrast": "contrastive_loss",
    "datasets": "DataSettings ImageSet load_images",
    "encoders": "Encoder EncoderSettings",
    "errors": "CltoolsError",
    "evaluation": "Diagnosis alignment diagnose effective_rank embed evaluate knn_accuracy linear_probe uniformity",
    "explorer": "explore",
    "gradients": "info_nce_gradients",
    "interop": "ContrastiveLoss as_metric_learning_miner mine_hard_negatives_arguments mine_pairs",
    "losses": "LossSettings info_nce negative_mass",
    "presets": "laptop preset preset_names",
    "queue": "Queue",
    "snapshot": "Recorder Snapshot load_snapshot read_embeddings snapshot_of_embeddings take_snapshot "
    "with_map with_umap",
    "training": "History Run TensorBoard fit",
    "views": "ViewSettings augment",
}
"""The public names of each module; those of `cltools.mining` are all that it names itself."""
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}
_EXTRA_OF = {"explorer": "notebooks", "snapshot": "notebooks"} | dict.fromkeys(
    ("config", "datasets", "encoders", "evaluation", "presets", "training"), "train"
)


def __getattr__(name: str) -> object:
    """Import the module of a public name when the name is first used, so that `import cltools` alone loads nothing.

    Raises:
        AttributeError: no such name.
        ImportError: a library that the name needs is not installed; the message names the extra that brings it.
    """
    if name == "__all__":
        return __dir__()
    if name.startswith("_"):
        raise AttributeError(f"module 'cltools' has no attribute {name!r}")
    module = _MODULE_OF.get(name, "mining")
    try:
        found = import_module(f"cltools.{module}")
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get(module)
        if extra is None or (error.name or "").split(".")[0] == "cltools":
            raise
        raise ImportError(
            f"cltools.{name} needs {error.name}, which is not installed. Install it with: "
            f'pip install "cltools[{extra}]"',
            name=error.name,
        ) from error
    if name not in _MODULE_OF and name not in found.__all__:
        raise AttributeError(f"module 'cltools' has no attribute {name!r}")
    value: object = getattr(found, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*_MODULE_OF, *import_module("cltools.mining").__all__})
