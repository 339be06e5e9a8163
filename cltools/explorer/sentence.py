"""What a choice does, in the words of the page (`front/views/words.js`), for viewers that run no scripts."""

import numpy as np
from numpy import ndarray

from cltools.errors import printable
from cltools.explorer.judgement import Judgement, difference
from cltools.mining import Band
from cltools.mining.bands import KEPT
from cltools.snapshot import Snapshot

LEFT_OUT = {
    Band.HARD: "so close that they may show the same thing",
    Band.EASY: "that are too easy",
    Band.OTHER: "for a reason other than closeness",
}
"""Why keys of a band are no negatives."""


def of_anchor(j: Judgement, snapshot: Snapshot, place: int, *, truth: bool) -> str:
    """What the rules select for one anchor."""
    counts = np.bincount(j.band, minlength=len(Band))
    others, kept = len(j.band) - counts[Band.OWN], sum(counts[band] for band in KEPT)
    name = f"{snapshot.anchor_noun} {snapshot.anchor_ids[place]}"
    label = snapshot.anchor_labels[place]
    name += f" ({printable(snapshot.classes[label], lines=False) if label >= 0 else 'no label'})" if truth else ""
    text = f"This rule pushes {name} away from {kept:,} of {others:,}"
    if counts[Band.SOFTENED]:
        text += f", {counts[Band.SOFTENED]:,} of them less than the others"
    left = [f"{counts[band]:,} {why}" for band, why in LEFT_OUT.items() if counts[band]]
    text += f". It leaves out {' and '.join(filter(None, [', '.join(left[:-1]), *left[-1:]])) or 'none'}."
    if counts[Band.MINED]:
        text += f" It pulls {counts[Band.MINED]:,} closer, as further positives."
    synthetic = 0 if j.selection.synthetic is None else j.selection.synthetic.shape[1]
    if synthetic:
        text += f" It adds {synthetic:,} synthetic negative{'s' * (synthetic > 1)}, which no picture shows."
    if kept + synthetic == 0:
        text += " Nothing pushes this anchor."
    if j.selection.anchor_weight is not None and j.selection.anchor_weight != 1:
        text += f" In the mean of the loss this anchor has the weight {float(j.selection.anchor_weight):g}."
    return text + (_truth(j, snapshot, place, counts) if truth else "")


def of_two(a: Judgement, b: Judgement) -> str:
    """How far two choices agree about one anchor."""
    _, both, only_a, only_b = np.bincount(difference(a, b), minlength=4)
    return f"Pushed away by both {both:,}, by A only {only_a:,}, by B only {only_b:,}."


def _truth(j: Judgement, snapshot: Snapshot, place: int, counts: ndarray) -> str:
    if snapshot.anchor_labels[place] < 0:
        return " It has no label."
    own_class = (snapshot.labels == snapshot.anchor_labels[place]) & (j.band != Band.OWN)
    same, others = np.bincount(j.band[own_class], minlength=len(Band)), len(j.band) - counts[Band.OWN]
    kept, false = (sum(of[band] for band in KEPT) for of in (counts, same))
    text = (
        f" For this {snapshot.anchor_noun}, {false:,} of the {kept:,} ({_percent(false, kept)}) that it is pushed away "
        f"from are of its own class, false negatives; {_percent(sum(same), others)} of all {others:,} are of its class."
    )
    for band, name in ((Band.HARD, "suspected"), (Band.MINED, "mined")):
        if counts[band]:
            share = _percent(same[band], counts[band])
            text += f" Of the {counts[band]:,} {name}, {same[band]:,} ({share}) are of its class."
    return text


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"
