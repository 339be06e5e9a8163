"""Benchmarks of speed: a training step, the rules, another pipeline, and optimised code beside its plain variants."""
