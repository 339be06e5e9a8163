"""What holds for every chart: words and labels on hover say what it shows, on any ground and at any width."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from snapshots import made

from cltools.mining import RankBand
from course import band_plots, comparison, grids, live, plots, record_plots, results, run_plots, trial
from course.charts import COLOURS, CONFIG, CSS, DIVERGING, GREY, LOOK, MIME, PALE, PALE_ORANGE, Chart, text, thinned

SNAPSHOT = made(200)
S = SNAPSHOT.similarities()
ROW = {"knn": 50.0, "mined_purity": 0.2, "false_negative_share": 0.1, "seconds": 4.0, "views_per_second": 2000.0}
ROWS = [ROW | {"epoch": epoch, "loss": 5.0 - epoch} for epoch in (1, 2, 3)]
CONFUSION = run_plots.Confusion("knn200", ("cat", "dog"), torch.tensor([[8, 2], [1, 9]]))
SHORT = ["moco", "band", "random", "potential", "oracle"]
CHARTS: dict[str, Callable[[], Chart]] = {
    "forces": lambda: plots.forces(S),
    "push_by_rank": lambda: plots.push_by_rank(S, 0.2),
    "purity": lambda: plots.purity(SNAPSHOT),
    "purity_by_rank": lambda: band_plots.purity_by_rank(SNAPSHOT),
    "by_closeness": lambda: band_plots.by_closeness(S),
    "anchors_apart": lambda: band_plots.anchors_apart(S, RankBand(0.1, 0.5)),
    "maps_apart": lambda: band_plots.maps_apart(SNAPSHOT),
    "of_snapshot": lambda: grids.of_snapshot(S, RankBand(0.1, 0.5)),
    "of_records": lambda: grids.of_records(comparison("digits", "grid"), RankBand(0.1, 0.5)),
    "gains": lambda: record_plots.gains(comparison("digits", "short"), SHORT[1:]),
    "learning_curves": lambda: record_plots.learning_curves(comparison("digits", "short"), SHORT),
    "by_class": lambda: run_plots.by_class(CONFUSION),
    "runs_apart": lambda: run_plots.runs_apart(results.recorded_runs("digits")),
    "a run": lambda: live.draw(ROWS, 10, "knn200", "Epoch 3 of 10."),
    "a trial": lambda: trial.draw({(arm, seed): ROWS for arm in trial.ARMS for seed in (0, 1)}, 5),
}
CARTESIAN = {"scatter", "bar", "heatmap", "histogram", "box", "contour"}
GROUNDS = ("#ffffff", "#111111", "#14181e")


def colours_in(value: Any) -> set[str]:
    return set(re.findall(r"#[0-9A-Fa-f]{6}\b", json.dumps(value)))


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_keeps_the_rules(name: str) -> None:
    chart = CHARTS[name]()
    bundle = chart._repr_mimebundle_()
    assert {*bundle} == {MIME, "text/plain"} and bundle["text/plain"] == repr(chart) and len(chart.words) > 40
    assert "nan" not in chart.words
    drawn = bundle[MIME]
    written = json.dumps(drawn, allow_nan=False)
    assert len(written) <= 150_000
    layout = drawn["layout"] | {"template": None}
    assert drawn["config"] == CONFIG and chart.figure.layout.template == LOOK
    assert layout["height"] > 200 and "width" not in layout
    assert not {"paper_bgcolor", "plot_bgcolor", "dragmode", "title"} & {*layout}, "the look decides"
    assert all(len(line) <= 36 for note in layout["annotations"] for line in note["text"].split("<br>")), "phones"
    for trace in drawn["data"]:
        assert trace["type"] in CARTESIAN and len(trace.get("x") or []) <= 401
        assert trace.get("hoverinfo") == "skip" or trace["hovertemplate"].endswith("<extra></extra>")
        assert trace.get("showlegend") is False or trace["type"] == "heatmap" or trace["name"]
        if re.search("%{[yz]|%{x:", says := trace.get("hovertemplate", "")):
            assert re.search(r" %(\W|$)| points|anchors|peak|epoch", says), "with its unit"
    marks = [[trace.get("line"), trace.get("marker", {}).get("color")] for trace in drawn["data"]]
    rings = {"#000000", "#F0E442"}  # of the chosen band, one for either ground
    assert all(contrast(each, ground) >= 3 for each in colours_in(marks) - rings for ground in GROUNDS)


def test_numbers_have_four_digits_and_lie_within_a_thousandth() -> None:
    chart = plots.forces(S)
    for trace, drawn in zip(chart.figure.data, chart.plain["data"], strict=True):
        assert [*drawn["y"]] == pytest.approx([*trace.y], rel=6e-4, abs=1e-30)
        assert all(
            len(f"{value:.12g}".lstrip("-0.").replace(".", "").split("e")[0]) <= 4 for value in drawn["y"] if value
        )


@pytest.mark.parametrize("count", [1, 400, 401, 1000])
def test_long_curves_are_thinned_to_their_end(count: int) -> None:
    kept = thinned({epoch: float(epoch) for epoch in range(1, count + 1)})
    assert min(count, 200) <= len(kept) <= 400 and [*kept][-1] == count and [*kept] == sorted(kept)
    assert thinned({}) == {}


def test_many_classes_are_told_apart_and_are_not_too_many_points() -> None:
    labels = np.arange(5000) % 12
    draws = np.random.default_rng(0)
    fields = {
        "maps": draws.normal(size=(4, 1, 5000, 2)).astype(np.float32),
        "map_names": (*"pqrs",),
        "kept": np.ones((4, 1, 5000), np.float32),
        "trustworthiness": np.ones((4, 1), np.float32),
    }
    chart = band_plots.maps_apart(replace(made(5000, epochs=(1,)), labels=labels, classes=(*"abcdefghijkl",), **fields))
    assert len({(trace.marker.color, trace.marker.symbol) for trace in chart.figure.data}) == 12
    assert len(json.dumps(chart.plain)) <= 150_000 and chart.words.endswith("At most 125 points of a class are shown.")


def test_the_ground_is_the_pages_and_nothing_moves_under_a_finger() -> None:
    look = LOOK.layout
    assert look.paper_bgcolor == look.plot_bgcolor == "rgba(0,0,0,0)"
    assert look.dragmode is False and look.xaxis.fixedrange and look.yaxis.fixedrange and look.autosize
    assert CONFIG["displayModeBar"] is False and CONFIG["scrollZoom"] is False


def test_marks_are_seen_on_either_ground_and_numbers_on_cells() -> None:
    assert all(contrast(colour, ground) >= 3 for colour in (*COLOURS, GREY) for ground in GROUNDS)
    assert all(contrast(colour, "#111111") >= 4.5 for scale in (PALE, PALE_ORANGE, DIVERGING) for _, colour in scale)
    assert "fill: #111111" in CSS


def test_the_style_sheet_asks_the_page_first() -> None:
    for ours, sites, labs in (
        ("--cl-text", "--pst-color-text-base", "--jp-content-font-color1"),
        ("--cl-border", "--pst-color-border", "--jp-border-color2"),
        ("--cl-surface", "--pst-color-surface", "--jp-layout-color1"),
    ):
        assert f"var({ours}, var({sites}, var({labs}, var(--plain-" in CSS
    assert "prefers-color-scheme: dark" in CSS and "<" not in CSS
    plain = dict(re.findall(r"--plain-(text|label): (#\w+)", CSS))
    assert contrast(plain["text"], plain["label"]) >= 4.5


@pytest.mark.parametrize("name", ["$_$", "<b>bold", "%{y}", "_hidden", "a" * 5000, "猫 & dog", ""])
def test_names_are_text_and_no_markup(name: str) -> None:
    shown = text(name)
    assert len(shown) <= 60 and "<" not in shown and "%{" not in shown
    assert shown == name or name in ("<b>bold", "%{y}", "a" * 5000, "猫 & dog")
