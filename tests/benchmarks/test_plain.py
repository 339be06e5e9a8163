"""That what is clever for speed says what its plain variant says."""

import pytest
import torch
from hypothesis import given, strategies as st
from test_steps import ONCE, small

from benchmarks import plain
from benchmarks.__main__ import rendered
from benchmarks.measuring import Run
from benchmarks.plain import HOLDERS, VARIANTS, swapped
from benchmarks.vectors import Contrast
from cltools import losses
from cltools.mining import bands, selection
from cltools.presets import METHODS, preset

CPU = torch.device("cpu")


@st.composite
def scores(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores [B, K] with ties, and own keys, from none to all of a row; K on both sides of the heap's limit."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = draw(st.integers(1, 5)), draw(st.integers(1, 40))
    steps = draw(st.sampled_from([3, 50, 10**6]))
    score = torch.randint(-steps, steps + 1, shape, generator=generator) / steps
    return score.float(), torch.rand(shape, generator=generator) < draw(st.sampled_from([0.0, 0.1, 1.0]))


@given(scores(), st.data())
def test_edges_are_the_same_to_the_bit(made: tuple[torch.Tensor, torch.Tensor], data: st.DataObject) -> None:
    score, own = made
    counts = data.draw(st.lists(st.integers(0, score.shape[1]), min_size=1, max_size=3))
    for dtype in (torch.float32, torch.float64):
        pairs = zip(
            bands.rank_edges(score.to(dtype), own, counts), plain.rank_edges(score.to(dtype), own, counts), strict=True
        )
        assert all(torch.equal(clever, simple) for clever, simple in pairs)


@given(scores(), st.floats(-1, 1), st.floats(-1, 1))
def test_codes_are_the_same(made: tuple[torch.Tensor, torch.Tensor], a: float, b: float) -> None:
    score, own = made
    low, high = sorted((a, b))
    for hard in (None, score >= high):
        for easy in (None, score < low):
            assert torch.equal(
                bands.band_codes(score, hard=hard, easy=easy), plain.band_codes(score, hard=hard, easy=easy)
            )
    assert torch.equal(bands.other_codes(own), plain.other_codes(own))


def test_every_code_that_a_rule_could_give_becomes_the_same() -> None:
    band = torch.arange(-128, 128).to(torch.int8)[None]
    known = torch.arange(6, dtype=torch.int8)[None]
    assert torch.equal(selection.potential(known), plain.potential(known))
    assert torch.equal(selection.rule_codes(band), plain.rule_codes(band))


@given(scores(), st.sampled_from([(5.0, 5.0), (10.0, 5.0), (200.0, 200.0), (5.0, 0.0)]), st.booleans())
def test_the_log_of_a_sum_and_its_gradient_are_the_same_up_to_rounding(
    made: tuple[torch.Tensor, torch.Tensor], slopes: tuple[float, float], weighted: bool
) -> None:
    cosine, absent = made[0].double(), made[1]
    weight = (cosine.abs() + 0.1).masked_fill(absent, 0.0) if weighted else None
    found = []
    for variant in (losses.log_sum, plain.log_sum):
        leaf = cosine.clone().requires_grad_()
        value = variant(leaf, weight, *slopes)
        value.masked_fill(value == -torch.inf, 0.0).sum().backward()
        found.append((value, leaf.grad))
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_chooses_and_learns_the_same(method: str) -> None:
    first, second = (Contrast((8, 60, 16), preset(f"cifar10-{method}"), CPU) for _ in range(2))
    ours, gradient = first.selection(), first.loss()
    with swapped(*VARIANTS):
        assert selection.rule_codes is plain.rule_codes and losses.log_sum is plain.log_sum
        theirs = second.selection()
        torch.testing.assert_close(second.loss(), gradient)
    assert selection.rule_codes is not plain.rule_codes and losses.log_sum is not plain.log_sum
    for name in ("positive_index", "positive_weight", "negative_weight", "band", "synthetic"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert a is b is None or torch.equal(a, b), name


def test_each_is_swapped_wherever_it_is_called() -> None:
    assert all(HOLDERS.values()) and {"cltools.mining.negatives", "cltools.mining.bands"} <= {
        module.__name__ for module in HOLDERS["band_codes"]
    }


def test_a_table_has_a_row_for_each_and_one_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "laptop", lambda experiment: small(negatives=experiment.negatives))
    monkeypatch.setattr(Run, "medians", lambda run, works: {n: 9.0 if n.startswith("plain") else 3.0 for n in works})
    record = plain.plain(queue_size=24, run=ONCE)
    assert list(record["rows"]) == [*VARIANTS, "all"]
    assert rendered(record).splitlines()[-1] == "| `all` | `potential` | 3.0 (0.33) | 3.0 (0.33) | 3.0 (0.33) |"
