"""Figures of bands: P(same class) by rank, the cost of an edge, the spread over anchors, and maps side by side.

Legend: B anchors, K keys.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes

from cltools.evaluation.diagnosis import band_counts, same_class_by_rank
from cltools.mining import AugmentedView, Band, PositiveRule, RankBand, Similarities, select
from cltools.snapshot import Snapshot
from course.plots import COLOURS, GREY, LOOK, Picture, panels

RANKS = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
EDGES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
NOTHING_MINED = AugmentedView()
By = Literal["positive", "anchor", "force"]
"""The criteria by which a `RankBand` can rank keys."""


def purity_by_rank(snapshot: Snapshot) -> Picture:
    """Plot P(same class | rank by closeness to the positive) at every epoch, and the base rate."""
    with rc_context(LOOK):
        figure, (axes,) = panels(7.2, 3.2, 1)
        description = draw_purity_by_rank(axes, snapshot)
    return Picture(figure, f"P(same class) by rank falls from the closest keys to the farthest. {description}")


def draw_purity_by_rank(axes: Axes, snapshot: Snapshot) -> str:
    """Draw lines over bins of ranks, paler for early epochs, with the last epoch's 95 % interval; describe the ends."""
    for index, epoch in enumerate(snapshot.epochs):
        s = snapshot.similarities(epoch=index)
        assert s.positive_keys is not None and s.same_class is not None, (
            "classes need labels, and this snapshot has none"
        )
        shares = same_class_by_rank(s.positive_keys, s.own, s.same_class, RANKS)
        edges = [100 * max(share, 0.001) for share in RANKS]
        middle = [(a * b) ** 0.5 for a, b in pairwise(edges)]
        values = [100 * share.value for share in shares]
        last = epoch == snapshot.epochs[-1]
        alpha = 0.35 + 0.65 * (index + 1) / len(snapshot.epochs)
        axes.plot(middle, values, "o-", color=COLOURS[1], alpha=alpha, markersize=4, label=f"epoch {epoch}")
        if last:
            low, high = ([100 * getattr(share, end) for share in shares] for end in ("low", "high"))
            axes.fill_between(middle, low, high, color=COLOURS[1], alpha=0.2)
    others = len(snapshot) - 1
    base = 100 * float(((snapshot.labels[:, None] == snapshot.labels).sum() / len(snapshot) - 1) / others)
    axes.axhline(base, linestyle=":", color=GREY, label=f"base rate {base:.2g} %")
    axes.set(xscale="log", xlabel="rank of the key, % of all, closest first (log scale)")
    axes.set(ylabel="% of the anchor's class", ylim=(0, 100), title="Are the closest keys of the anchor's class?")
    axes.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    axes.legend(loc="upper right", ncols=2)
    return f"At the last epoch: {values[0]:.0f} % of the closest 0.2 %, {values[-1]:.0f} % of the farthest 30 %."


def prices(s: Similarities, edges: Sequence[float] = EDGES, *, by: By = "positive") -> list[dict[str, float]]:
    """Return the cost of dropping each share of the closest keys, over all anchors; no key is mined or too easy.

    Returns:
        One row per edge, in percent: keys kept, false negatives among the kept, same-class keys dropped, keys of other
        classes dropped.
    """
    assert s.same_class is not None, "classes need labels, and these similarities have none"
    rows = []
    for edge in edges:
        rule = RankBand(drop_closest=edge, keep_within=1.0, by=by)
        kept = select(s, AugmentedView(), rule).band == Band.POTENTIAL
        same, others = s.same_class & ~s.own, ~s.own
        true = others & ~s.same_class
        rows.append(
            {
                "drop the closest %": 100 * edge,
                "kept %": 100 * float((kept & others).sum() / others.sum()),
                "false among kept %": 100 * float((kept & same).sum() / kept.sum().clamp_min(1)),
                "false dropped %": 100 * float((~kept & same).sum() / same.sum()),
                "true dropped %": 100 * float((~kept & true).sum() / true.sum()),
            }
        )
    return rows


def by_closeness(s: Similarities) -> Picture:
    """Plot false against true negatives dropped with the closest keys, one line per ranking; chance is the diagonal."""
    with rc_context(LOOK):
        figure, (axes,) = panels(5.4, 3.6, 1)
        description = draw_by_closeness(axes, s)
    return Picture(figure, f"Curves of false against true negatives dropped. {description}.")


def draw_by_closeness(axes: Axes, s: Similarities) -> str:
    """Draw the shares of false against true negatives among the closest keys; describe one point of each line."""
    edges = [0.0, *np.geomspace(0.002, 0.9, 24).tolist()]
    description = []
    ways: tuple[By, ...] = ("positive", "anchor", "force")
    for by, colour, style in zip(ways, COLOURS, ("-", "--", "-."), strict=False):
        rows = prices(s, edges, by=by)
        x, y = ([row[name] for row in rows] for name in ("true dropped %", "false dropped %"))
        axes.plot(x, y, style, color=colour, label=f"by the {by}")
        description.append(f"{by}: {np.interp(10, x, y):.0f} % of the false at 10 % of the true")
    axes.plot([0, 100], [0, 100], ":", color=GREY, label="by chance")
    axes.set(xlabel="% of the true negatives dropped", ylabel="% of the false negatives dropped")
    axes.set(title="Dropped with the closest keys", xlim=(0, 60), ylim=(0, 100))
    axes.legend(loc="lower right")
    return "; ".join(description)


def anchors_apart(s: Similarities, rule: RankBand, positives: PositiveRule = NOTHING_MINED) -> Picture:
    """Plot a histogram over anchors of the share of false negatives among the kept keys."""
    assert s.same_class is not None, "classes need labels, and these similarities have none"
    kept = select(s, positives, rule).band == Band.POTENTIAL
    share = (100 * (kept & s.same_class).sum(1) / kept.sum(1).clamp_min(1)).numpy()
    mean = 100 * band_counts(select(s, positives, rule).band, s.same_class)[Band.POTENTIAL].same_class.value
    with rc_context(LOOK):
        figure, (axes,) = panels(6.4, 2.6, 1)
        axes.hist(share, bins=40, color=COLOURS[1], alpha=0.8)
        axes.axvline(mean, color=COLOURS[0], label=f"all anchors: {mean:.1f} %")
        axes.set(
            xlabel="% of its kept negatives that are false", ylabel="anchors", title="One anchor is not the average"
        )
        axes.legend()
    low, high = np.percentile(share, [10, 90])
    words = f"A histogram over anchors: a tenth keep less than {low:.0f} % false ones, a tenth more than {high:.0f} %."
    return Picture(figure, words)


def maps_apart(snapshot: Snapshot, epoch: int = -1) -> Picture:
    """Plot the same embeddings on every map of the snapshot, with the share of true neighbours that each preserves."""
    kept = 100 * np.median(snapshot.kept[:, epoch], axis=1)
    with rc_context(LOOK):
        figure, axes = panels(9.2, 2.6, len(snapshot.map_names))
        for chart, (name, axis) in enumerate(zip(snapshot.map_names, axes, strict=True)):
            draw_map(axis, snapshot.maps[chart, epoch], snapshot.labels)
            axis.set_title(f"{name}\nkeeps {kept[chart]:.0f} % of 15 neighbours", fontsize=9)
    description = "; ".join(f"{name} {share:.0f} %" for name, share in zip(snapshot.map_names, kept, strict=True))
    return Picture(figure, f"Maps of the same points. Median share of true neighbours kept: {description}.")


def draw_map(axes: Axes, points: Any, labels: Any) -> None:
    """Draw points coloured by class (at most the first nine), without axes: coordinates on a map have no meaning."""
    axes.plot(*points.T, ".", color=GREY, markersize=2)
    colours = (*COLOURS, "#8C6D31", "#7B4EA3", "#8FA83A")
    for label, colour in zip(sorted({*labels.tolist()}), colours, strict=False):
        axes.plot(*points[labels == label].T, ".", color=colour, markersize=2)
    axes.set_axis_off()


def over_training(snapshot: Snapshot, rule: RankBand) -> list[dict[str, float]]:
    """Return the percentage of same-class keys in each part of a band, for each epoch of the snapshot."""
    rows = []
    for index, epoch in enumerate(snapshot.epochs):
        s = snapshot.similarities(epoch=index)
        counts = band_counts(select(s, AugmentedView(), rule).band, s.same_class)
        row = {"epoch": float(epoch)}
        for band, name in ((Band.HARD, "suspected"), (Band.POTENTIAL, "kept"), (Band.EASY, "too easy")):
            row[f"same class among {name} %"] = 100 * counts[band].same_class.value
        rows.append(row)
    return rows
