"""The rules as a miner for pytorch-metric-learning, and as a miner of tables of pairs from stored embeddings.

Tables are mined as by `mine_hard_negatives` of sentence-transformers, but with the rules of this package, and come with
a report of why candidates were dropped. They need pandas.

Legend: A embeddings, R reference rows, B anchors, K keys of the corpus, d embedding, P and N pairs.
"""

import math
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from cltools.errors import CltoolsError, check_number, unknown
from cltools.mining import KEPT, AllNegatives, AugmentedView, Band, CosineBand, MarginBand, RankBand, learns
from cltools.mining.handed_in import Numbers, as_ids, as_labels, as_rows, seeded, to_length_1, torch_defaults, unit_rows
from cltools.mining.rules import NegativeRule, PositiveRule, Rescalable, check_rules, check_temperature, reads_now
from cltools.mining.selection import Selection, select
from cltools.mining.similarities import Similarities, own_last, same_class, similarities

if TYPE_CHECKING:
    import pandas

Pairs = tuple[Int64[Tensor, " P"], Int64[Tensor, " P"], Int64[Tensor, " N"], Int64[Tensor, " N"]]
"""Anchors and their positives, then anchors and their negatives."""

SAME = 1 - 1e-6  # cosine from which two rows count as equal


def as_metric_learning_miner(
    positive_rule: PositiveRule, negative_rule: NegativeRule, *, temperature: float = 0.2,
    generator: torch.Generator | None = None,
) -> nn.Module:  # fmt: skip
    """Return a `pytorch_metric_learning.miners.BaseMiner` that selects by rules of this package with `mined_pairs`.

    Rules act at full strength; for a schedule create a miner with `rule.at(progress)`. The miner's `distance` is
    ignored.

    Args:
        positive_rule: rule that mines positives among rows with other labels.
        negative_rule: rule that chooses the rows to keep.
        temperature: temperature for rules that use forces, above 0.
        generator: random generator for rules that draw.

    Raises:
        ValueError: a rule that pairs of indices cannot express, or a temperature that is not above 0.
        ModuleNotFoundError: pytorch-metric-learning is not installed.

    Example:
        >>> import torch
        >>> from cltools import AugmentedView, RankBand, as_metric_learning_miner
        >>> miner = as_metric_learning_miner(AugmentedView(), RankBand(drop_closest=0.25, keep_within=0.75))
        >>> embeddings, labels = torch.randn(8, 4), torch.arange(4).repeat(2)  # two views of four images
        >>> anchors, positives, anchors_again, negatives = miner(embeddings, labels)
        >>> len(anchors), len(negatives)  # 8 anchors, with one positive and 4 negatives each
        (8, 32)
    """
    temperature = check_temperature(temperature)
    remedy = "Rows with equal labels are never negatives of each other: use AllNegatives, and give classes as labels."
    check_pairs(positive_rule, negative_rule, remedy)
    if isinstance(negative_rule, Rescalable) and negative_rule.rescale:
        raise inexpressible(negative_rule)
    try:
        from cltools.interop.rule_miner import RuleMiner
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(f"{missing}: pip install pytorch-metric-learning", name=missing.name) from missing
    return RuleMiner(positive_rule, negative_rule, temperature=temperature, generator=generator)


@torch.no_grad()
def mined_pairs(
    embeddings: Float[Tensor, "A d"] | Numbers, labels: Any, ref_emb: Float[Tensor, "R d"] | Numbers, ref_labels: Any,
    positive_rule: PositiveRule, negative_rule: NegativeRule, *, temperature: float = 0.2,
    generator: torch.Generator | None = None,
) -> Pairs:  # fmt: skip
    """Return the selected pairs: anchors are rows of the embeddings, positives and negatives rows of the reference.

    Rows with the anchor's label are own rows: its augmented views, never its negatives. So labels are ids of images, or
    classes for supervised use. The rules' z' is the anchor's first view other than the anchor itself, which the
    reference may contain, too; an anchor without a view has no pairs.

    A mined positive is listed if its weight is above 0, and the augmented views are if theirs is (in NNCLR it is not).
    All listed pairs count equally: soft weights are lost.

    Args:
        embeddings: vectors of any length; similarities are cosines.
        labels: labels of the embeddings, whole numbers or text; see `as_labels`.
        ref_emb: reference vectors with which anchors are compared.
        ref_labels: labels of the reference.
        positive_rule: rule that mines positives among other labels.
        negative_rule: rule that chooses the rows to keep.
        temperature: temperature for rules that use forces.
        generator: random generator for rules that draw.

    Raises:
        ValueError: the rule weights its negatives or makes new ones.
    """
    itself, z, n = ref_emb is embeddings, as_rows("embeddings", embeddings), as_rows("ref_emb", ref_emb)
    of_rows, of_reference = as_labels("labels", labels, ref_labels, device=z.device)
    if len(of_rows) != len(z) or len(of_reference) != len(n) or z.shape[1] != n.shape[1]:
        shapes = ", ".join(str([*each.shape]) for each in (z, of_rows, n, of_reference))
        raise CltoolsError(f"Embeddings, labels, and the reference's, are {shapes}; give [A, d], [A], [R, d], [R].")
    own = same_class(of_rows, of_reference)
    views = own & ~torch.eye(len(own), dtype=torch.bool, device=own.device) if itself else own
    rows = views.any(1).nonzero()[:, 0]
    if len(rows) == 0:
        return rows, rows, rows, rows
    own, views = own[rows], views[rows]
    z, n = to_length_1(z[rows]), to_length_1(n)
    # argmax takes the first of equal values: preferably a view that differs from the anchor, else any view
    first = (views.byte() + (views & ~same_rows(z, n)).byte()).argmax(1)
    s = similarities(z, n[first], n, own, reads=reads_now(positive_rule, negative_rule), check=False)
    chosen = select(s, positive_rule, negative_rule, temperature=temperature, generator=generator)
    weight = chosen.negative_weight
    if chosen.synthetic is not None or chosen.anchor_weight is not None or ((weight != 0) & (weight != 1)).any():
        raise inexpressible(negative_rule)
    a1, p = ((views & (chosen.positive_weight[:, :1] > 0)) | (chosen.band == Band.MINED)).nonzero(as_tuple=True)
    a2, kept = (chosen.band == Band.POTENTIAL).nonzero(as_tuple=True)
    return rows[a1], p, rows[a2], kept


def same_rows(z: Float[Tensor, "A d"], n: Float[Tensor, "R d"]) -> Bool[Tensor, "A R"]:
    """Return which unit vectors are equal, in full precision, so that similar vectors are not."""
    with torch.autocast(z.device.type, enabled=False):
        return z @ n.T >= SAME


def check_apart(positive_rule: Any, negative_rule: Any, without_classes: str = "") -> None:
    """Refuse objects that are not rules, and rules that need something that only `fit` provides.

    Args:
        positive_rule: the object given as the positive rule.
        negative_rule: the object given as the negative rule.
        without_classes: the remedy if a rule reads classes and there are none; "" if there are.
    """
    check_rules(positive_rule, negative_rule)
    for rule in (positive_rule, negative_rule):
        if without_classes and "same_class" in rule.reads:
            raise CltoolsError(f"{type(rule).__name__} reads classes, which are not available. {without_classes}")
    if learns(type(negative_rule)):
        raise CltoolsError(f"{type(negative_rule).__name__} learns a state per image while training: use fit.")


def check_pairs(positive_rule: Any, negative_rule: Any, without_classes: str = "") -> None:
    """Check as `check_apart`, and refuse negative rules that pairs cannot express."""
    check_apart(positive_rule, negative_rule, without_classes)
    estimate, rule = negative_rule.estimate(), type(negative_rule)
    if rule.synthesise is not NegativeRule.synthesise or estimate.beta or estimate.tau_plus:
        raise inexpressible(negative_rule, "estimates the mass of negatives or makes new ones")


def inexpressible(rule: NegativeRule, what: str = "weighs anchors or negatives") -> CltoolsError:
    """Return the error for a rule whose loss pairs cannot express."""
    return CltoolsError(f"{type(rule).__name__} {what}, which pairs cannot say; only keep or drop, without rescale.")


PAIRS = 8_000_000
"""Number of cosines per block by default, 32 MB, plus masks and copies."""
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
Pick = Literal["closest", "random"]


@dataclass(frozen=True)
class MinedPairs:
    """Mined pairs and a report.

    Attributes:
        pairs: a row per anchor and key: "anchor" and "key", row indices of the inputs; "cosine" of both; "band", the
            name of a code of `Band`; and "weight" in the loss. Rows are grouped by anchor, closest first.
        report: see `Report`.
    """

    pairs: "pandas.DataFrame"
    report: "Report"


@dataclass(frozen=True)
class Report:
    """Statistics of the mining and of the dropped candidates; `str` gives a readable table.

    Attributes:
        anchors: number of anchors.
        keys: number of keys in the corpus.
        counts: number of candidates of all anchors by band: those that the rule kept, and those dropped by each edge.
        short: number of anchors with fewer negatives than requested.
        wanted: requested number of negatives per anchor.
        left_out: number of anchors to which the negative rule gives weight 0; the table has no negatives of theirs.
        quantiles: quantiles, at `QUANTILES`, of the cosines of positives and of selected negatives, and of their
            differences.
        loosen: the settings that drop candidates of the short anchors, in descending order of how many they drop; empty
            if no anchor is short.
    """

    anchors: int
    keys: int
    counts: dict[str, int]
    short: int
    wanted: int
    left_out: int
    quantiles: dict[str, tuple[float, ...]]
    loosen: tuple[str, ...]

    def __repr__(self) -> str:  # notebooks show it for the last line of a cell
        total = max(1, sum(self.counts.values()))
        lines = [f"{self.anchors:,} anchors, {self.keys:,} keys; candidates by band:"]
        lines += [f"  {name:12s}{count:>16,}  {100 * count / total:5.1f} %" for name, count in self.counts.items()]
        lines.append(f"{'cosines':14s}" + "".join(f"{f'{100 * q:g} %':>9s}" for q in QUANTILES))
        lines += [f"  {name:12s}" + "".join(f"{x:9.3f}" for x in row) for name, row in self.quantiles.items()]
        loosen = ", then ".join(self.loosen) or "nothing: the corpus is too small"
        fewer = f"fewer than the {self.wanted} negatives asked for. Loosen {loosen}."
        no_weight = "the weight 0 by the negative rule, and no negatives in the table."
        for count, what in ((self.left_out, no_weight), (self.short, fewer)):
            if count:
                lines.append(f"{count:,} {'anchor has' if count == 1 else 'anchors have'} {what}")
        return "\n".join(lines)


@torch_defaults()
def mine_pairs(
    anchors: Numbers, positives: Numbers, corpus: Numbers, positive_rule: PositiveRule | None = None,
    negative_rule: NegativeRule | None = None, *, negatives: int = 10, pick: Pick = "closest",
    ids: tuple[Numbers, Numbers] | None = None, labels: tuple[Any, Any] | None = None, temperature: float = 0.2,
    block: int | None = None, seed: int = 0,
) -> MinedPairs:  # fmt: skip
    """Mine each anchor's negatives, and positives if a rule is given, from a corpus of any length.

    Anchors are compared in blocks, so that memory grows with block × K and with the returned pairs. The positive of an
    anchor is never a candidate: keys with its id, keys equal to the anchor, and keys equal to its positive are own
    keys. An anchor may have several positives, given in one row each with one id or, without ids, with equal anchor
    vectors; none of them is then a negative in any of these rows.

    Args:
        anchors: [B, d], vectors of any length; cosines are compared.
        positives: [B, d], the known positive of each anchor.
        corpus: [K, d].
        positive_rule: rule that chooses keys as further positives, at full strength; None for none.
        negative_rule: rule that chooses the keys to keep, at full strength; None for all.
        negatives: number of kept keys that are returned per anchor.
        pick: which of the kept keys: those most similar to the anchor, or random ones.
        ids: integer ids of anchors [B] and keys [K]; keys with the anchor's id are own keys.
        labels: classes of anchors and keys, numbers or text, for rules that read them; below 0 is unknown, of no class.
        temperature: temperature for rules that use forces or weight by it.
        block: number of anchors compared at a time; None for about 8 million cosines.
        seed: seed of the draws of rules and `pick`.

    Returns:
        `pairs`, a DataFrame with columns "anchor", "key", "cosine", "band" and "weight", a row per pair, grouped by
        anchor, closest first; and `report`, which says why candidates were dropped, and prints as a table.

    Raises:
        TypeError: rules in the wrong order, objects that are not rules, or inputs that are not arrays of numbers.
        ValueError: shapes that do not match; numbers that are not finite, or vectors of length 0; a rule that needs
            labels that are not given, that learns, or that makes negatives or estimates their mass, which pairs cannot
            express; an unknown `pick`.
        ModuleNotFoundError: pandas is not installed.

    Example:
        >>> from cltools import RankBand, mine_pairs
        >>> corpus = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> mined = mine_pairs([[1, 0]], [[0.96, -0.28]], corpus, negative_rule=RankBand(0.25, 0.75), negatives=3)
        >>> mined.pairs[["anchor", "key", "band"]].values.tolist()
        [[0, 2, 'potential'], [0, 3, 'potential'], [0, 4, 'potential']]
        >>> mined.report.counts["hard"], mined.report.short
        (2, 0)
    """
    positive_rule = AugmentedView() if positive_rule is None else positive_rule
    negative_rule = AllNegatives() if negative_rule is None else negative_rule
    remedy = "Give labels=(of anchors, of keys), or use another rule." if labels is None else ""
    check_pairs(positive_rule, negative_rule, remedy)
    positive_rule, negative_rule = positive_rule.at(1.0), negative_rule.at(1.0)
    z, z_positive, n = map(unit_rows, ("anchors", "positives", "corpus"), (anchors, positives, corpus))
    check_fit(z, z_positive, n)
    for name, given in (("ids", ids), ("labels", labels)):
        if given is not None and not (isinstance(given, tuple | list) and len(given) == 2):
            raise CltoolsError(f"{name} must be a pair: {name}=(of the anchors, of the keys).")
    of_ids = None if ids is None else _fitting("ids", [as_ids("ids", each) for each in ids], z, n)
    of_labels = None if labels is None else _fitting("labels", as_labels("labels", *labels), z, n)
    reads = reads_now(positive_rule, negative_rule)
    draws = seeded(seed)
    default = max(1, PAIRS // max(1, len(n)))
    rows = default if block is None else check_number("block", block, "a whole number of at least 1")
    parts = [slice(start, start + rows) for start in range(0, len(z), rows)]

    def blocks() -> Iterator[tuple[Similarities, Selection]]:
        for part, own in zip(parts, own_keys(z, z_positive, n, parts, z if of_ids is None else of_ids[0]), strict=True):
            own = own if of_ids is None else own | (of_ids[0][part, None] == of_ids[1])
            same = None if of_labels is None else same_class(of_labels[0][part], of_labels[1])
            images = of_ids and (of_ids[0][part], of_ids[1])
            s = similarities(z[part], z_positive[part], n, own, same_class=same, ids=images, reads=reads, check=False)
            yield s, select(s, positive_rule, negative_rule, temperature=temperature, generator=draws)

    return pairs_of(blocks(), positive_rule, negative_rule, keys=len(n), negatives=negatives, pick=pick, draws=draws)


COLUMNS = {"anchor": "q", "key": "q", "cosine": "f", "band": "b", "weight": "f"}
"""Names and type codes of columns. They are Python arrays: a small tensor per block would pin the memory around it."""


def pairs_of(
    blocks: Iterable[tuple[Similarities, Selection]], positive_rule: PositiveRule, negative_rule: NegativeRule, *,
    keys: int, negatives: int, pick: str, draws: torch.Generator,
) -> MinedPairs:  # fmt: skip
    """Collect pairs and report from selections, a block of anchors at a time.

    Args:
        blocks: similarities and selections of consecutive anchors.
        positive_rule: rule that chose the positives, to be named in the report.
        negative_rule: rule that chose the negatives, to be named in the report.
        keys: K.
        negatives: as in `mine_pairs`.
        pick: as in `mine_pairs`.
        draws: random generator for a random `pick`.

    Raises:
        ValueError: an unknown `pick`, or `negatives` below 1.
    """
    import pandas as pd

    if pick not in get_args(Pick):
        raise unknown("pick", pick, get_args(Pick))
    negatives = check_number("negatives", negatives, "a whole number of at least 1")
    columns = {name: array(kind) for name, kind in COLUMNS.items()}
    counts, positives = array("q"), array("f")
    grown: list[array[Any]] = [*columns.values(), counts, positives]
    for s, chosen in blocks:
        in_bands = torch.stack([(chosen.band == code).sum(1) for code in Band], dim=1)
        anchor, *others = _taken(s, chosen, negatives, pick, draws)
        for column, values in zip(grown, (anchor + len(positives), *others, in_bands, s.anchor_positive), strict=True):
            column.frombytes(values.numpy().tobytes())
    pairs = pd.DataFrame({name: np.frombuffer(column, column.typecode) for name, column in columns.items()})
    pairs["band"] = pd.Categorical.from_codes(pairs["band"], [band.name.lower() for band in Band])
    by_anchor = torch.tensor(counts, dtype=torch.int64).reshape(-1, len(Band))
    settings = settings_of(positive_rule, negative_rule)
    return MinedPairs(pairs, _report(pairs, by_anchor, torch.tensor(positives), settings, negatives, keys))


def check_fit(z: Tensor, z_positive: Tensor, n: Tensor) -> None:
    """Refuse anchors, positives and keys whose shapes do not match."""
    if z.shape != z_positive.shape or z.shape[1] != n.shape[1]:
        wrong = f"anchors, positives and corpus are {[*z.shape]}, {[*z_positive.shape]} and {[*n.shape]};"
        raise CltoolsError(f"{wrong} give as many positives as anchors, and one d for all three.")


def _fitting(name: str, given: list[Tensor], z: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    """Return ids or labels of anchors and of keys on the CPU; raise ValueError if there is not one per row."""
    if [len(x) for x in given] != [len(z), len(n)]:
        kinds = " and ".join(f"{x.dtype} {[*x.shape]}" for x in given)
        raise CltoolsError(f"{name} are {kinds}; give whole numbers, of the {len(z)} anchors and of the {len(n)} keys.")
    return given[0].cpu(), given[1].cpu()


def own_keys(z: Tensor, z_positive: Tensor, n: Tensor, parts: list[slice], names: Tensor) -> Iterator[Tensor]:
    """Yield the own keys per block of anchors: equal to the anchor, or to a positive in any row with the same name."""
    anchor = torch.unique(names, dim=0, return_inverse=True)[1]
    equal = array("q")
    for part in parts:
        row, key = same_rows(z_positive[part], n).nonzero(as_tuple=True)
        equal.frombytes(torch.stack([anchor[part][row], key]).T.numpy().tobytes())
    of_anchor, key = torch.from_numpy(np.frombuffer(equal, np.int64).reshape(-1, 2).T.copy())
    for part in parts:
        present, row = anchor[part].unique(return_inverse=True)
        known = torch.isin(of_anchor, present)
        positive = torch.zeros(len(present), len(n), dtype=torch.bool)
        positive[torch.searchsorted(present, of_anchor[known]), key[known]] = True
        positive = positive[row]  # replaces the smaller matrix, which would be held until the next block
        yield positive.logical_or_(same_rows(z[part], n))


def _taken(s: Similarities, chosen: Selection, negatives: int, pick: str, draws: torch.Generator) -> tuple[Tensor, ...]:
    """Return the columns of a block's pairs, grouped by anchor, closest first."""
    kept = chosen.negative_weight
    if chosen.anchor_weight is not None:
        kept = kept * chosen.anchor_weight[:, None]
    order = s.anchor_keys if pick == "closest" else torch.rand(s.own.shape, generator=draws)
    best, index = own_last(order, kept == 0).topk(min(negatives, order.shape[1]), dim=1)
    negative = torch.zeros_like(s.own).scatter_(1, index, best > -torch.inf)
    weight = torch.where(negative, kept, 0.0)
    weight.scatter_add_(1, chosen.positive_index, chosen.positive_weight[:, 1:])
    anchor, key = (negative | (chosen.band == Band.MINED)).nonzero(as_tuple=True)
    cosine = s.anchor_keys[anchor, key]
    first = torch.argsort(cosine, descending=True, stable=True)
    order = first[torch.argsort(anchor[first], stable=True)]
    return tuple(x[order] for x in (anchor, key, cosine, chosen.band[anchor, key], weight[anchor, key]))


def _report(
    pairs: "pandas.DataFrame", by_anchor: Tensor, positive: Tensor, settings: dict[Band, str], wanted: int, keys: int
) -> Report:
    kept = by_anchor[:, KEPT].sum(1)
    short = kept < wanted
    negative = pairs[pairs["band"].isin([band.name.lower() for band in KEPT])]
    known, cosines = positive.numpy(), negative["cosine"].to_numpy()
    scores = {"positive": known, "negative": cosines, "difference": known[negative["anchor"]] - cosines}
    dropped = by_anchor[short].sum(0)
    names = sorted(((int(dropped[code]), name) for code, name in settings.items() if dropped[code]), reverse=True)
    loosen = tuple(dict.fromkeys(name for _, name in names))
    counts = {band.name.lower(): int(by_anchor[:, band].sum()) for band in Band}
    left_out = int((kept > 0).sum()) - negative["anchor"].nunique()
    none = [math.nan] * len(QUANTILES)
    quantiles = {name: tuple(np.quantile(x, QUANTILES).tolist() if len(x) else none) for name, x in scores.items()}
    return Report(len(by_anchor), keys, counts, int(short.sum()), wanted, left_out, quantiles, loosen)


def settings_of(positive_rule: PositiveRule, rule: NegativeRule) -> dict[Band, str]:
    """Map each code to the setting that drops keys with this code, written as in a call."""
    names = {
        RankBand: ("drop_closest", "keep_within"),
        CosineBand: ("below", "above"),
        MarginBand: ("margin" if getattr(rule, "relative", None) is None else "relative", "within"),
    }
    hard, easy = next((pair for kind, pair in names.items() if isinstance(rule, kind)), ("", ""))
    others = ", ".join(f.name for f in fields(rule) if not re.fullmatch("rescale|anneal|by|.*_from", f.name))
    settings = {Band.HARD: hard or others, Band.EASY: easy or others, Band.OTHER: others}
    calls = {band: f"{type(rule).__name__}({name}=…)" if name else "the rule" for band, name in settings.items()}
    return calls | {Band.MINED: f"{type(positive_rule).__name__}{'(k=…)' if hasattr(positive_rule, 'k') else ''}"}
