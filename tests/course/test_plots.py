"""What is drawn is what the package computes, and the committed figures are small."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from cltools import Similarities, Snapshot, preset, similarities as cosines
from cltools.snapshot.snapshot import as_sprite
from course import plots
from course.charts import Chart
from course.figures import FIGURES, FOLDER, page_of, small
from course.plots import KS
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


def lines(chart: Chart, panel: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    drawn = chart.figure.select_traces(row=panel, col=1)
    return {trace.name: (np.array(trace.x), np.array(trace.y)) for trace in drawn}


def test_the_force_peaks_where_its_derivative_is_zero(snapshot: Snapshot) -> None:
    drawn = lines(plots.forces(snapshot.similarities(), temperatures=(0.1, 0.5)), panel=1)
    for tau in (0.1, 0.5):
        c, force = drawn[f"τ = {tau}"]
        assert force[0] == pytest.approx(0, abs=1e-6) and force[-1] == 0
        assert c[int(np.argmax(force))] == pytest.approx(((tau**2 + 4) ** 0.5 - tau) / 2, abs=0.006)
        assert 0.99 < force.max() <= 1 + 1e-6


def test_the_push_by_rank_is_the_packages(snapshot: Snapshot) -> None:
    s = snapshot.similarities()
    shares, held = lines(plots.forces(s, temperatures=(0.2,)), panel=2)["τ = 0.2"]
    at = 30
    expected = mass_by_rank(
        plots.push_of(s, 0.2), s.anchor_keys.masked_fill(s.own, -torch.inf), [shares[at] / 100]
    ).mean()
    assert held[at] == pytest.approx(100 * float(expected))
    assert shares[-1] == held[-1] == pytest.approx(100)


def test_bars_split_the_whole_push_into_true_and_false(snapshot: Snapshot) -> None:
    s = snapshot.similarities()
    chart = plots.push_by_rank(s, 0.2)
    false, true = (sum(bars.y) for bars in chart.figure.data)
    push = plots.push_of(s, 0.2)
    assert s.same_class is not None
    share = ((push * s.same_class).sum(1) / push.sum(1)).mean()
    assert false == pytest.approx(100 * float(share), abs=1e-3) and false + true == pytest.approx(100, abs=1e-3)
    assert "ranks 0–1 %" in chart.words and "by false negatives" in chart.words


def test_the_histogram_counts_every_negative(snapshot: Snapshot) -> None:
    s = snapshot.similarities()
    bars = plots.forces(s).figure.data[0]
    counts, edges = np.histogram(s.anchor_keys[~s.own].numpy(), bins=plots.BINS, range=(-1, 1))
    assert [*bars.x] == pytest.approx((edges[1:] + edges[:-1]) / 2)
    assert [*bars.y] == pytest.approx(counts / counts.max() / 2, abs=1e-3)
    assert sum(bars.customdata) == pytest.approx(100, abs=1e-3)


def test_purity_is_drawn_for_each_epoch_beside_chance(snapshot: Snapshot) -> None:
    chart = plots.purity(snapshot)
    first, last, chance = (trace.y for trace in chart.figure.data)
    s = snapshot.similarities()
    assert s.positive_keys is not None and s.same_class is not None
    closest = s.positive_keys.masked_fill(s.own, -torch.inf).topk(5, dim=1).indices
    assert last[KS.index(5)] == pytest.approx(100 * float(s.same_class.gather(1, closest).float().mean()))
    assert (np.array(last) > np.array(first)).all() and chance[0] == pytest.approx(100 * 39 / 119)
    assert f"epoch 30: {last[0]:.0f} % of the closest" in chart.words


def test_labels_are_needed_where_classes_are_shown(snapshot: Snapshot) -> None:
    z = normalize(torch.randn(4, 3), dim=1)
    s: Similarities = cosines(z, z, z, torch.eye(4, dtype=torch.bool))
    with pytest.raises(AssertionError, match="this snapshot has none"):
        plots.push_by_rank(s, 0.2)


def test_a_committed_figure_keeps_its_size_and_its_ground() -> None:
    drawn = Image.new("RGBA", (200, 100))
    drawn.paste((10, 120, 200, 255), (50, 20, 150, 80))
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG")
    after = Image.open(io.BytesIO(small(buffer.getvalue()))).convert("RGBA")
    assert after.size == drawn.size and after.getpixel((0, 0))[3] == 0 and after.getpixel((100, 50))[3] == 255  # type: ignore[index]


def test_a_page_holds_the_charts_of_a_figure(snapshot: Snapshot) -> None:
    charts = [plots.purity(snapshot), plots.push_by_rank(snapshot.similarities(), 0.2)]
    page = page_of(charts)
    assert page.count("Plotly.newPlot('c") == 2 and json.dumps(charts[1].plain) in page


@pytest.mark.parametrize("name", ["00", *FIGURES])
def test_each_notebook_shows_its_committed_picture(name: str) -> None:
    picture = FOLDER / f"{name}.png"
    assert picture.stat().st_size <= 100_000
    (notebook,) = (ROOT / "notebooks").glob(f"{name}_*.ipynb")
    assert f"](figures/{name}.png)" in notebook.read_text(encoding="utf-8")
