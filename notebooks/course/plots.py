"""Charts of the push on anchors, and of the purity of mined positives.

Legend: B anchors, K keys.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import plotly.graph_objects as go
import torch

from cltools.evaluation.diagnosis import mined_purity_by_k
from cltools.gradients import info_nce_gradients
from cltools.mining import AllNegatives, AugmentedView, Similarities, select, terms
from cltools.mining.similarities import own_last
from cltools.snapshot import Snapshot
from course.charts import COLOURS, GREY, POINTS, Chart, label, line, logarithmic, panels, reference
from course.pushes import mass_by_rank

BINS = 60
"""Bins of the histogram of cosines, over [−1, 1]."""
RANKS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
KS = (1, 2, 3, 5, 10, 20, 50, 100)


def push_of(s: Similarities, temperature: float) -> torch.Tensor:
    """Return the derivative [B, K] of each anchor's loss by each key's cosine, all other images' keys as negatives."""
    plain = select(s, AugmentedView(), AllNegatives(), temperature=temperature)
    return info_nce_gradients(**terms(s, plain), temperature=temperature)[1]


def forces(s: Similarities, temperatures: Sequence[float] = (0.07, 0.2, 0.5)) -> Chart:
    """Plot the force of one negative against its cosine, and below it the distribution of the push over ranks."""
    figure = panels("Force of one negative, of its peak", "Push held by the closest keys, %", rows=3)
    figure.add_trace(_negatives(s), row=1, col=1)
    figure.add_traces([_force(t, i) for i, t in enumerate(temperatures)], rows=1, cols=1)
    held = [_held(s, t, i) for i, t in enumerate(temperatures)]
    figure.add_traces(held, rows=2, cols=1)
    x = held[0].x
    figure.add_trace(reference(x, x, "if all keys pushed alike"), row=2, col=1)
    figure.update_xaxes(title_text="cosine of anchor and key", row=1)
    figure.update_xaxes(
        title_text="closest keys, % of all (log scale)", **logarithmic((0.1, 1, 10, 100)), range=(-1.2, 2.02), row=2
    )
    figure.update_yaxes(rangemode="tozero")
    return Chart(
        figure,
        "Above: the force of one negative against its cosine rises towards a peak near 1 and falls to zero at 1, over "
        "a histogram of the negatives. Below: the share of the push that the closest keys hold; the lower the "
        "temperature, the larger the share.",
    )


def _negatives(s: Similarities) -> go.Bar:
    """Return the histogram of the negatives' cosines, half as high as the largest force."""
    counts = torch.histc(s.anchor_keys[~s.own], bins=BINS, min=-1, max=1)
    return go.Bar(
        x=[(2 * index + 1) / BINS - 1 for index in range(BINS)],
        y=(0.5 * counts / counts.max().clamp_min(1)).tolist(),
        customdata=(100 * counts / counts.sum().clamp_min(1)).tolist(),
        name="negatives",
        marker={"color": GREY},
        hovertemplate=label("negatives at cosines around %{x:.2f}: %{customdata:.2g} %"),
    )


def _force(temperature: float, index: int) -> go.Scatter:
    """Return e^{c/τ}·√(1 − c²), scaled to 1 at its peak c = (√(τ² + 4) − τ)/2."""
    c = torch.linspace(-1, 1, POINTS)
    peak = ((temperature**2 + 4) ** 0.5 - temperature) / 2
    force = ((c - peak) / temperature).exp() * (1 - c**2).clamp_min(0).sqrt() / (1 - peak**2) ** 0.5
    says = f"force at cosine %{{x:.2f}}: %{{y:.2f}} of its peak,<br>which is at cosine {peak:.2f}"
    return line(c.tolist(), force.tolist(), f"τ = {temperature:g}", says, index=index, mode="lines")


def _held(s: Similarities, temperature: float, index: int) -> go.Scatter:
    """Return the share of the push that the closest keys hold, by rank share, in percent."""
    keys = s.anchor_keys.shape[1]
    counts = {round(count) for count in torch.logspace(0, math.log10(keys), POINTS).tolist()}
    shares = [count / keys for count in sorted(counts)]
    held = 100 * mass_by_rank(push_of(s, temperature), own_last(s.anchor_keys, s.own), shares).mean(0)
    says = "the closest %{x:.2~g} % of the keys hold<br>%{y:.0f} % of the push"
    x = [100 * share for share in shares]
    return line(x, held.tolist(), f"τ = {temperature:g}", says, index=index, mode="lines", showlegend=False)


def push_by_rank(s: Similarities, temperature: float) -> Chart:
    """Plot the share of the push in each bin of ranks, split into true and false negatives by their labels."""
    assert s.same_class is not None, "false negatives need labels, and this snapshot has none"
    push, closeness = push_of(s, temperature), own_last(s.anchor_keys, s.own)
    total = push.sum(1, keepdim=True)
    every = (100 * mass_by_rank(push, closeness, RANKS)).mean(0).diff()
    false = push * s.same_class
    share = false.sum(1, keepdim=True) / total
    of_false = (100 * mass_by_rank(false, closeness, RANKS) * share).mean(0).diff()
    names = [f"{100 * a:g}–{100 * b:g}" for a, b in pairwise(RANKS)]
    figure = panels(f"Who pushes, % of the push at τ = {temperature:g}", rows=2)
    sides = {"of the anchor's class: false negatives": of_false, "of other classes": every - of_false}
    for (name, values), colour, pattern in zip(sides.items(), COLOURS, ("/", ""), strict=False):
        says = label(name, "ranks %{x} %: %{y:.1f} % of the push")
        marker = {"color": colour, "pattern": {"shape": pattern, "fillmode": "overlay", "size": 6}}
        figure.add_bar(x=names, y=values.tolist(), name=name, marker=marker, hovertemplate=says)
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title_text="rank of the key, % of all, closest first", type="category")
    description = "; ".join(
        f"ranks {name} %: {all_:.0f} % of the push, {part:.0f} % by false negatives"
        for name, all_, part in zip(names, every.tolist(), of_false.tolist(), strict=True)
    )
    return Chart(figure, f"Bars of the push by rank. {description}.")


def purity(snapshot: Snapshot, ks: Sequence[int] = KS) -> Chart:
    """Plot the share of the anchor's class among its k closest keys by k, one line per epoch of the snapshot."""
    figure = panels("Purity of mined positives, %", heights=(280,), rows=3)
    descriptions = []
    for index, epoch in enumerate(snapshot.epochs):
        s = snapshot.similarities(epoch=index)
        assert s.positive_keys is not None and s.same_class is not None, (
            "purity needs labels, and this snapshot has none"
        )
        base = 100 * float((s.same_class & ~s.own).sum() / (~s.own).sum())
        values = [100 * share.value for share in mined_purity_by_k(s.positive_keys, s.own, s.same_class, ks)]
        figure.add_trace(line(ks, values, f"epoch {epoch}", "%{x} closest keys: %{y:.1f} % right", index=index))
        descriptions.append(
            f"epoch {epoch}: {values[0]:.0f} % of the closest, {values[-1]:.0f} % of the {ks[-1]} closest"
        )
    figure.add_trace(reference((ks[0], ks[-1]), (base, base), f"chance: {base:.1f} %"))
    figure.update_xaxes(title_text="k closest keys (log scale)", **logarithmic(ks))
    figure.update_yaxes(range=(0, 102))
    words = f"Lines of the share of the anchor's class among the k closest keys. {'; '.join(descriptions)}."
    return Chart(figure, words)
