"""Settings: what is refused, and that their JSON gives back exactly what it was made of."""

import json
import math
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from cltools.config import (
    ABSENT,
    Difference,
    EvaluationSettings,
    Experiment,
    TrainingSettings,
    differences,
    to_plain,
    undeciding,
)
from cltools.datasets import DataSettings
from cltools.encoders import EncoderSettings
from cltools.errors import CltoolsError
from cltools.losses import LossSettings
from cltools.mining import (
    AllNegatives,
    AugmentedView,
    CosineBand,
    Estimate,
    EveryKey,
    MarginBand,
    NearestKeys,
    NegativeRule,
    OracleNegatives,
    PositiveRule,
    RandomNegatives,
    RankBand,
)
from cltools.mining.rules import rule_class
from cltools.presets import preset, preset_names
from cltools.training import fit
from cltools.views import ViewSettings


@dataclass(frozen=True)
class Spiral(AllNegatives):
    """A reader's own rule, with every kind of field a rule may have."""

    turns: int = 3
    pitch: float | None = None
    ends: tuple[float, float] = (0.1, 0.5)
    steps: tuple[int | None, tuple[float, bool]] = (None, (1.0, True))
    side: Literal["left", "right"] = "left"
    mirrored: bool = False
    mass: Estimate = field(default_factory=Estimate)
    inner: RankBand | None = None


@dataclass(frozen=True)
class Steps(AllNegatives):
    """A rule with a schedule of any length, and a field of two types."""

    edges: tuple[float, ...] = (0.5, 0.3, 0.1)
    cut: float | str = "auto"


@dataclass(frozen=True)
class Shelf(AllNegatives):
    """A rule with a field that JSON gives back as another type, or not at all."""

    things: dict[str, float] = field(default_factory=dict)
    weight: object = None


@dataclass(frozen=True)
class TightSpiral(Spiral):
    """A rule two classes below `NegativeRule`, with a setting that has no default."""

    tightness: float = field(kw_only=True)


@dataclass(frozen=True)
class Meeting(AllNegatives):
    """A rule made of other rules."""

    rules: tuple[NegativeRule, NegativeRule] = (AllNegatives(), AllNegatives())


# Random experiments: any that the constructors accept.


shares = st.floats(0, 1)
positive = st.floats(1e-3, 1e3)
signed = st.floats(-1e3, 1e3)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def ascending(strategy: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[float, ...]]:
    return st.tuples(strategy, strategy).map(lambda pair: tuple(sorted(pair)))


def rank_bands() -> st.SearchStrategy[RankBand]:
    ranks = ascending(shares).filter(lambda e: e[0] < e[1])
    by = st.sampled_from(["positive", "anchor", "force"])
    return st.builds(lambda e, r, s: RankBand(*e, by=r, rescale=s), ranks, by, st.booleans())


def bands() -> st.SearchStrategy[NegativeRule]:
    cosines = ascending(st.floats(-1, 1)).filter(lambda e: e[0] < e[1])
    by_cosine = st.builds(lambda e, r: CosineBand(*e, by=r), cosines, st.sampled_from(["positive", "anchor"]))
    within = maybe(st.floats(0.01, 4))
    by_margin = st.builds(lambda m, w: MarginBand(margin=m, within=w), st.floats(-2, 2), within)
    relative = st.builds(lambda m, w: MarginBand(relative=m, within=w), st.floats(0, 3), within)
    return rank_bands() | by_cosine | by_margin | relative


def spirals() -> st.SearchStrategy[Spiral]:
    settings: dict[str, st.SearchStrategy[Any]] = {
        "turns": st.integers(),
        "pitch": maybe(signed),
        "ends": st.tuples(signed, signed),
        "steps": st.tuples(maybe(st.integers()), st.tuples(signed, st.booleans())),
        "side": st.sampled_from(["left", "right"]),
        "mirrored": st.booleans(),
        "mass": st.builds(Estimate, positive, st.floats(0, 0.99), st.booleans()),
        "inner": maybe(rank_bands()),
    }
    return st.builds(Spiral, **settings) | st.builds(TightSpiral, tightness=signed, **settings)


negatives = st.one_of(
    st.just(AllNegatives()),
    bands(),
    st.builds(RandomNegatives, st.floats(0.01, 1), st.booleans()),
    st.builds(OracleNegatives, share=shares, rescale=st.booleans()),
    spirals(),
    st.builds(Meeting, st.tuples(bands(), spirals())),
)


warm_up = {"start": shares, "ramp": shares, "strength": shares}
positives: st.SearchStrategy[PositiveRule] = st.one_of(
    st.just(AugmentedView()),
    st.builds(EveryKey, temperature=positive, augmented_share=shares, **warm_up),
    st.integers(1, 4).flatmap(
        lambda k: st.builds(
            NearestKeys,
            st.just(k),
            weighting=st.sampled_from(["softmax", "uniform"]),
            augmented_share=maybe(shares),
            temperature=positive,
            min_cosine=maybe(st.floats(-1, 1)),
            min_weight=maybe(shares | st.just("mean")),
            by=st.sampled_from(["positive", "anchor", "either"]),
            pick=maybe(st.integers(1, k)),
            **warm_up,
        )
    ),
)


@st.composite
def encoders(draw: st.DrawFn) -> EncoderSettings:
    backbone = draw(st.sampled_from(["tiny", "resnet18", "resnet50"]))
    return EncoderSettings(
        backbone=backbone,
        max_pool=backbone != "tiny" and draw(st.booleans()),
        hidden=draw(st.integers(1, 4096)),
        projection=draw(st.integers(1, 4096)),
        head_norm=draw(st.booleans()),
        predictor=draw(st.booleans()),
        bn_group=draw(st.sampled_from([None, 2, 4])),
    )


@st.composite
def trainings(draw: st.DrawFn) -> TrainingSettings:
    batch = 4 * draw(st.integers(1, 200))
    return TrainingSettings(
        mode=draw(st.sampled_from(["moco", "simclr"])),
        symmetric=draw(st.booleans()),
        epochs=draw(st.integers(1, 1000)),
        batch=batch,
        queue_size=batch + draw(st.integers(0, 5000)),
        momentum=draw(shares),
        learning_rate=draw(positive),
        warmup_epochs=draw(positive),
        sgd_momentum=draw(shares),
        weight_decay=draw(positive),
        device=draw(st.text(max_size=5)),
        precision=draw(st.sampled_from(["auto", "float32", "bfloat16"])),
        checkpoint_every=draw(st.integers(1, 9)),
    )


experiments = st.builds(
    Experiment,
    data=st.builds(
        DataSettings,
        name=st.text(),
        root=maybe(st.text()),
        download=st.booleans(),
        limit=maybe(st.integers(1, 10**6)),
        size=maybe(st.integers(2, 500)),
        holdout=st.floats(0, 0.99),
        skip_bad=st.booleans(),
    ),
    views=st.builds(
        ViewSettings,
        crop_scale=ascending(st.floats(0.01, 1)),
        crop_ratio=ascending(positive),
        hue=st.floats(0, 0.5),
        blur=shares,
        blur_sigma=ascending(positive),
        rotation=st.floats(0, 180),
    ),
    encoder=encoders(),
    positives=positives,
    negatives=negatives,
    loss=st.builds(LossSettings, positive, st.sampled_from(["sep", "in", "out", "decoupled"])),
    training=trainings(),
    evaluation=st.builds(
        EvaluationSettings,
        every=st.integers(1, 99),
        protocol=st.sampled_from(["knn200", "knn10"]),
        probe=st.booleans(),
        probe_l2=positive,
        test_limit=maybe(st.integers(1, 10**6)),
    ),
    seed=st.integers(0, 2**32 - 1),
)


few = hypothesis_settings(max_examples=30)


def read(**plain: Any) -> Experiment:
    return Experiment.from_json(json.dumps(plain))


class TestJson:
    @few
    @given(experiments)
    def test_gives_back_any_experiment(self, experiment: Experiment) -> None:
        again = Experiment.from_json(experiment.to_json())
        assert again == experiment and type(again.negatives) is type(experiment.negatives)
        assert repr(again) == repr(experiment), "a tuple came back as a list, or a float as an int"
        assert not differences(experiment, again)

    def test_gives_back_every_preset(self) -> None:
        for name in preset_names():
            assert repr(Experiment.from_json(preset(name).to_json())) == repr(preset(name)), name

    def test_says_everything_and_the_rule_by_its_name(self) -> None:
        plain = json.loads(preset("digits-potential").to_json())
        assert list(plain) == [f.name for f in fields(Experiment)]
        assert plain["negatives"] == {
            "rule": "RankBand", "drop_closest": 0.05, "keep_within": 0.5, "by": "positive", "rescale": False,
            "drop_closest_from": None, "keep_within_from": None, "anneal": 0.5,
        }  # fmt: skip
        assert plain["positives"]["min_cosine"] is None and plain["positives"]["rule"] == "NearestKeys"
        assert plain["views"]["crop_scale"] == [0.5, 1.0]

    def test_left_out_keys_take_their_defaults(self) -> None:
        assert read() == Experiment()
        assert read(training={"epochs": 3}) == Experiment(training=TrainingSettings(epochs=3))
        assert read(negatives={"rule": "RankBand", "keep_within": 0.9}).negatives == RankBand(keep_within=0.9)
        assert read(negatives={"rule": "Spiral", "inner": {"drop_closest": 0.2}}).negatives == Spiral(
            inner=RankBand(drop_closest=0.2)
        )

    def test_takes_a_whole_number_for_a_float_and_makes_it_one(self) -> None:
        experiment = read(
            training={"warmup_epochs": 2},
            views={"crop_scale": [1, 1]},
            positives={"rule": "NearestKeys", "min_cosine": 1},
        )
        assert repr(experiment.training.warmup_epochs) == "2.0"
        assert repr(experiment.views.crop_scale) == "(1.0, 1.0)"
        assert repr(experiment.positives.min_cosine) == "1.0"

    def test_a_class_defined_again_replaces_the_one_before(self) -> None:
        def define(default: float) -> type[NegativeRule]:
            @dataclass(frozen=True)
            class Redefined(AllNegatives):
                edge: float = default

            return Redefined

        first, second = define(0.1), define(0.2)
        assert rule_class("Redefined", NegativeRule) is second is not first
        assert read(negatives={"rule": "Redefined"}).negatives == second()

    @pytest.mark.parametrize("text", ["", "epochs: 3", '{"seed": 1,}'])
    def test_refuses_what_is_not_json(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"not valid JSON: .*line 1 column"):
            Experiment.from_json(text)

    def test_refuses_numbers_that_no_setting_holds_and_repeats_none_at_length(self) -> None:
        for value in (10**400, -(10**400), "x" * 10**6, [0] * 10**5):
            with pytest.raises(CltoolsError, match=r"training\.warmup_epochs must be of type float") as error:
                read(training={"warmup_epochs": value})
            assert len(str(error.value)) < 400
        with pytest.raises(CltoolsError, match="is nested deeper"):
            Experiment.from_json('{"training": ' * 50 + "1" + "}" * 50)

    def test_refuses_what_is_not_an_object(self) -> None:
        for text in ("[]", "3", "null"):
            with pytest.raises(ValueError, match=r"^experiment must be an object"):
                Experiment.from_json(text)
        for part in ("data", "positives", "negatives", "training"):
            for value in (None, [], "auto", 3):
                with pytest.raises(ValueError, match=rf"^experiment\.{part} must be an object"):
                    read(**{part: value})

    @pytest.mark.parametrize(
        ("plain", "message"),
        [
            ({"sed": 1}, "experiment 'sed'. Did you mean seed?"),
            ({"negatives": {"rule": "RankBand", "drop_closst": 0.3}}, "'drop_closst'. Did you mean drop_closest"),
            ({"negatives": {"rule": "AllNegatives", "lower": 0.3}}, "experiment.negatives 'lower'. Known: none."),
            ({"positives": {"rule": "RankBand"}}, "Unknown positive rule 'RankBand'"),
            ({"negatives": {"rule": "Spiral", "mass": {"betta": 1.0}}}, "negatives.mass 'betta'. Did you mean beta"),
            ({"negatives": {"rule": "RankBad"}}, "Unknown negative rule 'RankBad'. Did you mean RankBand"),
            ({"negatives": {"rule": "Rescalable"}}, "Unknown negative rule 'Rescalable'"),
            ({"training": {"mode": None}}, "experiment.training.mode 'None'. Known: moco, simclr."),
            ({"loss": {"form": ["sep"]}}, "experiment.loss.form \"['sep']\". Did you mean sep?"),
        ],
    )
    def test_names_what_it_does_not_know_and_the_nearest(self, plain: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=re.escape(message)):
            read(**plain)

    def test_a_negative_rule_must_be_named_by_text(self) -> None:
        for unnamed in ({}, {"lower": 0.1}, {"rule": None}):
            with pytest.raises(ValueError, match=r"^experiment\.negatives must name its rule"):
                read(negatives=unnamed)
        for name in (3, True, ["RankBand"], {"rule": "RankBand"}):
            with pytest.raises(
                ValueError, match=r'^experiment\.negatives must name its rule, as in {"rule": "RankBand"}, not'
            ):
                read(negatives={"rule": name})

    def test_names_a_missing_setting_that_has_no_default(self) -> None:
        with pytest.raises(ValueError, match=r"^experiment\.negatives lacks 'tightness', which has no default"):
            read(negatives={"rule": "TightSpiral", "turns": 2})

    @pytest.mark.parametrize(
        ("path", "value", "kind"),
        [
            ("seed", 1.0, "int"),
            ("seed", True, "int"),
            ("training.momentum", "0.9", "float"),
            ("training.symmetric", 1, "bool"),
            ("training.device", None, "str"),
            ("data.limit", "all", "int"),
            ("views.crop_scale", [0.2, "1"], "float"),
        ],
    )
    def test_a_value_of_another_type_names_the_field(self, path: str, value: object, kind: str) -> None:
        *parents, name = path.split(".")
        plain: dict[str, Any] = {name: value}
        for parent in reversed(parents):
            plain = {parent: plain}
        item = value[1] if isinstance(value, list) and value else value
        with pytest.raises(ValueError) as refusal:
            read(**plain)
        assert str(refusal.value) == f"experiment.{path} must be of type {kind}, not {item!r}."

    def test_a_pair_takes_a_list_of_two(self) -> None:
        for value in ([], [0.2], [0.2, 0.5, 1.0], 0.2, "ab", None, {"0": 0.2, "1": 1.0}):
            with pytest.raises(ValueError, match=r"^experiment\.views\.crop_scale must be a list(,| of 2)"):
                read(views={"crop_scale": value})

    def test_passes_on_what_the_settings_refuse(self) -> None:
        with pytest.raises(ValueError, match=r"^TrainingSettings: epochs is 0; it must be a whole number"):
            read(training={"epochs": 0})
        with pytest.raises(ValueError, match="'NaN' is not a finite number"):
            Experiment.from_json('{"training": {"momentum": NaN}}')


class TestDifferences:
    def test_none_between_equals(self) -> None:
        assert not differences(preset("digits-moco"), preset("digits-moco"))
        whole = replace(Experiment(), training=TrainingSettings(warmup_epochs=5))
        assert not differences(whole, Experiment()), "5 and 5.0 train alike"

    def test_names_each_changed_leaf_and_no_other(self) -> None:
        a = preset("digits-potential")
        b = replace(
            a,
            seed=3,
            data=replace(a.data, limit=300),
            views=replace(a.views, crop_scale=(0.4, 1.0)),
            negatives=replace(a.negatives, drop_closest=0.1),
        )
        assert differences(a, b) == (
            Difference("data.limit", None, 300),
            Difference("views.crop_scale", [0.5, 1.0], [0.4, 1.0]),
            Difference("negatives.drop_closest", 0.05, 0.1),
            Difference("seed", 0, 3),
        )
        assert differences(to_plain(a), b) == differences(a, to_plain(b)) == differences(a, b)
        assert str(differences(a, b)[0]) == "data.limit: None → 300"

    def test_of_other_rules_says_which_settings_each_lacks(self) -> None:
        a, b = Experiment(negatives=RandomNegatives(0.2)), Experiment(negatives=Spiral(pitch=None, turns=1))
        assert [str(each) for each in differences(a, b)] == [
            "negatives.rule: RandomNegatives → Spiral",
            "negatives.share: 0.2 → absent",
            "negatives.rescale: False → absent",
            "negatives.share_from: None → absent",
            "negatives.anneal: 0.5 → absent",
            "negatives.turns: absent → 1",
            "negatives.pitch: absent → None",
            "negatives.ends: absent → [0.1, 0.5]",
            "negatives.steps: absent → [None, [1.0, True]]",
            "negatives.side: absent → left",
            "negatives.mirrored: absent → False",
            "negatives.mass.beta: absent → 0.0",
            "negatives.mass.tau_plus: absent → 0.0",
            "negatives.mass.detach: absent → True",
            "negatives.inner: absent → None",
        ]

    def test_of_rules_with_the_same_settings_is_the_rule(self) -> None:
        a, b = Experiment(negatives=OracleNegatives()), Experiment(negatives=AllNegatives())
        rule, share, rescale = differences(a, b)
        assert rule == Difference("negatives.rule", "OracleNegatives", "AllNegatives")
        assert share == Difference("negatives.share", 1.0, ABSENT)
        assert rescale == Difference("negatives.rescale", False, ABSENT)
        assert rescale.to_plain() == {"path": "negatives.rescale", "before": False}, "what one side lacks is left out"

    def test_a_field_says_whether_it_decides_a_result(self) -> None:
        elsewhere = replace(
            Experiment(),
            data=DataSettings(root="elsewhere", download=False),
            training=TrainingSettings(device="cpu", cuda_graph=True, checkpoint_every=7),
        )
        assert {each.path for each in differences(Experiment(), elsewhere)} == undeciding()
        assert all(each.decides for each in differences({}, Experiment()) if each.path not in undeciding())

    @few
    @given(experiments, experiments)
    def test_are_the_same_names_both_ways(self, a: Experiment, b: Experiment) -> None:
        there, back = differences(a, b), differences(b, a)
        assert {each.path: (each.before, each.now) for each in there} == {e.path: (e.now, e.before) for e in back}
        assert (not there) == (a == b)


TRAINING: list[dict[str, Any]] = [
    {"epochs": 0},
    {"batch": 1},
    {"queue_size": 0},
    {"checkpoint_every": 0},
    {"learning_rate": -0.1},
    {"warmup_epochs": -1.0},
    {"sgd_momentum": -0.5},
    {"weight_decay": math.nan},
    {"learning_rate": math.inf},
    {"momentum": 1.01},
    {"queue_size": 255, "batch": 256},
]
EVALUATION: list[dict[str, Any]] = [{"every": 0}, {"probe_l2": -1e-3}, {"probe_l2": math.nan}, {"test_limit": 0}]


class TestRefusals:
    @pytest.mark.parametrize("wrong", TRAINING, ids=str)
    def test_of_training(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"TrainingSettings: .*(must|holds)") as refusal:
            TrainingSettings(**wrong)
        name, value = next(iter(wrong.items()))
        assert str(value) in str(refusal.value) and (name in str(refusal.value) or len(wrong) > 1)

    @pytest.mark.parametrize("wrong", EVALUATION, ids=str)
    def test_of_evaluation(self, wrong: dict[str, Any]) -> None:
        ((name, value),) = wrong.items()
        with pytest.raises(ValueError, match=f"EvaluationSettings: {name} is {value}; it must be .*at least"):
            EvaluationSettings(**wrong)

    @pytest.mark.parametrize(
        ("settings", "mistyped", "meant"),
        [
            (TrainingSettings, {"mode": "mocco"}, "moco"),
            (TrainingSettings, {"precision": 16}, "bfloat16"),
            (EvaluationSettings, {"protocol": "knn20"}, "knn200"),
        ],
    )
    def test_of_a_mistyped_choice(self, settings: Any, mistyped: dict[str, Any], meant: str) -> None:
        with pytest.raises(ValueError, match=f"{next(iter(mistyped))} '.*{meant}"):
            settings(**mistyped)

    @pytest.mark.parametrize("temperature", [0.0, math.nan])
    def test_of_a_temperature_that_is_not_above_0(self, temperature: float) -> None:
        with pytest.raises(ValueError, match=f"temperature is {temperature}; it must be above 0"):
            Experiment(loss=LossSettings(temperature=temperature))

    @pytest.mark.parametrize(
        "band",
        [
            {"rule": "RankBand", "drop_closest": 0.6, "keep_within": 0.5},
            {"rule": "CosineBand", "above": 0.6, "below": 0.5},
            {"rule": "MarginBand", "margin": 0.1, "relative": 0.95},
        ],
        ids=lambda band: band["rule"],
    )
    def test_of_a_band_that_is_none(self, band: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=f"{band['rule']}: .*{list(band)[1]}.*{list(band)[2]}"):
            read(negatives=band)

    def test_of_more_candidates_than_keys(self) -> None:
        small = TrainingSettings(batch=64, queue_size=100)
        with pytest.raises(ValueError, match=r"^Experiment: positives\.k is 101, but an anchor has only 100 keys"):
            Experiment(positives=NearestKeys(k=101, min_weight="mean"), training=small)
        in_batch = replace(small, mode="simclr")
        with pytest.raises(ValueError, match="k is 129, but an anchor has only 128 keys"):
            Experiment(positives=NearestKeys(k=129, min_weight="mean"), training=in_batch)

    def test_of_a_batch_that_is_not_whole_groups(self) -> None:
        with pytest.raises(ValueError, match=r"batch 100 must be a multiple of encoder\.bn_group, 32"):
            Experiment(encoder=EncoderSettings(bn_group=32), training=TrainingSettings(batch=100))

    def test_do_not_reach_what_has_a_meaning(self) -> None:
        small, mined = TrainingSettings(batch=64, queue_size=100), NearestKeys(k=100, min_weight="mean")
        assert Experiment(positives=mined, training=small).training.keys == 100
        odd = TrainingSettings(batch=100)
        assert Experiment(encoder=EncoderSettings(bn_group=None), training=odd).training == odd
        nothing_moves = TrainingSettings(momentum=0.0, learning_rate=0.0, warmup_epochs=0.0, weight_decay=0.0)
        least = TrainingSettings(momentum=1.0, epochs=1, batch=2, queue_size=2, checkpoint_every=1, device="whatever")
        assert TrainingSettings(mode="simclr", batch=256, queue_size=1) not in (nothing_moves, least)
        assert EvaluationSettings(every=1, probe_l2=0.0, test_limit=1).probe_l2 == 0


@pytest.mark.parametrize(("mode", "keys"), [("moco", 4096), ("simclr", 512)])
def test_an_anchor_meets_the_queue_or_both_views_of_the_batch(mode: Literal["moco", "simclr"], keys: int) -> None:
    assert TrainingSettings(mode=mode, batch=256, queue_size=4096).keys == keys


@pytest.mark.parametrize(
    ("mode", "symmetric", "views"), [("moco", True, 2), ("moco", False, 1), ("simclr", True, 2), ("simclr", False, 2)]
)
def test_both_views_are_anchors_in_symmetric_moco_and_always_in_simclr(
    mode: Literal["moco", "simclr"], symmetric: bool, views: int
) -> None:
    assert TrainingSettings(mode=mode, symmetric=symmetric).anchors_per_image == views


def test_equal_experiments_are_one_key() -> None:
    assert len({preset("digits-moco"), preset("digits-moco"), preset("digits-oracle")}) == 2


class TestOwnRules:
    @pytest.mark.parametrize("rule", [Steps(), Steps(edges=()), Steps((1.0,), 0.5)])
    def test_tuples_of_any_length_and_unions_come_back(self, rule: Steps) -> None:
        experiment = Experiment(negatives=rule)
        assert Experiment.from_json(experiment.to_json()) == experiment

    @pytest.mark.parametrize("bad", [{"edges": 3}, {"edges": ["x"]}, {"cut": [1]}, {"cut": None}])
    def test_values_of_another_type_name_the_field(self, bad: dict[str, Any]) -> None:
        text = json.dumps({"negatives": {"rule": "Steps", **bad}})
        with pytest.raises(ValueError, match=rf"experiment\.negatives\.{next(iter(bad))} must be"):
            Experiment.from_json(text)

    @pytest.mark.parametrize("rule", [Shelf({"a": 1.0}), Shelf(weight=print)])
    def test_a_rule_that_cannot_come_back_is_refused_when_written(self, rule: Shelf) -> None:
        with pytest.raises(ValueError, match="The fields of a custom rule"):
            Experiment(negatives=rule).to_json()

    def test_a_rule_that_cannot_be_saved_is_refused_before_training(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="cannot be saved"):
            fit(replace(preset("digits-moco"), negatives=Shelf(weight=print)), out=tmp_path / "run")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("settings", [{"epochs": None}, {"learning_rate": None}, {"batch": None}])
def test_only_what_may_be_none_may_be_none(settings: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        TrainingSettings(**settings)
    assert TrainingSettings(chunk=None) == TrainingSettings()
