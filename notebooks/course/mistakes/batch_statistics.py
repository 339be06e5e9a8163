"""Leaking batch statistics: views that were normalised together can be recognised, whatever the images show.

Source: shuffled keys of MoCo, arXiv:1911.05722, section 3.3.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from cltools.datasets import load_images
from cltools.encoders import EncoderSettings, MomentumCopy, build_encoder
from course.mistakes.effect import Effect

GROUP, BATCH, BATCHES = 4, 128, 8


@torch.no_grad()
def shared_batch_statistics(seed: int = 0) -> Effect:
    """Distinguish pairs of unrelated digits from other pairs with an encoder that has learnt nothing.

    The cosine of a pair is compared with those of its query and the keys of other batches. 50 % is right: an unrelated
    pair is neither closer nor farther than any other. Any deviation is a cue that a loss can exploit.

    Args:
        seed: seed of the encoder and of the images.
    """
    images, draws = load_images("digits"), torch.Generator().manual_seed(seed)
    settings = EncoderSettings(backbone="tiny", hidden=64, projection=32, bn_group=GROUP)
    encoder = build_encoder(settings, images, seed=seed)
    keys_of = MomentumCopy(encoder)
    both = torch.arange(2 * BATCH).view(2, -1, GROUP // 2).transpose(0, 1).flatten()  # half a group of each view
    found: dict[str, list[tuple[Tensor, Tensor]]] = {"one": [], "apart": [], "in order": [], "shuffled": []}
    for _ in range(BATCHES):
        # If one batch norm sees both views, a pair is two unrelated images, one in place of each view.
        pair = images.images[torch.randint(len(images), (2 * BATCH,), generator=draws)]
        mixed = encoder(pair[both])[both.argsort()].chunk(2)
        found["one"].append((mixed[0], mixed[1]))
        z, other = encoder(pair, views=2).chunk(2)
        found["apart"].append((z, other))
        # If queries and keys are in the same groups, both parts of a pair have the same neighbours: every fourth key is
        # computed from an unrelated image, in a group with views of the images in its query's group.
        view, keyed = pair[:BATCH], pair[:BATCH].clone()
        keyed[::GROUP] = pair[BATCH::GROUP]
        query, in_order = encoder(view), keys_of.encoder.project(keyed)
        shuffled = keys_of.keys(keyed, generator=draws)
        found["in order"].append((query[::GROUP], in_order[::GROUP]))
        found["shuffled"].append((query[::GROUP], shuffled[::GROUP]))
    closer = {name: _closer(pairs) for name, pairs in found.items()}
    one = "one batch norm over both views: keys farther than an unrelated pair's, %"
    order = "keys not shuffled: keys farther than an unrelated pair's, %"
    return Effect(
        wrong={one: closer["one"], order: closer["in order"]},
        right={one: closer["apart"], order: closer["shuffled"]},
        sentence="The pairs are of unrelated images, so the right value is 50. Shared statistics move pairs away from "
        "it, and a loss can learn to use that instead of the images.",
        guard="cltools.encoders.MomentumCopy.keys",
        test="test_encoders.py::test_keys_are_shuffled_within_their_view",
    )


def _closer(pairs: list[tuple[Tensor, Tensor]]) -> float:
    """Return how often, in percent, a pair is closer than its query and a key of another batch."""
    shares = []
    for index, (query, key) in enumerate(pairs):
        z, own = normalize(query, dim=1), normalize(key, dim=1)
        others = normalize(torch.cat([keys for other, (_, keys) in enumerate(pairs) if other != index]), dim=1)
        shares.append(((z * own).sum(1, keepdim=True) > z @ others.T).float().mean())
    return 100 * float(torch.stack(shares).mean())
