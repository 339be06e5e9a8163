"""Time and memory on this machine: `bench` measures a training step, `bench rules` each rule and the loss.

Every part is timed in the same run as a baseline, so that ratios hold on a noisy machine.
"""

from cltools.bench.rules import RuleBenchFlags, bench_rules, rules_table
from cltools.bench.steps import StepBenchFlags, bench_steps

__all__ = ["RuleBenchFlags", "StepBenchFlags", "bench_rules", "bench_steps", "rules_table"]
