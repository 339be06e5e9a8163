"""One call for a batch: the same as its parts, and the same in chunks, for every rule and form."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cltools import CltoolsError
from cltools.contrast import contrastive_loss
from cltools.losses import FORMS, LossSettings, info_nce
from cltools.mining import (
    AllNegatives,
    AugmentedView,
    CancelFalseNegatives,
    Debiased,
    EveryKey,
    HardnessWeighted,
    MarginBand,
    NearestKeys,
    NegativeRule,
    OracleNegatives,
    PositiveRule,
    RandomNegatives,
    RankBand,
    RingNegatives,
    Selection,
    Similarities,
    select,
    similarities,
    terms,
)

PLAIN = AugmentedView()
DRAWLESS: dict[str, tuple[PositiveRule, NegativeRule, LossSettings]] = {
    "plain": (PLAIN, AllNegatives(), LossSettings()),
    "band": (NearestKeys(min_weight="mean"), RankBand(), LossSettings()),
    "band by force": (NearestKeys(min_weight="mean", by="either"), RankBand(by="force", rescale=True), LossSettings()),
    "margin": (PLAIN, MarginBand(margin=-0.2, within=0.7), LossSettings()),
    "ring": (PLAIN, RingNegatives(), LossSettings()),
    "hcl": (PLAIN, HardnessWeighted(detach=False), LossSettings(0.5)),
    "debiased": (PLAIN, Debiased(), LossSettings(0.5)),
    "fnc": (PLAIN, CancelFalseNegatives(k=3, min_cosine=0.1), LossSettings()),
    "oracle": (PLAIN, OracleNegatives(), LossSettings()),
    "sce": (EveryKey(temperature=0.05), AllNegatives(), LossSettings(form="out")),
    "in": (NearestKeys(), AllNegatives(), LossSettings(form="in")),
    "decoupled": (PLAIN, AllNegatives(), LossSettings(form="decoupled")),
}
every_rule = pytest.mark.parametrize("name", DRAWLESS)


def batch(seed: int = 0, anchors: int = 7, keys: int = 40, dim: int = 6) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)

    def unit(rows: int) -> Tensor:
        return normalize(torch.randn(rows, dim, generator=generator), dim=1)

    anchor = unit(anchors).requires_grad_()
    ids = torch.arange(anchors)
    key_ids = torch.randint(0, 12, (keys,), generator=generator)
    return {
        "anchor": anchor,
        "positive": normalize(anchor.detach() + 0.3 * unit(anchors), dim=1).requires_grad_(),
        "keys": unit(keys),
        "ids": (ids, key_ids),
        "labels": (ids % 3, key_ids % 3),
    }


def outcome(name: str, given: dict[str, Any], **more: Any) -> tuple[Tensor, ...]:
    """Losses, and the gradients of an uneven sum of them by anchors, positives and keys."""
    vectors = [given[key] for key in ("anchor", "positive", "keys")]
    losses = contrastive_loss(*vectors, *DRAWLESS[name], ids=given["ids"], labels=given["labels"], **more)
    uneven = torch.arange(1.0, len(losses) + 1)
    vectors = [each for each in vectors if each.requires_grad]
    gradients = torch.autograd.grad((losses * uneven).sum(), vectors, allow_unused=True, materialize_grads=True)
    return losses.detach(), *gradients


@every_rule
def test_one_call_is_its_parts(name: str) -> None:
    given, (positive_rule, negative_rule, loss) = batch(), DRAWLESS[name]
    (ids, key_ids), (labels, key_labels) = given["ids"], given["labels"]
    s = similarities(
        given["anchor"],
        given["positive"],
        given["keys"],
        ids[:, None] == key_ids,
        same_class=labels[:, None] == key_labels,
    )
    chosen = select(s, positive_rule, negative_rule, temperature=loss.temperature)
    expected = info_nce(**terms(s, chosen), temperature=loss.temperature, form=loss.form, reduction="none")
    assert torch.equal(outcome(name, given)[0], expected.detach())


@every_rule
@pytest.mark.parametrize("constant", [(), ("positive",), ("anchor",)])
def test_chunks_equal_the_whole_in_value_and_gradient(name: str, constant: tuple[str, ...]) -> None:
    given = batch()
    given |= {each: given[each].detach() for each in constant}
    expected = outcome(name, given)
    for chunk in (1, 3, 7, 100):
        for whole, parts in zip(expected, outcome(name, given, chunk=chunk), strict=True):
            torch.testing.assert_close(parts, whole, rtol=1e-5, atol=5e-6)


def test_on_a_cpu_chunks_are_made_where_keys_are_many_and_need_no_gradient() -> None:
    for keys, gradient, sizes in ((20_000, False, [78, 52]), (20_000, True, [130]), (2_000, False, [130])):
        given, seen = batch(anchors=130, keys=keys), list[int]()
        given["keys"].requires_grad_(gradient)
        found = outcome("plain", given, observe=lambda s, _, seen=seen: seen.append(len(s.own)))
        assert seen == sizes
        given["keys"].requires_grad_(False)
        for parts, whole in zip(found, outcome("plain", given, chunk=130), strict=False):
            total = sum(range(1, 131))  # the weights that `outcome` gives the losses
            torch.testing.assert_close(parts / total, whole / total, rtol=1e-5, atol=1e-6)


def test_chunks_give_losses_where_nothing_needs_a_gradient() -> None:
    given = batch()
    for each in ("anchor", "positive", "keys"):
        given[each] = given[each].detach()
    losses = [
        contrastive_loss(
            *(given[key] for key in ("anchor", "positive", "keys")), *DRAWLESS["band"], ids=given["ids"], chunk=chunk
        )
        for chunk in (3, 7)
    ]
    assert not losses[0].requires_grad
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("form", FORMS)
def test_chunks_equal_the_whole_in_every_form(form: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given = batch(1)
    rules = NearestKeys(k=3, weighting="uniform"), RankBand(0.1, 0.9), LossSettings(form=form)
    monkeypatch.setitem(DRAWLESS, "form", rules)
    for whole, parts in zip(outcome("form", given), outcome("form", given, chunk=2), strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=5e-6)


def test_ids_and_labels_that_change_before_the_backward_pass_change_nothing() -> None:
    """A queue's are views, overwritten by the next batch."""
    for name in ("band", "oracle"):
        given = batch()
        expected = outcome(name, given, chunk=2)
        vectors = [given[key] for key in ("anchor", "positive", "keys")]
        losses = contrastive_loss(*vectors, *DRAWLESS[name], ids=given["ids"], labels=given["labels"], chunk=2)
        for tensor in (*given["ids"], *given["labels"], given["keys"]):
            tensor.zero_()
        gradients = torch.autograd.grad((losses * torch.arange(1.0, 8)).sum(), vectors[:2])
        for found, gradient in zip(gradients, expected[1:], strict=True):
            torch.testing.assert_close(found, gradient)


def test_chunks_of_keys_that_need_a_gradient_are_refused() -> None:
    with pytest.raises(CltoolsError, match="keys need a gradient"):
        outcome("plain", {**batch(), "keys": batch()["keys"].requires_grad_()}, chunk=3)


def test_draws_go_on_from_chunk_to_chunk() -> None:
    given, generator = batch(3, anchors=6), torch.Generator().manual_seed(0)
    kept: list[Tensor] = []
    losses = contrastive_loss(
        *(given[key] for key in ("anchor", "positive", "keys")),
        PLAIN,
        RandomNegatives(0.5),
        LossSettings(),
        ids=(given["ids"][0] + 100, given["ids"][1]),
        generator=generator,
        chunk=2,
        observe=lambda _, chosen: kept.append(chosen.negative_weight),
    )
    assert not torch.equal(kept[0], kept[1]) and not torch.equal(kept[1], kept[2])
    before = generator.get_state()
    losses.sum().backward()
    assert torch.equal(generator.get_state(), before), "the backward pass draws nothing of its own"


@pytest.mark.parametrize(("chunk", "sizes"), [(None, [7]), (3, [3, 3, 1]), (7, [7]), (9, [7])])
def test_what_is_compared_is_shown_once(chunk: int | None, sizes: list[int]) -> None:
    seen: list[tuple[Similarities, Selection]] = []
    outcome("band", given := batch(), chunk=chunk, observe=lambda s, chosen: seen.append((s, chosen)))
    assert [len(s.anchor_keys) for s, _ in seen] == [len(chosen.band) for _, chosen in seen] == sizes
    torch.testing.assert_close(torch.cat([s.anchor_keys for s, _ in seen]), given["anchor"] @ given["keys"].T)


def test_labels_reach_the_oracle_alone() -> None:
    given = batch()
    for name in DRAWLESS:
        reads = any(
            not torch.equal(a, b)
            for a, b in zip(
                outcome(name, given),
                outcome(name, {**given, "labels": (given["ids"][0], given["ids"][1])}),
                strict=True,
            )
        )
        assert reads == (name == "oracle"), name
    with pytest.raises(ValueError, match="needs labels"):
        outcome("oracle", {**given, "labels": None})


@pytest.mark.parametrize("chunk", [0, -1])
def test_a_chunk_without_anchors_is_refused(chunk: int) -> None:
    with pytest.raises(ValueError, match=f"chunk is {chunk}; it must be a whole number of at least 1"):
        outcome("plain", batch(), chunk=chunk)


@pytest.mark.parametrize("chunk", [None, 2])
def test_no_keys_are_an_ordinary_first_step(chunk: int | None) -> None:
    losses, *gradients = outcome("band", batch(keys=0), chunk=chunk)
    assert losses.tolist() == [0] * 7 and all(g.count_nonzero() == 0 for g in gradients)


@pytest.mark.slow
def test_chunks_hold_less_at_once() -> None:
    """Peak memory of a process whose dense pass would hold a dozen matrices of 256 MiB."""
    program = """
import resource, sys
import torch
from cltools.contrast import contrastive_loss
from cltools.losses import LossSettings
from cltools.mining import NearestKeys, RankBand

torch.manual_seed(0)
z, keys = (torch.nn.functional.normalize(torch.randn(rows, 8), dim=1) for rows in (1024, 65536))
ids = (torch.arange(1024), torch.arange(65536) + 5000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
contrastive_loss(
    z.requires_grad_(), z.detach(), keys, NearestKeys(), RankBand(), LossSettings(), ids=ids, chunk=32
).mean().backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, encoding="utf-8")
    assert float(done.stdout) < 256, "less than one matrix of all anchors by all keys"


@pytest.mark.parametrize("times", [1, 2])
def test_a_chunk_keeps_its_draws_however_often_the_backward_pass_runs(times: int) -> None:
    """Gradients of several backward passes are those of one, and the generator stands where the losses left it."""
    given, generator = batch(3, anchors=6), torch.Generator().manual_seed(0)
    anchor = given["anchor"].detach().clone().requires_grad_()
    shown: list[Selection] = []
    losses = contrastive_loss(
        anchor,
        given["positive"],
        given["keys"],
        PLAIN,
        RandomNegatives(0.5),
        LossSettings(),
        ids=(given["ids"][0] + 100, given["ids"][1]),
        generator=generator,
        chunk=2,
        observe=lambda _, chosen: shown.append(chosen),
    )
    stands = generator.get_state()
    found = [torch.autograd.grad(losses.sum(), anchor, retain_graph=True)[0] for _ in range(times)]
    weight = torch.cat([chosen.negative_weight for chosen in shown])
    z = given["anchor"].detach().clone().requires_grad_()
    s, own = z @ given["keys"].detach().T / 0.2, (z * given["positive"].detach()).sum(1) / 0.2
    by_hand = ((s.exp() * weight).sum(1) + own.exp()).log() - own
    torch.testing.assert_close(losses, by_hand, rtol=1e-5, atol=1e-5)
    expected = torch.autograd.grad(by_hand.sum(), z)[0]
    for gradient in found:
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)
    assert len(shown) == 3 and torch.equal(generator.get_state(), stands)


@pytest.mark.parametrize("surroundings", [torch.no_grad, torch.inference_mode])
def test_chunks_give_losses_alone_where_no_gradient_is_wanted(surroundings: Any) -> None:
    given = batch(anchors=130, keys=20_000)
    vectors = [given[key] for key in ("anchor", "positive", "keys")]
    rules = NearestKeys(), RankBand(), LossSettings()
    expected = contrastive_loss(*vectors, *rules, ids=given["ids"]).detach()
    with surroundings():
        losses = contrastive_loss(*vectors, *rules, ids=given["ids"])
    assert torch.equal(losses, expected) and not losses.requires_grad


def test_another_default_device_changes_nothing_where_keys_are_many() -> None:
    given = batch(anchors=130, keys=20_000)
    vectors = [given[key] for key in ("anchor", "positive", "keys")]
    rules = NearestKeys(), RankBand(), LossSettings()
    expected = contrastive_loss(*vectors, *rules, ids=given["ids"])
    with torch.device("meta"):
        assert torch.equal(contrastive_loss(*vectors, *rules, ids=given["ids"]), expected)


def test_no_anchors_have_no_losses() -> None:
    given = batch(anchors=0, keys=2_000)
    vectors = [given[key] for key in ("anchor", "positive", "keys")]
    assert contrastive_loss(*vectors, NearestKeys(), RankBand(), LossSettings(), ids=given["ids"]).shape == (0,)
