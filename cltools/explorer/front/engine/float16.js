// @ts-check
/** Converts embeddings in float16, as in files and messages, to unit vectors in float32. */

import { INFINITE } from "./order.js";

/**
 * The number that 16 bits of IEEE half precision stand for.
 * @param {number} bits
 * @returns {number}
 */
export function fromHalf(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * INFINITE;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** @type {Float32Array | null} */
let halves = null;

/**
 * All numbers of an array of half precision; by a table, as not every browser has Float16Array.
 * @param {Uint16Array} bits
 * @returns {Float32Array}
 */
export function unpackHalves(bits) {
  halves ??= new Float32Array(65536).map((_, i) => fromHalf(i));
  const known = halves;
  return new Float32Array(bits.length).map((_, i) => known[bits[i]]);
}

/**
 * Rows of length 1; summed in float64 and rounded once, as `Snapshot.similarities` does.
 * @param {Float32Array} values rows of `dim` numbers, changed in place
 * @param {number} dim
 * @returns {Float32Array} the same array
 */
export function unitRows(values, dim) {
  for (let start = 0; start < values.length; start += dim) {
    let square = 0;
    for (let i = start; i < start + dim; i++) square += values[i] * values[i];
    const length = Math.max(Math.sqrt(square), 2 ** -126);
    for (let i = start; i < start + dim; i++) values[i] /= length;
  }
  return values;
}
