"""The explorer in a notebook without a browser: states both ways, arrays and answers that a page asks for, cells."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from own_rules import FarOnly
from snapshots import made, unit
from sweep import sweep

from cltools import snapshot_of_embeddings
from cltools.config import Experiment, to_plain
from cltools.datasets import ImageSet
from cltools.errors import CltoolsError
from cltools.explorer import explore, explorer as shown, standalone
from cltools.explorer.explorer import Explorer, module_script
from cltools.explorer.state import State
from cltools.mining import AllNegatives, Band, RankBand, select
from cltools.presets import preset
from cltools.snapshot import Snapshot
from cltools.snapshot.making import Recorder
from cltools.training import Run, fit
from cltools.training.inputs import training_images

SNAPSHOT = made()


class Page:
    """Talks to an explorer as a page does, and notes what it is told."""

    def __init__(self, explorer: Explorer, name: str = "page 1") -> None:
        self.explorer, self.name = explorer, name
        self.answers: list[tuple[dict[str, Any], list[bytes]]] = []
        self.states: list[dict[str, Any]] = []
        front: Any = explorer.widget
        front.send = lambda content, buffers=None: self.answers.append((content, buffers or []))
        front.observe(lambda change: self.states.append(json.loads(change["new"])), "state")

    @property
    def told(self) -> dict[str, Any]:
        """The state as the page has it, with its revision and author."""
        found: dict[str, Any] = json.loads(self.explorer.widget.state)
        return found

    def says(
        self, state: State | dict[str, Any], *, behind: int = 0, author: str = "", newest: int | None = None
    ) -> None:
        plain = to_plain(state) if isinstance(state, State) else state
        told = self.told
        newest = self.told["newest"] if newest is None else newest
        told |= {"revision": told["revision"] + 1, "seen": told["seen"] - behind, "author": author or self.name}
        told |= {"newest": newest, "state": plain}
        self.explorer.widget.state = json.dumps(told)

    def asks(self, **question: Any) -> tuple[dict[str, Any], list[bytes]]:
        self.explorer.widget._handle_custom_msg(question, [])
        return self.answers[-1]


@pytest.fixture
def page() -> Iterator[Page]:
    explorer = explore(SNAPSHOT)
    yield Page(explorer)
    explorer.close()


# --- training


@pytest.fixture(scope="module")
def training() -> tuple[Experiment, ImageSet, Snapshot]:
    """A short experiment, its images, and a snapshot of a run of it."""
    experiment = preset("digits-moco")
    experiment = replace(experiment, training=replace(experiment.training, epochs=2))
    images, _ = training_images(experiment)
    images = images.subset(300)
    recorder = Recorder(images, 80)
    return experiment, images, recorder.snapshot(fit(experiment, images=images, callbacks=[recorder]))


def longer(experiment: Experiment) -> Experiment:
    return replace(experiment, seed=1, training=replace(experiment.training, epochs=3))


def test_epochs_of_a_training_are_added_while_it_goes_on(training: tuple[Experiment, ImageSet, Snapshot]) -> None:
    experiment, images, snapshot = training
    explorer = explore(snapshot, images=images).set(rule="RankBand", compare=True, active="B", epoch=1).set(active="A")
    talk, revision = Page(explorer), json.loads(explorer.widget.state)["revision"]
    seen = []
    run = fit(
        longer(experiment),
        images=images,
        callbacks=[explorer.follow(), lambda run: seen.append((explorer.state.a.epoch, explorer.state.b.epoch))],  # type: ignore[union-attr]
    )
    expected = Recorder(images, 80)
    expected.record(run, 3)
    found = explorer.snapshots[0]
    assert found.epochs == (1, 2, 3) and found.map_names == ("PCA",) and found.experiment == run.experiment
    assert np.array_equal(found.anchors[-1], expected.taken[3][0]) and np.array_equal(
        found.keys[-1], expected.taken[3][1]
    )
    assert seen == [(1, 1), (2, 2), (3, 3)], "epochs of the earlier run are gone, and who looks at the last goes along"
    assert [content["added"]["epochs"] for content, _ in talk.answers] == [[1], [2], [3]]
    content, buffers = talk.answers[-1]
    sent = np.frombuffer(buffers[content["added"]["anchors"][0]], "<f2").reshape(80, -1)
    assert np.array_equal(sent, found.anchors[-1].astype(np.float16))
    assert content["digest"] == explorer.widget.digest == explore(found).widget.digest
    assert talk.states == [] and talk.told["revision"] == revision, "what pages have set meanwhile is not set back"
    for temperature, epoch, newest, there in ((0.5, 9, 9, 3), (0.4, 2, 2, 3), (0.3, 2, 3, 2)):
        side = replace(explorer.state.a, temperature=temperature, epoch=epoch)
        talk.says(replace(explorer.state, a=side), newest=newest)
        assert explorer.errors == [] and explorer.state.a == replace(side, epoch=there), "as the page will show it"
    assert np.array_equal(explorer.selection.band[0].numpy(), explore(found, explorer.state).judgement.band)
    explorer.close()


def test_points_on_the_map_stay_near_their_place(training: tuple[Experiment, ImageSet, Snapshot]) -> None:
    experiment, images, snapshot = training
    explorer = explore(snapshot, images=images)
    fit(longer(experiment), images=images, callbacks=[explorer.follow()])
    maps = explorer.snapshots[0].maps[0]
    for before, after in pairwise(maps):
        mirrored = ((before - after * [-1, 1]) ** 2).sum(), ((before - after * [1, -1]) ** 2).sum()
        assert ((before - after) ** 2).sum() <= min(mirrored)
    explorer.close()


def test_what_cannot_be_followed_is_refused(training: tuple[Experiment, ImageSet, Snapshot]) -> None:
    experiment, images, snapshot = training
    with pytest.raises(CltoolsError, match=r"\d+ images of the snapshot, such as \d+, are missing here"):
        explore(snapshot, images=images.select(slice(20))).follow()
    small = replace(snapshot, anchors=unit(snapshot.anchors[..., :5]), keys=unit(snapshot.keys[..., :5]))
    with pytest.raises(CltoolsError, match=r"embeddings have 5 numbers; follow a run with encoder\.projection=5"):
        fit(longer(experiment), images=images, callbacks=[explore(small, images=images).follow()])
    with pytest.raises(
        CltoolsError, match=r"Two snapshots cannot follow training; show one: explore\(explorer\.snapshots\[0\]\)"
    ):
        explore(SNAPSHOT, other=made(seed=1)).follow()


def test_a_run_by_the_rule_that_is_shown_stands_beside_what_was_there(
    training: tuple[Experiment, ImageSet, Snapshot],
) -> None:
    experiment, images, snapshot = training
    calls: list[Experiment] = []

    def train(experiment: Experiment, **more: Any) -> Run:
        calls.append(experiment)
        return fit(experiment, images=images, **more)

    explorer = explore(snapshot, train=train, images=images)
    talk = Page(explorer)
    explorer.set(rule="RankBand", keep_within=0.3, positive_rule="NearestKeys", k=2, temperature=0.3)
    before, rules = explorer.state.a, explorer.rules
    talk.asks(train=True, number=4)
    assert explorer.errors == [] and (calls[0].positives, calls[0].negatives) == rules
    assert calls[0] == replace(
        experiment, positives=rules[0], negatives=rules[1], loss=replace(experiment.loss, temperature=0.3)
    )
    told = [content for content, _ in talk.answers]
    assert [each["training"] for each in told if "training" in each] == ["epoch 1 of 2 is done", "epoch 2 of 2 is done"]
    assert told[-1] == {"number": 4}, "the page knows that it is done"
    assert {"renewed": explorer.widget.digest} in told
    assert explorer.state.a == before and explorer.state.b == before, "one rule, before it was trained with and after"
    assert explorer.state.active == "B" and explorer.snapshot("A") is snapshot
    expected = Recorder(images, 80)
    expected.record(fit(calls[0], images=images), 2)
    after = explorer.snapshot("B")
    assert after.epochs == (1, 2) and np.array_equal(after.anchors[-1], expected.taken[2][0])
    assert np.array_equal(explorer.judgement.band, explore(after, State(int(snapshot.ids[0]), before)).judgement.band)
    explorer.set(negatives={"keep_within": 0.6}, active="A")
    explorer.train()
    assert calls[1].negatives == explorer.rules[1] and len(explorer.snapshots) == 2
    explorer.close()


def test_training_that_fails_or_is_stopped_is_told(training: tuple[Experiment, ImageSet, Snapshot]) -> None:
    _, images, snapshot = training
    for error, words in (
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
        (OSError("disk full"), "OSError: disk full"),
        (CltoolsError("Give another rule."), "Give another rule."),
    ):

        def train(*_: Any, error: BaseException = error, **__: Any) -> Run:
            raise error

        explorer = explore(snapshot, train=train, images=images)
        answer, _ = Page(explorer).asks(train=True, number=1)
        assert answer == {"number": 1, "error": words} and len(explorer.errors) == 1
        assert len(explorer.snapshots) == 1
        explorer.close()
    explorer = explore(
        snapshot, train=partial(fit, images=images, callbacks=[lambda run: mine.append(run)]), images=images
    )
    mine: list[Run] = []
    front: Any = explorer.widget
    front.send = lambda content, *_: front._handle_custom_msg({"stop": True}, []) if "training" in content else None
    with pytest.raises(CltoolsError, match="Training was stopped; the explorer shows what it did before"):
        explorer.train()
    assert len(mine) == 1 and len(explorer.snapshots) == 1, "after its epoch, and a person's own callbacks are called"
    explorer.close()
    for made_elsewhere, images_of, why in (
        (snapshot_of_embeddings(snapshot.keys[0]), None, "a snapshot of external embeddings has no encoder to train"),
        (snapshot_of_embeddings(*(snapshot.keys[0],) * 3), images, "A snapshot of queries and a corpus cannot follow"),
    ):
        explorer = explore(made_elsewhere, train=fit, images=images_of)
        for asked in (explorer.train, explorer.follow):
            with pytest.raises(CltoolsError, match=why):
                asked()
        explorer.close()
    with pytest.raises(CltoolsError, match=r"cannot train; create it with explore\(snapshot, train=fit\)"):
        explore(snapshot).train()


def test_a_group_that_was_circled_is_kept_by_its_ids(page: Page) -> None:
    page.explorer.widget._handle_custom_msg({"group": [10, 7]}, [])
    assert page.explorer.group == (10, 7)


# --- states


def spoken(page: Page, revision: int) -> dict[str, Any]:
    """What Python tells of its state."""
    told = {"revision": revision, "author": "python", "seen": revision, "count": 1, "newest": 5}
    return told | {"state": to_plain(page.explorer.state)}


def test_a_state_that_python_sets_goes_to_the_page_as_a_new_revision(page: Page) -> None:
    assert page.told == spoken(page, 0)
    for revision, change in enumerate(({"drop_closest": 4 / 60}, {"truth": True}, {"compare": True, "k": 3}), 1):
        page.explorer.set(change)
        assert page.told == spoken(page, revision)
    page.explorer.set(compare=False)
    assert page.told["revision"] == 4 and page.told["state"] == to_plain(page.explorer.state)
    assert [told["revision"] for told in page.states] == [1, 2, 3, 4], "told once each"


def test_a_state_that_is_set_again_is_not_told(page: Page) -> None:
    page.explorer.set(drop_closest=0.07).set(drop_closest=0.07)
    assert page.told["revision"] == 1


def test_a_state_of_the_page_is_followed_and_not_echoed(page: Page) -> None:
    wanted = explore(SNAPSHOT).set(drop_closest=0.2, anchor=13, truth=True).state
    page.says(wanted)
    assert page.explorer.state == wanted and page.explorer.rules[1] == RankBand(0.2, 0.5)
    assert [told["author"] for told in page.states] == ["page 1"], "nothing was sent back"
    page.explorer.set(anchor=16)
    assert page.told["revision"] == 2 and page.told["author"] == "python", "Python goes on counting from there"
    page.explorer.restore(wanted)
    assert page.told["state"] == to_plain(wanted), "Python leads back to a state that a page has set"


def test_pages_count_on_from_each_other(page: Page) -> None:
    for n, anchor in enumerate((13, 16, 19, 22), 1):
        page.says(replace(page.explorer.state, anchor=anchor), author=f"page {n % 2}")
        assert page.explorer.state.anchor == anchor and page.told["revision"] == n


@pytest.mark.parametrize("moves", [1, 2, 5])
def test_states_from_before_what_python_has_set_are_not_followed(page: Page, moves: int) -> None:
    """However many a page has set meanwhile."""
    page.explorer.set(anchor=13)
    for place in range(moves):
        page.says(replace(page.explorer.state, anchor=7 + 3 * place), behind=1)
    assert page.explorer.state.anchor == 13 and page.explorer.errors == []
    assert page.told == spoken(page, 1), "it is told again to whoever looks later"
    page.says(replace(page.explorer.state, anchor=16))
    assert page.explorer.state.anchor == 16, "what was set after it is followed"


def test_python_may_set_while_a_page_is_followed(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels hand on what a page says in a thread of its own."""
    cell = Thread(target=lambda: page.explorer.set(drop_closest=0.15))
    restore = page.explorer.restore

    def slowly(state: State) -> None:
        restore(state)
        cell.start()
        cell.join(0.3)  # until it waits for its turn

    monkeypatch.setattr(page.explorer, "restore", slowly)
    page.says(replace(page.explorer.state, anchor=13))
    cell.join()
    assert page.explorer.state.anchor == 13 and page.explorer.rules[1] == RankBand(9 / 60, 0.5)
    assert page.told == spoken(page, 2)


def test_python_does_not_hear_itself(page: Page) -> None:
    before = page.explorer.state
    page.says(replace(before, anchor=16), author="python")
    assert page.explorer.state == before and page.told["revision"] == 1


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"anchor": 8}, "No image has the id 8"),
        ({"colour": "red"}, "Unknown value of state.colour 'red'"),
        ({"active": "B"}, "There is no side B"),
        ({"a": 3}, "state.a must be an object"),
    ],
)
def test_a_state_that_cannot_be_is_kept_and_the_page_is_set_back(
    page: Page, broken: dict[str, Any], message: str
) -> None:
    page.explorer.set(anchor=13)
    before = page.explorer.state
    page.says(to_plain(before) | broken)
    assert page.explorer.state == before
    assert len(page.explorer.errors) == 1 and message in page.explorer.errors[0]
    assert "Traceback" not in page.explorer.errors[0], "a person's mistake is told in words"
    assert page.told == spoken(page, 3)
    page.says(replace(before, anchor=16))
    assert page.explorer.state.anchor == 16 and len(page.explorer.errors) == 1, "the next one is followed"


def test_a_mistake_in_python_raises_and_tells_nobody(page: Page) -> None:
    with pytest.raises(ValueError, match="No image has the id 8"):
        page.explorer.set(anchor=8)
    assert page.explorer.errors == [] and page.told["revision"] == 0


def test_an_explorer_starts_where_a_line_says() -> None:
    line = explore(SNAPSHOT).set(drop_closest=0.08, compare=True).state.to_json()
    explorer = explore(SNAPSHOT, line)
    assert explorer.state.to_json() == line and Page(explorer).told["state"] == json.loads(line)
    assert explore(SNAPSHOT, replace(explorer.state, anchor=13)).state.anchor == 13


def test_the_state_is_small(page: Page) -> None:
    sizes = []
    for rule in ("MarginBand", "RingNegatives", "CancelFalseNegatives", "FarOnly"):
        page.explorer.set(rule=rule, compare=True, positive_rule="NearestKeys")
        sizes.append(len(page.explorer.widget.state))
    assert max(sizes) <= 4000, sizes


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [True, False])
def test_every_control_goes_through_its_range(labelled: bool) -> None:
    explorer = explore(made(labelled=labelled))
    before = explorer.state
    swept = sweep(explorer)
    assert explorer.errors == [] and explorer.state == before
    everywhere = {"anchor", "map", "doubtful", "compare", "active", "temperature", "epoch", "scope", "colour"}
    assert everywhere <= swept
    assert {
        "rule",
        "positive_rule",
        "negatives.drop_closest",
        "negatives.by",
        "negatives.inner",
        "positives.k",
    } <= swept
    assert ("truth" in swept) == labelled


# --- what a page asks for


def arrays(answer: tuple[dict[str, Any], list[bytes]], name: str, kind: str, snapshot: int = 0) -> np.ndarray:
    content, buffers = answer
    return np.stack([np.frombuffer(buffers[i], kind) for i in content["held"][snapshot][name]])


def test_arrays_are_sent_in_the_precision_that_python_computes_from(page: Page) -> None:
    digest = page.explorer.widget.digest
    answer = page.asks(want=digest)
    content = answer[0]
    assert content["digest"] == digest and len(content["held"]) == 1
    for name in ("anchors", "keys"):
        sent = arrays(answer, name, "<f2").reshape(2, 60, 16)
        computed = getattr(SNAPSHOT, name).astype(np.float16)
        assert np.array_equal(sent, computed)
    z, keys = (unit(arrays(answer, name, "<f2").reshape(2, 60, 16).astype(np.float64)) for name in ("anchors", "keys"))
    s = SNAPSHOT.similarities(torch.tensor([5]), epoch=1)
    for cosines, vector in ((s.anchor_keys, z[1, 5]), (s.positive_keys, keys[1, 5])):
        expected = (keys[1].astype(np.float64) @ vector.astype(np.float64)).astype(np.float32)
        assert np.array_equal(cosines[0].numpy(), expected), "nothing is lost on the way"
    assert json.loads(json.dumps(content)) == content, "all else is plain"
    held = content["held"][0]
    assert held["ids"] == SNAPSHOT.ids.tolist() and held["classes"] == [*SNAPSHOT.classes]
    assert len(json.dumps({name: each for name, each in held.items() if name not in ("sprite", "help")})) < 12_000


def test_two_snapshots_are_sent_together() -> None:
    other = made(seed=1)
    explorer = explore(SNAPSHOT, other=other)
    answer = Page(explorer).asks(want=explorer.widget.digest)
    for i, snapshot in enumerate((SNAPSHOT, other)):
        assert np.array_equal(arrays(answer, "keys", "<f2", i).reshape(2, 60, 16), snapshot.keys.astype(np.float16))
    explorer.close()


def test_equal_snapshots_have_equal_digests_and_others_have_others() -> None:
    moved = replace(SNAPSHOT, maps=SNAPSHOT.maps + 1e-1 * np.arange(60)[:, None].astype(np.float32))
    different = [
        made(seed=1), made(labelled=False), made(learned=True), made(epochs=(1, 6)), made(method="moco"), moved,
        replace(SNAPSHOT, labels=SNAPSHOT.labels[::-1].copy()), replace(SNAPSHOT, sprite=made(seed=2).sprite),
    ]  # fmt: skip
    digests = [explore(each).widget.digest for each in (SNAPSHOT, *different)]
    assert len({*digests}) == len(digests)
    assert explore(made()).widget.digest == digests[0]
    assert explore(SNAPSHOT, other=different[0]).widget.digest not in digests


def test_bands_and_weights_of_an_own_rule_are_answered(page: Page) -> None:
    state = explore(SNAPSHOT).set(rule=FarOnly.__name__, anchor=13).state
    content, (band, weight) = page.asks(judge=0, number="page 1 7", state=to_plain(state))
    s = SNAPSHOT.similarities(torch.tensor([2]), epoch=1)
    chosen = select(s, state.a.positives, state.a.negatives, temperature=state.a.temperature)
    assert content == {"number": "page 1 7", "anchorWeight": 1}
    assert np.array_equal(np.frombuffer(band, np.int8), chosen.band[0].numpy())
    assert np.array_equal(np.frombuffer(weight, np.float32), chosen.negative_weight[0].numpy())
    assert {Band.HARD, Band.POTENTIAL} <= {*np.frombuffer(band, np.int8).tolist()}
    assert page.explorer.state.anchor == 7, "a question moves nothing: the state may be on its way"


def test_each_side_is_judged_by_its_own_rule(page: Page) -> None:
    state = explore(SNAPSHOT).set(rule=FarOnly.__name__, compare=True, least=0.0).state
    sides = [page.asks(judge=i, number=i, state=to_plain(state))[1][0] for i in (0, 1)]
    assert [np.frombuffer(band, np.int8).tolist() for band in sides] == [
        select(SNAPSHOT.similarities(torch.tensor([0]), epoch=1), side.positives, side.negatives).band[0].tolist()
        for side in (state.a, state.of("B"))
    ]
    assert sides[0] != sides[1]


def test_an_exception_of_an_own_rule_is_answered_and_kept_whole(page: Page) -> None:
    @dataclass(frozen=True)
    class Losing(AllNegatives):
        def judge(self, s: Any, context: Any) -> Any:
            raise KeyError("lost")

    state = to_plain(page.explorer.state)
    broken = state | {"a": state["a"] | {"negatives": {"rule": "Losing"}}}
    content, buffers = page.asks(judge=0, number=3, state=broken)
    assert content == {"number": 3, "error": "KeyError: 'lost'"} and buffers == []
    (kept,) = page.explorer.errors
    assert "Traceback" in kept and 'raise KeyError("lost")' in kept
    content, _ = page.asks(judge=0, number=4, state=state | {"anchor": 8})
    assert content["number"] == 4 and "No image has the id 8" in content["error"]
    assert page.asks(judge=0, number=5, state=state)[0]["number"] == 5, "and the next is answered"


# --- widgets and cells


def alive() -> set[str]:
    from ipywidgets.widgets.widget import _instances

    return {*_instances}


def test_closing_frees_every_widget() -> None:
    before = alive()
    explorer = explore(SNAPSHOT, other=made(seed=1))
    assert len(alive() - before) >= 1
    explorer.close()
    assert alive() == before


def test_a_cell_run_again_closes_what_it_had_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    run = "1"
    monkeypatch.setattr(shown, "_running", lambda: ("the cell", run))
    monkeypatch.setattr(shown, "_shown", {})
    explore(SNAPSHOT), explore(SNAPSHOT)
    count = len(alive())
    for i in range(3):
        run = f"again {i}"
        explore(SNAPSHOT), explore(SNAPSHOT)
        assert len(alive()) == count
    monkeypatch.setattr(shown, "_running", lambda: ("another cell", run))
    explore(SNAPSHOT)
    assert len(alive()) > count, "another cell's stay"


def test_a_viewer_without_widgets_gets_the_sentence_and_no_arrays(page: Page) -> None:
    data, metadata = page.explorer._repr_mimebundle_()
    assert data["text/plain"] == page.explorer.sentence and metadata == {}
    view = data["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == page.explorer.widget.model_id
    assert {*data} == {"text/plain", "application/vnd.jupyter.widget-view+json"} and len(json.dumps(data)) < 2000


def test_what_a_notebook_saves_of_a_widget_holds_no_arrays(page: Page) -> None:
    page.asks(want=page.explorer.widget.digest)
    state = page.explorer.widget.get_state()
    assert len(json.dumps(state, default=str)) <= 200_000
    ours = {name: each for name, each in state.items() if name in ("state", "digest", "show")}
    assert len(json.dumps(ours)) <= 4000


def test_the_script_is_small_and_one_text_each_time() -> None:
    first = module_script()
    module_script.cache_clear()
    assert module_script() == first and len(first.encode()) <= 150_000


def test_the_script_asks_the_network_for_nothing() -> None:
    script = module_script()
    assert script.count("export default") == 1 and "import " not in script
    assert "http" not in script.replace("http://www.w3.org/2000/svg", "") and "import(" not in script


def test_parts_to_show_are_checked() -> None:
    assert explore(SNAPSHOT).widget.show == ["pictures", "map", "push", "cost"]
    assert explore(SNAPSHOT, show=(part for part in ("map",))).widget.show == ["map"]
    assert explore(SNAPSHOT, show=()).widget.show == []
    before = alive()
    with pytest.raises(ValueError, match=r"Unknown part 'maps'. Did you mean map"):
        explore(SNAPSHOT, show=["push", "maps"])
    assert alive() == before


@pytest.mark.parametrize("given", ["shapes-moco", None, np.zeros((3, 2))], ids=["name", "none", "array"])
def test_what_is_no_snapshot_is_said_in_words(given: Any) -> None:
    with pytest.raises(TypeError, match="load_snapshot"):
        explore(given)


# --- pictures and pages that stay


@pytest.mark.parametrize(
    "changes",
    [
        {"truth": True, "colour": "class"},
        {"compare": True, "drop_closest": 0.3, "doubtful": True},
        {"drop_closest": 0.0, "keep_within": 1.0, "positive_rule": "AugmentedView", "colour": "similarity"},
        {"rule": "SoftenedBand", "margin": 0.3},
    ],
    ids=str,
)
def test_the_still_picture_shows_the_same(changes: dict[str, Any]) -> None:
    explorer = explore(SNAPSHOT).set(changes)
    figure = explorer.static()
    texts = [" ".join(text.get_text().split()) for text in figure.findobj(match=lambda a: hasattr(a, "get_text"))]
    assert " ".join(explorer.sentence.split()) in texts and "the anchor" in texts
    for band in standalone.ORDER:
        count = int((explorer.judgement.band == band).sum())
        assert (f"{standalone.NAMES[band]}: {count:,}" in texts) == (count > 0)
    bars = [patch for patch in figure.findobj(match=lambda a: hasattr(a, "get_height")) if patch.get_height() >= 1]
    assert sum(bar.get_height() for bar in bars if bar.get_width() < 1) == 59, "every key but the own one"


def test_it_leaves_as_one_file(page: Page, tmp_path: Path) -> None:
    page.explorer.set(drop_closest=0.2, truth=True)
    path = page.explorer.save_html(tmp_path / "page.html", show=("pictures",))
    text = path.read_text(encoding="utf-8")
    assert '"drop_closest": 0.2' in text and '"show": ["pictures"]' in text
    with pytest.raises(ValueError, match="Unknown part 'picture'"):
        page.explorer.save_html(tmp_path / "no.html", show=("picture",))
    assert not (tmp_path / "no.html").exists()
