"""All that changes while training, made from an experiment or from what another run has learnt."""

import re
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
"""An optimisation of inductor's that fails on grouped statistics in torch 2.11."""
_NAMES = ("forward_sync_buffers", "broadcast_buffers")  # in newer versions of torch, and in older ones
OWN_BUFFERS: Any = {next(name for name in _NAMES if name in signature(DistributedDataParallel).parameters): False}
"""By which each rank keeps its own buffers, in this version of torch."""


@dataclass
class Memory:
    """Where keys come from in MoCo mode: a slowly moving copy of the encoder, and the queue of what it made."""

    copy: MomentumCopy
    queue: Queue


def new_memory(experiment: Experiment, encoder: Encoder, device: Device) -> Memory | None:
    """A copy of the encoder and an empty queue; None in SimCLR mode."""
    settings = experiment.training
    if settings.mode == "simclr":
        return None
    return Memory(MomentumCopy(encoder), Queue(settings.queue_size, experiment.encoder.projection, device=device))


@dataclass
class Learner:
    """All that changes while training; `memory` is None in SimCLR mode. Every rank has one, equal but for `chance`."""

    encoder: Encoder
    optimizer: Optimizer
    memory: Memory | None
    shuffler: torch.Generator
    """Draws the order of the images, on the CPU."""
    draws: torch.Generator
    """Draws views and the shuffling of keys, on the device, for the whole batch."""
    chance: torch.Generator
    """Draws what rules draw, on the device, for this rank's anchors."""
    ranks: Ranks = ALONE
    parts: Parts = RECIPE
    """An optimizer among them has rates of its own, and the schedule is a factor of these."""
    step: int = 0
    rule_state: State | None = None
    """What a negative rule that learns knows of each image; every rank has the same."""
    forward: nn.Module = field(init=False)
    """The encoder as a step calls it: compiled, and averaging its gradients over ranks, where that is asked for."""

    def __post_init__(self) -> None:
        self.forward = self.encoder

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.draws.device


def resolve_device(name: str) -> torch.device:
    """The device of a name; "auto" is CUDA where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"(cpu|cuda)(:(0|[1-9]\d?))?", name):
        raise CltoolsError(f'Unknown device {name!r}. Use "auto", "cpu", "cuda" or "cuda:1".')
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CltoolsError(f'Device {name!r} was asked for, but this machine has no CUDA GPU. Use "cpu" or "auto".')
    return device


def make_learner(
    experiment: Experiment, train: ImageSet, device: torch.device, ranks: Ranks = ALONE, parts: Parts = RECIPE
) -> Learner:
    """A fresh learner, decided by the seed."""
    settings, seed = experiment.training, experiment.seed
    encoder = build_encoder(experiment.encoder, train, backbone=parts.backbone, seed=seed)
    encoder = encoder.to(device).to(memory_format=torch.channels_last)
    if isinstance(parts.views, nn.Module):
        parts.views.to(device)
    trained = encoder, _optimizer(encoder, settings, parts.optimizer), new_memory(experiment, encoder, device)
    shuffler = torch.Generator().manual_seed(2 * seed)  # no two seeds share an order or draws
    draws = torch.Generator(device).manual_seed(2 * seed + 1)
    chance = torch.Generator(device).manual_seed((1 << 31) + (seed << 8) + ranks.rank)
    rule_state = experiment.negatives.new_state(train.ids, device)
    learner = Learner(*trained, shuffler, draws, chance, ranks, parts, rule_state=rule_state)
    if settings.compile:
        compile_encoders(learner)
    if not ranks.alone:  # our own batch norms hold the statistics of whole groups, averaged once per epoch
        partly = parts.backbone is not None  # modules of other people's often have a head that nothing reads
        learner.forward = DistributedDataParallel(learner.forward, find_unused_parameters=partly, **OWN_BUFFERS)
    return learner


def _optimizer(encoder: Encoder, settings: TrainingSettings, factory: OptimizerOf | None) -> Optimizer:
    """SGD as the experiment asks for it, or what the factory makes; each group of that then keeps its initial rate."""
    if factory is None:
        rates: Any = dict(lr=settings.learning_rate, momentum=settings.sgd_momentum, weight_decay=settings.weight_decay)
        return SGD(encoder.parameters(), **rates, fused=True if encoder.mean.is_cuda else None)
    made = factory(list(encoder.parameters()))
    if not isinstance(made, Optimizer):
        raise foreign(made, "optimizer: a function that returns a torch.optim.Optimizer, such as torch.optim.AdamW,")
    for group in made.param_groups:
        group["initial_lr"] = float(group["lr"])  # by the name that torch's own schedules use
    return made


def set_rate(learner: Learner, rate: float | Tensor) -> None:
    """The learning rate of the next step, of an own optimizer the factor of each group's initial one.

    A number, or a tensor on the device that a recording reads. Numbers are rounded to float32, which a recording's is,
    so that both ways to make a step have the same.
    """
    rounded = rate if isinstance(rate, Tensor) else torch.tensor(rate, dtype=torch.float32).item()
    for group in learner.optimizer.param_groups:
        group["lr"] = rounded * group["initial_lr"] if learner.parts.optimizer else rounded


def statistics(learner: Learner) -> list[Tensor]:
    """Running statistics of the encoder and its copy, which move in training and are read in evaluation."""
    modules = [learner.encoder] if learner.memory is None else [learner.encoder, learner.memory.copy]
    named = (each for module in modules for each in module.named_buffers())
    return [buffer for name, buffer in named if name.endswith(("running_mean", "running_var"))]


def equalise(learner: Learner) -> None:
    """Give every rank the first one's encoder, momentum copy and keys, however each came by its own."""
    parts: list[Tensor] = list(learner.encoder.state_dict().values())
    if learner.memory is not None:
        queue = learner.memory.queue
        parts += [*learner.memory.copy.state_dict().values(), queue.keys, queue.ids, queue.labels]
    learner.ranks.copy_from_first_(parts)


def reseed(learner: Learner) -> None:
    """New draws, decided by seed and step, where the states of generators are of another device and cannot be read."""
    for generator in (learner.draws, learner.chance):
        generator.manual_seed(generator.initial_seed() + 7919 * learner.step)


def compile_encoders(learner: Learner) -> None:
    """Compile the encoder's pass and its copy's, for the one shape that a batch has; weights keep their names."""
    options: Any = {FAULTY: False} if BACKEND == "inductor" and FAULTY in torch._inductor.list_options() else None
    compiled: Any = torch.compile(learner.encoder, backend=BACKEND, dynamic=False, options=options)
    learner.forward = compiled
    if learner.memory is not None:
        copy = learner.memory.copy
        copy.project = torch.compile(copy.encoder.project, backend=BACKEND, dynamic=False, options=options)


def learn_from(encoder: Encoder, memory: Memory | None, learner: Learner) -> None:
    """Copy what a run has learnt: encoder, and momentum copy and queue where both have them.

    Raises:
        ValueError: they do not fit, or are the very modules that training would change.
    """
    if {*learner.encoder.backbone.parameters()} & {*encoder.backbone.parameters()}:
        raise CltoolsError("backbone is the very module of start_from, which training would change; give a copy of it.")
    with reading("start_from has another encoder or queue than this experiment"):
        learner.encoder.load_state_dict(encoder.state_dict())
        if learner.memory is not None and memory is not None:
            learner.memory.copy.load_state_dict(memory.copy.state_dict())
            learner.memory.queue.load_state_dict(memory.queue.state_dict())
        elif learner.memory is not None:
            learner.memory.copy.update(learner.encoder, 0.0)
