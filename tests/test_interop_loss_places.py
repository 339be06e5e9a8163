"""Where the loss and its bank live: in files, on devices, compiled, copied, and over several processes."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightly.loss import NTXentLoss
from safetensors.torch import load_model, save_file, save_model
from test_interop_loss import D, bank_of, draw, filled, saved, step
from torch import Tensor, distributed as dist, multiprocessing, nn

from cltools import ContrastiveLoss, NearestKeys, RankBand

BATCH, RANKS, STEPS = 6, 2, 4


def same(one: ContrastiveLoss, other: ContrastiveLoss) -> bool:
    pairs = zip(bank_of(one).values(), bank_of(other).values(), strict=True)
    return all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs)


# --- files and devices


def test_the_bank_is_saved_by_safetensors(tmp_path: Path) -> None:
    whole, loaded = filled(12, ids=torch.arange(12)), ContrastiveLoss(memory_bank_size=(12, D))
    step(whole, draw(0, 5, D), draw(1, 5, D), torch.arange(5))
    save_file(whole.state_dict(), tmp_path / "plain.safetensors")
    save_model(whole, str(tmp_path / "model.safetensors"))
    load_model(loaded, tmp_path / "model.safetensors")
    assert same(whole, loaded) and bank_of(loaded)["pointer"] == 5
    a, b = (step(loss, draw(2, 5, D), draw(3, 5, D), torch.arange(5)) for loss in (whole, loaded))
    assert torch.equal(a, b) and same(whole, loaded)


@pytest.mark.parametrize("assign", [False, True])
def test_a_loaded_bank_goes_on_where_it_was_saved(assign: bool) -> None:
    whole, loaded = ContrastiveLoss(memory_bank_size=(12, D)), filled(12, seed=70)
    step(whole, draw(0, 5, D), draw(1, 5, D))
    state = saved(whole)
    loaded.load_state_dict(state, assign=assign)
    assert len(loaded.bank.queue) == 5 and same(whole, loaded)  # type: ignore[union-attr]
    for loss in (whole, loaded):
        step(loss, draw(2, 5, D), draw(3, 5, D))
    assert same(whole, loaded)


def test_a_state_without_a_bank_leaves_it_alone() -> None:
    loss = filled(6)
    before = bank_of(loss)["keys"]
    loss.load_state_dict({}, strict=False)
    assert len(loss.bank.queue) == 6 and torch.equal(bank_of(loss)["keys"], before)  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match=r"bank\.keys"):
        loss.load_state_dict(saved(filled(8)))
    assert len(loss.bank.queue) == 6  # type: ignore[union-attr]


def test_the_bank_is_moved_and_keeps_its_precision() -> None:
    loss = filled(6)
    before = bank_of(loss)["keys"]
    nn.ModuleList([loss]).to(torch.bfloat16)
    assert torch.equal(bank_of(loss)["keys"], before)
    step(loss, draw(0, 3, D), draw(1, 3, D))
    bank: Any = loss.bank
    assert {name for name, _ in loss.named_buffers()} == {"bank.keys", "bank.ids", "bank.labels"}
    loss.to("meta")
    assert bank.queue.keys.is_meta and bank.queue.ids.is_meta and bank.queue.labels.is_meta


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))])
def test_a_copy_has_a_bank_of_its_own(copied: Any) -> None:
    loss = filled(6, generator=torch.Generator().manual_seed(3))
    other = copied(loss)
    step(other, draw(0, 3, D), draw(1, 3, D))
    assert not same(loss, other)
    step(loss, draw(0, 3, D), draw(1, 3, D))
    assert same(loss, other) and saved(other)["bank._extra_state"].tolist() == [3, 6, 6]


def test_a_bank_made_while_nothing_is_learned_can_be_written_to() -> None:
    with torch.inference_mode():
        loss = ContrastiveLoss(memory_bank_size=(6, D))
    step(loss, draw(0, 3, D), draw(1, 3, D))
    assert len(loss.bank.queue) == 3  # type: ignore[union-attr]
    with torch.inference_mode():
        loss.to("meta")
    assert not any(buffer.is_inference() for buffer in loss.buffers()), "moved there, it can be written to as well"


def test_sizes_are_whole_numbers_of_any_kind(unchecked: None) -> None:
    for size in (np.array([6, D]), (np.int64(6), np.int64(D)), [6, D], torch.Size([6, D])):
        assert ContrastiveLoss(memory_bank_size=size).bank.queue.size == 6  # type: ignore[union-attr, arg-type]
    assert ContrastiveLoss(memory_bank_size=np.int64(0)).bank is None  # type: ignore[arg-type]
    for wrong in ((6.5, D), (6, -1), ("6", D)):
        with pytest.raises(ValueError, match="whole number"):
            ContrastiveLoss(memory_bank_size=wrong)  # type: ignore[arg-type]


# --- compiled


CALLS = ("one", "two", "twice")
RULES: tuple[Any, ...] = ((None, None), (NearestKeys(k=2), RankBand(0.1, 0.8)))


def compare(plain: ContrastiveLoss, calls: str) -> None:
    """Some steps of a loss and of a compiled copy."""
    torch._dynamo.reset()
    inner = copy.deepcopy(plain)
    compiled: Any = torch.compile(inner, backend="aot_eager")
    for seed in range(STEPS):
        gradients = []
        for loss in (plain, compiled):
            out0, out1 = draw(seed, 5, D).requires_grad_(), draw(seed + 9, 5, D)
            value = loss(out0, out1)
            if calls == "two":
                value = value + loss(out0.flip(0), out1.flip(0), enqueue=False)
            if calls == "twice":
                value.backward(retain_graph=True)
            value.backward()
            gradients.append(out0.grad)
        torch.testing.assert_close(*gradients)
    assert same(plain, inner)


def compiling(_: int) -> None:
    for rules in RULES:
        for calls in CALLS:
            compare(ContrastiveLoss(*rules, memory_bank_size=(16, D)), calls)
    for rules in RULES:  # without a bank nothing breaks the graph
        torch._dynamo.reset()
        plain, draws = ContrastiveLoss(*rules), (draw(0, 5, D), draw(1, 5, D))
        compiled: Any = torch.compile(copy.deepcopy(plain), backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(*draws), plain(*draws))


@pytest.mark.slow
def test_compiled_it_learns_as_it_does_otherwise() -> None:
    """In a process of its own, whose calls nothing checks, as the compiler would compile these checks too."""
    multiprocessing.spawn(compiling, nprocs=1)


# --- over processes


def outputs(seed: int) -> tuple[Tensor, Tensor]:
    return draw(seed, BATCH * RANKS, D), draw(seed + 20, BATCH * RANKS, D)


def rows_of(rank: int) -> slice:
    return slice(rank * BATCH, (rank + 1) * BATCH)


SETTINGS: dict[str, dict[str, Any]] = {
    "in batch": {},
    "in batch by rules": {"positive_rule": NearestKeys(k=2), "negative_rule": RankBand(0.1, 0.8)},
    "bank": {"memory_bank_size": (20, D)},
    "small bank": {"memory_bank_size": (5, D), "negative_rule": RankBand(0.1, 0.8, rescale=True)},
}


def worker(rank: int, folder: str) -> None:
    """What one of two processes computes, and what lightly does there."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=RANKS)
    seen: dict[str, Any] = {}
    for name, settings in SETTINGS.items():
        for named in (False, True):
            loss = ContrastiveLoss(temperature=0.2, gather_distributed=True, **settings)
            seen[f"{name} {named}"] = rows = []
            for seed in range(STEPS):
                out0, out1 = (out[rows_of(rank)].clone().requires_grad_() for out in outputs(seed))
                value = loss(out0, out1, torch.arange(BATCH * RANKS)[rows_of(rank)] if named else None)
                value.backward()
                rows.append([value.detach(), out0.grad, out1.grad if loss.bank is None else None])
            seen[f"{name} {named} bank"] = None if loss.bank is None else bank_of(loss)
    theirs = NTXentLoss(temperature=0.2, gather_distributed=True)
    seen["lightly"] = theirs(*(out[rows_of(rank)] for out in outputs(0)))
    torch.save(seen, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_together_are_one_of_the_whole_batch(tmp_path: Path) -> None:
    multiprocessing.spawn(worker, (str(tmp_path),), nprocs=RANKS)
    seen = [torch.load(tmp_path / f"{rank}.pt") for rank in range(RANKS)]
    for name, settings in SETTINGS.items():
        for named in (False, True):
            whole = ContrastiveLoss(temperature=0.2, gather_distributed=True, **settings)
            for seed in range(STEPS):
                out0, out1 = (out.requires_grad_() for out in outputs(seed))
                value = whole(out0, out1, torch.arange(BATCH * RANKS) if named else None)
                value.backward()
                ours = [each[f"{name} {named}"][seed] for each in seen]
                torch.testing.assert_close(torch.stack([row[0] for row in ours]).mean(), value.detach())
                torch.testing.assert_close(torch.cat([row[1] for row in ours]) / RANKS, out0.grad)
                if whole.bank is None:
                    torch.testing.assert_close(torch.cat([row[2] for row in ours]) / RANKS, out1.grad)
            for each in seen if whole.bank is not None else ():
                torch.testing.assert_close(each[f"{name} {named} bank"]["keys"], bank_of(whole)["keys"])
    for each in seen:
        torch.testing.assert_close(each["in batch False"][0][0], each["lightly"])


def test_alone_gathering_changes_nothing() -> None:
    for size in (0, (8, D)):
        losses = [ContrastiveLoss(memory_bank_size=size, gather_distributed=each) for each in (False, True)]
        for seed in range(3):
            a, b = (step(loss, draw(seed, 4, D), draw(seed + 9, 4, D)) for loss in losses)
            assert torch.equal(a, b)
