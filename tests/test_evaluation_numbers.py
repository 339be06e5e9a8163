"""Seeds and sizes as people may give them: a right result, or words, and never an error of torch's own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from cltools import snapshot_of_embeddings, with_umap
from cltools.datasets import load_images
from cltools.encoders import EncoderSettings, build_encoder
from cltools.errors import CltoolsError
from cltools.evaluation import FinetuneRecipe, LinearRecipe, confusion, embed, finetune, fit_linear
from cltools.evaluation.features import fit_probe
from cltools.evaluation.trained import few_labels
from cltools.explorer.session import Session
from cltools.snapshot import Recorder

LABELS = torch.arange(30) % 3
Z = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)


def images() -> Any:
    return load_images("digits").subset(30)


def encoder() -> Any:
    return build_encoder(EncoderSettings(backbone="tiny", bn_group=None), images())


SEEDED: dict[str, Callable[[Any], Any]] = {
    "few_labels": lambda seed: few_labels(LABELS, 0.2, seed),
    "fit_linear": lambda seed: fit_linear(encoder(), images(), LinearRecipe(epochs=1, seed=seed)),
    "finetune": lambda seed: finetune(encoder(), images(), FinetuneRecipe(epochs=1, least_steps=1, seed=seed)),
    "snapshot_of_embeddings": lambda seed: snapshot_of_embeddings(Z, n=10, seed=seed),
    "Recorder": lambda seed: Recorder(images(), 10, seed),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", SEEDED)
def test_a_seed_is_a_whole_number_or_refused_in_words(name: str) -> None:
    for seed in (np.int64(3), np.uint8(3), 2**32 - 1):
        SEEDED[name](seed)
    for seed in (True, 0.5, "3", None, -1, 2**32, 2**62, 10**30, -(10**30)):
        with pytest.raises(CltoolsError, match=r"seed.* (must be a whole number|too large)"):
            SEEDED[name](seed)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "asked",
    [
        lambda: LinearRecipe(epochs=10**30),
        lambda: FinetuneRecipe(epochs=10**30),
        lambda: FinetuneRecipe(least_steps=10**30),
        lambda: few_labels(LABELS, 1e300, 0),
        lambda: few_labels(LABELS, float("nan"), 0),
        lambda: confusion(LABELS, LABELS, 10**12),
        lambda: confusion(LABELS, LABELS, 10**30),
        lambda: confusion(LABELS, LABELS, -1),
        lambda: with_umap(snapshot_of_embeddings(Z), 10**30),
        lambda: with_umap(snapshot_of_embeddings(Z), (0, -1)),
        lambda: with_umap(snapshot_of_embeddings(Z), min_dist=1e300),
        lambda: Session(snapshot_of_embeddings(Z)).pairs(negatives=10**30),
        lambda: Session(snapshot_of_embeddings(Z)).report(negatives=10**30),
    ],
)
def test_what_would_fill_the_memory_or_never_end_is_refused_in_words(asked: Callable[[], Any]) -> None:
    with pytest.raises(CltoolsError, match=r"must be (a|above)|too large"):
        asked()


def test_what_has_a_meaning_at_any_size_is_taken() -> None:
    assert torch.equal(embed(encoder(), images(), batch=10**18), embed(encoder(), images()))
    assert fit_probe(Z, LABELS, l2=1e300).weight.abs().max() < 1e-6, "not NaN"
