// @ts-check
/** The codes that a key can get, and the cut that gives them; after `cltools.mining.bands`. */

import { countAtLeast, INFINITE } from "./order.js";

/** Why a key is, or is not, a negative of an anchor. */
export const BAND = Object.freeze({ OWN: 0, EASY: 1, POTENTIAL: 2, HARD: 3, MINED: 4, OTHER: 5, SOFTENED: 6 });

/** How many codes there are. */
export const BANDS = 7;

/**
 * Whether a key of this code is a negative, at whatever weight.
 * @param {number} code
 */
export const isKept = (code) => code === BAND.POTENTIAL || code === BAND.SOFTENED;

/**
 * How many of counts by code are of keys that are negatives.
 * @param {ArrayLike<number>} counts
 */
export const keptOf = (counts) => counts[BAND.POTENTIAL] + counts[BAND.SOFTENED];

/**
 * How many of `keys` a rank share means: floor(share·keys + ½), own and mined keys counted.
 * @param {number} share
 * @param {number} keys
 */
export function rankCount(share, keys) {
  return Math.floor(share * keys + 0.5);
}

/**
 * The count-th largest score; infinite for none.
 * @param {Float32Array} ranked largest first
 * @param {number} count
 */
export function scoreAtRank(ranked, count) {
  return count ? ranked[count - 1] : INFINITE;
}

/**
 * HARD from one score on, EASY below another, POTENTIAL between; null cuts nothing. Edges are scores, not positions, so
 * that equal scores share one fate.
 * @typedef {{easyBelow: number | null, hardFrom: number | null}} Cut
 */

/**
 * Where rank shares cut: ranks in (dropClosest, keepWithin] are POTENTIAL.
 * @param {Float32Array} ranked scores, largest first, own keys last at −∞
 * @param {number} dropClosest share of all keys that is too hard
 * @param {number} keepWithin share of all keys within which a key is not too easy
 * @returns {Cut}
 */
export function cutAtRanks(ranked, dropClosest, keepWithin) {
  const keys = ranked.length;
  const hardest = rankCount(dropClosest, keys);
  const close = rankCount(keepWithin, keys);
  return {
    easyBelow: close < keys ? scoreAtRank(ranked, close) : null,
    hardFrom: hardest ? scoreAtRank(ranked, hardest) : null,
  };
}

/**
 * The code of each key.
 * @param {Float32Array} score larger is closer
 * @param {Cut} cut
 * @returns {Int8Array}
 */
export function bandsOfCut(score, { easyBelow, hardFrom }) {
  const band = new Int8Array(score.length).fill(BAND.POTENTIAL);
  // scores are float32, and an edge is compared with them as one
  const low = easyBelow === null ? -INFINITE : Math.fround(easyBelow);
  const high = hardFrom === null ? Number.NaN : Math.fround(hardFrom); // nothing is ≥ NaN
  for (let i = 0; i < score.length; i++) {
    if (score[i] >= high) band[i] = BAND.HARD;
    else if (score[i] < low) band[i] = BAND.EASY;
  }
  return band;
}

/**
 * The ranks at which it cuts: those before `hardTo` are HARD, those from `easyFrom` on EASY.
 * @param {Float32Array} ranked
 * @param {Cut} cut
 */
export function ranksOfCut(ranked, { easyBelow, hardFrom }) {
  const hardTo = hardFrom === null ? 0 : countAtLeast(ranked, Math.fround(hardFrom));
  const easyFrom = easyBelow === null ? ranked.length : countAtLeast(ranked, Math.fround(easyBelow));
  return { hardTo, easyFrom: Math.max(hardTo, easyFrom) };
}
