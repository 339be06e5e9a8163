"""The settings and arms of every experiment, fixed before it runs; `docs/experiments.md` says what each is to show."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import get_args

import torch
from torch import nn

from cltools.config import Experiment
from cltools.mining import NearestKeys, OracleNegatives, OraclePositives, RandomNegatives
from cltools.presets import laptop, preset
from cltools.reports.arms import RandomPositives
from experiments.arms import Place, PlacedKeys, RepairedKeys, StillNegative, WithoutMined
from experiments.images import Pictures, other_classes, pictures, within_superclasses
from experiments.rules import tuning
from experiments.run import Setting
from experiments.starts import moco, now, with_rules

Images = Callable[[Path | None], Pictures]
WIDTHS = (64, 128, 256, 512)
"""Channels of the wider encoder, twice those of the tiny one."""
PURITIES = (0.3, 0.5, 0.7, 0.9, 1.0)


def headroom(
    name: str, images: str, *, count: int, warm: int, epochs: int, labels: str = "fine", judged: int = 5000
) -> Setting:
    """Return the arms that read labels, which no rule without labels is likely to beat, on validation pictures."""
    base = moco(images, epochs)
    supcon = laptop(preset(f"{images}-supcon"))
    arms = {
        "oracle": with_rules(base, negatives=OracleNegatives()),
        "oracle-positives": with_rules(base, now(OraclePositives())),
        "oracle-positives-random": with_rules(base, now(OraclePositives(right="random"))),
        "oracle-positives-20": with_rules(base, now(OraclePositives(k=20, right="random"))),
        "supcon": replace(supcon, training=replace(base.training, mode="simclr"), evaluation=base.evaluation),
    }
    source = partial(pictures, images, count=count, judge="val", labels=labels, judged=judged)
    return Setting(f"headroom-{name}", source, base, warm, arms, range(3))


def wide(seed: int) -> nn.Module:
    """Return a backbone like the tiny one, with twice its channels."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for before, after in pairwise((3, *WIDTHS)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def dial(name: str, images: Images, base: Experiment, purities: Sequence[float]) -> Setting:
    """Return arms whose mined positives have a purity that is dialled, and the unswapped arm."""
    arms = {f"repaired-{p:g}": with_rules(base, RepairedKeys(purity=p)) for p in purities}
    return Setting(name, images, base, 10, arms | {"mined": with_rules(base, RepairedKeys())}, range(8))


def dial_controls(name: str, images: Images, base: Experiment) -> Setting:
    """Return the controls of a dial: chance, attraction or removal alone, and keys from other places."""
    arms = {
        "random-as-mined": with_rules(base, now(RandomPositives(NearestKeys(weighting="uniform")))),
        "removed-only": with_rules(base, negatives=WithoutMined(RepairedKeys(purity=1.0))),
        "attracted-only": with_rules(base, RepairedKeys(purity=1.0), StillNegative()),
    }
    for right in get_args(Place):
        arms[f"placed-1-{right}"] = with_rules(base, PlacedKeys(right=right))
        for wrong in get_args(Place):
            arms[f"placed-0.5-{right}-{wrong}"] = with_rules(base, PlacedKeys(purity=0.5, right=right, wrong=wrong))
    return Setting(name, images, base, 10, arms, range(8))


def false_negatives(labels: str, classes: int) -> Setting:
    """Return arms without a dialled share of the false negatives, each beside one that drops as many keys at random."""
    base = moco("cifar100", 10)
    arms = {}
    for share in (0.25, 0.5, 0.75, 1.0):
        arms[f"oracle-{share:g}"] = with_rules(base, negatives=OracleNegatives(share=share))
        arms[f"random-as-oracle-{share:g}"] = with_rules(base, negatives=RandomNegatives(1 - share / classes))
    source = partial(pictures, "cifar100", count=10_000, judge="test", labels=labels)
    return Setting(f"false-negatives-{classes}", source, base, 10, arms, range(8))


CIFAR10 = partial(pictures, "cifar10", count=10_000, judge="test")

EXPERIMENTS: dict[str, tuple[Setting, ...]] = {
    "dial": (dial("dial-cifar10", CIFAR10, moco("cifar10", 10), (0.1, *PURITIES)),),
    "headroom": (
        headroom("cifar10", "cifar10", count=10_000, warm=10, epochs=10),
        headroom("cifar100", "cifar100", count=10_000, warm=10, epochs=10),
        headroom("cifar100-coarse", "cifar100", count=10_000, warm=10, epochs=10, labels="coarse"),
        headroom("cifar10-all", "cifar10", count=45_000, warm=3, epochs=3),
        headroom("shapes", "shapes", count=1500, warm=5, epochs=12, judged=500),
        headroom("cifar10-early", "cifar10", count=10_000, warm=3, epochs=10),
    ),
    "headroom-wide": (replace(headroom("cifar10-wide", "cifar10", count=10_000, warm=10, epochs=10), backbone=wide),),
    "leakage": (
        dial("leakage-superclasses", partial(within_superclasses, count=10_000), moco("cifar100", 10), (0.05, 0.5, 1)),
        dial("leakage-other-classes", partial(other_classes, count=10_000), moco("cifar10", 10), (0.2, 0.5, 1)),
    ),
    "dial-controls": (dial_controls("dial-cifar10-controls", CIFAR10, moco("cifar10", 10)),),
    "tuning": (tuning("cifar10"),),
    "false-negatives": (false_negatives("coarse", 20), false_negatives("fine", 100)),
}
