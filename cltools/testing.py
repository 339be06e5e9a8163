"""A check of the properties that every rule must have, for tests of custom rules; it needs no test library.

    from cltools.testing import check_rule
    check_rule(MyNegatives(edge=0.3))

Legend: B anchors, K keys, P candidates, S synthetic negatives, d embedding.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn.functional import normalize

from cltools.losses import Form, info_nce
from cltools.mining import AllNegatives, AugmentedView, Band, NearestKeys, Selection, select, terms
from cltools.mining.rules import Context, Estimate, NegativeRule, PositiveRule, State
from cltools.mining.similarities import OPTIONAL, Similarities, similarities

TEMPERATURE = 0.2
SHAPES = ((3, 0), (4, 1), (5, 7), (3, 64), (2, 130))
"""[B, K] of the random similarities."""
KINDS = ("smooth", "ties", "equal", "all own", "bfloat16")
"""Kinds of similarities: random directions, few directions, one direction, own keys only, half precision."""


class BrokenRule(AssertionError):
    """A rule lacks a required property; the message says which, and for which seed and shape."""


def check_rule(rule: NegativeRule | PositiveRule, *, seeds: int = 1) -> None:
    """Check the properties of a rule on which selection, training and the explorer rely.

    It uses random similarities on the CPU, which include empty queues, ties, anchors with own keys only, and half
    precision. It checks codes, shapes and dtypes; that no own key is mined, and no key twice; that weights are finite,
    at least 0 and, for positives, sum to 1; that the selection depends only on the seed and, unless the rule draws, not
    on the order of keys; `reads`; that similarities are not changed; that loss and gradient are finite; schedules; and
    that the rule is a frozen dataclass that can be restored from JSON. It cannot see whether a rule makes a GPU wait
    for the host, which slows every step: on a GPU `torch.cuda.set_sync_debug_mode("error")` shows that.

    Args:
        rule: a negative or positive rule, with any settings.
        seeds: number of draws for each kind and shape.

    Raises:
        BrokenRule: the first property that does not hold.
        TypeError: the object is not a rule.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from cltools import AllNegatives, RankBand
        >>> from cltools.testing import check_rule
        >>> check_rule(RankBand(keep_within=0.3))  # silent: every property holds
        >>> @dataclass(frozen=True)
        ... class BelowZero(AllNegatives):
        ...     def weigh(self, s, kept, context):
        ...         return s.anchor_keys.detach()
        >>> check_rule(BelowZero())
        Traceback (most recent call last):
        cltools.testing.BrokenRule: BelowZero, seed 0, ...: weigh gives a kept key a weight below 0 or not finite.
    """
    if not isinstance(rule, NegativeRule | PositiveRule):
        raise TypeError(f"check_rule needs a negative or a positive rule, not an object of type {type(rule).__name__}.")
    _check_class(rule)
    for moment in (None, *(each for each in (0.0, 0.5, 1.0) if rule.at(each) != rule)):
        now = rule if moment is None else rule.at(moment)
        for case in _cases(seeds) if moment is None else FEW:
            where = f"{type(rule).__name__}{'' if moment is None else f'.at({moment:g})'}, {case}"
            try:
                _check_case(now, case)
            except BrokenRule as broken:
                raise BrokenRule(f"{where}: {broken}.") from broken
            except Exception as error:
                raise BrokenRule(f"{where}: it raises {type(error).__name__}: {error}") from error


# --- the class and its schedule --------------------------------------------------------------------------------------


def _check_class(rule: NegativeRule | PositiveRule) -> None:
    name = type(rule).__name__
    base = NegativeRule if isinstance(rule, NegativeRule) else PositiveRule
    parameters: Any = getattr(type(rule), "__dataclass_params__", None)
    own = [each for each, hint in vars(type(rule)).get("__annotations__", {}).items() if "ClassVar" not in str(hint)]
    frozen = is_dataclass(rule) and parameters.frozen and {*own} <= {f.name for f in fields(rule)}
    _hold(frozen, f"{name}: it is not a frozen dataclass. Write @dataclass(frozen=True) above the class.")
    named = isinstance(rule.reads, frozenset) and rule.reads <= {*OPTIONAL}
    _hold(named, f"{name}: reads is {rule.reads!r}; it must be a frozenset of names among {OPTIONAL}.")
    for moment in (0.0, 0.5, 1.0):
        now, wanted = rule.at(moment), base.__name__
        _hold(isinstance(now, base), f"{name}: at({moment:g}) gives a {type(now).__name__}; it must give a {wanted}.")
    last, later = rule.at(1.0), rule.at(1.0).at(1.0)
    _hold(last == later, f"{name}: at(1) is {last}, but at(1) of that is {later}; a resolved rule must not change.")
    _check_json(rule, base)


def _check_json(rule: NegativeRule | PositiveRule, base: type[Any]) -> None:
    """Check that the rule can be restored from JSON; without the extra `train` there is nothing to check."""
    name = type(rule).__name__
    try:
        from cltools.config import from_plain, to_plain

        again: object = from_plain(base, json.loads(json.dumps(to_plain(rule))), name)
    except ModuleNotFoundError:
        return
    except (TypeError, ValueError) as error:
        raise BrokenRule(f"{name}: it cannot be loaded from its JSON: {error}") from error
    first = type(again) is type(rule)
    _hold(first, f"{name}: a later class has the same name, and JSON finds that one. Give each rule its own name.")
    _hold(again == rule, f"{name}: loading it from JSON gives {again}, not {rule}.")


# --- random similarities ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Case:
    """One random draw, described by `str`."""

    kind: str
    rows: int
    keys: int
    seed: int

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.kind} similarities [{self.rows}, {self.keys}]"

    def draw(self, reads: Collection[str]) -> tuple[Tensor, Similarities]:
        """Return anchors that require a gradient, and similarities with exactly the optional fields that are read."""
        g = torch.Generator().manual_seed(self.seed)

        def unit(count: int) -> Tensor:
            x = torch.randn(count, 6, generator=g)
            x = x.sign() if self.kind == "ties" else torch.ones_like(x) if self.kind == "equal" else x
            return normalize(x, dim=1).to(torch.bfloat16 if self.kind == "bfloat16" else torch.float32)

        z, positive, keys = unit(self.rows).requires_grad_(), unit(self.rows), unit(self.keys)
        size = (self.rows, self.keys)
        own = torch.rand(size, generator=g) < (1.1 if self.kind == "all own" else 0.1)
        same = own | (torch.rand(size, generator=g) < 0.3)
        ids = torch.arange(self.rows), torch.randint(self.rows, (self.keys,), generator=g)
        labels, images = same if "same_class" in reads else None, ids if "ids" in reads else None
        return z, similarities(z, positive, keys, own, same_class=labels, ids=images, reads=reads)

    def generator(self) -> torch.Generator:
        """Return the generator for a rule's draws."""
        return torch.Generator().manual_seed(self.seed)

    def select(self, rule: NegativeRule | PositiveRule, s: Similarities, state: State | None = None) -> Selection:
        """Select by the rule together with a rule of the other kind that leaves it some keys."""
        if isinstance(rule, PositiveRule):
            return select(s, rule, AllNegatives(), temperature=TEMPERATURE, generator=self.generator())
        near = NearestKeys(self.keys or 1, weighting="uniform", min_cosine=0.5, by="anchor")  # no ties are split
        other: PositiveRule = AugmentedView() if self.kind == "equal" else near
        return select(s, other, rule, temperature=TEMPERATURE, generator=self.generator(), state=state)


def _cases(seeds: int) -> list[_Case]:
    shapes = {kind: SHAPES if kind == "smooth" else SHAPES[1:4] for kind in KINDS}
    return [_Case(kind, *shape, seed) for seed in range(seeds) for kind in KINDS for shape in shapes[kind]]


FEW = (_Case("smooth", 3, 0, 0), _Case("smooth", 5, 7, 0), _Case("ties", 3, 64, 0), _Case("all own", 4, 1, 0))
"""The cases that are checked at the moments of a schedule."""


# --- one draw --------------------------------------------------------------------------------------------------------


def _check_case(rule: NegativeRule | PositiveRule, case: _Case) -> None:
    z, s = case.draw(rule.reads)
    before = [t.detach().clone() for t in _tensors(s)]
    others, generator = torch.get_rng_state(), case.generator()
    context = Context(~s.own, TEMPERATURE, generator)
    answers: Any = _check_answers if isinstance(rule, NegativeRule) else _check_mined
    with torch.no_grad():
        answers(rule, s.read_by(rule, rule.reads), context)
    _hold(torch.equal(context.eligible, ~s.own), "it changes context.eligible")
    _hold(torch.equal(others, torch.get_rng_state()), "it draws from torch's own generator, not context.generator")
    draws = not torch.equal(generator.get_state(), case.generator().get_state())
    chosen = case.select(rule, s)
    same = all(torch.equal(was, now.detach()) for was, now in zip(before, _tensors(s), strict=True))
    _hold(same, "it changes the similarities that it is given")
    _check_of_anchors(chosen)
    _hold(_equal(chosen, case.select(rule, s)), "the same seed gives another choice")
    full = case.draw(OPTIONAL)[1]
    _hold(_equal(chosen, case.select(rule, full)), "its choice depends on what it does not declare in reads")
    if not draws and not (isinstance(rule, PositiveRule) and case.kind in ("ties", "equal")):
        _check_order(rule, s, case, chosen)
    _check_loss(z, s, chosen)
    if isinstance(rule, NegativeRule):
        _check_learning(rule, s, case)


def _check_answers(rule: NegativeRule, s: Similarities, context: Context) -> None:
    """Check a negative rule's own results, before `select` corrects them."""
    kept = ~s.own
    if s.own.shape[1]:
        band = rule.judge(s, context)
        codes = band.dtype != torch.bool and not band.is_floating_point() and band.shape == s.own.shape
        _hold(codes, "judge gives no codes [B, K], whole numbers such as int8")
        code = band[~s.own]
        known = (code >= Band.EASY) & (code <= Band.OTHER) & (code != Band.MINED)
        _hold(known.all(), "judge gives a key that is not own another code than EASY, POTENTIAL, HARD or OTHER")
        kept = kept & (band == Band.POTENTIAL)
    weight, new = rule.weigh(s, kept, context), rule.synthesise(s, kept, context)
    if weight is not None:
        _hold(weight.shape == s.own.shape, "weigh gives no [B, K]")
        of_kept = weight[kept]
        _hold((of_kept.isfinite() & (of_kept >= 0)).all(), "weigh gives a kept key a weight below 0 or not finite")
    if new is not None:
        _hold(new.ndim == 3 and len(new) == len(s.own) and new.shape[2] == 6, "synthesise gives no [B, S, d]")
        length = new.norm(dim=2)
        _hold(torch.allclose(length, torch.ones_like(length), atol=1e-3), "synthesise gives vectors not of unit length")
    _hold(isinstance(rule.estimate(), Estimate), "estimate gives no Estimate")


def _check_mined(rule: PositiveRule, s: Similarities, context: Context) -> None:
    """Check a positive rule's own results."""
    if not s.own.shape[1]:
        return
    mined = rule.mine(s, context)
    index, weight = mined.index, mined.weight
    _hold(index.dtype == torch.int64 and index.ndim == 2 and len(index) == len(s.own), "mine gives no int64 [B, P]")
    _hold(weight.shape == (len(index), 1 + index.shape[1]), "mine gives no weights [B, 1+P]")
    _hold(weight.dtype == torch.float32, "mine gives weights that are not float32")
    _hold(((index >= 0) & (index < s.own.shape[1])).all(), "mine gives a key that is not there")
    taken = torch.zeros_like(s.own, dtype=torch.int64).scatter_add_(1, index, torch.ones_like(index))
    _hold((taken <= 1).all(), "mine gives a key twice")
    _hold((weight.isfinite() & (weight >= 0)).all(), "mine gives a weight below 0 or not finite")
    _hold(torch.allclose(weight.sum(1), torch.ones(len(weight)), atol=1e-4), "mine gives weights that do not sum to 1")
    _hold(not (s.own.gather(1, index) & (weight[:, 1:] > 0)).any(), "mine gives a weight to an own key")


def _check_of_anchors(chosen: Selection) -> None:
    """Check a rule's results per anchor; those per key have been checked before, and `select` corrects them."""
    for name, each in (("weigh_anchors", chosen.anchor_weight), ("measure", chosen.measured)):
        if each is not None:
            _hold(each.shape == chosen.band.shape[:1] and each.dtype == torch.float32, f"{name} gives no float32 [B]")
            _hold(each.isfinite().all(), f"{name} gives a number that is not finite")
    if chosen.anchor_weight is not None:
        _hold((chosen.anchor_weight >= 0).all(), "weigh_anchors gives a weight below 0")


def _check_learning(rule: NegativeRule, s: Similarities, case: _Case) -> None:
    """Check that selecting does not change the state of a learning rule, and that learning does not wait."""
    ids = torch.arange(case.rows)
    state = rule.new_state(ids, torch.device("cpu"))
    if state is None:
        return
    before = {name: tensor.clone() for name, tensor in state.items()}
    chosen = case.select(rule, s, state)
    _check_of_anchors(chosen)
    _hold(all(torch.equal(before[name], state[name]) for name in state), "selecting changes its state")
    _hold(chosen.measured is not None or case.keys == 0, "it has a state, but measure gives nothing to learn from")
    if chosen.measured is not None:
        rule.learn(state, ids, chosen.measured)
    _check_of_anchors(case.select(rule, s, state))


def _check_order(rule: NegativeRule | PositiveRule, s: Similarities, case: _Case, chosen: Selection) -> None:
    order = torch.randperm(case.keys, generator=case.generator())
    given = {name: x for name, x in vars(s).items() if x is not None and name != "anchor_positive"}
    moved: dict[str, Any] = {k: (x[0], x[1][order]) if isinstance(x, tuple) else x[:, order] for k, x in given.items()}
    reordered = replace(s, **moved)
    again = case.select(rule, reordered)
    pairs = (chosen.negative_weight, again.negative_weight), (_positives(s, chosen), _positives(reordered, again))
    same = all(torch.allclose(a[:, order], b, rtol=1e-4, atol=1e-6) for a, b in pairs)
    _hold(same and torch.equal(chosen.band[:, order], again.band), "keys in another order give another choice")


def _check_loss(z: Tensor, s: Similarities, chosen: Selection) -> None:
    for form in get_args(Form):
        loss = info_nce(**terms(s, chosen), temperature=TEMPERATURE, form=form)
        (gradient,) = torch.autograd.grad(loss, z, retain_graph=True, allow_unused=True)
        finite = bool(loss.isfinite()) and (gradient is None or bool(gradient.isfinite().all()))
        _hold(finite, f'the loss or its gradient is not finite in the form "{form}"')


def _hold(true: bool | Tensor, otherwise: str) -> None:
    if not true:
        raise BrokenRule(otherwise)


def _tensors(s: Similarities) -> list[Tensor]:
    every = (s.anchor_keys, s.positive_keys, s.anchor_positive, s.own, s.same_class, *(s.vectors or ()), *(s.ids or ()))
    return [tensor for tensor in every if tensor is not None]


def _positives(s: Similarities, chosen: Selection) -> Tensor:
    """Return the mined weight of each key, [B, K]."""
    return torch.zeros(s.own.shape).scatter_add_(1, chosen.positive_index, chosen.positive_weight[:, 1:])


def _equal(a: Selection, b: Selection) -> bool:
    """Return True if all fields are equal bit for bit."""
    pairs = zip(vars(a).values(), vars(b).values(), strict=True)
    return all(torch.equal(x, y) if isinstance(x, Tensor) and isinstance(y, Tensor) else x == y for x, y in pairs)
