"""TEACHING.md quotes the course's snapshots and records rightly; a new snapshot asks for new figures."""

import re
from functools import cache
from statistics import mean

import pytest
import torch
from test_project import ROOT, markdown

from cltools import (
    AllNegatives,
    AugmentedView,
    Band,
    RankBand,
    Similarities,
    info_nce_gradients,
    load_snapshot,
    select,
    terms,
)
from cltools.evaluation import mined_purity_by_k
from cltools.mining.negatives import closeness
from course import band_plots, comparison, mistakes, results
from course.pushes import effective_negatives, mass_by_rank

TEXT = (ROOT / "TEACHING.md").read_text(encoding="utf-8")
GUIDE = " ".join(TEXT.split())
PLACES = [" ".join(place.split()) for place in re.split(r"\n\n|\n(?=\||\d\. )", TEXT)]
"""Rows of tables, points of lists, and paragraphs."""
PLAIN = AugmentedView()


@cache
def everyone(name: str = "shapes-moco", epoch: int = -1) -> Similarities:
    return load_snapshot(name).similarities(epoch=epoch)


def push(temperature: float, epoch: int = -1) -> torch.Tensor:
    s = everyone(epoch=epoch)
    return info_nce_gradients(**terms(s, select(s, PLAIN, AllNegatives())), temperature=temperature)[1]


def held(share: float, temperature: float, epoch: int = -1) -> float:
    """Percent of the push that the closest keys hold."""
    s = everyone(epoch=epoch)
    closeness = s.anchor_keys.masked_fill(s.own, -torch.inf)
    return 100 * float(mass_by_rank(push(temperature, epoch), closeness, [share]).mean())


def of_class(chosen: torch.Tensor, s: Similarities) -> float:
    assert s.same_class is not None
    return 100 * float((chosen & s.same_class).sum() / chosen.sum())


def figures(about: str, *found: str) -> None:
    """Assert that the place about something holds these figures, whatever the words around them."""
    (place,) = (place for place in PLACES if about in place)
    assert [figure for figure in found if not re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d])", place)] == [], place


def test_who_pushes() -> None:
    s, at = everyone(), push(0.2)
    assert s.same_class is not None
    felt = [effective_negatives(push(t)).mean().item() for t in (0.05, 0.07, 1.0)]
    false = 100 * float(((at * s.same_class).sum(1) / at.sum(1)).mean())
    figures("closest tenth of the keys", f"{held(0.1, 0.2):.0f} %")
    figures("where is the force of one negative largest", f"{false:.0f} %")
    figures("does an anchor effectively feel", f"{felt[1]:.0f}")
    assert f"from {felt[0]:.0f} to {felt[2]:,.0f}" in GUIDE
    figures("**Homework.** 02's", f"{100 - held(0.5, 0.5, epoch=0):.0f} %")
    figures("dropping the closest 5 %", f"{held(0.05, 0.05):.0f} %")


def test_what_edges_cost() -> None:
    digits = everyone("digits-potential")
    assert digits.positive_keys is not None
    snapshot = load_snapshot("digits-potential")
    closest = digits.positive_keys.masked_fill(digits.own, -2).argmax(1)
    threes = torch.from_numpy(snapshot.labels == 3)
    figures("closest to a handwritten 3", f"{100 * (snapshot.labels[closest[threes]] == 3).mean():.0f} %")
    ten, thirty = band_plots.prices(digits, [0.1, 0.3])
    gone = [f"{row['false dropped %']:.{digits}f} %" for row, digits in ((ten, 0), (thirty, 1))]
    kept = [f"{row['true dropped %']:.0f} %" for row in (ten, thirty)]
    figures("what share of the true negatives is lost", *gone, *kept)
    figures("Why does it fall so slowly", f"{band_plots.prices(everyone(), [0.1])[0]['false among kept %']:.1f} %")


def test_what_closeness_knows() -> None:
    s = everyone()
    closest = select(s, PLAIN, RankBand(0.01, 1.0)).band == Band.HARD
    figures("Of the closest 1 % of all keys", f"{of_class(closest, s):.0f} %")
    first, last = (everyone(epoch=epoch) for epoch in (0, -1))
    right = [of_class(select(s, PLAIN, RankBand(0.1, 0.5)).band == Band.HARD, s) for s in (first, last)]
    figures("What does a band suspect at epoch 1", f"{right[0]:.0f} %", f"{right[1]:.0f} %")
    by_k = [mined_purity_by_k(closeness(s, "positive"), s.own, s.same_class, (1, 5, 50)) for s in (first, last)]
    early, late = ([100 * share.value for share in shares] for shares in by_k)
    figures("Of the five keys closest", f"{late[1]:.0f} %")
    figures("Which of the mined images", f"{late[2]:.0f} %", f"{early[2]:.0f}", f"{early[0]:.0f} %")


def test_what_records_say() -> None:
    late = comparison("shapes", "late")
    gains = [mean(late.gains(arm).values()) for arm in ("mined-soft", "mined-hard", "mined-soft-hard", "nnclr")]
    figures("Where do the four arms stand", f"{-min(gains):.1f}", f"{max(gains):.1f}")
    figures("negatives should be chosen by their labels", f"{mean(comparison('shapes').gains('oracle').values()):.1f}")
    moco = results.figures_by_method(results.recorded_runs("digits"), "knn200")["moco"].values()
    figures("Best less worst", f"{max(moco) - min(moco):.1f}", f"{min(moco):.1f}", f"{max(moco):.1f}")


@pytest.mark.parametrize(
    ("function", "shown"),
    [("own_key_in_queue", {0: 0}), ("shared_batch_statistics", {0: 0, 1: 0}), ("threshold_by_test_labels", {2: 1})],
)
def test_what_mistakes_do(function: str, shown: dict[int, int]) -> None:
    measured = [*getattr(mistakes, function)().wrong.values()]
    figures(f"`mistakes.{function}()`", *(f"{measured[place]:.{digits}f}" for place, digits in shown.items()))


def test_the_sections_it_sends_teachers_to_exist() -> None:
    named = re.findall(r'\b(0\d), "([^"]+)"', GUIDE)
    assert len(named) > 10
    for number, title in named:
        (notebook,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
        headings = re.findall(r"^#+ (.*)$", markdown(notebook), flags=re.MULTILINE)
        assert any(title in heading for heading in headings), (number, title)
