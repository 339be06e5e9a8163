"""Methods that differ in their positives alone: each by its published formula, one anchor at a time."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cltools.losses import info_nce
from cltools.mining import AllNegatives, Band, NearestKeys, select, similarities, terms
from cltools.presets import METHODS

TAU = 0.2


def by_hand(method: str, seed: int = 0) -> tuple[list[float], list[dict[str, Any]]]:
    """Our losses of a preset's rules, and what a formula needs of each anchor."""
    generator = torch.Generator().manual_seed(seed)

    def unit(rows: int) -> Tensor:
        return normalize(torch.randn(rows, 4, generator=generator), dim=1)

    z, positive, keys, preset = unit(8), unit(8), unit(40), METHODS[method]
    s = similarities(z, positive, keys, torch.rand(8, 40, generator=generator) < 0.05)
    chosen = select(s, preset.positives.at(1.0), preset.negatives, generator=generator)
    found = info_nce(**terms(s, chosen), temperature=TAU, form=preset.form, reduction="none")
    assert s.positive_keys is not None
    anchors = [
        {
            "positive": float(s.anchor_positive[row]),
            "cosine": [float(c) for c, own in zip(s.anchor_keys[row], s.own[row], strict=True) if not own],
            "key": [float(c) for c, own in zip(s.positive_keys[row], s.own[row], strict=True) if not own],
            "band": [int(b) for b, own in zip(chosen.band[row], s.own[row], strict=True) if not own],
        }
        for row in range(len(s.own))
    ]
    return found.tolist(), anchors


def nearest(scores: list[float], k: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda j: -scores[j])[:k]


def log_mass(cosines: list[float]) -> float:
    return math.log(sum(math.exp(c / TAU) for c in cosines))


def test_nnclr_by_its_formula() -> None:
    """−log e^{NN·z/τ} / Σ e^{·/τ} over the neighbour and every other key."""
    found, anchors = by_hand("nnclr")
    for loss, a in zip(found, anchors, strict=True):
        (j,) = nearest(a["key"], 1)
        assert loss == pytest.approx(log_mass(a["cosine"]) - a["cosine"][j] / TAU, rel=1e-5)


def test_snclr_by_its_formula() -> None:
    """−Σ t log softmax: the view has target 1, five neighbours share another 1 by attention; divided by their sum 2."""
    found, anchors = by_hand("snclr")
    for loss, a in zip(found, anchors, strict=True):
        near = nearest(a["key"], 5)
        attention = [math.exp(a["key"][j]) for j in near]
        target = [1.0, *(x / sum(attention) for x in attention)]
        cosine = [a["positive"], *(a["cosine"][j] for j in near)]
        log_all = log_mass([a["positive"], *a["cosine"]])
        expected = sum(t / 2 * (log_all - c / TAU) for t, c in zip(target, cosine, strict=True))
        assert loss == pytest.approx(expected, rel=1e-5)


def test_sce_by_its_formula() -> None:
    """−Σ w log softmax(z·[z', Q]/τ) with w = λ at the view and (1 − λ)·softmax(z'·Q/0.05) at the keys."""
    found, anchors = by_hand("sce")
    for loss, a in zip(found, anchors, strict=True):
        soft = [math.exp(c / 0.05) for c in a["key"]]
        weight = [0.5, *(0.5 * x / sum(soft) for x in soft)]
        cosine = [a["positive"], *a["cosine"]]
        log_all = log_mass(cosine)
        assert loss == pytest.approx(
            sum(w * (log_all - c / TAU) for w, c in zip(weight, cosine, strict=True)), rel=1e-4
        )


def test_myow_by_its_formula() -> None:
    """Half the loss of the augmented view, half that of one of the five nearest, against the keys that are left."""
    found, anchors = by_hand("myow")
    taken = set()
    for loss, a in zip(found, anchors, strict=True):
        (j,) = (j for j, band in enumerate(a["band"]) if band == Band.MINED)
        assert j in nearest(a["key"], 5)
        taken.add(nearest(a["key"], 5).index(j))
        rest = [c for i, c in enumerate(a["cosine"]) if i != j]
        expected = sum(log_mass([c, *rest]) - c / TAU for c in (a["positive"], a["cosine"][j])) / 2
        assert loss == pytest.approx(expected, rel=1e-5)
    assert len(taken) > 1, "by chance, not always the nearest"


def test_fnc_attraction_by_its_formula() -> None:
    """−(s_aug + Σ_F s_f)/(1 + |F|) + log Σ_all e^s, F among the ten closest to either view and above 0.7."""
    found, anchors = by_hand("fnc-attract")
    sizes = set()
    for loss, a in zip(found, anchors, strict=True):
        closest = [max(pair) for pair in zip(a["cosine"], a["key"], strict=True)]
        false = [j for j in nearest(closest, 10) if closest[j] >= 0.7]
        sizes.add(len(false))
        attraction = (a["positive"] + sum(a["cosine"][j] for j in false)) / (1 + len(false)) / TAU
        assert loss == pytest.approx(log_mass([a["positive"], *a["cosine"]]) - attraction, rel=1e-5)
    assert max(sizes) > 0, "some key is taken for a false negative"


def test_the_closest_are_skipped() -> None:
    """A band for positives: ranks 3 to 5 of the keys that are not the anchor's own; with too few keys nothing."""
    z = torch.tensor([[1.0, 0.0]])
    angle = torch.deg2rad(torch.tensor([5.0, 10, 20, 30, 40, 50, 60]))
    keys = torch.stack([angle.cos(), angle.sin()], dim=1)
    own = torch.tensor([[True, False, False, False, False, False, False]])
    s = similarities(z, z, keys, own)
    rule = NearestKeys(k=3, skip=2, weighting="uniform", augmented_share=0.4, start=0, ramp=0)
    chosen = select(s, rule, AllNegatives())
    assert sorted(chosen.positive_index[0].tolist()) == [3, 4, 5]
    assert chosen.positive_weight[0].tolist() == pytest.approx([0.4, 0.2, 0.2, 0.2])
    for skip, mined in ((5, [6]), (6, []), (7, []), (50, [])):
        few = select(s, NearestKeys(k=3, skip=skip, start=0, ramp=0), AllNegatives())
        assert few.positive_index[0][few.positive_weight[0, 1:] > 0].tolist() == mined
    with pytest.raises(ValueError, match="NearestKeys: skip is -1"):
        NearestKeys(skip=-1)
