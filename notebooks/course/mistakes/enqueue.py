"""Enqueue between the two terms of a symmetric loss: the second term has the keys of its own images as negatives.

Source: the queue of MoCo, arXiv:1911.05722, section 3.2; the mistake occurred in a memory bank that enqueues keys at
each call of the loss.
"""

import torch
from torch.nn.functional import normalize

from cltools.datasets import load_images
from cltools.encoders import MomentumCopy
from cltools.gradients import info_nce_gradients
from cltools.mining import AllNegatives, AugmentedView, select, similarities, terms
from cltools.presets import preset
from cltools.queue import Queue
from cltools.views import augment
from course.mistakes.effect import Effect
from course.mistakes.short_run import IMAGES, short_run

BATCH, TEMPERATURE = 64, 0.2


@torch.no_grad()
def enqueue_between_terms(seed: int = 0) -> Effect:
    """Measure the second term of a symmetric loss on digits, (view 2, key of view 1), before and after enqueuing.

    The momentum copy has just been made, so its outputs equal those of the encoder; in training it lags a little.

    Args:
        seed: seed of the encoder, the batch and its views.
    """
    encoder, draws = short_run(seed), torch.Generator().manual_seed(seed)
    images, views = load_images("digits", limit=IMAGES), preset("digits-moco").views
    order = torch.randperm(IMAGES, generator=draws)
    batch, earlier = images.images[order[:BATCH]], images.images[order[BATCH:]]
    copy = MomentumCopy(encoder).eval()
    view1, view2 = (augment(batch, views, generator=draws) for _ in range(2))
    query, positive, new = (normalize(keys, dim=1) for keys in map(copy.keys, (view2, view1, view2)))
    queue = Queue(IMAGES, new.shape[1])
    blank = torch.full((IMAGES,), -1)
    queue.enqueue(normalize(copy.keys(augment(earlier, views, generator=draws)), dim=1), order[BATCH:], blank[BATCH:])

    def second_term() -> dict[str, float]:
        own = order[:BATCH, None] == queue.ids
        unknown = torch.zeros_like(own)  # a bank without ids does not know which image a key belongs to
        s = similarities(query, positive, queue.keys, unknown)
        chosen = select(s, AugmentedView(), AllNegatives(), temperature=TEMPERATURE)
        _, push = info_nce_gradients(**terms(s, chosen), temperature=TEMPERATURE)
        closest = own.gather(1, s.anchor_keys.argmax(1, keepdim=True))
        return {
            "push of the own key, in pushes of an average key": float(len(queue) * (push * own).sum() / push.sum()),
            "queries to which the own key is the closest, %": 100 * float(closest.float().mean()),
        }

    right = second_term()  # both terms see the old queue; then the keys are enqueued once
    queue.enqueue(new, order[:BATCH], blank[:BATCH])
    return Effect(
        wrong=second_term(),
        right=right,
        sentence="The first term enqueued the keys of the very views that are the queries of the second term. At a "
        "cosine of 1, or just below it, they are the hardest negatives, and each query is pushed away from itself.",
        guard="cltools.training.step.train_step",
        test="test_training.py::test_the_queue_takes_the_second_views_keys_once_after_the_backward_pass",
    )
