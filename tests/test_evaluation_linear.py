"""The recipe's linear evaluation, against a loop written by hand; the encoder is left as it was found."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from cltools.datasets import ImageSet
from cltools.evaluation import FinetuneRecipe, LinearRecipe, embed, finetune, fit_linear, linear_predict
from cltools.evaluation.trained import CROP_AND_FLIP, LabelledViews
from cltools.views import ViewSettings, augment

PLAIN = ViewSettings(crop_scale=(1.0, 1.0), flip=0.0, jitter=0.0, gray=0.0)


def squares(n: int, split: str = "train", seed: int = 0, classes: int = 2) -> ImageSet:
    """Classes told apart by brightness, with noise that no crop or flip removes."""
    labels = torch.arange(n) % classes
    noise = torch.randint(0, 30, (n, 3, 8, 8), generator=torch.Generator().manual_seed(seed))
    images = (noise + (220 // classes) * labels[:, None, None, None]).to(torch.uint8)
    return ImageSet(images, labels, torch.arange(n), tuple(map(str, range(classes))), "squares", split)


class Means(nn.Module):
    """Mean colours, through a batch norm and a dropout that training mode would show."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(3, affine=False), nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.tensor([1.0, 2.0, 0.5]))

    def features(self, x: Tensor) -> Tensor:
        features: Tensor = self.drop(self.norm(x.mean((2, 3)))) * self.scale
        return features


def by_hand(encoder: Means, train: ImageSet, recipe: LinearRecipe) -> tuple[Tensor, Tensor]:
    """Weight and bias after the recipe, Nesterov's momentum written out."""
    classes = int(train.labels.max()) + 1
    weight = 0.01 * torch.randn(classes, 3, generator=torch.Generator().manual_seed(recipe.seed))
    bias = torch.zeros(classes)
    moved = [torch.zeros_like(weight), torch.zeros_like(bias)]
    order = torch.Generator().manual_seed(2 * recipe.seed)
    draws = torch.Generator().manual_seed(2 * recipe.seed + 1)
    for epoch in range(recipe.epochs):
        rate = recipe.learning_rate * (0.1 if epoch >= 0.6 * recipe.epochs else 1)
        rate *= 0.1 if epoch >= 0.8 * recipe.epochs else 1
        shuffled = torch.randperm(len(train), generator=order)
        for start in range(0, len(train), recipe.batch):
            index = shuffled[start : start + recipe.batch]
            pixels = augment(train.images[index], recipe.views, generator=draws)
            with torch.no_grad():
                x = encoder.features(pixels)
            share = (x @ weight.T + bias).softmax(1)
            share[torch.arange(len(index)), train.labels[index]] -= 1
            for i, (parameter, slope) in enumerate(((weight, share.T @ x), (bias, share.sum(0)))):
                slope = slope / len(index)
                moved[i] = 0.9 * moved[i] + slope
                parameter -= rate * (slope + 0.9 * moved[i])
    return weight, bias


@pytest.mark.parametrize("epochs", [1, 5])
def test_two_steps_and_a_whole_schedule_are_those_of_a_loop_by_hand(epochs: int) -> None:
    train, recipe = squares(10), LinearRecipe(epochs=epochs, batch=6, learning_rate=3.0, seed=4)  # 6, then 4
    head = fit_linear(Means(), train, recipe)
    weight, bias = by_hand(Means().eval(), train, recipe)
    torch.testing.assert_close(head.weight, weight)
    torch.testing.assert_close(head.bias, bias)
    assert not head.weight.requires_grad


def test_the_default_is_the_published_recipe() -> None:
    recipe = LinearRecipe()
    assert (recipe.epochs, recipe.batch, recipe.learning_rate, recipe.momentum) == (100, 256, 30.0, 0.9)
    assert recipe.views == CROP_AND_FLIP
    assert (recipe.views.jitter, recipe.views.gray, recipe.views.blur, recipe.views.flip) == (0, 0, 0, 0.5)


@pytest.mark.parametrize("epochs", [1, 2, 5, 10, 35, 100])
def test_the_learning_rate_falls_at_its_shares_of_training(epochs: int) -> None:
    rates = [LinearRecipe(epochs=epochs).rate(epoch) for epoch in range(epochs)]
    expected = [30 if 10 * e < 6 * epochs else 3 if 10 * e < 8 * epochs else 0.3 for e in range(epochs)]
    assert rates == pytest.approx(expected)


def test_classes_that_can_be_separated_are() -> None:
    train, test = squares(60, classes=3), squares(30, "test", 1, classes=3)
    predicted = linear_predict(Means(), train, test, LinearRecipe(epochs=30, batch=16, learning_rate=10.0))
    assert torch.equal(predicted, test.labels)


def test_the_encoder_is_left_bit_for_bit() -> None:
    encoder = Means().train()
    encoder.features(torch.rand(9, 3, 8, 8))  # running statistics away from their start
    encoder.norm.eval()  # frozen by hand
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    drawn = torch.get_rng_state()
    fit_linear(encoder, squares(20), LinearRecipe(epochs=2, batch=7))
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.state_dict().items())
    assert encoder.training and encoder.drop.training and not encoder.norm.training
    assert encoder.scale.grad is None and encoder.scale.requires_grad
    assert torch.equal(torch.get_rng_state(), drawn)


def test_it_repeats_and_the_seed_decides() -> None:
    train, recipe = squares(20), LinearRecipe(epochs=2, batch=7)
    first = fit_linear(Means(), train, recipe)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        again = fit_linear(Means(), train, recipe)
    assert torch.equal(first.weight, again.weight) and torch.equal(first.bias, again.bias)
    assert not torch.equal(first.weight, fit_linear(Means(), train, replace(recipe, seed=1)).weight)


def test_the_last_step_counts_and_not_the_best() -> None:
    """One more epoch goes on where the schedule stood: with constant rates a longer training starts the same."""
    train = squares(12)
    constant = LinearRecipe(epochs=1, batch=4, milestones=(), learning_rate=1.0)
    short, long = (fit_linear(Means(), train, replace(constant, epochs=n)) for n in (1, 2))
    weight, _ = by_hand(Means().eval(), train, replace(constant, epochs=1))
    torch.testing.assert_close(short.weight, weight)
    loss = [cross_entropy(head.logits(embed(Means(), train)), train.labels) for head in (short, long)]
    assert loss[1] < loss[0]


class Waiting(TorchDispatchMode):
    """Notes the operations for which a host waits for its device."""

    NAMES = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "unique", "bincount")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func.overloadpacket).removeprefix("aten.")
        by_mask = name.startswith("index") and any(
            isinstance(i, Tensor) and i.dtype == torch.bool for i in (args[1] if isinstance(args[1], list) else ())
        )
        if by_mask or name.startswith(self.NAMES):
            self.found.append(name)
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("train", [fit_linear, finetune], ids=["linear", "fine-tuning"])
def test_no_step_waits_for_the_device(train: Any) -> None:
    """However many steps a training has, the host asks the device as often."""
    asked = []
    for steps in (2, 5):
        recipes = {
            fit_linear: LinearRecipe(epochs=1, batch=20 // steps),
            finetune: FinetuneRecipe(share=1.0, epochs=1, least_steps=1, batch=20 // steps),
        }
        with Waiting() as waiting:
            train(Means(), squares(20), recipes[train])
        asked.append(waiting.found)
    assert asked[0] == asked[1] and asked[0]


def test_a_plain_module_and_a_class_that_training_lacks() -> None:
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    test = squares(9, "test", 1, classes=3)
    predicted = linear_predict(pooled, squares(20), test, LinearRecipe(epochs=1))
    assert predicted.shape == (9,) and int(predicted.max()) <= 1


def test_batches_of_views_hold_each_image_once_or_leave_the_rest_out() -> None:
    images = squares(10)
    images = replace(images, labels=torch.arange(10), classes=tuple("abcdefghij"))
    whole = LabelledViews(images, PLAIN, batch=4, seed=0, drop_last=False)
    epochs = [torch.cat([labels for _, labels in whole.epoch()]).tolist() for _ in range(2)]
    assert whole.steps == 3 and all(sorted(epoch) == list(range(10)) for epoch in epochs) and epochs[0] != epochs[1]
    dropped = LabelledViews(images, PLAIN, batch=4, seed=0, drop_last=True)
    batches = list(dropped.epoch())
    assert dropped.steps == 2 and [len(labels) for _, labels in batches] == [4, 4]
    for pixels, labels in batches:
        torch.testing.assert_close(pixels, images.images[labels] / 255)
    assert LabelledViews(images, PLAIN, batch=64, seed=0, drop_last=True).steps == 1


def test_what_cannot_be_trained_is_refused() -> None:
    train = squares(6)
    with pytest.raises(ValueError, match="labels of the train images of 'squares' are unknown"):
        fit_linear(Means(), replace(train, labels=-torch.ones_like(train.labels)))
    with pytest.raises(FloatingPointError, match="linear evaluation are NaN or infinite: lower its learning rate"):
        fit_linear(Means(), train, LinearRecipe(epochs=20, learning_rate=1e38))
    with pytest.raises(ValueError, match="epochs is 0; it must be a whole number from 1 to a billion"):
        LinearRecipe(epochs=0)
    with pytest.raises(ValueError, match="milestones is"):
        LinearRecipe(milestones=(60.0, 80.0))
