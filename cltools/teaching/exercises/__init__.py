"""The exercises' checks: `check.forces(answer, …)` prints whether the answer is right, else what went wrong, in words.

What is right is computed here anew by the package, from what the reader's answer was made of.
"""

from cltools.teaching.exercises.bands import beats_chance, kept, lower_edge, negatives_left
from cltools.teaching.exercises.choosing import best_cell, detectable
from cltools.teaching.exercises.negatives import forces, spare_false, temperature_for
from cltools.teaching.exercises.own import own_keys, rows_needed
from cltools.teaching.exercises.positives import largest_k, paired, soft_weights
from cltools.teaching.exercises.runs import accuracies, fair, seeds_needed

__all__ = [
    "accuracies",
    "beats_chance",
    "best_cell",
    "detectable",
    "fair",
    "forces",
    "kept",
    "largest_k",
    "lower_edge",
    "negatives_left",
    "own_keys",
    "paired",
    "rows_needed",
    "seeds_needed",
    "soft_weights",
    "spare_false",
    "temperature_for",
]
