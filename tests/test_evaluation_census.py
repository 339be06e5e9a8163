"""Counts over all anchors agree with `diagnose` on the whole, whatever the turns."""

import pytest
from snapshots import made

from cltools.evaluation.diagnosis import RANK_SHARES, diagnose
from cltools.explorer import judgement as module
from cltools.explorer.judgement import census_of
from cltools.explorer.state import Side
from cltools.mining import (
    Band,
    NearestKeys,
    NegativeRule,
    OracleNegatives,
    RankBand,
    RingNegatives,
    SoftenedBand,
    select,
)
from cltools.mining.bands import KEPT

RULES = (RankBand(0.1, 0.5), RingNegatives(outer=0.4), OracleNegatives(), SoftenedBand())


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("pairs", [60, 7 * 60, 10**6])
def test_it_counts_what_diagnose_counts(rule: NegativeRule, pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAIRS", pairs)
    snapshot, side = made(), Side(NearestKeys(k=3, min_weight="mean").at(1), rule, 0.2, 1)
    found = census_of(snapshot, side)
    s = snapshot.similarities(epoch=0)
    selection = select(s, side.positives, rule)
    by = "positive" if isinstance(rule, RankBand) else "anchor"
    expected = diagnose(s, selection, by=by)
    assert found.anchors == 60
    assert found.mined == pytest.approx(expected.bands[Band.MINED].keys)
    assert found.false == expected.false_negative_share
    assert found.base_rate == expected.base_rate and found.recall == expected.recall
    assert found.kept.value == pytest.approx(sum(expected.bands[band].keys for band in KEPT) / 59)
    assert found.suspected.value == pytest.approx(expected.bands[Band.HARD].keys / 59)
    by_edges = dict(zip(found.ranks, found.by_rank, strict=False))
    for share, at in zip(RANK_SHARES, expected.by_rank, strict=False):
        edge = int(share * 60 + 0.5)
        if at.count:
            assert by_edges[edge] == at
    assert sum(share.count for share in found.by_rank) == 60 * 59, "every pair has its rank"


def test_without_labels_shares_of_classes_are_of_nothing() -> None:
    found = census_of(made(labelled=False), Side(NearestKeys(min_weight="mean").at(1), RankBand(0.1, 0.5), 0.2, 5))
    assert found.false.count == found.recall.count == found.base_rate.count == 0
    assert found.kept.count == 60 * 59 and all(share.count == 0 for share in found.by_rank)
