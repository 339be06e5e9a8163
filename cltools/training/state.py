"""The training state: everything that changes while training, new or copied from another run."""

from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, Optimizer

from cltools.config import Experiment, TrainingSettings
from cltools.datasets import ImageSet
from cltools.encoders import Encoder, MomentumCopy, build_encoder
from cltools.errors import CltoolsError, foreign
from cltools.files import reading
from cltools.mining.rules import State
from cltools.queue import Queue
from cltools.ranks import ALONE, Ranks
from cltools.training.inputs import RECIPE, OptimizerOf, Parts

Device = torch.device | str
BACKEND = "inductor"
"""Backend of torch.compile."""
FAULTY = "triton.mix_order_reduction"
"""An inductor optimization that fails on grouped statistics in torch 2.11."""
_NAMES = ("forward_sync_buffers", "broadcast_buffers")  # in newer versions of torch, and in older ones
OWN_BUFFERS: Any = {next(name for name in _NAMES if name in signature(DistributedDataParallel).parameters): False}
"""The DDP argument, in this version of torch, that lets each rank keep its own buffers."""


@dataclass
class Memory:
    """The source of keys in MoCo mode: the momentum copy of the encoder and the queue of its outputs."""

    copy: MomentumCopy
    queue: Queue


def new_memory(experiment: Experiment, encoder: Encoder, device: Device) -> Memory | None:
    """Return a copy of the encoder and an empty queue; None in SimCLR mode."""
    if experiment.training.mode == "simclr":
        return None
    return Memory(MomentumCopy(encoder), Queue(experiment.training.queue_size, encoder.projection, device=device))


@dataclass
class TrainState:
    """Everything that changes while training.

    `memory` is None in SimCLR mode. Every rank holds one; they are equal except for `rule_rng`.
    """

    encoder: Encoder
    optimizer: Optimizer
    memory: Memory | None
    order_rng: torch.Generator
    """CPU generator of the order of the images."""
    view_rng: torch.Generator
    """Device generator of views and of the shuffling of keys, for the whole batch."""
    rule_rng: torch.Generator
    """Device generator of the rules' draws, for this rank's anchors."""
    ranks: Ranks = ALONE
    parts: Parts = RECIPE
    """If they include an optimizer, the schedule multiplies that optimizer's own learning rates."""
    step: int = 0
    rule_state: State | None = None
    """What a learning negative rule has stored about each image; the same on every rank."""
    forward: nn.Module = field(init=False)
    """The encoder as a step calls it: compiled if the settings ask for it, in DDP if there are several ranks."""

    def __post_init__(self) -> None:
        self.forward = self.encoder

    @property
    def device(self) -> torch.device:
        """The device that it computes on."""
        return self.view_rng.device


def new_train_state(
    experiment: Experiment, train: ImageSet, device: torch.device, ranks: Ranks = ALONE, parts: Parts = RECIPE
) -> TrainState:
    """Return the initial state, determined by the seed."""
    settings, seed = experiment.training, experiment.seed
    encoder = build_encoder(experiment.encoder, train, backbone=parts.backbone, seed=seed)
    encoder = encoder.to(device).to(memory_format=torch.channels_last)
    if isinstance(parts.views, nn.Module):
        parts.views.to(device)
    trained = encoder, _optimizer(encoder, settings, parts.optimizer), new_memory(experiment, encoder, device)
    order_rng = torch.Generator().manual_seed(2 * seed)  # no two seeds share a stream
    view_rng = torch.Generator(device).manual_seed(2 * seed + 1)
    rule_rng = torch.Generator(device).manual_seed((1 << 31) + (seed << 8) + ranks.rank)
    state = TrainState(*trained, order_rng, view_rng, rule_rng, ranks, parts)
    state.rule_state = experiment.negatives.new_state(train.ids, device)
    if settings.compile:
        compile_encoders(state)
    if not ranks.alone:  # cltools' batch norms keep group statistics, which are averaged once per epoch
        partly = parts.backbone is not None  # user modules often have an unused head
        state.forward = DistributedDataParallel(state.forward, find_unused_parameters=partly, **OWN_BUFFERS)
    return state


def _optimizer(encoder: Encoder, settings: TrainingSettings, factory: OptimizerOf | None) -> Optimizer:
    """Return the experiment's SGD, or the factory's optimizer with the initial rate stored in each group."""
    if factory is None:
        rates: Any = dict(lr=settings.learning_rate, momentum=settings.sgd_momentum, weight_decay=settings.weight_decay)
        return SGD(encoder.parameters(), **rates, fused=True if encoder.mean.is_cuda else None)
    optimizer = factory(list(encoder.parameters()))
    if not isinstance(optimizer, Optimizer):
        raise foreign(optimizer, "optimizer: a function that returns a torch.optim.Optimizer, as torch.optim.AdamW is,")
    for group in optimizer.param_groups:
        group["initial_lr"] = float(group["lr"])  # the name that torch's own schedules use
    return optimizer


def set_rate(state: TrainState, rate: float | Tensor) -> None:
    """Set the learning rate of the next step; for a user's optimizer, the factor of each group's initial rate.

    The rate is a number, or a tensor on the device that a recorded step reads. Numbers are rounded to float32, as a
    recorded rate is, so that recorded and ordinary steps use the same rate.
    """
    rounded = rate if isinstance(rate, Tensor) else torch.tensor(rate, dtype=torch.float32).item()
    for group in state.optimizer.param_groups:
        group["lr"] = rounded * group["initial_lr"] if state.parts.optimizer else rounded


def statistics(state: TrainState) -> list[Tensor]:
    """Return the running statistics of the encoder and its copy: updated in training, read in evaluation."""
    modules = [state.encoder] if state.memory is None else [state.encoder, state.memory.copy]
    named = (each for module in modules for each in module.named_buffers())
    return [buffer for name, buffer in named if name.endswith(("running_mean", "running_var"))]


def sync(state: TrainState) -> None:
    """Copy the first rank's encoder, momentum copy and queue to every rank."""
    parts: list[Tensor] = list(state.encoder.state_dict().values())
    if state.memory is not None:
        queue = state.memory.queue
        parts += [*state.memory.copy.state_dict().values(), queue.keys, queue.ids, queue.labels]
    state.ranks.copy_from_first_(parts)


def reseed(state: TrainState) -> None:
    """Reseed by seed and step, for when the saved generator states are of another device type and cannot be read."""
    for generator in (state.view_rng, state.rule_rng):
        generator.manual_seed(generator.initial_seed() + 7919 * state.step)


def compile_encoders(state: TrainState) -> None:
    """Compile the forward pass of the encoder and of its copy for the one batch shape; weights keep their names."""
    options: Any = {FAULTY: False} if BACKEND == "inductor" and FAULTY in torch._inductor.list_options() else None
    compiled: Any = torch.compile(state.encoder, backend=BACKEND, dynamic=False, options=options)
    state.forward = compiled
    if state.memory is not None:
        copy = state.memory.copy
        copy.project = torch.compile(copy.encoder.project, backend=BACKEND, dynamic=False, options=options)


def warm_start(encoder: Encoder, memory: Memory | None, state: TrainState) -> None:
    """Copy a run's encoder into the state, and its momentum copy and queue if both have them.

    Raises:
        ValueError: they do not fit, or the state holds the same modules, which training would change.
    """
    if {*state.encoder.backbone.parameters()} & {*encoder.backbone.parameters()}:
        raise CltoolsError("backbone is the same module as start_from's, which training would change; give a copy.")
    with reading("start_from has another encoder or queue than this experiment"):
        state.encoder.load_state_dict(encoder.state_dict())
        if state.memory is not None and memory is not None:
            state.memory.copy.load_state_dict(memory.copy.state_dict())
            state.memory.queue.load_state_dict(memory.queue.state_dict())
        elif state.memory is not None:
            state.memory.copy.update(state.encoder, 0.0)
