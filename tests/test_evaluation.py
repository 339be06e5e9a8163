"""Evaluation against plain Python loops, scikit-learn and closed forms; the encoder is left as it was found."""

import inspect
import math
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cltools.config import EvaluationSettings
from cltools.datasets import ImageSet
from cltools.errors import CltoolsError
from cltools.evaluation import (
    PROTOCOLS,
    FinetuneRecipe,
    LinearRecipe,
    Predictions,
    Recipes,
    accuracy,
    alignment,
    effective_rank,
    embed,
    evaluate,
    features as feature_module,
    knn_accuracy,
    knn_predict,
    linear_predict,
    linear_probe,
    predict,
    uniformity,
)
from cltools.evaluation.features import KnnProtocol, fit_probe, probe_predict
from cltools.evaluation.trained import finetune_predict
from cltools.views import ViewSettings

seeds = st.integers(0, 2**31)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cosine(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    return float(a @ b / (a.norm() * b.norm()))


def clusters(n: int, classes: int = 4, dim: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Overlapping clusters with unlike scales, so that standardising matters."""
    generator = seeded(seed)
    centres = 1.2 * torch.randn(classes, dim, generator=seeded(99))
    labels = torch.randint(0, classes, (n,), generator=generator)
    x = centres[labels] + torch.randn(n, dim, generator=generator)
    return x * torch.logspace(-2, 2, dim) + 5, labels


def image_set(n: int, split: str = "train", seed: int = 0, known: bool = True) -> ImageSet:
    """Two classes told apart by brightness."""
    generator = seeded(seed)
    labels = torch.arange(n) % 2
    images = torch.randint(0, 156, (n, 3, 8, 8), generator=generator) + 100 * labels[:, None, None, None]
    labels = labels if known else torch.full((n,), -1)
    return ImageSet(images.to(torch.uint8), labels, torch.arange(n), ("dark", "bright"), "squares", split)


class Small(nn.Module):
    """An encoder with the parts whose state evaluation could spoil: batch norm, dropout, a frozen part."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.head = nn.Linear(6, 2)

    def features(self, x: Tensor) -> Tensor:
        return self.backbone(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def small() -> Small:
    torch.manual_seed(0)
    encoder = Small()
    encoder(torch.rand(16, 3, 8, 8))  # running statistics away from their start
    return encoder


# embed


def test_embed_gives_backbone_features_in_evaluation_mode_whatever_the_batch():
    encoder, images = small(), image_set(23)
    features = embed(encoder, images, batch=5)
    with torch.no_grad():
        expected = encoder.eval().features(images.images.float() / 255)
    assert features.dtype == torch.float32 and not features.requires_grad
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(embed(encoder, images.images), expected)
    torch.testing.assert_close(embed(encoder, images.images.float() / 255, batch=23), expected)


@pytest.mark.parametrize("fails", [False, True])
def test_embed_leaves_every_buffer_flag_and_gradient_as_it_was(fails: bool):
    encoder = small().train()
    encoder.backbone[1].eval()  # frozen by hand: .train() afterwards would wake it
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    flags = [module.training for module in encoder.modules()]
    drawn = torch.get_rng_state()
    images = image_set(8).images
    if fails:
        with pytest.raises(ValueError, match=r"cannot read torch.float32 \[8, 1, "):
            embed(encoder, images[:, :1])  # not the three channels it was made for
    else:
        embed(encoder, images)
    assert [module.training for module in encoder.modules()] == flags
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in encoder.parameters())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_running_statistics_of_batch_norm_in_training_are_bit_identical_after_a_report():
    encoder = small().train()
    buffers = [buffer.clone() for buffer in encoder.buffers()]
    evaluate(encoder, image_set(40), image_set(20, "test", 1))
    assert encoder.training and encoder.backbone[1].training
    assert all(torch.equal(old, new) for old, new in zip(buffers, encoder.buffers(), strict=True))


def test_embed_calls_a_plain_module_and_reads_features_of_any_object():
    images = image_set(6).images

    class Mean:
        def features(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    expected = images.float().mean((2, 3)) / 255
    torch.testing.assert_close(embed(Mean(), images), expected)
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    torch.testing.assert_close(embed(pooled, images), expected)


def test_embed_gives_projections_on_request():
    encoder, images = small(), image_set(6)
    with torch.no_grad():
        expected = encoder.eval()(images.images.float() / 255)
    torch.testing.assert_close(embed(encoder, images, projection=True), expected)
    assert not torch.equal(expected, embed(encoder, images))

    class Features:
        def features(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    with pytest.raises(ValueError, match="Features is not a module and has no projections"):
        embed(Features(), images, projection=True)


def test_embed_is_float32_inside_autocast():
    encoder, images = small(), image_set(9).images
    plain = embed(encoder, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(embed(encoder, images), plain)


def test_embed_says_what_it_cannot_use():
    images = image_set(4).images
    with pytest.raises(ValueError, match="pool to one vector each"):
        embed(nn.Conv2d(3, 2, 3), images)
    with pytest.raises(ValueError, match="no images"):
        embed(small(), images[:0])
    with pytest.raises(ValueError, match="batch is 0"):
        embed(small(), images, batch=0)


# kNN


def knn_by_hand(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, protocol: str) -> float:
    """One query at a time, in Python floats."""
    hits = 0
    for query, truth in zip(queries, labels.tolist(), strict=True):
        near = sorted(((cosine(query, b), c) for b, c in zip(bank, bank_labels.tolist(), strict=True)), reverse=True)
        votes: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for similarity, label in near[: 200 if protocol == "knn200" else 10]:
            votes[label][0] += math.exp(similarity / 0.1) if protocol == "knn200" else 1
            votes[label][1] += similarity
        hits += max(votes, key=lambda label: votes[label]) == truth
    return 100 * hits / len(queries)


@pytest.mark.parametrize("protocol", ["knn200", "knn10"])
@pytest.mark.parametrize("n", [1, 7, 230])  # below and above both k
@settings(max_examples=10)
@given(seed=seeds)
def test_knn_agrees_with_a_loop(protocol: KnnProtocol, n: int, seed: int):
    generator = seeded(seed)
    bank, queries = torch.randn(n, 5, generator=generator), torch.randn(6, 5, generator=generator)
    bank_labels = torch.randint(0, 4, (n,), generator=generator)
    labels = torch.randint(0, 5, (6,), generator=generator)  # class 4 is never in the bank
    found = knn_accuracy(bank, bank_labels, queries, labels, protocol=protocol)
    assert found == knn_by_hand(bank, bank_labels, queries, labels, protocol)


@pytest.mark.parametrize("by_class", [False, True])
def test_in_a_large_bank_those_of_topk_vote(by_class: bool, monkeypatch: pytest.MonkeyPatch):
    (bank, labels), (queries, _) = clusters(4000), clusters(300, seed=1)
    order = labels.argsort() if by_class else torch.arange(4000)
    found = knn_predict(bank[order], labels[order], queries)
    monkeypatch.setattr(feature_module, "largest", torch.topk)
    assert torch.equal(found, knn_predict(bank[order], labels[order], queries))


def test_knn_ignores_the_length_of_features_and_finds_an_image_in_its_own_bank():
    bank = torch.tensor([[100.0, 0.0], [0.0, 0.01], [-3.0, 0.0]])
    labels = torch.tensor([0, 1, 2])
    assert knn_accuracy(bank, labels, bank * torch.tensor([[0.01], [100.0], [7.0]]), labels) == 100


def test_knn200_weighs_near_votes_above_many_far_ones_and_knn10_does_not():
    bank = torch.tensor([[1.0, 0.0]] + [[0.6, 0.8]] * 9)  # e^10 against 9·e^6
    labels = torch.tensor([1] + [0] * 9)
    query, truth = torch.tensor([[1.0, 0.0]]), torch.tensor([1])
    assert knn_accuracy(bank, labels, query, truth, protocol="knn200") == 100
    assert knn_accuracy(bank, labels, query, truth, protocol="knn10") == 0


@pytest.mark.parametrize("protocol, k", [("knn200", 200), ("knn10", 10)])
def test_exactly_k_neighbours_vote(protocol: KnnProtocol, k: int):
    """Rings around the query, nearly as close: class 1 has the majority among k, class 0 among fewer and among more."""
    few, many = k // 2 - 1, k // 2 + 1
    angle = torch.cat([torch.full((count,), at) for count, at in ((few, 0.0), (many, 0.01), (few, 0.02))])
    labels = torch.tensor([0] * few + [1] * many + [0] * few)
    bank = torch.stack([angle.cos(), angle.sin()], 1)
    query = torch.tensor([[1.0, 0.0]])
    assert knn_accuracy(bank, labels, query, torch.tensor([1]), protocol=protocol) == 100


def test_knn10_breaks_a_tie_by_summed_cosine_then_by_the_smaller_label():
    query = torch.tensor([[1.0, 0.0]])
    bank = torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    assert knn_accuracy(bank, torch.tensor([0, 1]), query, torch.tensor([1]), protocol="knn10") == 100
    same = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert knn_accuracy(same, torch.tensor([2, 1]), query, torch.tensor([1]), protocol="knn10") == 100


@pytest.mark.parametrize("protocol", ["knn200", "knn10"])
@pytest.mark.parametrize(("cells", "at_once"), [(7 * 300, 1), (13 * 220, 13), (50 * 250, 50)])
def test_knn_is_the_same_in_chunks_and_under_autocast(
    protocol: KnnProtocol, cells: int, at_once: int, monkeypatch: pytest.MonkeyPatch
):
    (bank, bank_labels), (queries, labels) = clusters(300), clusters(50, seed=1)
    whole = knn_accuracy(bank, bank_labels, queries, labels, protocol=protocol)
    assert 25 < whole < 100
    monkeypatch.setattr(feature_module, "CELLS", cells)
    monkeypatch.setattr(feature_module, "QUERIES", at_once)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert knn_accuracy(bank, bank_labels, queries, labels, protocol=protocol) == whole


@pytest.mark.parametrize("predicting", [knn_predict, probe_predict])
def test_shapes_that_do_not_fit_are_refused_outside_the_tests_too(predicting):
    x, y = torch.randn(5, 3, generator=seeded()), torch.tensor([0, 1, 0, 1, 0])
    predicting = inspect.unwrap(predicting)  # without the tests' own check of shapes
    with pytest.raises(ValueError, match="embed both with the same encoder"):
        predicting(x, y, x[:, :2])
    with pytest.raises(ValueError, match="5 features but 4 labels"):
        predicting(x, y[:4], x)


@pytest.mark.parametrize("measure", [knn_accuracy, linear_probe])
def test_what_cannot_be_compared_is_refused_with_the_reason(measure):
    x, y = torch.randn(5, 3, generator=seeded()), torch.tensor([0, 1, 0, 1, 0])
    with pytest.raises(ValueError, match=r"2 of 5 labels of the queries are unknown \(-1\)"):
        measure(x, y, x, torch.tensor([0, -1, 0, -1, 0]))
    with pytest.raises(ValueError, match="labels of the bank are unknown"):
        measure(x, -torch.ones_like(y), x, y)
    with pytest.raises(ValueError, match="NaN or infinity"):
        measure(torch.full_like(x, torch.nan), y, x, y)
    with pytest.raises(ValueError, match="queries holds no image"):
        measure(x, y, x[:0], y[:0])


@pytest.mark.parametrize("size", [1e300, 1e30, 1e-14, 1e-30, 1e-44, 1e-300])
@pytest.mark.parametrize("form", [lambda x: x, np.ndarray.tolist, pd.DataFrame], ids=["array", "lists", "table"])
def test_features_of_extreme_size_are_judged_as_those_of_usual_size(size: float, form: Any):
    (bank, labels), (queries, truth) = clusters(60), clusters(60, seed=1)

    def judged(size: float, form: Any) -> list[float]:
        x, q = (form(each.double().numpy() * size) for each in (bank, queries))
        shares = [knn_accuracy(x, labels, q, truth, protocol="knn10"), linear_probe(x, labels, q, truth)]
        return [*shares, uniformity(x), alignment(x, q), effective_rank(x)]

    assert judged(size, form) == pytest.approx(judged(1, lambda x: x), rel=1e-5)


def test_features_of_extreme_and_of_usual_size_stand_side_by_side():
    x = torch.randn(20, 5, generator=seeded(), dtype=torch.float64)
    assert effective_rank(x * (10.0 ** torch.arange(-300, 300, 30, dtype=torch.float64))[:, None]) == pytest.approx(
        effective_rank(x)
    )
    scale = torch.tensor([1e300, 1, 1e-300, 1, 1e30], dtype=torch.float64)
    labels = torch.arange(20) % 3
    found, usual = fit_probe(x * scale, labels), fit_probe(x, labels)
    torch.testing.assert_close(found.logits(x * scale), usual.logits(x), atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match=r"or no features \[20, 0\]"):
        uniformity(x[:, :0])


def test_an_unknown_protocol_names_the_known():
    x, y = torch.ones(2, 2), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"'knn20'\. Did you mean knn200"):
        inspect.unwrap(knn_predict)(x, y, x, protocol="knn20")
    assert knn_accuracy(x, y, x, y, protocol="knn10") == 100


# Probe


@pytest.mark.parametrize("l2", [1e-1, 1e-3])
def test_probe_agrees_with_scikit_learn(l2: float):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    (bank, labels), (queries, truth) = clusters(400), clusters(300, seed=1)
    oracle = LogisticRegression(C=1 / (l2 * len(bank)), tol=1e-8, max_iter=5000)
    model = make_pipeline(StandardScaler(), oracle).fit(bank.double().numpy(), labels.numpy())
    probe = fit_probe(bank, labels, l2=l2)
    torch.testing.assert_close(probe.weight, torch.tensor(oracle.coef_).float(), atol=5e-3, rtol=5e-3)
    bias = torch.tensor(oracle.intercept_).float()  # free up to a constant
    torch.testing.assert_close(probe.bias - probe.bias.mean(), bias - bias.mean(), atol=5e-3, rtol=5e-3)
    found, expected = probe.logits(bank), torch.tensor(model.decision_function(bank.double().numpy()))
    loss = cross_entropy(found, labels) + l2 / 2 * probe.weight.square().sum()
    best = cross_entropy(expected, labels) + l2 / 2 * torch.tensor(oracle.coef_).square().sum()
    assert float(loss) == pytest.approx(float(best), rel=1e-4)
    score = 100 * model.score(queries.double().numpy(), truth.numpy())
    assert 50 < score < 100
    assert linear_probe(bank, labels, queries, truth, l2=l2) == pytest.approx(score, abs=0.4)


def test_probe_is_repeatable_and_blind_to_scale_offset_autocast_and_no_grad():
    (bank, labels), (queries, truth) = clusters(300), clusters(200, seed=1)
    first = linear_probe(bank, labels, queries, truth)
    weight = fit_probe(bank, labels).weight
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear_probe(bank, labels, queries, truth) == first
        assert torch.equal(fit_probe(bank, labels).weight, weight)
    moved = linear_probe(8 * bank + 64, labels, 8 * queries + 64, truth)
    assert moved == pytest.approx(first, abs=0.5)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4])
def test_probe_ignores_a_feature_that_is_constant_in_the_bank(value: float):
    (bank, labels), (queries, truth) = clusters(300), clusters(100, seed=1)
    wide = torch.cat([bank, torch.full((300, 1), value)], 1)
    alive = torch.cat([queries, torch.randn(100, 1, generator=seeded()) * 1e6], 1)
    assert linear_probe(wide, labels, alive, truth) == linear_probe(bank, labels, queries, truth)


def test_probe_with_one_class_or_a_class_the_bank_lacks():
    x, y = clusters(20, classes=2)
    assert linear_probe(x, torch.zeros_like(y), x, torch.zeros_like(y)) == 100
    assert linear_probe(x, torch.zeros_like(y), x, torch.full_like(y, 3)) == 0


def test_probe_without_a_penalty_ends_on_classes_that_can_be_separated():
    x = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]])
    y = torch.tensor([0, 0, 1, 1])
    assert linear_probe(x, y, x, y, l2=0.0) == 100
    assert fit_probe(x, y, l2=0.0).weight.isfinite().all()


@pytest.mark.parametrize("l2", [-1.0, math.nan, math.inf])
def test_probe_refuses_a_penalty_without_meaning(l2: float):
    x, y = clusters(10)
    with pytest.raises(ValueError, match="L2 penalty is"):
        fit_probe(x, y, l2=l2)


# Geometry


def test_alignment_closed_forms():
    z = torch.randn(9, 4, generator=seeded())
    assert alignment(z, z) == 0
    assert alignment(z, 3 * z) == pytest.approx(0, abs=1e-12)
    assert alignment(z, -z) == pytest.approx(4)
    assert alignment(torch.eye(4), torch.eye(4).roll(1, 0)) == pytest.approx(2)
    with pytest.raises(ValueError, match="two views of the same images"):
        inspect.unwrap(alignment)(z, z[:1])  # as outside the tests, where shapes are not checked on the way in


def test_effective_rank_closed_forms():
    assert effective_rank(torch.ones(5, 3)) == pytest.approx(1, abs=1e-3)
    assert effective_rank(np.eye(3)) == effective_rank(np.eye(3).tolist()) == pytest.approx(3)
    assert effective_rank(5 * torch.eye(6)) == pytest.approx(6)
    p = math.sqrt(0.9) / (math.sqrt(0.9) + math.sqrt(0.1))  # nine vectors one way, one another: two singular values
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert effective_rank(torch.eye(2)[[0] * 9 + [1]]) == pytest.approx(math.exp(entropy), rel=1e-5)
    with pytest.raises(ValueError, match="embedding"):
        effective_rank(torch.tensor([[math.nan, 1.0]]))


def test_uniformity_closed_forms():
    assert uniformity(torch.ones(5, 3)) == pytest.approx(0, abs=1e-6)
    assert uniformity(torch.tensor([[1.0, 0.0], [-2.0, 0.0]])) == pytest.approx(-8)
    assert uniformity(5 * torch.eye(6), t=3) == pytest.approx(-6)
    antipodal = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])  # one pair of three at distance 0
    assert uniformity(antipodal) == pytest.approx(math.log((1 + 2 * math.exp(-8)) / 3), rel=1e-5)
    assert uniformity(torch.eye(6), t=1e4) == pytest.approx(-2e4)  # e^-20000 is 0 in any float


@given(seed=seeds, n=st.integers(2, 20), t=st.sampled_from([0.5, 2, 30]))
def test_uniformity_and_alignment_agree_with_a_loop(seed: int, n: int, t: float):
    z, other = torch.randn(2, n, 3, generator=seeded(seed))
    force = [math.exp(-t * (2 - 2 * cosine(z[i], z[j]))) for i in range(n) for j in range(i + 1, n)]
    assert uniformity(z, t) == pytest.approx(math.log(sum(force) / len(force)), rel=1e-4, abs=1e-4)
    gaps = [2 - 2 * cosine(a, b) for a, b in zip(z, other, strict=True)]
    assert alignment(z, other) == pytest.approx(sum(gaps) / n, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("cells", [1, 40, 41 * 7, 41 * 40])
def test_blocks_of_rows_change_nothing(cells: int, monkeypatch: pytest.MonkeyPatch):
    z, _ = clusters(41)
    whole = uniformity(z)
    monkeypatch.setattr(feature_module, "CELLS", cells)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert uniformity(z) == pytest.approx(whole, rel=1e-6)


def test_geometry_refuses_what_has_no_meaning():
    x, _ = clusters(5)
    with pytest.raises(ValueError, match="two rows"):
        uniformity(x[:1])
    with pytest.raises(ValueError, match="t is 0"):
        uniformity(x, 0)


# Reports


def test_a_report_holds_the_numbers_that_its_parts_give():
    encoder, train, test = small(), image_set(60), image_set(30, "test", 1)
    report = evaluate(encoder, train, test)
    bank, queries = embed(encoder, train), embed(encoder, test)
    assert report == {
        "knn200": knn_accuracy(bank, train.labels, queries, test.labels),
        "knn10": knn_accuracy(bank, train.labels, queries, test.labels, protocol="knn10"),
        "probe": linear_probe(bank, train.labels, queries, test.labels, l2=1e-3),
        "uniformity": uniformity(queries),
        "train_images": 60,
        "test_images": 30,
        "per_class": {name: by_class(encoder, train, test, name) for name in ("knn200", "knn10", "probe")},
    }
    assert report["probe"] == 100  # brightness is a linear matter


def by_class(encoder: Small, train: ImageSet, test: ImageSet, protocol: str) -> dict[str, float]:
    """Accuracy on the images of each class alone."""
    shares = {}
    for label, name in enumerate(test.classes):
        mine = test.select(test.labels == label)
        sides = (embed(encoder, train), train.labels, embed(encoder, mine), mine.labels)
        shares[name] = linear_probe(*sides) if protocol == "probe" else knn_accuracy(*sides, protocol=protocol)
    return shares


QUICK = Recipes(
    linear=LinearRecipe(epochs=2, batch=16),
    finetune1=FinetuneRecipe(share=0.1, epochs=1, least_steps=3),
    finetune10=FinetuneRecipe(share=0.5, epochs=1, least_steps=3),
)


def test_every_protocol_by_name_predicts_what_its_function_does():
    encoder, train, test = small(), image_set(60), image_set(30, "test", 1)
    bank, queries = embed(encoder, train), embed(encoder, test)
    found = predict(encoder, train, test, EvaluationSettings(probe_l2=0.1), PROTOCOLS, QUICK)
    expected = {
        "knn200": knn_predict(bank, train.labels, queries),
        "knn10": knn_predict(bank, train.labels, queries, protocol="knn10"),
        "probe": probe_predict(bank, train.labels, queries, l2=0.1),
        "linear": linear_predict(encoder, train, test, QUICK.linear),
        "finetune1": finetune_predict(encoder, train, test, QUICK.finetune1),
        "finetune10": finetune_predict(encoder, train, test, QUICK.finetune10),
    }
    assert list(found.predicted) == list(PROTOCOLS)
    assert all(torch.equal(found.predicted[name], expected[name]) for name in PROTOCOLS)
    report = found.report()
    for name in PROTOCOLS:
        assert report[name] == accuracy(expected[name], test.labels)
        assert list(report["per_class"][name]) == ["dark", "bright"]
    assert report["linear_epochs"] == 2


def test_a_report_holds_the_protocols_asked_for_in_their_order():
    encoder, train, test = small(), image_set(20), image_set(10, "test", 1)
    report = evaluate(encoder, train, test, EvaluationSettings(probe=False), ["probe", "knn10", "probe"])
    assert list(report) == ["probe", "knn10", "uniformity", "train_images", "test_images", "per_class"]
    assert list(report["per_class"]) == ["probe", "knn10"]
    assert evaluate(encoder, train, test, protocols="knn10")["knn10"] == report["knn10"]


@pytest.mark.parametrize(
    ("asked", "message"), [(["lineer"], r"Unknown protocol 'lineer'\. Did you mean linear"), ([], "No protocol")]
)
def test_a_report_refuses_protocols_that_do_not_exist(asked: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        evaluate(nn.Identity(), image_set(6), image_set(4, "test"), protocols=asked)


def test_a_class_without_test_images_has_no_figure():
    train, test = image_set(20), image_set(10, "test", 1)
    report = evaluate(small(), train, test.select(test.labels == 1), protocols=["knn10"])
    assert report["per_class"]["knn10"]["dark"] is None and report["per_class"]["knn10"]["bright"] == report["knn10"]


def test_each_protocol_has_a_confusion_of_its_own():
    one, other = torch.tensor([0, 1, 1]), torch.tensor([1, 1, 1])
    found = Predictions({"probe": one, "linear": other}, one, ("a", "b"), 0.0, 9)
    assert found.confusion_csv("probe") == "true \\ predicted by probe,a,b\na,1,0\nb,0,2\n"
    assert found.confusion_csv("linear") == "true \\ predicted by linear,a,b\na,0,1\nb,0,2\n"


def test_recipes_take_seed_and_mirroring_of_a_run_and_nothing_else():
    fitted = QUICK.like(ViewSettings(flip=0.0, rotation=10.0, jitter=1.0), seed=7)
    for name in ("linear", "finetune1", "finetune10"):
        before, after = getattr(QUICK, name), getattr(fitted, name)
        assert after == replace(before, seed=7, views=replace(before.views, flip=0.0))
    published = Recipes()
    assert (published.finetune1.share, published.finetune10.share) == (0.01, 0.1)
    assert (published.finetune1.epochs, published.finetune10.epochs) == (60, 30)


def test_a_report_is_limited_as_its_settings_say():
    report = evaluate(small(), image_set(60), image_set(30, "test"), EvaluationSettings(probe=False, test_limit=10))
    assert report["test_images"] == 10 and "probe" not in report
    report = evaluate(small(), image_set(60), image_set(30, "test"), EvaluationSettings(test_limit=50))
    assert report["test_images"] == 30


def test_a_report_names_the_set_that_has_no_labels_before_it_embeds_anything():
    with pytest.raises(ValueError, match="labels of the test images of 'squares' are unknown"):
        evaluate(nn.Identity(), image_set(6), image_set(4, "test", known=False))


@pytest.mark.parametrize("others", [("bright",), ("bright", "dark"), ("dark", "light", "more")])
def test_classes_that_train_and_test_number_differently_are_refused(others: tuple[str, ...]):
    """A test folder without the first class shifted every label by one: 0 % in silence."""
    train, test = image_set(8), image_set(8, "test", seed=1)
    test = replace(test, classes=others, labels=test.labels.clamp(max=len(others) - 1))
    with pytest.raises(CltoolsError, match=r"number their classes differently: .* Load both as splits of one folder"):
        evaluate(small(), train, test)
    for fewer in (("dark",), ("dark", "bright", "unseen")):
        known = replace(test, classes=fewer, labels=test.labels.clamp(max=len(fewer) - 1))
        assert evaluate(small(), train, known, protocols="knn10")["per_class"]["knn10"].keys() >= {"dark", "bright"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": torch.utils.data.TensorDataset(torch.rand(4, 3, 8, 8))}, "class ImageSet"),
        ({"test": "digits"}, "class ImageSet"),
        ({"settings": {"probe": False}}, "class EvaluationSettings"),
        ({"recipes": LinearRecipe(epochs=1)}, "class Recipes"),
        ({"protocols": 5}, r"list of protocols, such as \['knn10'\]"),
    ],
    ids=lambda given: "" if isinstance(given, str) else next(iter(given)),
)
def test_arguments_of_another_type_are_named_with_an_example(given: dict[str, Any], message: str, unchecked: None):
    arguments = {"train": image_set(8), "test": image_set(8, "test"), **given}
    with pytest.raises(TypeError, match=rf"{message}.*is expected here, but this is of type"):
        evaluate(small(), **arguments)


def test_many_classes_need_no_matrix_of_all_pairs():
    """With 40,000 classes a matrix would have 13 GB; one of so many was refused after the evaluation."""
    count = 40_000
    test = Predictions({"probe": torch.tensor([7, 9])}, torch.tensor([7, 8]), tuple(map(str, range(count))), 0.0, 2)
    by_class = test.report()["per_class"]["probe"]
    assert len(by_class) == count and (by_class["7"], by_class["8"], by_class["9"]) == (100, 0, None)
    assert (
        test.confusion_csv("probe") == "No confusion matrix is written for more than 2,000 classes; here are 40,000.\n"
    )


@pytest.mark.gpu
def test_a_report_on_cuda_is_that_of_the_cpu():
    train, test = image_set(60), image_set(30, "test", 1)
    here, there = evaluate(small(), train, test), evaluate(small().cuda(), train, test)
    assert here.pop("per_class").keys() == there.pop("per_class").keys()
    assert there == pytest.approx(here, rel=0.05)


@pytest.mark.gpu
def test_protocols_that_train_do_so_on_cuda():
    train, test = image_set(128), image_set(30, "test", 1)
    recipes = replace(QUICK, linear=LinearRecipe(epochs=60, batch=32, learning_rate=10.0))
    there = evaluate(small().cuda(), train, test, protocols=["linear", "finetune10"], recipes=recipes)
    assert there["linear"] > 90 and 0 <= there["finetune10"] <= 100
