"""Figures of recorded comparisons: differences between arms, and learning curves."""

import statistics
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cltools.errors import CltoolsError
from cltools.reports.arms import BASELINE
from cltools.reports.table import FIGURES
from course.plots import COLOURS, GREY, LOOK, Picture, legible, panels
from course.results import Comparison

CURVES = (
    ("knn", "kNN-200, %", 1),
    ("false_negative_share", "False among the kept, %", 100),
    ("mined_purity", "Mined of the anchor's class, %", 100),
)
"""Columns of `Comparison.curves` that are drawn, their titles, and the factors to percent; losses are left out, because
those of arms with different negatives cannot be compared."""


def gains(records: Comparison, arms: Sequence[str], figure: str = "knn200", *, against: str = BASELINE) -> Picture:
    """Plot the gain of each arm over another with the same seed: one dot per seed, and a bar at the mean."""
    with rc_context(LOOK):
        drawn, (axes,) = panels(7.2, 0.8 + 0.34 * len(arms), 1)
        draw_gains(axes, records, arms, figure, against=against)
    means = {arm: statistics.fmean(records.gains(arm, figure, against=against).values()) for arm in arms}
    descriptions = "; ".join(f"{arm} {mean:+.1f}" for arm, mean in means.items())
    return Picture(
        drawn, f"Differences from {against} in points of {FIGURES[figure]}, mean over seeds: {descriptions}."
    )


def draw_gains(
    axes: Axes, records: Comparison, arms: Sequence[str], figure: str, *, against: str, later: Comparison | None = None
) -> None:
    """Draw one row per arm, the first on top; hollow dots for arms that are also in the later records."""
    also = set() if later is None else {*later.frame.index.unique("arm")}
    for row, arm in enumerate(reversed(arms)):
        values = [*records.gains(arm, figure, against=against).values()]
        mean = statistics.fmean(values)
        colour = COLOURS[2 if mean > 0 else 0]
        axes.plot(values, [row] * len(values), "o", color=colour, alpha=0.7, markersize=6)
        axes.plot([mean], [row], "|", color=GREY, markersize=16, markeredgewidth=2)
        if later is not None and arm in also:
            values = [*later.gains(arm, figure, against=against).values()]
            axes.plot(values, [row] * len(values), "o", color=COLOURS[1], markerfacecolor="none", markersize=6)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks(range(len(arms)), [*reversed(arms)])
    axes.set(xlabel=f"points of {FIGURES[figure]} above {against} of the same seed", ylim=(-0.6, len(arms) - 0.4))
    axes.grid(True, axis="x")


def learning_curves(records: Comparison, arms: Sequence[str]) -> Picture:
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
    with rc_context(LOOK):
        figure, axes = panels(9.2, 3.4, len(CURVES))
        for panel, (column, title, scale) in zip(axes, CURVES, strict=True):
            for arm in (*others, *arms):
                seeds = [*records.curves(arm, column).values()]
                if not seeds:
                    continue
                epochs = sorted(set.intersection(*({*seed} for seed in seeds)))
                by_epoch = [[scale * seed[epoch] for seed in seeds] for epoch in epochs]
                means = [statistics.fmean(values) for values in by_epoch]
                if arm in others:
                    panel.plot(epochs, means, color=GREY, linewidth=0.8, alpha=0.5)
                    continue
                index, colour = arms.index(arm), COLOURS[arms.index(arm)]
                width = 1.6 + 0.7 * (len(arms) - 1 - index)  # a line below another stays visible
                panel.plot(epochs, means, ".-", color=colour, linewidth=width, label=arm)
                descriptions.append(f"{title.removesuffix(', %')} of {arm} {means[0]:.1f} to {means[-1]:.1f} %")
                if arm == arms[0] and len(seeds) > 1:
                    spread = [statistics.stdev(values) for values in by_epoch]
                    low, high = ([m + sign * s for m, s in zip(means, spread, strict=True)] for sign in (-1, 1))
                    panel.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
            panel.set(title=title, xlabel="epoch")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.grid(True)
        named = {str(line.get_label()): line for panel in axes for line in panel.lines if line.get_label() in arms}
        figure.legend([*named.values()], [*map(legible, named)], loc="outside lower center", ncols=len(arms))
    return Picture(
        figure, f"Learning curves, means over seeds: {'; '.join(descriptions)}. Thin lines: {len(others)} other arms."
    )
