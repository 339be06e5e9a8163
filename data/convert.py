"""Converts what cltools 0.1 wrote into the form that this version reads: `python data/convert.py FILES`.

Takes records and settings of runs (.json) and snapshots (.npz). Form and names change, and no number does. A file that
has the new form already stays as it is; every other is replaced whole. This script stands alone but for NumPy, so that
it can be read beside the files that it has changed.
"""

import ast
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Plain = dict[str, Any]
FORMAT = 2
"""Of runs and comparisons; records of benchmarks have no number."""
STRETCH = ("from_epoch", "command", "commit", "versions", "hardware")
CLOSENESS = {"key": "positive", "anchor": "anchor", "max": "either"}
"""What keys are close to, by its old name and its new one."""
DIGITS = 9
"""Decimals that are kept of a difference of two edges, which no longer stands in the file as it was typed."""


def differences_to_objects(record: Plain) -> Plain:
    """Arms of a comparison: `"loss.temperature: 0.2 → 0.1"` becomes an object with path, before and now.

    A setting that one side does not have, "absent" in the text, is left out of the object.
    """
    if record["kind"] != "comparison":
        return record
    arms = {
        arm: [_difference(each) if isinstance(each, str) else each for each in changed]
        for arm, changed in record["arms"].items()
    }
    return record | {"arms": arms}


def run_to_stretches(record: Plain) -> Plain:
    """Runs: the last stretch beside the "earlier" ones becomes a list of all, and what was told twice is told once.

    The sum of the pixels goes: it told images so little that those in another order passed for the same.
    """
    if record["kind"] != "run" or "stretches" in record:
        return record
    stretches = [{name: each[name] for name in STRETCH} | {"warm_epochs": 0} for each in (*record["earlier"], record)]
    stretches[0]["warm_epochs"] = record["warm_epochs"]
    return {
        "kind": "run",
        "experiment": record["experiment"],  # it holds the seed, the epochs asked for, and the protocol
        "backbone": record["backbone"],
        "images": record["images"] and {name: record["images"][name] for name in ("name", "count", "given")},
        "stretches": stretches,
        "epochs": record["epochs"]["done"],
        "steps": record["epochs"].get("steps", 0),
        "seconds": record["seconds"],
        "views_per_second": record["views_per_second"],
        "judged": record["accuracy"]["split"],
        "by_epoch": record["accuracy"]["by_epoch"],
        "evaluations": record["evaluations"],
    }


def rules_renamed(record: Plain) -> Plain:
    """Rules of experiments, and of the arms of a comparison, under their new names."""
    if "experiment" in record:
        record = record | {"experiment": renamed_experiment(record["experiment"])}
    if record["kind"] == "comparison":
        old = record["baseline"]
        new = renamed_experiment(old)
        arms = {
            arm: differences(new, renamed_experiment(_with_changes(old, changed)))
            for arm, changed in record["arms"].items()
        }
        record = record | {"baseline": new, "arms": arms}
    return record


STEPS: tuple[Callable[[Plain], Plain], ...] = (differences_to_objects, run_to_stretches, rules_renamed)
"""In their order. A step takes a record of any kind and returns it in the newer form, or as it is if it has that."""


def converted(record: Plain) -> Plain:
    """The record in the form that this version reads."""
    for step in STEPS:
        record = step(record)
    if record["kind"] not in ("run", "comparison"):
        return record
    return {"kind": record["kind"], "format": FORMAT, **record} | {"format": FORMAT}


def renamed_experiment(plain: Plain) -> Plain:
    """An experiment with its rules under their new names."""
    return plain | {
        "positives": renamed_positives(plain["positives"]),
        "negatives": renamed_negatives(plain["negatives"]),
    }


def renamed_negatives(rule: Plain) -> Plain:
    """A negative rule under its new name: a band is one of ranks, of cosines or of margins."""
    if rule["rule"] == "CancelFalseNegatives" and "search" in rule:
        return {"rule": rule["rule"], "k": rule["k"], "min_cosine": rule["threshold"], "by": CLOSENESS[rule["search"]]}
    if rule["rule"] != "BandNegatives":
        return rule
    lower, upper, reference = rule["lower"], rule["upper"], rule["reference"]
    lower_from, upper_from = rule["lower_from"], rule["upper_from"]
    rescale, anneal = {"rescale": rule["rescale"]}, {"anneal": rule["anneal"]}
    if rule["unit"] == "rank":
        by = "force" if reference == "gradient" else reference
        edges = {"drop_closest": lower, "keep_within": upper, "by": by}
        moves = {"drop_closest_from": lower_from, "keep_within_from": upper_from}
        return {"rule": "RankBand", **edges, **rescale, **moves, **anneal}
    if reference == "margin":
        return {"rule": "MarginBand", **_margins(rule), **anneal}
    above = None if lower <= -1 and lower_from is None else lower
    below = None if upper >= 1 and upper_from is None else upper
    edges = {"above": above, "below": below, "by": reference}
    return {"rule": "CosineBand", **edges, **rescale, "above_from": lower_from, "below_from": upper_from, **anneal}


def _margins(rule: Plain) -> Plain:
    """Margin and width of a band between two differences z·n − z·z', which stood with the other sign."""
    lower, upper, lower_from, upper_from = (rule[name] for name in ("lower", "upper", "lower_from", "upper_from"))
    first = (lower if lower_from is None else lower_from), (upper if upper_from is None else upper_from)
    moves = lower_from is not None or upper_from is not None
    return {
        "margin": -upper,
        "relative": None,
        "within": None if lower <= -2 and not moves else round(upper - lower, DIGITS),
        "rescale": rule["rescale"],
        "margin_from": None if upper_from is None else -upper_from,
        "relative_from": None,
        "within_from": round(first[1] - first[0], DIGITS) if moves else None,
    }


def renamed_positives(rule: Plain) -> Plain:
    """A positive rule as a class of its own, with what its weighting read."""
    if "rule" in rule:
        return rule
    warm_up = {name: rule[name] for name in ("start", "ramp", "strength")}
    weighting, k = rule["weighting"], rule["k"]
    if weighting == "none":
        return {"rule": "AugmentedView"}  # nothing is mined, so its warm-up had no meaning
    if k is None:
        if weighting != "soft" or rule["search"] != "key" or rule["pick"] is not None:
            raise ValueError(f"mining every key with weighting {weighting!r} has no rule in this version")
        return {"rule": "EveryKey", **warm_up, **{name: rule[name] for name in ("temperature", "augmented_share")}}
    gate = rule["min_share"]
    if weighting == "soft+hard" and gate is None and rule["threshold"] is None:
        gate = "mean"
    return {
        "rule": "NearestKeys",
        **warm_up,
        "k": k,
        "weighting": "uniform" if weighting == "hard" else "softmax",
        "min_cosine": rule["threshold"],
        "min_weight": gate,
        "augmented_share": rule["augmented_share"],
        "temperature": rule["temperature"],
        "by": CLOSENESS[rule["search"]],
        "pick": rule["pick"],
    }


def differences(before: Plain, now: Plain) -> list[Plain]:
    """What differs, as objects with a path and the values before and now, each left out where there is none."""
    left, right = dict(_leaves(before)), dict(_leaves(now))
    found = []
    for path in [*left, *(each for each in right if each not in left)]:
        sides = {side: values[path] for side, values in (("before", left), ("now", right)) if path in values}
        if len(sides) < 2 or sides["before"] != sides["now"]:
            found.append({"path": path} | sides)
    return found


def _leaves(plain: Plain, path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in plain.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _with_changes(baseline: Plain, changes: list[Plain]) -> Plain:
    """The settings that differ from a baseline as objects say."""
    plain: Plain = json.loads(json.dumps(baseline))
    for change in changes:
        *parents, last = change["path"].split(".")
        at = plain
        for name in parents:
            at = at.setdefault(name, {})
        if "now" in change:
            at[last] = change["now"]
        else:
            at.pop(last, None)
    return plain


def _difference(text: str) -> Plain:
    """`"path: before → now"` as an object."""
    path, _, values = text.partition(": ")
    before, now = values.split(" → ")
    sides = {"before": before, "now": now}
    return {"path": path} | {side: _value(value) for side, value in sides.items() if value != "absent"}


def _value(text: str) -> Any:
    """A setting as Python wrote it into a sentence: a number, None, a truth value, a list of these, or else a text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def convert(path: Path) -> bool:
    """Convert a record, the settings of a run, or a snapshot in place; whether anything had to change.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError: no file of cltools, or a damaged one; it stays as it
            is.
    """
    part = path.with_name(f"{path.name}.part")
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(arrays.pop("about").tobytes())
        old = json.loads(about["experiment"])
        new = renamed_experiment(old)
        if new == old:
            return False
        about["experiment"] = json.dumps(new, indent=2) + "\n"
        with part.open("wb") as file:
            np.savez_compressed(file, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
    else:
        before = path.read_text(encoding="utf-8")
        plain = json.loads(before)
        settings = "kind" not in plain and "training" in plain  # a run's config.json
        new = renamed_experiment(plain) if settings else converted(plain)
        text = json.dumps(new, indent=2 if settings else 1) + "\n"
        if text == before:
            return False
        part.write_text(text, encoding="utf-8")
    os.replace(part, path)
    return True


def main(paths: list[str]) -> int:
    """Convert the files; 1 where one is none of cltools, and is left alone."""
    if not paths:
        print("usage: python data/convert.py FILES", file=sys.stderr)
        return 2
    failed = False
    for path in map(Path, paths):
        try:
            print(f"{path}: {'converted' if convert(path) else 'stays as it is'}")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            failed = True
            print(f"{path} is no file of cltools, or a damaged one ({type(error).__name__}: {error})", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
