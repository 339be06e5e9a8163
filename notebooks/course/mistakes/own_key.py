"""The own key left in the queue: a picture's key from the epoch before is taken for a negative.

Source: MoCo's queue, arXiv:1911.05722; one as large as the training set holds such a key for every second anchor.
"""

import torch

from cltools.gradients import info_nce_gradients
from cltools.mining import AllNegatives, AugmentedView, select, terms
from cltools.snapshot import load_snapshot
from course.mistakes.effect import Effect
from course.mistakes.on_similarities import keep_own_key


def own_key_in_queue(seed: int = 0, *, anchors: int = 300, temperature: float = 0.2) -> Effect:
    """Push anchors of `digits-moco` from a queue that holds every picture's key, with the own key and without.

    Args:
        seed: which pictures are anchors.
        anchors: how many.
        temperature: the loss's.
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
        sentence="The own key lies where the loss pulls to, so it is the hardest negative there is, and a false one.",
        guard="cltools.contrast.contrastive_loss",
        test="test_training.py::test_an_image_never_meets_itself_in_a_later_epoch",
    )
