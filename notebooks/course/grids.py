"""Heat maps over the two edges of a band: gains of training with it, from records, and kept keys, from a snapshot.

Legend: B anchors, K keys, L shares of closest keys that are dropped, U shares within which keys are kept.
"""

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import plotly.graph_objects as go
import torch
from jaxtyping import Float64
from torch import Tensor

from cltools.mining import NegativeRule, RankBand, Similarities
from cltools.mining.bands import rank_count
from cltools.mining.similarities import own_last
from cltools.reports.arms import BASELINE, chance_name
from cltools.reports.table import FIGURES
from course.charts import DIVERGING, PALE, PALE_ORANGE, Chart, label, panels
from course.results import Comparison

LOWERS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
UPPERS = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
"""Edges of the heat maps that are computed from a snapshot."""


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


def of_snapshot(s: Similarities, rule: NegativeRule) -> Chart:
    """Plot the kept share and the false-negative share over the edges, and mark a rule on both."""
    assert s.same_class is not None
    base = 100 * float((s.same_class & ~s.own).sum() / (~s.own).sum())
    kept, false = shares(s)
    maps = {
        "Kept, % of the keys": heat(kept, "kept: %{z:.1f} % of the keys", ".0f", PALE, (0, 100)),
        f"False among kept, %; chance {base:.1f}": heat(false, "false among the kept: %{z:.1f} %", ".1f", PALE_ORANGE),
    }
    figure, description = drawn(maps, kept, rule)
    return Chart(figure, f"Two heat maps over the edges of a band. {description} {_location(kept, rule)}")


def of_records(records: Comparison, rule: NegativeRule | None = None, figure: str = "knn200") -> Chart:
    """Plot mean gains of the recorded bands, against moco and against the random control, and mark a rule."""
    name = FIGURES[figure]
    above, beyond = (gains(records, figure, chance=chance) for chance in (False, True))
    top = max(float(grid.values.nan_to_num(0).abs().max()) for grid in (above, beyond)) or 1.0
    maps = {
        f"{name}, points above {of}": heat(grid, f"%{{z:+.2f}} points above {of}", "+.1f", DIVERGING, (-top, top))
        for of, grid in (("moco", above), ("random control", beyond))
    }
    chart, description = drawn(maps, above, rule)
    location = "" if rule is None else f" {_location(above, rule)}"
    return Chart(chart, f"Two heat maps of mean gains over {len(records.seeds)} seeds. {description}{location}")


def drawn(maps: Mapping[str, go.Heatmap], grid: Grid, rule: NegativeRule | None) -> tuple[go.Figure, str]:
    """Return heat maps over the edges of a grid by title, with a rule marked, and their extremes in words."""
    figure = panels(*maps, heights=(34 * len(grid.drop_closest) + 40,) * len(maps), rows=0)
    position = None if rule is None else grid.at(rule)
    descriptions = []
    for row, (title, cells) in enumerate(maps.items(), 1):
        figure.add_traces([cells, *([] if position is None else _ring(position))], rows=row, cols=1)
        numbers = [number for line in cells.text for number in line if number]
        descriptions.append(f"{title}: from {min(numbers, key=float)} to {max(numbers, key=float)}.")
    for update, edges, title in (
        (figure.update_xaxes, grid.keep_within, "keep within, % of the keys"),
        (figure.update_yaxes, grid.drop_closest, "drop the closest, %"),
    ):
        named = [f"{100 * edge:g}" for edge in edges]
        update(title_text=title, tickvals=[*range(len(edges))], ticktext=named, showgrid=False)
        update(range=(-0.5, len(edges) - 0.5))
    return figure, " ".join(descriptions)


def heat(
    grid: Grid, says: str, layout: str, scale: Sequence[tuple[float, str]], ends: tuple[float, float] | None = None
) -> go.Heatmap:
    """Return one heat map with numbers, so that colour is not needed.

    Args:
        grid: the numbers.
        says: what the label on hover says of a cell, below its edges.
        layout: the format of the numbers.
        scale: colours, light enough for dark numbers.
        ends: the values at the ends of the scale; None for the smallest and the largest.
    """
    known = grid.values[grid.values.isfinite()]
    low, high = ends or (float(known.min()), float(known.max()))
    return go.Heatmap(
        z=[[value if math.isfinite(value) else None for value in row] for row in grid.values.tolist()],
        text=[[format(value, layout) if math.isfinite(value) else "" for value in row] for row in grid.values.tolist()],
        customdata=[
            [f"drop the closest {100 * lower:g} %, keep within {100 * upper:g} %" for upper in grid.keep_within]
            for lower in grid.drop_closest
        ],
        texttemplate="%{text}",
        colorscale=scale,
        zmin=low,
        zmax=high,
        showscale=False,
        hoverongaps=False,
        hovertemplate=label("%{customdata}", says),
    )


def _ring(position: tuple[float, float]) -> list[go.Scatter]:
    """Return the mark of a rule, a yellow ring on a black one, which is seen on any ground."""
    return [
        go.Scatter(
            x=[position[0]],
            y=[position[1]],
            mode="markers",
            marker={"symbol": "circle-open", "size": 30, "color": colour, "line": {"width": width, "color": colour}},
            hoverinfo="skip",
            name="the chosen band",
            showlegend=False,
        )
        for colour, width in (("#000000", 5), ("#F0E442", 2))
    ]


def _location(grid: Grid, rule: NegativeRule) -> str:
    if not _fits(rule):
        return "The chosen rule is not a band of rank shares around the positive, so it is not on this map."
    if grid.at(rule) is None:
        return f"The chosen band, {_edges(rule)}, is beyond the edges shown."
    return f"The ring marks the chosen band, {_edges(rule)}."


def _edges(rule: RankBand) -> str:
    return f"from {100 * rule.drop_closest:g} % to {100 * rule.keep_within:g} %"
