"""The classic mistakes as small functions, to demonstrate their effects. None is an option of the package.

The functions of `on_similarities` return a spoilt copy of their input. Each of the others runs the wrong and the right
way in seconds, and returns an `Effect`: the measurements of both, and the guard of the package against the mistake.
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
