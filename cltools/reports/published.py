"""Published figures that runs are shown beside: one table, each row with its source. None was made by this package."""

from collections.abc import Iterator
from dataclasses import dataclass


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


IMAGE_SETS = ("cifar10", "cifar100", "tinyimagenet")
PAPER = "arXiv:2311.00358, abstract"
LABORATORY = "github.com/pc-cp/Benchmark-Methods-For-MNN, README at commit 80dd398"
CAUTION = (
    "The laboratory's README says that its figures of MoCoV2, SimCLR and BYOL may be somewhat high; whether all of "
    "them are of the best or of the last epoch is not known to us. Other sources evaluate by protocols of their own."
)

_BY_LABORATORY = {  # 200-NN and linear, on each of the image sets in turn
    "MoCoV2": (88.05, 89.70, 57.64, 62.37, 37.29, 46.08),
    "SimCLR": (85.30, 87.72, 56.50, 62.52, 37.16, 45.71),
    "BYOL": (87.54, 89.54, 57.24, 63.16, 37.65, 45.29),
    "ReSSL": (88.89, 89.97, 57.48, 63.82, 37.14, 46.38),
    "NNCLR, k = 1": (85.47, 88.06, 50.99, 60.53, 31.62, 41.70),
    "NNCLR, k = 5": (86.78, 88.80, 53.21, 61.25, 34.44, 44.38),
    "MSF, k = 5": (87.86, 89.60, 51.29, 59.84, 34.79, 42.52),
    "SNCLR, k = 5": (87.64, 89.64, 58.57, 65.45, 41.42, 49.62),
    "SCE": (89.15, 90.62, 60.17, 64.93, 40.66, 48.63),
    "CMSF": (88.95, 90.63, 54.20, 61.24, 35.97, 44.00),
    "UnMix": (87.99, 90.37, 59.11, 65.30, 38.65, 47.29),
}


_CLSP, _MIX = "github.com/dewenzeng/clsp, README at commit 1ab1979", "github.com/wgcban/mix-bt, README"
_BY_OTHERS = {  # method, source, epochs and backbone; linear, on each of the image sets as far as it is told
    ("MNN", "github.com/pc-cp/MNN, README at commit 6eb04bd", 200, "ResNet-18"): (91.47, 67.56, 50.70),
    ("MoCo v2, CLSP's re-run", _CLSP, 1000, "ResNet-18"): (92.29, 68.91, None),
    ("SimCLR, CLSP's re-run", _CLSP, 1000, "ResNet-18"): (91.45, 68.10, None),
    ("CLSP-MoCo: generated positives", _CLSP, 1000, "ResNet-18"): (94.62, 72.33, None),
    ("CLSP-SimCLR: generated positives", _CLSP, 1000, "ResNet-18"): (94.45, 72.41, None),
    ("SupCon: positives by labels", _CLSP, 1000, "ResNet-18"): (94.61, 73.89, None),
    ("All4One", "github.com/vturrisi/solo-learn, README", 1000, "ResNet-18"): (93.24, 72.17, None),
    ("Mixed Barlow Twins", _MIX, 2000, "ResNet-18"): (92.58, 69.31, 51.67),
    ("EMP-SSL: 20 patches per image", "github.com/tsb0601/EMP-SSL, README", 10, ""): (91.5, 70.1, 51.5),
}


def _published(images: str, of_paper: float) -> Iterator[Published]:
    yield Published("potential-sample mining, the paper", images, PAPER, unknown=of_paper)
    at = 2 * IMAGE_SETS.index(images)
    for method, figures in _BY_LABORATORY.items():
        knn200, linear = figures[at : at + 2]
        yield Published(method, images, LABORATORY, knn200, linear, epochs=200, backbone="ResNet-18")
    for (method, source, epochs, backbone), by_set in _BY_OTHERS.items():
        if (linear_of := by_set[IMAGE_SETS.index(images)]) is not None:
            yield Published(method, images, source, linear=linear_of, epochs=epochs, backbone=backbone)


PUBLISHED = (*_published("cifar10", 88.57), *_published("cifar100", 61.10), *_published("tinyimagenet", 36.69))
"""By image set: the paper's figure, its laboratory's re-runs of eleven settings of others, and the best of others."""
