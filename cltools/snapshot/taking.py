"""Taking a snapshot: of a run as it is, or, as a callback of `fit`, at several epochs of its training.

Legend: E epochs, N images or keys, M of these and of queries, d embedding, H height, W width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy import ndarray

from cltools.config import Experiment
from cltools.datasets import ImageSet
from cltools.encoders.backbones import home
from cltools.errors import CltoolsError
from cltools.evaluation.checks import as_seed, named
from cltools.mining.learned import thresholds
from cltools.provenance import command, commit
from cltools.snapshot.maps import aligned, judged, pca, pca_over_epochs
from cltools.snapshot.snapshot import Snapshot
from cltools.snapshot.sprite import as_sprite, pictured_places, thumbnail_size, thumbnails
from cltools.training import Run
from cltools.training.inputs import training_images
from cltools.training.run import two_views


class Recorder:
    """A callback of `fit` that keeps the embeddings of some images at some epochs.

    The views of an image are the same at every epoch, so that only the encoder moves its points.
    """

    def __init__(self, images: ImageSet, n: int = 2000, seed: int = 0, *, epochs: Sequence[int] | None = None) -> None:
        """A recorder of at most `n` of the images.

        Args:
            images: which images; labels are kept for those who want to see them.
            n: at most that many, drawn with the seed.
            seed: of the draw and of the views.
            epochs: after which epochs; None for all.

        Raises:
            ValueError: fewer than three images, of which there is no map.
        """
        self.seed = as_seed(seed)
        self.images = images.subset(n, self.seed)
        if len(self.images) < 3:
            raise CltoolsError(f"A snapshot of {len(self.images)} images has no map; take at least 3.")
        self.epochs = None if epochs is None else {*epochs}
        self.taken: dict[int, tuple[ndarray, ndarray]] = {}
        self.thresholds: dict[int, ndarray] = {}

    def __call__(self, run: Run) -> None:
        """Record, if this is an epoch to be kept."""
        epoch = len(run.history.rows)
        if self.epochs is None or epoch in self.epochs:
            self.record(run, epoch)

    def record(self, run: Run, epoch: int) -> None:
        """Embed the images as they are now; the encoder is left as it was found."""
        draws = torch.Generator(home(run.encoder)).manual_seed(self.seed)
        z, positive = two_views(run, self.images, draws)
        self.taken[epoch] = z.cpu().numpy(), positive.cpu().numpy()
        if run.rule_state is not None and "threshold" in run.rule_state:
            ids = self.images.ids.to(run.rule_state["ids"].device)
            self.thresholds[epoch] = thresholds(run.rule_state, ids).cpu().numpy()

    def snapshot(self, run: Run) -> Snapshot:
        """All that was recorded, with a map by PCA.

        Raises:
            ValueError: nothing was recorded.
        """
        if not self.taken:
            raise CltoolsError("Nothing was recorded: give the recorder to fit(callbacks=[…]), and epochs it reaches.")
        images = self.images
        ids, labels, pictures = (each.cpu().numpy() for each in (images.ids, images.labels, images.images))
        classes = tuple(named(images.classes))
        found = assembled(run.experiment, self.taken, ids, pictures, labels=labels, classes=classes)
        learned = np.stack([self.thresholds[epoch] for epoch in found.epochs]) if self.thresholds else None
        return replace(found, thresholds=learned)


def take_snapshot(run: Run, images: ImageSet, n: int = 2000, seed: int = 0) -> Snapshot:
    """A snapshot of the run as it is, of at most `n` of the images.

    Args:
        run: whose encoder and momentum copy embed; both are left as they were found.
        images: which images.
        n: at most that many, drawn with the seed.
        seed: of the draw and of the views.
    """
    recorder = Recorder(images, n, seed)
    recorder.record(run, len(run.history.rows))
    return recorder.snapshot(run)


def recorder_of(snapshot: Snapshot, images: ImageSet | None, epochs: Sequence[int] | None = None) -> Recorder:
    """What records a run's embeddings of a snapshot's images, in its order.

    Args:
        snapshot: of some of the images.
        images: None for the training images of the snapshot's experiment.
        epochs: after which epochs; None for all.

    Raises:
        ValueError: some of them are not there, or the snapshot is of embeddings that were made elsewhere.
    """
    if images is None:
        try:
            images = training_images(snapshot.experiment)[0]
        except ValueError as error:
            elsewhere = "Of embeddings made elsewhere there is no encoder to train; else give explore(images=…)."
            raise CltoolsError(f"{error} {elsewhere}") from error
    if snapshot.queries is not None:
        raise CltoolsError("A snapshot of queries and a corpus follows no training: no encoder of ours made it.")
    place = {image: i for i, image in enumerate(images.ids.tolist())}
    if missing := [image for image in snapshot.ids.tolist() if image not in place]:
        few = f"{len(missing)} of the snapshot's {len(snapshot)} images are not among these {len(images)}"
        raise CltoolsError(f"{few}, such as id {missing[0]}. Give the images that it was taken of.")
    images = images.select(torch.tensor([place[image] for image in snapshot.ids.tolist()]))
    return Recorder(images, len(images), epochs=epochs)


def with_epoch(snapshot: Snapshot, recorder: Recorder, run: Run) -> Snapshot:
    """The snapshot with what the recorder took last of the run, on its map by PCA turned onto that of the epoch before.

    Epochs from there on, such as those of an earlier run, are left out, and so are its other maps.

    Raises:
        ValueError: the run's embeddings have another length than the snapshot's.
    """
    epoch = len(run.history.rows)
    z, keys = recorder.taken[epoch]
    if z.shape[1] != (d := snapshot.anchors.shape[2]):
        raise CltoolsError(f"The snapshot's embeddings have {d} numbers; follow a run with encoder.projection={d}.")
    before = sum(known < epoch for known in snapshot.epochs)
    ours = snapshot.map_names.index("PCA")
    place = aligned(pca(z), snapshot.maps[ours, max(before - 1, 0)])
    kept, trust = judged(z[None], place[None, None])
    learned = recorder.thresholds.get(epoch)
    old = snapshot.thresholds if before else np.empty((0, len(snapshot)), np.float32)
    held: dict[str, Any] = {"anchors": z[None], "keys": keys[None]}
    held = {name: np.concatenate([getattr(snapshot, name)[:before], new]) for name, new in held.items()}
    by_map = {"maps": place[None, None], "kept": kept, "trustworthiness": trust}
    for name, new in by_map.items():
        held[name] = np.concatenate([getattr(snapshot, name)[ours : ours + 1, :before], new], axis=1)
    held["thresholds"] = None if old is None or learned is None else np.concatenate([old[:before], learned[None]])
    epochs = (*snapshot.epochs[:before], epoch)
    return replace(snapshot, experiment=run.experiment, epochs=epochs, **held, **_by_pca_here())


def _by_pca_here() -> dict[str, Any]:
    """What a snapshot says that is taken now, with a map by PCA."""
    return {"map_names": ("PCA",), "command": command(), "commit": commit()}


def assembled(
    experiment: Experiment,
    taken: Mapping[int, tuple[ndarray, ndarray]],
    ids: Int64[ndarray, " N"],
    pictures: UInt8[ndarray, "M 3 H W"] | None,
    pictured: Int64[ndarray, " M"] | None = None,
    **others: Any,
) -> Snapshot:
    """A snapshot with a map by PCA and thumbnails.

    Args:
        experiment: where an explorer starts.
        taken: anchors and keys, unit vectors, by epoch.
        ids: of the keys.
        pictures: of the keys, and after them of the queries; None for none.
        pictured: places of what they show, queries counted on from N; None for that of each key.
        others: what else a snapshot holds.
    """
    epochs = tuple(sorted(taken))
    anchors, keys = (np.stack([taken[epoch][side] for epoch in epochs]) for side in (0, 1))
    mapped = anchors if others.get("queries") is None else keys
    maps = pca_over_epochs(mapped)[None]
    kept, trust = judged(mapped, maps)
    tile, sprite = (0, 0), b""
    if pictures is not None:
        tile = thumbnail_size(pictures)
        drawn = pictured_places(len(pictures), tile)
        if drawn is not None:
            pictures, pictured = pictures[drawn], drawn if pictured is None else pictured[drawn]
        sprite = as_sprite(thumbnails(pictures))
    others |= {"maps": maps, "kept": kept, "trustworthiness": trust} | _by_pca_here()
    others |= {"ids": ids, "sprite": sprite, "tile": tile, "pictured": pictured}
    return Snapshot(experiment, epochs, anchors, keys, **others)
