// @ts-check
/** How many keys of each band have a score in each bin. */

import { BANDS } from "./bands.js";

/** @typedef {import("./similarities.js").Ranking} Ranking */
/**
 * Bins of a ranking's scores, own keys left out.
 * @typedef {object} Bins
 * @property {number} low lowest score
 * @property {number} width from the lowest to the highest
 * @property {Int32Array} ranks of bin i are ranks[i + 1] … ranks[i] − 1: as many keys are closer than the bin's upper
 *   end
 */

/**
 * Bins of equal width from the lowest to the highest score.
 * @param {Ranking} ranking
 * @param {number} others keys that are not own
 * @param {number} [bins]
 * @returns {Bins}
 */
export function binsOf(ranking, others, bins = 48) {
  const { ranked } = ranking;
  const low = others ? ranked[others - 1] : 0;
  const high = others ? ranked[0] : 1;
  const width = Math.max(high - low, 1e-6);
  const scale = Math.fround(bins / width);
  const ranks = new Int32Array(bins + 1);
  for (let r = 0; r < others; r++) {
    const bin = Math.min(bins - 1, Math.trunc(Math.fround(Math.fround(ranked[r] - low) * scale)));
    ranks[bin]++;
  }
  for (let i = bins - 1; i >= 0; i--) ranks[i] += ranks[i + 1];
  return { low, width, ranks };
}

/**
 * Counts by bin and code: bins × `BANDS` numbers.
 * @param {Bins} bins
 * @param {Ranking} ranking
 * @param {Int8Array} band
 * @returns {Int32Array}
 */
export function countsByBand(bins, ranking, band) {
  const count = bins.ranks.length - 1;
  const counts = new Int32Array(count * BANDS);
  for (let i = 0; i < count; i++) {
    for (let r = bins.ranks[i + 1]; r < bins.ranks[i]; r++) counts[i * BANDS + band[ranking.order[r]]]++;
  }
  return counts;
}
