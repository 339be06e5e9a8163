"""Cosines of anchors, positives and keys, computed once per step and read by every rule and by the loss.

Legend: B anchors, K keys, d embedding.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import eq
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cltools.errors import CltoolsError, unknown
from cltools.mining.handed_in import Numbers, as_ids, as_tensor, check_unit

HOW_TO_GIVE = {
    "positive_keys": "similarities(…) computes it unless reads= leaves it out",
    "same_class": "it needs labels: give similarities(…, same_class=…), or use another rule",
    "vectors": "similarities(…) keeps them unless reads= leaves them out",
    "ids": "give ids=(of anchors, of keys), or use another rule",
}
OPTIONAL = tuple(HOW_TO_GIVE)
"""Fields of `Similarities` that are computed only if a rule reads them."""


@dataclass(frozen=True)
class Similarities:
    """The inputs of rules. All cosines are float32; z is an anchor, z' its positive, n a key.

    Attributes:
        anchor_keys: z·n [B, K], with gradient.
        positive_keys: z'·n [B, K], without gradient; None if no rule reads it, so that plain MoCo does not compute it.
        anchor_positive: z·z' [B], with gradient.
        own: bool [B, K], true where the key comes from the anchor's own image.
        same_class: bool [B, K], for oracles and for diagnosis only; None without labels.
        vectors: z [B, d] and the keys [K, d], for rules that make new keys.
        ids: int64 [B] and [K], the images that anchors and keys come from, for rules that learn per image.
        known: bool [B, K], true where the classes of both are known, for diagnosis; None if all are known.

    Example:
        >>> from cltools import similarities
        >>> s = similarities([[0.6, 0.8]], [[0.8, 0.6]], [[0, 1], [1, 0]], own=[[False, True]])
        >>> s.anchor_keys, s.positive_keys, s.anchor_positive
        (tensor([[0.8000, 0.6000]]), tensor([[0.6000, 0.8000]]), tensor([0.9600]))
        >>> s.own
        tensor([[False,  True]])
    """

    anchor_keys: Tensor
    positive_keys: Tensor | None
    anchor_positive: Tensor
    own: Tensor
    same_class: Tensor | None = None
    vectors: tuple[Tensor, Tensor] | None = None
    ids: tuple[Tensor, Tensor] | None = None
    known: Tensor | None = None

    def read_by(self, rule: object, reads: Iterable[str]) -> "Similarities":
        """Return a copy in which reading an optional field that the rule does not declare raises an error.

        Raises:
            ValueError: a declared field is unknown or missing.
        """
        name, reads = type(rule).__name__, frozenset(reads)
        for each in reads:
            if each not in OPTIONAL:
                raise CltoolsError(f"{name}.reads names {each!r}; it may name {', '.join(OPTIONAL)}.")
            if getattr(self, each) is None:
                raise CltoolsError(f"{name} reads {each}, which these similarities lack: {HOW_TO_GIVE[each]}.")
        seen = object.__new__(_Declared)
        # One by one, because a compiler does not follow vars(seen).update.
        for entry, value in {**vars(self), "_rule": name, "_reads": reads}.items():
            object.__setattr__(seen, entry, value)
        return seen


class _Declared(Similarities):
    """Similarities that raise an error on reading an undeclared field."""

    def __getattribute__(self, name: str) -> object:
        if name in OPTIONAL and name not in object.__getattribute__(self, "_reads"):
            rule, reads = vars(self)["_rule"], sorted({*vars(self)["_reads"], name})
            raise CltoolsError(f"{rule} reads {name} without declaring it. Give the class reads = frozenset({reads}).")
        return object.__getattribute__(self, name)

    def __repr__(self) -> str:  # the dataclass's own would read undeclared fields
        return f"Similarities {[*self.own.shape]} as {vars(self)['_rule']} reads them: {sorted(vars(self)['_reads'])}"


def own_last(score: Float[Tensor, "B K"], own: Bool[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    """Return a copy of the score with own keys set to −inf, so that they rank last."""
    if not with_numpy(score):
        return score.masked_fill(own, -torch.inf)
    copy = score.clone(memory_format=torch.contiguous_format)
    copy.numpy().ravel()[np.flatnonzero(own.numpy())] = -np.inf
    return copy


def largest(
    score: Float[Tensor, "B K"], count: int, *, ordered: bool = True
) -> tuple[Float[Tensor, "B P"], Int[Tensor, "B P"]]:
    """Return the largest scores of each row and their indices, as `topk` does.

    On a CPU a few are searched for in the `count` blocks of columns with the largest maxima, as no other block can hold
    one. More are searched for among the scores that reach the `count`-th largest maximum of sets of columns: at least
    `count` scores do, and usually not many more.
    """
    width = 1 << math.isqrt((keys := score.shape[1]) // max(1, count)).bit_length()
    if width < 8 or not (count and len(score) and with_numpy(score)):
        return score.topk(count, sorted=ordered)
    if width > 32:
        top = score[:, : keys // width * width].view(len(score), -1, width).amax(2).topk(count, sorted=False).indices
        rest = torch.arange(keys // width * width, keys, device=score.device).expand(len(score), -1)
        columns = torch.cat([(top[:, :, None] * width + torch.arange(width, device=score.device)).flatten(1), rest], 1)
        values = score.gather(1, columns)
    else:
        # A set is every sets-th column: a block of the largest scores, such as those of a class, has one in many sets.
        depth = keys // (sets := max(2 * count, keys // 32))
        edge = np.partition(score.numpy()[:, : depth * sets].reshape(-1, depth, sets).max(1), -count, 1)[:, [-count]]
        flat = np.flatnonzero(~(score.numpy() < edge))
        found = np.diff(np.searchsorted(flat, np.arange(len(score) + 1) * keys))[:, None]
        if found.max() > keys // 4:  # many scores are equal
            return score.topk(count, sorted=ordered)
        inside = np.arange(found.max()) < found
        columns = score.new_zeros(inside.shape, dtype=torch.int64)
        columns.numpy()[inside] = flat % keys
        values = score.gather(1, columns).masked_fill_(torch.from_numpy(~inside), -torch.inf)
    best, index = values.topk(count, sorted=ordered)
    return best, columns.gather(1, index)


WITH_NUMPY = frozenset({"cpu"})
"""Types of devices on which NumPy replaces slower functions of torch (`python -m benchmarks plain`)."""


def with_numpy(x: Tensor) -> bool:
    """Return True if NumPy may read and write the memory of a tensor."""
    numbers = x.device.type in WITH_NUMPY and x.dtype != torch.bfloat16
    return numbers and not (x.requires_grad or torch.compiler.is_compiling())


def compared(how: Callable[[Any, Any], Any], left: Tensor, right: Tensor | float) -> Tensor:
    """Return a comparison by `operator.eq`, `ge` or `lt`, for which NumPy takes a fraction of torch's time."""
    if not with_numpy(left) or (isinstance(right, Tensor) and not with_numpy(right)):
        return how(left, right)  # type: ignore[no-any-return]
    return torch.from_numpy(how(left.numpy(), right.numpy() if isinstance(right, Tensor) else right))


def same_class(labels: Int[Tensor, " B"], key_labels: Int[Tensor, " K"]) -> Bool[Tensor, "B K"]:
    """Return True where a key has the anchor's class; a label below 0 is unknown and matches none."""
    return compared(eq, labels[:, None], key_labels) & (labels >= 0)[:, None]


def similarities(
    anchor: Float[Tensor, "B d"] | Numbers,
    positive: Float[Tensor, "B d"] | Numbers,
    keys: Float[Tensor, "K d"] | Numbers,
    own: Bool[Tensor, "B K"] | Numbers,
    *,
    same_class: Bool[Tensor, "B K"] | Numbers | None = None,
    ids: tuple[Int[Tensor, " B"] | Numbers, Int[Tensor, " K"] | Numbers] | None = None,
    reads: Iterable[str] = ("positive_keys", "vectors"),
    check: bool | None = None,
) -> Similarities:
    """Compute the cosines of unit vectors, in float32 even under autocast. Takes tensors, NumPy arrays or lists.

    Args:
        anchor: z [B, d], unit length.
        positive: z' [B, d], unit length; it gets a gradient only if it requires one (SimCLR).
        keys: n [K, d], unit length; K may be 0.
        own: bool [B, K], true where a key comes from the anchor's own image.
        same_class: bool [B, K], true where a key has the anchor's class.
        ids: ids of the images that anchors [B] and keys [K] come from.
        reads: optional fields to compute: `rule.reads` of the rules that will use them.
        check: whether to check that vectors are finite and of unit length, see `cltools.mining.handed_in.check_unit`.

    Raises:
        TypeError: an input that is not an array of numbers.
        ValueError: shapes or devices that do not match, vectors that are not finite or not of unit length, or an
            unknown name in `reads`.

    Example:
        >>> import torch
        >>> from cltools import similarities
        >>> z, positive, keys = (torch.nn.functional.normalize(torch.randn(n, 8), dim=1) for n in (3, 3, 20))
        >>> ids, key_ids = torch.arange(3), torch.arange(20)  # of the images that anchors and keys come from
        >>> s = similarities(z, positive, keys, own=ids[:, None] == key_ids)
        >>> s.anchor_keys.shape, s.anchor_positive.shape, s.own.sum(1)
        (torch.Size([3, 20]), torch.Size([3]), tensor([1, 1, 1]))
    """
    anchor, positive, keys = (as_tensor(*each) for each in (("anchor", anchor), ("positive", positive), ("keys", keys)))
    own = as_tensor("own", own, anchor.device)
    same_class = None if same_class is None else as_tensor("same_class", same_class, anchor.device)
    if anchor.ndim != 2 or keys.ndim != 2 or anchor.shape != positive.shape or anchor.shape[1] != keys.shape[1]:
        shapes = f"{[*anchor.shape]} (anchors), {[*positive.shape]} (positives) and {[*keys.shape]} (keys)"
        raise CltoolsError(f"Vectors have shapes {shapes}; give [B, d], [B, d] and [K, d] with the same B and d.")
    if len(devices := {x.device for x in (anchor, positive, keys, own, same_class) if x is not None}) > 1:
        raise CltoolsError(f"These tensors are on {' and '.join(sorted(map(str, devices)))}; move all to one device.")
    for name, mask in (("own", own), ("same_class", same_class)):
        if mask is not None and (mask.dtype != torch.bool or mask.shape != (len(anchor), len(keys))):
            raise CltoolsError(f"{name} is {mask.dtype} {list(mask.shape)}; give bool [{len(anchor)}, {len(keys)}].")
    images = None if ids is None else (as_ids("ids", ids[0], anchor.device), as_ids("ids", ids[1], anchor.device))
    if images and (images[0].shape != anchor.shape[:1] or images[1].shape != keys.shape[:1]):
        raise CltoolsError(f"ids are {[*images[0].shape]} and {[*images[1].shape]}; give integers [B] and [K].")
    for name, vectors in (("anchor", anchor), ("positive", positive), ("keys", keys)):
        check_unit(name, vectors, check)
    reads = frozenset([reads] if isinstance(reads, str) else reads)
    if wrong := sorted(reads - {*OPTIONAL}):
        raise unknown("name in reads", wrong[0], OPTIONAL)
    with torch.autocast(anchor.device.type, enabled=False):
        z, z_positive, n = anchor.float(), positive.float(), keys.float()
        of_positive = z_positive.detach() @ n.detach().T if "positive_keys" in reads else None
        both = (z, n) if "vectors" in reads else None
        return Similarities(z @ n.T, of_positive, (z * z_positive).sum(1), own, same_class, both, images)
