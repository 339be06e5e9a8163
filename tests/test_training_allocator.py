"""Freed memory is kept inside the block, and given back after it, also when the block fails."""

import os
import resource
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from cltools.training import allocator
from cltools.training.allocator import KEEP, MMAP_THRESHOLD, TRIM_THRESHOLD, keeping_freed_memory

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in allocator.SETTLED:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What is asked of the C library."""
    asked: list[tuple[str, int, int]] = []

    def ask(name: str) -> Callable[..., int]:
        return lambda *given: asked.append((name, *given)) or 1  # type: ignore[arg-type, func-returns-value]

    library = SimpleNamespace(mallopt=ask("mallopt"), malloc_trim=ask("malloc_trim"))
    monkeypatch.setattr(allocator, "_glibc", lambda: library)
    return asked


@pytest.mark.skipif(
    allocator._glibc() is None or any(name in os.environ for name in allocator.SETTLED), reason="no glibc, or settled"
)
def test_memory_used_again_is_not_asked_for_again() -> None:
    def pages(steps: int) -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(steps):
            torch.zeros(20 * 2**20)  # 80 MiB: glibc maps such blocks anew each time
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    outside = pages(5)
    with keeping_freed_memory(CPU):
        pages(10)  # at first the heap grows, as long as no free place fits
        assert pages(5) < outside / 4


def test_what_was_changed_is_put_back_after_an_error(asked: list[tuple[str, int, int]]) -> None:
    with pytest.raises(KeyError), keeping_freed_memory(CPU):
        assert asked == [("mallopt", MMAP_THRESHOLD, KEEP), ("mallopt", TRIM_THRESHOLD, KEEP)]
        raise KeyError
    assert [name for name, *_ in asked[2:]] == ["mallopt", "mallopt", "malloc_trim"]
    assert all(value < KEEP for _, _, value in asked[2:4])


@pytest.mark.parametrize("name", allocator.SETTLED)
def test_what_the_environment_says_stays(
    name: str, asked: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "4096")
    with keeping_freed_memory(CPU):
        assert asked == []
    assert asked == []


def test_nothing_is_done_for_a_gpu_or_without_glibc(
    asked: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with keeping_freed_memory(torch.device("cuda")):
        pass
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    with keeping_freed_memory(CPU):
        pass
    assert asked == []
