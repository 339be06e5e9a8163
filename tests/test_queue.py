"""The ring of keys, against a deque."""

from collections import deque

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from cltools.errors import CltoolsError
from cltools.queue import Queue


def batch(start: int, count: int, dim: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Keys that tell their id."""
    ids = torch.arange(start, start + count)
    return ids[:, None] + torch.arange(dim) / 10, ids, ids % 4


def rows(queue: Queue) -> set[tuple[float, ...]]:
    return {
        (*key.tolist(), int(i), int(label)) for key, i, label in zip(queue.keys, queue.ids, queue.labels, strict=True)
    }


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, list[int]]:
    size = draw(st.integers(1, 12))
    return size, draw(st.lists(st.integers(0, size), max_size=12))


@given(histories())
def test_holds_the_newest_keys_with_their_ids_and_labels(history: tuple[int, list[int]]) -> None:
    size, counts = history
    queue, oracle = Queue(size, 3), deque[tuple[float, ...]](maxlen=size)
    seen = 0
    for count in counts:
        keys, ids, labels = batch(seen, count)
        queue.enqueue(keys, ids, labels)
        oracle.extend((*k.tolist(), int(i), int(c)) for k, i, c in zip(keys, ids, labels, strict=True))
        seen += count
        assert queue.filled == len(queue) == len(oracle) == len(queue.keys) == len(queue.ids) == len(queue.labels)
        assert rows(queue) == set(oracle)
        assert queue.pointer == seen % size


@given(histories(), st.integers(0, 12))
def test_continues_from_its_state_as_if_never_stopped(history: tuple[int, list[int]], cut: int) -> None:
    size, counts = history
    whole, resumed, seen = Queue(size, 3), Queue(size, 3), 0
    for step, count in enumerate(counts):
        if step == cut:
            resumed = Queue(size, 3)
            resumed.enqueue(*batch(900, size))  # what it held before does not matter
            resumed.load_state_dict(whole.state_dict())
        for queue in (whole, resumed):
            queue.enqueue(*batch(seen, count))
        seen += count
        assert torch.equal(whole.keys, resumed.keys) and torch.equal(whole.ids, resumed.ids)
        assert torch.equal(whole.labels, resumed.labels) and whole.pointer == resumed.pointer


def test_empty_slots_do_not_count() -> None:
    queue = Queue(8, 3)
    assert queue.filled == 0 and queue.keys.shape == (0, 3) and queue.ids.shape == (0,)
    queue.enqueue(*batch(5, 3))
    assert queue.ids.tolist() == [5, 6, 7] and queue.labels.tolist() == [1, 2, 3]


def test_order_is_the_place_in_the_ring() -> None:
    queue = Queue(5, 3)
    queue.enqueue(*batch(0, 4))
    queue.enqueue(*batch(4, 3))
    assert queue.ids.tolist() == [5, 6, 2, 3, 4]


@given(histories())
def test_age_is_the_number_of_keys_enqueued_since(history: tuple[int, list[int]]) -> None:
    size, counts = history
    queue, ring, seen = Queue(size, 3), [-1] * size, 0
    for count in counts:
        queue.enqueue(*batch(seen, count))
        for key in range(seen, seen + count):
            ring[key % size] = key  # ids count the keys
        seen += count
    assert queue.ids.tolist() == ring[: queue.filled]


def test_a_resumed_queue_goes_on_at_its_pointer() -> None:
    queue, resumed = Queue(5, 3), Queue(5, 3)
    queue.enqueue(*batch(0, 4))
    queue.enqueue(*batch(4, 3))
    resumed.load_state_dict(queue.state_dict())
    assert resumed.ids.tolist() == [5, 6, 2, 3, 4]
    for each in (queue, resumed):
        each.enqueue(*batch(7, 1))
    assert resumed.ids.tolist() == queue.ids.tolist() == [5, 6, 7, 3, 4]


def test_hands_out_views_and_not_copies() -> None:
    queue = Queue(4, 3)
    queue.enqueue(*batch(0, 4))
    keys, ids = queue.keys, queue.ids
    assert keys.data_ptr() == queue.keys.data_ptr()
    queue.enqueue(*batch(4, 1))
    assert ids[0] == 4 and keys[0, 0] == 4


def test_takes_keys_without_their_gradient_and_in_float32() -> None:
    queue = Queue(4, 3)
    keys, ids, labels = batch(0, 2)
    queue.enqueue(keys.bfloat16().requires_grad_(), ids, labels)
    assert not queue.keys.requires_grad and queue.keys.dtype == torch.float32


def test_enqueue_before_backward_is_refused_by_autograd() -> None:
    queue, anchors = Queue(4, 3), torch.ones(2, 3, requires_grad=True)
    queue.enqueue(*batch(0, 2))
    loss = (anchors @ queue.keys.T).sum()
    queue.enqueue(*batch(2, 2))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_state_is_a_copy_and_loads_as_weights_only(tmp_path) -> None:  # type: ignore[no-untyped-def]
    queue = Queue(4, 3)
    queue.enqueue(*batch(0, 3))
    state = queue.state_dict()
    torch.save(state, tmp_path / "queue.pt")
    queue.enqueue(*batch(3, 3))
    other = Queue(4, 3)
    other.load_state_dict(torch.load(tmp_path / "queue.pt", weights_only=True))
    assert other.ids.tolist() == state["ids"].tolist() == [0, 1, 2] and other.pointer == 3


def test_refuses_what_does_not_fit_and_stays_as_it_was() -> None:
    queue = Queue(4, 3)
    queue.enqueue(*batch(0, 3))
    with pytest.raises(ValueError, match="batch of 5 keys does not fit a queue of 4"):
        queue.enqueue(*batch(3, 5))
    with pytest.raises(ValueError, match=r"give \[B, 3\]"):
        queue.enqueue(*batch(3, 2, dim=2))
    for other in (Queue(5, 3), Queue(4, 2)):
        with pytest.raises(ValueError, match="give this one that size"):
            queue.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="at least 1"):
        Queue(0, 3)
    assert queue.ids.tolist() == [0, 1, 2] and queue.pointer == 3


@pytest.mark.parametrize("sizes", [(10**15, 8), (8, 10**15), (2**62, 2**62), (10**30, 8)])
def test_a_queue_that_no_memory_holds_is_refused_in_words(sizes: tuple[int, int]) -> None:
    with pytest.raises(CltoolsError, match=r"would take .* of memory, more than is available|is too large"):
        Queue(*sizes)
