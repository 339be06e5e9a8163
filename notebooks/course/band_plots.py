"""Charts of bands: P(same class) by rank, the cost of an edge, the spread over anchors, and maps of one space.

Legend: B anchors, K keys.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from cltools.evaluation.diagnosis import band_counts, same_class_by_rank
from cltools.mining import AugmentedView, Band, PositiveRule, RankBand, Similarities, select
from cltools.snapshot import Snapshot
from course.charts import COLOURS, POINTS, Chart, area, label, line, logarithmic, panels, reference, text

RANKS = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
EDGES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
BINS = 40
"""Bins of the histogram over anchors."""
SHOWN = 1500
"""Points that a map shows at most."""
NOTHING_MINED = AugmentedView()
By = Literal["positive", "anchor", "force"]
"""The criteria by which a `RankBand` can rank keys."""


def purity_by_rank(snapshot: Snapshot) -> Chart:
    """Plot P(same class | rank by closeness to the positive) at every epoch, with 95 % intervals, and the base rate."""
    figure = panels("Keys of the anchor's class, %", heights=(280,), rows=3)
    for index, epoch in enumerate(snapshot.epochs):
        s = snapshot.similarities(epoch=index)
        assert s.positive_keys is not None and s.same_class is not None, (
            "classes need labels, and this snapshot has none"
        )
        shares = same_class_by_rank(s.positive_keys, s.own, s.same_class, RANKS)
        counted = [(bin_, share) for bin_, share in zip(pairwise(RANKS), shares, strict=True) if share.count]
        middle = [100 * (max(a, 0.001) * b) ** 0.5 for (a, b), _ in counted]
        low, values, high = ([100 * getattr(share, end) for _, share in counted] for end in ("low", "value", "high"))
        says = (
            "ranks %{customdata[0]:.3~g}–%{customdata[1]:.3~g} %: %{y:.1f} % of the anchor's class<br>95 % interval: "
        )
        says += "%{customdata[2]:.1f} to %{customdata[3]:.1f} %"
        ends = [(100 * a, 100 * b, *each) for ((a, b), _), *each in zip(counted, low, high, strict=True)]
        curve = line(middle, values, f"epoch {epoch}", says, index=index, customdata=ends)
        figure.add_traces([area(middle, low, high, curve), curve])
    others = len(snapshot) - 1
    base = 100 * float(((snapshot.labels[:, None] == snapshot.labels).sum() / len(snapshot) - 1) / others)
    figure.add_trace(reference((middle[0], middle[-1]), (base, base), f"base rate: {base:.2g} %"))
    figure.update_xaxes(
        title_text="rank of the key, % of all, closest first<br>(log scale)", **logarithmic((0.1, 1, 10, 100))
    )
    figure.update_yaxes(range=(0, 102))
    return Chart(
        figure,
        "P(same class) by rank falls from the closest keys to the farthest. "
        f"At the last epoch: {values[0]:.0f} % of the closest 0.2 %, {values[-1]:.0f} % of the farthest 30 %.",
    )


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


def by_closeness(s: Similarities) -> Chart:
    """Plot false against true negatives dropped with the closest keys, one line per ranking; chance is the diagonal."""
    figure = panels("False negatives dropped, %", heights=(280,), rows=2)
    edges = [0.0, *np.geomspace(0.002, 0.9, 24).tolist()]
    descriptions = []
    ways: tuple[By, ...] = ("positive", "anchor", "force")
    for index, by in enumerate(ways):
        rows = prices(s, edges, by=by)
        x, y = ([row[name] for row in rows] for name in ("true dropped %", "false dropped %"))
        says = "the closest %{customdata:.1f} %: %{y:.0f} % of the false<br>and %{x:.0f} % of the true negatives"
        figure.add_trace(line(x, y, f"by the {by}", says, index=index, customdata=[100 * edge for edge in edges]))
        descriptions.append(f"{by}: {np.interp(10, x, y):.0f} % of the false at 10 % of the true")
    figure.add_trace(reference((0, 100), (0, 100), "by chance"))
    figure.update_xaxes(title_text="true negatives dropped<br>with the closest keys, %", range=(0, 60))
    figure.update_yaxes(range=(0, 102))
    return Chart(figure, f"Curves of false against true negatives dropped. {'; '.join(descriptions)}.")


def anchors_apart(s: Similarities, rule: RankBand, positives: PositiveRule = NOTHING_MINED) -> Chart:
    """Plot a histogram over anchors of the share of false negatives among the kept keys."""
    assert s.same_class is not None, "classes need labels, and these similarities have none"
    band = select(s, positives, rule).band
    kept = band == Band.POTENTIAL
    share = (100 * (kept & s.same_class).sum(1) / kept.sum(1).clamp_min(1)).numpy()
    mean = 100 * band_counts(band, s.same_class)[Band.POTENTIAL].same_class.value
    counts, edges = np.histogram(share, bins=BINS)
    figure = panels("Anchors, by what their band keeps", rows=1)
    figure.add_bar(
        x=((edges[1:] + edges[:-1]) / 2).tolist(),
        y=counts.tolist(),
        customdata=np.stack([edges[:-1], edges[1:]], axis=1).tolist(),
        name="anchors",
        marker={"color": COLOURS[1]},
        hovertemplate=label("%{y} anchors", "keep %{customdata[0]:.1f} to %{customdata[1]:.1f} % false negatives"),
    )
    figure.add_trace(line([mean] * 2, [0, int(counts.max())], f"all anchors: {mean:.1f} %", "", mode="lines"))
    figure.update_layout(bargap=0.05)
    figure.update_xaxes(title_text="kept negatives that are false, %")
    low, high = np.percentile(share, [10, 90])
    words = f"A histogram over anchors: a tenth keep less than {low:.0f} % false ones, a tenth more than {high:.0f} %."
    return Chart(figure, words)


def maps_apart(snapshot: Snapshot, epoch: int = -1) -> Chart:
    """Plot the same embeddings on every map of the snapshot, with the share of true neighbours that each preserves."""
    shares = (100 * np.median(snapshot.kept[:, epoch], axis=1)).tolist()
    kept = dict(zip(snapshot.map_names, shares, strict=True))
    titles = [f"{name}<br>neighbours: {share:.0f} %" for name, share in kept.items()]
    figure = panels(*titles, heights=(200,) * -(-len(titles) // 2), columns=2, rows=2)
    labels = sorted({*snapshot.labels.tolist()})
    most = min(POINTS, SHOWN // len(labels))
    for index, label_ in enumerate(labels):
        members = np.flatnonzero(snapshot.labels == label_)[:most]
        name = snapshot.classes[label_] if 0 <= label_ < len(snapshot.classes) else "class unknown"
        for chart, title in enumerate(snapshot.map_names):
            x, y = snapshot.maps[chart, epoch, members].T.tolist()
            points = line(x, y, name, f"on {text(title)}", index=index, mode="markers", showlegend=chart == 0)
            points.marker.size = 4
            figure.add_trace(points, row=1 + chart // 2, col=1 + chart % 2)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    description = "; ".join(f"{name} {share:.0f} %" for name, share in kept.items())
    few = "" if most >= np.bincount(snapshot.labels + 1).max() else f" At most {most} points of a class are shown."
    return Chart(figure, f"Maps of the same points. Median share of 15 true neighbours kept: {description}.{few}")


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
