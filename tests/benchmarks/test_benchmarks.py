"""The bench: what it measures and writes; never how long anything took."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import RuleBenchFlags, StepBenchFlags, bench_rules, bench_steps, measuring, parts, steps
from benchmarks.measuring import (
    held_mebibytes,
    median_milliseconds,
    operations,
    peak_mebibytes,
    product_rate,
    products,
)
from benchmarks.parts import Workplace
from benchmarks.rules import COLUMNS as RULE_COLUMNS, PLAIN, MethodWork, RandomBatch, measure_rules
from benchmarks.steps import COLUMNS, PARTS, label, measure, steps_table, variations
from cltools import contrast
from cltools.config import Experiment, TrainingSettings
from cltools.encoders import EncoderSettings
from cltools.losses import LossSettings
from cltools.mining import AllNegatives, BandNegatives, PositiveRule, RandomNegatives
from cltools.presets import METHODS, laptop, preset, preset_names

CPU = torch.device("cpu")
TINY = EncoderSettings(backbone="tiny", hidden=8, projection=8, bn_group=None)


@pytest.fixture(autouse=True)
def small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of a moment, where a device's rate is not what is tested."""
    monkeypatch.setitem(measuring.PRODUCTS, "cpu", (64, 128))


def small(**changes: Any) -> Experiment:
    """An experiment whose step takes a few milliseconds; its batch does not divide its queue."""
    training = TrainingSettings(batch=8, queue_size=20, mode=changes.pop("mode", "moco"))
    return Experiment(encoder=TINY, training=training, **changes)


class TestRun:
    @pytest.fixture
    def measured(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, Any]]:
        """The table and the JSON of a bench of two presets."""
        out = tmp_path / "new" / "bench.json"
        bench_steps(
            StepBenchFlags(presets=("digits-simclr", "digits-potential"), device="cpu", repeats=2, full=True, out=out)
        )
        return capsys.readouterr().out, json.loads(out.read_text())

    def test_prints_a_table_and_writes_its_figures(self, measured: tuple[str, dict[str, Any]]) -> None:
        table, figures = measured
        head, *lines = table.splitlines()
        assert re.split(r"\s{2,}", head) == ["preset", *COLUMNS]
        assert [row["preset"] for row in figures["rows"]] == ["digits-simclr", "digits-potential"]
        assert [(row["queue_size"], row["bn_group"]) for row in figures["rows"]] == [(None, None), (512, None)]
        for line, row in zip(lines, figures["rows"], strict=True):
            assert line.startswith(label(row)) and list(row)[-len(COLUMNS) :] == list(COLUMNS)
            assert re.split(r"\s{2,}", line)[1:] == [f"{row[name]:.2f}" for name in COLUMNS]
            assert all(math.isfinite(row[name]) and row[name] > 0 for name in COLUMNS if name != "rest ms")

    def test_writes_what_the_figures_were_measured_with(self, measured: tuple[str, dict[str, Any]]) -> None:
        _, figures = measured
        assert figures["kind"] == "bench" and figures["versions"]["torch"] == torch.__version__
        assert figures["hardware"]["threads"] == torch.get_num_threads() and figures["hardware"]["device"]


class TestFlags:
    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Experiment, torch.device, int]]:
        """What `bench_steps` asks to be measured, without measuring."""
        asked: list[tuple[Experiment, torch.device, int]] = []

        def record(*arguments: Any) -> dict[str, float]:
            asked.append(arguments)  # type: ignore[arg-type]
            return dict.fromkeys(COLUMNS, 1.0)

        monkeypatch.setattr(steps, "measure", record)
        return asked

    def test_the_laptop_setting_is_measured_unless_asked_otherwise(self, asked: list[Any]) -> None:
        bench_steps(StepBenchFlags(("cifar10-moco",), device="cpu", repeats=7))
        bench_steps(StepBenchFlags(("cifar10-moco",), device="cpu", full=True))
        assert asked == [(laptop(preset("cifar10-moco")), CPU, 7), (preset("cifar10-moco"), CPU, 20)]

    def test_other_queues_and_groups_are_rows_beside_the_presets_own(self) -> None:
        flags = StepBenchFlags(queue_sizes=(2048, 4096), bn_groups=(0, 32))
        found = [(e.training.queue_size, e.encoder.bn_group) for e in variations(preset("cifar10-moco"), flags)]
        assert found == [(2048, None), (4096, None), (2048, 32)], "what the preset has is measured once"
        assert [e.encoder.bn_group for e in variations(preset("cifar10-simclr"), flags)] == [None, 32], "no queue"
        full = [
            e.encoder.bn_group for e in variations(preset("cifar10-moco"), StepBenchFlags(full=True, bn_groups=(0,)))
        ]
        assert full == [32, None]

    def test_compiled_experiments_are_measured_if_asked_and_named(
        self, asked: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for compiled in (True, False):
            out = tmp_path / f"{compiled}.json"
            bench_steps(StepBenchFlags(("digits-moco",), bn_groups=(32,), device="cpu", compile=compiled, out=out))
            assert [row["compile"] for row in json.loads(out.read_text())["rows"]] == [compiled] * 2
            lines = capsys.readouterr().out.splitlines()[1:]
            assert [", compiled" in line for line in lines] == [compiled] * 2
            shown = steps_table([out], [json.loads(out.read_text())]).splitlines()[-2:]
            assert ["| tiny, compiled |" in line for line in shown] == [compiled] * 2
        assert [e.training.compile for e, _, _ in asked] == [True, True, False, False]
        assert replace(asked[0][0], training=replace(asked[0][0].training, compile=False)) == asked[2][0]

    def test_by_default_methods_on_the_same_images_are_compared(self, asked: list[Any]) -> None:
        bench_steps(StepBenchFlags())
        assert [e for e, _, _ in asked] == [laptop(preset(f"cifar10-{m}")) for m in ("simclr", "moco", "potential")]

    def test_writes_no_file_unless_asked(
        self, asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        bench_steps(StepBenchFlags(("digits-moco",)))
        assert asked and list(tmp_path.iterdir()) == []

    def test_an_unknown_preset_is_refused_before_any_is_measured(self, asked: list[Any]) -> None:
        with pytest.raises(ValueError, match=r"Unknown preset 'digits-mocco'\. Did you mean digits-moco"):
            bench_steps(StepBenchFlags(("digits-moco", "digits-mocco")))
        assert asked == []

    def test_a_device_that_is_not_there_is_refused(self, asked: list[Any]) -> None:
        with pytest.raises(ValueError, match="Unknown device 'gpu'"):
            bench_steps(StepBenchFlags(device="gpu"))

    def test_refuse_to_measure_nothing(self) -> None:
        with pytest.raises(ValueError, match="presets is empty; name at least one"):
            StepBenchFlags(presets=())
        with pytest.raises(ValueError, match="repeats is 0; it must be at least 1"):
            StepBenchFlags(repeats=0)

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            ({"queue_sizes": (64, 0)}, r"queue_sizes is \(64, 0\); each must be at least 1"),
            ({"bn_groups": (1,)}, r"bn_groups is \(1,\); each must be at least 2, or 0 for a whole view"),
            ({"images": 0}, "images is 0; it must be at least 1"),
            ({"data": "digits"}, "--data and --images are of --against dataloader"),
            ({"images": 512}, "--data and --images are of --against dataloader"),
            (
                {"against": "dataloader", "bn_groups": (32,)},
                "leave out --queue-sizes, --bn-groups, --compile and --cuda",
            ),
            ({"against": "dataloader", "compile": True}, "--against measures presets as they are"),
            ({"against": "dataloader", "cuda_graph": True}, "--against measures presets as they are"),
        ],
    )
    def test_refuse_what_has_no_meaning(self, flags: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            StepBenchFlags(**flags)


class TestMeasure:
    @pytest.fixture
    def taken(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
        """How many keys each step met, and the progress it was told."""
        taken: list[tuple[int, float]] = []
        train_step: Callable[..., Any] = parts.train_step

        def record(learner: Any, *arguments: Any, progress: float, **rest: Any) -> Any:
            taken.append((len(learner.memory.queue) if learner.memory else 0, progress))
            return train_step(learner, *arguments, progress=progress, **rest)

        monkeypatch.setattr(parts, "train_step", record)
        return taken

    def test_every_step_meets_a_full_queue_and_rules_at_full_strength(self, taken: list[tuple[int, float]]) -> None:
        measure(small(negatives=BandNegatives()), CPU, 3)
        assert taken == [(20, 1.0)] * 7, "two to warm up, three that count, and two for its memory"

    def test_simclr_has_no_queue(self, taken: list[tuple[int, float]]) -> None:
        row = measure(small(mode="simclr"), CPU, 1)
        assert taken == [(0, 1.0)] * 5 and tuple(row) == COLUMNS

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
        select = contrast.select

        def record(s: Any, *arguments: Any, **rest: Any) -> Any:
            computed.append(s.key is not None)
            return select(s, *arguments, **rest)

        monkeypatch.setattr(contrast, "select", record)
        measure(small(positives=positives, negatives=negatives), CPU, 1)
        assert set(computed) == {read}

    @pytest.mark.parametrize("method", METHODS)
    def test_every_method_can_be_measured(self, method: str) -> None:
        made = METHODS[method]
        mode = "simclr" if method == "simclr" else "moco"
        row = measure(small(mode=mode, positives=made.positives, negatives=made.negatives), CPU, 1)
        assert tuple(row) == COLUMNS and all(value > 0 for name, value in row.items() if name != "rest ms")

    @pytest.mark.parametrize("changes", [{"mode": "simclr"}, {"positives": PositiveRule(k=2)}])
    def test_the_parts_compute_what_the_step_computes(self, changes: dict[str, Any]) -> None:
        """Counted in operations of products and convolutions; the rest of a step has none."""
        place = Workplace(small(**changes), CPU, side=16)
        for work in (place.step, *place.parts().values()):
            work()  # what parts prepare once is no part of them
        by_part = {name: operations(work) for name, work in place.parts().items()}
        assert sum(by_part.values()) == operations(place.step), by_part
        assert by_part["views"] == by_part["optimiser"] == 0 and min(by_part["selection"], by_part["loss"]) > 0

    def test_a_fake_clock_adds_parts_and_rest_up_to_the_step(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def take(works: dict[str, Any], *_: Any) -> dict[str, float]:
            return {name: 100.0 if name == "step" else 2.0 for name in works}

        monkeypatch.setattr(steps, "median_milliseconds", take)
        row = measure(small(), CPU, 1)
        assert row["rest ms"] == 100.0 - 2.0 * len(PARTS) and row["step ms"] == 100.0
        assert row["views/s"] == 16 / 0.1
        counted = operations(Workplace(small(), CPU).encoder)
        assert row["product %"] == pytest.approx(100 * (counted / 0.1) / (2 * 128**3 / 0.002))

    def test_cudnn_tries_its_algorithms_as_in_training(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tried = []
        train_step: Callable[..., Any] = parts.train_step

        def record(*arguments: Any, **rest: Any) -> Any:
            tried.append(torch.backends.cudnn.benchmark)
            return train_step(*arguments, **rest)

        monkeypatch.setattr(parts, "train_step", record)
        monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
        measure(small(), CPU, 1)
        assert tried == [True] * 5 and not torch.backends.cudnn.benchmark

    def test_total_memory_is_what_is_held_and_what_a_step_adds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = []

        def held(tensors: Any, _: torch.device) -> float:
            seen.append(sum(1 for _ in tensors))
            return 5.0

        monkeypatch.setattr(steps, "held_mebibytes", held)
        row = measure(small(), CPU, 1)
        assert row["total MiB"] == 5.0 + row["added MiB"] > 5.0
        place = Workplace(small(), CPU)
        place.step()
        assert seen == [sum(1 for _ in place.held())], "after the gradients and the optimiser's state are there"

    def test_leaves_the_global_random_state_alone(self) -> None:
        before = torch.get_rng_state()
        measure(small(), CPU, 1)
        assert torch.equal(before, torch.get_rng_state())


COMPILED = """
import torch
from dataclasses import replace
from benchmarks import measuring, parts
from benchmarks.steps import encoder_operations, measure
from cltools.presets import preset
from cltools.training import learner

graphs = []
def counted(graph, inputs):
    graphs.append(graph)
    return graph.forward

learner.BACKEND, step, before = counted, parts.train_step, []
def watched(*given, **rest):
    before.append(len(graphs))
    return step(*given, **rest)

parts.train_step = watched
measuring.PRODUCTS["cpu"] = (64,)
experiment = preset("digits-moco")
training = replace(experiment.training, batch=8, queue_size=16, compile=True)
experiment = replace(experiment, training=training, encoder=replace(experiment.encoder, bn_group=None))
for row in range(6):  # more encoders than torch compiles of one pass, unless it is told to forget
    graphs.clear(), before.clear()
    figures = measure(experiment, torch.device("cpu"), 1)
    assert before[0] == 0 and before[2] >= 2, before  # the encoder and its copy
    assert set(before[2:]) == {len(graphs)}, (before, len(graphs))  # nothing after two rounds to warm up
compiled = encoder_operations(experiment, torch.device("cpu"))
plain = replace(experiment, training=replace(training, compile=False))
assert compiled == encoder_operations(plain, torch.device("cpu")) > 0 and figures["product %"] > 0
"""


@pytest.mark.slow
def test_all_is_compiled_before_a_step_counts_however_many_rows_there_are() -> None:
    # in a process of its own, because the shape checks of the tests cannot be compiled
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


class TestMeasuring:
    def test_a_figure_is_the_median_in_milliseconds_after_two_rounds_to_warm_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        took = {"a": iter([9.0, 8.0, 0.004, 0.001, 0.002]), "b": iter([0.0, 0.0, 0.5, 0.3, 0.4])}
        clock, order = [0.0], list[str]()
        monkeypatch.setattr(measuring, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

        def work(name: str) -> Callable[[], None]:
            def take() -> None:
                order.append(name)
                clock[0] += next(took[name])

            return take

        assert median_milliseconds({"a": work("a"), "b": work("b")}, CPU, 3) == pytest.approx({"a": 2.0, "b": 400.0})
        assert order == ["a", "b"] * 5, "in turn, so that what else the machine does meets both"

    def test_peak_memory_is_what_is_held_at_once(self) -> None:
        def work() -> None:
            a = torch.zeros(256, 1024)
            b = a + 1
            del a
            c = b * 2
            del b, c

        assert peak_mebibytes(work, CPU) == pytest.approx(2.0, abs=0.01)
        assert peak_mebibytes(lambda: None, CPU) == 0

    def test_what_a_work_frees_of_the_one_before_is_not_counted_twice(self) -> None:
        kept = [torch.zeros(256, 1024)]  # as a step its gradients, allocated before anything counts

        def work() -> None:
            kept.clear()
            kept.append(torch.zeros(256, 1024))
            torch.zeros(128, 1024)

        assert peak_mebibytes(work, CPU) == pytest.approx(0.5, abs=0.01)

    def test_held_memory_counts_a_storage_once_and_whole(self) -> None:
        whole = torch.zeros(1024, 1024)
        assert held_mebibytes([whole[:3], whole.view(-1), torch.zeros(2**18, dtype=torch.int64)], CPU) == 4.0 + 2.0
        assert held_mebibytes([], CPU) == 0

    @pytest.mark.parametrize(("mode", "copies"), [("simclr", 3), ("moco", 4)])
    def test_what_training_holds_is_counted_by_hand(self, mode: str, copies: int) -> None:
        place = Workplace(small(mode=mode), CPU, side=16)
        place.step()
        weights = sum(parameter.numel() for parameter in place.learner.encoder.parameters())
        buffers = sum(buffer.nbytes for buffer in place.learner.encoder.buffers())
        batch = 8 * (3 * 16 * 16 + 8 + 8)
        queue = 20 * (4 * 8 + 8 + 8) if mode == "moco" else 0
        # weights, their gradients, the optimiser's momentum; and the momentum copy's weights and buffers
        expected = 4 * weights * copies + buffers * (2 if mode == "moco" else 1) + batch + queue
        assert held_mebibytes(place.held(), CPU) * 2**20 == expected

    def test_what_parts_prepared_is_forgotten_and_made_anew(self) -> None:
        place = Workplace(small(), CPU, side=16)
        before = place.stacked, place.vectors, place.selected
        place.forget()
        assert not {"stacked", "vectors", "selected"} & {*vars(place)} and place.stacked is not before[0]

    def test_the_tiny_encoders_operations_are_those_counted_by_hand(self) -> None:
        place = Workplace(small(mode="simclr"), CPU, side=16)
        views, multiply_adds, first = 16, 0, 0
        for i, (before, after) in enumerate([(3, 32), (32, 64), (64, 128), (128, 256)]):
            positions = (16 >> (i + 1)) ** 2
            count = positions * before * after * 9
            first = count if i == 0 else first
            multiply_adds += count
        multiply_adds += 256 * 8 + 8 * 8
        # forward, backward to the weights, and backward to the inputs of all but the first layer
        assert operations(place.encoder) == 2 * views * (3 * multiply_adds - first)

    def test_the_momentum_copy_adds_one_forward(self) -> None:
        alone, followed = (Workplace(small(mode=mode), CPU, side=16) for mode in ("simclr", "moco"))
        forward = operations(lambda: alone.learner.encoder(alone.stacked, views=2))
        assert operations(followed.encoder) == operations(alone.encoder) + forward

    def test_products_are_of_normal_values(self) -> None:
        before = torch.get_rng_state()
        for dtype in (torch.float32, torch.bfloat16):
            (made,) = (work() for name, work in products(CPU, dtype).items() if name == f"product {2 * 128**3}")
            assert isinstance(made, torch.Tensor) and made.dtype == dtype
            # a sum of 128 products of independent normal values
            assert abs(float(made.float().mean())) < 0.5 and float(made.float().std()) == pytest.approx(
                128**0.5, rel=0.1
            )
        assert torch.equal(before, torch.get_rng_state())

    def test_products_have_the_precision_of_the_encoder(self) -> None:
        for wanted, dtype in (("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            experiment = small()
            place = Workplace(replace(experiment, training=replace(experiment.training, precision=wanted)), CPU)
            assert place.dtype == dtype

    def test_the_best_product_counts(self) -> None:
        assert product_rate({"product 1000": 1.0, "product 9000": 3.0, "step": 0.001}) == 3e6
        assert [operations(work) for work in products(CPU, torch.float32).values()] == [
            int(name.split()[1]) for name in products(CPU, torch.float32)
        ]


class TestRules:
    def test_prints_a_table_a_size_and_writes_its_figures(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "rules.json"
        flags = RuleBenchFlags(anchors=(8, 16), keys=(64,), device="cpu", repeats=1, out=out)
        bench_rules(flags)
        text, record = capsys.readouterr().out, json.loads(out.read_text())
        assert record["kind"] == "bench rules" and [size["anchors"] for size in record["sizes"]] == [8, 16]
        for size in record["sizes"]:
            assert list(size["methods"]) == [*flags.methods] and "simclr" not in size["methods"]
            assert f"B = {size['anchors']}, K = 64" in text and "added MiB" in text and "peak" not in text
            assert size["plain"] == min((f"plain InfoNCE, {way}" for way in PLAIN), key=size["parts ms"].get)
            for method, row in size["methods"].items():
                assert tuple(row) == RULE_COLUMNS and all(value > 0 for value in row.values())
                line = next(line for line in text.splitlines() if line.split()[:1] == [method])
                assert len(line.split()) == 1 + len(RULE_COLUMNS)

    def test_a_methods_time_is_told_beside_plain_infonces_of_the_same_rounds(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from benchmarks import rules

        rounds: list[list[str]] = []

        def take(works: dict[str, Any], *_: Any) -> dict[str, float]:
            rounds.append(list(works))
            return {name: 8.0 if name == "all" else 2.0 for name in works}

        monkeypatch.setattr(rules, "median_milliseconds", take)
        found = measure_rules(4, 32, ("potential", "mochi"), CPU, 1)
        assert rounds[1:] == [["plain", "all", "select", "loss"]] * 2
        assert [row["× plain"] for row in found["methods"].values()] == [4.0, 4.0]

    def test_the_parts_are_those_of_the_whole(self) -> None:
        work = MethodWork(RandomBatch(6, 40, CPU), PositiveRule(k=2), BandNegatives(), LossSettings())
        assert torch.equal(work.selection().band, work.chosen.band)
        work.everything()
        work.loss()

    def test_plain_infonce_is_the_same_loss_in_every_way(self) -> None:
        generator = torch.Generator().manual_seed(0)
        positive, negative = torch.rand(5, generator=generator), torch.rand(5, 30, generator=generator)
        first, *others = (way(positive, negative) for way in PLAIN.values())
        for other in others:
            torch.testing.assert_close(other, first)

    def test_memory_grows_with_the_keys(self) -> None:
        small, large = (measure_rules(16, keys, ("potential",), CPU, 1) for keys in (512, 2048))
        ratio = large["methods"]["potential"]["peak MiB"] / small["methods"]["potential"]["peak MiB"]
        assert 3.5 < ratio < 4.2

    @pytest.mark.parametrize(
        "nothing", [{"anchors": ()}, {"keys": ()}, {"methods": ()}, {"repeats": 0}, {"keys": (0,)}]
    )
    def test_refuse_to_measure_nothing(self, nothing: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="bench rules"):
            RuleBenchFlags(**nothing)

    def test_an_unknown_method_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"Unknown method 'hlc'\. Did you mean hcl"):
            RuleBenchFlags(methods=("hlc",))


def test_default_presets_exist() -> None:
    assert set(StepBenchFlags().presets) <= set(preset_names())
