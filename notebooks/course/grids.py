"""Heat maps over the two edges of a band: gains of training with it, from records, and kept keys, from a snapshot.

Legend: B anchors, K keys, L shares of closest keys that are dropped, U shares within which keys are kept.
"""

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import torch
from jaxtyping import Float64
from matplotlib import rc_context
from matplotlib.axes import Axes
from torch import Tensor

from cltools.mining import NegativeRule, RankBand, Similarities
from cltools.mining.bands import rank_count
from cltools.mining.similarities import own_last
from cltools.reports.arms import BASELINE, chance_name
from cltools.reports.table import FIGURES
from course.plots import LOOK, Picture, panels
from course.results import Comparison

LOWERS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
UPPERS = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
"""Edges of the heat maps that are computed from a snapshot."""
DARK = 0.62
"""The position on a colour scale above which numbers are white."""


@dataclass(frozen=True, eq=False)
class Grid:
    """One number for each pair of edges, NaN if the pair is not a band.

    Attributes:
        drop_closest: the shares of closest keys that are dropped.
        keep_within: the shares beyond which keys are dropped.
        values: [L, U].
    """

    drop_closest: tuple[float, ...]
    keep_within: tuple[float, ...]
    values: Float64[Tensor, "L U"]

    def at(self, rule: NegativeRule) -> tuple[float, float] | None:
        """Return a rule's position in cells from the first; None if it is off the map or no rank band around z'."""
        if not _fits(rule):
            return None
        for edges, share in ((self.keep_within, rule.keep_within), (self.drop_closest, rule.drop_closest)):
            if not edges[0] <= share <= edges[-1]:
                return None
        return _between(self.keep_within, rule.keep_within), _between(self.drop_closest, rule.drop_closest)


def _fits(rule: NegativeRule) -> TypeGuard[RankBand]:
    return isinstance(rule, RankBand) and rule.by == "positive"


def _between(edges: Sequence[float], share: float) -> float:
    """Return the fractional index of a share among edges that enclose it."""
    above = next(index for index, edge in enumerate(edges) if edge >= share)
    if above == 0 or edges[above] <= share:
        return float(above)
    low, high = edges[above - 1], edges[above]
    return above - 1 + (share - low) / (high - low)


def bands_of(records: Comparison) -> dict[str, tuple[float, float]]:
    """Return the edges of the bands in a record of a grid, by arm."""
    bands = {}
    for arm in records.frame.index.unique("arm"):
        if edges := re.fullmatch(r"band-([\d.]+)-([\d.]+)", arm):
            bands[arm] = float(edges[1]), float(edges[2])
    return bands


def gains(records: Comparison, figure: str = "knn200", *, chance: bool = False) -> Grid:
    """Return the mean gain over seeds of each band, in points.

    Args:
        records: the records of a grid.
        figure: the compared figure.
        chance: compare with the random control; else with `moco`, which is the band from 0 to 1.
    """
    bands = bands_of(records)
    drop_closest, keep_within = (tuple(sorted({edges[side] for edges in bands.values()})) for side in (0, 1))
    values = torch.full((len(drop_closest), len(keep_within)), math.nan, dtype=torch.float64)
    for arm, (lower, upper) in bands.items():
        against = chance_name(upper - lower) if chance else BASELINE
        of_seed = records.gains(arm, figure, against=against)
        values[drop_closest.index(lower), keep_within.index(upper)] = statistics.fmean(of_seed.values())
    if 0.0 in drop_closest and 1.0 in keep_within:
        values[0, -1] = 0.0  # every key is kept: `moco` itself, and chance with a share of 1
    return Grid(drop_closest, keep_within, values)


def shares(
    s: Similarities, drop_closest: Sequence[float] = LOWERS, keep_within: Sequence[float] = UPPERS
) -> tuple[Grid, Grid]:
    """What each band keeps of all other keys, and how much of that is of the anchor's class, in percent; nothing mined.

    Each anchor's keys are ranked once, and every band corresponds to two positions in the ranking.
    """
    assert s.positive_keys is not None and s.same_class is not None, (
        "false negatives need labels, and these similarities have none"
    )
    order = own_last(s.positive_keys, s.own).argsort(dim=1, descending=True, stable=True)
    keys = s.own.shape[1]
    counted = [(~s.own).gather(1, order), (s.same_class & ~s.own).gather(1, order)]
    others, same = ([0, *each.sum(0).cumsum(0).tolist()] for each in counted)
    kept, false = (torch.full((len(drop_closest), len(keep_within)), math.nan, dtype=torch.float64) for _ in range(2))
    for row, lower in enumerate(drop_closest):
        for column, upper in enumerate(keep_within):
            first, last = rank_count(lower, keys), rank_count(upper, keys)
            if lower < upper and others[last] > others[first]:
                held = others[last] - others[first]
                kept[row, column] = 100 * held / others[-1]
                false[row, column] = 100 * (same[last] - same[first]) / held
    return Grid((*drop_closest,), (*keep_within,), kept), Grid((*drop_closest,), (*keep_within,), false)


def of_snapshot(s: Similarities, rule: NegativeRule) -> Picture:
    """Plot the kept share and the false-negative share over the edges, and mark a rule on both."""
    assert s.same_class is not None
    base = 100 * float((s.same_class & ~s.own).sum() / (~s.own).sum())
    with rc_context(LOOK):
        figure, axes = panels(9.2, 3.6, 2)
        kept, false = shares(s)
        descriptions = [
            draw(axes[0], kept, rule, "Kept, % of the keys", "Blues", (0, 100), "{:.0f}"),
            draw(axes[1], false, rule, f"False among the kept, %; base rate {base:.1f}", "Oranges", None, "{:.1f}"),
        ]
    return Picture(figure, f"Two heat maps over the edges of a band. {' '.join(descriptions)} {_location(kept, rule)}")


def of_records(records: Comparison, rule: NegativeRule, figure: str = "knn200") -> Picture:
    """Plot mean gains of the recorded bands, against moco and against the random control, and mark a rule."""
    with rc_context(LOOK):
        drawn, axes = panels(9.2, 3.2, 2)
        description = draw_gains(axes, records, rule, figure)
    return Picture(drawn, description)


def draw_gains(
    axes: Sequence[Axes], records: Comparison, rule: NegativeRule | None = None, figure: str = "knn200"
) -> str:
    """Draw both maps of gains on one scale; describe their smallest and largest values."""
    name = FIGURES[figure]
    grids = [gains(records, figure, chance=chance) for chance in (False, True)]
    top = max(float(grid.values.nan_to_num(0).abs().max()) for grid in grids) or 1.0
    titles = (f"{name}, points above moco", f"{name}, points above random control")
    descriptions = [
        draw(axis, grid, rule, title, "RdBu", (-top, top), "{:+.1f}")
        for axis, grid, title in zip(axes, grids, titles, strict=True)
    ]
    location = "" if rule is None else f" {_location(grids[0], rule)}"
    return f"Two heat maps of mean gains over {len(records.seeds)} seeds. {' '.join(descriptions)}{location}"


def draw(
    axes: Axes,
    grid: Grid,
    rule: NegativeRule | None,
    title: str,
    colours: str,
    ends: tuple[float, float] | None,
    layout: str,
) -> str:
    """Draw one heat map with numbers, so that colour is not needed; describe its smallest and largest value."""
    known = grid.values[grid.values.isfinite()]
    low, high = ends or (float(known.min()), float(known.max()))
    axes.imshow(grid.values.numpy(), cmap=colours, vmin=low, vmax=high, aspect="auto", origin="lower")
    for row, column in grid.values.isfinite().nonzero().tolist():
        value = float(grid.values[row, column])
        share = (value - low) / (high - low or 1.0)
        strong = max(share, 1 - share) > 0.8 if low < 0 else share > DARK
        axes.text(column, row, layout.format(value), ha="center", va="center", color="#FFFFFF" if strong else "#222222")
    axes.set_xticks(range(len(grid.keep_within)), [f"{100 * edge:g}" for edge in grid.keep_within])
    axes.set_yticks(range(len(grid.drop_closest)), [f"{100 * edge:g}" for edge in grid.drop_closest])
    axes.set(xlabel="keep within, % of the keys", ylabel="drop the closest, %", title=title)
    position = None if rule is None else grid.at(rule)
    if position is not None:
        axes.plot(*position, "o", markersize=36, markerfacecolor="none", markeredgecolor="#000000", markeredgewidth=4)
        axes.plot(*position, "o", markersize=36, markerfacecolor="none", markeredgecolor="#F0E442", markeredgewidth=2)
    return f"{title}: from {layout.format(float(known.min()))} to {layout.format(float(known.max()))}."


def _location(grid: Grid, rule: NegativeRule) -> str:
    if not _fits(rule):
        return "The chosen rule is not a band of rank shares around the positive, so it is not on this map."
    if grid.at(rule) is None:
        return f"The chosen band, {_edges(rule)}, is beyond the edges shown."
    return f"The ring marks the chosen band, {_edges(rule)}."


def _edges(rule: RankBand) -> str:
    return f"from {100 * rule.drop_closest:g} % to {100 * rule.keep_within:g} %"
