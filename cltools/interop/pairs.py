"""Our rules as a miner for pytorch-metric-learning, and as a table of pairs of embeddings that lie on a disk.

The table says why candidates were dropped, too: what `mine_hard_negatives` of sentence-transformers does for texts, by
the rules of this package. It needs pandas.

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
from cltools.mining import KEPT, AllNegatives, AugmentedView, Band, CosineBand, MarginBand, RankBand, learns, rank_count
from cltools.mining.handed_in import Numbers, as_ids, as_labels, as_rows, seeded, to_length_1, torch_defaults, unit_rows
from cltools.mining.rules import NegativeRule, PositiveRule, Rescalable, check_rules, check_temperature, reads_now
from cltools.mining.selection import Selection, select
from cltools.mining.similarities import Similarities, own_last, same_class, similarities

if TYPE_CHECKING:
    import pandas

Pairs = tuple[Int64[Tensor, " P"], Int64[Tensor, " P"], Int64[Tensor, " N"], Int64[Tensor, " N"]]
"""Anchors and their positives, then anchors and their negatives."""

SAME = 1 - 1e-6  # a cosine from which two rows are one and the same


def as_metric_learning_miner(
    positive_rule: PositiveRule,
    negative_rule: NegativeRule,
    *,
    temperature: float = 0.2,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """A `pytorch_metric_learning.miners.BaseMiner` that selects by our rules: `mined_pairs` under its call.

    Rules act at full strength; for a schedule make a miner of `rule.at(progress)`. The miner's `distance` is not read.

    Raises:
        ValueError: a rule that pairs of indices cannot express, or a temperature that is not above 0.
        ModuleNotFoundError: pytorch-metric-learning is not installed.
    """
    temperature = check_temperature(temperature)
    remedy = "Rows of one label are no negatives of each other here: use AllNegatives, and give the classes as labels."
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
    embeddings: Float[Tensor, "A d"] | Numbers,
    labels: Any,
    ref_emb: Float[Tensor, "R d"] | Numbers,
    ref_labels: Any,
    positive_rule: PositiveRule,
    negative_rule: NegativeRule,
    *,
    temperature: float = 0.2,
    generator: torch.Generator | None = None,
) -> Pairs:
    """The selected pairs: anchors are rows of the embeddings, positives and negatives of the reference.

    Rows of an anchor's label are its own: its augmented views, never its negatives. So labels are ids of images, or
    classes for supervised use. What rules know as z' is an anchor's first view that is not the anchor itself, which a
    memory of the batch holds too; without a view it has no pairs.

    A positive is listed if its weight is above 0, the augmented views if theirs is (in NNCLR it is not). All that are
    listed then count alike: soft weights are lost.

    Args:
        embeddings: of any length; similarities are cosines.
        labels: of the embeddings, whole numbers or text; see `as_labels`.
        ref_emb: what anchors are compared with.
        ref_labels: of the reference.
        positive_rule: how positives are mined among other labels.
        negative_rule: which rows are kept.
        temperature: for rules that look at forces.
        generator: for rules that draw.

    Raises:
        ValueError: the rule weighs its negatives or makes new ones.
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
    # of equal values argmax takes the first: a view that is another row, else any
    first = (views.byte() + (views & ~same_rows(z, n)).byte()).argmax(1)
    s = similarities(z, n[first], n, own, reads=reads_now(positive_rule, negative_rule), check=False)
    chosen = select(s, positive_rule, negative_rule, temperature=temperature, generator=generator)
    weight = chosen.negative_weight
    if chosen.synthetic is not None or chosen.anchor_weight is not None or ((weight != 0) & (weight != 1)).any():
        raise inexpressible(negative_rule)
    augmented = views & (chosen.positive_weight[:, :1] > 0)
    a1, p = (augmented | (chosen.band == Band.MINED)).nonzero(as_tuple=True)
    a2, kept = (chosen.band == Band.POTENTIAL).nonzero(as_tuple=True)
    return rows[a1], p, rows[a2], kept


def same_rows(z: Float[Tensor, "A d"], n: Float[Tensor, "R d"]) -> Bool[Tensor, "A R"]:
    """Which unit vectors are one and the same; in full precision, in which near ones are not."""
    with torch.autocast(z.device.type, enabled=False):
        return z @ n.T >= SAME


def check_apart(positive_rule: Any, negative_rule: Any, without_classes: str = "") -> None:
    """Refuse what is no rule, and rules that need what `fit` alone gives them.

    Args:
        positive_rule: whatever was given for one.
        negative_rule: the same.
        without_classes: the remedy where a rule reads classes and there are none; "" where there are.
    """
    check_rules(positive_rule, negative_rule)
    for rule in (positive_rule, negative_rule):
        if without_classes and "same_class" in rule.reads:
            raise CltoolsError(f"{type(rule).__name__} reads classes, which do not reach it here. {without_classes}")
    if learns(type(negative_rule)):
        raise CltoolsError(f"{type(negative_rule).__name__} learns a state per image while training: use fit.")


def check_pairs(positive_rule: Any, negative_rule: Any, without_classes: str = "") -> None:
    """As `check_apart`, and refuse negative rules of which pairs would leave out what they are about."""
    check_apart(positive_rule, negative_rule, without_classes)
    estimate, rule = negative_rule.estimate(), type(negative_rule)
    if rule.synthesise is not NegativeRule.synthesise or estimate.beta or estimate.tau_plus:
        raise inexpressible(negative_rule, "estimates the mass of negatives or makes new ones")


def inexpressible(rule: NegativeRule, what: str = "weighs anchors or negatives") -> CltoolsError:
    """The error for a rule whose loss no pairs give."""
    return CltoolsError(f"{type(rule).__name__} {what}, which pairs cannot say; keep or drop alone, without rescale.")


PAIRS = 8_000_000
"""Cosines that a block holds by default, 32 MB; masks and copies of them come on top."""
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
Pick = Literal["closest", "random"]


@dataclass(frozen=True)
class MinedPairs:
    """What was mined.

    Attributes:
        pairs: a row per anchor and key: "anchor" and "key", places in what was given; "cosine" of both; "band", the
            name of a code of `Band`; and "weight" in the loss. Those of an anchor stand together, closest first.
        report: see `Report`.
    """

    pairs: "pandas.DataFrame"
    report: "Report"


@dataclass(frozen=True)
class Report:
    """How candidates were dropped; `str` gives a table for people.

    Attributes:
        anchors: how many there are.
        keys: how many the corpus holds.
        counts: candidates of all anchors by band: how many the rule kept, and how many each edge dropped.
        short: anchors that have fewer negatives than were asked for.
        wanted: negatives asked for, per anchor.
        left_out: anchors that the negative rule gives no weight, which have no negatives in the table.
        quantiles: of the cosines of positives, of the negatives taken, and of their differences, at `QUANTILES`.
        loosen: the settings that drop most candidates of the anchors that are short, the first the most; none if no
            anchor is short.
    """

    anchors: int
    keys: int
    counts: dict[str, int]
    short: int
    wanted: int
    left_out: int
    quantiles: dict[str, tuple[float, ...]]
    loosen: tuple[str, ...]

    def __repr__(self) -> str:  # as the last line of a cell, too
        total = max(1, sum(self.counts.values()))
        lines = [f"{self.anchors:,} anchors, {self.keys:,} keys; candidates by what became of them:"]
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
    anchors: Numbers,
    positives: Numbers,
    corpus: Numbers,
    positive_rule: PositiveRule | None = None,
    negative_rule: NegativeRule | None = None,
    *,
    negatives: int = 10,
    pick: Pick = "closest",
    ids: tuple[Numbers, Numbers] | None = None,
    labels: tuple[Any, Any] | None = None,
    temperature: float = 0.2,
    block: int | None = None,
    seed: int = 0,
) -> MinedPairs:
    """Mine each anchor's negatives, and positives if a rule is given, from a corpus of any length.

    Anchors are compared in blocks, so that memory grows with block × K and with the pairs that are returned. The
    positive of an anchor is never a candidate: keys of its id, keys equal to the anchor, and keys equal to its positive
    are its own. An anchor may have several positives, in a row each, with one id or, without ids, with equal vectors:
    none of them is a negative of another.

    Args:
        anchors: [B, d] of any length; cosines are compared.
        positives: [B, d], the known positive of each anchor.
        corpus: [K, d].
        positive_rule: which keys are positives too, at full strength; None for none.
        negative_rule: which keys are kept, at full strength; None for all.
        negatives: how many of the kept are returned per anchor.
        pick: which of them: those most similar to the anchor, or any.
        ids: whole numbers of anchors [B] and keys [K]; a key of the anchor's id is its own.
        labels: classes of anchors and keys, numbers or text, for rules that read them; below 0 is unknown, of no class.
        temperature: for rules that look at forces or weigh by it.
        block: anchors compared at a time; None for about 8 million cosines.
        seed: of what rules and `pick` draw.

    Raises:
        TypeError: rules in another order, something else in their place, or what is no array of numbers.
        ValueError: shapes that do not fit; numbers that are not finite, or vectors of length 0; a rule that needs
            labels which are not given, that learns, or that makes negatives or estimates their mass, which pairs cannot
            say; a `pick` that is not known.
        ModuleNotFoundError: pandas is not installed.
    """
    positive_rule = AugmentedView() if positive_rule is None else positive_rule
    negative_rule = AllNegatives() if negative_rule is None else negative_rule
    remedy = "Give labels=(of anchors, of keys), or use another rule." if labels is None else ""
    check_pairs(positive_rule, negative_rule, remedy)
    positive_rule, negative_rule = positive_rule.at(1.0), negative_rule.at(1.0)
    z, z_positive, n = map(unit_rows, ("anchors", "positives", "corpus"), (anchors, positives, corpus))
    check_fit(z, z_positive, n)
    of_ids = None if ids is None else _fitting("ids", [as_ids("ids", each) for each in ids], z, n)
    of_labels = None if labels is None else _fitting("labels", as_labels("labels", *labels), z, n)
    reads = reads_now(positive_rule, negative_rule)
    draws = seeded(seed)
    usual = max(1, PAIRS // max(1, len(n)))
    rows = usual if block is None else check_number("block", block, "a whole number of at least 1")
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
"""Names and types. They grow as arrays of Python: a small tensor kept per block would pin the memory around it."""


def pairs_of(
    blocks: Iterable[tuple[Similarities, Selection]],
    positive_rule: PositiveRule,
    negative_rule: NegativeRule,
    *,
    keys: int,
    negatives: int,
    pick: str,
    draws: torch.Generator,
) -> MinedPairs:
    """The pairs of what was chosen, some anchors at a time.

    Args:
        blocks: similarities and choices of anchors that follow each other.
        positive_rule: which chose, to be named in the report.
        negative_rule: the same of negatives.
        keys: K.
        negatives: as in `mine_pairs`.
        pick: as there.
        draws: for a random `pick`.

    Raises:
        ValueError: a `pick` that is not known, or `negatives` below 1.
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
        for column, found in zip(grown, (anchor + len(positives), *others, in_bands, s.anchor_positive), strict=True):
            column.frombytes(found.numpy().tobytes())
    pairs = pd.DataFrame({name: np.frombuffer(column, column.typecode) for name, column in columns.items()})
    pairs["band"] = pd.Categorical.from_codes(pairs["band"], [band.name.lower() for band in Band])
    by_anchor = torch.tensor(counts, dtype=torch.int64).reshape(-1, len(Band))
    settings = settings_of(positive_rule, negative_rule)
    return MinedPairs(pairs, _report(pairs, by_anchor, torch.tensor(positives), settings, negatives, keys))


def check_fit(z: Tensor, z_positive: Tensor, n: Tensor) -> None:
    """Refuse anchors, positives and keys of numbers that do not fit each other."""
    if z.shape != z_positive.shape or z.shape[1] != n.shape[1]:
        wrong = f"anchors, positives and corpus are {[*z.shape]}, {[*z_positive.shape]} and {[*n.shape]};"
        raise CltoolsError(f"{wrong} give as many positives as anchors, and one d for all three.")


def _fitting(name: str, given: list[Tensor], z: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers of anchors and of keys, if that is what they are."""
    if [len(x) for x in given] != [len(z), len(n)]:
        kinds = " and ".join(f"{x.dtype} {[*x.shape]}" for x in given)
        raise CltoolsError(f"{name} are {kinds}; give whole numbers, of the {len(z)} anchors and of the {len(n)} keys.")
    return given[0].cpu(), given[1].cpu()


def own_keys(z: Tensor, z_positive: Tensor, n: Tensor, parts: list[slice], names: Tensor) -> Iterator[Tensor]:
    """For each block of anchors, which keys equal the anchor, or a positive in any row of the same name."""
    anchor = torch.unique(names, dim=0, return_inverse=True)[1]
    equal = array("q")
    for part in parts:
        row, key = same_rows(z_positive[part], n).nonzero(as_tuple=True)
        equal.frombytes(torch.stack([anchor[part][row], key]).T.numpy().tobytes())
    of_anchor, key = torch.from_numpy(np.frombuffer(equal, np.int64).reshape(-1, 2).T.copy())
    for part in parts:
        here, row = anchor[part].unique(return_inverse=True)
        known = torch.isin(of_anchor, here)
        positive = torch.zeros(len(here), len(n), dtype=torch.bool)
        positive[torch.searchsorted(here, of_anchor[known]), key[known]] = True
        positive = positive[row]  # in its place, as what a block leaves here stays until the next
        yield positive.logical_or_(same_rows(z[part], n))


def _taken(s: Similarities, chosen: Selection, negatives: int, pick: str, draws: torch.Generator) -> tuple[Tensor, ...]:
    """The columns of a block's pairs, those of an anchor together, closest first."""
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
    place = first[torch.argsort(anchor[first], stable=True)]
    found = (anchor, key, cosine, chosen.band[anchor, key], weight[anchor, key])
    return tuple(column[place] for column in found)


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
    """By code: the setting of the rules that drops keys with it, as one writes it."""
    names = {
        RankBand: ("drop_closest", "keep_within"),
        CosineBand: ("below", "above"),
        MarginBand: ("margin" if getattr(rule, "relative", None) is None else "relative", "within"),
    }
    hard, easy = next((pair for kind, pair in names.items() if isinstance(rule, kind)), ("", ""))
    others = ", ".join(f.name for f in fields(rule) if not re.fullmatch("rescale|anneal|by|.*_from", f.name))
    settings = {Band.HARD: hard or others, Band.EASY: easy or others, Band.OTHER: others}
    found = {band: f"{type(rule).__name__}({name}=…)" if name else "the rule" for band, name in settings.items()}
    return found | {Band.MINED: f"{type(positive_rule).__name__}{'(k=…)' if hasattr(positive_rule, 'k') else ''}"}


def mine_hard_negatives_arguments(rule: NegativeRule, keys: int) -> dict[str, Any]:
    """The arguments by which sentence-transformers' `mine_hard_negatives` has the same candidates as a rule.

    Up to keys that lie on an edge, and to relative margins below negative scores, whose sign differed there until its
    issue 3819 was mended. Its scores are the anchor's cosines, and its corpus holds each anchor's positive. `range_max`
    is all of the corpus but that one where the rule cuts no ranks: left out, theirs looks at the closest few only (its
    issue 3872).

    Args:
        rule: a band by the anchor.
        keys: number of texts in the corpus.

    Raises:
        ValueError: a rule that it cannot express.
    """
    whole = {"range_max": keys - 1}
    if type(rule) is AllNegatives:
        return whole
    if isinstance(rule, RankBand) and rule.by == "anchor":
        closest, last = rank_count(rule.drop_closest, keys), rank_count(rule.keep_within, keys)
        return {"range_min": closest, "range_max": min(last, keys - 1)}
    if isinstance(rule, CosineBand) and rule.by == "anchor":
        return whole | {"max_score": rule.below, "min_score": rule.above}
    if isinstance(rule, MarginBand) and rule.within is None:
        if rule.relative is None:
            return whole | {"absolute_margin": rule.margin}
        return whole | {"relative_margin": 1 - rule.relative}
    raise CltoolsError(f"{rule} has no such arguments; use ranks or cosines by='anchor', or margins without within.")
