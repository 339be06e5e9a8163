"""What the rules of one side make of one anchor: the very `select` of training, and what each kept key then exerts.

And the same in the words of the page (`front/views/words.js`), for viewers that run no scripts.

Legend: N keys of the snapshot.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float32, Int8, Int64

from cltools.errors import printable
from cltools.evaluation.diagnosis import Census, take_census
from cltools.explorer.state import Side
from cltools.gradients import info_nce_gradients, tangential_force
from cltools.losses import Form
from cltools.mining import KEPT, Band, NegativeRule, Selection, Similarities, State as LearnedState, select, terms
from cltools.mining.draws import Draws
from cltools.mining.negatives import Closeness, CosineBand, MarginBand, RankBand, closeness
from cltools.mining.similarities import own_last
from cltools.snapshot import Snapshot

BANDS = (RankBand, CosineBand, MarginBand)
SEED = 0
"""The seed of whatever rules draw on a snapshot."""
PAIRS = 2**20
"""Anchors times keys that are judged at once."""
LEFT_OUT = {
    Band.HARD: "so close that they may show the same thing",
    Band.EASY: "that are too easy",
    Band.OTHER: "for a reason other than closeness",
}
"""Why keys of a band are no negatives."""
_LOCK = RLock()


@contextmanager
def one_thread() -> Iterator[None]:
    """For work on some thousands of numbers, to which waiting for another thread adds more than it takes away.

    Where other work shares the cores it takes a hundred times as long with threads.
    """
    with _LOCK:  # of two at once, the later would take the one thread of the earlier for what is usual
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@dataclass(frozen=True)
class Judgement:
    """One anchor's keys, judged.

    Attributes:
        similarities: of the anchor with all keys [1, N].
        selection: what the rules choose.
        band: codes of `Band` [N].
        score: what the rule ranks by, larger is closer [N].
        order: places of the keys, the closest first and own ones last; equal scores as they stand [N].
        cosine: z·n [N].
        force: share of the whole repulsion across the anchor that each key exerts under the rules [N]; 0 if not kept.
    """

    similarities: Similarities
    selection: Selection
    band: Int8[np.ndarray, " N"]
    score: Float32[np.ndarray, " N"]
    order: Int64[np.ndarray, " N"]
    cosine: Float32[np.ndarray, " N"]
    force: Float32[np.ndarray, " N"]

    def words(self, snapshot: Snapshot, place: int, *, truth: bool) -> str:
        """What the rules select for the anchor, which stands at a place of the snapshot, in the words of the page."""
        counts = np.bincount(self.band, minlength=len(Band)).tolist()
        others, kept = len(self.band) - counts[Band.OWN], sum(counts[band] for band in KEPT)
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
        synthetic = 0 if self.selection.synthetic is None else self.selection.synthetic.shape[1]
        if synthetic:
            text += f" It adds {synthetic:,} synthetic negative{'s' * (synthetic > 1)}, which no picture shows."
        if kept + synthetic == 0:
            text += " Nothing pushes this anchor."
        if self.selection.anchor_weight is not None and self.selection.anchor_weight != 1:
            text += f" In the mean of the loss this anchor has the weight {float(self.selection.anchor_weight):g}."
        return text + (self._truth(snapshot, place, counts) if truth else "")

    def words_beside(self, other: "Judgement") -> str:
        """How far side A, this one, and side B agree about the anchor."""
        _, both, only_a, only_b = np.bincount(difference(self, other), minlength=4)
        return f"Pushed away by both {both:,}, by A only {only_a:,}, by B only {only_b:,}."

    def _truth(self, snapshot: Snapshot, place: int, counts: list[int]) -> str:
        if snapshot.anchor_labels[place] < 0:
            return " It has no label."
        own_class = (snapshot.labels == snapshot.anchor_labels[place]) & (self.band != Band.OWN)
        same = np.bincount(self.band[own_class], minlength=len(Band)).tolist()
        kept, false = (sum(of[band] for band in KEPT) for of in (counts, same))
        others, share = len(self.band) - counts[Band.OWN], _percent(false, kept)
        text = f" For this {snapshot.anchor_noun}, {false:,} of the {kept:,} ({share}) that it is pushed away from are "
        text += f"of its own class, false negatives; {_percent(sum(same), others)} of all {others:,} are of its class."
        for band, name in ((Band.HARD, "suspected"), (Band.MINED, "mined")):
            if counts[band]:
                share = _percent(same[band], counts[band])
                text += f" Of the {counts[band]:,} {name}, {same[band]:,} ({share}) are of its class."
        return text


@one_thread()
def judge(s: Similarities, side: Side, form: Form, learned: LearnedState | None = None) -> Judgement:
    """Judge one anchor.

    Args:
        s: of one anchor, with all that rules may read.
        side: rules and temperature.
        form: of the loss, which decides forces.
        learned: the state of a rule that learns (`Snapshot.rule_state`).
    """
    selection, score = chosen(s, side, learned), reference_score(s, side.negatives, side.temperature)
    order = np.argsort(-own_last(score, s.own)[0].numpy(), kind="stable")
    band, cosine = selection.band[0].numpy(), s.anchor_keys[0].numpy()
    return Judgement(s, selection, band, score[0].numpy(), order, cosine, _forces(s, selection, side.temperature, form))


def chosen(s: Similarities, side: Side, learned: LearnedState | None = None) -> Selection:
    """What a side's rules choose; rules that draw draw the same for an anchor each time, whatever is judged beside it.

    Args:
        s: of any anchors, with ids.
        side: rules and temperature.
        learned: state of a rule that learns.
    """
    assert s.ids is not None, "a snapshot's similarities have them"
    draws = Draws(SEED, *s.ids)
    return select(s, side.positives, side.negatives, temperature=side.temperature, generator=draws, state=learned)


def chosen_in_turns(
    snapshot: Snapshot, side: Side, rows: torch.Tensor | None = None
) -> Iterator[tuple[Similarities, Selection]]:
    """Similarities and choices of anchors, a few at a time to bound the memory.

    Args:
        snapshot: of the side.
        side: rules, temperature and epoch.
        rows: int64, places of the anchors; None for all.
    """
    epoch = snapshot.epochs.index(side.epoch)
    rows = torch.arange(len(snapshot.anchor_ids)) if rows is None else rows
    for turn in torch.split(rows, max(1, PAIRS // len(snapshot))):
        s = snapshot.similarities(turn, epoch=epoch)
        yield s, chosen(s, side, snapshot.rule_state(epoch))


@one_thread()
def census_of(snapshot: Snapshot, side: Side) -> Census:
    """What a side's rules do to all anchors."""
    turns = chosen_in_turns(snapshot, side)
    judged = ((s, choice, reference_score(s, side.negatives, side.temperature)) for s, choice in turns)
    return take_census(judged, len(snapshot), labelled=snapshot.labelled)


def difference(a: Judgement, b: Judgement) -> Int8[np.ndarray, " N"]:
    """0 kept as negative by neither, 1 by both, 2 by A only, 3 by B only."""
    in_a, in_b = np.isin(a.band, KEPT), np.isin(b.band, KEPT)
    return np.select([in_a & in_b, in_a, in_b], [1, 2, 3], default=0).astype(np.int8)


def reference_score(s: Similarities, rule: NegativeRule, temperature: float) -> torch.Tensor:
    """What a rule ranks keys by; the cosine to the anchor for rules that rank nothing."""
    if isinstance(rule, BANDS):
        return rule.score(s, temperature)
    by: Any = getattr(rule, "by", "anchor")  # a reader's own rule may call something else so
    return closeness(s, by if by in get_args(Closeness) else "anchor")


def _forces(s: Similarities, selection: Selection, temperature: float, form: Form) -> Float32[np.ndarray, " N"]:
    """Each key's share of the repulsion across the anchor; synthetic negatives hold what is left of 1."""
    arguments = terms(s, selection)
    _, by_negative = info_nce_gradients(**arguments, temperature=temperature, form=form)
    force = tangential_force(by_negative, arguments["negative"])
    share = force / force.sum(1, keepdim=True).clamp_min(torch.finfo(force.dtype).tiny)
    return np.asarray(share[0, : s.anchor_keys.shape[1]].numpy(), dtype=np.float32)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"
