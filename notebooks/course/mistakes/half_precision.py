"""The exponential in half precision: e^(s/τ) overflows and underflows float16.

The largest float16 number is 65,504, so e^(s/τ) is infinite from s/τ = 11.1 on; below 6·10⁻⁸ it is zero.

Legend: B anchors, K keys.
"""

import torch

from cltools.losses import info_nce
from cltools.snapshot import load_snapshot
from course.mistakes.effect import Effect


def exponentials_in_half_precision(seed: int = 0, *, temperature: float = 0.07, anchors: int = 300) -> Effect:
    """Compute the loss of anchors of `digits-moco` from the same float16 cosines, naively and with the package.

    Args:
        seed: chooses the images that are anchors.
        temperature: by default that of the first MoCo; at 0.2 no exponential overflows float16, though sums may.
        anchors: the number of anchors.
    """
    snapshot = load_snapshot("digits-moco")
    rows = torch.randperm(len(snapshot), generator=torch.Generator().manual_seed(seed))[:anchors]
    s = snapshot.similarities(rows)
    given, kept = s.anchor_positive[:, None].half(), ~s.own
    cosine = s.anchor_keys.half()

    pull, push = (given[:, 0] / temperature).exp(), (cosine / temperature).exp()
    naive = -(pull / (pull + push.masked_fill(s.own, 0).sum(1))).log()
    ours = info_nce(given, cosine, temperature=temperature, negative_weight=kept.float(), reduction="none")
    logits = torch.cat([given, cosine.masked_fill(s.own, -torch.inf)], dim=1).double() / temperature
    truth = torch.logsumexp(logits, 1) - logits[:, 0]
    in_float32 = (cosine.float() / temperature).exp()

    def measured(loss: torch.Tensor, exponentials: torch.Tensor) -> dict[str, float]:
        lost = (exponentials[kept] == 0) | exponentials[kept].isinf()
        close = (loss.double() - truth).abs() < 0.01
        return {
            "anchors whose loss is infinite or not a number, %": 100 * float((~loss.isfinite()).float().mean()),
            "anchors whose loss is within 0.01 of double precision, %": 100 * float(close.float().mean()),
            "negatives whose exponential is 0 or infinite, %": 100 * float(lost.float().mean()),
        }

    return Effect(
        wrong=measured(naive, push),
        right=measured(ours, in_float32),
        sentence="One infinite term makes an anchor's loss infinite or not a number, and with it every weight after "
        "the next step. The package converts cosines to float32 first, and sums with logsumexp.",
        guard="cltools.losses.info_nce",
        test="test_losses.py::test_extreme_inputs_give_finite_losses_and_gradients",
    )
