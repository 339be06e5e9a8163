"""What mining costs: selection and loss of each method, beside the bare product and plain InfoNCE.

Legend: B anchors, K keys.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from benchmarks.measuring import Work, median_milliseconds, peak_mebibytes
from benchmarks.parts import CLASSES
from cltools.errors import unknown
from cltools.losses import LossSettings, info_nce
from cltools.mining import (
    AllNegatives,
    NegativeRule,
    PositiveRule,
    Selection,
    Similarities,
    select,
    similarities,
    terms,
)
from cltools.mining.rules import reads_now
from cltools.presets import METHODS
from cltools.provenance import check_record, only, provenance, write_record
from cltools.training.learner import resolve_device

KIND = "bench rules"
ENTRIES = ("commit", "hardware", "sizes")
DIM = 128
TEMPERATURE = 0.2
COLUMNS = ("select ms", "loss ms", "all ms", "× plain", "peak MiB")
"""`peak MiB`, as records name it, is the most held at once beyond what is held before; tables say so."""


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
            sizes.append(measure_rules(b, k, flags.methods, device, flags.repeats))
            print(_table(sizes[-1]), flush=True)
    if flags.out is not None:
        write_record(flags.out, {"kind": KIND, **provenance(device), "sizes": sizes})


def measure_rules(b: int, k: int, methods: tuple[str, ...], device: torch.device, repeats: int) -> dict[str, Any]:
    """Milliseconds and MiB at one size: of the product, of plain InfoNCE, and of each method by its parts."""
    batch = RandomBatch(b, k, device)
    parts: dict[str, Work] = {
        "product": lambda: batch.z @ batch.keys.T,
        "similarities, z·n alone": lambda: batch.compared(AllNegatives()),
        "similarities, z·n and z'·n": lambda: batch.compared(PositiveRule(), AllNegatives()),
        **{f"plain InfoNCE, {name}": _plain(way, batch) for name, way in PLAIN.items()},
    }
    times = median_milliseconds(parts, device, repeats)
    best = min((name for name in parts if name.startswith("plain")), key=times.__getitem__)
    rows = {}
    for method in tqdm(methods, desc=f"B = {b}, K = {k}", unit="method", leave=False):
        made = METHODS[method]
        work = MethodWork(batch, made.positives.at(1.0), made.negatives.at(1.0), LossSettings(TEMPERATURE, made.form))
        taken = median_milliseconds(
            {"plain": parts[best], "all": work.everything, "select": work.selection, "loss": work.loss}, device, repeats
        )
        figures = (taken["select"], taken["loss"], taken["all"], taken["all"] / taken["plain"])
        rows[method] = dict(zip(COLUMNS, (*figures, peak_mebibytes(work.everything, device)), strict=True))
    memory = {name: peak_mebibytes(part, device) for name, part in parts.items()}
    return {"anchors": b, "keys": k, "parts ms": times, "parts MiB": memory, "plain": best, "methods": rows}


class RandomBatch:
    """Random unit vectors with positives near their anchors, an own key an anchor, and ten classes."""

    def __init__(self, b: int, k: int, device: torch.device) -> None:
        self.generator = torch.Generator(device).manual_seed(0)
        self.z, self.keys = self._unit(b), self._unit(k)
        self.positive = F.normalize(self.z + 0.5 * self._unit(b), dim=1)
        anchor, key = torch.arange(b, device=device), torch.arange(k, device=device)
        self.own = anchor[:, None] % k == key
        self.same_class = anchor[:, None] % CLASSES == key % CLASSES

    def _unit(self, rows: int) -> Tensor:
        vectors = torch.randn(rows, DIM, device=self.generator.device, generator=self.generator)
        return F.normalize(vectors, dim=1)

    def compared(self, positive_rule: PositiveRule, negative_rule: NegativeRule) -> Similarities:
        """What the rules read, with a gradient to new anchors."""
        return similarities(
            self.z.detach().requires_grad_(),
            self.positive,
            self.keys,
            self.own,
            same_class=self.same_class,
            reads=reads_now(positive_rule, negative_rule),
            check=False,
        )


class MethodWork:
    """What a method does in a step, as a whole and by parts."""

    def __init__(
        self, batch: RandomBatch, positive_rule: PositiveRule, negative_rule: NegativeRule, settings: LossSettings
    ) -> None:
        self.batch, self.rules, self.settings = batch, (positive_rule, negative_rule), settings
        self.s = batch.compared(positive_rule, negative_rule)
        self.chosen = self.selection()

    def selection(self, s: Similarities | None = None) -> Selection:
        """Selection alone, of similarities computed before."""
        temperature, generator = self.settings.temperature, self.batch.generator
        return select(s or self.s, *self.rules, temperature=temperature, generator=generator)

    def everything(self) -> None:
        """Both products, selection, and the loss forward and backward."""
        s = self.batch.compared(*self.rules)
        self._differentiated(s, self.selection(s))

    def loss(self) -> None:
        """The loss alone, of a selection made before, forward and backward to the cosines."""
        cosines = replace(
            self.s,
            anchor_keys=self.s.anchor_keys.detach().requires_grad_(),
            anchor_positive=self.s.anchor_positive.detach(),
        )
        self._differentiated(cosines, self.chosen)

    def _differentiated(self, s: Similarities, chosen: Selection) -> None:
        settings = self.settings
        loss = info_nce(**terms(s, chosen), temperature=settings.temperature, form=settings.form)
        loss.backward()  # type: ignore[no-untyped-call]


def _cross_entropy(positive: Tensor, negative: Tensor) -> Tensor:
    logits = torch.cat([positive[:, None], negative], dim=1) / TEMPERATURE
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))


def _logsumexp(positive: Tensor, negative: Tensor) -> Tensor:
    positive = positive / TEMPERATURE
    return (torch.logaddexp(positive, (negative / TEMPERATURE).logsumexp(1)) - positive).mean()


PLAIN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross-entropy": _cross_entropy,
    "logsumexp": _logsumexp,
    "ours": lambda positive, negative: info_nce(positive[:, None], negative, temperature=TEMPERATURE),
}
"""The baseline gets the same care: the fastest of three ways to write it counts."""


def _plain(way: Callable[[Tensor, Tensor], Tensor], batch: RandomBatch) -> Work:
    """Product, forward and backward of InfoNCE with every key a negative, and nothing chosen."""

    def work() -> None:
        anchor = batch.z.detach().requires_grad_()
        way((anchor * batch.positive).sum(1), anchor @ batch.keys.T).backward()  # type: ignore[no-untyped-call]

    return work


def rules_table(paths: Sequence[Path], records: Sequence[dict[str, Any]]) -> str:
    """A record of `bench rules` as a table: each method's time as a multiple of plain InfoNCE's, at each size.

    Raises:
        ValueError: a damaged record, or several.
    """
    record = only(records)
    check_record(paths[0], record, KIND, ENTRIES)
    sizes = record["sizes"]
    heads = [f"{size['anchors']:,} × {size['keys']:,}" for size in sizes]
    plain = [f"{size['parts ms'][size['plain']]:.1f} ms" for size in sizes]
    lines = [
        f"Products, selection and loss, forward and backward, over plain InfoNCE in the same rounds; anchors × keys, "
        f"{DIM} dimensions. MiB: the most held at once beyond what is held before. Commit "
        f"{record['commit'] or 'unknown'}, {record['hardware']['device']}, {record['hardware']['threads']} threads.",
        "",
        f"| method | {' | '.join(heads)} | MiB at {heads[-1]} |",
        f"|---{'|---:' * (len(sizes) + 1)}|",
        f"| plain InfoNCE | {' | '.join(plain)} | {sizes[-1]['parts MiB'][sizes[-1]['plain']]:,.0f} |",
    ]
    for method in sizes[0]["methods"]:
        rows = [size["methods"][method] for size in sizes]
        times = " | ".join(f"{row['× plain']:.1f}" for row in rows)
        lines.append(f"| `{method}` | {times} | {rows[-1]['peak MiB']:,.0f} |")
    return "\n".join(lines)


def _table(size: dict[str, Any]) -> str:
    lines = ["", f"B = {size['anchors']:,}, K = {size['keys']:,}"]
    for name, milliseconds in size["parts ms"].items():
        lines.append(f"  {name:30s} {milliseconds:10.2f} ms {size['parts MiB'][name]:10.1f} MiB")
    heads = [column.replace("peak", "added") for column in COLUMNS]
    lines.append("  ".join([f"  {'method':12s}", *(f"{head:>10s}" for head in heads)]))
    for method, row in size["methods"].items():
        lines.append("  ".join([f"  {method:12s}", *(f"{row[column]:10.2f}" for column in COLUMNS)]))
    return "\n".join(lines)
