// @ts-check
/** Counts of a side's choice over all anchors of a snapshot, a few anchors at a time; like `diagnosis.py`. */

import { BAND, BANDS, keptOf, rankCount, ranksOfCut } from "./bands.js";
import { drawsOf } from "./draws.js";
import { shareOf } from "./intervals.js";
import { cutOf, NEGATIVE_RULES, rankedBy } from "./negatives.js";
import { orderByScore, sumOf } from "./order.js";
import { select } from "./select.js";
import { rankingBy, similaritiesOf } from "./similarities.js";

/** @typedef {import("./similarities.js").Snapshot} Snapshot */
/** @typedef {import("./judgement.js").Side} Side */
/** @typedef {import("./intervals.js").Share} Share */
/**
 * Shares over the anchors counted so far, with 95 % intervals; those that need labels are of nothing without them.
 * @typedef {object} Census
 * @property {number} anchors how many were counted
 * @property {number} of how many there are
 * @property {Int32Array} places of the counted
 * @property {Int32Array} inBands keys of each by code of `BAND`, one anchor after the other
 * @property {Int32Array} sameInBands of these, those of its class
 * @property {Share} kept POTENTIAL and SOFTENED among them
 * @property {Share} false same class among the kept: false negatives
 * @property {Share} baseRate same class among all keys that are not own
 * @property {Share} recall not kept among the keys of the anchor's class; a choice by chance has 1 − kept
 * @property {Share[]} sameByBand same class among the keys of each code of `BAND`
 * @property {Share[]} shareByBand keys of each code among all that are not own
 * @property {number[]} ranks ends of bins of ranks
 * @property {Share[]} byRank same class in each bin, closest first
 */
/**
 * What is kept of an anchor, so that moving an edge needs no ranking.
 * @typedef {object} RankedAnchor
 * @property {Float32Array} ranked scores, largest first
 * @property {Uint16Array | Int32Array} closer keys of the anchor's class among the r closest
 * @property {number[]} minedRanks ranks of the mined keys
 * @property {number} others keys that are not own
 * @property {number} anchorPositive z·z'
 */
/**
 * A count under way.
 * @typedef {object} Counting
 * @property {Snapshot} snapshot
 * @property {Side} side
 * @property {ArrayLike<number>} places of the anchors, in the order in which they are counted
 * @property {number} done how many are counted
 * @property {number} budget pairs whose ranking may be kept
 * @property {(RankedAnchor | null)[]} rankings of the anchors counted, where they are kept
 * @property {Int32Array[]} keys of each code, for each anchor counted
 * @property {Int32Array[]} same of them of the anchor's class
 * @property {number[]} ranks ends of bins of ranks
 * @property {Int32Array[]} sameByRank in each bin
 */

/** Ends of the bins of ranks, as shares of the keys; those of `cltools.evaluation.diagnosis`. */
export const RANK_SHARES = [0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1];

/** Stream of draws that are no rule's. */
const SHUFFLE_STREAM = 1000;

/** Pairs of an anchor and a key whose ranking is kept: a thousand anchors of 20,000 keys, in 120 MB. */
const KEPT_PAIRS = 20_000_000;

/**
 * All places in an order that looks random and is always the same: the first thousand are a sample of all.
 * @param {Snapshot} snapshot
 * @returns {Int32Array}
 */
export function shuffledPlaces({ anchorIds }) {
  const draw = drawsOf(0, SHUFFLE_STREAM);
  return orderByScore(Float32Array.from(anchorIds, draw), new Uint8Array(anchorIds.length));
}

/**
 * Begin to count.
 * @param {Snapshot} snapshot
 * @param {Side} side
 * @param {{places?: ArrayLike<number>, budget?: number}} [options] which anchors, all by default, and how many pairs
 *   may be kept for moves of an edge
 * @returns {Counting}
 */
export function startCensus(snapshot, side, { places = [...snapshot.anchorIds.keys()], budget = KEPT_PAIRS } = {}) {
  const keys = snapshot.ids.length;
  const ranks = [...new Set(RANK_SHARES.map((share) => rankCount(share, keys)))];
  return { snapshot, side, places, done: 0, budget, rankings: [], keys: [], same: [], ranks, sameByRank: [] };
}

/**
 * Count more anchors; a worker calls it until all are counted, and answers between.
 * @param {Counting} counting
 * @param {number} anchors at most so many
 * @returns {boolean} whether all are counted
 */
export function countMore(counting, anchors) {
  const last = Math.min(counting.places.length, counting.done + anchors);
  for (; counting.done < last; counting.done++) countAnchor(counting, counting.places[counting.done]);
  return counting.done === counting.places.length;
}

/**
 * Count an anchor.
 * @param {Counting} counting
 * @param {number} place
 */
function countAnchor(counting, place) {
  const { snapshot, side, ranks } = counting;
  const s = similaritiesOf(snapshot, snapshot.epochs.indexOf(side.epoch), place);
  const { band } = select(s, side.positives, side.negatives, side.temperature);
  const { order, ranked } = rankingBy(s, rankedBy(side.negatives), side.temperature);
  const [keys, same] = [new Int32Array(BANDS), new Int32Array(BANDS)];
  /** @type {number[]} */
  const minedRanks = [];
  const closer = order.length < 65536 ? new Uint16Array(order.length + 1) : new Int32Array(order.length + 1);
  for (let r = 0; r < order.length; r++) {
    const key = order[r];
    const isSame = s.own[key] ? 0 : (s.sameClass?.[key] ?? 0);
    closer[r + 1] = closer[r] + isSame;
    if (s.own[key]) continue;
    keys[band[key]]++;
    same[band[key]] += isSame;
    if (band[key] === BAND.MINED) minedRanks.push(r);
  }
  counting.keys.push(keys);
  counting.same.push(same);
  counting.sameByRank.push(Int32Array.from(ranks.slice(1), (end, i) => closer[end] - closer[ranks[i]]));
  const ranking = { ranked, closer, minedRanks, others: sumOf(keys), anchorPositive: s.anchorPositive };
  counting.rankings.push((counting.done + 1) * order.length > counting.budget ? null : ranking);
}

/**
 * The count of a side of other settings. Where only edges moved, anchors that are ranked already are counted at once.
 * @param {Counting} counting
 * @param {Side} side
 * @returns {Counting}
 */
export function recount(counting, side) {
  const next = startCensus(counting.snapshot, side, counting);
  if (!cutsTheSame(counting.side, side)) return next;
  for (const ranking of counting.rankings) {
    if (ranking === null) break;
    next.sameByRank.push(counting.sameByRank[next.done]);
    next.rankings.push(ranking);
    countRanked(next, ranking);
    next.done++;
  }
  return next;
}

/**
 * Whether two sides mine alike, and cut the same ranking.
 * @param {Side} a
 * @param {Side} b
 */
function cutsTheSame(a, b) {
  const by = rankedBy(a.negatives);
  return (
    by === rankedBy(b.negatives) &&
    (by !== "force" || a.temperature === b.temperature) &&
    a.epoch === b.epoch &&
    NEGATIVE_RULES[b.negatives.rule].cut !== undefined &&
    JSON.stringify(a.positives) === JSON.stringify(b.positives)
  );
}

/**
 * Count an anchor by the sums along its ranking, under a rule that cuts it.
 * @param {Counting} counting
 * @param {RankedAnchor} ranking
 */
function countRanked({ side, keys, same }, { ranked, closer, minedRanks, others, anchorPositive }) {
  const cut = /** @type {import("./bands.js").Cut} */ (cutOf(side.negatives, ranked, anchorPositive));
  const { hardTo, easyFrom } = ranksOfCut(ranked, cut);
  const ends = [0, hardTo, easyFrom, others].map((rank) => Math.min(rank, others));
  const [inBand, inClass] = [new Int32Array(BANDS), new Int32Array(BANDS)];
  [BAND.HARD, BAND.POTENTIAL, BAND.EASY].forEach((code, i) => {
    inBand[code] = ends[i + 1] - ends[i];
    inClass[code] = closer[ends[i + 1]] - closer[ends[i]];
  });
  for (const rank of minedRanks) {
    const code = rank < hardTo ? BAND.HARD : rank < easyFrom ? BAND.POTENTIAL : BAND.EASY;
    const isSame = closer[rank + 1] - closer[rank];
    inBand[code]--;
    inBand[BAND.MINED]++;
    inClass[code] -= isSame;
    inClass[BAND.MINED] += isSame;
  }
  keys.push(inBand);
  same.push(inClass);
}

/**
 * Counts of anchors one after the other, as a worker passes them on quickly.
 * @param {Int32Array[]} counts
 */
function joinedCounts(counts) {
  const joined = new Int32Array(counts.length * BANDS);
  counts.forEach((each, i) => {
    joined.set(each, i * BANDS);
  });
  return joined;
}

/**
 * The shares, of the anchors counted so far.
 * @param {Counting} counting
 * @returns {Census}
 */
export function censusOf(counting) {
  const { keys, same, ranks, sameByRank, snapshot, done, places } = counting;
  /** @type {(hits: number[], counts: number[]) => Share} */
  const known = (hits, counts) =>
    shareOf(
      hits,
      counts.map((n, i) => (snapshot.labelled && snapshot.anchorLabels[places[i]] >= 0 ? n : 0)),
    );
  const byCode = (/** @type {Int32Array[]} */ all) =>
    Object.values(BAND).map((code) => all.map((counts) => counts[code]));
  const inBand = byCode(keys);
  const [others, sameOthers] = [keys.map(sumOf), same.map(sumOf)];
  const [kept, sameKept] = [keys.map(keptOf), same.map(keptOf)];
  const lost = sameOthers.map((count, i) => count - sameKept[i]);
  return {
    anchors: done,
    of: places.length,
    places: Int32Array.from(places).subarray(0, done),
    inBands: joinedCounts(keys),
    sameInBands: joinedCounts(same),
    kept: shareOf(kept, others),
    false: known(sameKept, kept),
    baseRate: known(sameOthers, others),
    recall: known(lost, sameOthers),
    shareByBand: inBand.map((counts) => shareOf(counts, others)),
    sameByBand: byCode(same).map((hits, code) => known(hits, inBand[code])),
    ranks,
    byRank: ranks.slice(1).map((end, i) => {
      const hits = sameByRank.map((counts) => counts[i]);
      const inBin = others.map((count) => Math.min(end, count) - Math.min(ranks[i], count));
      return known(hits, inBin);
    }),
  };
}
