"""Work that was made faster, each beside a yardstick: what most code does, and no version of cltools changes.

`gains` runs this file as a process of its own, with the cltools of this checkout or of an older one; so it calls only
what both have. For each line of standard input it does the work and the yardstick once, in turn, and answers with the
processor's time for both, in milliseconds.
"""

import json
import sys
from collections.abc import Callable
from time import process_time
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Work = Callable[[], object]
Pair = tuple[Work, Work]
DIM = 128


def drawn(seed: int) -> torch.Generator:
    """Return a generator with this seed."""
    return torch.Generator().manual_seed(seed)


def unit(rows: int, dim: int, seed: int) -> Tensor:
    """Return random unit vectors [rows, dim]."""
    return F.normalize(torch.randn(rows, dim, generator=drawn(seed)), dim=1)


def vectors(anchors: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return anchors, which require a gradient, positives near them, and keys."""
    z = unit(anchors, DIM, 0).requires_grad_()
    return z, F.normalize(z.detach() + 0.5 * unit(anchors, DIM, 1), dim=1), unit(keys, DIM, 2)


def loss_of(method: str, z: Tensor, z_positive: Tensor, keys: Tensor) -> Work:
    """Return products, selection, loss and gradient of a method at full strength."""
    from cltools.contrast import contrastive_loss
    from cltools.presets import preset

    experiment = preset(f"cifar10-{method}")
    given = experiment.positives.at(1.0), experiment.negatives.at(1.0), experiment.loss
    ids = torch.arange(len(z)), torch.arange(len(keys))
    return lambda: torch.autograd.grad(contrastive_loss(z, z_positive, keys, *given, ids=ids, check=False).mean(), z)


def potential() -> Pair:
    """The loss of `potential`, beside plain InfoNCE over all keys, our own."""
    from cltools.losses import info_nce

    z, z_positive, keys = vectors(512, 16384)

    def plain() -> object:
        positive = (z * z_positive).sum(1, keepdim=True)
        return torch.autograd.grad(info_nce(positive, z @ keys.T, temperature=0.2), z)

    return loss_of("potential", z, z_positive, keys), plain


def counting() -> Pair:
    """The count of bands for the history, beside a comparison for each band."""
    from cltools.mining import Band
    from cltools.training.record import tally_of

    band = torch.randint(0, len(Band), (512, 16384), generator=drawn(0)).to(torch.int8)
    same = band % 3 == 0
    return lambda: tally_of(band, same), lambda: [
        ((band == code).sum(), ((band == code) & same).sum()) for code in Band
    ]


def moco() -> Pair:
    """The loss of `moco`, beside lightly's with a memory bank."""
    from lightly.loss import NTXentLoss

    (z, z_positive, keys), theirs = vectors(512, 2048), NTXentLoss(0.2, memory_bank_size=(2048, DIM))
    return loss_of("moco", z, z_positive, keys), lambda: torch.autograd.grad(theirs(z, z_positive), z)


def simclr() -> Pair:
    """A step of `simclr`, beside the same step with lightly's loss and without selection and count."""
    from lightly.loss import NTXentLoss

    from cltools.mining import Selection, Similarities
    from cltools.training import step

    theirs, one = NTXentLoss(0.2), torch.ones(1, 1)
    seen = Similarities(one, None, one[0], one > 0), Selection(one.long(), one.expand(1, 2), one, one.to(torch.int8))

    def lightly(z: Tensor, *_: object, observe: Callable[..., object], **__: object) -> Tensor:
        observe(*seen)  # a step expects that something was observed
        return theirs(*z.chunk(2)).expand(len(z))  # type: ignore[no-any-return]

    ours = training_step("simclr")

    def other() -> None:
        with mock.patch.object(step, "contrastive_loss", lightly):
            ours()

    return ours, other


def training_step(method: str) -> Work:
    """Return a whole step of the tiny encoder in a method's laptop setting."""
    from benchmarks.steps import Workplace
    from cltools.presets import laptop, preset

    return Workplace(laptop(preset(f"cifar10-{method}")), torch.device("cpu")).plain_step


def trustworthiness() -> Pair:
    """The quality of a map of 4,000 rows, beside scikit-learn's trustworthiness of it."""
    from sklearn.manifold import trustworthiness

    from cltools.snapshot.maps import judged, pca

    points = unit(4000, 64, 0).numpy()
    places = pca(points)
    ours = lambda: judged(points[None], places[None, None])  # noqa: E731
    return ours, lambda: trustworthiness(points, places, n_neighbors=15, metric="cosine")


def pixels() -> Pair:
    """Mean and deviation of the pixels of 20,000 images, beside torch's of their floats."""
    from cltools.encoders import pixel_statistics

    images = torch.randint(0, 256, (20_000, 3, 32, 32), dtype=torch.uint8, generator=drawn(0))
    return lambda: pixel_statistics(images), lambda: torch.std_mean(images.float(), (0, 2, 3))


def crop() -> Pair:
    """The crops of 256 images, beside torch's grid and sample."""
    from cltools.views import resample

    images = torch.rand(256, 3, 32, 32, generator=drawn(0))
    matrices = torch.rand(256, 2, 3, generator=drawn(1)) * torch.tensor([[1.0, 0, 0.1], [0, 1.0, 0.1]])

    def theirs() -> object:
        grid = F.affine_grid(matrices, [*images.shape], align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)

    return lambda: resample(images, matrices), theirs


def neighbours() -> Pair:
    """The vote of 200 neighbours of 2,000 queries among 50,000 images, beside products and topk alone."""
    from cltools.evaluation.features import knn_predict

    bank, queries, labels = unit(50_000, 256, 0), unit(2000, 256, 1), torch.arange(50_000) % 10
    topk = lambda: [(part @ bank.T).topk(200, dim=1) for part in torch.split(queries, 335)]  # noqa: E731
    return lambda: knn_predict(bank, labels, queries), topk


def tiny() -> Pair:
    """A step of `moco` with the tiny encoder, beside both passes of its convolutions in plain torch."""
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 128), (128, 256)):
        layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    plain = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    images = torch.rand(512, 3, 32, 32, generator=drawn(0)).contiguous(memory_format=torch.channels_last)
    return training_step("moco"), lambda: plain(images).sum().backward()


ROWS: dict[str, Callable[[], Pair]] = {
    each.__name__: each for each in (potential, counting, moco, simclr, trustworthiness, pixels, crop, neighbours, tiny)
}


def main() -> None:
    """Answer each line, the name of a row, with the two times of one round."""
    torch.set_num_threads(1)
    made: dict[str, Pair] = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in made:
            made = {name: ROWS[name]()}
            for work in made[name] * 2:
                work()
        taken = []
        for work in made[name]:
            began = process_time()
            work()
            taken.append(1000 * (process_time() - began))
        print(json.dumps(taken), flush=True)


if __name__ == "__main__":
    main()
