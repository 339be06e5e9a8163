"""The explorer's widgets without a browser: requests of the page, what goes back, figures, errors, cells run again."""

import asyncio
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from snapshots import made
from sweep import sweep

from cltools.explorer import explore, explorer as shown, static
from cltools.explorer.explorer import Explorer
from cltools.explorer.figure import ANCHOR, DOUBTFUL, FIRST_LINE, SLOTS
from cltools.explorer.view import painting, pictures
from cltools.mining import AllNegatives, Band, RankBand

SNAPSHOT = made()


class Page:
    """Asks as the page does."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer, self.n = explorer, 0

    def ask(self, *changes: tuple[str, Any]) -> None:
        asked = []
        for name, value in changes:
            self.n += 1
            asked.append([self.n, name, value])
        self.explorer._front.request = {"n": self.n, "changes": asked}

    @property
    def view(self) -> dict[str, Any]:
        found: dict[str, Any] = self.explorer._front.view
        return found


@pytest.fixture
def page() -> Page:
    return Page(explore(SNAPSHOT))


def drawn(explorer: Explorer, figure: int = 0) -> dict[int, int]:
    """Slot of each point as the figure has it."""
    found = {}
    for slot in range(SLOTS):
        trace = explorer._figures[figure].widget.data[slot]
        places = [] if trace.customdata is None else trace.customdata
        for place, x, y in zip(places, trace.x, trace.y, strict=True):
            assert [x, y] == pytest.approx(pictures(explorer)[figure].place[place].tolist())
            found[int(place)] = slot
    return found


def test_a_request_does_what_set_does(page: Page) -> None:
    page.ask(("closest", 3), ("beyond", 20), ("positives.k", 2))
    assert page.explorer.state == explore(SNAPSHOT).set(closest=3, beyond=20).set({"positives.k": 2}).state
    assert page.view["answered"] == 3 and page.explorer.errors == []


def test_the_view_is_what_select_says(page: Page) -> None:
    page.ask(("closest", 4), ("anchor", 13))
    j = page.explorer.judgement
    view = page.view
    (side,) = view["sides"].values()
    assert np.frombuffer(side["band"], np.int8).tolist() == j.selection.band[0].tolist()
    for name, values in (("score", j.score), ("cosine", j.cosine), ("force", j.force)):
        assert np.array_equal(np.frombuffer(side[name], np.float32), values)
    counts = np.frombuffer(view["bins"]["counts"], np.int32).reshape(-1, len(Band)).sum(0)
    assert counts[1:].tolist() == np.bincount(j.band, minlength=len(Band))[1:].tolist()
    assert view["edges"]["scores"]["closest"] == pytest.approx(sorted(np.delete(j.score, 2))[-4])
    assert view["sentence"] == page.explorer.sentence and view["anchor"] == 2
    assert json.loads(view["state"]) == json.loads(page.explorer.state.to_json())


def test_the_figure_is_what_select_says(page: Page) -> None:
    slots = {Band.OWN: 0, Band.EASY: 0, Band.POTENTIAL: 1, Band.HARD: 2, Band.MINED: 3, Band.OTHER: 4, Band.SOFTENED: 5}
    rules = (("rule", "RandomNegatives"), ("rule", "SoftenedBand"))
    for change in (("closest", 4), ("beyond", 50), ("anchor", 31), *rules, ("epoch", 1)):
        page.ask(change)
        band = page.explorer.judgement.band
        assert drawn(page.explorer) == {i: slots[Band(int(code))] for i, code in enumerate(band)}
        data = page.explorer._figures[0].widget.data
        for slot in range(SLOTS):
            places = np.array(data[slot].customdata, dtype=int)
            assert np.array_equal(data[slot].marker.color, band[places])
        at = pictures(page.explorer)[0].place[page.explorer.place]
        assert [data[ANCHOR].x[0], data[ANCHOR].y[0]] == pytest.approx(at.tolist())
        assert data[FIRST_LINE + 1].y[-1] == pytest.approx(100, abs=1e-3)


def test_colours_go_as_numbers_never_as_strings(page: Page) -> None:
    for colour in ("band", "similarity", "gradient"):
        page.ask(("colour", colour))
        for trace in page.explorer._figures[0].widget.data[:SLOTS]:
            assert trace.marker.color is None or np.asarray(trace.marker.color).dtype == np.int8
    page.ask(("truth", True), ("colour", "class"))
    assert page.view["legend"][1]["name"] == "class 0" and page.explorer.errors == []


def test_at_most_two_messages_a_figure_and_one_to_the_page_a_change(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    figure, front = page.explorer._figures[0].widget, page.explorer._front
    monkeypatch.setattr(figure, "_send", lambda *_, **__: sent.append(figure))
    monkeypatch.setattr(front, "_send", lambda message, **_: sent.append(front) if "view" in message["state"] else None)
    for change in (("closest", 9), ("anchor", 40), ("temperature", 0.5), ("colour", "gradient"), ("scope", "anchor")):
        sent.clear()
        page.ask(change)
        counts = [sum(widget is each for widget in sent) for each in (figure, front)]
        assert counts[0] <= 2 and counts[1] == 1, change
    assert counts[0] == 0, "what a figure shows already is not sent again"


def test_a_page_that_asks_late_gets_the_figure_as_it_is(page: Page) -> None:
    page.ask(("closest", 3), ("beyond", 20), ("colour", "similarity"))
    (plot,) = page.explorer._plots
    state = plot.get_state()
    for told, trace in zip(state["_widget_data"], plot.data, strict=True):
        sent = told["x"]["buffer"] if isinstance(told["x"], dict) else told["x"]  # few numbers go as a list
        assert np.array_equal(np.asarray(sent), np.asarray(trace.x))
    shown = [told["marker"] for told in state["_widget_data"][:SLOTS]]
    assert all(len(marker["colorscale"]) == len(plot.data[0].marker.colorscale) for marker in shown)
    assert state["_widget_layout"] == plot.layout.to_plotly_json()
    assert [*plot.get_state("_view_count")] == ["_view_count"]


def test_a_change_asked_twice_is_done_once(page: Page) -> None:
    page.ask(("closest", 3))
    page.ask(("truth", True))
    page.explorer._front.request = {"n": 3, "changes": [[2, "truth", True], [3, "back", None]]}
    assert page.explorer.state.truth is False and page.explorer.state.side.negatives == RankBand(3 / 60, 0.5)


def test_one_wrong_change_spoils_no_other_and_is_told(page: Page) -> None:
    page.ask(("closest", 3), ("epoch", 99), ("truth", True))
    assert page.explorer.state.truth and page.explorer.state.side.negatives == RankBand(3 / 60, 0.5)
    assert "no epoch 99" in page.view["error"] and len(page.explorer.errors) == 1
    page.ask(("truth", False))
    assert page.view["error"] == "", "it goes with the next change"


def test_an_error_of_ours_is_told_and_kept_whole(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(Explorer, "set", broken)
    page.ask(("truth", True))
    assert "KeyError" in page.view["error"] and "Traceback" in page.explorer.errors[0]
    assert page.view["answered"] == 1


def test_a_rule_that_breaks_leaves_the_page_answered(page: Page) -> None:
    @dataclass(frozen=True)
    class Broken(AllNegatives):
        broken: bool = True

        def judge(self, s: Any, context: Any) -> Any:
            raise KeyError("lost")

    before = page.explorer.state
    page.ask(("rule", "Broken"))
    assert page.explorer.state == before and page.view["answered"] == 1 and "KeyError" in page.view["error"]
    page.ask(("temperature", 0.5))
    assert page.explorer.state.side.temperature == 0.5 and page.view["error"] == ""


def test_a_count_that_breaks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class OneOnly(AllNegatives):
        def judge(self, s: Any, context: Any) -> Any:
            assert len(s.anchor_keys) == 1, "only one anchor"
            return super().judge(s, context)

    async def explored() -> Page:
        page = Page(explore(SNAPSHOT))
        page.ask(("rule", "OneOnly"), ("scope", "all"))
        for _ in range(5):
            await asyncio.sleep(0)
        return page

    page = asyncio.run(explored())
    assert "only one anchor" in page.view["error"] and len(page.explorer.errors) == 1


def test_two_maps_share_one_scale_and_one_legend() -> None:
    many = [replace(made(120, groups=30, seed=seed), labels=np.arange(120) % 30) for seed in (0, 1)]
    explorer = explore(many[0], other=many[1]).set(active="A", truth=True, colour="class")
    a, b = (painting(explorer, name) for name in ("A", "B"))
    assert a.names == b.names and a.names[1] == many[0].classes[0], "the anchor's class first"
    explorer.set(colour="similarity")
    a, b = (painting(explorer, name) for name in ("A", "B"))
    assert a.names == b.names


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [True, False])
def test_every_control_goes_through_its_range(labelled: bool) -> None:
    explorer = explore(made(labelled=labelled))
    if labelled:
        explorer.set(truth=True)
    before = explorer.state
    swept = sweep(explorer)
    assert explorer.errors == [] and explorer.state == before
    assert {
        "closest",
        "beyond",
        "by",
        "positive_rule",
        "temperature",
        "positives.k",
        "compare",
        "map",
        "scope",
    } <= swept


def test_about_all_anchors_is_counted_at_once_where_no_loop_turns(page: Page) -> None:
    page.ask(("scope", "all"))
    assert page.view["sentence"].startswith("Over all 60 anchors")


def test_about_all_anchors_is_counted_between_messages_where_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cltools.explorer.census.PAIRS", 60 * 10)

    async def explored() -> tuple[str, str, str]:
        page = Page(explore(SNAPSHOT))
        page.ask(("scope", "all"))
        first = page.view["sentence"]
        await asyncio.sleep(0)
        page.ask(("closest", 12))  # while it counts: the count begins anew
        assert page.explorer._task is not None
        while page.explorer._task is not None:
            await asyncio.sleep(0)
        page.ask(("truth", True))
        return first, page.view["sentence"], page.explorer.sentence

    first, then, whole = asyncio.run(explored())
    assert first.startswith("Counting over all anchors") and then == whole
    expected = explore(SNAPSHOT).set(scope="all", closest=12, truth=True).sentence
    assert whole == expected


def test_misplaced_points_are_marked_on_demand(page: Page) -> None:
    marked = page.explorer._figures[0].widget.data[DOUBTFUL]
    assert len(marked.x) == 0
    page.ask(("doubtful", True))
    assert len(marked.x) == (SNAPSHOT.kept[0, 1] < 0.2).sum() > 0
    page.ask(("map", "PCA"))
    assert len(marked.x) == (SNAPSHOT.kept[1, 1] < 0.2).sum()
    assert "PCA" in page.view["sentence"] and "trustworthiness 0.90" in page.view["sentence"]


def test_truth_is_hidden_until_it_is_switched_on(page: Page) -> None:
    def words() -> str:
        controls = [control for control in page.view["controls"] if control["name"] == "colour"]
        return json.dumps([controls, *(page.view[name] for name in ("sentence", "legend", "lines"))])

    assert "class" not in words()
    page.ask(("scope", "all"))
    assert "class" not in words() and "base rate" not in words()
    page.ask(("scope", "anchor"), ("truth", True), ("colour", "class"))
    assert "class 0" in words()
    page.ask(("truth", False))
    assert "class" not in words() and page.explorer.state.colour == "band"
    page.ask(("colour", "class"))
    assert "Classes are hidden" in page.view["error"]
    page.ask(("scope", "all"), ("truth", True))
    assert page.view["lines"][1]["name"] == "same class at this rank"
    value, around = (page.explorer._figures[0].widget.data[FIRST_LINE + i] for i in (1, 2))
    assert value.y[0] > 20
    half = len(around.y) // 2
    assert (around.y[:half] <= value.y).all() and (around.y[: half - 1 : -1] >= value.y).all(), "the interval around it"
    assert page.explorer._figures[0].widget.layout.xaxis2.title.text == "rank of the key"


def test_two_snapshots_have_a_figure_each() -> None:
    explorer = explore(SNAPSHOT, other=made(seed=1))
    assert len(explorer._figures) == 2
    page = Page(explorer)
    page.ask(("active", "A"), ("colour", "band"))
    slots = {Band.OWN: 0, Band.EASY: 0, Band.POTENTIAL: 1, Band.HARD: 2, Band.MINED: 3}
    for figure, name in enumerate(("A", "B")):
        band = explorer.judged(name).band
        assert drawn(explorer, figure) == {i: slots[Band(int(code))] for i, code in enumerate(band)}


def test_keys_are_saved_as_the_session_says(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[dict[str, str]] = []
    monkeypatch.setattr(page.explorer._front, "send", saved.append)
    page.ask(("csv", None))
    (file,) = saved
    assert file == {"name": "anchor-7.csv", "text": page.explorer.csv()}


def test_no_python_callback_hears_the_pointer(page: Page) -> None:
    figure = page.explorer._figures[0].widget
    for trace in figure.data:
        assert not trace._hover_callbacks and not trace._click_callbacks and not trace._select_callbacks


@pytest.mark.parametrize(
    "changes",
    [
        {"truth": True, "colour": "class", "scope": "all"},
        {"compare": True, "closest": 20, "doubtful": True},
        {"closest": 0, "beyond": 60, "positive_rule": "AugmentedView", "colour": "similarity"},
    ],
    ids=str,
)
def test_the_static_twin_shows_the_same(changes: dict[str, Any]) -> None:
    explorer = explore(SNAPSHOT).set(changes)
    figure = static.draw(explorer)
    texts = [" ".join(text.get_text().split()) for text in figure.findobj(match=lambda a: hasattr(a, "get_text"))]
    assert " ".join(explorer.sentence.split()) in texts and "the anchor" in texts
    if changes.get("colour") == "class":
        assert {*SNAPSHOT.classes} <= {*texts}
    for band in (Band.MINED, Band.HARD, Band.POTENTIAL, Band.EASY):
        count = int((explorer.judgement.band == band).sum())
        names = {Band.MINED: "mined as positive", Band.HARD: "suspected", Band.POTENTIAL: "kept as negative"}
        title = f"{names.get(band, 'too easy')}: {count:,}"
        assert (title in texts) == (count > 0)
    points = sum(len(c.get_offsets()) for c in figure.findobj(match=lambda a: hasattr(a, "get_offsets")))
    doubtful = int((SNAPSHOT.kept[0, 1] < 0.2).sum()) if changes.get("doubtful") else 0
    assert points == 60 + 1 + doubtful


def test_without_widgets_there_is_a_picture_and_the_sentence(page: Page) -> None:
    bundle = page.explorer._repr_mimebundle_()
    assert bundle["text/plain"] == page.explorer.sentence
    assert bundle["image/png"].startswith(b"\x89PNG") and len(bundle["image/png"]) < 150_000
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == page.explorer.widget.model_id


def test_closing_frees_every_widget() -> None:
    from ipywidgets.widgets.widget import _instances

    before = {*_instances}
    explorer = explore(SNAPSHOT, other=made(seed=1))
    assert len({*_instances} - before) > 4
    explorer.close()
    assert {*_instances} == before


def test_a_cell_run_again_closes_what_it_had_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from ipywidgets.widgets.widget import _instances

    run = "1"
    monkeypatch.setattr(shown, "_running", lambda: ("the cell", run))
    monkeypatch.setattr(shown, "_shown", {})
    explore(SNAPSHOT), explore(SNAPSHOT)
    alive = len(_instances)
    for i in range(3):
        run = f"again {i}"
        explore(SNAPSHOT), explore(SNAPSHOT)
        assert len(_instances) == alive
    monkeypatch.setattr(shown, "_running", lambda: ("another cell", run))
    explore(SNAPSHOT)
    assert len(_instances) > alive, "another cell's stay"


def test_the_widget_is_made_of_text_and_of_one_figure(page: Page) -> None:
    front = page.explorer._front
    assert "export default" in front._esm and "http" not in front._esm.replace("http://www.w3.org/2000/svg", "")
    figures = [w for w in page.explorer.widget.children if isinstance(w, go.FigureWidget)]
    assert len(figures) == 1


def test_an_explorer_starts_where_a_line_says() -> None:
    line = explore(SNAPSHOT).set(closest=5, compare=True).state.to_json()
    assert explore(SNAPSHOT, line).state.to_json() == line
    assert explore(SNAPSHOT, replace(explore(SNAPSHOT).state, anchor=13)).state.anchor == 13
