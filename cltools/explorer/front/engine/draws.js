// @ts-check
/** Draws from an integer hash of (seed, anchor's id, key's id), the same as `cltools.mining.draws`. */

const GOLDEN = 0x9e3779b9;

/** Seed of the draws on a snapshot. */
export const SEED = 0;

/** Stream of the draws that belong to a key. */
export const KEYS_STREAM = 0;

/**
 * The finaliser of MurmurHash3 (public domain, Austin Appleby).
 * @param {number} word
 */
function mixed(word) {
  word = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35);
  return word ^ (word >>> 16);
}

/**
 * A whole number in 32 bits; from 0 to 2³² − 1 it stays as it is.
 * @param {number} id
 */
function folded(id) {
  return ((id % 2 ** 32) | 0) ^ Math.imul(Math.floor(id / 2 ** 32) | 0, GOLDEN);
}

/**
 * Draws of one anchor: gives a number in [0, 1) for a key's id, or for a column's number in another stream.
 * @param {number} anchorId
 * @param {number} [stream]
 * @param {number} [seed]
 * @returns {(id: number) => number}
 */
export function drawsOf(anchorId, stream = KEYS_STREAM, seed = SEED) {
  const anchor = mixed(folded(anchorId) ^ mixed((seed + Math.imul(GOLDEN, stream + 1)) | 0));
  return (id) => (mixed((mixed(anchor ^ folded(id)) + anchor) | 0) >>> 8) * 2 ** -24;
}
