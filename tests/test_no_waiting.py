"""A whole training step of every rule, on a CPU on which every operation is refused that would make a GPU wait."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from waiting import Waits, no_waiting

from cltools.config import Experiment, TrainingSettings
from cltools.datasets import DataSettings, ImageSet
from cltools.encoders import EncoderSettings
from cltools.mining import (
    AllNegatives,
    AugmentedView,
    Context,
    MixedNegatives,
    NearestKeys,
    NegativeRule,
    PositiveRule,
    RankBand,
    Similarities,
    select,
    similarities,
)
from cltools.mining.rules import rule_classes
from cltools.training.state import TrainState, new_train_state
from cltools.training.step import Batch, train_step

TINY = EncoderSettings(backbone="tiny", hidden=8, projection=6, bn_group=None)


def experiment(rule: NegativeRule | PositiveRule, **training: Any) -> Experiment:
    positives = rule if isinstance(rule, PositiveRule) else NearestKeys(3, start=0)
    negatives = rule if isinstance(rule, NegativeRule) else RankBand()
    settings = {"epochs": 2, "batch": 8, "queue_size": 16, "device": "cpu"} | training
    return Experiment(
        data=DataSettings("digits", limit=128),
        encoder=TINY,
        positives=positives,
        negatives=negatives,
        training=TrainingSettings(**settings),
    )


def images(count: int = 8) -> ImageSet:
    pixels = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(count)
    return ImageSet(pixels, ids % 4, ids, ("a", "b", "c", "d"), "made", "train")


def ready(asked: Experiment) -> tuple[TrainState, Batch]:
    """A state whose queue is full, and a batch."""
    made = images()
    state = new_train_state(asked, made, torch.device("cpu"))
    batch = Batch(made.images, made.ids, made.labels)
    for _ in range(asked.training.queue_size // asked.training.batch):
        train_step(state, batch, asked, progress=1.0, labelled=True)
    assert state.memory is None or state.memory.queue.filled == asked.training.queue_size
    return state, batch


def stepped(rule: NegativeRule | PositiveRule, **training: Any) -> None:
    """A whole training step at the beginning, in the middle and at the end."""
    asked = experiment(rule, **training)
    state, batch = ready(asked)
    with no_waiting():
        for progress in (0.0, 0.5, 1.0):
            train_step(state, batch, asked, progress=progress, labelled=True)


SHIPPED = [
    rule
    for base in (NegativeRule, PositiveRule)
    for rule in rule_classes(base).values()
    if rule.__module__.startswith("cltools.")
]


@pytest.mark.parametrize("rule", SHIPPED, ids=lambda rule: rule.__name__)
def test_no_step_of_a_rule_waits_for_the_device(rule: Any) -> None:
    stepped(MixedNegatives(hardest=8, pairs=4, with_anchor=2) if rule is MixedNegatives else rule())


@pytest.mark.parametrize("training", [{"mode": "simclr"}, {"chunk": 3}, {"symmetric": False}], ids=str)
def test_nor_does_a_step_that_compares_otherwise(training: dict[str, Any]) -> None:
    stepped(RankBand(by="force", rescale=True), **training)


# --- it catches


def some(s: Similarities) -> Tensor:
    return s.anchor_keys.detach() > 0.5


WAITING: dict[str, Callable[[Similarities], object]] = {
    "item": lambda s: s.anchor_keys.sum().item(),
    "float": lambda s: float(s.anchor_keys.sum()),
    "int": lambda s: int(s.own.sum()),
    "bool": lambda s: bool(some(s).any()),
    "if": lambda s: 1 if some(s).any() else 0,
    "an index of Python": lambda s: range(9)[s.own.sum() * 0],
    "tolist": lambda s: s.own.tolist(),
    "numpy": lambda s: s.own.numpy(),
    "cpu": lambda s: s.own.cpu(),
    "to": lambda s: s.own.to("cpu"),
    "to a device": lambda s: s.own.to(torch.device("cpu")),
    "nonzero": lambda s: some(s).nonzero(),
    "nonzero as a tuple": lambda s: torch.nonzero(some(s), as_tuple=True),
    "where of one": lambda s: torch.where(some(s)),
    "argwhere": lambda s: torch.argwhere(some(s)),
    "is_nonzero": lambda s: torch.is_nonzero(s.own.sum()),
    "bincount": lambda s: torch.bincount(s.own.long().flatten()),
    "masked_select": lambda s: torch.masked_select(s.anchor_keys, some(s)),
    "a boolean index": lambda s: s.anchor_keys[some(s)],
    "a boolean index of rows": lambda s: s.anchor_keys[some(s).any(1)],
    "writing by a boolean index": lambda s: s.anchor_keys.detach().clone().__setitem__(some(s), torch.zeros(1)),
    "unique": lambda s: s.own.unique(),
    "unique in a row": lambda s: torch.unique_consecutive(s.own),
    "unique by a dimension": lambda s: torch.unique(s.own, dim=0),
    "repeat_interleave": lambda s: s.anchor_positive.repeat_interleave(s.own.sum(1)),
    "equal": lambda s: torch.equal(s.own, s.own),
    "allclose": lambda s: torch.allclose(s.anchor_keys, s.anchor_keys),
    "histc": lambda s: torch.histc(s.anchor_keys.detach()),
}
"""What makes a GPU wait, as a rule might do it."""
FREE: dict[str, Callable[[Similarities], object]] = {
    "where": lambda s: torch.where(some(s), s.anchor_keys, 0.0),
    "masked_fill": lambda s: s.anchor_keys.masked_fill(some(s), 0.0),
    "an index of places": lambda s: s.anchor_keys[:, torch.arange(2)],
    "repeat_interleave of a known size": lambda s: s.anchor_positive.repeat_interleave(
        torch.ones(len(s.own), dtype=torch.long), output_size=len(s.own)
    ),
    "repeat_interleave by a number": lambda s: s.anchor_positive.repeat_interleave(2),
    "to another type": lambda s: s.anchor_keys.to(torch.float64),
}


def selected(rule: NegativeRule) -> None:
    """The rule's part of a step alone."""
    g = torch.Generator().manual_seed(0)
    z, positive, keys = (normalize(torch.randn(rows, 6, generator=g), dim=1) for rows in (4, 4, 9))
    s = similarities(z.requires_grad_(), positive, keys, torch.eye(4, 9) > 0, reads=rule.reads)
    with no_waiting():
        select(s, AugmentedView(), rule)


def planted(act: Callable[[Similarities], object], hook: str) -> Any:
    """A rule that does something in one of its hooks."""
    base: Any = AugmentedView if hook == "mine" else AllNegatives

    def done(self: Any, s: Similarities, *rest: Any) -> Any:
        act(s)
        return getattr(base, hook)(self, s, *rest)

    return type("Planted", (base,), {hook: done})()


@pytest.mark.parametrize("name", WAITING)
def test_each_operation_that_waits_is_caught_in_a_rule(name: str) -> None:
    with pytest.raises(Waits, match="wait"):
        selected(planted(WAITING[name], "judge"))


@pytest.mark.parametrize("hook", ["mine", "judge", "weigh", "synthesise"])
def test_it_is_caught_in_every_hook_of_a_step(hook: str) -> None:
    with pytest.raises(Waits, match="nonzero"):
        stepped(planted(WAITING["nonzero"], hook))


def test_it_is_caught_in_a_backward_pass() -> None:
    class Reads(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient * float(gradient.sum())

    x = torch.ones(3, requires_grad=True)
    with no_waiting(), pytest.raises(Waits):
        Reads.apply(x).sum().backward()


@pytest.mark.parametrize("name", FREE)
def test_what_does_not_wait_passes(name: str) -> None:
    selected(planted(FREE[name], "judge"))


def test_afterwards_everything_is_as_before() -> None:
    class Once(AllNegatives):
        def judge(self, s: Similarities, context: Context) -> Tensor:
            assert some(s).nonzero().shape[1] == 2
            return super().judge(s, context)

    with pytest.raises(Waits):
        stepped(Once())
    ready(experiment(Once()))
    assert torch.ones(2).tolist() == [1, 1]
