"""The exercises' checks: `check.forces(answer, …)` prints whether the answer is right, else what went wrong, in words.

What is right is computed here anew by the package, from what the reader's answer was made of.
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
