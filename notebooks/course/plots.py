"""Small figures for notebooks: grey text on a transparent background, legible on light and on dark pages.

Colours are those of Okabe and Ito, distinguishable with any colour vision; lines also differ by their labels.

Legend: B anchors, K keys.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cltools.evaluation.diagnosis import mined_purity_by_k
from cltools.gradients import info_nce_gradients
from cltools.mining import AllNegatives, AugmentedView, Similarities, select, terms
from cltools.mining.similarities import own_last
from cltools.snapshot import Snapshot
from course.pushes import mass_by_rank

GREY = "#888888"  # of axes and text: legible on light and on dark
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LOOK: Any = {
    **{f"{part}.color": GREY for part in ("text", "xtick", "ytick", "grid")},
    **{f"axes.{part}color": GREY for part in ("edge", "label", "title")},
    **{f"{part}.facecolor": "none" for part in ("figure", "axes", "savefig")},
    **{f"axes.spines.{side}": False for side in ("top", "right")},
    "legend.labelcolor": GREY,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "font.size": 9.5,
    "lines.linewidth": 2,
    "grid.alpha": 0.25,
    "text.parse_math": False,
}
DPI, SHOWN = 144, 96  # drawn at a higher resolution than shown, for high-density screens
CURVE = 400  # points of a drawn curve
RANKS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
KS = (1, 2, 3, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Picture:
    """A figure and its description for readers who cannot see it."""

    figure: Figure
    words: str

    def __repr__(self) -> str:
        return self.words

    def png(self) -> bytes:
        """Return the figure as the bytes of a PNG file."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=DPI)
        return buffer.getvalue()

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        width, height = (round(inches * SHOWN) for inches in self.figure.get_size_inches())
        return self.png(), {"width": width, "height": height, "alt": self.words}


def legible(name: str) -> str:
    """Return a name in a form that a legend shows: matplotlib hides labels that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name


def push_of(s: Similarities, temperature: float) -> torch.Tensor:
    """Return the derivative [B, K] of each anchor's loss by each key's cosine, all other images' keys as negatives."""
    plain = select(s, AugmentedView(), AllNegatives(), temperature=temperature)
    return info_nce_gradients(**terms(s, plain), temperature=temperature)[1]


def forces(s: Similarities, temperatures: Sequence[float] = (0.07, 0.2, 0.5)) -> Picture:
    """Plot the force of one negative against its cosine, and the distribution of the push over ranks."""
    with rc_context(LOOK):
        figure, (left, right) = panels(9.2, 3.4, 2)
        draw_force(left, s, temperatures)
        draw_mass(right, s, temperatures)
    return Picture(
        figure,
        "Left: the force of one negative against its cosine rises towards a peak near 1 and falls to zero at 1, over a "
        "histogram of the negatives. Right: the share of the push that the closest keys hold; the lower the "
        "temperature, the larger the share.",
    )


def draw_force(axes: Axes, s: Similarities, temperatures: Sequence[float]) -> None:
    """Draw e^{c/τ}·√(1 − c²), scaled to 1 at its peak c = (√(τ² + 4) − τ)/2, over the negatives' histogram."""
    c = torch.linspace(-1, 1, CURVE)
    cosines = s.anchor_keys[~s.own].numpy()
    axes.hist(cosines, bins=60, range=(-1, 1), color=GREY, alpha=0.35, weights=_up_to(0.5, cosines), label="negatives")
    for temperature, colour in zip(temperatures, COLOURS, strict=False):
        peak = ((temperature**2 + 4) ** 0.5 - temperature) / 2
        at_peak = (1 - peak**2) ** 0.5
        force = ((c - peak) / temperature).exp() * (1 - c**2).clamp_min(0).sqrt() / at_peak
        axes.plot(c.numpy(), force.numpy(), color=colour, label=f"τ = {temperature:g}")
        axes.plot([peak], [1], "o", color=colour, markersize=5)
    axes.set(xlabel="cosine of anchor and key, c", ylabel="force, of the largest", title="Force of one negative")
    axes.legend(loc="upper left")


def draw_mass(axes: Axes, s: Similarities, temperatures: Sequence[float]) -> None:
    """Draw the share of the push that the closest keys hold, by rank share."""
    keys = s.anchor_keys.shape[1]
    counts = {round(count) for count in torch.logspace(0, math.log10(keys), CURVE).tolist()}
    shares = [count / keys for count in sorted(counts)]
    closeness = own_last(s.anchor_keys, s.own)
    for temperature, colour in zip(temperatures, COLOURS, strict=False):
        held = 100 * mass_by_rank(push_of(s, temperature), closeness, shares).mean(0)
        axes.plot([100 * x for x in shares], held.numpy(), color=colour, label=f"τ = {temperature:g}")
    axes.plot([100 * x for x in shares], [100 * x for x in shares], ":", color=GREY, label="all alike")
    axes.set(xscale="log", xlabel="closest keys, % of all (log scale)", ylabel="% of the push", ylim=(0, 102))
    axes.set(title="Who holds the push")
    axes.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    axes.set_xlim(100 * shares[0], 110)
    axes.grid(True)
    axes.legend(loc="upper left")


def push_by_rank(s: Similarities, temperature: float) -> Picture:
    """Plot the share of the push in each bin of ranks, split into true and false negatives by their labels."""
    assert s.same_class is not None, "false negatives need labels, and this snapshot has none"
    push, closeness = push_of(s, temperature), own_last(s.anchor_keys, s.own)
    total = push.sum(1, keepdim=True)
    every = (100 * mass_by_rank(push, closeness, RANKS)).mean(0).diff().numpy()
    false = push * s.same_class
    share = false.sum(1, keepdim=True) / total
    of_false = (100 * mass_by_rank(false, closeness, RANKS) * share).mean(0).diff().numpy()
    names = [f"{100 * a:g}–{100 * b:g}" for a, b in pairwise(RANKS)]
    with rc_context(LOOK):
        figure, (axes,) = panels(7.2, 3.0, 1)
        axes.bar(names, of_false, color=COLOURS[0], label="of the anchor's class: false negatives")
        axes.bar(names, every - of_false, bottom=of_false, color=COLOURS[1], label="of other classes")
        axes.set(xlabel="rank of the key, % of all, closest first", ylabel="% of the push")
        axes.set(title=f"Who pushes, at τ = {temperature:g}")
        axes.margins(y=0.35)  # room for the legend
        axes.legend(loc="upper left", ncols=2)
    description = "; ".join(
        f"ranks {name} %: {all_:.0f} % of the push, {part:.0f} % by false negatives"
        for name, all_, part in zip(names, every, of_false, strict=True)
    )
    return Picture(figure, f"Bars of the push by rank. {description}.")


def purity(snapshot: Snapshot, ks: Sequence[int] = KS) -> Picture:
    """Plot the share of the anchor's class among its k closest keys by k, one line per epoch of the snapshot."""
    with rc_context(LOOK):
        figure, (axes,) = panels(6.4, 3.4, 1)
        drawn = draw_purity(axes, snapshot, ks)
    description = "; ".join(
        f"epoch {epoch}: {values[0]:.0f} % of the closest, {values[-1]:.0f} % of the {ks[-1]} closest"
        for epoch, values in drawn.items()
    )
    return Picture(figure, f"Lines of the share of the anchor's class among the k closest keys. {description}.")


def draw_purity(axes: Axes, snapshot: Snapshot, ks: Sequence[int]) -> dict[int, list[float]]:
    """Draw lines of the purity by k in percent, paler for early epochs, and the base rate; return them by epoch."""
    drawn, label_at = {}, -math.inf
    for index, epoch in enumerate(snapshot.epochs):
        s = snapshot.similarities(epoch=index)
        assert s.positive_keys is not None and s.same_class is not None, (
            "purity needs labels, and this snapshot has none"
        )
        base = 100 * float((s.same_class & ~s.own).sum() / (~s.own).sum())
        drawn[epoch] = [100 * share.value for share in mined_purity_by_k(s.positive_keys, s.own, s.same_class, ks)]
        alpha = 0.5 + 0.5 * (index + 1) / len(snapshot.epochs)
        axes.plot(ks, drawn[epoch], "o-", color=COLOURS[1], alpha=alpha, markersize=4)
        label_at = max(drawn[epoch][0], label_at + 4.5)  # a label may not cover the one below it
        axes.annotate(f"epoch {epoch}  ", (ks[0], label_at), ha="right", va="center")
    axes.axhline(base, linestyle=":", color=GREY)
    axes.annotate("chance", (ks[-1], base), (0, -4), textcoords="offset points", ha="right", va="top")
    axes.set(xscale="log", xlabel="k closest keys (log scale)", ylabel="% of the anchor's class", ylim=(0, 100))
    axes.set(title="Purity of mined positives", xlim=(ks[0] / 4.5, ks[-1] * 1.1))
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.minorticks_off()
    return drawn


def panels(width: float, height: float, count: int) -> tuple[Figure, list[Axes]]:
    """Create an empty figure, sized in inches, with panels side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, [figure.add_subplot(1, count, index + 1) for index in range(count)]


def _up_to(height: float, values: Any) -> Any:
    """Return weights that scale a histogram of 60 bins over [−1, 1] to at most `height`."""
    counts = torch.histc(torch.from_numpy(values), bins=60, min=-1, max=1)
    return torch.full((len(values),), height / float(counts.max().clamp_min(1))).numpy()
