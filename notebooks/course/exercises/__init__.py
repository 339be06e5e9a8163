"""Checks of the exercises: `check.forces(answer, …)` prints that the answer is right, or explains the mistake.

The package computes the right answer from the same inputs as the reader's.
"""

from course.exercises.choosing import best_cell, detectable
from course.exercises.cutting import beats_chance, drop_closest, dropped, kept, negatives_left
from course.exercises.own import batch_edge, own_keys
from course.exercises.pairing import paired, soft_weights, staked
from course.exercises.pushing import forces, spare_false, temperature_for
from course.exercises.runs import accuracies, fair, seeds_needed, verdict

__all__ = [
    "accuracies",
    "batch_edge",
    "beats_chance",
    "best_cell",
    "detectable",
    "drop_closest",
    "dropped",
    "fair",
    "forces",
    "kept",
    "negatives_left",
    "own_keys",
    "paired",
    "seeds_needed",
    "soft_weights",
    "spare_false",
    "staked",
    "temperature_for",
    "verdict",
]
