"""A snapshot of embeddings that were made elsewhere: no run of ours stands behind it.

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
"""Rows of a snapshot: each anchor is compared with all keys."""
USUAL = 2000
"""Anchors of a snapshot where nobody says how many."""
LONGEST = 1000
"""Characters of a text that are kept."""


@handed_in.torch_defaults()
def snapshot_of_embeddings(
    anchors: Numbers,
    positives: Numbers | None = None,
    corpus: Numbers | None = None,
    *,
    labels: Any = None,
    classes: Any = (),
    ids: Any = None,
    images: Any = None,
    texts: Any = None,
    metadata: Any = None,
    own: Numbers | None = None,
    name: str = "embeddings",
    n: int | None = None,
    seed: int = 0,
) -> Snapshot:
    """A snapshot that `explore` takes, of any encoder's embeddings.

    Without a corpus every row is anchor and key at once, and its only own key. With one, such as the passages that
    queries search, anchors and keys are different things, and `labels`, `ids`, `images` and `texts` are pairs: of the
    anchors, and of the corpus. A key of the corpus that equals an anchor or its positive is the anchor's own, and never
    its negative. Classes are shown where those of both sides are known.

    Its experiment says no more than the name: nothing is mined and every key kept until a rule is set. It has one
    epoch, 0.

    Args:
        anchors: z [B, d] of real numbers and any length; every row is scaled to length 1.
        positives: z' [B, d], the same things seen again, as another view of each picture or the match of each query.
            Without a corpus they are the keys; None takes the anchors themselves, whose cosine is 1.
        corpus: [N, d], keys of their own. An anchor that has several positives stands in several rows.
        labels: numbers, text or one-hot rows, or the name of a column of `metadata`; None, NaN, "" and numbers below 0
            are unknown. Only shown, never selected by.
        classes: names in the order of the labels, or the names that labels are. Empty takes those that occur.
        ids: whole numbers below 2⁵³, all different; None counts from 0. What tables call a row, and only a name.
        images: uint8 [B, 3, H, W]; of more than fit a page, as many as fit are drawn.
        texts: what a row without a picture shows; up to 1,000 characters are kept. Without both it shows its id.
        metadata: a DataFrame or a dict of columns, with a value per row, or per key of the corpus, to find keys by.
        own: places [P, 2] of anchors and of keys that are their own though they equal none.
        name: of the data, for who sees the snapshot later.
        n: at most that many anchors, 100,000 at most, drawn with the seed; the ids tell which. None takes 2,000, and
            warns where there are more. A corpus stays whole.
        seed: of the draw.

    Raises:
        TypeError: something that is no array of numbers.
        ValueError: rows of zeros or with numbers that are not finite, with their places; shapes, labels, ids or n
            that do not fit; a corpus without positives, or one of more than 100,000 rows.
    """
    z, views, keys = _vectors(anchors, positives, corpus, USUAL if n is None else n)
    if n is None and len(z) > USUAL:
        warnings.warn(f"{USUAL:,} of {len(z):,} rows are drawn; n={len(z)} takes all.", stacklevel=3)
    rows = draw(len(z), USUAL if n is None else n, check_number("The seed", seed, SEED))
    extents = [(len(z), rows.numpy()), (len(keys), np.arange(len(keys)))][: 1 if corpus is None else 2]

    def of_each(what: str, given: Any, made: Callable[[str, Any, int, np.ndarray], Any]) -> list[Any]:
        """What is made of what is given for each side."""
        sides = [given] if corpus is None else [None, None] if given is None else given
        if not isinstance(sides, tuple | list) or len(sides) != len(extents):
            raise CltoolsError(f"With a corpus {what} are a pair: {what}=(of the anchors, of the corpus).")
        return [made(what, side, *extent) for side, extent in zip(sides, extents, strict=True)]

    if corpus is None and own is not None:
        raise CltoolsError("own= is for a corpus; without one each row is its own key, and no other is.")
    metadata = {} if metadata is None else metadata
    if not (isinstance(metadata, Mapping) or hasattr(metadata, "columns")):
        raise CltoolsError(f"metadata is of type {type(metadata).__name__}; give a DataFrame or a dict of columns.")
    columns = {str(column): values for column, values in dict(metadata).items()}
    if len(columns) < len([*metadata]):
        raise CltoolsError(f"Columns of metadata have one name: {', '.join(map(str, metadata))}. Rename them.")
    metadata = {column: tuple(_texts(column, each, *extents[-1])) for column, each in columns.items()}
    values = of_each("labels", labels, lambda what, side, *rest: _column(what, _named(side, columns), *rest))
    found, names = indexed_labels([value for side in values for value in side], classes)
    of_labels = np.split(found, [len(values[0])])[: len(extents)]
    of_ids = of_each("ids", ids, _checked_ids)
    texts = [text for side in reversed(of_each("texts", texts, _texts)) for text in side]
    pictures = dict(enumerate(reversed(of_each("images", images, _pictures))))
    pictures = {side: each for side, each in pictures.items() if each is not None}
    if len(sizes := {each.shape[2:] for each in pictures.values()}) > 1:
        raise CltoolsError(f"images of anchors and of the corpus are {' and '.join(map(str, sizes))}; give one size.")
    places = [np.arange(len(each)) + side * len(keys) for side, each in pictures.items()]
    queries = None
    if corpus is not None:
        pairs = _own_pairs(z, views, keys, rows, own)
        queries = Queries(views[rows].numpy()[None], of_ids[0], of_labels[0], pairs)
    return assembled(
        Experiment(data=DataSettings(name=name), seed=seed),
        {0: (z[rows].numpy(), (keys if corpus is not None else views[rows]).numpy())},
        of_ids[-1],
        np.concatenate([*pictures.values()]) if pictures else None,
        pictured=np.concatenate(places) if queries and pictures else None,
        labels=of_labels[-1],
        classes=names,
        texts=tuple(texts) if any(texts) else (),
        metadata=metadata,
        queries=queries,
    )


def indexed_labels(labels: Any, classes: Any) -> tuple[Int64[np.ndarray, " N"], tuple[str, ...]]:
    """Labels as places among class names, -1 where unknown, and the names.

    Args:
        labels: of N rows, see `label_values`.
        classes: names; with labels of text what these may be, with numbers what they count through, unless the names
            are numbers too. Empty takes those that occur, numbers in their order and text in that of the alphabet.

    Raises:
        ValueError: a label that is no class.
    """
    handed_in.check_listed("classes", classes)
    given, found = [handed_in.as_label("classes", name) for name in classes], handed_in.label_values("labels", labels)
    if None in given:
        raise CltoolsError(f"A name among the {len(given)} classes is missing or empty; name them all.")
    names = tuple(map(str, given))
    if isinstance(found, Tensor):
        numbers = found.numpy()
        if names and not any(isinstance(name, int) for name in given):
            if (most := numbers.max(initial=-1)) >= len(names):
                raise CltoolsError(f"Labels go up to {most}, but there are {len(names)} classes; name them all.")
            return numbers.clip(-1), names
        names = names or tuple(map(str, np.unique(numbers[numbers >= 0])))
        found = [None if number < 0 else str(number) for number in numbers]
    names = names or tuple(sorted({text for text in found if text is not None}))
    known = {*names, None}
    if strange := [text for text in found if text not in known]:
        raise unknown("class", strange[0], names)
    return handed_in.indices(found, names).numpy(), names


def _vectors(anchors: Numbers, positives: Numbers | None, corpus: Numbers | None, n: int) -> tuple[Tensor, ...]:
    """Unit vectors of anchors, positives and keys, which fit each other."""
    z = handed_in.unit_rows("anchors", anchors)
    views = z if positives is None else handed_in.unit_rows("positives", positives)
    keys = views if corpus is None else handed_in.unit_rows("corpus", corpus)
    check_fit(z, views, keys)
    if corpus is not None and positives is None:
        raise CltoolsError("A corpus needs positives=…, the match of each anchor, which is no negative of it.")
    least = 3 if corpus is None else 1
    if not isinstance(n, Integral) or n < least or len(z) < least or len(keys) < 3 or keys.shape[1] < 2:
        told = f"There are {len(z)} anchors, of which n={n} are asked for, and keys {[*keys.shape]}"
        raise CltoolsError(f"{told}; a map needs at least 3 rows of at least 2 numbers.")
    if (most := n if corpus is None else max(n, len(keys))) > LARGEST:
        raise CltoolsError(f"n, or the corpus, is {most:,} rows; an explorer shows at most {LARGEST:,}. Draw fewer.")
    return z, views, keys


def _named(labels: Any, columns: Mapping[str, Any]) -> Any:
    """The labels as whole numbers or texts; where they are the name of a column, its values."""
    if isinstance(labels, str) and labels not in columns:
        raise unknown("column of metadata", labels, columns)
    labels = columns[labels] if isinstance(labels, str) else labels
    return None if labels is None else handed_in.label_values("labels", labels)


def _column(what: str, given: Any, count: int, taken: np.ndarray) -> list[Any]:
    """The values of the rows that are taken, None where one is missing or nothing is given."""
    if given is None:
        return [None] * len(taken)
    handed_in.check_listed(what, given)
    values = given.tolist() if hasattr(given, "tolist") else [*given]
    if len(values) != count or any(isinstance(value, list | tuple) for value in values):
        raise CltoolsError(f"There are {len(values)} {what} for {count} embeddings; give one per row.")
    return [None if handed_in.missing(values[place]) else values[place] for place in taken]


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
    with suppress(TypeError, ValueError):  # in whose place the words below say what may be given
        found: np.ndarray = handed_in.as_ids(what, given).cpu().numpy()
        if found.shape == (count,) == np.unique(found).shape and (np.abs(found.astype(np.float64)) < LARGEST_ID).all():
            return np.asarray(found[taken])
    raise CltoolsError(f"{what} must be {count} different whole numbers below 2**53; give names as texts=….")


def _own_pairs(
    z: Tensor, positives: Tensor, keys: Tensor, rows: Tensor, given: Numbers | None
) -> Int64[np.ndarray, "P 2"]:
    """Anchors by their places among `rows`, and keys that are their own: by what equals what, and as given."""
    same = torch.unique(z, dim=0, return_inverse=True)[1]
    related = torch.isin(same, same[rows]).nonzero()[:, 0]  # with the other rows of an anchor, which hold its positives
    block = max(1, PAIRS // len(keys))
    parts = [slice(start, start + block) for start in range(0, len(related), block)]
    own = own_keys(z[related], positives[related], keys, parts, same[related])
    found = [each.nonzero() + torch.tensor([part.start, 0]) for part, each in zip(parts, own, strict=True)]
    pairs = torch.cat(found)
    pairs[:, 0] = related[pairs[:, 0]]
    if given is not None:
        more = handed_in.as_tensor("own", given).cpu()
        ends = torch.tensor([len(z), len(keys)])
        if more.is_floating_point() or more.ndim != 2 or more.shape[1] != 2 or not ((more >= 0) & (more < ends)).all():
            wanted = f"[pairs, 2], places of an anchor below {len(z)} and of a key below {len(keys)}"
            raise CltoolsError(f"own is {more.dtype} {[*more.shape]}; give whole numbers {wanted}.")
        pairs = torch.cat([pairs, more])
    place = torch.full((len(z),), -1)
    place[rows] = torch.arange(len(rows))
    pairs[:, 0] = place[pairs[:, 0]]
    return np.unique(pairs[pairs[:, 0] >= 0].numpy(), axis=0)
