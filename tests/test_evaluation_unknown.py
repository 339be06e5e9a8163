"""Images of unknown class: they are of no class, and figures are of the others."""

from dataclasses import replace

import pytest
import torch
from test_evaluation import image_set, small
from test_evaluation_diagnosis import chosen, compared

from cltools.evaluation import diagnose, evaluate, knn_accuracy
from cltools.evaluation.diagnosis import take_census
from cltools.mining import Band
from cltools.mining.negatives import closeness
from cltools.mining.similarities import same_class


def test_of_pairs_the_unknown_are_left_out() -> None:
    draws = torch.Generator().manual_seed(3)
    labels, key_labels = torch.randint(3, (40,), generator=draws), torch.randint(3, (90,), generator=draws)
    s = replace(compared(), same_class=same_class(labels, key_labels))
    unknown = torch.rand(40, generator=draws) < 0.2, torch.rand(90, generator=draws) < 0.1
    part = labels.masked_fill(unknown[0], -1), key_labels.masked_fill(unknown[1], -1)
    known = (part[0] >= 0)[:, None] & (part[1] >= 0)
    partly = replace(s, same_class=same_class(*part), known=known)
    whole, d = (diagnose(each, chosen(each)) for each in (s, partly))
    assert partly.same_class is not None and s.same_class is not None and not (partly.same_class & ~known).any()
    others, band = ~s.own & known, chosen(s).band
    assert d.known is not None and d.known.value == pytest.approx(float(known[~s.own].double().mean()))
    assert whole.known is None and diagnose(replace(s, known=known | True), chosen(s)).known is None
    assert d.base_rate.value == pytest.approx(float(s.same_class[others].double().mean()))
    kept = (band == Band.POTENTIAL) & known
    assert d.false_negative_share.count == int(kept.sum())
    assert d.false_negative_share.value == pytest.approx(float(s.same_class[kept].double().mean()))
    assert sum(share.count for share in d.by_rank) == int(others.sum())
    assert d.by_k[0].count < whole.by_k[0].count and d.hubness == whole.hubness and d.self_hits == whole.self_hits
    assert [held.keys for held in d.bands.values()] == [held.keys for held in whole.bands.values()]
    assert f"classes are known of {100 * d.known.value:.2f} % of the pairs" in str(d)
    score = closeness(partly, "positive")
    counted = take_census([(partly, chosen(partly), score)], 90, labelled=True)
    assert (counted.base_rate, counted.false, counted.recall) == (d.base_rate, d.false_negative_share, d.recall)
    assert counted.known == d.known and "Classes are known of" in counted.words(truth=True)
    assert take_census([(s, chosen(s), score)], 90, labelled=True).known is None


def test_an_unknown_label_is_of_no_class() -> None:
    labels = torch.tensor([-1, 0, -7])
    assert same_class(labels, labels).tolist() == [[False] * 3, [False, True, False], [False] * 3]


def test_an_encoder_is_judged_on_what_is_known() -> None:
    train, test = image_set(60), image_set(40, "test", seed=1)
    gaps = [replace(images, labels=images.labels.clone()) for images in (train, test)]
    for images, places in zip(gaps, ([3], [0, 7]), strict=True):
        images.labels[places] = -1
    protocols = ("knn200", "knn10", "probe")
    found = evaluate(small(), *gaps, protocols=protocols)
    expected = evaluate(small(), *(each.select(each.labels >= 0) for each in gaps), protocols=protocols)
    assert found == expected and (found["train_images"], found["test_images"]) == (59, 38)
    x, y = torch.randn(5, 3), torch.tensor([0, -1, 0, 1, 1])
    with pytest.raises(ValueError, match=r"1 of 5 labels of the bank are unknown .*leave these out"):
        knn_accuracy(x, y, x, y.clamp(min=0))
