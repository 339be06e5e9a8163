"""All public names and their modules, for type checkers and for the lazy imports of `__init__.py`."""

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
from cltools.interop.pairs import mine_pairs as mine_pairs
from cltools.losses import LossSettings as LossSettings, info_nce as info_nce, negative_mass as negative_mass
from cltools.mining import (
    AllNegatives as AllNegatives,
    AugmentedView as AugmentedView,
    Band as Band,
    CancelFalseNegatives as CancelFalseNegatives,
    Context as Context,
    CosineBand as CosineBand,
    Debiased as Debiased,
    DifficultAnchors as DifficultAnchors,
    Estimate as Estimate,
    EveryKey as EveryKey,
    HardnessWeighted as HardnessWeighted,
    LearnedThreshold as LearnedThreshold,
    MarginBand as MarginBand,
    Mined as Mined,
    MixedNegatives as MixedNegatives,
    NearestKeys as NearestKeys,
    NegativeRule as NegativeRule,
    OracleNegatives as OracleNegatives,
    OraclePositives as OraclePositives,
    PositiveRule as PositiveRule,
    RandomNegatives as RandomNegatives,
    RankBand as RankBand,
    RingNegatives as RingNegatives,
    Selection as Selection,
    Similarities as Similarities,
    SoftenedBand as SoftenedBand,
    Terms as Terms,
    select as select,
    similarities as similarities,
    terms as terms,
)
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
from cltools.training import History as History, Run as Run, TensorBoard as TensorBoard, WandB as WandB, fit as fit
from cltools.views import ViewSettings as ViewSettings, augment as augment

__version__: str
