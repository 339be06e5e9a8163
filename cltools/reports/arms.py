"""What is compared: every preset, and the ablations and controls that say what an effect is due to."""

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
"""Less similar than the positive by at least 0.1 (semi-hard) and by at most 0.8; set before anything was measured."""


def arms_of(images: str, folder: Path | None = None) -> dict[str, Experiment]:
    """Every preset of these images, then the ablations and controls that make the effect of `potential` attributable.

    Args:
        images: as presets begin.
        folder: of images of one's own.

    Raises:
        ValueError: no such images.
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
    """The baseline, a band for every pair of edges that is one, and for each as many keys by chance.

    Edges are rank shares. From 0 to 1 a band keeps every key, which is the baseline, so that pair is left out.

    Raises:
        ValueError: an edge that is no share, or no pair that is a band.
    """
    every = product(sorted({*drop_closest}), sorted({*keep_within}))
    pairs = [(low, up) for low, up in every if low < up and (low, up) != (0, 1)]
    if not pairs:
        raise CltoolsError(f"No band drops {[*drop_closest]} and keeps within {[*keep_within]}: that must be larger.")
    bands = {f"band-{low:g}-{up:g}": replace(moco, negatives=mining.RankBand(low, up)) for low, up in pairs}
    shares = sorted({round(up - low, 6) for low, up in pairs})  # 0.3 − 0.1 and 0.5 − 0.3 are one share
    chance = {chance_name(share): replace(moco, negatives=mining.RandomNegatives(share)) for share in shares}
    return {BASELINE: moco} | bands | chance


def own_arms(moco: Experiment, rules: Sequence[str], images: ImagePreset) -> dict[str, Experiment]:
    """An arm per rule of these class names, alone in place of the baseline's.

    Raises:
        ValueError: no such rule.
    """
    negatives = {name: rule for name, rule in rule_classes(mining.NegativeRule).items() if name in rules}
    others = {name: rule_class(name, mining.PositiveRule)() for name in rules if name not in negatives}
    return {name: replace(moco, negatives=fitted(rule(), images)) for name, rule in negatives.items()} | {
        name: replace(moco, positives=rule) for name, rule in others.items()
    }


def varied(experiment: Experiment, path: str, value: str) -> Experiment:
    """The experiment with another value of a setting, such as "loss.temperature" and "0.2".

    Raises:
        ValueError: no such setting, or a value that it cannot have.
    """
    plain: dict[str, Any] = to_plain(experiment)
    if path not in (known := dict(leaves(plain))):
        raise unknown("setting", path, known)
    *sections, name = path.split(".")
    part = reduce(getitem, sections, plain)
    try:
        part[name] = json.loads(value)
    except ValueError:  # a word
        part[name] = value
    return from_plain(Experiment, plain)


def chance_name(share: float) -> str:
    """The arm of a grid that keeps a share of the keys by chance."""
    return f"random-{share:g}"
