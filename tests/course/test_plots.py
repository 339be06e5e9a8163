"""What is drawn is what the package computes, legible on light and on dark, and small where it is committed."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from cltools import Similarities, Snapshot, preset, similarities as cosines
from cltools.snapshot.snapshot import as_sprite
from course import plots
from course.figures import FOLDER, PICTURES, small
from course.plots import GREY, KS, Picture
from course.pushes import mass_by_rank

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    """Images in classes that draw together from the first epoch to the second."""
    draws = np.random.default_rng(0)
    labels = np.arange(120) % 3
    centres = draws.normal(size=(3, 8))[labels]

    def embedded(spread: float) -> np.ndarray:
        points = centres + spread * draws.normal(size=(120, 8))
        return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)

    spreads = (2.0, 0.7)
    return Snapshot(
        experiment=preset("digits-moco"),
        epochs=(1, 30),
        anchors=np.stack([embedded(spread) for spread in spreads]),
        keys=np.stack([embedded(spread) for spread in spreads]),
        maps=np.zeros((1, 2, 120, 2), np.float32),
        map_names=("PCA",),
        kept=np.ones((1, 2, 120), np.float32),
        trustworthiness=np.ones((1, 2), np.float32),
        ids=np.arange(120),
        labels=labels,
        classes=("a", "b", "c"),
        sprite=as_sprite(np.zeros((120, 3, 4, 4), np.uint8)),
        tile=(4, 4),
    )


def lines(picture: Picture, panel: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {str(line.get_label()): (line.get_xdata(), line.get_ydata()) for line in picture.figure.axes[panel].lines}


def test_the_force_peaks_where_its_derivative_is_zero(snapshot: Snapshot) -> None:
    drawn = lines(plots.forces(snapshot.similarities(), temperatures=(0.1, 0.5)), panel=0)
    for tau in (0.1, 0.5):
        c, force = drawn[f"τ = {tau}"]
        assert force[0] == pytest.approx(0, abs=1e-6) and force[-1] == 0
        assert c[int(np.argmax(force))] == pytest.approx(((tau**2 + 4) ** 0.5 - tau) / 2, abs=0.006)
        assert 0.99 < force.max() <= 1 + 1e-6


def test_the_push_by_rank_is_the_packages(snapshot: Snapshot) -> None:
    s = snapshot.similarities()
    shares, held = lines(plots.forces(s, temperatures=(0.2,)), panel=1)["τ = 0.2"]
    at = 30
    expected = mass_by_rank(
        plots.push_of(s, 0.2), s.anchor_keys.masked_fill(s.own, -torch.inf), [shares[at] / 100]
    ).mean()
    assert held[at] == pytest.approx(100 * float(expected))
    assert shares[-1] == held[-1] == pytest.approx(100)


def test_bars_split_the_whole_push_into_true_and_false(snapshot: Snapshot) -> None:
    s = snapshot.similarities()
    picture = plots.push_by_rank(s, 0.2)
    false, true = (sum(bar.get_height() for bar in group) for group in picture.figure.axes[0].containers)  # type: ignore[attr-defined]
    push = plots.push_of(s, 0.2)
    assert s.same_class is not None
    share = ((push * s.same_class).sum(1) / push.sum(1)).mean()
    assert false == pytest.approx(100 * float(share), abs=1e-3) and false + true == pytest.approx(100, abs=1e-3)
    assert "ranks 0–1 %" in picture.words and "by false negatives" in picture.words


def test_purity_is_drawn_for_each_epoch_beside_chance(snapshot: Snapshot) -> None:
    picture = plots.purity(snapshot)
    first, last, chance = (line.get_ydata() for line in picture.figure.axes[0].lines)
    s = snapshot.similarities()
    assert s.positive_keys is not None and s.same_class is not None
    closest = s.positive_keys.masked_fill(s.own, -torch.inf).topk(5, dim=1).indices
    assert last[KS.index(5)] == pytest.approx(100 * float(s.same_class.gather(1, closest).float().mean()))
    assert (np.array(last) > np.array(first)).all() and chance[0] == pytest.approx(100 * 39 / 119)
    assert f"epoch 30: {last[0]:.0f} % of the closest" in picture.words


def test_a_picture_is_grey_on_nothing_and_speaks(snapshot: Snapshot) -> None:
    picture = plots.purity(snapshot)
    data, about = picture._repr_png_()
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    assert (pixels[0, 0, 3], pixels[5, -5, 3]) == (0, 0)
    assert about["alt"] == picture.words == repr(picture) and about["width"] < pixels.shape[1]
    axes = picture.figure.axes[0]
    assert {axes.title.get_color(), axes._left_title.get_color(), axes.xaxis.label.get_color()} <= {GREY, "black"}  # type: ignore[attr-defined]
    assert axes._left_title.get_color() == GREY  # type: ignore[attr-defined]


def test_labels_are_needed_where_classes_are_shown(snapshot: Snapshot) -> None:
    z = normalize(torch.randn(4, 3), dim=1)
    s: Similarities = cosines(z, z, z, torch.eye(4, dtype=torch.bool))
    with pytest.raises(AssertionError, match="this snapshot has none"):
        plots.push_by_rank(s, 0.2)


def test_a_committed_picture_keeps_its_size_and_its_ground(snapshot: Snapshot) -> None:
    png = plots.forces(snapshot.similarities()).png()
    less = small(png)
    before, after = (Image.open(io.BytesIO(data)).convert("RGBA") for data in (png, less))
    assert len(less) < 0.7 * len(png) and before.size == after.size
    assert after.getpixel((0, 0))[3] == 0  # type: ignore[index]
    assert np.abs(np.asarray(before, float) - np.asarray(after, float))[..., 3].mean() < 4


@pytest.mark.parametrize("name", PICTURES)
def test_each_notebook_shows_its_committed_picture(name: str) -> None:
    picture = FOLDER / f"{name}.png"
    assert picture.stat().st_size <= 100_000
    (notebook,) = (ROOT / "notebooks").glob(f"{name}_*.ipynb")
    assert f"](figures/{name}.png)" in notebook.read_text(encoding="utf-8")
