"""Snapshots: an encoder's embeddings of some images at some epochs, with maps and thumbnails, in one file."""

from cltools.snapshot.embeddings import snapshot_of_embeddings
from cltools.snapshot.making import Recorder, load_snapshot, recorder_of, take_snapshot, with_epoch
from cltools.snapshot.maps import content_key, in_unit_square, with_map, with_umap
from cltools.snapshot.reading import read_embeddings
from cltools.snapshot.snapshot import Snapshot, sprite_columns, tiles_of
