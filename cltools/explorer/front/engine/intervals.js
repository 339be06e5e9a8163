// @ts-check
/** Shares of pairs with 95 % intervals over anchors; after `cltools.evaluation.intervals`, which names the sources. */

import { sumOf } from "./order.js";

/**
 * A share of pairs; it and its ends are NaN if there are none.
 * @typedef {{value: number, low: number, high: number, count: number}} Share
 */

const Z = 1.959963984540054; // the normal's 97.5 % point

/**
 * The share Σ hits / Σ counts; the pairs of one anchor are alike, so the anchor is the unit.
 * @param {ArrayLike<number>} hits of each anchor
 * @param {ArrayLike<number>} counts all its pairs; an anchor without any does not count
 * @returns {Share}
 */
export function shareOf(hits, counts) {
  const total = sumOf(counts);
  if (total === 0) return { value: Number.NaN, low: Number.NaN, high: Number.NaN, count: 0 };
  const value = sumOf(hits) / total;
  let [squares, anchors] = [0, 0];
  for (let i = 0; i < counts.length; i++) {
    squares += (hits[i] - value * counts[i]) ** 2;
    if (counts[i] > 0) anchors++;
  }
  return { value, ...wilson(value, effectivePairs(value, squares, anchors, total)), count: total };
}

/**
 * Ends of Wilson's interval of a share found among so many independent pairs.
 * @param {number} value
 * @param {number} n above 0
 */
export function wilson(value, n) {
  const scale = 1 + Z ** 2 / n;
  const centre = (value + Z ** 2 / (2 * n)) / scale;
  const half = (Z / scale) * Math.sqrt((value * (1 - value)) / n + Z ** 2 / (4 * n ** 2));
  // in exact arithmetic the ends enclose the value and stay in [0, 1]
  return { low: Math.max(0, Math.min(value, centre - half)), high: Math.min(1, Math.max(value, centre + half)) };
}

/**
 * The number of independent pairs for which the share would be as uncertain as for these anchors.
 * @param {number} value
 * @param {number} squares of the anchors' residuals
 * @param {number} anchors
 * @param {number} total of pairs
 */
function effectivePairs(value, squares, anchors, total) {
  const spread = value * (1 - value);
  if (spread === 0 || anchors === 1) return anchors;
  const variance = ((anchors / (anchors - 1)) * squares * (student(anchors - 1) / Z) ** 2) / total ** 2;
  return variance * total > spread ? spread / variance : total;
}

/**
 * Student's 97.5 % point: exact for 1 and 2, then by its expansion about the normal's.
 * @param {number} freedom
 */
function student(freedom) {
  if (freedom === 1) return Math.tan(0.475 * Math.PI);
  if (freedom === 2) return 0.95 * Math.sqrt(2 / (1 - 0.95 ** 2));
  const n = freedom;
  const second = (5 * Z ** 5 + 16 * Z ** 3 + 3 * Z) / (96 * n ** 2);
  const third = (3 * Z ** 7 + 19 * Z ** 5 + 17 * Z ** 3 - 15 * Z) / (384 * n ** 3);
  return Z + (Z ** 3 + Z) / (4 * n) + second + third;
}
