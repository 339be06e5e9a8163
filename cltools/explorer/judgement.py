"""The judgement of one anchor by a side's rules: the selection, by the `select` of training, and the keys' forces.

It also gives the page's sentences (`front/views/words.js`), for viewers without scripts.

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

SEED = 0
"""The seed of the rules' draws on a snapshot."""
PAIRS = 2**20
"""Maximum number of anchors times keys that are judged at once."""
LEFT_OUT = {
    Band.HARD: "so close they may show the same thing",
    Band.EASY: "so far they may teach little",
    Band.OTHER: "for a reason other than closeness",
}
"""The reasons, by band, why keys are left out."""
_LOCK = RLock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread, for work on some thousands of numbers, which several threads would slow down.

    The slowdown is largest when the cores are busy with other work.
    """
    with _LOCK:  # otherwise a second caller would store the first one's single thread as the value to restore
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@dataclass(frozen=True)
class Judgement:
    """The judgement of one anchor's keys.

    Attributes:
        similarities: similarities of the anchor with all keys [1, N].
        selection: the rules' choice.
        band: codes of `Band` [N].
        score: the score that the rule ranks by, larger is closer [N].
        order: indices of the keys, closest first and own keys last; equal scores keep their order [N].
        cosine: z·n [N].
        force: each key's share of the total repulsion across the anchor, under the rules [N]; 0 if not kept.
    """

    similarities: Similarities
    selection: Selection
    band: Int8[np.ndarray, " N"]
    score: Float32[np.ndarray, " N"]
    order: Int64[np.ndarray, " N"]
    cosine: Float32[np.ndarray, " N"]
    force: Float32[np.ndarray, " N"]

    def words(self, snapshot: Snapshot, index: int, *, truth: bool) -> str:
        """Return the selection for the anchor, which has this index in the snapshot, as the page's sentences."""
        counts = np.bincount(self.band, minlength=len(Band)).tolist()
        others, kept = len(self.band) - counts[Band.OWN], sum(counts[band] for band in KEPT)
        name = f"{snapshot.anchor_noun} {snapshot.anchor_ids[index]}"
        label = snapshot.anchor_labels[index]
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
        return text + (self._truth(snapshot, index, counts) if truth else "")

    def words_beside(self, other: "Judgement") -> str:
        """Return a sentence on how far side A, this one, and side B agree about the anchor."""
        _, both, only_a, only_b = np.bincount(difference(self, other), minlength=4)
        return f"Pushed away by both {both:,}, by A only {only_a:,}, by B only {only_b:,}."

    def _truth(self, snapshot: Snapshot, index: int, counts: list[int]) -> str:
        if snapshot.anchor_labels[index] < 0:
            return " It has no label."
        own_class = (snapshot.labels == snapshot.anchor_labels[index]) & (self.band != Band.OWN)
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
        s: similarities of one anchor, with everything that rules may read.
        side: rules and temperature.
        form: form of the loss, which determines forces.
        learned: state of a learning rule (`Snapshot.rule_state`).
    """
    selection, score = chosen(s, side, learned), reference_score(s, side.negatives, side.temperature)
    order = np.argsort(-own_last(score, s.own)[0].numpy(), kind="stable")
    band, cosine = selection.band[0].numpy(), s.anchor_keys[0].numpy()
    return Judgement(s, selection, band, score[0].numpy(), order, cosine, _forces(s, selection, side.temperature, form))


def chosen(s: Similarities, side: Side, learned: LearnedState | None = None) -> Selection:
    """Return the choice of a side's rules; random draws for an anchor do not depend on the other anchors.

    Args:
        s: similarities of any anchors, with ids.
        side: rules and temperature.
        learned: state of a learning rule.
    """
    assert s.ids is not None, "a snapshot's similarities have them"
    draws = Draws(SEED, *s.ids)
    return select(s, side.positives, side.negatives, temperature=side.temperature, generator=draws, state=learned)


def chosen_in_batches(
    snapshot: Snapshot, side: Side, rows: torch.Tensor | None = None
) -> Iterator[tuple[Similarities, Selection]]:
    """Yield similarities and selections of anchors in batches, to bound the memory.

    Args:
        snapshot: the side's snapshot.
        side: rules, temperature and epoch.
        rows: int64, indices of the anchors; None for all.
    """
    epoch = snapshot.epochs.index(side.epoch)
    rows = torch.arange(len(snapshot.anchor_ids)) if rows is None else rows
    for batch in torch.split(rows, max(1, PAIRS // len(snapshot))):
        s = snapshot.similarities(batch, epoch=epoch)
        yield s, chosen(s, side, snapshot.rule_state(epoch))


@one_thread()
def census_of(snapshot: Snapshot, side: Side) -> Census:
    """Return the census of a side's rules over all anchors."""
    batches = chosen_in_batches(snapshot, side)
    judged = ((s, choice, reference_score(s, side.negatives, side.temperature)) for s, choice in batches)
    return take_census(judged, len(snapshot), labelled=snapshot.labelled)


def difference(a: Judgement, b: Judgement) -> Int8[np.ndarray, " N"]:
    """Return, per key, 0 if it is kept as a negative by neither, 1 by both, 2 by A only, 3 by B only."""
    in_a, in_b = np.isin(a.band, KEPT), np.isin(b.band, KEPT)
    return np.select([in_a & in_b, in_a, in_b], [1, 2, 3], default=0).astype(np.int8)


def reference_score(s: Similarities, rule: NegativeRule, temperature: float) -> torch.Tensor:
    """Return the score that a rule ranks keys by; the cosine to the anchor for rules that do not rank."""
    if isinstance(rule, RankBand | CosineBand | MarginBand):
        return rule.score(s, temperature)
    by: Any = getattr(rule, "by", "anchor")  # a user's rule may use this name differently
    return closeness(s, by if by in get_args(Closeness) else "anchor")


def _forces(s: Similarities, selection: Selection, temperature: float, form: Form) -> Float32[np.ndarray, " N"]:
    """Return each key's share of the repulsion across the anchor; synthetic negatives have the remainder of 1."""
    arguments = terms(s, selection)
    _, by_negative = info_nce_gradients(**arguments, temperature=temperature, form=form)
    force = tangential_force(by_negative, arguments["negative"])
    share = force / force.sum(1, keepdim=True).clamp_min(torch.finfo(force.dtype).tiny)
    return np.asarray(share[0, : s.anchor_keys.shape[1]].numpy(), dtype=np.float32)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"
