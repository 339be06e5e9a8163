"""Every public function of the core and of evaluation within what a caller may have set around it.

What is public is found by itself: a new function fails here until it is called below, and a new rule is called as the
others are.
"""

import copy
import importlib
import inspect
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from test_evaluation import image_set
from torch import Tensor, nn
from torch.nn.functional import normalize

from cltools import evaluation, gradients, interop, losses, mining, views
from cltools.config import EvaluationSettings
from cltools.contrast import contrastive_loss, mean_over_anchors
from cltools.encoders import EncoderSettings, MomentumCopy, build_encoder, pixel_statistics
from cltools.interop import ContrastiveLoss
from cltools.losses import LossSettings
from cltools.mining import AllNegatives, AugmentedView, MixedNegatives, NearestKeys, NegativeRule, PositiveRule
from cltools.mining.rules import rule_classes
from cltools.mining.similarities import own_last, same_class
from cltools.queue import Queue
from cltools.snapshot import snapshot_of_embeddings
from cltools.snapshot.embeddings import indexed_labels
from cltools.views import ViewSettings

MODULES = ("losses", "gradients", "contrast", "queue", "views", "mining", "interop", "evaluation", "encoders")
WITHOUT_NUMBERS = {
    "check_settings": "of words and one number",
    "full": "a change of type",
    "check_seeds": "of folders",
    "figures": "a text",
    "over_seeds": "a text",
    "spread": "a text",
    "limited": "a part of images",
    "predict": "what `evaluate` calls",
    "known_of": "a part of images",
    "resolve_device": "of a name",
    "learns": "of a rule",
    "reads_now": "of rules",
    "rank_count": "of two numbers",
    "seeded": "a generator",
    **dict.fromkeys(("bare", "device_of", "eval_mode", "feature_dim", "head", "resnet"), "of modules"),
}
"""Public functions that are not called here, and why."""


# --- surroundings


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    """As where somebody sets a GPU: what is made without a place is not where the inputs are."""
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference mode": torch.inference_mode,
    "no gradient": torch.no_grad,
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "another device": lambda: default_device("meta"),
    "deterministic": deterministic,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


# --- calls


B, K, D = 6, 20, 8


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + 0.3


Z, POSITIVE, KEYS = (normalize(draw(seed, rows, D), dim=1) for seed, rows in ((0, B), (1, B), (2, K)))
OWN = torch.arange(B)[:, None] == torch.arange(K) % 9
LABELS, KEY_LABELS = torch.arange(B) % 3, torch.arange(K) % 3
IDS = torch.arange(B), torch.arange(K) % 9
READS = ("positive_keys", "vectors", "ids", "same_class")
S = mining.similarities(Z, POSITIVE, KEYS, OWN, same_class=LABELS[:, None] == KEY_LABELS, ids=IDS, reads=READS)
CHOSEN = mining.select(S, NearestKeys(k=2), AllNegatives())
COSINES, WEIGHTS = torch.cat([S.anchor_positive[:, None], S.anchor_keys[:, :1]], dim=1), torch.full((B, 2), 0.5)
MASS = torch.zeros(B)
OUTPUTS = [(draw(seed, B, D), draw(seed + 9, B, D)) for seed in range(3)]
FEATURES, BANK = draw(3, 12, D), draw(4, 40, D)
CLASSES, BANK_CLASSES = torch.arange(12) % 3, torch.arange(40) % 3
IMAGES, TEST = image_set(24), image_set(12, "test", seed=1)
PICTURES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(5))
AMOUNTS = torch.tensor([0.5, 0.7, 1.0, 1.2])
VIEWS = ViewSettings(rotation=10.0, blur=0.5)
ENCODER = build_encoder(EncoderSettings(backbone="tiny", projection=8, hidden=16, bn_group=None), IMAGES).eval()
LINEAR = evaluation.LinearRecipe(epochs=1, batch=8)
FINETUNE = evaluation.FinetuneRecipe(share=0.5, epochs=1, least_steps=2, batch=4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def drawn(count: int = 4) -> views.Draws:
    return views.Draws(count, torch.device("cpu"), seeded())


def queued() -> list[Tensor]:
    queue = Queue(8, D, "cpu")
    for start in range(0, 18, 6):
        queue.enqueue(KEYS[start : start + 6], IDS[1][start : start + 6], KEY_LABELS[start : start + 6])
    other = Queue(8, D, "cpu")
    other.load_state_dict(queue.state_dict())
    return [other.keys, other.ids, other.labels]


def module_loss(size: Any) -> list[Tensor]:
    loss, found = ContrastiveLoss(NearestKeys(k=2), memory_bank_size=size, generator=seeded()), []
    for out0, out1 in OUTPUTS:
        found.append(loss(out0.detach().requires_grad_(torch.is_grad_enabled()), out1, IDS[0]))
    return [each.detach() for each in found]


def learned(rule: Any) -> Any:
    """A rule's choice, and the gradient of its loss where one is taken."""
    positives, negatives = (rule, AllNegatives()) if isinstance(rule, PositiveRule) else (AugmentedView(), rule)
    state = negatives.new_state(torch.arange(20, device="cpu"), torch.device("cpu"))
    z = Z.clone().requires_grad_(torch.is_grad_enabled())
    seen: list[Any] = []
    found = contrastive_loss(
        z, POSITIVE, KEYS, positives, negatives, LossSettings(), ids=IDS, labels=(LABELS, KEY_LABELS),
        generator=seeded(), state=state, observe=lambda s, selection: seen.append(selection),
    )  # fmt: skip
    if state is not None and seen[0].measured is not None:
        negatives.learn(state, IDS[0], seen[0].measured)
    with torch.autocast("cpu", enabled=False):  # as torch asks for
        gradient = torch.autograd.grad(found.sum(), z)[0] if z.requires_grad else None
    return [found, seen, state, gradient, mean_over_anchors(found, [seen[0].anchor_weight])]


def trained(rule: Any) -> Any:
    return replace(rule.at(1.0) if not isinstance(rule, MixedNegatives) else MixedNegatives(pairs=4, with_anchor=2))


def plainly(call: Callable[..., Tensor], *given: Any) -> Tensor:
    """A step of `augment`, which turns autocast off around it."""
    with torch.autocast("cpu", enabled=False):
        return call(*given)


def moved() -> list[Tensor]:
    momentum = MomentumCopy(ENCODER)
    momentum.update(ENCODER, 0.5)
    with torch.autocast("cpu", enabled=False):  # which training asks for
        return [momentum.keys(PICTURES, generator=seeded()), *momentum.encoder.parameters()]


def built() -> list[Tensor]:
    made = build_encoder(EncoderSettings(backbone="tiny", projection=8, hidden=16, bn_group=None), IMAGES, seed=3)
    with torch.autocast("cpu", enabled=False):
        return [made(PICTURES), *made.parameters(), *made.buffers()]


SETTINGS: dict[str, Any] = {"temperature": 0.2}
CALLS: dict[str, Callable[[], Any]] = {
    "info_nce": lambda: losses.info_nce(COSINES, S.anchor_keys, positive_weight=WEIGHTS, form="in", **SETTINGS),
    "fitting": lambda: losses.fitting(COSINES.tolist(), S.anchor_keys.tolist(), None, None),
    "combine": lambda: losses.combine(COSINES, WEIGHTS, MASS, "out"),
    "negative_mass": lambda: losses.negative_mass(
        COSINES, S.anchor_keys, positive_weight=WEIGHTS, estimate=mining.Estimate(1.0, 0.1), **SETTINGS
    ),
    "log_sum": lambda: losses.log_sum(S.anchor_keys, None, 5.0, 5.0),
    "positive_weight_of": lambda: losses.positive_weight_of(COSINES[:, :1], None),
    "info_nce_gradients": lambda: gradients.info_nce_gradients(
        COSINES, S.anchor_keys, positive_weight=WEIGHTS, estimate=mining.Estimate(1.0, 0.1), **SETTINGS
    ),
    "combine_gradients": lambda: gradients.combine_gradients(COSINES, WEIGHTS, MASS, "in"),
    "mass_gradients": lambda: gradients.mass_gradients(
        COSINES, WEIGHTS, S.anchor_keys, None, 0.2, mining.Estimate(1.0, 0.1)
    ),
    "tangential_force": lambda: gradients.tangential_force(S.anchor_keys, S.anchor_keys),
    "contrastive_loss": lambda: contrastive_loss(
        Z, POSITIVE, KEYS, NearestKeys(k=2), AllNegatives(), LossSettings(), ids=IDS, chunk=2, generator=seeded()
    ),
    "mean_over_anchors": lambda: mean_over_anchors(MASS + 1, [MASS + 0.5]),
    "Queue": queued,
    "similarities": lambda: mining.similarities(
        Z.tolist(), POSITIVE.numpy(), KEYS, OWN.tolist(), ids=(IDS[0].numpy(), IDS[1]), reads=READS[:3]
    ),
    "select": lambda: mining.select(S, NearestKeys(k=3, pick=2), mining.RankBand(0.1, 0.8), generator=seeded()),
    "terms": lambda: mining.terms(S, CHOSEN),
    "augment": lambda: [views.augment(given, VIEWS, generator=seeded()) for given in (PICTURES, IMAGES.images)],
    "crop_sizes": lambda: views.crop_sizes(VIEWS, drawn(), 1.0),
    "sampling_matrices": lambda: views.sampling_matrices(VIEWS, drawn(), 1.0),
    "resample": lambda: plainly(views.resample, PICTURES, views.sampling_matrices(VIEWS, drawn(), 1.0)),
    "brightness": lambda: views.brightness(PICTURES, AMOUNTS),
    "contrast": lambda: views.contrast(PICTURES, AMOUNTS),
    "saturation": lambda: views.saturation(PICTURES, AMOUNTS),
    "hue": lambda: views.hue(PICTURES, AMOUNTS / 3),
    "luma": lambda: views.luma(PICTURES),
    "pixels": lambda: [views.pixels(given) for given in (PICTURES, IMAGES.images)],
    "blur": lambda: plainly(views.blur, PICTURES, AMOUNTS, 3),
    "blur_matrices": lambda: plainly(views.blur_matrices, AMOUNTS, 3, 16),
    "ContrastiveLoss": lambda: [module_loss(0), module_loss((10, D))],
    "mined_pairs": lambda: interop.mined_pairs(
        BANK, BANK_CLASSES, FEATURES, CLASSES, NearestKeys(k=2), mining.RankBand(0.1, 0.8), generator=seeded()
    ),
    "as_metric_learning_miner": lambda: interop.as_metric_learning_miner(NearestKeys(k=2), mining.RankBand())(
        BANK, BANK_CLASSES
    ),
    "mine_pairs": lambda: vars(
        interop.mine_pairs(Z, POSITIVE, KEYS, NearestKeys(k=2), AllNegatives(), negatives=3, pick="random")
    ),
    "accuracy": lambda: evaluation.accuracy(CLASSES.tolist(), CLASSES),
    "confusion": lambda: evaluation.confusion(CLASSES.tolist(), CLASSES, 3),
    "per_class": lambda: evaluation.per_class(torch.ones(3, 3, dtype=torch.int64, device="cpu")),
    "diagnose": lambda: evaluation.diagnose(S, CHOSEN, **SETTINGS),
    "hubness": lambda: evaluation.hubness(IDS[1], K),
    "mined_purity_by_k": lambda: evaluation.mined_purity_by_k(S.anchor_keys, OWN, S.same_class, (1, 3)),
    "same_class_by_rank": lambda: evaluation.same_class_by_rank(S.anchor_keys, OWN, S.same_class, (0.0, 0.2, 1.0)),
    "self_hits": lambda: evaluation.self_hits(OWN),
    "own_last": lambda: own_last(S.anchor_keys, OWN),
    "same_class": lambda: same_class(torch.tensor([0, 1, -1], device="cpu"), torch.tensor([1, 0], device="cpu")),
    "share_of": lambda: evaluation.share_of(LABELS, LABELS + 2),
    "embed": lambda: [evaluation.embed(ENCODER, given) for given in (IMAGES, PICTURES)],
    "finetune": lambda: [*evaluation.finetune(ENCODER, IMAGES, FINETUNE)[0].parameters()],
    "few_labels": lambda: evaluation.trained.few_labels(BANK_CLASSES, 0.2, 3),
    "finetune_predict": lambda: evaluation.trained.finetune_predict(ENCODER, IMAGES, TEST, FINETUNE),
    "alignment": lambda: evaluation.alignment(Z, POSITIVE.tolist()),
    "effective_rank": lambda: evaluation.effective_rank(BANK.tolist()),
    "uniformity": lambda: evaluation.uniformity(BANK.numpy()),
    "knn_accuracy": lambda: evaluation.knn_accuracy(BANK, BANK_CLASSES, FEATURES, CLASSES, protocol="knn10"),
    "knn_predict": lambda: evaluation.knn_predict(BANK.tolist(), BANK_CLASSES.tolist(), FEATURES.numpy()),
    "fit_linear": lambda: evaluation.fit_linear(ENCODER, IMAGES, LINEAR),
    "linear_predict": lambda: evaluation.linear_predict(ENCODER, IMAGES, TEST, LINEAR),
    "fit_probe": lambda: evaluation.features.fit_probe(BANK, BANK_CLASSES),
    "linear_probe": lambda: evaluation.linear_probe(BANK, BANK_CLASSES, FEATURES, CLASSES),
    "probe_predict": lambda: evaluation.features.probe_predict(BANK, BANK_CLASSES, FEATURES),
    "evaluate": lambda: evaluation.evaluate(ENCODER, IMAGES, TEST, EvaluationSettings(test_limit=10)),
    "build_encoder": built,
    "MomentumCopy": moved,
    "pixel_statistics": lambda: pixel_statistics(IMAGES.images),
}
CALLS |= {
    f"rule {name}": lambda rule=rule: learned(trained(rule()))
    for base in (NegativeRule, PositiveRule)
    for name, rule in rule_classes(base).items()
    if rule.__module__.startswith("cltools.")
}


def plain(value: Any) -> Any:
    """Nested results as lists of tensors and plain values, to be compared."""
    if isinstance(value, nn.Parameter | Tensor):
        assert value.device.type == "cpu", "made where the inputs are"
        return value.detach().clone()
    if is_dataclass(value) and not isinstance(value, type):
        return [plain(getattr(value, field.name)) for field in fields(value)]
    if isinstance(value, dict):
        return [plain(each) for each in value.values()]
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value.to_dict("list") if hasattr(value, "to_dict") else value


def assert_same(found: Any, expected: Any) -> None:
    if found is None or expected is None:
        return  # a gradient is taken where one is asked for
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, Tensor):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, equal_nan=True)  # of type and device too
    else:
        assert found == pytest.approx(expected, nan_ok=True) if isinstance(expected, float) else found == expected


@pytest.fixture(scope="module")
def expected() -> Callable[[str], Any]:
    known: dict[str, Any] = {}

    def of(name: str) -> Any:
        if name not in known:
            known[name] = plain(CALLS[name]())
        return known[name]

    return of


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("surrounding", SURROUNDINGS)
@pytest.mark.parametrize("name", CALLS)
def test_what_is_around_a_call_changes_nothing(name: str, surrounding: str, expected: Any) -> None:
    wanted = expected(name)
    with SURROUNDINGS[surrounding]():
        found = CALLS[name]()
    assert_same(plain(found), wanted)


def test_every_public_function_is_called() -> None:
    public = {
        name
        for module in MODULES
        for name, value in vars(importlib.import_module(f"cltools.{module}")).items()
        if inspect.isfunction(value) and not name.startswith("_")
        if inspect.unwrap(value).__module__.startswith(f"cltools.{module}")
    }
    assert public - {*CALLS} - {*WITHOUT_NUMBERS} == set(), "call these above"
    assert {*WITHOUT_NUMBERS} <= public


def pickled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_what_a_process_is_sent_arrives_whole(copied: Callable[[Any], Any]) -> None:
    """As multiprocessing's spawn sends it."""
    queue = Queue(8, D)
    queue.enqueue(KEYS[:5], IDS[1][:5], KEY_LABELS[:5])
    for thing in (
        queue,
        ENCODER,
        MomentumCopy(ENCODER),
        IMAGES,
        S,
        CHOSEN,
        evaluation.diagnose(S, CHOSEN),
        LossSettings(),
    ):
        other = copied(thing)
        if isinstance(thing, nn.Module):
            assert_same(plain(other.state_dict()), plain(thing.state_dict()))
        else:
            assert_same(plain(vars(other)), plain(vars(thing)))
    assert torch.equal(copied(ENCODER).features(PICTURES), ENCODER.features(PICTURES))
    for base in (NegativeRule, PositiveRule):
        for rule in rule_classes(base).values():
            if rule.__module__.startswith("cltools."):
                assert copied(rule()) == rule()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_a_snapshot_of_embeddings_is_made_anywhere(surrounding: str) -> None:
    wanted = snapshot_of_embeddings(BANK, labels=BANK_CLASSES, classes=np.array(["a", "b", "c"]), n=np.int64(20))
    with SURROUNDINGS[surrounding]():
        found = snapshot_of_embeddings(BANK, labels=BANK_CLASSES, classes=np.array(["a", "b", "c"]), n=np.int64(20))
    assert np.array_equal(found.anchors, wanted.anchors) and np.array_equal(found.maps, wanted.maps)
    assert found.classes == ("a", "b", "c") and np.array_equal(found.labels, wanted.labels)


@pytest.mark.parametrize(
    ("labels", "classes", "names", "places"),
    [
        ([0, 1], pd.Index(["x", "y"]), ("x", "y"), [0, 1]),
        (["y", "x"], {"x": 0, "y": 1}.keys(), ("x", "y"), [1, 0]),
        ([7, 3], np.array([3, 7]), ("3", "7"), [1, 0]),
        (np.array(["y", "x"]), np.array(["x", "y"]), ("x", "y"), [1, 0]),
        (np.eye(2), ["x", "y"], ("x", "y"), [0, 1]),
        ([b"x", None], (), ("x",), [0, -1]),
        (pd.Series([1, pd.NA], dtype="Int64"), ["x", "y"], ("x", "y"), [1, -1]),
        ([800_000, 5], (), ("5", "800000"), [1, 0]),
    ],
)
def test_classes_are_named_in_every_usual_form(labels: Any, classes: Any, names: Any, places: list[int]) -> None:
    found, given = indexed_labels(labels, classes)
    assert given == names and found.tolist() == places
    with pytest.raises(ValueError, match="classes are of type"):
        indexed_labels(labels, {0: "x"})
