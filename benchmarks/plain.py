"""Optimised functions beside their plain variants, which give the same results more slowly.

Each plain variant is the straightforward torch code: masks, comparisons, `kthvalue`, composed operations.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measuring import USUAL, AsRun, Work, markdown
from benchmarks.steps import Workplace
from cltools import encoders, losses, views
from cltools.mining import Band, bands, selection
from cltools.mining.similarities import compared as faster_compared, largest as by_blocks, own_last as by_places
from cltools.presets import laptop, preset

KIND = "bench plain"
PARTS = ("selection", "loss", "step")


def rank_edges(score: Tensor, own: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """Compute by torch's `kthvalue`, instead of a partition between two values of a sample, and of `largest`."""
    score = score.detach().masked_fill(own, -torch.inf)
    infinite = score.new_full((len(score), 1), torch.inf)
    ranks = [score.shape[1] - count + 1 for count in counts]
    return [score.kthvalue(r, dim=1, keepdim=True).values if r <= score.shape[1] else infinite for r in ranks]


def own_last(score: Tensor, own: Tensor) -> Tensor:
    """Fill by a mask, instead of writing to the few places of own keys."""
    return score.masked_fill(own, -torch.inf)


def largest(score: Tensor, count: int, *, ordered: bool = True) -> tuple[Tensor, Tensor]:
    """Compute by torch's `topk`, instead of searching a part of the columns."""
    return score.topk(count, dim=1, sorted=ordered)


def compared(how: Callable[[Any, Any], Any], left: Tensor, right: Tensor | float) -> Tensor:
    """Compare in torch, instead of NumPy."""
    return how(left, right)  # type: ignore[no-any-return]


def resample(x: Tensor, matrices: Tensor) -> Tensor:
    """Compute the grid by torch's `affine_grid`, instead of by a sum of rows and columns."""
    grid = F.affine_grid(matrices, [*x.shape], align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


class ByWindows:
    """Convolve small images as others, instead of by one product per position."""

    @staticmethod
    def apply(x: Tensor, weight: Tensor) -> Tensor:
        """Return the convolution of the tiny encoder's layers."""
        return F.conv2d(x, weight, stride=2, padding=1)


def band_codes(score: Tensor, *, hard: Tensor | None, easy: Tensor | None) -> Tensor:
    """Compute by assignment under masks, instead of sums of bytes."""
    codes = torch.full_like(score, Band.POTENTIAL, dtype=torch.int8)
    for mask, code in ((easy, Band.EASY), (hard, Band.HARD)):
        if mask is not None:
            codes[mask] = code
    return codes


def other_codes(dropped: Tensor) -> Tensor:
    """Compute by `torch.where`, instead of a product of bytes."""
    return torch.where(dropped, Band.OTHER, Band.POTENTIAL).to(torch.int8)


def rule_codes(band: Tensor) -> Tensor:
    """Compute by comparisons, instead of arithmetic on bits."""
    return torch.where((band >= Band.EASY) & (band <= Band.HARD), band, Band.OTHER).to(torch.int8)


def potential(band: Tensor) -> Tensor:
    """Compute by a comparison, instead of arithmetic on bits."""
    return band == Band.POTENTIAL


def log_sum(cosine: Tensor, weight: Tensor | None, scale: float, slope: float) -> Tensor:
    """Compute by torch's `logsumexp` of masked terms with autograd, instead of a function with its own backward."""
    term = cosine * slope + cosine.detach() * (scale - slope)
    if weight is not None:
        term = torch.where(weight > 0, term + weight.log(), -torch.inf)
    absent = (term == -torch.inf).all(1)
    return term.masked_fill(absent[:, None], 0.0).logsumexp(1).masked_fill(absent, -torch.inf)


VARIANTS: dict[str, tuple[Callable[..., Any], Callable[..., Any], str]] = {
    "rank_edges": (bands.rank_edges, rank_edges, "potential"),
    "own_last": (by_places, own_last, "potential"),
    "largest": (by_blocks, largest, "potential"),
    "compared": (faster_compared, compared, "potential"),
    "band_codes": (bands.band_codes, band_codes, "potential"),
    "other_codes": (bands.other_codes, other_codes, "oracle"),
    "rule_codes": (selection.rule_codes, rule_codes, "potential"),
    "potential": (selection.potential, potential, "potential"),
    "log_sum": (losses.log_sum, log_sum, "potential"),
    "resample": (views.resample, resample, "moco"),
    "ByWindows": (encoders.ByWindows, ByWindows, "moco"),
}
"""The optimised function, its plain variant, and a method that calls it."""
OURS = [module for name, module in sys.modules.items() if name.startswith("cltools.")]
HOLDERS = {name: [m for m in OURS if vars(m).get(name) is clever] for name, (clever, _, _) in VARIANTS.items()}
"""The modules in which each is defined or imported, and from which it is called."""


@contextmanager
def swapped(*names: str) -> Iterator[None]:
    """Replace these optimised functions by their plain variants, wherever cltools calls them."""
    try:
        _set(names, plain=True)
        yield
    finally:
        _set(names, plain=False)


def _set(names: tuple[str, ...], *, plain: bool) -> None:
    for name in names:
        for module in HOLDERS[name]:
            setattr(module, name, VARIANTS[name][plain])


def plainly(work: Work, names: tuple[str, ...]) -> Work:
    """Return the same work with the plain variants."""

    def run() -> None:
        with swapped(*names):
            work()

    return run


def plain(images: str = "cifar10", queue_size: int = 16384, run: AsRun = USUAL) -> dict[str, Any]:
    """Time each optimised function beside its plain variant: in a selection, in a loss, and in a whole step.

    Args:
        images: Presets of these images, in their laptop setting.
        queue_size: With this many keys.
        run: How to measure.
    """
    run.check()
    rows: dict[str, dict[str, Any]] = {}
    every = {name: (name,) for name in VARIANTS} | {"all": tuple(VARIANTS)}
    for name, names in every.items():
        experiment = laptop(preset(f"{images}-{VARIANTS[names[0]][2]}"))
        larger = replace(experiment.training, queue_size=queue_size)
        workplace = Workplace(replace(experiment, training=larger), run.where)
        works: dict[str, Work] = dict(
            zip(PARTS, (workplace.contrast.selection, workplace.contrast.loss, workplace.plain_step), strict=True)
        )
        works |= {f"plain {part}": plainly(work, names) for part, work in works.items()}
        rows[name] = {"method": VARIANTS[names[0]][2], **run.medians(works)}
    return run.record(KIND, queue_size=queue_size, rows=rows)


def table(record: dict[str, Any]) -> list[str]:
    """Return the record of `plain` as lines of a table: milliseconds, and optimised over plain."""
    rows = [
        [f"`{name}`", f"`{row['method']}`", *(f"{row[p]:.1f} ({row[p] / row[f'plain {p}']:.2f})" for p in PARTS)]
        for name, row in record["rows"].items()
    ]
    caption = (
        "What is clever for speed beside its plain variant, in the same rounds: milliseconds of the selection, of the "
        "loss with its gradient, and of a whole step of the tiny encoder; in brackets over the plain variant's, so "
        f"that below 1 the clever one is faster. {record['queue_size']:,} keys."
    )
    return markdown(caption, ["clever", "method", *PARTS], rows, words=2)
