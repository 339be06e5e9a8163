"""What a choice does, in words: the live sentence, which is also the accessible text of every picture."""

import numpy as np

from cltools.explorer.census import Census
from cltools.explorer.edges import Edges
from cltools.explorer.judgement import Judgement, difference
from cltools.explorer.state import Side
from cltools.mining import Band
from cltools.mining.bands import KEPT
from cltools.snapshot import Snapshot

FROZEN = "The encoder is frozen: controls change what the next training step would learn from, not where points lie."


def of_anchor(j: Judgement, side: Side, snapshot: Snapshot, place: int, *, truth: bool) -> str:
    """What the rules select for one anchor."""
    counts: list[int] = np.bincount(j.band, minlength=len(Band)).tolist()
    others = len(j.band) - counts[Band.OWN]
    name = f"image {snapshot.ids[place]}" + (f" ({snapshot.classes[snapshot.labels[place]]})" if truth else "")
    at = f"Of {others:,} other keys, at τ = {side.temperature:g}, the anchor {name}"
    parts = [f"{at} mines {counts[Band.MINED]:,} as positives"]
    if counts[Band.HARD] or j.edges is not None:
        parts.append(f"drops {counts[Band.HARD]:,}{_of_closest(j.edges)} as suspected")
    kept = sum(counts[band] for band in KEPT)
    softened = f", {counts[Band.SOFTENED]:,} of them softened" if counts[Band.SOFTENED] else ""
    parts.append(f"keeps {kept:,} ({_percent(kept, others)}) as negatives{softened}")
    if counts[Band.EASY]:
        easy = float(j.plain_force[j.band == Band.EASY].sum())
        parts.append(f"drops {counts[Band.EASY]:,} as too easy, which would exert {100 * easy:.2g} % of the force")
    if counts[Band.OTHER]:
        parts.append(f"drops {counts[Band.OTHER]:,} for no similarity of theirs")
    text = ", ".join(parts[:-1]) + " and " + parts[-1] + "."
    if j.selection.synthetic is not None:
        text += f" {j.selection.synthetic.shape[1]:,} synthetic negatives are added; no picture has them."
    if kept == 0 and j.selection.synthetic is None:
        text += " Nothing pushes this anchor."
    if j.selection.anchor_weight is not None:
        text += f" In the mean of the loss it has the weight {float(j.selection.anchor_weight):g}."
    return text + (_truth(j, snapshot, place, counts) if truth else "")


def of_all(census: Census, *, truth: bool) -> str:
    """What the rules select for all anchors."""
    text = (
        f"Over all {census.anchors:,} anchors: {census.mined:.1f} keys are mined as positives, {census.suspected} are "
        f"suspected and {census.kept} kept as negatives."
    )
    if truth:
        chance = 100 * (1 - census.kept.value)
        text += (
            f" Of the kept, {census.false} are of the anchor's class, false negatives; of all keys, {census.base_rate}."
            f" Of the keys of its class {census.recall} are not kept; a choice by chance would drop {chance:.1f} %."
        )
    return text


def of_map(snapshot: Snapshot, map_index: int, epoch: int) -> str:
    """How far to trust the map."""
    kept = float(np.median(snapshot.kept[map_index, epoch]))
    trust = float(snapshot.trustworthiness[map_index, epoch])
    name = snapshot.map_names[map_index]
    return (
        f"Map: {name}. Half of its points keep {100 * kept:.0f} % of their 15 neighbours or fewer "
        f"(trustworthiness {trust:.2f})."
    )


def of_two(a: Judgement, b: Judgement) -> str:
    """How far two choices agree about one anchor."""
    _, both, only_a, only_b = np.bincount(difference(a, b), minlength=4)
    return f"Kept by both {both:,}, by A only {only_a:,}, by B only {only_b:,}."


def _of_closest(edges: Edges | None) -> str:
    if edges is None or edges.closest == 0:
        return ""
    return f" of the closest {_percent(edges.closest, edges.keys)} ({edges.measure} ≥ {edges.closest_score:.2f})"


def _truth(j: Judgement, snapshot: Snapshot, place: int, counts: list[int]) -> str:
    same = snapshot.labels == snapshot.labels[place]
    others = j.band != Band.OWN
    said = []
    for bands, name in (((Band.MINED,), "mined"), ((Band.HARD,), "suspected"), (KEPT, "kept (false negatives)")):
        if (count := sum(counts[band] for band in bands)) > 0:
            said.append(f"{_percent(int((same & np.isin(j.band, bands)).sum()), count)} of the {name}")
    base = _percent(int((same & others).sum()), int(others.sum()))
    return f" Of its own class are {', '.join([*said, f'{base} of all'])}."


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole if whole else 0.0
    return f"{share:.2g} %" if 0 < share < 1 else f"{share:.1f} %"
