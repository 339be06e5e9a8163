"""The first slider: move the edges of the band and see, as pictures, what a few anchors mine, keep and drop.

State → pure selection → HTML; the encoder is frozen, so that a move costs no forward pass.

Legend: N images, B anchors.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cltools.datasets import ImageSet
from cltools.evaluation import embed
from cltools.mining import Band, BandNegatives, PositiveRule, Selection, Similarities, select, similarities
from cltools.teaching.pictures import Sheet, sheet
from cltools.training import Run
from cltools.views import augment

SHARES = (0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1)
"""Rank shares the slider stops at: finer where keys are close, with exact ends."""
MEASURED = 128
"""Anchors that the sentence counts over."""
SHOWN, WIDE = 12, 6
"""Pictures of each group, and how many of them side by side."""
GROUPS = (
    (Band.MINED, "mined as positives", "#009E73"),
    (Band.HARD, "dropped: too close, suspected", "#D55E00"),
    (Band.POTENTIAL, "kept as negatives, closest first", "#0072B2"),
    (Band.EASY, "dropped: too far, farthest first", "#888888"),
)


def compared(run: Run, images: ImageSet, anchors: int, seed: int = 0) -> Similarities:
    """One view of the first B images against the keys of another view of all N, from the encoder as it is now.

    A training step compares with the queue instead: fewer keys, made over the last steps. An anchor's
    positive is its own image's key, and that key is `own`. Labels are kept for counting alone.
    """
    draws = torch.Generator().manual_seed(seed)
    view1, view2 = (augment(images.images, run.experiment.views, generator=draws) for _ in range(2))
    keys_from = run.encoder if run.memory is None else run.memory.copy.encoder
    z = normalize(embed(run.encoder, view1[:anchors], projection=True), dim=1).cpu()
    n = normalize(embed(keys_from, view2, projection=True), dim=1).cpu()
    same = images.labels[: len(z), None] == images.labels
    own = images.ids[: len(z), None] == images.ids
    return similarities(z, n[: len(z)], n, own, same_class=same)


@dataclass(frozen=True)
class Counts:
    """How many of an anchor's `keys` have each code, and how many of these its class (`same`), as means over anchors.

    `base_rate` is the share of all other keys that are of the anchor's class.
    """

    keys: int
    by_band: dict[Band, float]
    same: dict[Band, float]
    base_rate: float

    def share(self, band: Band) -> float:
        """Share of the keys of a code that are of the anchor's class; nan of none."""
        return self.same[band] / self.by_band[band] if self.by_band[band] else math.nan


def count(s: Similarities, selection: Selection) -> Counts:
    """Count the codes of a selection."""
    assert s.same_class is not None
    anchors = len(selection.band)
    of = {band: selection.band == band for band in Band}
    return Counts(
        keys=selection.band.shape[1],
        by_band={band: int(mask.sum()) / anchors for band, mask in of.items()},
        same={band: int((mask & s.same_class).sum()) / anchors for band, mask in of.items()},
        base_rate=float((s.same_class & ~s.own).sum() / (~s.own).sum()),
    )


def shown(s: Similarities, band: Tensor, anchor: int, code: Band) -> list[int]:
    """The keys of a code that are shown for an anchor: the closest to its positive; of EASY the farthest."""
    assert s.key is not None
    places = (band[anchor] == code).nonzero()[:, 0]
    order = s.key[anchor, places].argsort(descending=code != Band.EASY, stable=True)
    return places[order[:SHOWN]].tolist()


class BandPictures:
    """A slider for the edges of a rank band around the positive, and what the band does, in pictures and a sentence.

    Attributes:
        similarities: what is judged, of up to 128 anchors with all images.
        positives: the positive rule, at full strength.
        widget: the ipywidgets box.
    """

    def __init__(self, run: Run, images: ImageSet, anchors: Sequence[int] = (0, 1, 2, 3)) -> None:
        """Embed the images once.

        Args:
            run: its encoder embeds; its rules are where the slider starts.
            images: all of them are keys, the first 128 anchors; with labels, for the switch that reveals them.
            anchors: places of the anchors to show, below 128.

        Raises:
            ValueError: images without labels, or anchors that are not among the first 128.
        """
        measured = min(MEASURED, len(images))
        if not all(0 <= anchor < measured for anchor in anchors):
            raise ValueError(f"The anchors {list(anchors)} must be places among the first {measured} images.")
        if (images.labels < 0).any():
            raise ValueError("The pictures are compared with true classes, and some of these images have none.")
        self.images, self.anchors = images, tuple(anchors)
        self.similarities = compared(run, images, measured)
        self.positives: PositiveRule = run.experiment.positives.at(1.0)
        rule = run.experiment.negatives
        start = rule if isinstance(rule, BandNegatives) and rule.unit == "rank" else BandNegatives()
        self._rule = replace(start, reference="positive")
        self._temperature = run.experiment.loss.temperature
        self._sheet: Sheet = sheet(images.images)
        self._edges = widgets.SelectionRangeSlider(
            options=[(f"{100 * share:g} %", share) for share in SHARES],
            value=(_nearest(self._rule.lower), _nearest(self._rule.upper)),
            description="keep ranks",
            layout=widgets.Layout(width="620px"),
        )
        self._truth = widgets.Checkbox(value=False, description="reveal true classes", indent=False)
        self._page = widgets.HTML()
        self._edges.observe(self._update, "value")
        self._truth.observe(self._update, "value")
        controls = widgets.HBox([self._edges, self._truth])
        self.widget: Any = widgets.VBox([widgets.HTML(self._sheet.style), controls, self._page])
        self._update()

    @property
    def rule(self) -> BandNegatives:
        """The negative rule as the slider stands; `fit` accepts it."""
        lower, upper = self._edges.value
        return replace(self._rule, lower=lower, upper=upper)

    def set(self, *, lower: float | None = None, upper: float | None = None, truth: bool | None = None) -> None:
        """Do exactly what the controls do; edges go to the nearest stop of the slider.

        Raises:
            ValueError: the lower edge is not below the upper one.
        """
        low, high = self._edges.value
        edges = (_nearest(low if lower is None else lower), _nearest(high if upper is None else upper))
        if edges[0] >= edges[1]:
            raise ValueError(f"The band ({edges[0]}, {edges[1]}] is not one: lower must be below upper.")
        self._edges.value = edges
        if truth is not None:
            self._truth.value = truth

    @property
    def selection(self) -> Selection:
        """What the rules choose as the slider stands."""
        return self._select(self.rule)

    def measure(self, lower: float, upper: float) -> dict[str, float]:
        """A row of figures about any band, means over the measured anchors; the slider stays where it is.

        Returns:
            The edges and the three shares in percent, and how many keys an anchor keeps.
        """
        rule = replace(self._rule, lower=lower, upper=upper)
        counts = count(self.similarities, self._select(rule))
        return {
            "drop closest %": 100 * lower,
            "drop beyond %": 100 * upper,
            "keys kept": counts.by_band[Band.POTENTIAL],
            "false among kept %": 100 * counts.share(Band.POTENTIAL),
            "false among too close %": 100 * counts.share(Band.HARD),
            "own class among all %": 100 * counts.base_rate,
        }

    def _select(self, rule: BandNegatives) -> Selection:
        return select(self.similarities, self.positives, rule, temperature=self._temperature)

    @property
    def sentence(self) -> str:
        """What the band does, in words."""
        return self._sentence(count(self.similarities, self.selection))

    def _sentence(self, counts: Counts) -> str:
        mean = counts.by_band
        text = (
            f"Of {counts.keys - 1:,} other keys an anchor on average mines {mean[Band.MINED]:.1f} as positives, drops "
            f"{mean[Band.HARD]:.0f} as too close, keeps {mean[Band.POTENTIAL]:.0f} as negatives and drops "
            f"{mean[Band.EASY]:.0f} as too far."
        )
        if self._truth.value:
            text += (
                f" Of the anchor's own class are {_percent(counts.share(Band.POTENTIAL))} of the kept (false "
                f"negatives), {_percent(counts.share(Band.HARD))} of those too close, {_percent(counts.base_rate)} of "
                "all keys."
            )
        return text

    def _update(self, _change: object = None) -> None:
        low, high = self._edges.value
        if low == high:  # the two handles may meet: that is no band yet
            self._page.value = "<p>The two edges meet: pull them apart to keep a negative.</p>"
            return
        selection = self.selection
        sentence = self._sentence(count(self.similarities, selection))
        rows = "".join(self._row(selection.band, anchor) for anchor in self.anchors)
        heads = "".join(f'<th style="border-bottom:3px solid {colour}">{text}</th>' for _, text, colour in GROUPS)
        self._page.value = (
            f'<p role="status" aria-live="polite">{sentence}</p><table style="border-spacing:12px 4px;'
            f'border-collapse:separate;text-align:left"><tr><th style="border-bottom:3px solid">anchor</th>{heads}'
            f"</tr>{rows}</table>" + ("<p>Outlined: of the anchor's own class.</p>" if self._truth.value else "")
        )

    def _row(self, band: Tensor, anchor: int) -> str:
        cells = [self._tile(anchor, anchor)]
        for code, _, _ in GROUPS:
            tiles = [self._tile(key, anchor) for key in shown(self.similarities, band, anchor, code)]
            cells.append("".join(tiles) or "none")
        place = f"max-width:{(self._sheet.side + 2) * WIDE}px;vertical-align:top"
        return "<tr>" + "".join(f'<td style="{place}">{cell}</td>' for cell in cells) + "</tr>"

    def _tile(self, key: int, anchor: int) -> str:
        label = f"image {int(self.images.ids[key])}"
        if not self._truth.value:
            return self._sheet.tile(key, label)
        name = html.escape(self.images.classes[int(self.images.labels[key])])
        same = bool(self.images.labels[key] == self.images.labels[anchor])
        return self._sheet.tile(key, f"{label}, {name}", marked=same and key != anchor)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget)  # type: ignore[no-untyped-call]


def _percent(share: float) -> str:
    return "none" if math.isnan(share) else f"{100 * share:.1f} %"


def _nearest(share: float) -> float:
    """The stop of the slider nearest to a rank share."""
    return min(SHARES, key=lambda stop: abs(stop - share))
