"""Few labels: how they are drawn, and that training on them changes a copy alone."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn

from cltools.datasets import ImageSet, load_images
from cltools.encoders import Encoder, EncoderSettings, build_encoder
from cltools.evaluation import FinetuneRecipe, accuracy, embed, finetune
from cltools.evaluation.trained import CROP_AND_FLIP, LabelledViews, LinearHead, few_labels, finetune_predict

labels_and_share = st.tuples(
    st.lists(st.integers(0, 5), min_size=1, max_size=80).map(torch.tensor), st.floats(0.001, 1), st.integers(0, 2**31)
)
QUICK = FinetuneRecipe(share=0.2, epochs=1, least_steps=3)


@given(given=labels_and_share)
def test_the_draw_is_balanced_and_holds_every_class(given: tuple[Tensor, float, int]) -> None:
    labels, share, seed = given
    drawn = few_labels(labels, share, seed)
    assert drawn.tolist() == sorted(set(drawn.tolist())) and drawn.dtype == torch.int64
    present = set(labels.tolist())
    each = max(1, int(share * len(labels) / len(present) + 0.5))
    for label in present:
        assert int((labels[drawn] == label).sum()) == min(each, int((labels == label).sum()))


@given(given=labels_and_share, smaller=st.floats(0.01, 1))
def test_a_smaller_share_is_part_of_a_larger_one(given: tuple[Tensor, float, int], smaller: float) -> None:
    labels, share, seed = given
    few, many = (set(few_labels(labels, s, seed).tolist()) for s in (share * smaller, share))
    assert few <= many


def test_the_draw_repeats_and_the_seed_decides() -> None:
    labels = torch.arange(500) % 10
    assert torch.equal(few_labels(labels, 0.1, 3), few_labels(labels, 0.1, 3))
    assert not torch.equal(few_labels(labels, 0.1, 3), few_labels(labels, 0.1, 4))
    assert len(few_labels(labels, 0.1, 3)) == 50 and len(few_labels(labels, 0.01, 3)) == 10  # one a class: 2 %
    assert few_labels(labels, 1.0, 0).tolist() == list(range(500))


def test_the_recipe_is_the_published_one_but_for_what_it_says() -> None:
    recipe = FinetuneRecipe()
    assert (recipe.share, recipe.epochs, recipe.learning_rate, recipe.momentum) == (0.01, 60, 0.05, 0.9)
    assert recipe.views == CROP_AND_FLIP
    assert recipe.steps(7) == 420 and recipe.steps(1) == 200  # CIFAR-10's 500 labels; a handful
    rates = [recipe.rate(step, 100, 64) for step in range(101)]
    assert rates[0] == 0.05 * 64 / 256 and rates[50] == pytest.approx(rates[0] / 2) and rates[100] == 0
    assert rates == sorted(rates, reverse=True)


def digits(n: int, split: str = "train") -> ImageSet:
    return load_images("digits", split).subset(n)


def tiny(images: ImageSet) -> Encoder:
    """As it comes: batch-norm groups of 32 that few labels cannot fill."""
    return build_encoder(EncoderSettings(backbone="tiny"), images)


def test_a_copy_is_trained_and_the_encoder_left_bit_for_bit() -> None:
    train = digits(100)
    encoder = tiny(train).train()
    encoder.backbone.requires_grad_(False).eval()  # frozen by hand
    encoder.head[0].weight.grad = torch.ones_like(encoder.head[0].weight)
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    flags = [(module.training, len(list(module.parameters()))) for module in encoder.modules()]
    drawn = torch.get_rng_state()
    tuned, head = finetune(encoder, train, QUICK)
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.state_dict().items())
    assert [(module.training, len(list(module.parameters()))) for module in encoder.modules()] == flags
    assert not any(parameter.requires_grad for parameter in encoder.backbone.parameters())
    assert encoder.head[0].weight.grad is not None and encoder.stacking.group == 32
    assert torch.equal(torch.get_rng_state(), drawn)
    changed = {name for name, tensor in tuned.state_dict().items() if not torch.equal(tensor, state[name])}
    weights = {f"backbone.{name}" for name, _ in encoder.backbone.named_parameters()}
    assert weights <= changed and not {name for name in changed if name.startswith("head")}
    assert any(name.endswith("running_mean") for name in changed)
    assert not tuned.training and not head.weight.requires_grad


def test_a_first_step_is_sgd_on_the_drawn_images() -> None:
    """One step of Nesterov's momentum from rest moves by 1.9 times the slope."""
    train = digits(60)
    recipe = replace(QUICK, least_steps=1, batch=64, learning_rate=0.5, momentum=0.9)
    drawn = train.select(few_labels(train.labels, recipe.share, recipe.seed))
    encoder = tiny(train)
    tuned, head = finetune(encoder, train, recipe)
    start, _ = LinearHead.of(drawn, encoder.dim, recipe.seed, torch.device("cpu"))
    views = LabelledViews(drawn, recipe.views, batch=64, seed=recipe.seed, drop_last=True)
    (pixels, labels), *rest = views.epoch()
    assert not rest and len(labels) == len(drawn)
    encoder.stacking.group = None
    loss = torch.nn.functional.cross_entropy(start.logits(encoder.train().features(pixels)), labels)
    loss.backward()
    rate = 0.5 * len(drawn) / 256
    assert start.weight.grad is not None and start.bias.grad is not None
    torch.testing.assert_close(head.weight, (start.weight - 1.9 * rate * start.weight.grad).detach())
    torch.testing.assert_close(head.bias, (start.bias - 1.9 * rate * start.bias.grad).detach())
    after = dict(tuned.named_parameters())
    for name, parameter in encoder.backbone.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(after[f"backbone.{name}"], (parameter - 1.9 * rate * parameter.grad).detach())


def test_it_repeats_and_the_seed_decides() -> None:
    train, test = digits(100), digits(50, "test")
    encoder = tiny(train)
    first = finetune(encoder, train, QUICK)[1].weight
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(finetune(encoder, train, QUICK)[1].weight, first)
    assert not torch.equal(finetune(encoder, train, replace(QUICK, seed=1))[1].weight, first)
    predicted = finetune_predict(encoder, train, test, QUICK)
    tuned, head = finetune(encoder, train, QUICK)
    assert torch.equal(predicted, head.logits(embed(tuned, test)).argmax(1))


@pytest.mark.slow
def test_few_labels_teach_more_than_chance() -> None:
    train, test = load_images("digits"), load_images("digits", "test")
    recipe = FinetuneRecipe(share=0.1, epochs=30, views=replace(CROP_AND_FLIP, flip=0.0))
    assert accuracy(finetune_predict(tiny(train), train, test, recipe), test.labels) > 50  # chance is 10


class Pooled(nn.Module):
    """An encoder of one's own, with dropout."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers, nn.Dropout(0.2), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def features(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x)
        return features


def test_an_encoder_of_ones_own_repeats_dropout_included() -> None:
    encoder, train = Pooled(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), digits(60)
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    first, again = (finetune(encoder, train, QUICK)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], state["layers.0.weight"])
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.state_dict().items())


def test_what_cannot_be_fine_tuned_is_refused() -> None:
    train = digits(40)

    class Features:
        def features(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    for encoder in (Features(), nn.Sequential(nn.Flatten(), nn.Linear(768, 3))):
        with pytest.raises(ValueError, match="cannot be fine-tuned: give a module with a method `features`"):
            finetune(encoder, train)
    with pytest.raises(ValueError, match="is one image; batch statistics need two"):
        finetune(tiny(train), train.select(slice(0, 1)))
    with pytest.raises(ValueError, match="labels of the train images of 'digits' are unknown"):
        finetune(tiny(train), replace(train, labels=-torch.ones_like(train.labels)))
    with pytest.raises(FloatingPointError, match="fine-tuning are NaN or infinite"):
        finetune(tiny(train), train, replace(QUICK, learning_rate=1e30))
    with pytest.raises(ValueError, match="share is 0"):
        FinetuneRecipe(share=0)
    with pytest.raises(ValueError, match="batch is 1; it must be a whole number of at least 2"):
        FinetuneRecipe(batch=1)
