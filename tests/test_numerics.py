"""What a collapsed encoder gives, the ends of temperature and half precision: all stays finite, right, and linear.

Vectors that are equal, opposite or zero tie all ranks, have cosines of ±1 where e^{c/τ} overflows, and no direction.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import brute_force
import pytest
import torch
from hypothesis import assume, given, settings, strategies as st
from test_mining import check_invariants
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.measuring import peak_mebibytes
from cltools.contrast import contrastive_loss
from cltools.gradients import info_nce_gradients
from cltools.losses import FORMS, Form, LossSettings, info_nce
from cltools.mining import (
    CosineBand,
    HardnessWeighted,
    MarginBand,
    MixedNegatives,
    NegativeRule,
    PositiveRule,
    RandomNegatives,
    RankBand,
    Selection,
    Similarities,
    terms,
)
from cltools.presets import METHODS

ANCHORS, DIM = 4, 6
POSITIVES = tuple(dict.fromkeys(method.positives for method in METHODS.values()))
NEGATIVES: dict[str, NegativeRule] = {
    **{type(method.negatives).__name__: method.negatives for method in METHODS.values()},
    **{f"rank, {r}": RankBand(0.1, 0.5, by=r, rescale=True) for r in ("positive", "anchor", "force")},
    **{f"cosine, {r}": CosineBand(above=-0.2, below=0.6, by=r) for r in ("positive", "anchor")},
    "margin": MarginBand(margin=-0.6, within=0.8),
    "relative margin": MarginBand(relative=0.9),
    "hcl with its tilt's gradient": HardnessWeighted(detach=False),
}
every_rule = pytest.mark.parametrize("rule", NEGATIVES.values(), ids=NEGATIVES.keys())


class Case(NamedTuple):
    kind: str
    keys: int
    temperature: float
    positives: PositiveRule
    form: Form
    half: bool
    seed: int


def one_hot(x: Tensor) -> Tensor:
    return torch.eye(DIM)[x.argmax(1)]


def again(z: Tensor, n: Tensor) -> Tensor:
    """As many of the anchors, in turn, as there are keys."""
    return z[torch.arange(len(n)) % ANCHORS]


KINDS: dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]] = {
    "random": lambda z, positive, n: (z, positive, n),
    "one-hot": lambda z, positive, n: (one_hot(z), one_hot(positive), one_hot(n)),
    "all equal": lambda z, positive, n: (torch.ones_like(z), torch.ones_like(z), torch.ones_like(n)),
    "duplicates": lambda z, positive, n: (z, z, again(z, n)),
    "opposite keys": lambda z, positive, n: (z, z, -again(z, n)),
    "opposite positives": lambda z, positive, n: (z, -z, again(z, n)),
    "keys equal to an anchor": lambda z, positive, n: (z, positive, z[:1].expand_as(n)),
    "zero": lambda z, positive, n: (0 * z, 0 * positive, 0 * n),
    "zero anchors": lambda z, positive, n: (0 * z, positive, n),
}


def vectors(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Anchors, positives and keys before they are given length 1."""
    g = torch.Generator().manual_seed(case.seed)
    z, positive, n = (torch.randn(rows, DIM, generator=g) for rows in (ANCHORS, ANCHORS, case.keys))
    return KINDS[case.kind](z, positive, n)


temperatures, halves = st.floats(-2, 1).map(lambda exponent: 10.0**exponent), st.booleans()


def cases(
    temperature: st.SearchStrategy[float] = temperatures, half: st.SearchStrategy[bool] = halves
) -> st.SearchStrategy[Case]:
    return st.builds(
        Case,
        kind=st.sampled_from(tuple(KINDS)),
        keys=st.integers(0, 40),
        temperature=temperature,
        positives=st.sampled_from(POSITIVES),
        form=st.sampled_from(FORMS),
        half=half,
        seed=st.integers(0, 99),
    )


def few(examples: int) -> settings:
    return settings(deadline=None, derandomize=True, max_examples=examples)


def unit(case: Case) -> list[Tensor]:
    """Unit vectors with gradient; with `half` rounded to bfloat16, so that their length is 1 to three digits only."""
    kind = torch.bfloat16 if case.half else torch.float32
    return [normalize(x, dim=1).to(kind).float().requires_grad_() for x in vectors(case)]


def contrasted(
    given_vectors: list[Tensor], rule: NegativeRule, case: Case, **more: Any
) -> tuple[Tensor, list[tuple[Similarities, Selection]]]:
    """Losses, and what they were made of. Some keys are of the third and fourth anchors' own images."""
    ids = torch.arange(ANCHORS), torch.arange(case.keys) % 9 + 2
    seen: list[tuple[Similarities, Selection]] = []
    losses = contrastive_loss(
        *given_vectors,
        case.positives,
        rule,
        LossSettings(case.temperature, case.form),
        ids=ids,
        labels=(ids[0] % 2, ids[1] % 2),
        generator=torch.Generator().manual_seed(case.seed),
        observe=lambda s, chosen: seen.append((s, chosen)),
        check=False,  # as in training: vectors of zeros get through
        **more,
    )
    return losses, seen


def gradients(losses: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    wanted = [each for each in leaves if each.requires_grad]
    return torch.autograd.grad(losses.sum(), wanted, allow_unused=True, materialize_grads=True)


def assert_close(found: Tensor, expected: Tensor, temperature: float) -> None:
    """A cosine is right to some 1e-7, a logit to that over the temperature."""
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 / temperature, check_dtype=False)


@every_rule
@few(12)
@given(case=cases())
def test_losses_gradients_and_selections_are_finite(rule: NegativeRule, case: Case) -> None:
    """The gradient by what an encoder gives, so that normalising a vector of length 0 is part of it."""
    kind = torch.bfloat16 if case.half else torch.float32
    leaves = [x.to(kind).requires_grad_() for x in vectors(case)]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=case.half):
        losses, ((s, chosen),) = contrasted([normalize(x, dim=1) for x in leaves], rule, case)
    assert s.anchor_keys.dtype == losses.dtype == torch.float32
    assert losses.isfinite().all()
    check_invariants(s, chosen)
    assert not isinstance(rule, RankBand | CosineBand | MarginBand) or rule.score(s, case.temperature).isfinite().all()
    assert chosen.synthetic is None or chosen.synthetic.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients(losses, leaves))


@every_rule
@few(8)
@given(case=cases())
def test_the_closed_form_is_finite_and_autograds(rule: NegativeRule, case: Case) -> None:
    _, ((s, chosen),) = contrasted(unit(case), rule, case)
    t, loss = terms(s, chosen), LossSettings(case.temperature, case.form)
    leaves = {name: t[name].detach().requires_grad_() for name in ("positive", "negative")}
    losses = info_nce(**{**t, **leaves}, temperature=loss.temperature, form=loss.form, reduction="none")
    found = info_nce_gradients(**t, temperature=loss.temperature, form=loss.form)
    for ours, theirs in zip(found, gradients(losses, list(leaves.values())), strict=True):
        assert ours.isfinite().all()
        assert_close(ours, theirs, case.temperature)


@every_rule
@few(10)
@given(case=cases(st.sampled_from([0.01, 10.0]), half=st.just(False)))
def test_values_are_those_of_a_loop_in_double_precision(rule: NegativeRule, case: Case) -> None:
    """Of vectors of length 1: the loop also bounds a plain sum from below, by what cosines of −1 would give."""
    z, positive, n = unit(case)
    losses, ((s, chosen),) = contrasted([z, positive, n], rule, case)
    z, positive, n = (x.detach().double() for x in (z, positive, n))
    exact = replace(s, anchor_keys=z @ n.T, anchor_positive=(z * positive).sum(1), vectors=(z, n))
    made = None if chosen.synthetic is None else chosen.synthetic.double()
    t = terms(exact, replace(chosen, synthetic=made))
    rows = zip(t["positive"], t["negative"], t["positive_weight"], t["negative_weight"], strict=True)
    estimate = chosen.estimate
    expected = [
        brute_force.loss(*(x.tolist() for x in row), case.temperature, case.form, estimate.beta, estimate.tau_plus)
        for row in rows
    ]
    assert_close(losses.detach(), torch.tensor(expected), case.temperature)


@every_rule
@few(4)
@given(case=cases())
def test_autocast_changes_nothing(rule: NegativeRule, case: Case) -> None:
    """Cosines in bfloat16 would have three digits, and 0.900 and 0.903 would be one similarity."""
    leaves = unit(case)
    plain, _ = contrasted(leaves, rule, case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, _ = contrasted(leaves, rule, case)
    assert torch.equal(cast, plain)
    assert all(torch.equal(a, b) for a, b in zip(gradients(cast, leaves), gradients(plain, leaves), strict=True))


DRAWLESS = {name: rule for name, rule in NEGATIVES.items() if not isinstance(rule, RandomNegatives | MixedNegatives)}


@pytest.mark.parametrize("rule", DRAWLESS.values(), ids=DRAWLESS.keys())
@few(4)
@given(
    case=cases().filter(lambda case: getattr(case.positives, "pick", None) is None), chunk=st.integers(1, ANCHORS - 1)
)
def test_chunks_are_the_whole(rule: NegativeRule, case: Case, chunk: int) -> None:
    leaves = unit(case)
    leaves[2].requires_grad_(False)
    whole, ((_, chosen),) = contrasted(leaves, rule, case)
    parts, seen = contrasted(leaves, rule, case, chunk=chunk)
    # Another order of summing may part or join cosines that are equal up to rounding, at an edge or among the closest.
    assume(torch.equal(torch.cat([part.band for _, part in seen]), chosen.band))
    assert_close(parts, whole, case.temperature)
    for ours, theirs in zip(gradients(parts, leaves), gradients(whole, leaves), strict=True):
        assert_close(ours, theirs, case.temperature)


def peak(method: str, anchors: int, keys: int) -> float:
    """Most that is held at once from unit vectors to their gradient, in matrices of 32 × 2,048."""
    g, made = torch.Generator().manual_seed(0), METHODS[method]
    z, positive, n = (normalize(torch.randn(rows, 16, generator=g), dim=1) for rows in (anchors, anchors, keys))
    ids = torch.arange(anchors), torch.arange(keys) % 500

    def whole() -> None:
        losses = contrastive_loss(
            z.clone().requires_grad_(),
            positive,
            n,
            made.positives,
            made.negatives,
            LossSettings(form=made.form),
            ids=ids,
            labels=(ids[0] % 10, ids[1] % 10),
            generator=g,
        )
        losses.mean().backward()

    return peak_mebibytes(whole, torch.device("cpu")) / (32 * 2048 * 4 / 2**20)


# The others have rules of these.
@pytest.mark.parametrize("method", ["moco", "potential", "hcl", "fnc", "mochi", "sce", "myow"])
def test_memory_grows_with_anchors_times_keys_and_nothing_worse(method: str) -> None:
    """A list of pairs, or a matrix of keys by keys or of anchors by anchors by keys, would grow fourfold."""
    once = peak(method, 32, 2048)
    assert 1 < once < 12
    assert peak(method, 64, 2048) <= 2.1 * once
    assert peak(method, 32, 4096) <= 2.1 * once
