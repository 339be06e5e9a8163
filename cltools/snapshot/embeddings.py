"""Snapshots of external embeddings, which do not come from a run of cltools.

Legend: N rows or keys, B anchors, P pairs, M rows taken, d embedding.
"""

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from numbers import Integral
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from cltools.config import Experiment
from cltools.datasets import DataSettings, draw
from cltools.errors import SEED, CltoolsError, check_number, unknown
from cltools.interop.pairs import PAIRS, check_fit, own_keys
from cltools.mining import Numbers, handed_in
from cltools.snapshot.making import assembled
from cltools.snapshot.snapshot import LARGEST_ID, Queries, Snapshot

LARGEST = 100_000
"""Maximum number of rows of a snapshot, because each anchor is compared with all keys."""
USUAL = 2000
"""Default number of anchors of a snapshot."""
LONGEST = 1000
"""Maximum number of characters of a text; the rest is cut off."""


@handed_in.torch_defaults()
def snapshot_of_embeddings(
    anchors: Numbers, positives: Numbers | None = None, corpus: Numbers | None = None, *, labels: Any = None,
    classes: Any = (), ids: Any = None, images: Any = None, texts: Any = None, metadata: Any = None,
    own: Numbers | None = None, name: str = "embeddings", n: int | None = None, seed: int = 0,
) -> Snapshot:  # fmt: skip
    """Make a snapshot of any encoder's embeddings, for `explore`.

    Without a corpus, every row is both an anchor and a key, and its own key is the only one. With a corpus, such as the
    passages that queries search, anchors and keys are different objects, and `labels`, `ids`, `images` and `texts` are
    pairs (of the anchors, of the corpus). A key of the corpus that equals an anchor or its positive is the anchor's
    own, and never its negative. Classes are shown if they are known on both sides.

    The snapshot's experiment contains only the name: no positives are mined and all keys are kept until a rule is set.
    The only epoch is 0.

    Args:
        anchors: z [B, d], real vectors of any length; every row is normalised.
        positives: z' [B, d], for example another view of each image, or the match of each query. Without a corpus they
            are the keys; None uses the anchors themselves, whose cosine is 1.
        corpus: [N, d], separate keys. An anchor with several positives is given in several rows.
        labels: numbers, strings or one-hot rows, or the name of a column of `metadata`; None, NaN, "" and numbers below
            0 mean unknown. They are only shown; no rule selects by them.
        classes: class names, by label if labels are numbers; otherwise the permitted labels. Empty for the labels that
            occur.
        ids: distinct whole numbers below 2⁵³; None counts from 0. They only name rows.
        images: uint8 [B, 3, H, W]; if there are more than fit into a page, a random part is shown.
        texts: shown for rows without an image; cut off after 1,000 characters. Rows without both show their id.
        metadata: a DataFrame or a dict of columns, with a value per row or per key of the corpus, to search keys by.
        own: index pairs [P, 2] of an anchor and a key that is also its own, although it equals neither vector.
        name: name of the data, shown in the explorer.
        n: maximum number of anchors, up to 100,000, drawn by the seed; their ids say which were drawn. None takes
            2,000, and warns if there are more. A corpus is never reduced.
        seed: seed of the draw.

    Raises:
        TypeError: an argument is not an array of numbers.
        ValueError: rows, whose indices are named, are zero or not finite; shapes, labels, ids or n do not fit; or a
            corpus has no positives, or more than 100,000 rows.

    Example:
        >>> import numpy as np
        >>> from cltools import snapshot_of_embeddings
        >>> z = np.random.default_rng(0).normal(size=(40, 8))
        >>> snapshot_of_embeddings(z, labels=["cat", "dog"] * 20, name="mine")
        Snapshot of mine: 40 rows, epochs (0,)
        >>> snapshot_of_embeddings(z[:5], positives=z[5:10], corpus=z[5:], name="search")
        Snapshot of search: 5 queries and 35 rows, epochs (0,)
    """
    z, views, keys = _vectors(anchors, positives, corpus, USUAL if n is None else n)
    if n is None and len(z) > USUAL:
        warnings.warn(f"{USUAL:,} of {len(z):,} rows are drawn at random; n={len(z)} takes all.", stacklevel=3)
    rows = draw(len(z), USUAL if n is None else n, check_number("The seed", seed, SEED))
    extents = [(len(z), rows.numpy()), (len(keys), np.arange(len(keys)))][: 1 if corpus is None else 2]

    def of_each(what: str, given: Any, convert: Callable[[str, Any, int, np.ndarray], Any]) -> list[Any]:
        """Convert an argument, for each side if there is a corpus."""
        sides = [given] if corpus is None else [None, None] if given is None else given
        if not isinstance(sides, tuple | list) or len(sides) != len(extents):
            raise CltoolsError(f"With a corpus {what} must be a pair: {what}=(of the anchors, of the corpus).")
        return [convert(what, side, *extent) for side, extent in zip(sides, extents, strict=True)]

    if corpus is None and own is not None:
        raise CltoolsError("own= needs a corpus; without one, each row's only own key is itself.")
    metadata = {} if metadata is None else metadata
    if not (isinstance(metadata, Mapping) or hasattr(metadata, "columns")):
        raise CltoolsError(f"metadata is of type {type(metadata).__name__}; give a DataFrame or a dict of columns.")
    heads = [*getattr(metadata, "columns", metadata)]
    columns = {str(head): metadata[head] for head in heads}
    if len(columns) < len(heads):
        raise CltoolsError(f"Columns of metadata have the same name: {', '.join(map(str, heads))}. Rename them.")
    metadata = {column: tuple(_texts(column, each, *extents[-1])) for column, each in columns.items()}
    values = of_each("labels", labels, lambda what, side, *rest: _column(what, _named(side, columns), *rest))
    index, names = indexed_labels([value for side in values for value in side], classes)
    of_labels = np.split(index, [len(values[0])])[: len(extents)]
    of_ids = of_each("ids", ids, _checked_ids)
    texts = [text for side in reversed(of_each("texts", texts, _texts)) for text in side]
    pictures = dict(enumerate(reversed(of_each("images", images, _pictures))))
    pictures = {side: each for side, each in pictures.items() if each is not None}
    if len(sizes := {each.shape[2:] for each in pictures.values()}) > 1:
        raise CltoolsError(f"images of anchors and corpus have sizes {' and '.join(map(str, sizes))}; give one size.")
    pictured = [np.arange(len(each)) + side * len(keys) for side, each in pictures.items()]
    queries = None
    if corpus is not None:
        pairs = _own_pairs(z, views, keys, rows, own)
        queries = Queries(views[rows].numpy()[None], of_ids[0], of_labels[0], pairs)
    return assembled(
        Experiment(data=DataSettings(name=name), seed=seed),
        {0: (z[rows].numpy(), (keys if corpus is not None else views[rows]).numpy())}, of_ids[-1],
        np.concatenate([*pictures.values()]) if pictures else None,
        pictured=np.concatenate(pictured) if queries and pictures else None, labels=of_labels[-1], classes=names,
        texts=tuple(texts) if any(texts) else (), metadata=metadata, queries=queries,
    )  # fmt: skip


def indexed_labels(labels: Any, classes: Any) -> tuple[Int64[np.ndarray, " N"], tuple[str, ...]]:
    """Return labels as indices into class names, -1 if unknown, and the names.

    Args:
        labels: labels of N rows, see `label_values`.
        classes: class names. String labels must be among them; numeric labels are indices into them, unless the names
            are numbers too. Empty takes the labels that occur, sorted.

    Raises:
        ValueError: a label is not a class.
    """
    handed_in.check_listed("classes", classes)
    given, values = [handed_in.as_label("classes", name) for name in classes], handed_in.label_values("labels", labels)
    if None in given:
        raise CltoolsError(f"A name among the {len(given)} classes is missing or empty; name all classes.")
    names = tuple(map(str, given))
    if isinstance(values, Tensor):
        numbers = values.numpy()
        if names and not any(isinstance(name, int) for name in given):
            if (most := numbers.max(initial=-1)) >= len(names):
                raise CltoolsError(f"Labels go up to {most}, but there are {len(names)} classes; name all classes.")
            return numbers.clip(-1), names
        names = names or tuple(map(str, np.unique(numbers[numbers >= 0])))
        values = [None if number < 0 else str(number) for number in numbers]
    names = names or tuple(sorted({text for text in values if text is not None}))
    if strange := {*values} - {*names, None}:
        raise unknown("class", min(strange, key=values.index), names)
    return handed_in.indices(values, names).numpy(), names


def _vectors(anchors: Numbers, positives: Numbers | None, corpus: Numbers | None, n: int) -> tuple[Tensor, ...]:
    """Return unit vectors of anchors, positives and keys after checking that they fit each other."""
    z = handed_in.unit_rows("anchors", anchors)
    views = z if positives is None else handed_in.unit_rows("positives", positives)
    keys = views if corpus is None else handed_in.unit_rows("corpus", corpus)
    check_fit(z, views, keys)
    if corpus is not None and positives is None:
        raise CltoolsError("A corpus needs positives=…, the match of each anchor, which is not its negative.")
    least = 3 if corpus is None else 1
    if not isinstance(n, Integral) or n < least or len(z) < least or len(keys) < 3 or keys.shape[1] < 2:
        wrong = f"There are {len(z)} anchors, of which n={n} are requested, and keys {[*keys.shape]}"
        raise CltoolsError(f"{wrong}; a map needs at least 3 rows of at least 2 numbers.")
    if (most := n if corpus is None else max(n, len(keys))) > LARGEST:
        raise CltoolsError(f"n, or the corpus, has {most:,} rows; an explorer shows at most {LARGEST:,}. Draw fewer.")
    return z, views, keys


def _named(labels: Any, columns: Mapping[str, Any]) -> Any:
    """Return labels as whole numbers or strings; if `labels` is the name of a column, use its values."""
    if isinstance(labels, str) and labels not in columns:
        raise unknown("column of metadata", labels, columns)
    labels = columns[labels] if isinstance(labels, str) else labels
    return None if labels is None else handed_in.label_values("labels", labels)


def _column(what: str, given: Any, count: int, taken: np.ndarray) -> list[Any]:
    """Return the values of the taken rows; None if a value is missing or nothing is given."""
    if given is None:
        return [None] * len(taken)
    handed_in.check_listed(what, given)
    values = given.tolist() if hasattr(given, "tolist") else [*given]
    if len(values) != count or any(isinstance(value, list | tuple) for value in values):
        raise CltoolsError(f"There are {len(values)} {what} for {count} embeddings; give one per row.")
    return [None if handed_in.missing(values[row]) else values[row] for row in taken]


def _texts(what: str, given: Any, count: int, taken: np.ndarray) -> list[str]:
    return ["" if value is None else str(value)[:LONGEST] for value in _column(what, given, count, taken)]


def _pictures(what: str, given: Any, count: int, taken: np.ndarray) -> UInt8[np.ndarray, "M 3 H W"] | None:
    if given is None:
        return None
    pictures = handed_in.as_tensor(what, given).cpu()
    if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[:2] != (count, 3) or not pictures.numel():
        raise CltoolsError(f"{what} are {pictures.dtype} {[*pictures.shape]}; give uint8 [{count}, 3, height, width].")
    return pictures.numpy() if len(taken) == count else pictures[torch.from_numpy(taken)].numpy()


def _checked_ids(what: str, given: Any, count: int, taken: np.ndarray) -> Int64[np.ndarray, " M"]:
    if given is None:
        return taken
    with suppress(TypeError, ValueError):  # replaced by the message below
        ids: np.ndarray = handed_in.as_ids(what, given).cpu().numpy()
        if ids.shape == (count,) == np.unique(ids).shape and (np.abs(ids.astype(np.float64)) < LARGEST_ID).all():
            return np.asarray(ids[taken])
    raise CltoolsError(f"{what} must be {count} different whole numbers below 2**53; give names as texts=….")


def _own_pairs(
    z: Tensor, positives: Tensor, keys: Tensor, rows: Tensor, given: Numbers | None
) -> Int64[np.ndarray, "P 2"]:
    """Return index pairs of anchors (among `rows`) and their own keys: those of equal vectors, and those given."""
    same = torch.unique(z, dim=0, return_inverse=True)[1]
    related = torch.isin(same, same[rows]).nonzero()[:, 0]  # includes rows of an anchor's other positives
    block = max(1, PAIRS // len(keys))
    parts = [slice(start, start + block) for start in range(0, len(related), block)]
    own = own_keys(z[related], positives[related], keys, parts, same[related])
    pairs = torch.cat([x.nonzero() + torch.tensor([part.start, 0]) for part, x in zip(parts, own, strict=True)])
    pairs[:, 0] = related[pairs[:, 0]]
    if given is not None:
        more = handed_in.as_tensor("own", given).cpu()
        ends = torch.tensor([len(z), len(keys)])
        if more.is_floating_point() or more.ndim != 2 or more.shape[1] != 2 or not ((more >= 0) & (more < ends)).all():
            wanted = f"[pairs, 2], indices of an anchor below {len(z)} and of a key below {len(keys)}"
            raise CltoolsError(f"own is {more.dtype} {[*more.shape]}; give whole numbers {wanted}.")
        pairs = torch.cat([pairs, more])
    index = torch.full((len(z),), -1)
    index[rows] = torch.arange(len(rows))
    pairs[:, 0] = index[pairs[:, 0]]
    return np.unique(pairs[pairs[:, 0] >= 0].numpy(), axis=0)
