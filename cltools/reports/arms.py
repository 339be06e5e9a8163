"""The arms of comparisons: every preset, and ablations and controls to which effects can be attributed."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from itertools import product
from operator import getitem
from pathlib import Path
from typing import Any

from cltools import mining
from cltools.config import Experiment, from_plain, to_plain
from cltools.errors import CltoolsError, unknown
from cltools.files import leaves
from cltools.mining.rules import rule_class, rule_classes
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


def own_arms(moco: Experiment, rules: Sequence[str], images: ImagePreset) -> dict[str, Experiment]:
    """Return an arm for each rule of these class names, which replaces the baseline's rule.

    Raises:
        ValueError: there is no such rule.
    """
    negatives = {name: rule for name, rule in rule_classes(mining.NegativeRule).items() if name in rules}
    others = {name: rule_class(name, mining.PositiveRule)() for name in rules if name not in negatives}
    return {name: replace(moco, negatives=fitted(rule(), images)) for name, rule in negatives.items()} | {
        name: replace(moco, positives=rule) for name, rule in others.items()
    }


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
