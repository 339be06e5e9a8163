"""Encoders: pixels, backbones, grouped batch statistics, heads, seeds, own backbones; and the momentum copy."""

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from cltools.datasets import ImageSet
from cltools.encoders import (
    ByWindows,
    Encoder,
    EncoderSettings,
    GroupedBatchNorm,
    MomentumCopy,
    SmallConvolution,
    build_encoder,
    pixel_statistics,
)  # fmt: skip
from cltools.errors import CltoolsError

TINY = EncoderSettings(backbone="tiny", hidden=16, projection=8, bn_group=None)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, size: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, size, size, generator=seeded(seed))


def image_set(images: Tensor) -> ImageSet:
    ids = torch.arange(len(images))
    return ImageSet(images, torch.full_like(ids, -1), ids, (), "made", "train")


def gradients(module: nn.Module) -> list[Tensor]:
    return [p.grad for p in module.parameters() if p.grad is not None]


def norms(module: nn.Module) -> list[GroupedBatchNorm]:
    return [m for m in module.modules() if isinstance(m, GroupedBatchNorm)]


# --- pixels


def test_pixels_are_normalised_with_the_training_images() -> None:
    images = torch.randint(0, 256, (1500, 3, 8, 8), dtype=torch.uint8, generator=seeded())  # more than one chunk
    images[:, 1] //= 2
    encoder = build_encoder(TINY, image_set(images))
    values = images.double() / 255
    torch.testing.assert_close(encoder.mean.flatten().double(), values.mean((0, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(encoder.std.flatten().double(), values.std((0, 2, 3), unbiased=False), rtol=1e-6, atol=0)
    assert {"mean", "std"} <= encoder.state_dict().keys()


def test_a_channel_that_never_varies_divides_nothing_by_zero() -> None:
    mean, std = pixel_statistics(torch.full((4, 3, 8, 8), 51, dtype=torch.uint8))
    torch.testing.assert_close(mean.flatten(), torch.full((3,), 0.2))
    torch.testing.assert_close(std.flatten(), torch.full((3,), 1 / 255))


def test_bytes_and_floats_are_the_same_pictures() -> None:
    encoder = build_encoder(TINY, None).eval()
    images = (pictures(4) * 255).to(torch.uint8)
    assert torch.equal(encoder(images), encoder(images.float() / 255))


# --- backbones and heads


@pytest.mark.parametrize("size", [16, 32, 64])
def test_tiny_takes_every_size(size: int) -> None:
    encoder = build_encoder(TINY, None)
    x = pictures(8, size)
    assert encoder.features(x).shape == (8, encoder.dim) and encoder(x).shape == (8, 8)


def test_resnet18_for_small_images_trains_on_a_cpu() -> None:
    encoder = build_encoder(EncoderSettings(hidden=32, projection=16, bn_group=2), None)
    stem = encoder.backbone.conv1
    assert isinstance(stem, nn.Conv2d) and isinstance(encoder.backbone.maxpool, nn.Identity)
    assert stem.kernel_size == (3, 3) and stem.stride == (1, 1) and stem.padding == (1, 1)
    assert encoder.dim == 512 and len(norms(encoder.backbone)) == 20
    encoder.to(memory_format=torch.channels_last)
    encoder(pictures(4, 32), views=2).square().sum().backward()
    assert len(gradients(encoder)) == len(list(encoder.parameters()))
    assert all(bool(g.isfinite().all()) and bool(g.any()) for g in gradients(encoder.backbone))


def test_resnet50_and_the_max_pool() -> None:
    encoder = build_encoder(EncoderSettings(backbone="resnet50", max_pool=True, projection=16), None).eval()
    assert encoder.dim == 2048 and isinstance(encoder.backbone.maxpool, nn.MaxPool2d)
    with torch.no_grad():
        assert encoder(pictures(2, 32)).shape == (2, 16)


def test_the_heads() -> None:
    plain = build_encoder(TINY, None)
    assert [type(m) for m in plain.head] == [nn.Linear, nn.ReLU, nn.Linear] and plain.predictor is None
    x = pictures(4)
    assert torch.equal(plain.eval()(x), plain.project(x))
    full = build_encoder(replace(TINY, head_norm=True, predictor=True), None)
    assert full.predictor is not None and len(norms(full.head)) == len(norms(full.predictor)) == 1
    full.eval()
    assert full(x).shape == full.project(x).shape == (4, 8)
    assert torch.equal(full(x), full.predictor(full.project(x)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "tiny", "max_pool": True}, "tiny backbone has no max-pool"),
        ({"hidden": 0}, "hidden is 0"),
        ({"projection": -1}, "projection is -1"),
        ({"bn_group": 1}, "bn_group is 1"),
    ],
)
def test_settings_without_meaning_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EncoderSettings(**settings)  # type: ignore[arg-type]


# --- seeds


def test_a_seed_makes_the_weights_and_nothing_else_does() -> None:
    state = torch.get_rng_state()
    first, again = build_encoder(TINY, None, seed=5), build_encoder(TINY, None, seed=5)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(3)
    third, other = build_encoder(TINY, None, seed=5), build_encoder(TINY, None, seed=6)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]) and torch.equal(value, third.state_dict()[name])
    assert not torch.equal(first.head[0].weight, other.head[0].weight)


# --- batch statistics


@pytest.mark.parametrize(("views", "bn_group", "groups"), [(1, None, 1), (2, None, 2), (1, 4, 4), (2, 4, 4), (4, 2, 8)])
def test_one_forward_of_groups_is_separate_forwards(views: int, bn_group: int | None, groups: int) -> None:
    stacked = build_encoder(replace(TINY, bn_group=bn_group, head_norm=True, predictor=True), None).double()
    alone, fresh = copy.deepcopy(stacked), copy.deepcopy(stacked)
    alone.stacking.group = fresh.stacking.group = None
    x, weight = pictures(16).double(), torch.rand(16, 8, generator=seeded(1), dtype=torch.float64)
    output = stacked(x, views=views)
    output.mul(weight).sum().backward()
    parts, means = [], []
    for part in x.chunk(groups):
        each = copy.deepcopy(fresh)  # running statistics of each group from the same start
        parts.append(alone(part))
        each(part)
        means.append([(norm.running_mean, norm.running_var) for norm in norms(each)])
    expected = torch.cat(parts)
    expected.mul(weight).sum().backward()
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients(stacked), gradients(alone), rtol=1e-9, atol=1e-9)
    for index, norm in enumerate(norms(stacked)):
        assert int(norm.num_batches_tracked) == 1
        for own, which in ((norm.running_mean, 0), (norm.running_var, 1)):
            average = torch.stack([group[index][which] for group in means]).mean(0)
            torch.testing.assert_close(own, average, rtol=1e-10, atol=1e-12)


def test_one_group_is_torchs_own_batch_norm_bit_for_bit() -> None:
    ours, theirs, x = GroupedBatchNorm(3), nn.BatchNorm2d(3), pictures(8)
    assert torch.equal(ours(x), theirs(x)) and torch.equal(ours.eval()(x), theirs.eval()(x))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)


@given(st.integers(1, 5), st.integers(2, 4), st.integers(1, 4), st.sampled_from([(), (3, 2), (1, 1)]), st.booleans())
def test_folding_groups_into_channels_changes_nothing(
    groups: int, each: int, channels: int, positions: tuple[int, ...], channels_last: bool
) -> None:
    results = []
    for way in ("one_by_one", "folded"):
        made, norm = seeded(), GroupedBatchNorm(channels)
        x = torch.rand(groups * each, channels, *positions, generator=made, dtype=torch.float64)
        if positions and channels_last:
            x = x.to(memory_format=torch.channels_last)
        x.requires_grad_()
        norm.weight = weight = nn.Parameter(torch.rand(channels, generator=made, dtype=torch.float64))
        norm.bias = bias = nn.Parameter(torch.rand(channels, generator=made, dtype=torch.float64))
        norm.running_mean, norm.running_var = torch.rand(2, channels, generator=made, dtype=torch.float64).unbind()
        y = getattr(norm, way)(x, groups)
        (y * torch.rand(y.shape, generator=made, dtype=torch.float64)).sum().backward()
        results.append([y.detach(), norm.running_mean, norm.running_var, x.grad, weight.grad, bias.grad])
    torch.testing.assert_close(results[0], results[1], rtol=1e-8, atol=1e-8)


def test_folding_keeps_channels_last() -> None:
    x = pictures(8).to(memory_format=torch.channels_last)
    y = GroupedBatchNorm(3).folded(x, 4)
    assert y.is_contiguous(memory_format=torch.channels_last)


@given(st.sampled_from([2, 4, 6]), st.sampled_from([2, 4, 8]), st.integers(1, 5), st.integers(1, 3), st.booleans())
def test_a_convolution_by_windows_is_torchs(height: int, width: int, batch: int, channels: int, last: bool) -> None:
    made = seeded(height + 10 * width)
    x = torch.rand(batch, channels, height, width, generator=made, dtype=torch.float64)
    x = x.to(memory_format=torch.channels_last) if last else x
    weight = torch.rand(4, channels, 3, 3, generator=made, dtype=torch.float64)
    upstream = torch.rand(batch, 4, height // 2, width // 2, generator=made, dtype=torch.float64)
    found = []
    for convolve in (ByWindows.apply, lambda *given: F.conv2d(*given, stride=2, padding=1)):
        leaves = [each.detach().clone().requires_grad_() for each in (x, weight)]
        y = convolve(*leaves)
        found.append([y, *torch.autograd.grad(y, leaves, upstream)])
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


def test_a_convolution_by_windows_can_be_differentiated_twice_and_by_functions() -> None:
    x, weight = (
        torch.rand(2, 3, 4, 4, generator=seeded()).double(),
        torch.rand(4, 3, 3, 3, generator=seeded(1)).double(),
    )
    by_windows, plain = ByWindows.apply, lambda *given: F.conv2d(*given, stride=2, padding=1)
    assert torch.autograd.gradgradcheck(by_windows, (x.requires_grad_(), weight.requires_grad_()))
    found = [torch.func.grad(lambda w, f=each: f(x.detach(), w).square().sum())(weight) for each in (by_windows, plain)]
    torch.testing.assert_close(*found)


def test_only_small_images_of_a_cpu_are_convolved_by_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, seen = SmallConvolution(3, 4, 3, stride=2, padding=1, bias=False), []
    by_windows = ByWindows.apply
    monkeypatch.setattr(ByWindows, "apply", lambda *given: [seen.append(given[0].shape), by_windows(*given)][1])
    for side in (2, 3, 4, 5, 8):
        layer(pictures(2, side))
    with torch.autocast("cpu"):
        layer(pictures(2, 4))
    assert [shape[-1] for shape in seen] == [2, 4]


def test_a_batch_of_broken_groups_is_refused_in_training_only() -> None:
    encoder = build_encoder(replace(TINY, bn_group=4), None)
    with pytest.raises(ValueError, match="6 images per view are not a multiple of bn_group=4"):
        encoder(pictures(12), views=2)
    with pytest.raises(ValueError, match="5 images is not 2 equal views"):
        encoder(pictures(5), views=2)
    assert encoder.eval()(pictures(5), views=2).shape == (5, 8)


def test_evaluation_ignores_groups_and_leaves_buffers() -> None:
    encoder = build_encoder(replace(TINY, bn_group=2), None)
    encoder(pictures(8))
    encoder.eval()
    before = copy.deepcopy(encoder.state_dict())
    x = pictures(7, seed=2)
    whole = encoder(x)
    torch.testing.assert_close(whole, torch.cat([encoder(part) for part in x.split(1)]), rtol=1e-4, atol=1e-5)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name])


# --- own backbones


class Own(nn.Module):
    """A small network with its own batch norm, dropout and a frozen part."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.drop(self.norm(self.conv(x))).amax((2, 3))
        return pooled


def test_an_own_backbone_is_measured_without_a_trace() -> None:
    own = Own()
    own.drop.eval()
    before = copy.deepcopy(own.state_dict())
    state = torch.get_rng_state()
    encoder = build_encoder(replace(TINY, bn_group=4), image_set(torch.zeros(2, 3, 12, 12, dtype=torch.uint8)), own)
    assert encoder.dim == 6 and torch.equal(state, torch.get_rng_state())
    for name, value in own.state_dict().items():
        assert torch.equal(value, before[name])
    assert own.norm.training and type(own.norm) is nn.BatchNorm2d
    assert encoder(pictures(8)).shape == (8, 8)


def test_an_own_backbone_never_mixes_views() -> None:
    encoder = build_encoder(TINY, None, Own())
    x = pictures(12)
    stacked = encoder(x, views=2)
    separate = torch.cat([encoder(view) for view in x.chunk(2)])
    torch.testing.assert_close(stacked, separate)
    assert not torch.allclose(stacked, encoder(x))


def test_an_own_backbone_need_not_have_weights_but_must_return_vectors() -> None:
    assert build_encoder(TINY, None, nn.Flatten()).dim == 3 * 32 * 32
    with pytest.raises(ValueError, match=r"into \[2, 3, 32, 32\]; it must return one vector per image"):
        build_encoder(TINY, None, nn.Identity())
    with pytest.raises(ValueError, match=r"fails on images \[2, 3, 16, 16\]"):
        build_encoder(
            TINY, image_set(torch.zeros(2, 3, 16, 16, dtype=torch.uint8)), nn.Sequential(nn.Flatten(), nn.Linear(5, 2))
        )


# --- momentum copy


def moved(encoder: Encoder, amount: float = 0.1) -> Encoder:
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(amount * torch.rand(parameter.shape, generator=seeded(7)))
    encoder(pictures(8, seed=3))  # moves the running statistics
    return encoder


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99, 1.0])
def test_parameters_follow_the_closed_form_and_buffers_are_copied(momentum: float) -> None:
    encoder = build_encoder(replace(TINY, predictor=True), None)
    follower = MomentumCopy(encoder)
    old = {name: p.clone() for name, p in follower.encoder.named_parameters()}
    moved(encoder)
    for _ in range(3):
        follower.update(encoder, momentum)
    new = dict(encoder.named_parameters())
    for name, parameter in follower.encoder.named_parameters():
        expected = momentum**3 * old[name] + (1 - momentum**3) * new[name]
        torch.testing.assert_close(parameter, expected, rtol=1e-5, atol=1e-6)
        if momentum in (0.0, 1.0):
            assert torch.equal(parameter, new[name] if momentum == 0 else old[name])
    buffers = dict(encoder.named_buffers())
    for name, buffer in follower.encoder.named_buffers():
        assert torch.equal(buffer, buffers[name])


def test_the_copy_is_apart_and_without_gradient_or_predictor() -> None:
    encoder = build_encoder(replace(TINY, predictor=True), None)
    encoder(pictures(4)).sum().backward()
    before = copy.deepcopy(encoder.state_dict())
    follower = MomentumCopy(encoder)
    assert follower.encoder.predictor is None and not gradients(follower)
    assert not any(p.requires_grad for p in follower.parameters())
    keys = follower.keys(pictures(8), generator=seeded())
    follower.update(moved(copy.deepcopy(encoder)), 0.5)
    assert not keys.requires_grad and keys.shape == (8, 8)
    assert gradients(encoder) and all(p.requires_grad for p in encoder.parameters())
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name])


def test_keys_come_back_in_order() -> None:
    follower = MomentumCopy(build_encoder(TINY, None))
    x = pictures(10)
    # one group a view: its statistics do not depend on the order
    expected = follower.encoder.project(x, views=2)
    torch.testing.assert_close(follower.keys(x, views=2, generator=seeded()), expected, rtol=1e-4, atol=1e-5)
    follower.eval()
    assert torch.equal(follower.keys(x, generator=seeded()), follower.encoder.project(x))


def test_keys_are_shuffled_within_their_view() -> None:
    follower = MomentumCopy(build_encoder(replace(TINY, bn_group=4), None))
    x = pictures(32)
    keys = follower.keys(x, views=2, generator=seeded(1))
    assert torch.equal(keys, follower.keys(x, views=2, generator=seeded(1)))
    assert not torch.allclose(keys, follower.keys(x, views=2, generator=seeded(2)), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(keys, follower.encoder.project(x, views=2), rtol=1e-3, atol=1e-4)
    other = torch.cat([x[:16], pictures(16, seed=9)])  # another second view leaves the first's keys alone
    torch.testing.assert_close(follower.keys(other, views=2, generator=seeded(1))[:16], keys[:16])
    # stacked views are shuffled as they would be one after the other
    one_by_one_generator = seeded(1)
    separate = [follower.keys(view, generator=one_by_one_generator) for view in x.chunk(2)]
    torch.testing.assert_close(torch.cat(separate), keys)
    with pytest.raises(ValueError, match="not 3 equal views"):
        follower.keys(x, views=3)


def test_the_copy_saves_and_loads_and_keeps_its_memory_format() -> None:
    encoder = build_encoder(TINY, None).to(memory_format=torch.channels_last)
    follower, other = MomentumCopy(moved(encoder)), MomentumCopy(build_encoder(TINY, None, seed=1))
    other.load_state_dict(follower.state_dict())
    x = pictures(4)
    torch.testing.assert_close(follower.eval().keys(x), other.eval().keys(x))
    weight = follower.encoder.get_parameter("backbone.layers.3.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)


# --- compiling, and a GPU


COMPILED = """
import copy, torch
from cltools.encoders import EncoderSettings, build_encoder
encoder = build_encoder(EncoderSettings(backbone="tiny", hidden=16, projection=8, bn_group=4), None)
compiled = torch.compile(copy.deepcopy(encoder), backend="aot_eager", fullgraph=True)
x = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
outputs = [module(x, views=2) for module in (encoder, compiled)]
for output in outputs:
    output.square().sum().backward()
torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
for ours, theirs in zip(encoder.parameters(), compiled.parameters(), strict=True):
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)
for ours, theirs in zip(encoder.buffers(), compiled.buffers(), strict=True):
    torch.testing.assert_close(ours, theirs)
"""


@pytest.mark.slow
def test_compiles_whole_and_agrees() -> None:
    # in a process of its own, because the shape checks of the tests cannot be compiled
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], cwd=root, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
def test_a_gpu_never_waits_and_agrees_with_the_cpu() -> None:
    encoder = build_encoder(replace(TINY, bn_group=4), None)
    x, follower = pictures(32), MomentumCopy(encoder)
    expected = encoder(x, views=2)
    on_gpu, copied = copy.deepcopy(encoder).cuda(), copy.deepcopy(follower).cuda()
    generator, there = torch.Generator("cuda").manual_seed(0), x.cuda()
    torch.testing.assert_close(on_gpu(there, views=2).cpu(), expected, rtol=1e-2, atol=1e-2)
    copied.keys(there, views=2, generator=generator)
    torch.cuda.set_sync_debug_mode("error")
    try:
        on_gpu(there, views=2).sum().backward()
        copied.update(on_gpu, 0.9)
        copied.keys(there, views=2, generator=generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_layers_share_the_stacking_of_their_encoder_and_a_copy_has_its_own() -> None:
    encoder = build_encoder(replace(TINY, bn_group=4, head_norm=True, predictor=True), None)
    follower = MomentumCopy(encoder)
    encoder(pictures(16), views=2)
    assert norms(encoder) and all(norm.stacking is encoder.stacking for norm in norms(encoder))
    assert all(norm.stacking is follower.encoder.stacking for norm in norms(follower))
    assert encoder.stacking.groups(16) == 4 and follower.encoder.stacking.views == 1
    encoder.stacking.group = None  # as where a copy is fine-tuned
    assert encoder.stacking.groups(16) == 2 and follower.encoder.stacking.groups(16) == 4


def test_a_forward_pass_walks_over_no_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = build_encoder(replace(TINY, bn_group=4), None)
    monkeypatch.setattr(encoder, "modules", lambda: pytest.fail("modules were listed"))
    encoder(pictures(16), views=2)


@pytest.mark.parametrize("width", [10**13, 10**30])
def test_an_encoder_that_no_memory_holds_is_refused_in_words(width: int) -> None:
    with pytest.raises(CltoolsError, match=r"The encoder would take .* GB of memory|hidden is .* too large"):
        build_encoder(replace(TINY, hidden=width), None)
