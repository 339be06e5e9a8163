"""Figures from predicted classes, against counting by hand; and what is the same in accuracy and its parts."""

import csv
import io
import math

import pytest
import torch
from hypothesis import given, strategies as st

from cltools.errors import CltoolsError
from cltools.evaluation import accuracy, confusion, per_class
from cltools.evaluation.embed import confusion_csv, named

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


@given(pairs=pairs)
def test_figures_agree_with_counting_one_by_one(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = torch.tensor(pairs).unbind(1)
    counts = confusion(predicted, labels, 6)
    assert counts.tolist() == [[pairs.count((true, other)) for other in range(6)] for true in range(6)]
    assert accuracy(predicted, labels) == 100 * sum(a == b for a, b in pairs) / len(pairs)
    for true, share in enumerate(per_class(counts).tolist()):
        of = [other for label, other in pairs if label == true]
        expected = 100 * of.count(true) / len(of) if of else math.nan
        assert share == pytest.approx(expected, nan_ok=True)


@given(pairs=pairs)
def test_accuracy_is_the_mean_over_classes_by_their_sizes(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = torch.tensor(pairs).unbind(1)
    counts = confusion(predicted, labels, 5)
    sizes, shares = counts.sum(1), per_class(counts)
    assert float((shares.nan_to_num() * sizes).sum() / sizes.sum()) == pytest.approx(accuracy(predicted, labels))
    assert shares.isnan().tolist() == (sizes == 0).tolist()


def test_rows_are_true_classes() -> None:
    counts = confusion(torch.tensor([1, 1, 0]), torch.tensor([0, 0, 0]), 2)
    assert counts.tolist() == [[1, 2], [0, 0]]


def test_a_confusion_is_written_with_its_classes_and_protocol() -> None:
    text = confusion_csv(torch.tensor([[3, 1], [0, 2]]), ("cat, big", "dog"), "linear")
    rows = list(csv.reader(io.StringIO(text)))
    assert rows == [["true \\ predicted by linear", "cat, big", "dog"], ["cat, big", "3", "1"], ["dog", "0", "2"]]


def test_names_tell_classes_apart() -> None:
    assert named(("crane", "cat", "crane", "")) == ["crane (0)", "cat", "crane (2)", "(3)"]


def test_of_texts_no_row_is_another_class_where_one_does_not_occur() -> None:
    """Of "a" and "c" among three classes the second row was that of "c"."""
    given = ["a", "c", "c"], ["a", "c", "a"]
    with pytest.raises(CltoolsError, match=r"2 of 3 classes occur among these strings; give whole numbers"):
        confusion(*given, 3)
    assert confusion(*given, 2).tolist() == [[1, 1], [0, 1]]
    assert confusion(["a", "b"], ["b", "c"], 3).tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert confusion([0, 2], [0, 2], 3).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]
