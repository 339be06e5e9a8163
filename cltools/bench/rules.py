"""What mining costs: selection and loss of each method, beside the bare product and plain InfoNCE.

Legend: B anchors, K keys.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cltools.bench.measuring import median_milliseconds, peak_mebibytes
from cltools.errors import unknown
from cltools.losses import LossSettings, info_nce
from cltools.mining import NegativeRule, PositiveRule, Similarities, select, similarities, terms
from cltools.presets import METHODS
from cltools.records import provenance, write_record
from cltools.training.loop import resolve_device

DIM = 128
COLUMNS = ("select ms", "loss ms", "all ms", "× plain", "peak MiB")


@dataclass(frozen=True)
class RuleBenchFlags:
    """Time selection and loss of each method, and what they hold, on random unit vectors of 128 dimensions."""

    anchors: tuple[int, ...] = (256, 512)
    """B."""
    keys: tuple[int, ...] = (4096, 16384, 65536)
    """K."""
    methods: tuple[str, ...] = tuple(name for name in METHODS if name != "simclr")
    """Which methods; simclr differs from moco in its keys only."""
    device: str = "auto"
    """Where."""
    repeats: int = 10
    """Timed rounds; the median is reported."""
    out: Path | None = None
    """Also write the figures as JSON."""

    def __post_init__(self) -> None:
        """Refuse to measure nothing."""
        for name in ("anchors", "keys", "methods"):
            if not getattr(self, name):
                raise ValueError(f"bench rules: {name} is empty; name at least one.")
        for name in self.methods:
            if name not in METHODS:
                raise unknown("method", name, METHODS)
        if min(*self.anchors, *self.keys, self.repeats) < 1:
            raise ValueError("bench rules: anchors, keys and repeats must be at least 1.")


def bench_rules(flags: RuleBenchFlags) -> None:
    """Measure, print a table for each size, write JSON if asked."""
    device = resolve_device(flags.device)
    sizes = []
    for b in flags.anchors:
        for k in flags.keys:
            size = measure_rules(b, k, flags.methods, device, flags.repeats)
            sizes.append(size)
            print(_table(size), flush=True)
    if flags.out is not None:
        write_record(flags.out, {"kind": "bench rules", **provenance(device), "sizes": sizes})


def measure_rules(b: int, k: int, methods: tuple[str, ...], device: torch.device, repeats: int) -> dict[str, Any]:
    """Milliseconds and MiB at one size: of the product, of plain InfoNCE, and of each method by its parts."""
    generator = torch.Generator(device).manual_seed(0)

    def unit(rows: int) -> Tensor:
        return F.normalize(torch.randn(rows, DIM, device=device, generator=generator), dim=1)

    z, keys = unit(b), unit(k)
    positive = F.normalize(z + 0.5 * unit(b), dim=1)
    own = torch.zeros(b, k, dtype=torch.bool, device=device)
    own[torch.arange(b), torch.arange(b) % k] = True
    same_class = torch.arange(b, device=device)[:, None] % 10 == torch.arange(k, device=device) % 10

    def compared(rule: tuple[PositiveRule, NegativeRule]) -> Similarities:
        with_key = any(part.reads_key for part in rule)
        anchor = z.detach().requires_grad_()
        return similarities(
            anchor, positive, keys, own, same_class=same_class, with_key=with_key, with_vectors=rule[1].reads_vectors
        )

    plain = {f"plain InfoNCE, {name}": _plain(way, z, positive, keys) for name, way in PLAIN.items()}
    works: dict[str, Callable[[], object]] = {"product": lambda: z @ keys.T, **plain}
    works["similarities, z·n alone"] = lambda: similarities(z, positive, keys, own, with_key=False)
    works["similarities, z·n and z'·n"] = lambda: similarities(z, positive, keys, own)
    whole: dict[str, Callable[[], object]] = {}
    for method in methods:
        made = METHODS[method]
        rule = made.positives.at(1.0), made.negatives.at(1.0)
        settings = LossSettings(0.2, made.form)
        whole[method] = _whole(compared, rule, settings, generator)
        works[f"{method}: all"] = whole[method]
        works[f"{method}: select"] = _selection(compared(rule), rule, generator)
        works[f"{method}: loss"] = _loss_alone(compared, rule, settings, generator)
    times = median_milliseconds(works, device, repeats)
    best = min(times[name] for name in plain)
    rows = {
        method: dict(
            zip(
                COLUMNS,
                (
                    times[f"{method}: select"],
                    times[f"{method}: loss"],
                    times[f"{method}: all"],
                    times[f"{method}: all"] / best,
                    peak_mebibytes(whole[method], device),
                ),
                strict=True,
            )
        )
        for method in methods
    }
    parts = {name: time for name, time in times.items() if ": " not in name}
    memory = {name: peak_mebibytes(works[name], device) for name in parts}
    return {"anchors": b, "keys": k, "parts ms": parts, "parts MiB": memory, "methods": rows}


def _cross_entropy(positive: Tensor, negative: Tensor) -> Tensor:
    logits = torch.cat([positive[:, None], negative], dim=1) / 0.2
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))


def _logsumexp(positive: Tensor, negative: Tensor) -> Tensor:
    positive = positive / 0.2
    return (torch.logaddexp(positive, (negative / 0.2).logsumexp(1)) - positive).mean()


PLAIN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross-entropy": _cross_entropy,
    "logsumexp": _logsumexp,
    "ours": lambda positive, negative: info_nce(positive[:, None], negative, temperature=0.2),
}
"""The baseline gets the same care: the fastest of three ways to write it counts."""


def _plain(way: Callable[[Tensor, Tensor], Tensor], z: Tensor, positive: Tensor, keys: Tensor) -> Callable[[], object]:
    """Product, forward and backward of InfoNCE with every key a negative, and nothing chosen."""

    def work() -> None:
        anchor = z.detach().requires_grad_()
        way((anchor * positive).sum(1), anchor @ keys.T).backward()  # type: ignore[no-untyped-call]

    return work


def _whole(
    compared: Callable[..., Similarities],
    rule: tuple[PositiveRule, NegativeRule],
    settings: LossSettings,
    generator: torch.Generator,
) -> Callable[[], object]:
    """Both products, selection, and the loss forward and backward."""

    def work() -> None:
        s = compared(rule)
        chosen = select(s, *rule, temperature=settings.temperature, generator=generator)
        loss = info_nce(**terms(s, chosen), temperature=settings.temperature, form=settings.form)
        loss.backward()  # type: ignore[no-untyped-call]

    return work


def _selection(
    s: Similarities, rule: tuple[PositiveRule, NegativeRule], generator: torch.Generator
) -> Callable[[], object]:
    return lambda: select(s, *rule, generator=generator)


def _loss_alone(
    compared: Callable[..., Similarities],
    rule: tuple[PositiveRule, NegativeRule],
    settings: LossSettings,
    generator: torch.Generator,
) -> Callable[[], object]:
    """The loss of a selection made before, forward and backward to the cosines."""
    s = compared(rule)
    chosen = select(s, *rule, generator=generator)

    def work() -> None:
        leaf = Similarities(
            s.anchor.detach().requires_grad_(), s.key, s.positive.detach(), s.own, s.same_class, s.vectors
        )
        loss = info_nce(**terms(leaf, chosen), temperature=settings.temperature, form=settings.form)
        loss.backward()  # type: ignore[no-untyped-call]

    return work


def _table(size: dict[str, Any]) -> str:
    lines = ["", f"B = {size['anchors']:,}, K = {size['keys']:,}"]
    for name, milliseconds in size["parts ms"].items():
        lines.append(f"  {name:30s} {milliseconds:10.2f} ms {size['parts MiB'][name]:10.1f} MiB")
    lines.append("  ".join([f"  {'method':12s}", *(f"{column:>10s}" for column in COLUMNS)]))
    for method, row in size["methods"].items():
        lines.append("  ".join([f"  {method:12s}", *(f"{row[column]:10.2f}" for column in COLUMNS)]))
    return "\n".join(lines)
