"""The conventional pipeline: the same views, the same loss, the best of its settings; never how long it took."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import StepBenchFlags, against, bench_against
from benchmarks.against import compare, fastest_transforms, in_turn, rate, sweep, worker_counts
from benchmarks.conventional import FORMS, Conventional, Form, Library, TwoViews, loader, transforms
from benchmarks.parts import random_images
from cltools.config import Experiment, TrainingSettings
from cltools.encoders import EncoderSettings
from cltools.losses import info_nce
from cltools.views import ViewSettings, augment

CPU = torch.device("cpu")
TINY = EncoderSettings(backbone="tiny", hidden=8, projection=8, bn_group=None)
OFF = ViewSettings(crop_scale=(1.0, 1.0), flip=0.0, jitter=0.0, gray=0.0)


def small(mode: Any = "moco", symmetric: bool = True) -> Experiment:
    return Experiment(encoder=TINY, training=TrainingSettings(batch=8, queue_size=20, mode=mode, symmetric=symmetric))


def smooth(count: int, side: int = 32) -> Tensor:
    made = torch.Generator().manual_seed(0)
    low = torch.rand(count, 3, side // 4, side // 4, generator=made)
    return F.interpolate(low, (side, side), mode="bilinear").mul(255).round().byte()


def pictures_of(settings: ViewSettings, library: Library, form: Form, count: int = 4) -> TwoViews:
    images = random_images(count, 32)
    images.images.copy_(smooth(count))
    return TwoViews(images, settings, library, form)


class TestTransforms:
    @pytest.mark.parametrize(("library", "form"), FORMS)
    def test_what_is_off_leaves_a_picture_as_it_is(self, library: Library, form: Form) -> None:
        for view in pictures_of(OFF, library, form)[2]:
            torch.testing.assert_close(view, smooth(4)[2] / 255)

    @pytest.mark.parametrize(("library", "form"), FORMS)
    def test_a_flip_grayscale_or_blur_that_is_certain_is_ours(self, library: Library, form: Form) -> None:
        for certain in ({"flip": 1.0}, {"gray": 1.0}, {"blur": 1.0, "blur_sigma": (1.0, 1.0)}):
            settings = ViewSettings(**{"crop_scale": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "gray": 0.0, **certain})
            ours = augment(smooth(4), settings, generator=torch.Generator().manual_seed(0))[1]
            # whole grey levels; PIL's blur is another kernel by up to a few
            torch.testing.assert_close(pictures_of(settings, library, form)[1][0], ours, rtol=0, atol=6 / 255)

    @pytest.mark.parametrize(("library", "form"), FORMS)
    def test_views_have_the_same_distribution_as_ours(self, library: Library, form: Form) -> None:
        """Mean, deviation and colourfulness of many views of one picture, by quantiles."""
        torch.manual_seed(0)
        random.seed(0)
        settings, picture = ViewSettings(), smooth(4)[0]
        ours = augment(picture.expand(2000, -1, -1, -1), settings, generator=torch.Generator().manual_seed(0))
        pictures = pictures_of(settings, library, form)
        theirs = torch.stack([pictures.transform(pictures.pictures[0]) for _ in range(600)])
        shares = torch.linspace(0.05, 0.95, 19)
        for statistic in (
            lambda x: x.mean((1, 2, 3)),
            lambda x: x.std((1, 2, 3)),
            lambda x: (x.amax(1) - x.amin(1)).mean((1, 2)),
        ):
            a, b = statistic(ours), statistic(theirs)
            gap = (a.quantile(shares) - b.quantile(shares)).abs().mean()
            assert gap < 0.15 * float(a.std()), (statistic, gap, a.std())  # the order of the jitter differs

    def test_every_operation_of_the_settings_is_there(self) -> None:
        named = str(transforms(ViewSettings(blur=0.5, rotation=10.0), 32, "v1", "pil"))
        for name in (
            "ResizedCrop",
            "HorizontalFlip",
            "Rotation",
            "ColorJitter",
            "Grayscale",
            "GaussianBlur",
            "ToTensor",
        ):
            assert name in named
        assert "kernel_size=(13, 13)" in named, "three of the largest deviations either way, as ours"


class TestStep:
    @pytest.mark.parametrize("symmetric", [True, False])
    def test_mocos_loss_is_ours(self, symmetric: bool) -> None:
        plain = Conventional(small(symmetric=symmetric), random_images(8, 16), CPU)
        assert plain.memory is not None
        views = torch.rand(2, 8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        queue = plain.queue.clone()
        state, encoder = plain.draws.get_state(), plain.encoder
        with torch.no_grad():
            pairs = [(views[0], views[1])] + ([(views[1], views[0])] if symmetric else [])
            z = F.normalize(torch.cat([encoder(query) for query, _ in pairs]), dim=1)
            n = 2 if symmetric else 1
            k = F.normalize(plain.memory.copy.keys(torch.cat([o for _, o in pairs]), n, generator=plain.draws), dim=1)
            expected = info_nce((z * k).sum(1, keepdim=True), z @ queue.T, temperature=0.2)
        plain.draws.set_state(state)
        torch.testing.assert_close(plain.step(*views), expected)
        torch.testing.assert_close(plain.queue[:8], k[:8], rtol=1e-3, atol=1e-4)
        assert torch.equal(plain.queue[8:], queue[8:]) and plain.pointer == 8

    def test_simclrs_loss_is_ours_and_the_optimiser_moves(self) -> None:
        plain = Conventional(small("simclr"), random_images(8, 16), CPU)
        views = torch.rand(2, 8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        before = [parameter.clone() for parameter in plain.encoder.parameters()]
        with torch.no_grad():
            z = F.normalize(plain.encoder(views.flatten(0, 1), views=2), dim=1)
            own = torch.arange(16)[:, None] % 8 == torch.arange(16) % 8
            positive = (z * z.roll(8, 0)).sum(1, keepdim=True)
            expected = info_nce(positive, z @ z.T, temperature=0.2, negative_weight=(~own).float())
        torch.testing.assert_close(plain.step(*views), expected)
        assert not all(torch.equal(a, b) for a, b in zip(before, plain.encoder.parameters(), strict=True))


class TestTurns:
    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        clock = [0.0]
        monkeypatch.setattr(against.time, "perf_counter", lambda: clock[0])
        return clock

    def test_the_first_step_of_an_epoch_is_left_out(self, clock: list[float]) -> None:
        def epoch() -> Iterator[None]:
            for seconds in (90.0, 1.0, 2.0, 1.0):
                clock[0] += seconds
                yield

        assert rate(epoch(), 512, CPU) == 3 * 512 / 4.0
        with pytest.raises(ValueError, match="an epoch is a single batch"):
            rate(iter([None]), 512, CPU)

    def test_the_sweep_opens_each_setting_once_and_closes_it_before_the_next(self) -> None:
        events: list[str] = []
        rates = {0: iter([10.0, 30.0]), 1: iter([50.0, 70.0]), 2: iter([1.0, 2.0])}

        @contextmanager
        def opened(workers: int) -> Iterator[Any]:
            events.append(f"open {workers}")
            yield lambda: next(rates[workers])
            events.append(f"close {workers}")

        swept = sweep(range(3), opened)
        assert swept == {0: 20.0, 1: 60.0, 2: 1.5} and max(swept, key=swept.__getitem__) == 1
        assert events == [f"{what} {n}" for n in range(3) for what in ("open", "close")]

    @pytest.mark.parametrize(
        ("usable", "counts"),
        [(1, (0, 1)), (2, (0, 1, 2)), (3, (0, 1, 2, 3)), (6, (0, 1, 2, 4, 6)), (16, (0, 1, 2, 4, 8, 16))],
    )
    def test_workers_are_doubled_up_to_the_processors_this_process_may_use(
        self, usable: int, counts: tuple[int, ...]
    ) -> None:
        assert worker_counts(usable) == counts

    def test_sides_take_turns_and_the_median_counts(self) -> None:
        order: list[str] = []
        found = {"a": iter([1.0, 9.0, 2.0]), "b": iter([5.0, 5.0, 6.0])}

        def side(name: str) -> Any:
            return lambda: (order.append(name), next(found[name]))[1]

        assert in_turn({"a": side("a"), "b": side("b")}, 3) == {"a": 2.0, "b": 5.0}
        assert order == ["a", "b"] * 3

    def test_the_fastest_transforms_are_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        threads = torch.get_num_threads()
        seconds = iter([3.0, 4.0, 2.0, 1.0, 8.0, 8.0, 7.0, 7.0])
        monkeypatch.setattr(against, "_seconds", lambda pictures: next(seconds))
        chosen, taken = fastest_transforms(small(), random_images(50, 16))
        assert chosen == ("v2", "pil") and torch.get_num_threads() == threads
        assert taken == {"v1 pil": 30.0, "v2 pil": 10.0, "v1 tensor": 80.0, "v2 tensor": 70.0}


class TestRun:
    def test_workers_stay_and_work_ahead(self) -> None:
        pictures = pictures_of(OFF, "v1", "tensor")
        two, none = loader(pictures, 2, 2, CPU), loader(pictures, 2, 0, CPU)
        assert two.persistent_workers and two.prefetch_factor == 4 and not two.pin_memory and two.drop_last
        assert none.num_workers == 0 and len(list(none)) == 2

    @pytest.mark.parametrize("mode", ["simclr", "moco"])
    def test_both_sides_are_measured_at_the_best_of_the_others_settings(self, mode: Any) -> None:
        row = compare(small(mode), random_images(24, 16), CPU, 1, (0,))
        assert row["ratio"] == row["ours"] / row["dataloader"] > 0 and row["workers"] == 0
        assert list(row["views/s by workers"]) == ["0"] and len(row["ms a view by transforms"]) == len(FORMS)
        assert row["transforms"] == min(row["ms a view by transforms"], key=row["ms a view by transforms"].get)

    def test_cudnn_tries_its_algorithms_on_both_sides_as_in_training(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tried: dict[str, set[bool]] = {"ours": set(), "theirs": set()}
        ours: Any = against.train_step
        theirs: Any = Conventional.step

        def spied(side: str, step: Any) -> Any:
            return lambda *given, **rest: (tried[side].add(torch.backends.cudnn.benchmark), step(*given, **rest))[1]

        monkeypatch.setattr(against, "train_step", spied("ours", ours))
        monkeypatch.setattr(Conventional, "step", spied("theirs", theirs))
        monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
        compare(small(), random_images(24, 16), CPU, 1, (0,))
        assert tried == {"ours": {True}, "theirs": {True}} and not torch.backends.cudnn.benchmark

    def test_prints_every_setting_and_writes_what_it_was_measured_with(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row = {
            "ours": 4000.0, "dataloader": 1600.0, "ratio": 2.5, "workers": 1, "transforms": "v1 pil",
            "views/s by workers": {"0": 900.0, "1": 1600.0}, "ms a view by transforms": {"v1 pil": 0.5, "v2 pil": 0.6},
        }  # fmt: skip
        asked: list[Any] = []
        monkeypatch.setattr(against, "compare", lambda *given: asked.append(given) or row)
        monkeypatch.setattr(against, "usable_processors", lambda: 3)
        out = tmp_path / "a.json"
        flags = StepBenchFlags(
            ("digits-moco", "digits-simclr"), against="dataloader", device="cpu", images=512, out=out
        )
        bench_against(flags)
        text, record = capsys.readouterr().out, json.loads(out.read_text())
        assert "4,000 trained views/s, dataloader 1,600 with 1 workers and v1 pil: 2.50 times" in text
        assert "0 workers: 900 views/s" in text and "transforms v2 pil: 0.600 ms a view" in text
        assert record["kind"] == "bench against dataloader" and record["versions"]["torch"] == torch.__version__
        assert record["hardware"]["device"] and record["rows"] == {"digits-moco": row, "digits-simclr": row}
        assert [given[4] for given in asked] == [(0, 1, 2, 3)] * 2 and asked[0][3] == against.EPOCHS

    def test_too_few_images_are_refused_before_anything_is_measured(self) -> None:
        with pytest.raises(
            ValueError, match=r"digits-moco has batches of 256, and 200 images are not two; ask for more"
        ):
            bench_against(StepBenchFlags(("digits-moco",), against="dataloader", images=200, device="cpu"))
