"""Other libraries' parts of a step: the same views, the same losses, the same steps, each in its fastest way."""

from typing import Any

import pytest
import torch
from test_steps import ONCE, small
from torch import Tensor
from torch.nn import functional as F

from benchmarks import against, others
from benchmarks.__main__ import rendered
from benchmarks.against import Side, compare
from benchmarks.others import Theirs, TwoViews, loader, transforms
from benchmarks.steps import random_images
from cltools.config import Experiment
from cltools.contrast import contrastive_loss
from cltools.losses import LossSettings
from cltools.mining import AllNegatives, AugmentedView, NearestKeys
from cltools.training import inputs
from cltools.views import ViewSettings, augment

CPU = torch.device("cpu")
OFF: dict[str, Any] = {"crop_scale": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "gray": 0.0}


def smooth(count: int) -> Tensor:
    low = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return F.interpolate(low, (32, 32), mode="bilinear").mul(255).round().byte()


def pictures_of(settings: ViewSettings) -> TwoViews:
    images = random_images(4, 32)
    images.images.copy_(smooth(4))
    return TwoViews(images, transforms(settings, 32))


@pytest.mark.parametrize("certain", [{}, {"flip": 1.0}, {"gray": 1.0}, {"blur": 1.0, "blur_sigma": (1.0, 1.0)}])
def test_what_is_off_changes_nothing_and_what_is_certain_is_ours(certain: dict[str, Any]) -> None:
    settings = ViewSettings(**{**OFF, **certain})
    ours = augment(smooth(4), settings, generator=torch.Generator().manual_seed(0))[1]
    index, *views = pictures_of(settings)[1]
    for view in views:  # whole grey levels; PIL's blur is another kernel by up to a few
        torch.testing.assert_close(view, ours, rtol=0, atol=(6 if certain else 0.1) / 255)
    assert index == 1


def test_views_have_the_same_distribution_as_ours() -> None:
    """Mean, deviation and colourfulness of many views of one picture, by quantiles."""
    torch.manual_seed(0)
    settings = ViewSettings()
    ours = augment(smooth(1).expand(2000, -1, -1, -1), settings, generator=torch.Generator().manual_seed(0))
    pictures = pictures_of(settings)
    theirs = torch.stack([pictures.transform(pictures.images[0]) for _ in range(400)])
    assert_alike(ours, theirs)


def assert_alike(ours: Tensor, theirs: Tensor) -> None:
    shares = torch.linspace(0.05, 0.95, 19)
    for statistic in (
        lambda x: x.mean((1, 2, 3)),
        lambda x: x.std((1, 2, 3)),
        lambda x: (x.amax(1) - x.amin(1)).mean((1, 2)),
    ):
        a, b = statistic(ours), statistic(theirs)
        gap = (a.quantile(shares) - b.quantile(shares)).abs().mean()
        assert gap < 0.15 * float(a.std()), (statistic, gap, a.std())  # the order of the jitter differs


def trained(side: Side, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The ids of each batch of an epoch, which must change the encoder; what draws our views counts in `drawn`."""
    seen: list[Tensor] = []
    step = side.step
    monkeypatch.setattr(side, "step", lambda batch: (seen.append(batch.ids), step(batch))[1])
    before = [parameter.clone() for parameter in side.state.encoder.parameters()]
    results = [*side.epoch()]
    assert len(results) == len(seen) and all(bool(result.loss.isfinite()) for result in results)
    assert not all(torch.equal(a, b) for a, b in zip(before, side.state.encoder.parameters(), strict=True))
    return seen


def plain(mode: Any, **changes: Any) -> Experiment:
    return small(mode=mode, positives=AugmentedView(), negatives=AllNegatives(), **changes)


@pytest.mark.parametrize("mode", ["simclr", "moco"])
def test_an_epoch_of_every_side_trains_on_every_image_once(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    ours: Any = inputs.augment
    monkeypatch.setattr(inputs, "augment", lambda *a, **rest: (drawn.append(1), ours(*a, **rest))[1])
    monkeypatch.setattr(others, "usable_processors", lambda: 0)
    experiment, images = plain(mode), random_images(27, 16)
    libraries = others.sides(experiment, images)
    assert list(libraries) == ["torchvision, DataLoader", "kornia", "lightly", "pytorch-metric-learning"]
    made = {way: each for ways in libraries.values() for way, each in ways.items() if way != "1 worker"}
    for way, theirs in {"ours": Theirs, **made}.items():
        side = Side(experiment, images, CPU, theirs())
        drawn.clear()
        seen = trained(side, monkeypatch)
        assert len(seen) == 3 and len(torch.cat(seen).unique()) == 24
        own_views = side.theirs.views is None and side.theirs.loader is None
        assert len(drawn) == (6 if own_views else 0), f"{way}: a library's views take the place of ours"
        filled = len(side.state.memory.queue) if side.state.memory else 0
        assert filled == (20 if mode == "moco" and not side.theirs.keeps_keys else 0)


def test_only_sides_of_our_own_loss_are_compared_where_rules_choose() -> None:
    mined = others.sides(small(positives=NearestKeys(k=2)), random_images(16, 16))
    decoupled = plain("simclr", loss=LossSettings(form="decoupled"))
    assert list(mined) == list(others.sides(decoupled, random_images(16, 16))) == ["torchvision, DataLoader", "kornia"]


def unit(rows: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, 8, generator=generator, dtype=torch.float32), dim=1)


def our_loss(z: Tensor, positive: Tensor, keys: Tensor, ids: tuple[Tensor, Tensor]) -> Tensor:
    """What a step of `simclr` or `moco` at temperature 0.2 computes."""
    settings = plain("simclr").loss
    return contrastive_loss(z, positive, keys, AugmentedView(), AllNegatives(), settings, ids=ids, check=False).mean()


def assert_same(ours: Any, theirs: Any, z: Tensor) -> None:
    """Values and gradients at the anchors are equal."""
    found = []
    for loss in (ours, theirs):
        leaf = z.clone().requires_grad_()
        value = loss(leaf)
        found += [[value.detach(), torch.autograd.grad(value, leaf)[0]]]
    for ours_found, theirs_found in zip(*found, strict=True):
        torch.testing.assert_close(ours_found, theirs_found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [lambda: others.lightly_in_batch(0.2), *(
    lambda name=name: others.metric_in_batch(name, 0.2) for name in ("NTXentLoss", "SupConLoss")
)])  # fmt: skip
def test_losses_among_a_batch_are_ours(make: Any) -> None:
    loss, ids = make(), torch.arange(6).repeat(2)

    def unit_length(raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = F.normalize(raw, dim=1)
        return z, torch.cat([*reversed(z.chunk(2))]), z

    assert_same(lambda raw: our_loss(*unit_length(raw), (ids, ids)), lambda raw: loss(*unit_length(raw)), unit(12, 0))


@pytest.mark.parametrize("name", ["lightly", "NTXentLoss", "SupConLoss"])
def test_losses_of_a_queue_are_ours(name: str) -> None:
    """Of both views of 66 images, more than one part of anchors, against 20 keys of other images."""
    z, positive, keys = unit(132, 0), unit(132, 1), unit(20, 2)
    loss = others.metric_with_keys(name, 0.2) if name != "lightly" else others.lightly_with_bank(0.2, (20, 8))
    if name == "lightly":
        (cell,) = loss.__closure__  # type: ignore[attr-defined]
        cell.cell_contents.memory_bank.bank.copy_(keys)
    ids = torch.arange(66).repeat(2), -1 - torch.arange(20)

    def given(raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return F.normalize(raw, dim=1), positive, keys

    assert_same(lambda raw: our_loss(*given(raw), ids), lambda raw: loss(*given(raw)), z)


def test_a_memory_compares_with_as_many_keys_as_a_queue_has() -> None:
    """Its K keys are the positives that it has just taken and the K − A before them; all but one are negatives."""
    loss = others.metric_with_memory((20, 8), 0.2)
    loss(unit(6, 0), unit(6, 1), torch.empty(0))
    z, positive = unit(6, 2), unit(6, 3)
    (memory,) = [cell.cell_contents for cell in loss.__closure__ if hasattr(cell.cell_contents, "embedding_memory")]  # type: ignore[attr-defined]
    value = loss(z, positive, torch.empty(0))
    assert len(memory.embedding_memory) == 20 and len(memory.label_memory.unique()) == 20
    cosines = z @ memory.embedding_memory.T
    expected = (cosines / 0.2).logsumexp(1) - (z * positive).sum(1) / 0.2
    torch.testing.assert_close(value, expected.mean(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("certain", [{}, {"flip": 1.0}, {"gray": 1.0}, {"blur": 1.0, "blur_sigma": (1.0, 1.0)}])
def test_kornia_changes_what_is_certain_as_ours_and_nothing_that_is_off(certain: dict[str, Any]) -> None:
    settings = ViewSettings(**{**OFF, **certain})
    ours = augment(smooth(4), settings, generator=torch.Generator().manual_seed(0))
    module = others.kornia_transforms(settings, 32, "resample")
    torch.testing.assert_close(module(smooth(4).float() / 255), ours, rtol=0, atol=1e-4)
    assert len(module) == len(certain) - ("blur_sigma" in certain)


@pytest.mark.parametrize("cropping", ["slice", "resample"])
def test_kornia_gets_the_settings_and_its_views_are_distributed_as_ours(cropping: str) -> None:
    torch.manual_seed(0)
    settings = ViewSettings()
    module = others.kornia_transforms(settings, 32, cropping)
    crop, flip, jitter, gray = module
    area = crop._param_generator
    assert (area.scale, area.ratio) == (settings.crop_scale, settings.crop_ratio)
    amounts = [getattr(jitter, name) for name in ("brightness", "contrast", "saturation", "hue")]
    assert amounts == [settings.brightness, settings.contrast, settings.saturation, settings.hue]
    assert (flip.p, jitter.p, gray.p) == (settings.flip, settings.jitter, settings.gray)
    assert not any(each.same_on_batch for each in module)
    pixels = smooth(1).expand(1000, -1, -1, -1)
    ours = augment(pixels, settings, generator=torch.Generator().manual_seed(0))
    theirs = others.BatchViews(module)(pixels, generator=torch.Generator())
    assert theirs.shape == ours.shape and theirs.min() >= 0 and theirs.max() <= 1
    assert_alike(ours, theirs)


@pytest.mark.parametrize("how", [{}, {"part": 4}, {"both": True}])
def test_views_of_a_batch_are_drawn_anew_at_each_call(how: dict[str, Any]) -> None:
    calls: list[int] = []

    class Noise(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(len(x))
            return x + torch.rand_like(x)

    views = others.BatchViews(Noise(), **how)
    first, second = (
        [views(images, generator=torch.Generator()) for _ in range(2)] for images in (smooth(6), smooth(6))
    )
    assert all(view.shape == (6, 3, 32, 32) for view in (*first, *second))
    assert len({float(view.sum()) for view in (*first, *second)}) == 4
    assert calls == {"part": [4, 2] * 4, "both": [12] * 2}.get(next(iter(how), ""), [6] * 4)


def test_the_fastest_way_of_each_side_is_compared_and_the_first_step_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, ended = [0.0], []
    seconds = {"ours": 1.0, "0 workers": 8.0, "1 worker": 4.0, "one at a time": 2.0, "all": 0.5}

    class Timed(Side):
        def __init__(self, *given: Any) -> None:
            self.way = given[3] if len(given) > 3 else "ours"
            self.experiment = given[0]

        def epoch(self) -> Any:
            for step in range(4):
                clock[0] += 90.0 if step == 0 else seconds[self.way]
                yield
            ended.append(self.way)

    ways = {"loader": ("0 workers", "1 worker"), "views": ("one at a time", "all")}
    made = {name: {way: lambda way=way: way for way in each} for name, each in ways.items()}
    monkeypatch.setattr(against, "timer", lambda: clock[0])
    monkeypatch.setattr(against, "Side", Timed)
    monkeypatch.setattr(against, "TRIAL", 5.0)
    monkeypatch.setattr(against, "sides", lambda *_: made)
    row = compare(small(), random_images(24, 16), ONCE)
    assert (row["ours"], row["queue_size"]) == (16.0, 20)
    slow, fast = row["sides"].values()
    assert (slow["best"], slow["views/s"], slow["ratio"]) == ("1 worker", 4.0, 4.0)
    assert (fast["best"], fast["views/s"], fast["ratio"]) == ("all", 32.0, 0.5)
    assert slow["tried"] == {"0 workers": 2.0, "1 worker": 4.0} and "0 workers" not in ended


def test_a_table_shows_each_side_and_what_was_tried() -> None:
    side = {"views/s": 4000.0, "ratio": 0.5, "best": "b", "tried": {"a": 1000.0, "b": 4000.0}}
    rows = [{"preset": "cifar10-moco", "queue_size": 2048, "ours": 2000.0, "sides": {"kornia": side}}]
    lines = rendered(ONCE.record(against.KIND, images="random", count=10, rows=rows)).splitlines()
    assert lines[-1] == "| `cifar10-moco` | kornia | b | a: 1,000; b: 4,000 | 2,048 | 2,000 | 4,000 | 0.50 |"


def test_other_queues_are_compared_where_there_is_a_queue() -> None:
    sizes = [each.training.queue_size for each in against.varied("cifar10-moco", False, (4096, 2048))]
    assert sizes == [2048, 4096] and len(against.varied("cifar10-simclr", True, (4096,))) == 1


def test_workers_stay_and_work_ahead() -> None:
    two, none = (loader(random_images(24, 16), small(), workers) for workers in (2, 0))
    assert two.persistent_workers and two.prefetch_factor == 4 and two.drop_last and none.num_workers == 0


def test_too_few_images_are_refused_before_anything_is_measured() -> None:
    with pytest.raises(ValueError, match="200 images are not two batches of 256"):
        against.against(("digits-moco",), images=200, run=ONCE)
