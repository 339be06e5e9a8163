"""Where images come from: built-in sets that need no network, downloads that are checked, and folders on disk."""

from cltools.datasets.image_set import ImageSet
from cltools.datasets.load import DataSettings, data_root, has_test, image_sets, load_images, split_holdout

__all__ = ["DataSettings", "ImageSet", "data_root", "has_test", "image_sets", "load_images", "split_holdout"]
