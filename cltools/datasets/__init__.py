"""Image sets: built-in ones that need no network, checked downloads, and folders on disk."""

from cltools.datasets.image_set import DataSettings, ImageSet, data_root, draw, split_holdout
from cltools.datasets.load import image_sets, load_images, splits_of, what_reads
