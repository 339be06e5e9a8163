"""Charts of recorded comparisons: differences between arms, and learning curves."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from cltools.errors import CltoolsError
from cltools.reports.arms import BASELINE
from cltools.reports.table import FIGURES
from course.charts import COLOURS, GREY, Chart, area, label, line, panels, text
from course.paired import detectable
from course.results import Comparison

CURVES = (
    ("knn", "kNN-200, %", 1),
    ("false_negative_share", "False among the kept, %", 100),
    ("mined_purity", "Mined of the anchor's class, %", 100),
)
"""Columns of `Comparison.curves` that are drawn, their titles, and the factors to percent; losses are left out, because
those of arms with different negatives cannot be compared."""


def gains(
    records: Comparison,
    arms: Sequence[str],
    figure: str = "knn200",
    *,
    against: str = BASELINE,
    later: Comparison | None = None,
) -> Chart:
    """Plot the gain of each arm over another with the same seed, the largest mean on top.

    Args:
        records: the records.
        arms: the arms.
        figure: the compared figure.
        against: the arm they are compared with.
        later: records of a longer start, which may lack some arms; drawn as open squares.
    """
    of = {arm: records.gains(arm, figure, against=against) for arm in arms}
    means = {arm: statistics.fmean(gain.values()) for arm, gain in of.items()}
    order = sorted(means, key=means.__getitem__)
    drawn = panels(f"Points of {FIGURES[figure]}<br>above {against}", heights=(22 * len(order) + 20,), rows=2)
    sets = {"one seed": of}
    if later is not None:
        also = {*later.frame.index.unique("arm")}
        of_later = {arm: later.gains(arm, figure, against=against) for arm in order if arm in also}
        sets = {"one seed, after a short start": of, "after a long one": of_later}
    for index, (name, gained) in enumerate(sets.items()):
        drawn.add_trace(_dots(name, gained, order, index))
    drawn.add_trace(_means(of, order))
    drawn.update_xaxes(zeroline=True, title_text="difference to<br>the same seed, points")
    rows = [*range(len(order))]
    drawn.update_yaxes(tickvals=rows, ticktext=[*map(text, order)], range=(-0.7, len(order) - 0.3), showgrid=False)
    descriptions = "; ".join(f"{arm} {means[arm]:+.1f}" for arm in reversed(order))
    return Chart(drawn, f"Differences from {against} in points of {FIGURES[figure]}, mean over seeds: {descriptions}.")


def _dots(name: str, of: Mapping[str, Mapping[int, float]], order: Sequence[str], index: int) -> go.Scatter:
    """Return one dot per arm and seed; those of a second set are open squares."""
    points = [(gain, order.index(arm), arm, seed) for arm, by_seed in of.items() for seed, gain in by_seed.items()]
    return go.Scatter(
        x=[point[0] for point in points],
        y=[point[1] for point in points],
        customdata=[(text(arm), seed) for _, _, arm, seed in points],
        mode="markers",
        name=name,
        marker={"color": COLOURS[(1, 2)[index]], "symbol": ("circle", "square-open")[index], "size": 7},
        hovertemplate=label("%{customdata[0]}, seed %{customdata[1]}", "%{x:+.2f} points"),
    )


def _means(of: Mapping[str, Mapping[int, float]], order: Sequence[str]) -> go.Scatter:
    """Return the mean of each arm with its 95 % interval, which needs two seeds or more."""
    gained = [[*of[arm].values()] for arm in order]
    halves = [detectable(values) if len(values) > 1 else None for values in gained]
    said = [text(arm) + (f" ± {half:.2f}" if half is not None else "") for arm, half in zip(order, halves, strict=True)]
    return go.Scatter(
        x=[statistics.fmean(values) for values in gained],
        y=[*range(len(order))],
        customdata=said,
        error_x={"type": "data", "array": halves, "color": COLOURS[0], "thickness": 1.5, "width": 4},
        mode="markers",
        name="mean and 95 % interval",
        marker={"color": COLOURS[0], "symbol": "diamond", "size": 8},
        hovertemplate=label("%{customdata}", "mean: %{x:+.2f} points"),
    )


def learning_curves(records: Comparison, arms: Sequence[str]) -> Chart:
    """Plot means over seeds by epoch: these arms by name, the first with its deviation, all others as thin grey lines.

    Args:
        records: records with curves; arms without a column are left out of its panel.
        arms: at most as many as there are colours.

    Raises:
        ValueError: there are more arms than colours, or no record of one of them.
    """
    if len(arms) > len(COLOURS):
        raise CltoolsError(f"{len(arms)} arms, but only {len(COLOURS)} colours can be distinguished. Name fewer.")
    others = [arm for arm in records.arms if arm not in arms]
    descriptions = []
    figure = panels(*(title for _, title, _ in CURVES), heights=(200,) * len(CURVES), shared=True, rows=3)
    for panel, (column, title, scale) in enumerate(CURVES):
        place: dict[str, Any] = {"rows": panel + 1, "cols": 1}
        rest = [(arm, by_epoch) for arm in others if (by_epoch := _by_epoch(records, arm, column, scale))]
        if rest:
            figure.add_traces([_others(rest, len(others), showlegend=panel == 0)], **place)
        for index, arm in enumerate(arms):
            by_epoch = _by_epoch(records, arm, column, scale)
            if not by_epoch:
                continue
            means = {epoch: statistics.fmean(values) for epoch, values in by_epoch.items()}
            curve = line(means, means.values(), arm, "epoch %{x}: %{y:.1f} %", index=index, showlegend=panel == 0)
            first, last = ([*means.values()][end] for end in (0, -1))
            descriptions.append(f"{title.removesuffix(', %')} of {arm} {first:.1f} to {last:.1f} %")
            if index == 0 and min(map(len, by_epoch.values())) > 1:
                ends = [(means[epoch], statistics.stdev(values)) for epoch, values in by_epoch.items()]
                low, high = ([mean + sign * spread for mean, spread in ends] for sign in (-1, 1))
                figure.add_traces([area([*means], low, high, curve)], **place)
            figure.add_traces([curve], **place)
    figure.update_xaxes(dtick=1)
    figure.update_xaxes(title_text="epoch", row=len(CURVES))
    return Chart(
        figure, f"Learning curves, means over seeds: {'; '.join(descriptions)}. Thin lines: {len(others)} other arms."
    )


def _by_epoch(records: Comparison, arm: str, column: str, scale: float) -> dict[int, list[float]]:
    """Return the values of all seeds at each epoch that every seed has; none if the arm lacks the column."""
    seeds = [*records.curves(arm, column).values()]
    epochs = sorted(set.intersection(*({*seed} for seed in seeds))) if seeds else []
    return {epoch: [scale * seed[epoch] for seed in seeds] for epoch in epochs}


def _others(arms: Sequence[tuple[str, dict[int, list[float]]]], count: int, *, showlegend: bool) -> go.Scatter:
    """Return the other arms as one trace with gaps between them."""
    points: list[tuple[Any, ...]] = []
    for arm, by_epoch in arms:
        points += [(epoch, statistics.fmean(values), text(arm)) for epoch, values in by_epoch.items()]
        points.append((None, None, ""))
    x, y, names = zip(*points, strict=True)
    curve = line(
        x, y, f"{count} other arms", "", colour=GREY, mode="lines", width=0.8, customdata=names, showlegend=showlegend
    )
    return curve.update(hovertemplate=label("%{customdata}", "epoch %{x}: %{y:.1f} %"))
