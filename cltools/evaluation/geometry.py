"""The shape of an embedding.

Legend: N images, D features.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from cltools.errors import CltoolsError, check_number
from cltools.evaluation.checks import as_features
from cltools.mining.handed_in import Numbers, to_length_1

CELLS = 2**24  # similarities held at once: 64 MiB of float32


@torch.no_grad()
def alignment(z: Float[Tensor, "N D"] | Numbers, z_positive: Float[Tensor, "N D"] | Numbers) -> float:
    """Mean squared distance of two views of an image, on the unit sphere: 0 identical, 2 orthogonal, 4 opposite.

    Wang & Isola, arXiv:2005.10242, with their α = 2. Vectors are L2-normalised here.

    Raises:
        ValueError: no rows, views of different shapes, or vectors that are not finite.
    """
    z, z_positive = as_features("z", z, "first views"), as_features("z_positive", z_positive, "second views")
    if z.shape != z_positive.shape:
        raise CltoolsError(f"The views are {[*z.shape]} and {[*z_positive.shape]}; give two views of the same images.")
    with torch.autocast(z.device.type, enabled=False):
        gap = to_length_1(z) - to_length_1(z_positive.to(z.device))
        return float(gap.square().sum(1).mean())


@torch.no_grad()
def uniformity(z: Float[Tensor, "N D"] | Numbers, t: float = 2.0) -> float:
    """Log of the mean, over all pairs of different rows, of e^{-t·distance²} on the unit sphere; lower is more even.

    0 when all rows coincide, -4t for two opposite rows. Wang & Isola, arXiv:2005.10242. Vectors are L2-normalised
    here; computed in blocks of rows and in log space, so neither memory nor a large t is a limit.

    Raises:
        ValueError: fewer than two rows, vectors that are not finite, or t not above 0.
    """
    z = as_features("z", z, "embedding")
    if len(z) < 2:
        raise CltoolsError("Uniformity is a mean over pairs; give at least two rows.")
    t = check_number("t", t, "above 0, a number from 1e-6 to 1e6")
    with torch.autocast(z.device.type, enabled=False):
        z = to_length_1(z)
        step = max(1, CELLS // len(z))
        blocks = []
        for start in range(0, len(z) - 1, step):
            cosine = z[start : start + step] @ z[start + 1 :].T
            # Row r is image start+r, column c image start+1+c: the pairs i < j lie on and above the diagonal.
            pairs = torch.ones_like(cosine, dtype=torch.bool).triu()
            # ‖a-b‖² = 2-2cos; rounding may put a cosine above 1.
            force = (2 * t * (cosine.clamp(-1, 1) - 1)).masked_fill(~pairs, -torch.inf)
            blocks.append(force.flatten().logsumexp(0))
        return float(torch.stack(blocks).logsumexp(0)) - math.log(len(z) * (len(z) - 1) / 2)


@torch.no_grad()
def effective_rank(z: Float[Tensor, "N D"] | Numbers) -> float:
    """How many directions an embedding uses alike: e^H of its singular values' shares, from 1 (collapsed) to min(N, D).

    RankMe, arXiv:2210.02885, eq. 1 and 2. Vectors are L2-normalised here, and not centred.

    Raises:
        ValueError: no rows, or vectors that are not finite.
    """
    z = as_features("z", z, "embedding")
    with torch.autocast(z.device.type, enabled=False):
        values = torch.linalg.svdvals(to_length_1(z))
    share = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
    return math.exp(-float(torch.special.xlogy(share, share).sum()))
