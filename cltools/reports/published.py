"""Published figures to compare runs with, as a table in which each row names its source. None is from this package.

The columns of `published.csv`: the `method` as the source names it; `images` as `load_images` names them; the `source`;
percent by the weighted vote of 200 neighbours (`knn200`), by the source's own linear evaluation (`linear`), and by a
protocol that we do not know (`unknown`); the `epochs` of training and the `backbone`. Figures that, as far as we know,
the source does not give are None.
"""

from pathlib import Path

from pandas import read_csv

LABORATORY = "github.com/pc-cp/Benchmark-Methods-For-MNN, README at commit 80dd398"
CAUTION = (
    "The laboratory's README says that its figures of MoCoV2, SimCLR and BYOL may be somewhat high; whether all of "
    "them are of the best or of the last epoch is not known to us. Other sources evaluate by protocols of their own."
)
WHOLE = {"cifar10": (50_000, 10_000), "cifar100": (50_000, 10_000), "tinyimagenet": (100_000, 10_000)}
"""Numbers of training and test images of the downloaded sets, for which there are published figures."""

_TABLE = read_csv(Path(__file__).with_suffix(".csv"), dtype={"epochs": "Int64"}, encoding="utf-8").astype(object)
_TABLE["backbone"] = _TABLE["backbone"].fillna("")
PUBLISHED = tuple(_TABLE.where(_TABLE.notna(), None).itertuples(index=False, name="Published"))
"""By image set: the paper's figure, its laboratory's re-runs of eleven other settings, and others' best figures."""
