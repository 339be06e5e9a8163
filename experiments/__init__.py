"""Experiments on when choosing samples pays; what is asked and what would count stands in `docs/experiments.md`.

`python -m experiments NAME OUT` runs one, and continues it where it was interrupted.
"""
