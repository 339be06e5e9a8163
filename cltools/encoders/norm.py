"""Batch norm whose training statistics are taken over groups of consecutive images.

One forward of several stacked batches then equals separate forwards of each, and no image is normalised with the
statistics of another group. A stack of two views has (at least) two groups; MoCo's recipe takes 8 groups of 32.

Source: batch norm, arXiv:1502.03167; groups after the split batch norm of MoCo's CIFAR demo (arXiv:1911.05722).
Differs: groups are consecutive images, not every G-th, so that several ranks holding whole groups equal one process.

Legend: B images stacked, G groups, b = B/G images of a group, C channels, S positions (H W, or none).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class Stacking:
    """How the training batches of an encoder are stacked; one object, shared by all layers that depend on it.

    Attributes:
        group: Consecutive images that share batch statistics; None for a whole view.
        views: Equal views in the batch under way. The `Encoder` writes it at the start of each forward pass, after it
            has checked that views and groups divide the batch.
    """

    group: int | None = None
    views: int = 1

    def groups(self, batch: int) -> int:
        """Into how many groups a batch of that many images falls."""
        return self.views if self.group is None else batch // self.group


class GroupedBatchNorm(nn.BatchNorm2d):
    """Batch norm of [B, C] or [B, C, H, W], with the parameters and buffers of torch's own.

    In evaluation mode it is ordinary batch norm. Running statistics move once a forward, by the mean over groups.

    Attributes:
        stacking: How training batches are stacked. An `Encoder` gives its own to each of its layers when it is made; a
            layer that belongs to no encoder takes the statistics of the whole batch.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, channels: int) -> None:
        """Batch norm of that many channels C, with torch's defaults."""
        super().__init__(channels)
        self.stacking = Stacking()

    def forward(self, input: Float[Tensor, "B C *S"]) -> Float[Tensor, "B C *S"]:
        """Normalise; statistics are at least float32, whatever the input's type."""
        mean, var = self.running_mean, self.running_var
        if not self.training:
            return F.batch_norm(input, mean, var, self.weight, self.bias, eps=self.eps)
        self.num_batches_tracked.add_(1)
        groups = self.stacking.groups(len(input))
        if groups == 1:
            return F.batch_norm(input, mean, var, self.weight, self.bias, True, self.momentum, self.eps)
        # Each group moves its own copy of the running statistics; their mean has moved by the mean over groups.
        means, variances = mean.repeat(groups, 1), var.repeat(groups, 1)
        # A kernel a group costs a CPU nothing and a GPU, launching hundreds, more than two copies of the input.
        normalise = self.folded if input.is_cuda and groups > 2 else self.one_by_one
        output = normalise(input, means, variances)
        mean.copy_(means.mean(0))
        var.copy_(variances.mean(0))
        return output

    def one_by_one(self, x: Tensor, means: Float[Tensor, "G C"], variances: Float[Tensor, "G C"]) -> Tensor:
        """Normalise each group of x [B, C, *S] by a call of its own; `means` and `variances` are moved in place."""
        groups = zip(x.chunk(len(means)), means, variances, strict=True)
        options = self.weight, self.bias, True, self.momentum, self.eps
        return torch.cat([F.batch_norm(part, mean, variance, *options) for part, mean, variance in groups])

    def folded(self, x: Tensor, means: Float[Tensor, "G C"], variances: Float[Tensor, "G C"]) -> Tensor:
        """The same in one call: group g's channel c becomes channel gC + c of a batch of b images."""
        groups = len(means)
        last = x.movedim(1, -1)  # [B, S, C], without a copy where the memory is channels_last
        grouped = torch.unflatten(last, 0, (groups, -1)).movedim(0, -2).flatten(-2).movedim(-1, 1)  # [b, GC, S]
        weight, bias = self.weight.repeat(groups), self.bias.repeat(groups)
        y = F.batch_norm(grouped, means.view(-1), variances.view(-1), weight, bias, True, self.momentum, self.eps)
        split = torch.unflatten(y.movedim(1, -1), -1, (groups, -1)).movedim(-2, 0)  # [G, b, S, C]
        return split.flatten(0, 1).movedim(-1, 1)
