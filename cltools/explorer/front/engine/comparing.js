// @ts-check
/** How two sides differ, and which points of a map are misplaced. */

import { isKept } from "./bands.js";

/** Which of two sides keeps a key as a negative. */
export const KEPT_BY = Object.freeze({ NEITHER: 0, BOTH: 1, ONLY_A: 2, ONLY_B: 3 });

/** Below this share of kept neighbours a point's place on the map says little. */
export const DOUBT = 0.2;

/**
 * Which side keeps each key, by `KEPT_BY`.
 * @param {Int8Array} a codes of `BAND` under side A
 * @param {Int8Array} b
 * @returns {Int8Array}
 */
export function differenceOf(a, b) {
  return a.map((code, i) => {
    if (isKept(code)) return isKept(b[i]) ? KEPT_BY.BOTH : KEPT_BY.ONLY_A;
    return isKept(b[i]) ? KEPT_BY.ONLY_B : KEPT_BY.NEITHER;
  });
}

/**
 * Places of points that have less than a fifth of their true neighbours among their neighbours on the map.
 * @param {ArrayLike<number>} kept share of each point's true neighbours that the map keeps
 * @returns {number[]}
 */
export function misplacedPoints(kept) {
  return [...Array(kept.length).keys()].filter((i) => kept[i] < DOUBT);
}
