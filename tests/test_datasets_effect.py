"""`shapes` shows the phenomena the course is about: false negatives are many, near, and they cost accuracy."""

from dataclasses import replace

import pytest
from torch.nn.functional import normalize

from cltools import fit, preset
from cltools.datasets import ImageSet, load_images
from cltools.evaluation import embed, knn_accuracy
from cltools.training import Run


def knn(run: Run, train: ImageSet, test: ImageSet) -> float:
    bank, queries = embed(run.encoder, train), embed(run.encoder, test)
    return knn_accuracy(bank, train.labels, queries, test.labels)


def same_class_among_nearest(run: Run, train: ImageSet) -> float:
    """How many times as frequent same-class images are among the 1 % most similar projections as among all."""
    vectors = normalize(embed(run.encoder, train, projection=True), dim=1)
    cosine = vectors @ vectors.T
    cosine.fill_diagonal_(-2)
    nearest = cosine.topk(len(train) // 100).indices
    same = train.labels[:, None] == train.labels
    return float(same.gather(1, nearest).float().mean() / same.float().mean())


@pytest.mark.nightly
def test_dropping_true_same_class_keys_pays() -> None:
    train, test = load_images("shapes"), load_images("shapes", "test")
    gains = []
    for seed in (0, 1):
        runs = {}
        for method in ("moco", "oracle"):
            experiment = preset(f"shapes-{method}")
            settings = replace(experiment.training, device="cpu")
            runs[method] = fit(replace(experiment, seed=seed, training=settings), images=train)
        gains.append(knn(runs["oracle"], train, test) - knn(runs["moco"], train, test))
        assert same_class_among_nearest(runs["moco"], train) >= 2
    assert sum(gains) / len(gains) >= 3
