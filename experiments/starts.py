"""The experiment that every arm varies: `moco` with the tiny encoder on a CPU, and how a rule is put into it."""

from dataclasses import replace

from cltools.config import EvaluationSettings, Experiment
from cltools.mining import NegativeRule, PositiveRule
from cltools.presets import laptop, preset


def moco(images: str, epochs: int) -> Experiment:
    """Return the baseline with the tiny encoder, on a CPU."""
    experiment = laptop(preset(f"{images}-moco"))
    training = replace(experiment.training, epochs=epochs, device="cpu", checkpoint_every=1000)
    return replace(experiment, training=training, evaluation=EvaluationSettings(every=1000))


def now(rule: PositiveRule) -> PositiveRule:
    """Return the rule without its own warm-up, because there was a warm start."""
    return replace(rule, start=0.0, ramp=0.0)


def with_rules(
    of: Experiment, positives: PositiveRule | None = None, negatives: NegativeRule | None = None
) -> Experiment:
    """Return the experiment with other rules."""
    return replace(of, positives=positives or of.positives, negatives=negatives or of.negatives)
