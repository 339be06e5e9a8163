"""Rules and their controls of equal count, each tuned by the same number of tries on validation pictures."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from cltools.config import Experiment
from cltools.errors import CltoolsError
from cltools.mining import LearnedThreshold, NearestKeys, RandomNegatives, RankBand
from cltools.presets import laptop, preset
from cltools.provenance import read_record
from cltools.reports.arms import BASELINE, RandomPositives
from experiments.images import pictures
from experiments.run import Setting
from experiments.starts import moco, now, with_rules

TEMPERATURES, RATES = (0.1, 0.2, 0.4), (0.06, 0.12)
TUNED_ON = 100
"""The seed of the tries, which no result uses."""
COUNT = 10_000
CONTROL = "random-as-"
"""Prefix of the name of a rule's control."""


def rules(images: str, epochs: int) -> dict[str, Experiment]:
    """Return `moco`, every rule, and the controls, none of which has a warm-up of its own."""
    base = moco(images, epochs)
    method = {name: laptop(preset(f"{images}-{name}")) for name in ("potential", "glofnd", "hcl")}
    band, learned = method["potential"].negatives, method["glofnd"].negatives
    assert isinstance(band, RankBand) and isinstance(learned, LearnedThreshold)
    learned = replace(learned, start=0.0)
    mined = now(method["potential"].positives)
    middle = now(NearestKeys(k=100, skip=20, pick=5, weighting="uniform"))
    share = RandomNegatives(band.keep_within - band.drop_closest)
    by_chance = {id(rule): now(RandomPositives(rule)) for rule in (mined, middle)}
    return {
        BASELINE: base,
        "potential": with_rules(base, mined, band),
        "mined": with_rules(base, mined),
        "mined-middle": with_rules(base, middle),
        "band": with_rules(base, negatives=band),
        "learned-threshold": with_rules(base, negatives=learned),
        "hcl": with_rules(base, negatives=method["hcl"].negatives),
        f"{CONTROL}potential": with_rules(base, by_chance[id(mined)], share),
        f"{CONTROL}mined": with_rules(base, by_chance[id(mined)]),
        f"{CONTROL}mined-middle": with_rules(base, by_chance[id(middle)]),
        f"{CONTROL}band": with_rules(base, negatives=share),
        f"{CONTROL}learned-threshold": with_rules(base, negatives=RandomNegatives(1 - learned.alpha)),
    }


def tries(arm: Experiment) -> dict[str, Experiment]:
    """Return an arm at every temperature and learning rate, by the words that are added to its name."""
    return {
        f"τ {temperature:g}, rate {rate:g}": replace(
            arm, loss=replace(arm.loss, temperature=temperature), training=replace(arm.training, learning_rate=rate)
        )
        for temperature, rate in product(TEMPERATURES, RATES)
    }


def tuning(images: str, epochs: int = 10) -> Setting:
    """Return every try of every arm, judged on validation pictures; the baseline is one of them."""
    arms = {f"{name}, {how}": each for name, arm in rules(images, epochs).items() for how, each in tries(arm).items()}
    source = partial(pictures, images, count=COUNT, judge="val", judged=5000)
    return Setting(f"tuning-{images}", source, moco(images, epochs), epochs, arms, [TUNED_ON])


def best_try(record: Mapping[str, Any], arm: str) -> str:
    """Return the try of an arm with the highest kNN-200; of equal ones the first.

    Raises:
        ValueError: a try is missing.
    """
    found = {row["arm"]: row.get("knn200") for row in record["rows"]}
    names: list[str] = [name for name in record["arms"] if name.startswith(f"{arm}, ")]
    if not names or (missing := [name for name in names if name not in found]):
        raise CltoolsError(f"{arm} is not tuned yet: {', '.join(missing) if names else 'no try'} is missing.")
    return max(names, key=lambda name: -1.0 if found[name] is None else found[name]).removeprefix(f"{arm}, ")


def tuned(images: str, out: Path, epochs: int = 10) -> Setting:
    """Return the arms at their best tries, judged on test images.

    Raises:
        FileNotFoundError: nothing is tuned yet.
        ValueError: a try is missing.
    """
    record = read_record(out / f"{tuning(images).name}.json")
    arms = {name: tries(arm)[best_try(record, name)] for name, arm in rules(images, epochs).items()}
    source = partial(pictures, images, count=COUNT, judge="test")
    return Setting(f"rules-{images}", source, arms.pop(BASELINE), epochs, arms, range(8), start=moco(images, epochs))


LATER: dict[str, Callable[[Path], tuple[Setting, ...]]] = {"rules": lambda out: (tuned("cifar10", out),)}
"""Experiments whose settings follow from earlier records."""
