"""A probe with an encoder left in training mode: the measurement changes the encoder, and depends on the order.

Source: batch norm, arXiv:1502.03167; dropout, in torch's documentation. In evaluation mode both are deterministic.
"""

import copy

import torch
from torch import Tensor, nn

from cltools.datasets import ImageSet, load_images
from cltools.encoders import Encoder
from cltools.evaluation import embed, knn_accuracy
from course.mistakes.effect import Effect
from course.mistakes.short_run import IMAGES, short_run

BATCH = 50


class WithDropout(nn.Module):
    """An encoder's features followed by dropout, as in many backbones."""

    def __init__(self, encoder: Encoder) -> None:
        """Wrap a copy, so that the encoder itself does not change."""
        super().__init__()
        self.encoder, self.dropout = copy.deepcopy(encoder), nn.Dropout(0.2)

    def features(self, x: Tensor) -> Tensor:
        """Return the features [N, D] of images."""
        dropped: Tensor = self.dropout(self.encoder.features(x))
        return dropped


@torch.no_grad()
def probe_in_training_mode(seed: int = 0) -> Effect:
    """Measure an encoder of digits in both modes, on test images that are sorted by class, as in folders.

    Args:
        seed: seed of the encoder and of its dropout.
    """
    train, test = load_images("digits", limit=IMAGES), load_images("digits", "test")
    test = test.select(test.labels.argsort(stable=True))

    def measured(wrong: bool) -> dict[str, float]:
        model = WithDropout(short_run(seed)).train()
        means = {name: value.clone() for name, value in model.named_buffers() if name.endswith("running_mean")}

        def vectors(images: ImageSet) -> Tensor:
            if not wrong:
                return embed(model, images, batch=BATCH)
            return torch.cat([model.features(part) for part in torch.split(images.images, BATCH)])

        bank, first, again = vectors(train.subset(500)), vectors(test), vectors(test)
        labels = train.subset(500).labels
        moved = [(dict(model.named_buffers())[name] - old).norm() / old.norm() for name, old in means.items()]
        return {
            "kNN-10, %": knn_accuracy(bank, labels, first, test.labels, protocol="knn10"),
            "change of the features when measured again, %": 100 * float((first - again).norm() / first.norm()),
            "running means moved by, %": 100 * float(torch.stack(moved).mean()),
        }

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # dropout draws from it
        return Effect(
            wrong=measured(wrong=True),
            right=measured(wrong=False),
            sentence="Each batch was normalised by its own class, dropout was on, and the measurement itself changed "
            "the encoder.",
            guard="cltools.evaluation.embed",
            test="test_evaluation.py::"
            "test_running_statistics_of_batch_norm_in_training_are_bit_identical_after_a_report",
        )
