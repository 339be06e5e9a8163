"""Published figures that runs are shown beside: one table, each row with its source. None was made by this package."""

from dataclasses import dataclass
from pathlib import Path

from pandas import read_csv


@dataclass(frozen=True)
class Published:
    """What a source says of a method on a set of images; None and "" where it says nothing that we know.

    Attributes:
        method: as the source names it.
        images: as `load_images` names them.
        source: where the figures stand.
        knn200: percent by the weighted vote of 200 neighbours.
        linear: percent by a linear evaluation, as the source makes it.
        unknown: percent, top-1, by a protocol that we do not know.
        epochs: of training.
        backbone: its name.
    """

    method: str
    images: str
    source: str
    knn200: float | None = None
    linear: float | None = None
    unknown: float | None = None
    epochs: int | None = None
    backbone: str = ""


LABORATORY = "github.com/pc-cp/Benchmark-Methods-For-MNN, README at commit 80dd398"
CAUTION = (
    "The laboratory's README says that its figures of MoCoV2, SimCLR and BYOL may be somewhat high; whether all of "
    "them are of the best or of the last epoch is not known to us. Other sources evaluate by protocols of their own."
)


WHOLE = {"cifar10": (50_000, 10_000), "cifar100": (50_000, 10_000), "tinyimagenet": (100_000, 10_000)}
"""Training and test images of the sets that have to be downloaded, which published figures are of."""

_TABLE = read_csv(Path(__file__).with_suffix(".csv"), dtype={"epochs": "Int64"}, encoding="utf-8").astype(object)
PUBLISHED = tuple(Published(**row.dropna()) for _, row in _TABLE.iterrows())
"""By image set: the paper's figure, its laboratory's re-runs of eleven settings of others, and the best of others."""
