"""Draws on a snapshot: an integer hash of ids, the same for an anchor alone and among others; training is as before."""

from dataclasses import dataclass

import numpy as np
import torch
from snapshots import made
from torch import Tensor

from cltools.explorer.judgement import chosen
from cltools.explorer.state import Side
from cltools.mining import (
    AugmentedView,
    Context,
    MixedNegatives,
    NearestKeys,
    NegativeRule,
    RandomNegatives,
    Similarities,
)
from cltools.mining.bands import other_codes
from cltools.mining.draws import Draws, closest, uniform_columns, uniform_per_candidate, uniform_per_key

IDS = torch.arange(400)


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(3) for _ in range(2)]


def test_with_a_generator_of_torch_draws_are_torchs_own() -> None:
    like, index = torch.zeros(3, 7, dtype=torch.bool), torch.zeros(3, 4, dtype=torch.int64)
    for drawn, shape in (
        (lambda g: uniform_per_key(like, g), (3, 7)),
        (lambda g: uniform_per_candidate(index, g), (3, 4)),
        (lambda g: uniform_columns(like, 5, g, stream=2), (3, 5)),
    ):
        one, two = generators()
        assert torch.equal(drawn(one), torch.rand(shape, generator=two))
    score = torch.rand(3, 50, generator=generators()[0])
    assert all(map(torch.equal, closest(score, 6, None), score.topk(6, dim=1)))


def test_draws_are_even_and_belong_to_seed_anchor_key_and_stream() -> None:
    drawn = Draws(0, IDS, IDS).uniform(IDS)
    counts = np.histogram(drawn.numpy(), bins=16, range=(0, 1))[0]
    assert drawn.min() >= 0 and drawn.max() < 1 and abs(counts / drawn.numel() * 16 - 1).max() < 0.05
    assert len(drawn.unique()) > 0.99 * drawn.numel()
    between = np.corrcoef(drawn[:50].numpy())[np.triu_indices(50, 1)]
    assert abs(between).max() < 5 / np.sqrt(400) and abs(between.mean()) < 0.01, "anchors draw apart"
    for other in (Draws(1, IDS, IDS).uniform(IDS), Draws(0, IDS, IDS).uniform(IDS, stream=1), drawn.T):
        assert abs(np.corrcoef(drawn.flatten().numpy(), other.flatten().numpy())[0, 1]) < 0.01
    assert torch.equal(Draws(0, IDS[7:9], IDS).uniform(IDS), drawn[7:9])


def test_ids_of_any_64_bits_draw() -> None:
    wide = torch.tensor([0, -1, 2**62, -(2**63), 2**32])
    drawn = Draws(5, wide, wide).uniform(wide)
    assert len(drawn.unique()) == 25 and drawn.min() >= 0 and drawn.max() < 1


def test_the_first_of_equally_close_keys_are_taken() -> None:
    score = torch.tensor([[0.5, 0.9, 0.5, 0.5, 0.1]])
    values, index = closest(score, 3, Draws(0, IDS[:1], IDS[:5]))
    assert index.tolist() == [[1, 0, 2]] and values.tolist() == [[score[0, 1], 0.5, 0.5]]


def test_an_anchor_draws_the_same_alone_and_among_others() -> None:
    snapshot = made()
    for rule in (RandomNegatives(0.3), MixedNegatives(hardest=9, pairs=4, with_anchor=3)):
        side = Side(NearestKeys(k=6, pick=2).at(1.0), rule, 0.2, 5)
        every, alone = (chosen(snapshot.similarities(rows), side) for rows in (None, torch.tensor([11, 3])))
        assert torch.equal(every.band[[11, 3]], alone.band)
        if alone.synthetic is not None:
            assert every.synthetic is not None and torch.equal(every.synthetic[[11, 3]], alone.synthetic)


def test_a_rule_of_ones_own_draws_from_it_as_from_any_generator() -> None:
    @dataclass(frozen=True)
    class Coin(NegativeRule):
        def judge(self, s: Similarities, context: Context) -> Tensor:
            return other_codes(torch.rand(s.own.shape, generator=context.generator) < 0.5)

    side = Side(AugmentedView(), Coin(), 0.2, 5)
    s = made().similarities(torch.tensor([4]))
    one, two = (chosen(s, side).band for _ in range(2))
    assert torch.equal(one, two) and 10 < int((one == 2).sum()) < 50
