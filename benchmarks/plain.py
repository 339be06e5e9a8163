"""What is clever for speed beside its plain variant: the same answers, and how much slower.

Each plain variant is what one writes first in torch: masks, comparisons, `kthvalue`, composed operations.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import USUAL, AsRun, Work, markdown
from benchmarks.steps import Workplace
from cltools import losses
from cltools.mining import Band, bands, selection
from cltools.presets import laptop, preset

KIND = "bench plain"
PARTS = ("selection", "loss", "step")


def rank_edges(score: Tensor, own: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """By torch's `kthvalue`, for NumPy's sort and for `topk`."""
    score = score.detach().masked_fill(own, -torch.inf)
    infinite = score.new_full((len(score), 1), torch.inf)
    ranks = [score.shape[1] - count + 1 for count in counts]
    return [score.kthvalue(r, dim=1, keepdim=True).values if r <= score.shape[1] else infinite for r in ranks]


def band_codes(score: Tensor, *, hard: Tensor | None, easy: Tensor | None) -> Tensor:
    """By assignment under masks, for sums of bytes."""
    codes = torch.full_like(score, Band.POTENTIAL, dtype=torch.int8)
    for mask, code in ((easy, Band.EASY), (hard, Band.HARD)):
        if mask is not None:
            codes[mask] = code
    return codes


def other_codes(dropped: Tensor) -> Tensor:
    """By `torch.where`, for a product of bytes."""
    return torch.where(dropped, Band.OTHER, Band.POTENTIAL).to(torch.int8)


def rule_codes(band: Tensor) -> Tensor:
    """By comparisons, for arithmetic on bits."""
    return torch.where((band >= Band.EASY) & (band <= Band.HARD), band, Band.OTHER).to(torch.int8)


def potential(band: Tensor) -> Tensor:
    """By a comparison, for arithmetic on bits."""
    return band == Band.POTENTIAL


def log_sum(cosine: Tensor, weight: Tensor | None, scale: float, slope: float) -> Tensor:
    """By torch's `logsumexp` of masked terms, differentiated by autograd, for a function with its own backward."""
    term = cosine * slope + cosine.detach() * (scale - slope)
    if weight is not None:
        term = torch.where(weight > 0, term + weight.log(), -torch.inf)
    absent = (term == -torch.inf).all(1)
    return term.masked_fill(absent[:, None], 0.0).logsumexp(1).masked_fill(absent, -torch.inf)


VARIANTS: dict[str, tuple[Callable[..., Any], Callable[..., Any], str]] = {
    "rank_edges": (bands.rank_edges, rank_edges, "potential"),
    "band_codes": (bands.band_codes, band_codes, "potential"),
    "other_codes": (bands.other_codes, other_codes, "oracle"),
    "rule_codes": (selection.rule_codes, rule_codes, "potential"),
    "potential": (selection.potential, potential, "potential"),
    "log_sum": (losses.log_sum, log_sum, "potential"),
}
"""What is clever, its plain variant, and a method that calls it."""
OURS = [module for name, module in sys.modules.items() if name.startswith("cltools.")]
HOLDERS = {name: [m for m in OURS if vars(m).get(name) is clever] for name, (clever, _, _) in VARIANTS.items()}
"""The modules that each is defined in or imported to, and so called from."""


@contextmanager
def swapped(*names: str) -> Iterator[None]:
    """Put the plain variants in the place of these clever functions, wherever cltools calls them."""
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
    """The same work with the plain variants."""

    def run() -> None:
        with swapped(*names):
            work()

    return run


def plain(images: str = "cifar10", queue_size: int = 16384, run: AsRun = USUAL) -> dict[str, Any]:
    """Time what is clever for speed beside its plain variant: in a selection, in a loss, and in a whole step.

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
        place = Workplace(replace(experiment, training=larger), run.where)
        works: dict[str, Work] = dict(
            zip(PARTS, (place.contrast.selection, place.contrast.loss, place.plain_step), strict=True)
        )
        works |= {f"plain {part}": plainly(work, names) for part, work in works.items()}
        rows[name] = {"method": VARIANTS[names[0]][2], **run.medians(works)}
    return run.record(KIND, queue_size=queue_size, rows=rows)


def table(record: dict[str, Any]) -> list[str]:
    """The record of `plain` as lines of a table: milliseconds, and clever over plain."""
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
