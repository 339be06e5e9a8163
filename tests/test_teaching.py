"""What notebooks use: the slider chooses exactly what `select` chooses, pictures lie where the sheet says."""

import base64
import io
import math
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from cltools import fit, load_images, preset, select
from cltools.datasets import ImageSet
from cltools.mining import AllNegatives, Band, BandNegatives
from cltools.teaching import BandPictures, LiveCurve, gallery
from cltools.teaching.bands import GROUPS, SHARES, SHOWN, compared, count, shown
from cltools.teaching.pictures import COLUMNS, sheet
from cltools.training import Run


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return load_images("digits", limit=200)


@pytest.fixture(scope="module")
def run(images: ImageSet) -> Run:
    experiment = preset("digits-potential")
    training = replace(experiment.training, epochs=2, batch=64, queue_size=128, device="cpu")
    return fit(replace(experiment, training=training), images=images)


@pytest.fixture
def bands(run: Run, images: ImageSet) -> BandPictures:
    return BandPictures(run, images, anchors=[0, 5])


def page(bands: BandPictures) -> str:
    return bands.widget.children[2].value


def tiles(html: str) -> list[int]:
    """The images of an HTML text's tiles, by id."""
    return [int(found) for found in re.findall(r'title="image (\d+)', html)]


# The slider


def test_the_slider_starts_at_the_rule_of_the_run(bands: BandPictures, run: Run) -> None:
    assert isinstance(run.experiment.negatives, BandNegatives)
    assert (bands.rule.lower, bands.rule.upper) == (run.experiment.negatives.lower, run.experiment.negatives.upper)
    assert bands.rule == run.experiment.negatives


def test_a_run_without_a_band_starts_at_the_default_band(run: Run, images: ImageSet) -> None:
    other = replace(run.experiment, negatives=AllNegatives())
    bands = BandPictures(Run(other, run.encoder, run.history, memory=run.memory), images)
    assert bands.rule == BandNegatives()


@pytest.mark.parametrize("lower, upper", [(0, 1), (0.05, 0.5), (0.001, 0.002), (0.3, 1)])
def test_the_page_shows_what_select_chooses(
    bands: BandPictures, images: ImageSet, run: Run, lower: float, upper: float
) -> None:
    bands.set(lower=lower, upper=upper)
    chosen = select(bands.similarities, run.experiment.positives.at(1.0), BandNegatives(lower, upper), temperature=0.2)
    assert torch.equal(bands.selection.band, chosen.band)
    rows = page(bands).split("<tr>")[2:]
    assert len(rows) == 2
    for anchor, row in zip((0, 5), rows, strict=True):
        cells = row.split("<td")[1:]
        assert tiles(cells[0]) == [int(images.ids[anchor])]
        for cell, (code, _, _) in zip(cells[1:], GROUPS, strict=True):
            places = (chosen.band[anchor] == code).nonzero()[:, 0]
            assert set(tiles(cell)) <= set(images.ids[places].tolist())
            assert len(tiles(cell)) == min(SHOWN, len(places))


def test_setting_an_edge_does_what_moving_the_slider_does(bands: BandPictures) -> None:
    bands.set(lower=0.1, upper=0.7)
    by_call = page(bands)
    bands.set(lower=0, upper=1)
    assert page(bands) != by_call
    bands.widget.children[1].children[0].value = (0.1, 0.7)
    assert page(bands) == by_call


def test_every_stop_of_the_slider_can_be_reached_and_counted(bands: BandPictures) -> None:
    for lower, upper in pairwise(SHARES):
        bands.set(lower=0, upper=1)
        bands.set(lower=lower, upper=upper)
        assert (bands.rule.lower, bands.rule.upper) == (lower, upper)
        assert bands.sentence in page(bands)


def test_edges_that_meet_say_so_and_crossing_ones_are_refused(bands: BandPictures) -> None:
    bands.widget.children[1].children[0].value = (0.1, 0.1)
    assert "pull them apart" in page(bands)
    bands.set(lower=0.05, upper=0.5)
    with pytest.raises(ValueError, match="lower must be below upper"):
        bands.set(lower=0.5, upper=0.1)
    assert (bands.rule.lower, bands.rule.upper) == (0.05, 0.5)


def test_the_truth_is_hidden_until_it_is_asked_for(bands: BandPictures, images: ImageSet) -> None:
    assert "marked" not in page(bands) and "class" not in bands.sentence and ", 3" not in page(bands)
    bands.set(lower=0, upper=1, truth=True)
    kept = page(bands).split("<tr>")[2].split("<td")[4]
    marked = {int(found) for found in re.findall(r'marked" [^>]*title="image (\d+)', kept)}
    of_class = set(images.ids[images.labels == images.labels[0]].tolist())
    assert marked == set(tiles(kept)) & of_class
    assert "of the kept (false negatives)" in bands.sentence


def test_a_moved_slider_sends_positions_and_no_pixels(bands: BandPictures) -> None:
    style = bands.widget.children[0].value
    bands.set(lower=0.2, upper=0.7)
    assert bands.widget.children[0].value == style and "base64" in style
    assert "base64" not in page(bands) and len(page(bands)) < 40_000


def test_labels_reach_the_figures_and_not_the_choice(run: Run, images: ImageSet, bands: BandPictures) -> None:
    wrong = replace(images, labels=images.labels.roll(7))
    other = BandPictures(run, wrong, anchors=[0, 5])
    assert torch.equal(other.selection.band, bands.selection.band)
    assert other.measure(0.05, 1.0) != bands.measure(0.05, 1.0)


def test_pictures_refuse_what_they_cannot_show(run: Run, images: ImageSet) -> None:
    with pytest.raises(ValueError, match=r"\[128\] must be places among the first 128"):
        BandPictures(run, images, anchors=[128])
    with pytest.raises(ValueError, match="have none"):
        BandPictures(run, replace(images, labels=torch.full_like(images.labels, -1)))


# What is counted


def test_what_is_compared_is_one_view_with_the_keys_of_another(run: Run, images: ImageSet) -> None:
    s = compared(run, images, 30)
    assert s.anchor.shape == (30, 200) and s.key is not None
    assert torch.equal(s.own, torch.eye(200, dtype=torch.bool)[:30])
    torch.testing.assert_close(s.positive, s.anchor.diagonal())
    torch.testing.assert_close(s.key.diagonal(), torch.ones(30))
    assert torch.equal(compared(run, images, 30).anchor, s.anchor)


def test_a_simclr_run_compares_with_its_own_encoder(images: ImageSet) -> None:
    experiment = preset("digits-simclr")
    training = replace(experiment.training, epochs=1, batch=64, device="cpu")
    run = fit(replace(experiment, training=training), images=images)
    assert run.memory is None
    assert compared(run, images, 10).anchor.shape == (10, 200)


def test_figures_agree_with_a_loop(bands: BandPictures) -> None:
    bands.set(lower=0.05, upper=0.5)
    band, same, own = bands.selection.band, bands.similarities.same_class, bands.similarities.own
    assert same is not None
    anchors, keys = band.shape
    kept = false = hard = hard_same = others = others_same = 0
    for i in range(anchors):
        for j in range(keys):
            code, of_class = int(band[i, j]), bool(same[i, j])
            kept, false = kept + (code == Band.POTENTIAL), false + (code == Band.POTENTIAL and of_class)
            hard, hard_same = hard + (code == Band.HARD), hard_same + (code == Band.HARD and of_class)
            others, others_same = others + (not own[i, j]), others_same + (not own[i, j] and of_class)
    row = bands.measure(0.05, 0.5)
    assert row["keys kept"] == pytest.approx(kept / anchors)
    assert row["false among kept %"] == pytest.approx(100 * false / kept)
    assert row["false among too close %"] == pytest.approx(100 * hard_same / hard)
    assert row["own class among all %"] == pytest.approx(100 * others_same / others)
    assert math.isnan(bands.measure(0.0, 0.5)["false among too close %"])
    counts = count(bands.similarities, bands.selection)
    assert sum(counts.by_band.values()) == pytest.approx(keys)


def test_kept_keys_are_shown_closest_first_and_easy_ones_farthest_first(bands: BandPictures) -> None:
    bands.set(lower=0.05, upper=0.5)
    s, band = bands.similarities, bands.selection.band
    assert s.key is not None
    for code in (Band.HARD, Band.POTENTIAL):
        found = s.key[0, shown(s, band, 0, code)]
        assert torch.equal(found, s.key[0, band[0] == code].sort(descending=True).values[: len(found)])
    found = s.key[0, shown(s, band, 0, Band.EASY)]
    assert torch.equal(found, s.key[0, band[0] == Band.EASY].sort().values[: len(found)])


# Pictures


def pixels_of(style: str) -> np.ndarray:
    source = re.search(r"base64,([^)]+)\)", style)
    assert source
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source[1]))))


@pytest.mark.parametrize("count", [1, COLUMNS, COLUMNS + 3])
def test_a_tile_shows_its_picture(count: int) -> None:
    images = torch.randint(0, 256, (count, 3, 6, 5), dtype=torch.uint8)
    made = sheet(images, side=10)
    pixels = pixels_of(made.style)
    for place in {0, count // 2, count - 1}:
        found = re.search(r"background-position:-(\d+)px -(\d+)px", made.tile(place, "x"))
        assert found
        left, top = int(found[1]) // 10 * 5, int(found[2]) // 10 * 6
        part = torch.from_numpy(pixels[top : top + 6, left : left + 5].copy()).permute(2, 0, 1)
        assert torch.equal(part, images[place])


def test_a_label_cannot_break_out_of_its_tile() -> None:
    made = sheet(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    assert "<b>" not in made.tile(0, '"><b>') and "&quot;&gt;" in made.tile(0, '"><b>')


def test_a_gallery_takes_bytes_and_floats_and_names_its_rows() -> None:
    bytes_ = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    html = gallery({"pictures": bytes_, "the <same>": bytes_.float() / 255}).data
    assert "the &lt;same&gt;" in html and html.count("<i ") == 4
    pixels = pixels_of(html)
    assert (pixels[:, :8] == pixels[:, 8:16]).all()


def test_no_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        sheet(torch.zeros(0, 3, 4, 4))


# The curve


def test_the_curve_shows_the_history_and_leaves_out_epochs_without_a_value(run: Run) -> None:
    curve = LiveCurve("loss", epochs=2)
    curve(run)
    assert list(curve.figure.data[0].x) == [1, 2]
    assert list(curve.figure.data[0].y) == run.history.column("loss")
    assert run.history.column("knn") != run.history.column("loss")
    gaps = LiveCurve("knn", epochs=2)
    gaps(run)
    assert len(gaps.figure.data[0].x) == sum(value == value for value in run.history.column("knn"))


def test_the_curve_grows_with_each_epoch(images: ImageSet) -> None:
    experiment = preset("digits-moco")
    training = replace(experiment.training, epochs=3, batch=64, queue_size=128, device="cpu")
    curve, seen = LiveCurve(epochs=3), []
    fit(
        replace(experiment, training=training),
        images=images,
        callbacks=[curve, lambda _: seen.append(len(curve.figure.data[0].y))],
    )
    assert seen == [1, 2, 3]
