"""Batch statistics that leak: who was normalised together can be told, whatever is in the pictures.

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
    """Tell pairs of unrelated digits from other pairs, by an encoder that has learnt nothing.

    The cosine of a pair is compared with those of its query and the keys of other batches. 50 % is right: an unrelated
    pair is neither closer nor farther than any other. What deviates from it is a hint that a loss can use.

    Args:
        seed: of the encoder and of the pictures.
    """
    images, draws = load_images("digits"), torch.Generator().manual_seed(seed)
    settings = EncoderSettings(backbone="tiny", hidden=64, projection=32, bn_group=GROUP)
    encoder = build_encoder(settings, images, seed=seed)
    keys_of = MomentumCopy(encoder)
    both = torch.arange(2 * BATCH).view(2, -1, GROUP // 2).transpose(0, 1).flatten()  # half a group of either view
    found: dict[str, list[tuple[Tensor, Tensor]]] = {"one": [], "apart": [], "in order": [], "shuffled": []}
    for _ in range(BATCHES):
        # Where one batch norm takes both, a pair is two unrelated pictures, one in the place of either view.
        pair = images.images[torch.randint(len(images), (2 * BATCH,), generator=draws)]
        mixed = encoder(pair[both])[both.argsort()].chunk(2)
        found["one"].append((mixed[0], mixed[1]))
        z, other = encoder(pair, views=2).chunk(2)
        found["apart"].append((z, other))
        # Where queries and keys fall into the same groups, a pair has the same neighbours there: every fourth key is
        # made of a stranger, which stands among views of its query's companions.
        view, keyed = pair[:BATCH], pair[:BATCH].clone()
        keyed[::GROUP] = pair[BATCH::GROUP]
        query, in_order = encoder(view), keys_of.encoder.project(keyed)
        shuffled = keys_of.keys(keyed, generator=draws)
        found["in order"].append((query[::GROUP], in_order[::GROUP]))
        found["shuffled"].append((query[::GROUP], shuffled[::GROUP]))
    told = {name: _told(pairs) for name, pairs in found.items()}
    one = "one batch norm over both views: keys farther than an unrelated pair's, %"
    order = "keys not shuffled: keys farther than an unrelated pair's, %"
    return Effect(
        wrong={one: told["one"], order: told["in order"]},
        right={one: told["apart"], order: told["shuffled"]},
        sentence="The pairs are of unrelated pictures, so 50 is all there is to know. Statistics in common move a pair "
        "away from it, and a loss can learn to read that instead of the pictures.",
        guard="cltools.encoders.MomentumCopy.keys",
        test="test_encoders.py::test_keys_are_shuffled_within_their_view",
    )


def _told(pairs: list[tuple[Tensor, Tensor]]) -> float:
    """How often, in percent, a pair is closer than its query and a key of another batch."""
    shares = []
    for place, (query, key) in enumerate(pairs):
        z, own = normalize(query, dim=1), normalize(key, dim=1)
        others = normalize(torch.cat([keys for at, (_, keys) in enumerate(pairs) if at != place]), dim=1)
        shares.append(((z * own).sum(1, keepdim=True) > z @ others.T).float().mean())
    return 100 * float(torch.stack(shares).mean())
