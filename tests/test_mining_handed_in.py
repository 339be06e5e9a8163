"""Vectors and shapes that are refused: what is checked, with which tolerance, and when it is looked at."""

import inspect
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import normalize

from cltools.evaluation import accuracy, alignment, confusion, knn_accuracy, knn_predict, linear_probe, uniformity
from cltools.evaluation.features import fit_probe, probe_predict
from cltools.interop import ContrastiveLoss
from cltools.losses import negative_mass
from cltools.mining import handed_in, similarities
from cltools.mining.handed_in import (
    HALF_TOLERANCE,
    TOLERANCE,
    as_ids,
    as_labels,
    as_rows,
    as_tensor,
    check_unit,
    label_values,
    unit_rows,
)
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


# --- every usual form


class Exported:
    """An array of a library that neither torch nor NumPy knows."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __dlpack__(self, **asked: Any) -> Any:
        return self.values.__dlpack__(**asked)

    def __dlpack_device__(self) -> Any:
        return self.values.__dlpack_device__()


def read_only(values: Any) -> np.ndarray:
    array = np.array(values)
    array.flags.writeable = False
    return array


ROWS = [[1.0, 2.0], [3.0, 4.5]]
FORMS: dict[str, Any] = {
    "lists": ROWS,
    "tuples": tuple(map(tuple, ROWS)),
    "float16": np.array(ROWS, np.float16),
    "big-endian": np.array(ROWS, ">f8"),
    "long double": np.array(ROWS, np.longdouble),
    "strided": np.array(ROWS).repeat(2, 0)[::2],
    "transposed": np.array(ROWS).T.copy().T,
    "read-only": read_only(ROWS),
    "objects": np.array(ROWS, object),
    "no mask": np.ma.array(ROWS),
    "tensors": [torch.tensor(row) for row in ROWS],
    "tensors with gradient": [torch.tensor(row, requires_grad=True) for row in ROWS],
    "bfloat16": torch.tensor(ROWS, dtype=torch.bfloat16),
    "a table": pd.DataFrame(ROWS),
    "columns that may lack": pd.DataFrame(ROWS).astype("Float64"),
    "columns of two types": pd.DataFrame({"a": pd.array([1, 3], "Int64"), "b": [2.0, 4.5]}),
    "another library's": Exported(torch.tensor(ROWS)),
}


@pytest.mark.parametrize("form", FORMS)
def test_numbers_are_taken_in_every_usual_form(form: str) -> None:
    found = as_tensor("x", FORMS[form])
    assert found.double().tolist() == ROWS and found.is_floating_point()
    assert as_rows("x", FORMS[form]) is not None and unit_rows("x", FORMS[form]).shape == (2, 2)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.uint64, np.int8, ">i4", "Int64", "UInt16"])
def test_ids_are_whole_numbers_of_any_type(kind: Any) -> None:
    given = pd.Series([3, 1], dtype=kind) if isinstance(kind, str) and kind[0] in "IU" else np.array([3, 1], kind)
    for each in (given, np.asarray(given)[:, None]):
        assert as_ids("ids", each).tolist() == [3, 1] and as_ids("ids", each).dtype == torch.int64


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (["1", "2"], TypeError, "not an array of numbers"),
        ([b"1"], TypeError, "not an array of numbers"),
        (np.array([1 + 2j]), ValueError, "x are torch.complex128"),
        (torch.eye(2).to_sparse(), ValueError, "torch.sparse_coo; give real numbers"),
        (np.ma.array([1.0, 2.0], mask=[0, 1]), TypeError, "some of it is masked"),
        (np.array([None, 1.0]), TypeError, "it holds None"),
        (pd.Series([1, pd.NA], dtype=object), TypeError, "it holds <NA>"),
        (np.array([2**63], np.uint64), TypeError, "it holds 9223372036854775808"),
        ([torch.ones(2), torch.ones(3)], TypeError, "not an array of numbers"),
        ([[1, 2], [3]], TypeError, "not an array of numbers"),
        ({"a": [1.0]}, TypeError, "not an array of numbers"),
        (np.array(["2020-01-01"], "datetime64[D]"), TypeError, "not an array of numbers"),
    ],
)
def test_what_is_no_array_of_real_numbers_is_refused_in_words(given: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        inspect.unwrap(as_tensor)("x", given)


@pytest.mark.parametrize("shape", [(4,), (4, 3, 2), (4, 3, 2, 2), ()])
def test_vectors_of_other_shapes_are_refused_but_for_what_a_pooling_leaves(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"give real numbers \[rows, d\]" + (".*mean of feature maps" * (len(shape) == 4))
    ):
        as_rows("x", torch.ones(shape))
    pooled = torch.rand(6, 3, 1, 1)
    assert torch.equal(as_rows("x", pooled), pooled[:, :, 0, 0])
    labels = [0, 1, 0, 1, 0, 1]
    assert knn_accuracy(pooled, labels, pooled, labels) == knn_accuracy(pooled[:, :, 0, 0], labels, pooled, labels)
    out = pooled.clone().requires_grad_()
    ContrastiveLoss(memory_bank_size=(8, 3))(out, pooled).backward()
    assert out.grad is not None and out.grad.shape == pooled.shape


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([3, 1, 3], [3, 1, 3]),
        ([800_000, -5, 2**62 + 1], [800_000, -5, 2**62 + 1]),
        ([[3], [1]], [3, 1]),
        (np.array([[3.0], [1.0]]), [3, 1]),
        (np.eye(3), [0, 1, 2]),
        (torch.eye(3, dtype=torch.bool), [0, 1, 2]),
        ([[0, 1], [1, 0]], [1, 0]),
        (torch.tensor([2.0, 0.0], requires_grad=True), [2, 0]),
        (torch.tensor([2, 0], dtype=torch.bfloat16), [2, 0]),
        ([True, False], [1, 0]),
        ([np.int64(4), torch.tensor(2), 3.0], [4, 2, 3]),
        ([None, 2, math.nan], [-1, 2, -1]),
        (np.ma.array([1, 2], mask=[0, 1]), [1, -1]),
        (pd.Series([1, pd.NA], dtype="Int64"), [1, -1]),
        (pd.DataFrame({"y": [4, 2]}), [4, 2]),
        (pd.Index([4, 2]), [4, 2]),
        (range(2), [0, 1]),
        (Exported(torch.tensor([4, 2])), [4, 2]),
        (np.array(["b", "a"]), [1, 0]),
        (np.array([b"b", b"a"]), [1, 0]),
        ([b"b", "a", np.str_("b"), "", None], [1, 0, 1, -1, -1]),
        ([["b"], ["a"]], [1, 0]),
        (pd.Series(["b", pd.NA], dtype="string"), [0, -1]),
        (pd.Series(["b", "a"], dtype="category"), [1, 0]),
        ({"b": 0, "a": 1}.keys(), [1, 0]),
        ([], []),
    ],
)
def test_labels_are_taken_in_every_usual_form(given: Any, expected: list[int]) -> None:
    (found,) = as_labels("labels", given)
    assert found.tolist() == expected and found.dtype == torch.int64 and not found.requires_grad


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[1, 2], [3, 4]], r"\[1, 2\] of row 0 is not a whole number .labels.; give classes as whole numbers or text"),
        (torch.tensor([[1, 1], [1, 0]]), r"\[1, 1\] of row 0"),
        ([0.5, 1], "The label 0.5"),
        (torch.tensor([math.inf]), "The label inf"),
        ([2**63], "The label 9223372036854775808"),
        (np.array([1 + 2j]), r"The label \(1\+2j\)"),
        ([1, "a"], "Some labels are text and some are numbers"),
        ([["a", "b"], ["a", "c"]], "a row has several"),
        ([[0, 1], [1]], r"The label \[0, 1\]"),
        (torch.tensor(3), r"The label \[\]"),
        (torch.ones(2, 3, 4), r"The label \[2, 3, 4\]"),
        ("abc", "labels are of type str; give a list"),
        ({0: "a"}, "labels are of type dict"),
        ({0, 1}, "labels are of type set; give a list"),
        (np.array([1, 2**63], np.uint64), "The label 9223372036854775808 is too large"),
        (np.array([1, 2.0**53]), "The label 9007199254740992.0 is too large .labels.; give exact integers"),
        ([1.0, -(2.0**60)], "is too large"),
        (np.array([2**24], np.float32), "The label 16777216.0 is too large"),
        (torch.tensor([2.0**24]), "The label 16777216.0 is too large"),
        (torch.tensor([256], dtype=torch.bfloat16), "The label 256.0 is too large"),
        ([[*range(10**5)]] * 2, r"^.{,300}$"),
        (5, "labels are of type int"),
    ],
)
def test_labels_that_cannot_be_meant_are_refused_in_words(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_labels("labels", given)


def test_the_largest_labels_that_are_told_apart_are_taken() -> None:
    for given in (np.array([2**53 - 1.0]), [2**53 - 1.0], torch.tensor([2.0**24 - 1]), [2**63 - 1], [-(2**63) + 1]):
        assert as_labels("labels", given)[0].tolist() == [int(given[0])]


def test_of_what_is_no_array_the_message_repeats_little() -> None:
    for given in ({"a": np.zeros(1000), "b": "x" * 10**6}, ["x" * 10**6], {*range(10**4)}):
        with pytest.raises(TypeError, match="z is not an array of numbers") as told:
            as_tensor("z", given)
        assert len(str(told.value)) < 500


def test_texts_of_several_sets_are_told_apart_together() -> None:
    assert [side.tolist() for side in as_labels("labels", ["c", "a"], ["b", None])] == [[2, 0], [1, -1]]
    with pytest.raises(ValueError, match="Some labels are text and some are numbers"):
        as_labels("labels", ["c"], [1])


@pytest.mark.parametrize("names", [[5, 800_000, 2**40], ["cat", "dog", "eel"], [b"cat", b"dog", b"eel"]])
@pytest.mark.parametrize("measure", [knn_accuracy, linear_probe])
def test_classes_that_occur_are_counted_whatever_they_are_called(measure: Any, names: list[Any]) -> None:
    draws = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 5, generator=draws), torch.randint(3, (60,), generator=draws)
    x[torch.arange(60), y] += 2
    expected = measure(x[:40], y[:40], x[40:], y[40:])
    named = [names[i] for i in y]
    assert 34 < expected == measure(x[:40], named[:40], x[40:], named[40:]) < 100
    if isinstance(names[0], int):
        assert set(knn_predict(x[:40], named[:40], x).tolist()) <= {*names}
        assert set(probe_predict(x[:40], named[:40], x).tolist()) <= {*names}
        assert fit_probe(x[:40], named[:40]).weight.shape == (3, 5)


def test_predictions_are_compared_row_by_row() -> None:
    assert accuracy(torch.tensor([0, 1, 1]), [[0], [1], [0]]) == pytest.approx(200 / 3)
    assert confusion([0, 1, 1], np.array([0.0, 1.0, 0.0]), 2).tolist() == [[1, 1], [0, 1]]
    with pytest.raises(ValueError, match="There are 3 predictions for 2 labels"):
        accuracy([0, 1, 1], [0, 1])
    with pytest.raises(ValueError, match="Labels go from 0 to 2, but classes from 0 to 1"):
        confusion([0, 2], [0, 1], 2)


def test_tensors_on_two_devices_are_refused() -> None:
    z = unit(3)
    with pytest.raises(ValueError, match="are on cpu and meta; move all to one device"):
        similarities(z, z, z.to("meta"), torch.zeros(3, 3, dtype=torch.bool), check=False)


def test_the_queue_keeps_whole_numbers_alone() -> None:
    queue = Queue(4, 3)
    queue.enqueue(np.ones((2, 3)), np.array([7, 8], np.uint16), [b"a", b"b"])
    assert queue.ids.tolist() == [7, 8] and queue.labels.tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"ids are torch.float32 \[2\]; give whole numbers"):
        queue.enqueue(np.ones((2, 3)), [0.5, 1.0], [0, 1])


def test_a_column_of_vectors_is_a_table_of_their_numbers() -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    assert torch.equal(handed_in.as_rows("x", pd.Series([*vectors])), torch.from_numpy(vectors))
    with pytest.raises(TypeError, match="same shape"):
        handed_in.as_rows("x", pd.Series([np.ones(3), np.ones(4)]))


def test_a_table_with_other_columns_than_those_of_vectors_is_refused() -> None:
    """An id or an age among the vectors would decide every cosine."""
    table = pd.DataFrame(np.ones((5, 3), np.float32))
    for named in (table, table.add_prefix("z")):
        assert handed_in.as_rows("x", named).shape == (5, 3)
        with pytest.raises(handed_in.CltoolsError, match=r"columns .*id.*choose"):
            handed_in.as_rows("x", named.assign(id=range(5)))


def test_a_label_that_its_type_cannot_tell_from_others_is_refused() -> None:
    with pytest.raises(handed_in.CltoolsError, match=r"300\.0 is too large .*exact"):
        handed_in.as_labels("labels", torch.tensor([300, 301], dtype=torch.bfloat16))


class Texts:
    """A column of a library whose `__dlpack__` refuses texts, as pyarrow's."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def __dlpack__(self, **asked: Any) -> Any:
        raise TypeError("only numbers can be exported")

    def __dlpack_device__(self) -> Any:
        return 1, 0

    def __iter__(self) -> Any:
        return iter(self.values)


class TextsOfArrays(Texts):
    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        return np.array(self.values, dtype=object)


@pytest.mark.parametrize("form", [Texts, TextsOfArrays])
def test_texts_of_a_library_with_dlpack_are_labels(form: Any) -> None:
    assert label_values("labels", form(["a", None, "b"])) == ["a", None, "b"]
    assert as_labels("labels", form([3, None, 1]))[0].tolist() == [3, -1, 1]
