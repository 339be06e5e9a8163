"""The bench: what it measures and writes; never how long anything took."""

import json
import math
import platform
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cltools import bench
from cltools.bench import BenchFlags, measure, run_bench
from cltools.config import Experiment, TrainingSettings
from cltools.encoders import EncoderSettings
from cltools.mining import AllNegatives, BandNegatives, PositiveRule, RandomNegatives
from cltools.presets import laptop, preset, preset_names

COLUMNS = ["step ms", "views ms", "mining+loss ms", "product ms", "views/s"]
CPU = torch.device("cpu")
TINY = EncoderSettings(backbone="tiny", hidden=8, projection=8, bn_group=None)


def small(**changes: Any) -> Experiment:
    """An experiment whose step takes a few milliseconds; its batch does not divide its queue."""
    training = TrainingSettings(batch=8, queue_size=20, mode=changes.pop("mode", "moco"))
    return Experiment(encoder=TINY, training=training, **changes)


class TestRun:
    @pytest.fixture
    def measured(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, Any]]:
        """The table and the JSON of a bench of two presets."""
        out = tmp_path / "new" / "bench.json"
        run_bench(
            BenchFlags(presets=("digits-simclr", "digits-potential"), device="cpu", repeats=2, full=True, out=out)
        )
        return capsys.readouterr().out, json.loads(out.read_text())

    def test_prints_a_table_and_writes_its_figures(self, measured: tuple[str, dict[str, Any]]) -> None:
        table, figures = measured
        head, *lines = table.splitlines()
        assert re.split(r"\s{2,}", head) == ["preset", *COLUMNS]
        assert [line.split()[0] for line in lines] == list(figures["rows"]) == ["digits-simclr", "digits-potential"]
        for line, row in zip(lines, figures["rows"].values(), strict=True):
            assert list(row) == COLUMNS
            assert line.split()[1:] == [f"{value:.2f}" for value in row.values()]
            assert all(math.isfinite(value) and value > 0 for value in row.values())

    def test_writes_versions_and_machine(self, measured: tuple[str, dict[str, Any]]) -> None:
        _, figures = measured
        assert figures["versions"] == {"python": platform.python_version(), "torch": torch.__version__}
        assert figures["machine"]["threads"] == torch.get_num_threads() and figures["machine"]["device"]


class TestFlags:
    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Experiment, torch.device, int]]:
        """What `run_bench` asks to be measured, without measuring."""
        asked: list[tuple[Experiment, torch.device, int]] = []

        def record(*arguments: Any) -> dict[str, float]:
            asked.append(arguments)  # type: ignore[arg-type]
            return dict.fromkeys(COLUMNS, 1.0)

        monkeypatch.setattr(bench, "measure", record)
        return asked

    def test_the_laptop_setting_is_measured_unless_asked_otherwise(self, asked: list[Any]) -> None:
        run_bench(BenchFlags(("cifar10-moco",), device="cpu", repeats=7))
        run_bench(BenchFlags(("cifar10-moco",), device="cpu", full=True))
        assert asked == [(laptop(preset("cifar10-moco")), CPU, 7), (preset("cifar10-moco"), CPU, 20)]

    def test_by_default_methods_on_the_same_images_are_compared(self, asked: list[Any]) -> None:
        run_bench(BenchFlags())
        assert [e for e, _, _ in asked] == [laptop(preset(f"cifar10-{m}")) for m in ("simclr", "moco", "potential")]

    def test_writes_no_file_unless_asked(
        self, asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        run_bench(BenchFlags(("digits-moco",)))
        assert asked and list(tmp_path.iterdir()) == []

    def test_an_unknown_preset_is_refused_before_any_is_measured(self, asked: list[Any]) -> None:
        with pytest.raises(ValueError, match=r"Unknown preset 'digits-mocco'\. Did you mean digits-moco"):
            run_bench(BenchFlags(("digits-moco", "digits-mocco")))
        assert asked == []

    def test_a_device_that_is_not_there_is_refused(self, asked: list[Any]) -> None:
        with pytest.raises(ValueError, match="Unknown device 'gpu'"):
            run_bench(BenchFlags(device="gpu"))

    def test_refuse_to_measure_nothing(self) -> None:
        with pytest.raises(ValueError, match="presets is empty; name at least one"):
            BenchFlags(presets=())
        with pytest.raises(ValueError, match="repeats is 0; it must be at least 1"):
            BenchFlags(repeats=0)


class TestMeasure:
    @pytest.fixture
    def steps(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
        """How many keys each step met, and the progress it was told."""
        steps: list[tuple[int, float]] = []
        train_step: Callable[..., Any] = bench.train_step

        def record(learner: Any, *arguments: Any, progress: float, **rest: Any) -> Any:
            steps.append((len(learner.memory.queue) if learner.memory else 0, progress))
            return train_step(learner, *arguments, progress=progress, **rest)

        monkeypatch.setattr(bench, "train_step", record)
        return steps

    def test_every_step_meets_a_full_queue_and_rules_at_full_strength(self, steps: list[tuple[int, float]]) -> None:
        measure(small(negatives=BandNegatives()), CPU, 3)
        assert steps == [(20, 1.0)] * 5, "two to warm up and three that count"

    def test_simclr_has_no_queue(self, steps: list[tuple[int, float]]) -> None:
        row = measure(small(mode="simclr"), CPU, 1)
        assert steps == [(0, 1.0)] * 3 and list(row) == COLUMNS

    @pytest.mark.parametrize(
        ("positives", "negatives", "read"),
        [
            (PositiveRule(weighting="none"), AllNegatives(), False),
            (PositiveRule(weighting="none"), BandNegatives(reference="anchor"), False),
            (PositiveRule(weighting="none"), BandNegatives(), True),
            (PositiveRule(k=2), RandomNegatives(), True),
        ],
    )
    def test_a_product_that_no_rule_reads_is_not_timed(
        self, positives: PositiveRule, negatives: AllNegatives, read: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        computed = []
        select = bench.select

        def record(s: Any, *arguments: Any, **rest: Any) -> Any:
            computed.append(s.key is not None)
            return select(s, *arguments, **rest)

        monkeypatch.setattr(bench, "select", record)
        measure(small(positives=positives, negatives=negatives), CPU, 1)
        assert set(computed) == {read}

    def test_a_figure_is_the_median_in_milliseconds_after_two_to_warm_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seconds = iter([9.0, 8.0, 0.004, 0.001, 0.002])
        clock = [0.0]
        monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
        median = bench._median_milliseconds(lambda: clock.append(clock.pop() + next(seconds)), CPU, 3)
        assert median == pytest.approx(2.0) and next(seconds, None) is None

    def test_leaves_the_global_random_state_alone(self) -> None:
        before = torch.get_rng_state()
        measure(small(), CPU, 1)
        assert torch.equal(before, torch.get_rng_state())


def test_default_presets_exist() -> None:
    assert set(BenchFlags().presets) <= set(preset_names())
