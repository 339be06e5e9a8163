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
    NearestKeys,
    RankBand,
    Similarities,
    diagnose,
    info_nce_gradients,
    load_snapshot,
    select,
    terms,
)
from cltools.explorer.session import Session
from cltools.gradients import effective_negatives, mass_by_rank
from course import band_plots, comparison, mistakes, results

GUIDE = " ".join((ROOT / "TEACHING.md").read_text().split())
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


def quote(*pieces: str) -> None:
    assert [piece for piece in pieces if piece not in GUIDE] == []


def test_who_pushes() -> None:
    s, at = everyone(), push(0.2)
    assert s.same_class is not None
    felt = [effective_negatives(push(t)).mean().item() for t in (0.05, 0.07, 1.0)]
    false = 100 * float(((at * s.same_class).sum(1) / at.sum(1)).mean())
    quote(f"{held(0.1, 0.2):.0f} % at τ = 0.2", f"spares nobody. {false:.0f} %", "feel?* Compare")
    quote(f"{felt[1]:.0f}. The rows are equal", f"from {felt[0]:.0f} to {felt[2]:,.0f}")
    quote(f"holds {100 - held(0.5, 0.5, epoch=0):.0f} % of the push", f"these hold {held(0.05, 0.05):.0f} %")


def test_what_edges_cost() -> None:
    digits = everyone("digits-potential")
    assert digits.positive_keys is not None
    snapshot = load_snapshot("digits-potential")
    closest = digits.positive_keys.masked_fill(digits.own, -2).argmax(1)
    threes = torch.from_numpy(snapshot.labels == 3)
    quote(f"comes later: {100 * (snapshot.labels[closest[threes]] == 3).mean():.0f} %")
    ten, thirty = band_plots.prices(digits, [0.1, 0.3])
    gone = [f"{row['false dropped %']:.{d}f} % {of}" for row, d, of in ((ten, 0, "of the false"), (thirty, 1, "and"))]
    quote(f"{gone[0]} and {ten['true dropped %']:.0f} % of the true", f"{gone[1]} {thirty['true dropped %']:.0f} %")
    quote(f"to {band_plots.prices(everyone(), [0.1])[0]['false among kept %']:.1f} % at an edge of 10 %")


def test_what_closeness_knows() -> None:
    s = everyone()
    quote(f"{of_class(select(s, PLAIN, RankBand(0.01, 1.0)).band == Band.HARD, s):.0f} %, where chance is 20 %")
    first, last = (everyone(epoch=epoch) for epoch in (0, -1))
    right = [of_class(select(s, PLAIN, RankBand(0.1, 0.5)).band == Band.HARD, s) for s in (first, last)]
    quote(f"{right[0]:.0f} % right, where chance is 20 %; at epoch 30 it is {right[1]:.0f} %")
    by_k = [
        diagnose(s, select(s, NearestKeys(min_weight="mean"), AllNegatives()), ks=(1, 5, 50)).by_k
        for s in (first, last)
    ]
    early, late = ([100 * share.value for share in shares] for shares in by_k)
    quote(f"{late[1]:.0f} %, by chance 20 %", f"are {late[2]:.0f} % right, at the first epoch {early[2]:.0f} to")
    quote(f"{early[2]:.0f} to {early[0]:.0f} %")


def test_what_records_say() -> None:
    late = comparison("shapes", "late")
    gains = [mean(late.gains(arm).values()) for arm in ("mined-soft", "mined-hard", "mined-soft-hard", "nnclr")]
    quote(f"from −{-min(gains):.1f} to +{max(gains):.1f} on average")
    quote(f"it is ahead in each seed, by {mean(comparison('shapes').gains('oracle').values()):.1f} points")
    moco = results.figures_by_method(results.recorded_runs("digits"), "knn200")["moco"].values()
    quote(f"{max(moco) - min(moco):.1f} points ({min(moco):.1f} to {max(moco):.1f})")


@pytest.mark.parametrize(
    ("function", "cell"),
    [
        ("own_key_in_queue", "{0[0]:.0f} times"),
        ("shared_batch_statistics", "yes: {0[0]:.0f} % and {0[1]:.0f} %, where 50 % is right"),
        ("threshold_by_test_labels", "{0[2]:.1f}"),
    ],
)
def test_what_mistakes_do(function: str, cell: str) -> None:
    effect = getattr(mistakes, function)()
    row = next(line for line in GUIDE.split(" | `mistakes.") if line.startswith(function))
    assert f"| {cell.format([*effect.wrong.values()])} |" in row


def test_the_sections_it_sends_teachers_to_exist() -> None:
    named = re.findall(r'\b(0\d), "([^"]+)"', GUIDE)
    assert len(named) > 10
    for number, title in named:
        (notebook,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
        headings = re.findall(r"^#+ (.*)$", markdown(notebook), flags=re.MULTILINE)
        assert any(title in heading for heading in headings), (number, title)


def test_the_controls_it_names_exist() -> None:
    session = Session(load_snapshot("shapes-moco")).set(rule="RankBand", positive_rule="NearestKeys")
    labels = {control.label for control in session.controls}
    named = {"drop the closest", "show true classes", "candidates k"}
    assert named <= labels and all(f"*{label}*" in GUIDE for label in named)
