"""An explorer's session without a page: its state, the changes of this state, and the rules' results.

Everything that an explorer can do is implemented here; `Explorer` adds the display.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cltools.errors import CltoolsError, check_number
from cltools.evaluation.diagnosis import Census
from cltools.explorer.judgement import SEED, Judgement, census_of, chosen_in_batches, judge, one_thread
from cltools.explorer.state import EDGES, SIDES, Name, Side, State, changed, check, first_state
from cltools.files import cell, write_text
from cltools.interop.pairs import MinedPairs, Pick, Report, check_pairs, pairs_of
from cltools.mining import KEPT, Band, NegativeRule, PositiveRule, Selection, Similarities, learns
from cltools.snapshot import Snapshot

if TYPE_CHECKING:
    import pandas

REMEMBERED = 4
"""Number of cached anchors: those of two sides, now and before the last step."""


class Session:
    """A state of one snapshot, or of two of the same images, with the methods that change it.

    Attributes:
        snapshots: one or two snapshots.
    """

    def __init__(self, snapshot: Snapshot, state: State | str | None = None, other: Snapshot | None = None) -> None:
        self.snapshots: tuple[Snapshot, ...] = (snapshot,) if other is None else (snapshot, other)
        if other is not None and not snapshot.of_same_images(other):
            raise CltoolsError("The snapshots are not of the same images in the same order; take them with one seed.")
        state = State.from_json(state) if isinstance(state, str) else state
        self._state = first_state(snapshot, other) if state is None else state
        check(self._state, self.snapshots)
        self._rules: dict[str, NegativeRule | PositiveRule] = {}
        for side in filter(None, (self._state.b, self._state.a)):
            self._remember(side)
        self._similarities = lru_cache(REMEMBERED)(self._read)
        self._judged = lru_cache(REMEMBERED)(self._judge)
        self._mined = lru_cache(len(SIDES))(self._mine)
        self._counted = lru_cache(len(SIDES))(lambda name, side: census_of(self.snapshot(name), side))

    # results

    @property
    def state(self) -> State:
        """The state, which determines everything that is shown; `state.to_json()` is a line that restores it."""
        return self._state

    @property
    def place(self) -> int:
        """Index of the anchor among the anchors."""
        return int(np.flatnonzero(self.snapshots[0].anchor_ids == self._state.anchor)[0])

    @property
    def rules(self) -> tuple[PositiveRule, NegativeRule]:
        """The active side's rules, at full strength from the first step, as `fit` accepts them."""
        return self._state.side.positives, self._state.side.negatives

    @property
    def judgement(self) -> Judgement:
        """The active side's judgement of the anchor."""
        return self.judged(self._state.active)

    @property
    def similarities(self) -> Similarities:
        """The anchor's similarities with all keys [1, N]."""
        return self.judgement.similarities

    @property
    def selection(self) -> Selection:
        """The selection of the active side's rules for the anchor."""
        return self.judgement.selection

    @property
    def census(self) -> Census:
        """The census of the active side's rules over all anchors."""
        return self._counted(self._state.active, self._state.side)

    @property
    def sentence(self) -> str:
        """The selection in words, for this anchor or, if the state's scope is "all", for all anchors."""
        state, snapshot = self._state, self.snapshot(self._state.active)
        if state.scope == "all":
            parts = [self.census.words(truth=state.truth)]
        else:
            parts = [self.judgement.words(snapshot, self.place, truth=state.truth)]
            if state.b is not None:
                parts.append(self.judged("A").words_beside(self.judged("B")))
        return (f"Side {state.active}. " if state.b else "") + " ".join(parts)

    def snapshot(self, name: Name) -> Snapshot:
        """Return the snapshot of a side."""
        return self.snapshots[-1] if name == "B" else self.snapshots[0]

    def judged(self, name: Name) -> Judgement:
        """Return a side's judgement of the anchor."""
        return self._judged(self._state.anchor, name, self._state.of(name))

    # changes of the state

    def set(self, changes: Mapping[str, Any] | None = None, /, **more: Any) -> "Session":
        """Set controls, in the order given, with the same effect as on the page.

        Args:
            changes: values by the controls' names, such as {"negatives.k": 3}.
            more: the same as keywords: drop_closest=0.02, anchor=17, rule="RingNegatives", k=5, …

        Raises:
            ValueError: there is no such control, or its value is invalid; then nothing is changed.
        """
        values: dict[str, Any] = {**(changes or {}), **more}
        # after the rule; and both at once, because each alone could cross the other
        if edges := {name: values.pop(name) for name in EDGES if name in values}:
            values["negatives"] = {**values.pop("negatives", {}), **edges}
        state = self._state
        for name, value in values.items():
            state = changed(state, name, value.item() if isinstance(value, np.generic) else value, self._rules)
            check(state, self.snapshots)
        self._apply(state)
        return self

    def restore(self, line: State | str) -> "Session":
        """Return to a state, such as an earlier one, which may be given as its line of JSON.

        Raises:
            ValueError: it is not a state, or not of these snapshots; then nothing is changed.
        """
        state = State.from_json(line) if isinstance(line, str) else line
        check(state, self.snapshots)
        self._apply(state)
        return self

    def extend(self, snapshot: Snapshot) -> None:
        """Replace the only snapshot by another of the same images; the page does the same on its own.

        A side that showed the last epoch shows the new last epoch.
        """
        newest, self.snapshots = self.snapshots[0].epochs[-1], (snapshot,)
        self._state = self.fitted(self._state, newest)
        self._clear_caches()

    def put_beside(self, snapshot: Snapshot, side: Side) -> None:
        """Show the last epoch of a snapshot of the same images as side B."""
        self.snapshots, b = (self.snapshots[0], snapshot), replace(side, epoch=snapshot.epochs[-1])
        self._state = replace(self._state, b=b, active="B", colour="difference")
        self._clear_caches()
        self.updated()

    def fitted(self, state: State, newest: int) -> State:
        """Return the state with epochs and a map that exist; `newest`, the newest epoch before, becomes the newest."""

        def moved(side: Side, snapshot: Snapshot) -> Side:
            stays = side.epoch in snapshot.epochs and (side.epoch != newest or not grown)
            return side if stays else replace(side, epoch=snapshot.epochs[-1])

        grown, names = newest != self.snapshots[0].epochs[-1], self.snapshots[0].map_names
        a, b = moved(state.a, self.snapshots[0]), state.b and moved(state.b, self.snapshots[-1])
        return replace(state, a=a, b=b, map=state.map if state.map in names else names[0])

    def updated(self) -> None:
        """Handle a change of the state; an explorer displays it."""

    # exports

    def python(self) -> str:
        """Return the active side's rules as two lines of Python; settings with default values are left out."""
        return "positives = {}\nnegatives = {}".format(*map(_call, self.rules))

    def pairs(self, negatives: int = 10, pick: Pick = "closest") -> "pandas.DataFrame":
        """Return the pairs that the active side's rules choose for all anchors, as `mine_pairs` does, but with ids.

        Embeddings are rounded to float16, as everywhere in the explorer, so that a key at an edge may fall on its other
        side.

        Args:
            negatives: maximum number of kept keys per anchor in the table.
            pick: which of the kept keys to take.

        Raises:
            ValueError: the rules' choice cannot be expressed by pairs, `pick` is unknown, or there are no pairs.
        """
        snapshot = self.snapshot(self._state.active)
        pairs = self._mined(self._state.active, self._state.side, negatives, pick).pairs
        return pairs.assign(anchor=snapshot.anchor_ids[pairs["anchor"]], key=snapshot.ids[pairs["key"]])

    def report(self, negatives: int = 10) -> Report:
        """Return why candidates were left out, over all anchors, and which setting to loosen if too few are left.

        Args:
            negatives: number of negatives that each anchor should have.
        """
        return self._mined(self._state.active, self._state.side, negatives, "closest").report

    def anchors(self) -> "pandas.DataFrame":
        """Return a row per anchor: its id, its keys by band and, if classes are known, its false negatives."""
        from pandas import DataFrame  # imported late, because this takes longer than creating an explorer

        census = self.census
        columns: dict[str, Any] = {"anchor": self.snapshot(self._state.active).anchor_ids}
        columns |= {band.name.lower(): census.in_bands[:, band].numpy() for band in Band if band != Band.OWN}
        if census.base_rate.count:
            columns["false"] = census.same_in_bands[:, KEPT].sum(1).numpy()
        return DataFrame(columns)

    def csv(self) -> str:
        """Return id, band, weight, score, cosine and share of force of this anchor's keys as CSV, closest first."""
        from pandas import DataFrame

        snapshot, j = self.snapshot(self._state.active), self.judgement
        bands, weight = [Band(code).name for code in j.band], j.selection.negative_weight[0].numpy()
        columns: dict[str, Any] = {snapshot.noun: snapshot.ids, "band": bands, "weight": weight}
        columns |= {"score": j.score, "cosine": j.cosine, "force": j.force}
        if self._state.truth:
            columns["class"] = [cell(snapshot.classes[label]) if label >= 0 else "" for label in snapshot.labels]
        keys = j.order[j.band[j.order] != Band.OWN]
        return str(DataFrame(columns).iloc[keys].to_csv(index=False, float_format="%.6g", lineterminator="\n"))

    def to_csv(self, path: str | Path) -> None:
        """Write `csv` to a file."""
        write_text(Path(path), self.csv())

    # internals

    @one_thread()
    def _mine(self, name: Name, side: Side, negatives: int, pick: Pick) -> MinedPairs:
        negatives = check_number("The number of negatives", negatives, "a whole number from 1 to a billion")
        snapshot, rules = self.snapshot(name), (side.positives, side.negatives)
        if not learns(type(side.negatives)):  # the state of a learning rule is in the snapshot
            check_pairs(*rules)
        batches, draws = chosen_in_batches(snapshot, side), torch.Generator().manual_seed(SEED)
        return pairs_of(batches, *rules, keys=len(snapshot), negatives=negatives, pick=pick, draws=draws)

    def _clear_caches(self) -> None:
        for cached in (self._similarities, self._judged, self._mined, self._counted):
            cached.cache_clear()

    def _remember(self, side: Side) -> None:
        self._rules |= {type(rule).__name__: rule for rule in (side.positives, side.negatives)}

    def _apply(self, state: State) -> None:
        if state == self._state:
            return
        self._judged(state.anchor, state.active, state.side)  # raises before anything is changed
        self._state = state
        self._remember(state.side)
        self.updated()

    def _judge(self, anchor: int, name: Name, side: Side) -> Judgement:
        snapshot = self.snapshot(name)
        learned = snapshot.rule_state(snapshot.epochs.index(side.epoch))
        return judge(self._similarities(name, anchor, side.epoch), side, snapshot.experiment.loss.form, learned)

    @one_thread()
    def _read(self, name: Name, anchor: int, epoch: int) -> Similarities:
        """Return the similarities of an anchor at an epoch of a side's snapshot."""
        snapshot = self.snapshot(name)
        rows = torch.from_numpy(np.flatnonzero(snapshot.anchor_ids == anchor))
        return snapshot.similarities(rows, epoch=snapshot.epochs.index(epoch))


def _call(rule: Any) -> str:
    given = {f.name: getattr(rule, f.name) for f in fields(rule) if getattr(rule, f.name) != f.default}
    return f"{type(rule).__name__}({', '.join(f'{name}={value!r}' for name, value in given.items())})"
