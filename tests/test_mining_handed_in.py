"""Vectors and shapes that are refused: what is checked, with which tolerance, and when it is looked at."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from cltools.evaluation import alignment, knn_accuracy, linear_probe, uniformity
from cltools.interop import ContrastiveLoss
from cltools.losses import negative_mass
from cltools.mining import handed_in, similarities
from cltools.mining.handed_in import HALF_TOLERANCE, TOLERANCE, as_tensor, check_unit
from cltools.queue import Queue
from cltools.views import ViewSettings, augment

HALVES = (torch.float16, torch.bfloat16)


def unit(rows: int = 6, dim: int = 16, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES])
def test_unit_vectors_pass_and_others_are_refused_with_the_remedy(dtype: torch.dtype) -> None:
    check_unit("keys", unit().to(dtype))
    wrong = unit().to(dtype)
    wrong[4] *= 1.5
    with pytest.raises(ValueError, match=r"keys has vectors .*2\.2.* row 4.*normalize\(keys"):
        check_unit("keys", wrong)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_the_tolerance_is_of_the_square_and_wider_for_half_precision(dtype: torch.dtype) -> None:
    tolerance = HALF_TOLERANCE if dtype in HALVES else TOLERANCE
    for share, passes in ((0.5, True), (-0.5, True), (2.0, False), (-2.0, False)):
        vectors = (unit() * (1 + share * tolerance) ** 0.5).to(dtype)
        if passes:
            check_unit("keys", vectors)
        else:
            with pytest.raises(ValueError, match="unit length"):
                check_unit("keys", vectors)


def test_half_precision_of_many_dimensions_passes() -> None:
    for dtype in HALVES:
        check_unit("keys", unit(200, 512).to(dtype))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_finite_is_named_as_such(value: float, dtype: torch.dtype) -> None:
    vectors = unit().to(dtype)
    vectors[2, 3] = value
    with pytest.raises(ValueError, match="anchor has a vector that is not finite, at row 2"):
        check_unit("anchor", vectors)


def test_false_never_looks_and_no_vectors_are_fine() -> None:
    check_unit("keys", 3 * unit(), check=False)
    check_unit("keys", torch.zeros(0, 8))
    check_unit("keys", torch.zeros(0, 8), check=True)
    z, wrong, own = unit(3), 3 * unit(3), torch.zeros(3, 3, dtype=torch.bool)
    similarities(wrong, z, z, own, check=False)
    for position, name in enumerate(("anchor", "positive", "keys")):
        given = [z, z, z]
        given[position] = wrong
        with pytest.raises(ValueError, match=f"{name} has vectors"):
            similarities(*given, own)


class OnDevice(torch.Tensor):
    """Vectors that say they are on CUDA, and count how often they are looked at."""

    looked = 0

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda")

    def detach(self) -> torch.Tensor:
        self.looked += 1
        return super().detach().as_subclass(torch.Tensor)


def test_on_cuda_each_name_and_shape_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handed_in, "CHECKED_ON_CUDA", set())
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    first = unit(4).as_subclass(OnDevice)
    for name, vectors, times in (
        ("keys", first, 1),
        ("keys", first, 1),
        ("anchor", first, 2),
        ("keys", unit(5).as_subclass(OnDevice), 1),
    ):
        check_unit(name, vectors)
        assert vectors.looked == times
    check_unit("keys", first, check=True)
    check_unit("keys", first, check=False)
    assert first.looked == 3, "True looks again, False does not"


def test_nothing_is_looked_at_while_a_graph_is_captured_or_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handed_in, "CHECKED_ON_CUDA", set())
    vectors = unit(4).as_subclass(OnDevice)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    check_unit("keys", vectors)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    check_unit("keys", vectors)
    check_unit("keys", 3 * unit())
    assert vectors.looked == 0


B, K, D = 3, 5, 4


@pytest.mark.parametrize(
    ("shapes", "own", "named"),
    [
        (((B, D), (B, D), (K, D + 1)), (B, K), r"\[3, 4\] \(anchors\).*\[5, 5\] \(keys\)"),
        (((B, D), (1, D), (K, D)), (B, K), r"\[1, 4\] \(positives\)"),
        (((B, D), (B + 1, D), (K, D)), (B, K), r"\[4, 4\] \(positives\)"),
        (((B, D), (B, D), (K, D)), (K, B), r"own is .*\[3, 5\]"),
        (((B, D), (B, D), (K, D)), (1, K), r"own is .*\[3, 5\]"),
    ],
)
def test_shapes_that_would_be_broadcast_are_refused(shapes: Any, own: Any, named: str) -> None:
    """In the function itself, as it is without the run-time types of the tests."""
    look: Any = similarities
    while hasattr(look, "__wrapped__"):
        look = look.__wrapped__
    anchor, positive, keys = (unit(*shape) for shape in shapes)
    with pytest.raises(ValueError, match=named):
        look(anchor, positive, keys, torch.zeros(own, dtype=torch.bool))


def test_masks_must_be_bool_of_every_key() -> None:
    look: Any = similarities
    while hasattr(look, "__wrapped__"):
        look = look.__wrapped__
    z = unit(3)
    with pytest.raises(ValueError, match=r"own is torch.float32.*bool \[3, 3\]"):
        look(z, z, z, torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"same_class is torch.bool \[3\].*bool \[3, 3\]"):
        look(z, z, z, torch.zeros(3, 3, dtype=torch.bool), same_class=torch.zeros(3, dtype=torch.bool))


# --- the same numbers as a tensor, an array and lists


@pytest.mark.parametrize(
    "form", [lambda x: x.numpy(), lambda x: x.tolist(), lambda x: (*x.tolist(),)], ids=["array", "list", "tuple"]
)
def test_public_functions_take_arrays_and_lists(form: Any) -> None:
    g = torch.Generator().manual_seed(0)
    z, other = (normalize(torch.randn(6, 4, generator=g), dim=1) for _ in range(2))
    ids, pixels = torch.arange(6), torch.randint(0, 256, (2, 3, 8, 8), generator=g)
    weight = torch.rand(6, 4, generator=g)

    def filled(given: Any) -> torch.Tensor:
        queue = Queue(8, 4)
        queue.enqueue(given(z), given(ids), given(ids % 2))
        return torch.cat([queue.keys, queue.ids[:, None].float(), queue.labels[:, None].float()], 1)

    def found(given: Any) -> dict[str, Any]:
        return {
            "negative_mass": negative_mass(given(z[:, :1]), given(z), temperature=0.2, negative_weight=given(weight))[
                0
            ],
            "alignment": alignment(given(z), given(other)),
            "uniformity": uniformity(given(z)),
            "knn": knn_accuracy(given(z), given(ids % 2), given(other), labels=given(ids % 2), protocol="knn10"),
            "probe": linear_probe(given(z), given(ids % 2), given(other), given(ids % 2)),
            "queue": filled(given),
            "loss": ContrastiveLoss()(given(z), given(other), given(ids)),
            "views": augment(given(pixels.float() / 256), ViewSettings(), generator=torch.Generator().manual_seed(0)),
        }

    expected, now = found(lambda x: x), found(form)
    for name, value in expected.items():
        torch.testing.assert_close(now[name], value, msg=lambda text, name=name: f"{name}: {text}")


def test_arrays_keep_their_type_and_lists_of_fractions_become_float32() -> None:
    assert as_tensor("x", [[1.5, 2.0]]).dtype == torch.float32 and as_tensor("x", [1, 2]).dtype == torch.int64
    assert as_tensor("x", np.ones(2)).dtype == torch.float64 and as_tensor("x", [True]).dtype == torch.bool
    assert as_tensor("x", np.array([1.5, 2.0], ">f4")).tolist() == [1.5, 2.0], "another machine's order of bytes"
    assert as_tensor("x", np.ones((2, 2), np.float16).T).dtype == torch.float16
