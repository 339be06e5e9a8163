"""The state as training calls it: compiled, and on a GPU without a wait."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_training_checkpoint import made, training

from cltools.evaluation import PROTOCOLS
from cltools.presets import METHODS, preset
from cltools.training import Run, Stopped, fit
from cltools.training.record import EpochSums
from cltools.training.state import new_train_state
from cltools.training.step import Batch, train_step

COMPILED = """
import sys
from dataclasses import replace
import torch
from torch._dynamo.backends.debugging import aot_eager
from cltools.datasets import load_images
from cltools.evaluation import PROTOCOLS
from cltools.presets import METHODS, preset
from cltools.training import Run, fit
from cltools.training import state as train_state

graphs = []
def counted(graph, inputs, **settings):
    graphs.append([tuple(x.shape) for x in inputs if x.ndim == 4 and x.shape[1] == 3 and x.shape[0] > 8])
    return aot_eager(graph, inputs, **settings)

train_state.BACKEND = counted
name, folder = sys.argv[1:]
experiment = preset(name)
experiment = replace(
    experiment,
    # a small rate: at the usual one, rounding of the seventh digit grows to the fourth within these steps
    training=replace(experiment.training, epochs=2, batch=64, learning_rate=0.012, compile=True),
    encoder=replace(experiment.encoder, bn_group=32),
)
images = load_images("digits").subset(300)
compiled = fit(experiment, images=images, out=folder)
assert len(graphs) == (1 if experiment.training.mode == "simclr" else 2), graphs  # the encoder, its copy; once each
plain = fit(replace(experiment, training=replace(experiment.training, compile=False)), images=images)
for ours, theirs in zip(plain.history.rows, compiled.history.rows, strict=True):
    assert abs(ours["loss"] - theirs["loss"]) < 1e-4, (ours, theirs)
kept = Run.load(folder)
for run in (compiled, kept):
    assert list(run.encoder.state_dict()) == list(plain.encoder.state_dict())
    for (key, ours), theirs in zip(plain.encoder.state_dict().items(), run.encoder.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3, msg=key)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits-potential", "digits-simclr"])
def test_compiled_training_is_the_same_and_compiles_each_pass_once(name: str, tmp_path: Path) -> None:
    # in a process of its own, because the shape checks of the tests cannot be compiled
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", COMPILED, name, str(tmp_path / "run")]
    done = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_whether_passes_are_compiled_is_a_setting_of_the_experiment() -> None:
    experiment = preset("digits-moco")
    plain = new_train_state(experiment, made(), torch.device("cpu"))
    compiled = new_train_state(training(experiment, compile=True), made(), torch.device("cpu"))
    assert plain.forward is plain.encoder and compiled.forward is not compiled.encoder
    assert list(plain.encoder.state_dict()) == list(compiled.encoder.state_dict())
    assert plain.memory is not None and compiled.memory is not None
    assert list(plain.memory.copy.state_dict()) == list(compiled.memory.copy.state_dict())


@pytest.mark.gpu
@pytest.mark.parametrize("name", [f"cifar10-{method}" for method in METHODS])
def test_a_step_on_a_gpu_never_waits(name: str) -> None:
    device, experiment = torch.device("cuda"), training(preset(name), batch=64, queue_size=256)
    images = made(64).to(device)
    state = new_train_state(experiment, made(64), device)
    batch = Batch(images.images, images.ids, images.labels)
    sums = EpochSums(device)
    for _ in range(2):  # what is done once, such as choosing algorithms, may wait
        train_step(state, batch, experiment, progress=1.0, labelled=True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.manual_seed(state.step)
        for group in state.optimizer.param_groups:
            group["lr"] = 0.01
        result = train_step(state, batch, experiment, progress=1.0, labelled=True)
        sums.add(state.step, result.loss, result.tally, result.anchors)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert result.loss.isfinite()


@pytest.mark.gpu
def test_a_gpu_trains_in_bfloat16_with_a_fused_optimiser() -> None:
    experiment = training(preset("cifar10-potential"), batch=64, queue_size=256)
    state = new_train_state(experiment, made(64), torch.device("cuda"))
    assert state.optimizer.defaults["fused"] and state.device.type == "cuda"
    before = [parameter.clone() for parameter in state.encoder.parameters()]
    images = made(64).to("cuda")
    for _ in range(2):
        batch = Batch(images.images, images.ids, images.labels)
        train_step(state, batch, replace(experiment, seed=1), progress=1.0, labelled=True)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in state.encoder.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, state.encoder.parameters(), strict=True))


@pytest.mark.gpu
def test_a_run_on_a_gpu_stops_resumes_and_is_evaluated(tmp_path: Path) -> None:
    digits = training(preset("digits-potential"), epochs=3, batch=128, device="cuda")
    experiment = replace(digits, encoder=replace(digits.encoder, backbone="resnet18", bn_group=32))

    def ask(run: Run) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        fit(experiment, out=tmp_path, callbacks=[ask])
    assert Run.load(tmp_path, device="cuda").steps > 0
    run = fit(experiment, out=tmp_path, resume=True)
    assert len(run.history.rows) == 3
    report = run.evaluate(protocols=PROTOCOLS, linear_epochs=2)
    assert all(0 <= report[protocol] <= 100 for protocol in PROTOCOLS)
