"""Published figures that runs are shown beside: one table, each row with its source. None was made by this package.

The columns of `published.csv`: the `method` as its source names it; `images` as `load_images` names them; the `source`;
percent by the weighted vote of 200 neighbours (`knn200`), by a linear evaluation as the source makes it (`linear`), and
by a protocol that we do not know (`unknown`); `epochs` of training, and the `backbone`. Figures that a source does not
give, as far as we know, are None.
"""

from pathlib import Path

from pandas import read_csv

LABORATORY = "github.com/pc-cp/Benchmark-Methods-For-MNN, README at commit 80dd398"
CAUTION = (
    "The laboratory's README says that its figures of MoCoV2, SimCLR and BYOL may be somewhat high; whether all of "
    "them are of the best or of the last epoch is not known to us. Other sources evaluate by protocols of their own."
)
WHOLE = {"cifar10": (50_000, 10_000), "cifar100": (50_000, 10_000), "tinyimagenet": (100_000, 10_000)}
"""Training and test images of the sets that have to be downloaded, which published figures are of."""

_TABLE = read_csv(Path(__file__).with_suffix(".csv"), dtype={"epochs": "Int64"}, encoding="utf-8").astype(object)
_TABLE["backbone"] = _TABLE["backbone"].fillna("")
PUBLISHED = tuple(_TABLE.where(_TABLE.notna(), None).itertuples(index=False, name="Published"))
"""By image set: the paper's figure, its laboratory's re-runs of eleven settings of others, and the best of others."""
