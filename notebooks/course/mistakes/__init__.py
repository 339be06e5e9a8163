"""The classic mistakes, as small functions: to be made on purpose, and seen. None is an option of the package.

Those of `on_similarities` spoil what they are given. Each of the others makes its mistake and does the same thing
rightly, in seconds, and returns an `Effect`: what was measured both ways, and which guard of the package prevents it.
"""

from course.mistakes.batch_statistics import shared_batch_statistics
from course.mistakes.effect import Effect
from course.mistakes.enqueue import enqueue_between_terms
from course.mistakes.half_precision import exponentials_in_half_precision
from course.mistakes.on_similarities import compare_losses, forget_to_normalise, keep_own_key, push_mined_keys
from course.mistakes.own_key import own_key_in_queue
from course.mistakes.training_mode import probe_in_training_mode
from course.mistakes.tuned_thresholds import threshold_by_test_labels

__all__ = [
    "Effect",
    "compare_losses",
    "enqueue_between_terms",
    "exponentials_in_half_precision",
    "forget_to_normalise",
    "keep_own_key",
    "own_key_in_queue",
    "probe_in_training_mode",
    "push_mined_keys",
    "shared_batch_statistics",
    "threshold_by_test_labels",
]
