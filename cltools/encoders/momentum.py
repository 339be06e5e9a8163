"""The slowly moving copy of an encoder that makes keys.

Source: MoCo, arXiv:1911.05722, section 3.2 (momentum) and 3.3 (shuffled keys).
"""

import copy
from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from cltools.encoders.encoder import Encoder
from cltools.errors import CltoolsError
from cltools.ranks import ALONE, Ranks

Images = UInt8[Tensor, "b 3 H W"] | Float[Tensor, "b 3 H W"]
"""The images that this rank holds, b of the batch's B: uint8, or float in [0, 1]."""


class MomentumCopy(nn.Module):
    """An encoder's exponential moving average, without gradient and without predictor.

    Attributes:
        encoder: The copy.
    """

    def __init__(self, encoder: Encoder) -> None:
        """Start as an equal copy of `encoder`, which is left alone."""
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.encoder.predictor = None
        self.encoder.requires_grad_(False).zero_grad(set_to_none=True)
        self.project: Callable[[Tensor, int], Tensor] = self.encoder.project  # compiled, where training asks for it
        self.train()

    @torch.no_grad()
    def update(self, encoder: Encoder, momentum: float) -> None:
        """Move every parameter: own ← momentum · own + (1 − momentum) · encoder's; buffers are copied.

        Args:
            encoder: The one this is a copy of.
            momentum: Share of itself it keeps: 0 copies, 1 changes no parameter.
        """
        # One call for all tensors instead of a hundred launches.
        torch._foreach_lerp_([*self.encoder.parameters()], _copied(encoder.named_parameters()), 1.0 - momentum)
        torch._foreach_copy_([*self.encoder.buffers()], _copied(encoder.named_buffers()))

    @torch.no_grad()
    def keys(
        self, images: Images, views: int = 1, *, generator: torch.Generator | None = None, ranks: Ranks = ALONE
    ) -> Float[Tensor, "B d"]:
        """Projections, not normalised, in the order of the images.

        In training mode each view is shuffled before the forward and restored after it, so that an image's key shares
        its batch statistics with other images than its query does, and these cannot give the pair away.

        Args:
            images: uint8, or float in [0, 1].
            views: How many equal views are stacked in the batch.
            generator: Of the order, on the images' device; in the same state on every rank.
            ranks: Who holds the rest of the batch. Each rank gives the images of its share and gets the keys of all
                images, of which it has made its share in the order that one process alone would have taken.
        """
        images = ranks.gathered(images, views)
        order = torch.arange(len(images), device=images.device)
        if self.encoder.training:
            order = _shuffled(len(images), views, images.device, generator)  # [B]
        made = self.project(images[ranks.own(order, views)], views)
        return ranks.gathered(made, views)[order.argsort()]


def _copied(named: Iterable[tuple[str, Tensor]]) -> list[Tensor]:
    """An encoder's tensors without those of its predictor, which the copy has not."""
    return [tensor for name, tensor in named if not name.startswith("predictor.")]


def _shuffled(batch: int, views: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """An order of the batch that mixes images within each view; by sorting, because no device waits for that."""
    if batch % views:
        raise CltoolsError(f"A batch of {batch} images is not {views} equal views.")
    each = batch // views
    within = torch.rand(views, each, device=device, generator=generator, dtype=torch.float32).argsort(dim=1)
    return (within + each * torch.arange(views, device=device)[:, None]).flatten()
