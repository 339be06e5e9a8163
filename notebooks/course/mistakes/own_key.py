"""The own key left in the queue: an image's key from the previous epoch is used as a negative.

Source: MoCo's queue, arXiv:1911.05722; one as large as the training set has such a key for every second anchor.
"""

import torch

from cltools.gradients import info_nce_gradients
from cltools.mining import AllNegatives, AugmentedView, select, terms
from cltools.snapshot import load_snapshot
from course.mistakes.effect import Effect
from course.mistakes.on_similarities import keep_own_key


def own_key_in_queue(seed: int = 0, *, anchors: int = 300, temperature: float = 0.2) -> Effect:
    """Compute the push on anchors of `digits-moco` from a queue of all images' keys, with and without the own key.

    Args:
        seed: chooses the images that are anchors.
        anchors: the number of anchors.
        temperature: temperature of the loss.
    """
    snapshot = load_snapshot("digits-moco")
    rows = torch.randperm(len(snapshot), generator=torch.Generator().manual_seed(seed))[:anchors]
    s = snapshot.similarities(rows)
    right = select(s, AugmentedView(), AllNegatives(), temperature=temperature)
    measured = {}
    for name, chosen in {"wrong": keep_own_key(s, right), "right": right}.items():
        pull, push = info_nce_gradients(**terms(s, chosen), temperature=temperature)
        measured[name] = {
            "push of the own key, in pushes of an average key": float(push[s.own].mean() / push[~s.own].mean()),
            "% of the pull that the own key undoes": 100 * float((push[s.own] / -pull[:, 0]).mean()),
        }
    return Effect(
        **measured,
        sentence="The loss pulls the anchor towards its own key, so this key is the hardest negative, and a false one.",
        guard="cltools.contrast.contrastive_loss",
        test="test_training.py::test_an_image_never_meets_itself_in_a_later_epoch",
    )
