// @ts-check
/** Keys in the order of a score, by sorting the bits of float32: linear in their number. */

/** Larger than every score. */
export const INFINITE = Number.POSITIVE_INFINITY;

/** @param {ArrayLike<number>} values */
export function sumOf(values) {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  return sum;
}

/**
 * Places by score, the largest first and own keys last; equal scores as they stand.
 * @param {Float32Array} score
 * @param {Uint8Array} own 1 where a key is the anchor's own
 * @returns {Int32Array}
 */
export function orderByScore(score, own) {
  const count = score.length;
  const values = score.map((value, i) => (own[i] ? -INFINITE : value + 0)); // −0 becomes 0
  const bits = new Uint32Array(values.buffer);
  // larger numbers get smaller keys: of positive ones all bits but the sign turn, of negative ones none
  for (let i = 0; i < count; i++) bits[i] = bits[i] & 0x80000000 ? bits[i] : ~bits[i] & 0x7fffffff;
  let from = new Int32Array(count).map((_, i) => i);
  let to = new Int32Array(count);
  const starts = new Int32Array(2048);
  for (const shift of [0, 11, 22]) {
    starts.fill(0);
    for (let i = 0; i < count; i++) starts[(bits[i] >>> shift) & 2047]++;
    for (let digit = 0, sum = 0; digit < 2048; digit++) {
      const here = starts[digit];
      starts[digit] = sum;
      sum += here;
    }
    for (let i = 0; i < count; i++) to[starts[(bits[from[i]] >>> shift) & 2047]++] = from[i];
    [from, to] = [to, from];
  }
  return from;
}

/**
 * Scores in an order, own keys at −∞.
 * @param {Float32Array} score
 * @param {Int32Array} order
 * @param {Uint8Array} own
 */
export function rankedScores(score, order, own) {
  return score.map((_, i) => (own[order[i]] ? -INFINITE : score[order[i]]));
}

/**
 * How many scores are at least this one, of scores sorted with the largest first.
 * @param {Float32Array} ranked
 * @param {number} score
 */
export function countAtLeast(ranked, score) {
  let low = 0;
  let high = ranked.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranked[middle] >= score) low = middle + 1;
    else high = middle;
  }
  return low;
}
