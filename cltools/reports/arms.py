"""The arms of comparisons: every preset, and ablations and controls to which effects can be attributed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import product
from operator import getitem
from pathlib import Path
from typing import Any

import torch

from cltools import mining
from cltools.config import Experiment, from_plain, to_plain
from cltools.errors import CltoolsError, unknown
from cltools.files import leaves
from cltools.mining.draws import uniform_per_key
from cltools.mining.rules import rule_classes
from cltools.presets import IMAGES, METHODS, ImagePreset, fitted, preset

BASELINE = "moco"
SEMI_HARD = mining.MarginBand(margin=0.1, within=0.7)
"""Keeps keys that are less similar than the positive by 0.1 to 0.8 (semi-hard); fixed before any measurement."""


def arms_of(images: str, folder: Path | None = None) -> dict[str, Experiment]:
    """Return every preset of these images, then the ablations and controls that isolate the effect of `potential`.

    Args:
        images: images as in the names of presets.
        folder: folder of the user's images.

    Raises:
        ValueError: there are no presets of these images.
    """
    presets = {method: preset(f"{images}-{method}", folder) for method in METHODS}
    moco, potential = presets["moco"], presets["potential"]
    band, share = (presets[method].negatives for method in ("potential", "random"))
    assert isinstance(band, mining.RankBand) and isinstance(share, mining.RandomNegatives)

    def negatives(rule: mining.NegativeRule) -> Experiment:
        return replace(moco, negatives=rule)

    def at(experiment: Experiment, temperature: float) -> Experiment:
        return replace(experiment, loss=replace(experiment.loss, temperature=temperature))

    return presets | {
        "mined-soft": replace(moco, positives=mining.NearestKeys()),
        "mined-hard": replace(moco, positives=mining.NearestKeys(weighting="uniform")),
        "mined-soft-hard": replace(moco, positives=potential.positives),
        "band": negatives(band),
        "band-annealed": negatives(replace(band, drop_closest_from=0.0, keep_within_from=1.0)),
        "band-rescaled": negatives(replace(band, rescale=True)),
        "band-anchor": negatives(replace(band, by="anchor")),
        "band-gradient": negatives(replace(band, by="force")),
        "band-margin": negatives(SEMI_HARD),
        "drop-closest": negatives(replace(band, keep_within=1.0)),
        "drop-beyond": negatives(replace(band, drop_closest=0.0)),
        "glofnd-band": negatives(mining.RankBand(1 / IMAGES[images].classes, 1.0, by="anchor")),
        "random-rescaled": negatives(replace(share, rescale=True)),
        "random-annealed": negatives(replace(share, share_from=1.0)),
        "potential-random": replace(potential, negatives=share),
        "potential-oracle": replace(potential, negatives=mining.OracleNegatives()),
        **{f"{name}-t{t}": at(presets[name], t) for name in ("moco", "potential") for t in (0.1, 0.5)},
    }


def grid_of(moco: Experiment, drop_closest: Sequence[float], keep_within: Sequence[float]) -> dict[str, Experiment]:
    """Return the baseline, a band for every valid pair of edges, and a random control for every band's share of keys.

    Edges are rank shares. The pair (0, 1) keeps every key, as the baseline does, and is left out.

    Raises:
        ValueError: an edge is not a share, or no pair is a band.
    """
    every = product(sorted({*drop_closest}), sorted({*keep_within}))
    pairs = [(low, up) for low, up in every if low < up and (low, up) != (0, 1)]
    if not pairs:
        raise CltoolsError(f"No band drops {[*drop_closest]} and keeps within {[*keep_within]}: that must be larger.")
    bands = {f"band-{low:g}-{up:g}": replace(moco, negatives=mining.RankBand(low, up)) for low, up in pairs}
    shares = sorted({round(up - low, 6) for low, up in pairs})  # so that 0.3 − 0.1 and 0.5 − 0.3 are equal
    controls = {chance_name(share): replace(moco, negatives=mining.RandomNegatives(share)) for share in shares}
    return {BASELINE: moco} | bands | controls


@dataclass(frozen=True)
class RandomPositives(mining.PositiveRule):
    """The control of a positive rule: random keys in place of those that it mines, as many and with its weights."""

    of: mining.PositiveRule = field(default_factory=mining.NearestKeys)

    @property
    def reads(self) -> frozenset[str]:
        """The fields that the rule reads."""
        return self.of.reads

    def at(self, progress: float) -> "RandomPositives":
        """Return the control of the rule in force at this share of training."""
        return replace(super().at(progress), of=self.of.at(progress))

    def mine(self, s: mining.Similarities, context: mining.Context) -> mining.Mined:
        """Return random keys with the rule's weights; that of an own key goes to the augmented view."""
        mined = self.of.mine(s, context)
        draws = uniform_per_key(s.own, context.generator).masked_fill(s.own, -1.0)
        index = draws.topk(mined.index.shape[1], dim=1).indices
        weight = mined.weight[:, 1:] * ~s.own.gather(1, index)
        return mining.Mined(index, torch.cat([1 - weight.sum(1, keepdim=True), weight], dim=1))


def own_arms(moco: Experiment, rules: Sequence[str], images: ImagePreset) -> dict[str, Experiment]:
    """Return an arm for each rule, which replaces the baseline's, and one for the control of each positive rule.

    Args:
        moco: the baseline.
        rules: class names of rules.
        images: the images, which some rules are adapted to.

    Raises:
        ValueError: no such rule.
    """
    known = rule_classes(mining.NegativeRule) | rule_classes(mining.PositiveRule)
    arms = {}
    for name in rules:
        if name not in known:
            raise CltoolsError(f"{unknown('rule', name, known)} A rule of your own is known once --import names it.")
        rule = known[name]()
        if isinstance(rule, mining.NegativeRule):
            arms[name] = replace(moco, negatives=fitted(rule, images))
        else:
            control = RandomPositives(rule, start=rule.start, ramp=rule.ramp, strength=rule.strength)
            arms |= {name: replace(moco, positives=rule), f"random-as-{name}": replace(moco, positives=control)}
    return arms


def varied(experiment: Experiment, path: str, value: str) -> Experiment:
    """Return the experiment with another value of a setting, such as "loss.temperature" and "0.2".

    Raises:
        ValueError: there is no such setting, or the value is invalid.
    """
    plain: dict[str, Any] = to_plain(experiment)
    if path not in (known := dict(leaves(plain))):
        raise unknown("setting", path, known)
    *sections, name = path.split(".")
    part = reduce(getitem, sections, plain)
    try:
        part[name] = json.loads(value)
    except ValueError:  # a string
        part[name] = value
    return from_plain(Experiment, plain)


def chance_name(share: float) -> str:
    """Return the name of a grid's arm that keeps a random share of the keys."""
    return f"random-{share:g}"
