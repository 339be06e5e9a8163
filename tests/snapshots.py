"""Snapshots for tests, made without training: unit vectors in a few groups, keys near their anchors."""

from dataclasses import replace

import numpy as np
from numpy import ndarray

from cltools.presets import preset
from cltools.snapshot import Snapshot
from cltools.snapshot.snapshot import as_sprite


def unit(vectors: ndarray) -> ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def made(
    count: int = 60,
    *,
    seed: int = 0,
    epochs: tuple[int, ...] = (1, 5),
    groups: int = 5,
    labelled: bool = True,
    dim: int = 16,
    method: str = "potential",
    learned: bool = False,
) -> Snapshot:
    """A snapshot whose classes are its groups, the more apart the later the epoch; ids are 7, 10, 13, …

    If `learned`, a threshold per image lies above nine tenths of its cosines.
    """
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % groups
    centres = unit(generator.normal(size=(groups, dim)))
    noise = generator.normal(size=(2, count, dim)) / np.sqrt(dim)
    spread = np.linspace(1.6, 0.8, len(epochs))[:, None, None]
    anchors, keys = (unit(centres[labels] + spread * noise[side]) for side in (0, 1))
    places = generator.normal(size=(2, len(epochs), count, 2)).astype(np.float32)
    tints = generator.integers(0, 256, (count, 3, 1, 1), dtype=np.uint8)
    return Snapshot(
        experiment=preset(f"shapes-{method}"),
        epochs=epochs,
        anchors=anchors,
        keys=keys,
        maps=places,
        map_names=("UMAP, seed 0", "PCA"),
        kept=generator.uniform(size=(2, len(epochs), count)).astype(np.float32),
        trustworthiness=np.full((2, len(epochs)), 0.9, np.float32),
        ids=7 + 3 * np.arange(count),
        labels=labels if labelled else np.full(count, -1),
        classes=tuple(f"class {i}" for i in range(groups)) if labelled else (),
        sprite=as_sprite(np.broadcast_to(tints, (count, 3, 8, 8)).copy()),
        tile=(8, 8),
        thresholds=np.quantile(anchors @ keys.transpose(0, 2, 1), 0.9, axis=2).astype(np.float32) if learned else None,
    )


def with_vectors(snapshot: Snapshot, anchors: ndarray, keys: ndarray) -> Snapshot:
    """The same with other vectors at its single epoch."""
    return replace(snapshot, anchors=anchors[None], keys=keys[None])
