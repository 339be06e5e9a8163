"""A reader's own rules: what they must say, what they may read, and that they train, save, load and are shown."""

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from snapshots import made
from torch import Tensor

from cltools.config import Experiment, TrainingSettings
from cltools.datasets import load_images
from cltools.encoders import EncoderSettings
from cltools.explorer.session import Session
from cltools.mining import (
    AllNegatives,
    AugmentedView,
    Band,
    Context,
    CosineBand,
    Mined,
    NegativeRule,
    PositiveRule,
    RankBand,
    Similarities,
    select,
)
from cltools.mining.rules import reads_now, rule_class
from cltools.presets import preset
from cltools.snapshot import maps, take_snapshot
from cltools.testing import check_rule
from cltools.training import fit

PLAIN = AugmentedView()


def line(values: list[float], own: tuple[int, ...] = (), **more: Any) -> Similarities:
    """One anchor whose keys have these cosines, with the anchor and the positive alike."""
    cosines, mask = torch.tensor([values]), torch.zeros(1, len(values), dtype=torch.bool)
    mask[0, list(own)] = True
    return Similarities(
        **{"anchor_keys": cosines, "positive_keys": cosines, "anchor_positive": torch.tensor([0.5]), "own": mask} | more
    )


# --- answers


@dataclass(frozen=True)
class Says(NegativeRule):
    """Answers with given codes and weights."""

    codes: tuple[int, ...] = ()
    weights: tuple[float, ...] | None = None

    def judge(self, s: Similarities, context: Context) -> Tensor:
        return torch.tensor([self.codes])

    def weigh(self, s: Similarities, kept: Tensor, context: Context) -> Tensor | None:
        return None if self.weights is None else torch.tensor([self.weights], dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int64])
def test_what_is_no_code_of_a_rule_is_other(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    strange = [-128, -2, -1, 0, 4, 6, 7, 100, 127] + ([] if dtype == torch.int8 else [256, 257, 258, -254, 1000])
    given = (1, 2, 3, 5, *strange)
    monkeypatch.setattr(Says, "judge", lambda self, s, context: torch.tensor([self.codes], dtype=dtype))
    chosen = select(line([0.1] * len(given)), PLAIN, Says(given))
    assert chosen.band[0].tolist() == [1, 2, 3, 5] + [Band.OTHER] * len(strange)
    assert chosen.negative_weight[0].tolist() == [0, 1, 0, 0] + [0] * len(strange)


def test_own_and_mined_are_not_a_rules_to_give() -> None:
    band = select(line([0.9, 0.8, 0.7, 0.6], own=(3,)), PLAIN, Says((0, 4, 3, 2))).band
    assert band.tolist() == [[Band.OTHER, Band.OTHER, Band.HARD, Band.OWN]]


def test_a_kept_key_without_a_weight_above_0_is_not_kept_and_no_other_weight_counts() -> None:
    given = (2, 2, 2, 2, 2, 1, 3, 5)
    weights = (0.5, 0.0, -1.0, math.nan, 1e-60, math.inf, math.nan, 7.0)
    chosen = select(line([0.1] * 8), PLAIN, Says(given, weights))
    assert chosen.negative_weight[0].tolist() == [0.5, 0, 0, 0, 0, 0, 0, 0]
    assert chosen.band[0].tolist() == [2, 5, 5, 5, 5, 1, 3, 5]


@pytest.mark.parametrize("answer", [torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 3), torch.ones(3).long()])
def test_an_answer_that_is_no_code_for_each_key_is_refused(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Says, "judge", lambda *_: answer)
    with pytest.raises(ValueError, match=r"Says.judge returned .*int8 codes"):
        select(line([0.9, 0.8, 0.7]), PLAIN, Says())


@pytest.mark.parametrize(
    "answer",
    [
        Mined(torch.zeros(1, 2, dtype=torch.int32), torch.tensor([[1.0, 0, 0]])),
        Mined(torch.zeros(1, 2, dtype=torch.int64), torch.tensor([[1.0, 0]])),
        Mined(torch.zeros(1, 2, dtype=torch.int64), torch.tensor([1.0, 0, 0])),
    ],
)
def test_what_is_mined_without_a_weight_for_each_is_refused(answer: Mined, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Closest, "mine", lambda *_: answer)
    with pytest.raises(ValueError, match=r"Closest.mine returned .*int64 \[B, P\]"):
        select(line([0.9, 0.8, 0.7]), Closest(), AllNegatives())


def test_a_base_class_judges_and_mines_nothing() -> None:
    with pytest.raises(ValueError, match="NegativeRule has no judge"):
        select(line([0.9]), PLAIN, NegativeRule())
    with pytest.raises(ValueError, match="PositiveRule has no mine"):
        select(line([0.9]), PositiveRule(), AllNegatives())


# --- what a class may define


@pytest.mark.parametrize(
    ("base", "methods", "named"),
    [
        (NegativeRule, {"mine": lambda self, s, context: None}, "mine is never called"),
        (PositiveRule, {"judge": lambda self, s, context: None}, "judge is never called"),
        (PositiveRule, {"weigh": lambda self, s, kept, context: None}, "weigh is never called"),
        (AllNegatives, {"weight": lambda self, s, kept, context: None}, "weight is not a hook; did you mean weigh"),
        (AugmentedView, {"mines": lambda self, s, context: None}, "mines is not a hook; did you mean mine"),
        (NegativeRule, {"judge": lambda self, s: None}, r"judge is called as judge\(s, context\)"),
        (NegativeRule, {"judge": lambda self, s, eligible, *, temperature: None}, r"judge\(s, context\)"),
        (NegativeRule, {"weigh": lambda self, s, context: None}, r"weigh\(s, kept, context\)"),
        (NegativeRule, {"at": lambda self: self}, r"at\(progress\)"),
        (PositiveRule, {"mine": lambda self, s: None}, r"mine\(s, context\)"),
    ],
)
def test_a_method_that_would_never_be_called_or_called_otherwise_is_refused(
    base: type, methods: dict[str, Any], named: str
) -> None:
    with pytest.raises(TypeError, match=f"Wrong.*{named}"):
        type("Wrong", (base,), methods)


def test_other_names_and_helpers_are_a_readers_own() -> None:
    class Fine(AllNegatives):
        def judge(self, s: Any, asked: Any, extra: int = 3) -> Any:
            return super().judge(s, asked)

        def _mine(self) -> None: ...

        @staticmethod
        def helper() -> None: ...

        def weights(self) -> None: ...

        def judged(self) -> None: ...

    class FinePositives(PositiveRule):
        def mine(self, s: Any, context: Any) -> Any: ...

        def mined(self) -> None: ...

        def weights(self) -> None: ...

    assert (select(line([0.2]), PLAIN, Fine()).band == Band.POTENTIAL).all()


def test_a_rule_made_of_the_augmented_view_has_a_warm_up_and_fields_of_its_own() -> None:
    @dataclass(frozen=True)
    class Mines(AugmentedView):
        k: int = 1

        def mine(self, s: Any, context: Any) -> Any:
            return super().mine(s, context)

    assert Mines(k=3, start=0.2).k == 3
    with pytest.raises(ValueError, match="start is 2"):
        Mines(start=2)


# --- reads


FIELDS = ("positive_keys", "same_class", "vectors", "ids")
FULL = {
    "same_class": torch.zeros(1, 2, dtype=torch.bool),
    "vectors": (torch.eye(2)[:1], torch.eye(2)),
    "ids": (torch.zeros(1).long(), torch.zeros(2).long()),
}
HOOKS = ("judge", "weigh", "synthesise", "mine")


def reader(hook: str, field: str, declared: frozenset[str]) -> Any:
    """A rule that reads one field in one of its hooks."""

    def read(self: Any, s: Similarities, *rest: Any) -> Any:
        assert getattr(s, field) is not None
        base: Any = AugmentedView if hook == "mine" else AllNegatives
        return getattr(base, hook)(self, s, *rest)

    return type("Reader", (AugmentedView if hook == "mine" else AllNegatives,), {hook: read, "reads": declared})()


def chosen_by(rule: Any, s: Similarities) -> Any:
    return select(s, rule, AllNegatives()) if isinstance(rule, PositiveRule) else select(s, PLAIN, rule)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("hook", HOOKS)
def test_reading_what_is_not_declared_is_an_error_that_names_it(hook: str, field: str) -> None:
    s = line([0.5, 0.1], **FULL)
    others = frozenset(FIELDS) - {field}
    for declared in (frozenset[str](), others):
        with pytest.raises(ValueError, match=f"Reader reads {field} without declaring it.*reads = frozenset"):
            chosen_by(reader(hook, field, declared), s)
    chosen_by(reader(hook, field, frozenset({field})), s)
    chosen_by(reader(hook, field, frozenset(FIELDS)), s)


@pytest.mark.parametrize(
    ("field", "remedy"), [("positive_keys", "reads="), ("same_class", "labels"), ("vectors", "reads="), ("ids", "ids=")]
)
def test_what_a_rule_reads_and_is_not_there_is_an_error_that_says_how_to_give_it(field: str, remedy: str) -> None:
    s = line([0.5, 0.1], **FULL | {field: None})
    for hook in ("judge", "mine"):
        with pytest.raises(ValueError, match=f"Reader reads {field}.*{remedy}"):
            chosen_by(reader(hook, field, frozenset({field})), s)


def test_only_known_fields_can_be_declared() -> None:
    with pytest.raises(ValueError, match=r"Reader\.reads names 'labels'.*same_class"):
        chosen_by(reader("judge", "ids", frozenset({"labels"})), line([0.5]))


def test_a_positive_rule_without_strength_is_not_asked_and_reads_nothing() -> None:
    rule = replace(Closest(), strength=0.0)
    assert reads_now(rule, AllNegatives()) == frozenset()
    assert reads_now(Closest(), RankBand(by="anchor")) == {"positive_keys"}
    select(line([0.5, 0.1], positive_keys=None), rule, AllNegatives())


# --- context


def test_rules_are_asked_with_the_context_of_the_selection() -> None:
    seen: dict[str, Context] = {}

    def note(name: str, base: Any) -> Any:
        def hook(self: Any, s: Any, *rest: Any) -> Any:
            context = rest[-1]
            seen[name] = replace(context, eligible=context.eligible.clone())
            return getattr(base, name)(self, s, *rest)

        return hook

    hooks = {name: note(name, AllNegatives) for name in ("judge", "weigh", "synthesise")}
    negative = type("Asked", (AllNegatives,), hooks)()
    positive = dataclass(frozen=True)(type("AskedToo", (Closest,), {"mine": note("mine", Closest)}))()
    generator, state = torch.Generator(), {"seen": torch.zeros(3)}
    s = line([0.9, 0.5, 0.1, 0.2], own=(2,))
    select(s, positive, negative, temperature=0.4, generator=generator, state=state)
    assert seen.keys() == {*HOOKS}
    for context in seen.values():
        assert context.temperature == 0.4 and context.generator is generator and context.state is state
    assert seen["mine"].eligible.tolist() == [[True, True, False, True]], "not own"
    for name in hooks:
        assert seen[name].eligible.tolist() == [[False, True, False, True]], "nor mined"


# --- a positive rule of a reader's own


@dataclass(frozen=True)
class Closest(PositiveRule):
    """Mines the one closest key that is not the anchor's own, at a given weight."""

    weight: float = 0.25

    reads = frozenset({"positive_keys"})

    def mine(self, s: Similarities, context: Context) -> Mined:
        assert s.positive_keys is not None
        score = torch.where(context.eligible, s.positive_keys, -2.0)
        best, index = score.max(1, keepdim=True)
        weight = self.weight * (best > -2)
        return Mined(index, torch.cat([1 - weight, weight], dim=1))


@dataclass(frozen=True)
class Below(NegativeRule):
    """Keeps keys below a cosine with the anchor."""

    edge: float = 0.5

    def judge(self, s: Similarities, context: Context) -> Tensor:
        return torch.where(s.anchor_keys < self.edge, Band.POTENTIAL, Band.HARD).to(torch.int8)


def asked(positives: PositiveRule, negatives: NegativeRule) -> Experiment:
    return replace(
        preset("digits-moco"),
        positives=positives,
        negatives=negatives,
        encoder=EncoderSettings(backbone="tiny", hidden=16, projection=8, bn_group=None),
        training=TrainingSettings(epochs=2, batch=16, queue_size=16, warmup_epochs=0, device="cpu"),
    )


def test_own_rules_pass_what_every_rule_must_hold() -> None:
    check_rule(Closest())
    check_rule(Below())


def test_own_rules_come_back_from_json_by_their_names() -> None:
    experiment = asked(Closest(weight=0.4, start=0.2, ramp=0.0), Below(0.3))
    assert Experiment.from_json(experiment.to_json()) == experiment
    assert rule_class("Closest", PositiveRule) is Closest
    with pytest.raises(ValueError, match="Unknown negative rule 'Closest'"):
        rule_class("Closest", NegativeRule)


def test_the_warm_up_belongs_to_the_base() -> None:
    s, rule = line([0.9, 0.1]), Closest(start=0.5, ramp=0.5)
    weights = [select(s, rule.at(p), AllNegatives()).positive_weight[0].tolist() for p in (0.4, 0.75, 1.0)]
    assert weights == [[1.0], pytest.approx([0.875, 0.125]), pytest.approx([0.75, 0.25])]
    assert rule.at(0.75).weight == 0.25 and isinstance(rule.at(0.75), Closest)


def test_own_rules_train_two_steps() -> None:
    images = load_images("digits").subset(16, seed=0)
    run = fit(asked(Closest(start=0.5, ramp=0.0), Below(0.9)), images=images)
    first, second = run.history.rows
    assert first["mined"] == 0 and second["mined"] > 0, "mined from half of the training on"


def test_own_rules_are_chosen_in_the_explorer() -> None:
    s = Session(made()).set(positive_rule="Closest", weight=0.5, rule="Below", edge=0.1)
    assert s.rules == (Closest(0.5).at(1), Below(0.1))
    with pytest.raises(ValueError, match=r"Unknown control 'positives.ramp'"):
        s.set({"positives.ramp": 0.5})
    assert (s.judgement.band == Band.MINED).sum() == 1


@dataclass(frozen=True)
class Turned(CosineBand):
    """A band of another score."""

    def score(self, s: Similarities, temperature: float) -> torch.Tensor:
        return -s.anchor_keys


@dataclass(frozen=True)
class OtherImages(NegativeRule):
    """Reads ids, and calls something else `by`."""

    by: str = "id"
    reads = frozenset({"ids"})

    def judge(self, s: Similarities, context: Context) -> torch.Tensor:
        assert s.ids is not None
        return torch.where((s.ids[0][:, None] + s.ids[1]) % 2 == 0, Band.POTENTIAL, Band.OTHER).to(torch.int8)


def test_a_band_of_another_score_cuts_that() -> None:
    s = line([0.9, 0.1, -0.5])
    band = select(s, AugmentedView(), Turned(above=0.0, by="anchor")).band[0].tolist()
    assert band == [Band.EASY, Band.EASY, Band.POTENTIAL]


def test_a_rule_that_reads_ids_is_diagnosed_and_explored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "umap", lambda points, *_, **__: maps.pca(points))  # umap takes seconds to import
    run = fit(asked(AugmentedView(), OtherImages()), images=load_images("digits", limit=64))
    told = run.diagnose(images=load_images("digits", limit=64), n=20)
    assert told.anchors == 20
    session = Session(take_snapshot(run, load_images("digits", limit=64), n=30))
    assert {*session.judgement.band.tolist()} == {Band.OWN, Band.POTENTIAL, Band.OTHER}


@dataclass(frozen=True)
class Prints(NegativeRule):
    """As one looks at what a rule is asked with."""

    def judge(self, s: Similarities, context: Context) -> torch.Tensor:
        assert repr(s) == "Similarities [1, 3] as Prints reads them: []"
        return torch.full_like(s.own, Band.POTENTIAL, dtype=torch.int8)


def test_what_a_rule_sees_can_be_printed() -> None:
    assert bool((select(line([0.9, 0.1, -0.5]), AugmentedView(), Prints()).band == Band.POTENTIAL).all())


def test_the_hook_of_a_base_says_what_is_missing() -> None:
    s, context = line([0.1]), Context(torch.ones(1, 1, dtype=torch.bool), 0.2, None)
    with pytest.raises(ValueError, match=r"NegativeRule has no judge\(self, s, context\)"):
        NegativeRule().judge(s, context)
    with pytest.raises(ValueError, match=r"PositiveRule has no mine\(self, s, context\)"):
        PositiveRule().mine(s, context)
