"""What every check of an exercise is tried with; each `test_exercises_*.py` holds a table of them."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import normalize

from cltools import Similarities, similarities


@dataclass(frozen=True)
class Cases:
    """Answers to one check.

    Attributes:
        right: the answer.
        forms: right answers of other forms: another type, or an explorer that came there another way.
        wrong_type: an answer of a type that the check cannot read, and words of what it says to that.
        mistakes: typical wrong answers, each with words of its own explanation.
        given: what the check takes after the answer.
        settings: and by name.
    """

    right: Any
    forms: list[Any]
    wrong_type: tuple[Any, str]
    mistakes: list[tuple[Any, str]]
    given: tuple[Any, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


def drawn(anchors: int = 60, classes: int = 4) -> Similarities:
    """Images in classes: close keys are often, not always, of the anchor's class; each has its own among the keys."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(anchors) % classes
    centre = normalize(torch.randn(classes, 12, generator=draws), dim=1)[labels]
    place = centre + 0.3 * torch.randn(anchors, 12, generator=draws)
    z, keys = (normalize(place + 0.1 * torch.randn(anchors, 12, generator=draws), dim=1) for _ in range(2))
    own = torch.eye(anchors, dtype=torch.bool)
    return similarities(z, keys, keys, own, same_class=labels[:, None] == labels)


def one(s: Similarities, anchor: int = 0) -> Similarities:
    rows = slice(anchor, anchor + 1)
    assert s.positive_keys is not None
    return Similarities(s.anchor_keys[rows], s.positive_keys[rows], s.anchor_positive[rows], s.own[rows])
