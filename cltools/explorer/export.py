"""What leaves an explorer: rules as Python, and an anchor's keys as a table."""

import csv
import io
from dataclasses import fields
from typing import Any

from cltools.explorer.judgement import Judgement
from cltools.mining import Band, NegativeRule, PositiveRule
from cltools.snapshot import Snapshot


def as_python(positives: PositiveRule, negatives: NegativeRule) -> str:
    """Two lines that make these rules again; settings at their defaults are left out."""
    return f"positives = {_call(positives)}\nnegatives = {_call(negatives)}"


def as_csv(snapshot: Snapshot, j: Judgement, *, truth: bool) -> str:
    """A row for each key but the own one, the closest first.

    Args:
        snapshot: of the keys.
        j: of the anchor.
        truth: whether to write the class.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "band", "weight", "score", "cosine", "force", *(["class"] if truth else [])])
    weight = j.selection.negative_weight[0].numpy()
    for place in (-j.score).argsort(kind="stable"):
        band = Band(int(j.band[place]))
        if band != Band.OWN:
            row = [snapshot.ids[place], band.name, *(f"{x[place]:.6g}" for x in (weight, j.score, j.cosine, j.force))]
            table.writerow([*row, *([snapshot.classes[snapshot.labels[place]]] if truth else [])])
    return text.getvalue()


def _call(rule: Any) -> str:
    given = {f.name: getattr(rule, f.name) for f in fields(rule) if getattr(rule, f.name) != f.default}
    return f"{type(rule).__name__}({', '.join(f'{name}={value!r}' for name, value in given.items())})"
