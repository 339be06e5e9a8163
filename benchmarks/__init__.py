"""What measures speed: a training step, the rules, another pipeline, and the plain variants of what is clever."""
