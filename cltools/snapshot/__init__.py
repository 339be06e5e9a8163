"""What an encoder makes of some images at some moments of its training, in one file: embeddings, maps, thumbnails."""

from cltools.snapshot.embeddings import snapshot_of_embeddings
from cltools.snapshot.making import Recorder, load_snapshot, take_snapshot
from cltools.snapshot.maps import with_map, with_umap
from cltools.snapshot.reading import read_embeddings
from cltools.snapshot.snapshot import Snapshot
