"""Our loss in lightly's call, against loops and by hand."""

import inspect
import io
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import brute_force
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn
from torch.nn.functional import normalize

from cltools import (
    AllNegatives,
    CltoolsError,
    Context,
    ContrastiveLoss,
    HardnessWeighted,
    LearnedThreshold,
    MixedNegatives,
    NearestKeys,
    OracleNegatives,
    OraclePositives,
    RankBand,
    info_nce,
)

D = 8


def draw(seed: int, *shape: int, spread: float = 1.0) -> Tensor:
    """Random rows with a common direction, as a trained encoder's have."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g) * spread + 0.5


def step(loss: ContrastiveLoss, out0: Tensor, out1: Tensor, ids: Tensor | None = None) -> Tensor:
    """One training call with its backward pass; the gradient by `out0`."""
    out0 = out0.clone().requires_grad_()
    loss(out0, out1, ids).backward()
    assert out0.grad is not None
    return out0.grad


def filled(size: int, *, ids: Tensor | None = None, seed: int = 50, **settings: Any) -> ContrastiveLoss:
    """A loss whose bank of `size` keys is full."""
    loss = ContrastiveLoss(memory_bank_size=(size, D), **settings)
    step(loss, draw(seed, size, D), draw(seed + 1, size, D), ids)
    assert loss.bank is not None and len(loss.bank.queue) == size
    return loss


def bank_of(loss: ContrastiveLoss) -> Any:
    """The bank's contents, copied."""
    assert loss.bank is not None
    return loss.bank.queue.state_dict()


def cosines(a: Tensor, b: Tensor) -> Tensor:
    return normalize(a.float(), dim=1) @ normalize(b.float(), dim=1).T


@pytest.mark.parametrize("form", ["sep", "in", "out", "decoupled"])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_without_a_bank_it_is_simclr_by_hand(batch: int, form: Any) -> None:
    out0, out1 = draw(0, batch, D), draw(1, batch, D)
    rows = torch.cat([out0, out1])
    expected = []
    for i, row in enumerate(cosines(rows, rows)):
        others = [j for j in range(2 * batch) if j % batch != i % batch]
        positive, negative = row[[(i + batch) % (2 * batch)]], row[others]
        expected.append(brute_force.loss(positive.tolist(), negative.tolist(), [1.0], [1.0] * len(others), 0.5, form))
    assert ContrastiveLoss(form=form)(out0, out1).item() == pytest.approx(sum(expected) / len(expected), abs=1e-5)


def test_without_a_bank_the_gradient_reaches_both_sides_alike() -> None:
    out0, out1 = draw(0, 6, D).requires_grad_(), draw(1, 6, D).requires_grad_()
    loss = ContrastiveLoss(temperature=0.2)
    one = torch.autograd.grad(loss(out0, out1), (out0, out1))
    other = torch.autograd.grad(loss(out1, out0), (out0, out1))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)
        assert a.abs().sum() > 0


def test_rows_of_one_image_in_a_batch_are_no_negatives_of_each_other() -> None:
    out0, out1 = draw(0, 3, D), draw(1, 3, D)
    ids = torch.tensor([7, 7, 9])
    z = torch.cat([out0, out1])
    positive = cosines(out0, out1).diag().repeat(2)[:, None]
    differs = (ids.repeat(2)[:, None] != ids.repeat(2)).float()
    expected = info_nce(positive, cosines(z, z), temperature=0.5, negative_weight=differs)
    torch.testing.assert_close(ContrastiveLoss()(out0, out1, ids), expected)


@pytest.mark.parametrize("form", ["sep", "in", "out", "decoupled"])
def test_with_a_bank_it_is_moco_by_hand(form: Any) -> None:
    loss = filled(12, form=form, temperature=0.2)
    out0, out1 = draw(0, 5, D).requires_grad_(), draw(1, 5, D).requires_grad_()
    positive = (normalize(out0, dim=1) * normalize(out1.detach(), dim=1)).sum(1, keepdim=True)
    expected = info_nce(positive, cosines(out0, bank_of(loss)["keys"]), temperature=0.2, form=form)
    got = loss(out0, out1)
    torch.testing.assert_close(got, expected)
    got.backward()
    assert out1.grad is None, "the positives carry no gradient"
    torch.testing.assert_close(out0.grad, torch.autograd.grad(expected, out0)[0])


def test_mines_and_drops_by_its_rules() -> None:
    positives, negatives = NearestKeys(k=2, weighting="uniform"), RankBand(drop_closest=0.25, keep_within=0.75)
    loss = filled(12, positive_rule=positives, negative_rule=negatives, temperature=0.2)
    out0, out1 = draw(0, 5, D), draw(1, 5, D)
    keys = bank_of(loss)["keys"]
    expected = []
    for z, z_key in zip(normalize(out0, dim=1), normalize(out1, dim=1), strict=True):
        anchor, key = (keys @ z).tolist(), (keys @ z_key).tolist()
        order = sorted(range(12), key=lambda j: -key[j])
        mined, kept = order[:2], order[3:9]
        positive = [float(z @ z_key), *(anchor[j] for j in mined)]
        expected.append(
            brute_force.loss(
                positive, [anchor[j] for j in kept if j not in mined], [0.5, 0.25, 0.25], [1.0] * 6, 0.2, "sep"
            )
        )
    assert loss(out0, out1).item() == pytest.approx(sum(expected) / 5, abs=1e-5)


@pytest.mark.parametrize("size", [0, (16, D)])
def test_takes_rules_that_make_or_weigh_negatives(size: Any) -> None:
    for negatives in (MixedNegatives(hardest=4, pairs=3, with_anchor=2), HardnessWeighted(), RankBand(rescale=True)):
        loss = ContrastiveLoss(negative_rule=negatives, memory_bank_size=size)
        for seed in range(3):
            assert step(loss, draw(seed, 6, D), draw(seed + 9, 6, D)).isfinite().all()


def test_the_first_call_has_an_empty_bank_and_a_finite_gradient() -> None:
    for form in ("sep", "in", "out", "decoupled"):
        loss = ContrastiveLoss(NearestKeys(k=3, min_weight="mean"), RankBand(), form=form, memory_bank_size=(8, D))
        assert step(loss, draw(0, 4, D), draw(1, 4, D)).isfinite().all()
        assert loss.bank is not None and len(loss.bank.queue) == 4
        torch.testing.assert_close(loss.bank.queue.keys, normalize(draw(1, 4, D), dim=1))


@pytest.mark.parametrize("size", [1, 5, 8, 13])
def test_holds_the_newest_keys_of_batches_of_any_size(size: int) -> None:
    loss, seen = ContrastiveLoss(memory_bank_size=(size, D)), torch.empty(0, D)
    for seed, batch in enumerate([5, 5, 3, 1, 5, 14]):
        out1 = draw(seed, batch, D)
        step(loss, draw(seed + 50, batch, D), out1)
        seen = torch.cat([seen, normalize(out1, dim=1)])[-size:]
        rows = {tuple(key) for key in bank_of(loss)["keys"].tolist()}
        assert rows == {tuple(key) for key in seen.tolist()}


def test_evaluation_leaves_the_bank_alone() -> None:
    loss = filled(8)
    before = bank_of(loss)
    loss(draw(0, 4, D), draw(1, 4, D))  # nothing asks for a gradient
    with torch.no_grad():
        loss(draw(0, 4, D).requires_grad_(), draw(1, 4, D))
    with torch.inference_mode():
        loss(draw(0, 4, D), draw(1, 4, D))
    loss(draw(0, 4, D).requires_grad_(), draw(1, 4, D))  # computed, never differentiated
    after = bank_of(loss)
    assert torch.equal(before["keys"], after["keys"]) and before["pointer"] == after["pointer"]


def test_keys_are_taken_once_however_often_the_graph_is_used() -> None:
    loss = ContrastiveLoss(memory_bank_size=(8, D))
    value = loss(draw(0, 3, D).requires_grad_(), draw(1, 3, D))
    value.backward(retain_graph=True)
    value.backward()
    assert loss.bank is not None and len(loss.bank.queue) == 3


def test_both_terms_of_a_symmetric_loss_see_the_bank_without_their_batch() -> None:
    loss = filled(12, temperature=0.2)
    keys = bank_of(loss)["keys"]
    q0, q1, k0, k1 = (draw(seed, 4, D).requires_grad_(seed < 2) for seed in range(4))

    def by_hand(q: Tensor, k: Tensor) -> Tensor:
        return info_nce(cosines(q, k).diag()[:, None], cosines(q, keys), temperature=0.2)

    value = (loss(q0, k1) + loss(q1, k0)) / 2
    torch.testing.assert_close(value, (by_hand(q0, k1) + by_hand(q1, k0)) / 2)
    value.backward()
    rows = {tuple(key) for key in bank_of(loss)["keys"].tolist()}
    assert {tuple(key) for key in normalize(torch.cat([k0, k1]), dim=1).tolist()} <= rows


def test_terms_with_a_backward_pass_each_need_ids() -> None:
    q0, q1, k0, k1 = (draw(seed, 4, D) for seed in range(4))
    ids, older = torch.arange(4), torch.arange(100, 112)
    named, unnamed = filled(12, ids=older), filled(12, ids=older)
    keys = torch.cat([normalize(k1, dim=1), bank_of(named)["keys"][4:]])  # the first term's keys, over the oldest
    step(named, q0, k1, ids)
    step(unnamed, q0, k1)
    positive, negative = cosines(q1, k0).diag()[:, None], cosines(q1, keys)
    torch.testing.assert_close(unnamed(q1, k0), info_nce(positive, negative, temperature=0.5))
    others = torch.cat([1 - torch.eye(4), torch.ones(4, 8)], dim=1)
    expected = info_nce(positive, negative, temperature=0.5, negative_weight=others)
    torch.testing.assert_close(named(q1, k0, ids), expected)


def test_a_graph_outlives_what_the_bank_takes_in_between() -> None:
    loss = filled(6)
    first, second = draw(0, 6, D).requires_grad_(), draw(1, 6, D).requires_grad_()
    a, b = loss(first, draw(2, 6, D)), loss(second, draw(3, 6, D))
    expected = torch.autograd.grad(deepcopy(loss)(second, draw(3, 6, D)), second)[0]
    a.backward()
    b.backward()
    torch.testing.assert_close(second.grad, expected)


def test_an_images_older_keys_are_never_its_negatives_nor_mined() -> None:
    ids = torch.arange(6)
    out = draw(0, 6, D)
    loss = ContrastiveLoss(NearestKeys(k=1, weighting="uniform", augmented_share=0.0), memory_bank_size=(6, D))
    step(loss, out, out, ids)  # now each image's nearest key is its own
    seen: list[Tensor] = []

    class Watch(AllNegatives):
        def judge(self, s: Any, context: Context) -> Tensor:
            seen.extend([s.own, context.eligible])
            return super().judge(s, context)

    loss.negative_rule = Watch()
    loss(out, out, ids)
    own, eligible = seen
    assert torch.equal(own, torch.eye(6, dtype=torch.bool))
    assert not (eligible & own).any() and eligible.sum() == 6 * 4, (
        "one own and one mined key less, which is not the own"
    )
    seen.clear()
    loss(out, out)
    assert not seen[0].any(), "without ids nobody knows"


def test_an_image_without_a_name_has_no_own_keys_but_its_two_views() -> None:
    out0, out1 = draw(0, 4, D), draw(1, 4, D)
    for size in (0, (8, D)):
        loss = ContrastiveLoss(memory_bank_size=size)
        if size:
            step(loss, draw(2, 8, D), draw(3, 8, D), torch.full((8,), -1))
        assert loss(out0, out1, torch.full((4,), -1)) == loss(out0, out1) > 0.1


def test_an_evaluated_module_and_a_term_that_asks_for_it_enqueue_nothing() -> None:
    loss = filled(8)
    before = bank_of(loss)
    loss(draw(0, 3, D).requires_grad_(), draw(1, 3, D), enqueue=False).backward()
    loss.eval()
    step(loss, draw(0, 3, D), draw(1, 3, D))
    for one, other in zip(before.values(), bank_of(loss).values(), strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    loss.train()
    step(loss, draw(0, 3, D), draw(1, 3, D))
    assert bank_of(loss)["pointer"] == 3


def test_a_symmetric_loss_leaves_one_key_an_image() -> None:
    loss = ContrastiveLoss(memory_bank_size=(16, D))
    q0, q1, k0, k1 = (draw(seed, 4, D) for seed in range(4))
    q0.requires_grad_()
    (loss(q0, k1) + loss(q1.requires_grad_(), k0, enqueue=False)).backward()
    assert loss.bank is not None and len(loss.bank.queue) == 4
    torch.testing.assert_close(loss.bank.queue.keys, normalize(k1, dim=1))


def test_says_what_it_is() -> None:
    text = repr(ContrastiveLoss(negative_rule=RankBand(drop_closest=0.05), temperature=0.2))
    assert "RankBand(drop_closest=0.05" in text and "temperature=0.2" in text


def test_rules_in_the_wrong_order_are_refused_at_once() -> None:
    with pytest.raises((ValueError, TypeCheckError), match="PositiveRule"):
        ContrastiveLoss(RankBand())  # type: ignore[arg-type]


def saved(loss: nn.Module) -> Any:
    file = io.BytesIO()
    torch.save(loss.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_the_bank_is_saved_and_loaded() -> None:
    whole, resumed = filled(12, ids=torch.arange(12)), ContrastiveLoss(memory_bank_size=(12, D))
    resumed.load_state_dict(saved(whole))
    for seed in range(3):
        ids = torch.arange(seed, seed + 5)
        a, b = (step(loss, draw(seed, 5, D), draw(seed + 9, 5, D), ids) for loss in (whole, resumed))
        assert torch.equal(a, b)
    for one, other in zip(bank_of(whole).values(), bank_of(resumed).values(), strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    inside, copy = (nn.ModuleDict({"loss": ContrastiveLoss(memory_bank_size=(12, D))}) for _ in range(2))
    step(inside["loss"], draw(0, 5, D), draw(1, 5, D))  # type: ignore[arg-type]
    copy.load_state_dict(saved(inside))
    assert len(copy["loss"].bank.queue) == 5  # type: ignore[arg-type]


def test_a_loss_without_a_bank_loads_too() -> None:
    assert ContrastiveLoss().state_dict() == {}, "so that a checkpoint from before the loss loads too"
    ContrastiveLoss().load_state_dict(saved(ContrastiveLoss()))


@pytest.mark.parametrize("sizes", [((12, D), (8, D)), ((12, D), 0), (0, (12, D))])
def test_a_bank_of_another_size_is_refused(sizes: tuple[Any, Any]) -> None:
    of, into = (ContrastiveLoss(memory_bank_size=size) for size in sizes)
    with pytest.raises((ValueError, RuntimeError), match=r"bank\.(keys|ids)"):
        into.load_state_dict(saved(of))


@pytest.mark.parametrize("size", [0, (8, D)])
def test_everything_is_float32_under_autocast(size: Any) -> None:
    def values() -> list[Tensor]:
        negatives = MixedNegatives(pairs=2, with_anchor=2)
        loss = ContrastiveLoss(
            NearestKeys(k=2, min_weight="mean"), negatives, memory_bank_size=size, generator=torch.Generator()
        )
        outputs = []
        for seed in range(3):
            out0 = draw(seed, 4, D).bfloat16().requires_grad_()
            outputs.append(loss(out0, draw(seed + 9, 4, D).bfloat16()))
            outputs[-1].backward()
            assert out0.grad is not None and out0.grad.isfinite().all()
        return outputs

    plain = values()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = values()
    assert all(value.dtype == torch.float32 for value in plain + under)
    assert [value.item() for value in plain] == [value.item() for value in under]


def test_keys_stay_float32_whatever_the_loss_is_cast_to() -> None:
    loss = ContrastiveLoss(memory_bank_size=(8, D)).to("cpu", torch.float64)
    step(loss, draw(0, 3, D).double(), draw(1, 3, D).double())
    assert bank_of(loss)["keys"].dtype == torch.float32


@pytest.mark.gpu
def test_runs_on_the_gpu_as_on_the_cpu() -> None:
    losses = [
        ContrastiveLoss(NearestKeys(k=2, min_weight="mean"), RankBand(), memory_bank_size=(16, D)) for _ in range(2)
    ]
    for seed in range(5):
        out0, out1, ids = draw(seed, 5, D), draw(seed + 9, 5, D), torch.arange(seed, seed + 5)
        here, there = step(losses[0], out0, out1, ids), step(losses[1], out0.cuda(), out1.cuda(), ids)
        torch.testing.assert_close(here, there.cpu(), rtol=1e-4, atol=1e-6)
    assert losses[1].bank is not None and losses[1].bank.queue.keys.is_cuda
    losses[0].load_state_dict(losses[1].cuda().state_dict())
    step(losses[0], draw(0, 5, D), draw(1, 5, D))


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "a size without dimension": (lambda: ContrastiveLoss(memory_bank_size=64), "give \\(number of keys, their dim"),
    "three sizes": (lambda: ContrastiveLoss(memory_bank_size=(4, 4, 4)), "give \\(number of keys, their dim"),
    "a negative size": (lambda: ContrastiveLoss(memory_bank_size=(-1, 4)), "must be a whole number of at least 1"),
    "labels": (lambda: ContrastiveLoss(negative_rule=OracleNegatives()), "takes no labels: use another rule"),
    "oracle positives": (lambda: ContrastiveLoss(OraclePositives()), "OraclePositives reads classes"),
    "learning": (
        lambda: ContrastiveLoss(negative_rule=LearnedThreshold()),
        "learns a state per image while training: use fit",
    ),
    "temperature": (lambda: ContrastiveLoss(temperature=0.0), "above 0"),
    "the bank's dimension": (
        lambda: ContrastiveLoss(memory_bank_size=(8, 4))(torch.ones(2, 3), torch.ones(2, 3)),
        r"\[2, 3\] \(anchors\), .* and \[0, 4\] \(keys\); give",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_meant_is_refused(wrong: str) -> None:
    call, message = WRONG[wrong]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_bank_of_no_keys_is_none() -> None:
    assert ContrastiveLoss(memory_bank_size=(0, D)).bank is None


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((4, 3), (4, 3), (5,))])
def test_shapes_that_do_not_match_are_refused_outside_the_tests_too(shapes: Any) -> None:
    plain = inspect.unwrap(ContrastiveLoss.forward)
    with pytest.raises(ValueError, match=r"give \[B, d\] twice|give real numbers|give whole"):
        plain(ContrastiveLoss(), *(torch.ones(shape) for shape in shapes))


@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_outputs_of_extreme_size_are_compared_by_their_directions(size: float) -> None:
    z = torch.randn(8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    usual, extreme = (ContrastiveLoss()(each, each.flip(1)) for each in (z, z * size))
    torch.testing.assert_close(extreme, usual)


@pytest.mark.parametrize(
    "size", [(10**15, 8), (True, 8), (8, 10**30), (8, 0), (8.5, 8), (8,), (8, 8, 8), -1, True, "8", None]
)
def test_a_bank_of_an_odd_size_is_refused_and_the_argument_named(size: Any, unchecked: None) -> None:
    with pytest.raises(CltoolsError, match=r"memory_bank_size is .*; give \(number of keys, their dimension\)"):
        ContrastiveLoss(memory_bank_size=size)


def test_the_temperature_may_follow_a_schedule_and_is_checked() -> None:
    out0, out1 = draw(0, 4, D), draw(1, 4, D)
    loss = ContrastiveLoss(temperature=0.5)
    loss.temperature = 0.1
    assert loss.temperature == 0.1
    torch.testing.assert_close(loss(out0, out1), ContrastiveLoss(temperature=0.1)(out0, out1))
    with pytest.raises(CltoolsError, match="temperature is -1"):
        loss.temperature = -1


def test_no_outputs_are_refused() -> None:
    with pytest.raises(CltoolsError, match="at least 1"):
        ContrastiveLoss()(torch.zeros(0, D), torch.zeros(0, D))
