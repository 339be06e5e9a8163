"""The other pipeline: the same views, the same steps, the best number of workers."""

from typing import Any

import pytest
import torch
from test_steps import ONCE, small
from torch import Tensor
from torch.nn import functional as F

from benchmarks import against
from benchmarks.against import Side, TwoViews, compare, loader, transforms
from benchmarks.steps import random_images
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
    shares = torch.linspace(0.05, 0.95, 19)
    for statistic in (
        lambda x: x.mean((1, 2, 3)),
        lambda x: x.std((1, 2, 3)),
        lambda x: (x.amax(1) - x.amin(1)).mean((1, 2)),
    ):
        a, b = statistic(ours), statistic(theirs)
        gap = (a.quantile(shares) - b.quantile(shares)).abs().mean()
        assert gap < 0.15 * float(a.std()), (statistic, gap, a.std())  # the order of the jitter differs


@pytest.mark.parametrize("workers", [None, 0])
def test_an_epoch_of_either_side_trains_on_every_image_once(
    workers: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    drawn: list[int] = []
    train_step: Any = against.step.train_step
    ours: Any = against.drawn_view
    monkeypatch.setattr(against, "drawn_view", lambda *a, **rest: (drawn.append(1), ours(*a, **rest))[1])

    def watched(state: Any, batch: Any, *rest: Any, **named: Any) -> Any:
        seen.append(batch.ids)
        return train_step(state, batch, *rest, **named)

    monkeypatch.setattr(against.step, "train_step", watched)
    side = Side(small(), random_images(27, 16), CPU, workers)
    before = [parameter.clone() for parameter in side.state.encoder.parameters()]
    assert len(list(side.epoch())) == 3 and len(torch.cat(seen).unique()) == 24
    assert len(drawn) == (6 if workers is None else 0), "the DataLoader's views take the place of ours"
    assert not all(torch.equal(a, b) for a, b in zip(before, side.state.encoder.parameters(), strict=True))


def test_the_best_number_of_workers_is_taken_and_the_first_step_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    seconds = {None: 1.0, 0: 8.0, 1: 4.0, 3: 2.0}

    class Timed(Side):
        def __init__(self, *given: Any) -> None:
            self.workers = given[3] if len(given) > 3 else None
            self.experiment = given[0]

        def epoch(self) -> Any:
            for step in range(4):
                clock[0] += 90.0 if step == 0 else seconds[self.workers]
                yield

    monkeypatch.setattr(against, "timer", lambda: clock[0])
    monkeypatch.setattr(against, "Side", Timed)
    monkeypatch.setattr(against, "usable_processors", lambda: 3)
    row = compare(small(), random_images(24, 16), ONCE)
    assert row["views/s by workers"] == {"0": 2.0, "1": 4.0, "3": 8.0} and row["workers"] == 3
    assert (row["ours"], row["dataloader"], row["ratio"]) == (16.0, 8.0, 2.0)


def test_workers_stay_and_work_ahead() -> None:
    two, none = (loader(random_images(24, 16), small(), workers) for workers in (2, 0))
    assert two.persistent_workers and two.prefetch_factor == 4 and two.drop_last and none.num_workers == 0


def test_too_few_images_are_refused_before_anything_is_measured() -> None:
    with pytest.raises(ValueError, match="200 images are not two batches of 256"):
        against.against(("digits-moco",), images=200, run=ONCE)
