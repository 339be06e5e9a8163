"""What `growth` measures at each size: functions that prepare inputs of that size, and return works to be timed.

Each is called in a process of its own. A work that returns the path of a file is also measured by the file's size.

Legend: B anchors, K keys, N images, d embedding.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.costs import DIM
from benchmarks.measuring import Work
from benchmarks.steps import random_images
from benchmarks.vectors import CLASSES, Contrast
from cltools.datasets import ImageSet
from cltools.encoders import build_encoder, pixel_statistics
from cltools.evaluation import embed, knn_accuracy
from cltools.explorer.standalone import page_of
from cltools.explorer.state import first_state
from cltools.files import write_text
from cltools.presets import TINY, preset
from cltools.snapshot import Snapshot, snapshot_of_embeddings
from cltools.training.inputs import TrainedOn
from cltools.training.step import batches, epoch_order

CPU = torch.device("cpu")
ANCHORS, KEYS = 512, 16384
"""Anchors while the keys grow, and keys while the anchors grow."""
BATCH = 256
UNCACHED = 20
"""Number of batches that are read from a file which the system does not hold in memory."""
BLOCK = 1024
"""Images per shuffled block."""
QUERIES = 1000
FEW = 40
"""Rows of a snapshot that is made only for the imports that this needs."""
IMAGE = 3 * 32 * 32
"""Bytes of an image."""

Works = dict[str, Work]
Prepare = Callable[[int, Path], Works]
"""Called with a size and an empty folder; returns the works by name, in the order in which they run."""


def loss(method: str, anchors: int | None, keys: int | None, size: int, _: Path) -> Works:
    """Prepare the loss of a method on random vectors of 128 dimensions.

    Args:
        method: the method; for `simclr` the keys are the anchors.
        anchors: number of anchors; None for `size`.
        keys: number of keys; None for `size`.
        size: what grows.
    """
    of_keys = None if method == "simclr" else keys or size
    contrast = Contrast((anchors or size, of_keys, DIM), preset(f"cifar10-{method}"), CPU)
    return {"": contrast.in_training}


def images_in_memory(size: int, _: Path) -> Works:
    """Prepare what training computes of N images that are in memory."""
    return of_images(random_images(size, 32))


def images_mapped(size: int, folder: Path) -> Works:
    """Prepare what training computes of N images that are mapped from a file."""
    path = folder / "images.npy"
    written = np.lib.format.open_memmap(path, "w+", np.uint8, (size, 3, 32, 32))
    generator = np.random.default_rng(0)
    for start in range(0, size, 10_000):
        part = written[start : start + 10_000]
        part[:] = generator.integers(0, 256, part.shape, np.uint8)
    written.flush()
    del written
    uncached: Works = {
        f"{UNCACHED} batches in random order, read from disk": lambda: gathered_from_disk(path, None),
        f"{UNCACHED} batches in shuffled blocks, read from disk": lambda: gathered_from_disk(path, BLOCK),
    }
    return uncached | of_images(mapped(path))


def mapped(path: Path) -> ImageSet:
    """Return the images of a file, mapped."""
    pixels = torch.from_numpy(np.load(path, mmap_mode="r+"))
    ids = torch.arange(len(pixels))
    return ImageSet(pixels, ids % CLASSES, ids, tuple(map(str, range(CLASSES))), "mapped", "train")


def of_images(images: ImageSet) -> Works:
    """Return what training computes of all images: once, or in each epoch."""
    count = len(images)
    generator = torch.Generator().manual_seed(0)
    return {
        "checks of an ImageSet": lambda: images.select(slice(None)),
        "digests": lambda: TrainedOn.of(images, given=True),
        "pixel statistics": lambda: pixel_statistics(images.images),
        "order of an epoch": lambda: epoch_order(count, None, generator),
        "batches in random order": lambda: gathered(images, epoch_order(count, None, generator)),
        "batches in shuffled blocks": lambda: gathered(images, epoch_order(count, BLOCK, generator)),
    }


def gathered(images: ImageSet, order: Tensor) -> None:
    """Gather the batches of an epoch."""
    for _ in batches(images, min(BATCH, len(images)), order, torch.device("cpu")):
        pass


def gathered_from_disk(path: Path, block: int | None) -> None:
    """Gather some batches after the system has dropped the file from memory, where it can.

    Args:
        path: The file of the images.
        block: Number of images per shuffled block; None for a random order.
    """
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    images = mapped(path)
    gathered(images, epoch_order(len(images), block, torch.Generator().manual_seed(0))[: UNCACHED * BATCH])


def neighbours(size: int, _: Path) -> Works:
    """Prepare the kNN evaluation of some queries against a bank of N random features, of the tiny encoder's length."""
    generator = torch.Generator().manual_seed(0)
    bank, queries = (torch.randn(count, 256, generator=generator) for count in (size, QUERIES))
    labels = torch.arange(size) % CLASSES, torch.arange(QUERIES) % CLASSES
    return {"": lambda: knn_accuracy(bank, labels[0], queries, labels[1])}


def features(size: int, _: Path) -> Works:
    """Prepare the features of N images by the tiny encoder."""
    images = random_images(size, 32)
    encoder = build_encoder(TINY, images)
    return {"": lambda: embed(encoder, images)}


def snapshot(size: int, folder: Path) -> Works:
    """Prepare a snapshot of embeddings of 64 dimensions, with pictures of 32×32; then its file and its page.

    Works of a few rows have run before, because libraries are imported when they are first used.
    """
    if size > FEW:
        for work in snapshot(FEW, folder).values():
            work()
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(size) % CLASSES
    centres = torch.randn(CLASSES, 64, generator=generator)
    views = [normalize(centres[labels] + torch.randn(size, 64, generator=generator), dim=1) for _ in range(2)]
    pictures = random_images(size, 32).images
    made: list[Snapshot] = []
    file, page = folder / "snapshot.npz", folder / "page.html"

    def make() -> None:
        made[:] = [snapshot_of_embeddings(*views, labels=labels, images=pictures, n=size)]

    def write() -> Path:
        made[0].save(file)
        return file

    def write_page() -> Path:
        write_text(page, page_of(made, first_state(made[0])))
        return page

    return {"make": make, "write": write, "read": lambda: Snapshot.load(file), "write its page": write_page}
