"""A session without a page: every control, the way back, two sides, what leaves it; it shows what training does."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from snapshots import made

from cltools import mine_pairs, snapshot_of_embeddings
from cltools.config import TrainingSettings
from cltools.contrast import contrastive_loss
from cltools.datasets import load_images
from cltools.encoders import EncoderSettings
from cltools.errors import CltoolsError
from cltools.explorer.session import Session
from cltools.explorer.state import State
from cltools.mining import (
    Band,
    Context,
    CosineBand,
    EveryKey,
    MarginBand,
    NearestKeys,
    NegativeRule,
    RandomNegatives,
    RankBand,
    RingNegatives,
    Selection,
    Similarities,
    select,
)
from cltools.mining.bands import KEPT
from cltools.presets import preset
from cltools.snapshot import Snapshot
from cltools.training import fit, step

SNAPSHOT = made()


def session(**changes: Any) -> Session:
    return Session(SNAPSHOT).set(**changes)


# --- controls


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"drop_closest": 0.02, "keep_within": 0.3}, RankBand(0.02, 0.3)),
        ({"drop_closest": 0.6, "keep_within": 0.9}, RankBand(0.6, 0.9)),
        ({"drop_closest": 0.2}, RankBand(0.2, 0.5)),
        ({"rescale": True}, RankBand(0.1, 0.5, rescale=True)),
        ({"rule": "CosineBand", "above": -0.5, "below": 0.25}, CosineBand(-0.5, 0.25)),
        ({"rule": "MarginBand", "relative": None, "margin": 0.1, "within": 0.3}, MarginBand(margin=0.1, within=0.3)),
        ({"rule": "RingNegatives"}, RingNegatives()),
        ({"rule": "RingNegatives", "outer": 0.3}, RingNegatives(outer=0.3)),
        ({"rule": "RandomNegatives", "share": 0.25}, RandomNegatives(0.25)),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_control_changes_the_negative_rule(changes: dict[str, Any], expected: NegativeRule) -> None:
    assert session(**changes).rules[1] == expected


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"k": 3}, "k", 3),
        ({"weighting": "uniform"}, "weighting", "uniform"),
        ({"positives.by": "anchor"}, "by", "anchor"),
        ({"rule": "AllNegatives", "by": "anchor"}, "by", "anchor"),
        ({"min_cosine": 0.5}, "min_cosine", 0.5),
        ({"min_weight": 0.1}, "min_weight", 0.1),
        ({"positive_rule": "EveryKey", "augmented_share": 0.25}, "augmented_share", 0.25),
        ({"augmented_share": None}, "augmented_share", None),
    ],
)
def test_a_control_changes_the_positive_rule(changes: dict[str, Any], field: str, value: object) -> None:
    assert getattr(session(**changes).rules[0], field) == value


def test_dotted_names_reach_fields_that_two_rules_share() -> None:
    s = (
        Session(SNAPSHOT)
        .set(rule="CancelFalseNegatives")
        .set({"negatives.k": 3, "positives.k": 7, "negatives.by": "positive"})
    )
    assert s.rules[0].k == 7 and s.rules[1].k == 3 and s.rules[1].by == "positive"  # type: ignore[attr-defined]
    s.set({"positives.temperature": 0.3})
    assert s.rules[0].temperature == 0.3 and s.state.side.temperature == 0.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drop_closst": 0.1}, "Unknown control 'drop_closst'. Did you mean drop_closest"),
        ({"drop_closest": 0.9}, "must be below"),
        ({"drop_closest": "much"}, "negatives.drop_closest must be of type float"),
        ({"k": 0}, "k is 0; it must be a whole number of at least 1"),
        ({"anchor": 8}, "No image has the id 8"),
        ({"epoch": 2}, "Unknown epoch '2'. Known: 1, 5"),
        ({"temperature": 0.0}, "must be above 0"),
        ({"temperature": "warm"}, "temperature must be of type float"),
        ({"rule": "RingNegative"}, "Did you mean RingNegatives"),
        ({"colour": "difference"}, "compare=True"),
        ({"colour": "red"}, "Unknown value of state.colour 'red'"),
        ({"closest": 3}, "Unknown control .closest.. Did you mean drop_closest"),
        ({"rule": "MarginBand", "by": "up"}, "by"),
        ({"positive_rule": "RankBand"}, "positive rule"),
        ({"by": "either"}, "by"),
    ],
)
def test_a_mistake_is_explained_and_changes_nothing(changes: dict[str, Any], message: str) -> None:
    s = session(k=4)
    before = s.state
    with pytest.raises(ValueError, match=message):
        s.set(**changes)
    assert s.state == before


def test_another_anchor_keeps_the_shares_and_moves_the_lines() -> None:
    s = session().set(positive_rule="AugmentedView")  # mined keys would leave the bands
    before, first = s.rules[1], s.judgement
    s.set(anchor=10)
    assert s.rules[1] == before and s.state.anchor == 10
    assert s.judgement.score[s.judgement.band == Band.HARD].min() != first.score[first.band == Band.HARD].min()
    assert (s.judgement.band == Band.HARD).sum() == (first.band == Band.HARD).sum()


def test_a_positive_rule_is_chosen_and_found_again_as_it_was_left() -> None:
    s = session(k=3).set(positive_rule="EveryKey")
    assert s.rules[0] == EveryKey().at(1)
    with pytest.raises(ValueError, match=r"Unknown control 'positives.k'"):
        s.set({"positives.k": 3})
    assert s.set(positive_rule="AugmentedView").judgement.selection.positive_weight.tolist() == [[1.0]]
    assert s.set(positive_rule="NearestKeys").rules[0].k == 3


def test_numpys_numbers_are_numbers_and_edges_need_no_order() -> None:
    assert session(anchor=SNAPSHOT.ids[3], temperature=np.float32(0.5)).state.anchor == 16
    s = Session(SNAPSHOT).set({"drop_closest": 0.6, "keep_within": 0.9})
    assert s.rules[1] == RankBand(0.6, 0.9)
    assert s.set(negatives={"rescale": True}, drop_closest=0.02).rules[1] == RankBand(0.02, 0.9, rescale=True)


def test_the_runs_own_rule_is_found_again() -> None:
    own = Session(SNAPSHOT).rules[1]
    assert session(rule="RingNegatives").set(rule="RankBand").rules[1] == own


def test_a_rule_is_found_again_as_it_was_left() -> None:
    s = session(drop_closest=0.03, keep_within=0.7).set(rule="RingNegatives").set(outer=0.4).set(rule="RankBand")
    assert s.rules[1] == RankBand(0.03, 0.7)
    assert s.set(rule="RingNegatives").rules[1] == RingNegatives(outer=0.4)


def test_what_cannot_be_judged_changes_nothing() -> None:
    s = Session(made(labelled=False)).set(drop_closest=0.2)
    before = s.state
    with pytest.raises(ValueError, match="OracleNegatives reads same_class"):
        s.set(rule="OracleNegatives")
    assert s.state == before
    with pytest.raises(ValueError, match="OraclePositives reads same_class"):
        s.set(positive_rule="OraclePositives")


def test_a_learned_threshold_is_a_choice_where_a_run_has_learned_it() -> None:
    s = session()
    before = s.state
    with pytest.raises(CltoolsError, match="learns while training; take a snapshot of a run trained with it"):
        s.set(rule="LearnedThreshold")
    assert s.state == before

    snapshot = made(learned=True)
    assert snapshot.thresholds is not None
    s = Session(snapshot).set(rule="LearnedThreshold", positive_rule="AugmentedView")
    for place, epoch in ((0, 0), (17, 0), (17, 1)):
        s.set(anchor=int(snapshot.ids[place]), epoch=snapshot.epochs[epoch])
        cosine = snapshot.anchors[epoch, place] @ snapshot.keys[epoch].T
        above = cosine > snapshot.thresholds[epoch, place]
        above[place] = False
        assert np.array_equal(s.judgement.band == Band.HARD, above) and 1 <= above.sum() <= 7
        assert f"leaves out {above.sum()} so close they may" in s.sentence
    assert s.census.suspected.count == 60 * 59 and 0.05 < s.census.suspected.value < 0.1


def test_softened_keys_and_light_anchors_are_told() -> None:
    s = session(rule="SoftenedBand", margin=0.3, positive_rule="AugmentedView")
    assert (s.judgement.band == Band.SOFTENED).sum() == 6
    assert "away from 59 of 59, 6 of them less than the others." in s.sentence
    assert s.census.kept.value == 1
    s.set(rule="DifficultAnchors", min_cosine=-1.0, anchor_weight=0.25)
    assert "In the mean of the loss this anchor has the weight 0.25." in s.sentence


@pytest.mark.parametrize("name", ["SoftenedBand", "LearnedThreshold", "DifficultAnchors", "MarginBand"])
def test_negative_rules_are_choices_by_name(name: str) -> None:
    assert type(Session(made(learned=True)).set(rule=name).rules[1]).__name__ == name


def test_a_readers_own_rule_can_be_chosen() -> None:
    from dataclasses import dataclass

    from cltools.mining import AllNegatives

    @dataclass(frozen=True)
    class FarNegatives(AllNegatives):
        share: float = 0.5

        def judge(self, s: Similarities, context: Context) -> torch.Tensor:
            return torch.where(s.anchor_keys < self.share, 2, 3).to(torch.int8)

    s = session(rule="FarNegatives", share=0.1)
    assert (s.judgement.band == Band.POTENTIAL).sum() > 0
    assert s.rules[1].share == 0.1  # type: ignore[attr-defined]


# --- the way back


def test_a_state_that_was_kept_leads_back_to_it() -> None:
    s = session()
    start, band = s.state, s.judgement.band
    s.set(drop_closest=0.02, truth=True)
    assert not np.array_equal(s.judgement.band, band)
    assert s.restore(start).state == start and np.array_equal(s.judgement.band, band)


def test_a_state_is_restored_from_its_line_and_a_wrong_one_changes_nothing() -> None:
    s = session(drop_closest=0.02, compare=True, temperature=0.1)
    line = s.state.to_json()
    assert Session(SNAPSHOT, line).state == s.state == Session(SNAPSHOT).restore(line).state
    other = session()
    for wrong in ("{", json.dumps(json.loads(line) | {"anchor": 8})):
        before = other.state
        with pytest.raises(ValueError, match=r"not a state|No image has the id 8"):
            other.restore(wrong)
        assert other.state == before


# --- sides


def test_comparing_moves_a_copy_and_leaves_the_first() -> None:
    s = session(compare=True, drop_closest=0.3)
    assert s.state.active == "B" and s.state.colour == "difference"
    assert s.state.a.negatives == RankBand(0.1, 0.5) and s.rules[1] == RankBand(0.3, 0.5)
    assert "by A only" in s.sentence
    s.set(active="A", keep_within=0.9)
    assert s.rules[1] == RankBand(0.1, 0.9)
    assert s.set(compare=False).state.b is None and s.state.colour == "band"


def test_all_anchors_are_those_of_the_active_side() -> None:
    one, two = made(seed=0), made(seed=1)
    s = Session(one, other=two).set(active="A", scope="all", truth=True)
    first = s.census
    s.set(active="B")
    assert s.sentence.startswith("Side B. Over all 60 anchors")
    assert s.census != first and s.census == Session(two).set(scope="all").census


def test_two_snapshots_of_other_images_are_refused() -> None:
    turned, renamed = replace(SNAPSHOT, labels=SNAPSHOT.labels[::-1]), replace(SNAPSHOT, classes=tuple("abcde"))
    for other in (turned, renamed, made(labelled=False), replace(SNAPSHOT, experiment=preset("digits-moco"))):
        with pytest.raises(ValueError, match="not of the same images"):
            Session(SNAPSHOT, other=other)


def test_two_snapshots_show_the_same_anchor_by_their_own_rules() -> None:
    other = made(seed=1, method="moco")
    s = Session(SNAPSHOT, other=other)
    a, b = s.judged("A"), s.judged("B")
    assert np.array_equal(a.cosine, SNAPSHOT.similarities(torch.tensor([0])).anchor_keys[0].numpy())
    assert np.array_equal(b.cosine, other.similarities(torch.tensor([0])).anchor_keys[0].numpy())
    assert (b.band == Band.POTENTIAL).sum() == 59
    s.set(active="B", epoch=1)
    early = other.similarities(torch.tensor([0]), epoch=0).anchor_keys[0].numpy()
    assert np.array_equal(s.judgement.cosine, early) and s.state.a.epoch == 5
    with pytest.raises(ValueError, match="not of the same images"):
        Session(SNAPSHOT, other=made(count=50))


# --- words


def test_the_sentence_tells_the_counts() -> None:
    s = session()
    counts = np.bincount(s.judgement.band, minlength=7)
    easy, kept, hard, mined = (int(counts[band]) for band in (Band.EASY, Band.POTENTIAL, Band.HARD, Band.MINED))
    assert s.sentence.startswith(
        f"This rule pushes image 7 away from {kept} of 59. It leaves out {hard} so close they may show the same "
        f"thing and {easy} so far they may teach little. It pulls {mined} closer, as further positives."
    )
    assert "class" not in s.sentence


def test_truth_tells_classes_and_the_base_rate() -> None:
    s = session(truth=True)
    j, same = s.judgement, SNAPSHOT.labels == SNAPSHOT.labels[0]
    kept, false = j.band == Band.POTENTIAL, (j.band == Band.POTENTIAL) & same
    assert "(class 0)" in s.sentence
    share = f"{false.sum()} of the {kept.sum()} ({100 * false.sum() / kept.sum():.1f} %) that it is pushed away from"
    assert share in s.sentence and f"; {100 * 11 / 59:.1f} % of all 59 are of its class." in s.sentence
    mined, hard = j.band == Band.MINED, j.band == Band.HARD
    assert f"Of the {mined.sum()} mined, {(mined & same).sum()} (" in s.sentence
    assert f"Of the {hard.sum()} suspected, {(hard & same).sum()} (" in s.sentence
    s.set(drop_closest=0.0, keep_within=1.0)
    assert ". It leaves out none. " in s.sentence and "suspected" not in s.sentence


def test_about_all_anchors() -> None:
    s = session(scope="all")
    assert s.sentence.startswith("Over all 60 anchors:") and "class" not in s.sentence
    s.set(truth=True)
    assert str(s.census.false) in s.sentence and str(s.census.base_rate) in s.sentence
    assert s.census is s.census, "what was counted is not counted again"


@pytest.mark.parametrize("share", [1e-9, 1.0])
def test_an_empty_band_is_ordinary(share: float) -> None:
    s = session(rule="OracleNegatives") if share == 1 else session(drop_closest=0.0, keep_within=share)
    text = s.sentence
    assert ("away from 0 of 59" in text and "Nothing pushes" in text) == (share < 1)


# --- what leaves it


def test_rules_as_python_make_the_same_rules() -> None:
    s = session(drop_closest=0.03, k=7, weighting="uniform")
    scope: dict[str, Any] = {"NearestKeys": NearestKeys, "RankBand": RankBand}
    exec(s.python(), scope)
    assert (scope["positives"], scope["negatives"]) == s.rules


def test_keys_as_csv(tmp_path: Path) -> None:
    s = session()
    s.to_csv(tmp_path / "keys.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "keys.csv").read_text(encoding="utf-8"))))
    assert len(rows) == 59 and "class" not in rows[0]
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    for row in rows:
        place = int(np.flatnonzero(SNAPSHOT.ids == int(row["image"]))[0])
        assert Band[row["band"]] == s.judgement.band[place]
        assert float(row["weight"]) == pytest.approx(float(s.selection.negative_weight[0, place]))
    assert "class" in session(truth=True).csv().splitlines()[0]


# --- it shows what training does


def test_bands_are_those_of_the_first_step_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """An explorer's rules train, and choose in a step what they choose of the same cosines afterwards."""
    images = load_images("digits").subset(96, seed=0)
    experiment = replace(
        preset("digits-moco"),
        encoder=EncoderSettings(backbone="tiny", hidden=16, projection=8, bn_group=None),
        training=TrainingSettings(
            epochs=2, batch=96, queue_size=96, learning_rate=0.1, warmup_epochs=0.5, device="cpu", symmetric=False
        ),
    )
    warm = fit(experiment, images=images)
    explorer = Session(made()).set(negatives=vars(RankBand(0.1, 0.4, by="force")), k=4)
    positives, negatives = explorer.rules
    seen: list[tuple[Similarities, Selection]] = []

    def spied(
        z: torch.Tensor, positive: torch.Tensor, keys: torch.Tensor, *rest: Any, observe: Any, **more: Any
    ) -> Any:
        def both(s: Similarities, selection: Selection) -> None:
            seen.append((s, selection))
            observe(s, selection)

        return contrastive_loss(z, positive, keys, *rest, observe=both, **more)

    monkeypatch.setattr(step, "contrastive_loss", spied)
    fit(replace(experiment, positives=positives, negatives=negatives), images=images, start_from=warm)
    s, selection = seen[0]
    again = select(s, positives, negatives, temperature=0.2)
    assert torch.equal(again.band, selection.band)
    assert torch.equal(again.negative_weight, selection.negative_weight)
    assert {Band.MINED, Band.HARD, Band.POTENTIAL, Band.EASY} <= {*selection.band.flatten().tolist()}


def test_the_share_of_keys_that_change_band_in_half_precision_is_small(tmp_path: Path) -> None:
    snapshot = made(200, epochs=(5,))
    snapshot.save(tmp_path / "half.npz")
    half = Snapshot.load(tmp_path / "half.npz")
    positives, negatives = Session(snapshot).rules
    whole, rounded = (select(each.similarities(), positives, negatives).band for each in (snapshot, half))
    assert (whole != rounded).float().mean() < 0.01


def test_a_state_of_another_kind_is_told_apart() -> None:
    with pytest.raises(ValueError, match="state must be an object"):
        State.from_json("3")


# --- all anchors as tables


def searched() -> Session:
    """12 queries and 90 passages in three topics; matches of two queries are given by hand."""
    draws = np.random.default_rng(3)
    topics, centres = np.arange(90) % 3, draws.normal(size=(3, 8))
    passages = centres[topics] + draws.normal(size=(90, 8))
    queries = passages[:12] + 0.4 * draws.normal(size=(12, 8))
    ids = 100 + np.arange(12), 500 + np.arange(90)
    found = snapshot_of_embeddings(
        queries, passages[:12], passages, labels=(topics[:12], topics), ids=ids, own=[[0, 40], [3, 41]]
    )
    return Session(found)


@pytest.mark.parametrize("pick", ["closest", "random"])
def test_pairs_are_those_that_are_mined_elsewhere(pick: Literal["closest", "random"]) -> None:
    s = searched().set(rule="MarginBand", margin=0.1, within=0.6, positive_rule="NearestKeys", k=2)
    snapshot, n = s.snapshots[0], 5
    pairs, report = s.pairs(n, pick), s.report(n)
    whole = snapshot.similarities()
    chosen = select(whole, *s.rules)
    for row, anchor in enumerate(snapshot.anchor_ids):
        mine = pairs[pairs["anchor"] == anchor]
        kept = snapshot.ids[np.isin(chosen.band[row].numpy(), KEPT)]
        negative = mine[mine["band"].isin(["potential", "softened"])]
        assert len(negative) == min(n, len(kept)) and set(negative["key"]) <= set(kept)
        assert set(mine[mine["band"] == "mined"]["key"]) == set(snapshot.ids[chosen.band[row].numpy() == Band.MINED])
        if pick == "closest":
            nearest = sorted(kept, key=lambda key: -float(whole.anchor_keys[row, key - 500]))
            assert negative["key"].tolist() == nearest[:n]
        assert mine["cosine"].to_numpy() == pytest.approx(whole.anchor_keys[row].numpy()[mine["key"] - 500])
    counts = {band.name.lower(): int((chosen.band == band).sum()) for band in Band}
    assert (report.counts, report.anchors, report.keys) == (counts, 12, 90) and counts["own"] == 14
    kept_of = np.isin(chosen.band.numpy(), KEPT).sum(1)
    assert report.short == (kept_of < n).sum()


def test_what_is_reported_is_what_mining_the_same_files_reports() -> None:
    s = searched().set(rule="MarginBand", relative=0.1, margin=None)
    snapshot = s.snapshots[0]
    assert snapshot.queries is not None
    given = snapshot.anchors[0], snapshot.queries.positives[0], snapshot.keys[0]
    ids = np.arange(12), np.full(90, -1)
    ids[1][snapshot.queries.own[:, 1]] = snapshot.queries.own[:, 0]
    mined = mine_pairs(*given, negative_rule=s.rules[1], negatives=80, ids=ids, temperature=0.2)
    assert s.report(80).counts == mined.report.counts and s.report(80).loosen == mined.report.loosen
    assert s.report(80).loosen == ("MarginBand(relative=…)",) and s.report(80).short > 0


def test_what_pairs_cannot_say_is_refused_in_words() -> None:
    s = searched()
    before = s.state
    with pytest.raises(ValueError, match="MixedNegatives estimates the mass of negatives or makes new ones"):
        s.set(rule="MixedNegatives").pairs()
    s.restore(before)
    with pytest.raises(ValueError, match="Unknown pick 'top'"):
        s.pairs(pick="top")  # type: ignore[arg-type]
    for negatives in (0, -1, 2.5):
        with pytest.raises(ValueError, match="it must be a whole number from 1"):
            s.report(negatives)  # type: ignore[arg-type]


def test_pairs_of_a_learned_threshold_are_those_that_are_shown() -> None:
    s = Session(made(method="glofnd", learned=True))
    shown = {int(key) for key in s.snapshots[0].ids[s.judgement.band == Band.POTENTIAL]}
    pairs = s.pairs(60)
    assert {*pairs[pairs["anchor"] == s.state.anchor]["key"]} == shown and s.report().counts["hard"] > 0
    assert repr(s.report()) == str(s.report()) and "candidates by band" in repr(s.report())


def test_anchors_are_told_with_their_keys_by_band() -> None:
    s = searched().set(rule="RankBand", drop_closest=0.1, keep_within=0.5)
    table, snapshot = s.anchors(), s.snapshots[0]
    whole = snapshot.similarities()
    chosen = select(whole, *s.rules)
    assert table["anchor"].tolist() == snapshot.anchor_ids.tolist()
    for band in set(Band) - {Band.OWN}:
        assert table[band.name.lower()].tolist() == (chosen.band == band).sum(1).tolist()
    assert whole.same_class is not None
    assert table["false"].tolist() == ((chosen.band == Band.POTENTIAL) & whole.same_class).sum(1).tolist()
    assert "false" not in Session(made(labelled=False)).anchors()
    assert s.census.kept.value == pytest.approx(table["potential"].sum() / (12 * 90 - 14))


def test_queries_and_passages_are_named_in_the_sentence() -> None:
    s = searched().set(rule="RankBand", drop_closest=0.1, keep_within=0.5, anchor=103, truth=True)
    others = 90 - int(s.similarities.own.sum())
    assert others == 88, "its match and another of its own"
    assert s.sentence.startswith("This rule pushes query 103 (0) away from ") and f" of {others}." in s.sentence
    assert " For this query, " in s.sentence and f"of all {others} are of its class" in s.sentence
    with pytest.raises(ValueError, match="No query has the id 3; ids go from 100 to 111"):
        s.set(anchor=3)
    assert s.csv().startswith("row,band,weight,score,cosine,force,class\n") and s.csv().count("\n") == 1 + others
