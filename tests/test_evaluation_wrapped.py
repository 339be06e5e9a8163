"""An encoder within something else: it is judged by the same features as bare, or refused."""

import copy
import warnings
from collections.abc import Callable
from functools import partial
from inspect import unwrap
from typing import Any

import numpy as np
import pytest
import torch
from test_evaluation import image_set
from torch import Tensor, distributed as dist, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.optim.swa_utils import AveragedModel

from cltools.encoders import EncoderSettings, build_encoder
from cltools.errors import CltoolsError
from cltools.evaluation import FinetuneRecipe, LinearRecipe, embed, evaluate, fit_linear
from cltools.evaluation.embed import reader
from cltools.evaluation.trained import finetune
from cltools.views import ViewSettings, augment


class Sharded(nn.Module):
    """Wraps as FSDP does: the module below, under the name `module`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *given: Any) -> Any:
        return self.module(*given)


class Named(nn.Module):
    """A module of one's own around an encoder."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Any:
        return self.net(x)


def encoder() -> Any:
    made = build_encoder(EncoderSettings(backbone="tiny", projection=8, hidden=16, predictor=True, bn_group=None), None)
    return made.eval()


def exported(module: nn.Module) -> nn.Module:
    return torch.export.export(module, (torch.rand(2, 3, 16, 16),)).module()


def traced(module: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: nn.Module = torch.jit.trace(module, torch.rand(2, 3, 16, 16))
    return made


SAME: dict[str, Callable[[Any], nn.Module]] = {
    "DataParallel": nn.DataParallel,
    "AveragedModel": AveragedModel,
    "compiled": lambda module: torch.compile(module, backend="eager"),  # type: ignore[return-value]
    "compiled in DataParallel": lambda module: nn.DataParallel(torch.compile(module, backend="eager")),  # type: ignore[arg-type]
    "averaged and compiled": lambda module: torch.compile(AveragedModel(module), backend="eager"),  # type: ignore[return-value]
    "as FSDP": Sharded,
}
REFUSED: dict[str, Callable[[Any], nn.Module]] = {
    "a trace": traced,
    "an export": exported,
    "a module of one's own": Named,
    "a sequence": nn.Sequential,
    "one's own in DataParallel": lambda module: nn.DataParallel(Named(module)),
}


@pytest.mark.parametrize("wrapper", SAME)
def test_a_wrapped_encoder_is_judged_as_bare(wrapper: str) -> None:
    bare, images = encoder(), image_set(40)
    wrapped = SAME[wrapper](copy.deepcopy(bare))
    assert torch.equal(embed(wrapped, images), embed(bare, images)) and embed(bare, images).shape[1] == bare.dim
    assert torch.equal(embed(wrapped, images, projection=True), embed(bare, images, projection=True))
    protocols, tests = ("knn10", "probe"), image_set(20, "test", seed=1)
    assert evaluate(wrapped, images, tests, protocols=protocols) == evaluate(bare, images, tests, protocols=protocols)


def test_the_protocols_that_train_read_the_same_features() -> None:
    bare, images = encoder(), image_set(40)
    recipes = LinearRecipe(epochs=1), FinetuneRecipe(share=1.0, epochs=1, least_steps=1, batch=20)
    heads = [fit_linear(each, images, recipes[0]) for each in (bare, nn.DataParallel(bare))]
    heads += [finetune(each, images, recipes[1])[1] for each in (bare, nn.DataParallel(bare))]
    assert torch.equal(heads[0].weight, heads[1].weight) and torch.equal(heads[2].weight, heads[3].weight)


@pytest.mark.slow
def test_in_a_process_group_it_is_judged_as_bare(tmp_path: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        bare = encoder()
        wrapped = nn.parallel.DistributedDataParallel(copy.deepcopy(bare))
        assert torch.equal(embed(wrapped, image_set(9)), embed(bare, image_set(9)))
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("wrapper", REFUSED)
def test_what_hides_an_encoder_is_refused(wrapper: str) -> None:
    wrapped = REFUSED[wrapper](encoder())
    with pytest.raises(ValueError, match="would return projections; give its Encoder"):
        embed(wrapped, torch.rand(4, 3, 16, 16))
    assert embed(wrapped, torch.rand(2, 3, 16, 16), projection=True).shape == (2, 8), "unless they are asked for"


def test_reparametrised_weights_are_judged_as_they_are() -> None:
    made = encoder()
    expected = embed(made, image_set(5))
    weight_norm(made.head[0])
    assert torch.equal(embed(made, image_set(5)), expected)


def test_a_module_that_holds_no_encoder_is_called() -> None:
    class Ordinary(nn.Module):
        """With the names that an encoder's parts have, and a wrapper's."""

        def __init__(self) -> None:
            super().__init__()
            self.module, self.head = nn.Flatten(), nn.Linear(3 * 4 * 4, 5)
            self.backbone = nn.Identity()

        def forward(self, x: Tensor) -> Any:
            return self.head(self.module(x))

    assert embed(Ordinary(), torch.rand(2, 3, 4, 4)).shape == (2, 5)
    for strange in (torch.rand(2, 3, 4, 4) * 255, torch.rand(2, 3, 4, 4) - 1, torch.full((2, 3, 4, 4), torch.nan)):
        with pytest.raises(CltoolsError, match=r"floats outside of \[0, 1\]; give uint8"):
            embed(Ordinary(), strange)


def test_pictures_of_other_numbers_are_refused() -> None:
    assert embed(encoder(), torch.rand(2, 3, 16, 16).numpy().tolist()).shape == (2, 256)
    with pytest.raises(ValueError, match="uint8, or float in"):
        embed(encoder(), torch.ones(2, 3, 16, 16, dtype=torch.int64))
    with pytest.raises(ValueError, match="uint8, or float in"):
        augment(torch.ones(2, 3, 16, 16, dtype=torch.int64), ViewSettings())


def plain() -> nn.Module:
    """Without our `Encoder`, whose shapes tests check on their way in."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("projection", [False, True])
@pytest.mark.parametrize(
    "given",
    [lambda e: e.forward, partial, type, lambda e: lambda x: x.flatten(1), lambda e: None, lambda e: "resnet18"],
    ids=["method", "partial", "class", "function", "None", "name"],
)
def test_what_is_no_encoder_is_named(given: Any, projection: bool) -> None:
    with pytest.raises(
        CltoolsError, match=r"The encoder is (of type|the class) \w+; give an nn.Module or an object with"
    ):
        unwrap(reader)(given(encoder()), projection)


@pytest.mark.parametrize(
    "shape", [(2, 16, 16, 3), (3, 16, 16), (2, 16, 16), (2, 1, 16, 16)], ids=["last", "one", "grey", "one channel"]
)
def test_pictures_that_an_encoder_cannot_read_are_named_by_their_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(CltoolsError, match=r"(cannot read torch\.float32|images gave features \[4)"):
        unwrap(embed)(plain(), torch.rand(shape))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_type_are_refused_with_the_remedy(kind: torch.dtype) -> None:
    with pytest.raises(CltoolsError, match=r"and encoder\.float\(\)"):
        embed(plain().to(kind), image_set(4))


def test_what_an_encoder_raises_of_its_own_kind_passes() -> None:
    class Full(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError, match="full"):
        embed(Full(), image_set(3))


@pytest.mark.parametrize("kind", [np.int64, np.uint8, torch.tensor])
def test_a_batch_is_a_whole_number_of_any_library(kind: Any) -> None:
    made = encoder()
    assert torch.equal(unwrap(embed)(made, image_set(5), batch=kind(2)), embed(made, image_set(5), batch=2))


class Holder(nn.Module):
    """A module of one's own whose `features` is what it is given, as torchvision names its convolutions."""

    def __init__(self, features: Any) -> None:
        super().__init__()
        self.features, self.flat = features, nn.Flatten()

    def forward(self, x: Tensor) -> Any:
        return self.flat(x)


@pytest.mark.parametrize("wrap", [lambda e: e, nn.Sequential, nn.DataParallel, Named])
def test_an_encoder_held_as_features_is_refused(wrap: Any) -> None:
    """It would be judged by its projection."""
    with pytest.raises(CltoolsError, match="Holder would return projections; give its Encoder"):
        embed(Holder(wrap(encoder())), torch.rand(4, 3, 16, 16))


@pytest.mark.parametrize("features", [48, [8, 16], "resnet", None])
def test_features_that_cannot_be_called_are_none(features: Any) -> None:
    assert unwrap(embed)(Holder(features), torch.rand(2, 3, 4, 4)).shape == (2, 48)
    with pytest.raises(CltoolsError, match=r"of type Plain; give an nn\.Module or an object with `features`"):
        unwrap(reader)(type("Plain", (), {"features": features})())
    with pytest.raises(CltoolsError, match="Holder cannot be fine-tuned"):
        finetune(Holder(features), image_set(40), FinetuneRecipe(share=1.0))


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (lambda x: (x, x), "a tuple"),
        (lambda x: {"features": x}, "a dict"),
        (lambda x: x.numpy(), "a ndarray"),
        (lambda x: None, "a NoneType"),
        (lambda x: x + 1j, r"features \[4, 192\] of torch.complex64"),
    ],
)
def test_an_encoder_that_returns_no_real_tensor_is_told_to_be_wrapped(made: Any, named: str) -> None:
    class Odd(nn.Module):
        def features(self, x: Tensor) -> Any:
            return made(x.flatten(1))

    with pytest.raises(CltoolsError, match=rf"gave {named}; pool to one vector each, in a tensor of reals"):
        embed(Odd(), image_set(4))


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:0", 5, torch.device("cuda")])
def test_a_device_that_is_not_there_is_named(device: Any, unchecked: None) -> None:
    if "cuda" in str(device) and torch.cuda.is_available():
        pytest.skip("has a CUDA device")
    with pytest.raises(CltoolsError, match=r"(Unknown device|no CUDA GPU).*[Uu]se \"(auto|cpu)\""):
        unwrap(embed)(plain(), image_set(4), device=device)
    assert embed(plain(), image_set(4), device=torch.device("cpu")).shape == (4, 4)
