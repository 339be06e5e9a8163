"""Converts records that cltools 0.1 wrote into the form that this version reads: `python data/convert.py FILES`.

Form and names change, and no number does. A file that has the new form already stays as it is. This script stands
alone, so that it can be read beside the records that it has changed.
"""

import ast
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Record = dict[str, Any]
FORMAT = 2
"""Of runs and comparisons; records of benchmarks have no number."""
STRETCH = ("from_epoch", "command", "commit", "versions", "hardware")


def differences_to_objects(record: Record) -> Record:
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


def run_to_stretches(record: Record) -> Record:
    """Runs: the last stretch beside the "earlier" ones becomes a list of all, and what was told twice is told once."""
    if record["kind"] != "run" or "stretches" in record:
        return record
    stretches = [{name: each[name] for name in STRETCH} | {"warm_epochs": 0} for each in (*record["earlier"], record)]
    stretches[0]["warm_epochs"] = record["warm_epochs"]
    return {
        "kind": "run",
        "experiment": record["experiment"],  # it holds the seed, the epochs asked for, and the protocol
        "backbone": record["backbone"],
        "images": record["images"],
        "stretches": stretches,
        "epochs": record["epochs"]["done"],
        "steps": record["epochs"].get("steps", 0),
        "seconds": record["seconds"],
        "views_per_second": record["views_per_second"],
        "judged": record["accuracy"]["split"],
        "by_epoch": record["accuracy"]["by_epoch"],
        "evaluations": record["evaluations"],
    }


STEPS: tuple[Callable[[Record], Record], ...] = (differences_to_objects, run_to_stretches)
"""In their order. A step takes a record of any kind and returns it in the newer form; one that has it stays as it is.

What renames rules or their settings comes last: by then a comparison's arms are objects, and every experiment lies
either in "experiment" (of a run) or in "baseline" (of a comparison).
"""


def converted(record: Record) -> Record:
    """The record in the form that this version reads."""
    for step in STEPS:
        record = step(record)
    if record["kind"] not in ("run", "comparison"):
        return record
    return {"kind": record["kind"], "format": FORMAT, **record} | {"format": FORMAT}


def main(paths: list[str]) -> int:
    """Convert the files in place, each replaced whole; 1 where one is no record, and is left alone."""
    if not paths:
        print("usage: python data/convert.py FILES", file=sys.stderr)
        return 2
    failed = False
    for path in map(Path, paths):
        try:
            before = path.read_text(encoding="utf-8")
            text = json.dumps(converted(json.loads(before)), indent=1) + "\n"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            failed = True
            print(
                f"{path} is no record of cltools, or a damaged one ({type(error).__name__}: {error})", file=sys.stderr
            )
            continue
        if text != before:
            part = path.with_name(f"{path.name}.part")
            part.write_text(text, encoding="utf-8")
            os.replace(part, path)
        print(f"{path}: {'stays as it is' if text == before else 'converted'}")
    return int(failed)


def _difference(text: str) -> Record:
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


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
