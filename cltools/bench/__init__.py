"""Time and memory on this machine: `bench` measures a training step, `bench rules` each rule and the loss.

Every part is timed in the same run as a baseline, so that ratios hold on a noisy machine.
"""

from cltools.bench.against import against_table, bench_against
from cltools.bench.rules import RuleBenchFlags, bench_rules, rules_table
from cltools.bench.steps import StepBenchFlags, bench_steps, steps_table

__all__ = [
    "RuleBenchFlags",
    "StepBenchFlags",
    "against_table",
    "bench_against",
    "bench_rules",
    "bench_steps",
    "rules_table",
    "steps_table",
]
