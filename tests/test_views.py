"""Each operation against torchvision's with fixed parameters, and the draws against their distributions."""

import warnings
from dataclasses import replace

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from cltools import views
from cltools.views import Draws, ViewSettings, augment

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchvision.transforms import InterpolationMode, RandomResizedCrop
    from torchvision.transforms.v2 import functional as oracle

OFF = ViewSettings(crop_scale=(1.0, 1.0), flip=0.0, jitter=0.0, gray=0.0)
EVERYTHING = ViewSettings(blur=0.5, rotation=20.0)
AMOUNTS = torch.tensor([0.0, 0.3, 0.6, 1.0, 1.4, 2.0])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 6, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    """Smooth colour pictures: noise at a quarter of the size, enlarged."""
    small = torch.rand(count, 3, height // 4, width // 4, generator=seeded(seed))
    return torch.nn.functional.interpolate(small, (height, width), mode="bilinear").clamp(0, 1)


def expect(actual: Tensor, expected: list[Tensor], atol: float = 2e-6) -> None:
    torch.testing.assert_close(actual, torch.stack(expected), rtol=0, atol=atol)


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_jitter_is_torchvisions_with_a_factor_for_each_image(name: str, noise: bool) -> None:
    x = torch.rand(6, 3, 32, 32, generator=seeded()) if noise else pictures()
    adjust = getattr(oracle, f"adjust_{name}")
    # torchvision's own grey weights have four digits
    expect(getattr(views, name)(x, AMOUNTS), [adjust(i, float(a)) for i, a in zip(x, AMOUNTS, strict=True)], 2e-4)


def test_hue_is_torchvisions_with_a_turn_for_each_image() -> None:
    x, turns = torch.rand(7, 3, 32, 32, generator=seeded()), torch.tensor([-0.5, -0.31, -0.1, 0.0, 0.1, 0.25, 0.5])
    expected = [oracle.adjust_hue(i, float(t)) for i, t in zip(x, turns, strict=True)]
    expect(views.hue(x, turns), expected, 1e-5)


@given(st.lists(st.sampled_from([0, 1, 64, 128, 254, 255]), min_size=12, max_size=12), st.floats(-0.5, 0.5, width=32))
def test_hue_at_equal_and_extreme_colours(colours: list[int], turn: float) -> None:
    x = torch.tensor(colours).view(1, 3, 2, 2) / 255
    expect(views.hue(x, torch.tensor([turn])), [oracle.adjust_hue(x[0], turn)], 1e-5)


def test_a_turn_of_nothing_and_a_grey_pixel_stay() -> None:
    x = pictures()
    torch.testing.assert_close(views.hue(x, torch.zeros(6)), x, rtol=0, atol=1e-6)
    gray = x[:, :1].expand(-1, 3, -1, -1)
    assert torch.equal(views.hue(gray, torch.full((6,), 0.3)), gray)


def test_grayscale_is_saturation_zero() -> None:
    x = pictures()
    expect(views.saturation(x, torch.zeros(6)), [oracle.rgb_to_grayscale(i, 3) for i in x], 1e-4)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 24)])
def test_blur_is_torchvisions_with_a_deviation_for_each_image(height: int, width: int) -> None:
    x, sigmas = torch.rand(4, 3, height, width, generator=seeded()), torch.tensor([0.1, 0.5, 1.0, 2.0])
    expected = [oracle.gaussian_blur(i, [13, 13], [float(s)] * 2) for i, s in zip(x, sigmas, strict=True)]
    expect(views.blur(x, sigmas, 6), expected, 1e-5)


def test_blur_of_a_picture_smaller_than_its_kernel() -> None:
    x = torch.full((2, 3, 4, 4), 0.5)
    torch.testing.assert_close(views.blur(x, torch.tensor([2.0, 9.0]), 30), x)


def matrix(box: tuple[int, int, int, int], size: tuple[int, int]) -> Tensor:
    """Crop to top, left, height, width of an image of this height and width."""
    (top, left, height, width), (h, w) = box, size
    return torch.tensor([[width / w, 0, (2 * left + width) / w - 1], [0, height / h, (2 * top + height) / h - 1]])


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (24, 32)])
def test_crop_is_torchvisions_up_to_what_lies_beyond_its_border(size: tuple[int, int]) -> None:
    boxes = [(0, 0, *size), (3, 5, 20, 16), (0, 8, 16, 24), (7, 1, 11, 13)]
    x = pictures(4, *size)
    actual = views.resample(x, torch.stack([matrix(box, size) for box in boxes]))
    for seen, image, box in zip(actual, x, boxes, strict=True):
        expected = oracle.resized_crop(image, *box, list(size), antialias=True)
        # within half a source pixel of the crop's border torchvision repeats it, where we read the image beyond
        rows, columns = -(-size[0] // (2 * box[2])), -(-size[1] // (2 * box[3]))
        inner = (slice(None), slice(rows, -rows), slice(columns, -columns))
        torch.testing.assert_close(seen[inner], expected[inner], rtol=0, atol=1e-5)
    torch.testing.assert_close(actual[0], x[0], rtol=0, atol=1e-5)


def test_flip_is_exact() -> None:
    x = pictures(64)
    seen = augment(x, replace(OFF, flip=0.5), generator=seeded())
    flipped = [torch.equal(a, b.flip(2)) for a, b in zip(seen, x, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(seen, x, strict=True)]
    assert all(f != k for f, k in zip(flipped, kept, strict=True)) and 16 < sum(flipped) < 48


def test_flip_inside_a_crop_mirrors_it() -> None:
    settings = ViewSettings(crop_scale=(0.3, 0.8), flip=0.0, jitter=0.0, gray=0.0)
    plain = views.sampling_matrices(settings, Draws(8, torch.device("cpu"), seeded()), 1.0)
    mirrored = views.sampling_matrices(replace(settings, flip=1.0), Draws(8, torch.device("cpu"), seeded()), 1.0)
    x = pictures(8)
    torch.testing.assert_close(views.resample(x, mirrored), views.resample(x, plain).flip(3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (24, 32)])
def test_rotation_is_torchvisions_away_from_the_corners(size: tuple[int, int]) -> None:
    settings = replace(OFF, rotation=30.0)
    matrices = views.sampling_matrices(settings, Draws(6, torch.device("cpu"), seeded()), size[0] / size[1])
    x = pictures(6, *size)
    actual = views.resample(x, matrices)
    angles = torch.rad2deg(torch.atan2(matrices[:, 1, 0] * size[0] / size[1], matrices[:, 0, 0]))
    assert angles.abs().max() <= 30 and angles.unique().numel() == 6
    inner = (slice(None), slice(8, -8), slice(8, -8))
    for seen, image, angle in zip(actual, x, angles, strict=True):
        expected = oracle.rotate(image, float(angle), interpolation=InterpolationMode.BILINEAR)
        torch.testing.assert_close(seen[inner], expected[inner], rtol=0, atol=1e-4)


def test_crops_are_drawn_as_torchvision_draws_them() -> None:
    count, settings = 4000, ViewSettings()
    width, height = views.crop_sizes(settings, Draws(count, torch.device("cpu"), seeded()), 1.0)
    torch.manual_seed(0)
    blank = torch.empty(3, 1000, 1000)  # large, because torchvision's crops are of whole pixels
    drawn = [RandomResizedCrop.get_params(blank, [0.2, 1.0], [3 / 4, 4 / 3])[2:] for _ in range(count)]
    h, w = torch.tensor(drawn).double().T / 1000
    for ours, theirs in ((width * height, w * h), ((width / height).log(), (w / h).log())):
        shares = torch.linspace(0.05, 0.95, 10, dtype=torch.float64)
        gap = (ours.double().quantile(shares) - theirs.quantile(shares)).abs().max()
        assert gap < 0.03, gap


@pytest.mark.parametrize("height_by_width", [1.0, 0.5, 2.0])
def test_crops_lie_inside_the_image(height_by_width: float) -> None:
    settings = ViewSettings(crop_scale=(0.1, 1.0), flip=0.0)
    matrices = views.sampling_matrices(settings, Draws(2000, torch.device("cpu"), seeded()), height_by_width)
    reach = matrices[:, [0, 1], [0, 1]] + matrices[:, :, 2].abs()
    area = matrices[:, 0, 0] * matrices[:, 1, 1]
    assert reach.max() <= 1 + 1e-6 and area.min() >= 0.1 - 1e-6 and area.max() <= 1 + 1e-6


def test_a_crop_that_never_fits_is_the_whole_image() -> None:
    width, height = views.crop_sizes(
        ViewSettings(crop_scale=(1.0, 1.0), crop_ratio=(2.0, 3.0)), Draws(50, torch.device("cpu"), seeded()), 1.0
    )
    assert bool((width == 1).all() and (height == 1).all())


@pytest.mark.parametrize(("name", "share"), [("gray", 0.2), ("jitter", 0.8), ("blur", 0.3), ("flip", 0.25)])
def test_an_operation_happens_as_often_as_it_should(name: str, share: float) -> None:
    x = torch.rand(1, 3, 16, 16, generator=seeded()).expand(2000, -1, -1, -1)
    seen = augment(x, replace(OFF, **{name: share}), generator=seeded(1))
    changed = ((seen - x).abs().amax((1, 2, 3)) > 1e-5).float().mean()
    assert abs(float(changed) - share) < 0.04


def test_jitter_factors_spread_over_their_range() -> None:
    x = torch.full((3000, 3, 1, 1), 0.5)
    settings = replace(OFF, jitter=1.0, brightness=0.4, contrast=0.0, saturation=0.0, hue=0.0)
    factors = augment(x, settings, generator=seeded())[:, 0, 0, 0] / 0.5
    assert 0.6 <= factors.min() < 0.61 and 1.39 < factors.max() <= 1.4 + 1e-6
    assert abs(float(factors.mean()) - 1) < 0.02


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (64, 64), (24, 40)])
def test_a_view_has_the_images_size_and_range(size: tuple[int, int]) -> None:
    images = torch.randint(0, 256, (5, 3, *size), dtype=torch.uint8, generator=seeded())
    seen = augment(images, EVERYTHING, generator=seeded())
    assert seen.shape == images.shape and seen.dtype == torch.float32 and seen.is_contiguous()
    assert seen.min() >= -1e-6 and seen.max() <= 1 + 1e-6


def test_equal_images_of_a_batch_have_different_views() -> None:
    x = pictures(1).expand(32, -1, -1, -1)
    for settings in (EVERYTHING, replace(OFF, jitter=1.0), replace(OFF, rotation=10.0), replace(OFF, blur=1.0)):
        seen = augment(x, settings, generator=seeded()).flatten(1)
        assert len(seen.unique(dim=0)) == 32


def test_a_seed_repeats_bit_for_bit_and_leaves_the_global_generator() -> None:
    x = pictures(300)  # more than one chunk
    state = torch.get_rng_state()
    first, again = (augment(x, EVERYTHING, generator=seeded(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, augment(x, EVERYTHING, generator=seeded(4)))
    assert torch.equal(state, torch.get_rng_state())


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    x = pictures(50)
    whole = augment(x, EVERYTHING, generator=seeded())
    monkeypatch.setattr(views, "CHUNK", 7)
    torch.testing.assert_close(augment(x, EVERYTHING, generator=seeded()), whole, rtol=0, atol=1e-6)


def test_uint8_is_float_over_255_and_other_floats_are_taken() -> None:
    images = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8, generator=seeded())
    seen = augment(images, EVERYTHING, generator=seeded(1))
    assert torch.equal(seen, augment(images.float() / 255, EVERYTHING, generator=seeded(1)))
    assert augment(images.double() / 255, EVERYTHING, generator=seeded(1)).dtype == torch.float32


def test_the_images_are_left_alone() -> None:
    x = pictures()
    before = x.clone()
    augment(x, EVERYTHING, generator=seeded())
    assert torch.equal(x, before)


def test_what_is_off_draws_nothing_and_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("resample", "blur", "brightness", "contrast", "saturation", "hue"):
        monkeypatch.setattr(views, name, None)
    generator, x = seeded(), pictures()
    assert torch.equal(augment(x, OFF, generator=generator), x)
    assert torch.equal(generator.get_state(), seeded().get_state())
    still = replace(OFF, jitter=1.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
    assert torch.equal(augment(x, still, generator=generator), x)


def test_autocast_does_not_reach_a_view() -> None:
    x = pictures()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = augment(x, EVERYTHING, generator=seeded())
    assert torch.equal(inside, augment(x, EVERYTHING, generator=seeded()))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flip", 1.5),
        ("jitter", -0.1),
        ("gray", float("nan")),
        ("blur", 2.0),
        ("brightness", -0.1),
        ("contrast", 1.2),
        ("saturation", -1.0),
        ("hue", 0.6),
        ("rotation", 200.0),
        ("crop_scale", (0.0, 1.0)),
        ("crop_scale", (0.8, 0.2)),
        ("crop_scale", (0.5, 1.1)),
        ("crop_ratio", (2.0, 1.0)),
        ("blur_sigma", (0.0, 1.0)),
    ],
)
def test_settings_without_meaning_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"ViewSettings: {name} is .*must be"):
        ViewSettings(**{name: value})  # type: ignore[arg-type]


def test_whole_numbers_that_are_not_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="must be uint8, or float"):
        augment(torch.zeros(2, 3, 8, 8, dtype=torch.int64), ViewSettings())


@pytest.mark.gpu
def test_a_gpu_never_waits_and_agrees_with_the_cpu() -> None:
    x = pictures(64)
    on_gpu, generator = x.cuda(), torch.Generator("cuda").manual_seed(0)
    augment(on_gpu, EVERYTHING, generator=generator)
    torch.cuda.set_sync_debug_mode("error")
    try:
        augment(on_gpu, EVERYTHING, generator=generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    turns = torch.linspace(-0.5, 0.5, 64)
    torch.testing.assert_close(views.hue(on_gpu, turns.cuda()).cpu(), views.hue(x, turns), rtol=0, atol=1e-5)
