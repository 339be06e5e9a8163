// @ts-check
/** Sums along one anchor's ranking, so that what lies between two edges is told by two differences. */

import { BAND } from "./bands.js";

/** @typedef {import("./similarities.js").Similarities} Similarities */
/** @typedef {import("./similarities.js").Ranking} Ranking */
/**
 * Each array has one number more than there are keys: at r the sum over the r closest.
 * @typedef {object} Profile
 * @property {number} others keys that are not the anchor's own
 * @property {Int32Array} mined how many are mined
 * @property {Float64Array} push share of the push if every key were kept
 */

/**
 * @param {Similarities} s
 * @param {Ranking} ranking
 * @param {Int8Array} band codes of `BAND`, of which only MINED is looked at
 * @param {Float32Array} plain `plainShares`
 * @returns {Profile}
 */
export function profileOf(s, ranking, band, plain) {
  const keys = ranking.order.length;
  const found = { others: keys, mined: new Int32Array(keys + 1), push: new Float64Array(keys + 1) };
  for (let r = 0; r < keys; r++) {
    const place = ranking.order[r];
    found.others -= s.own[place];
    found.mined[r + 1] = found.mined[r] + Number(band[place] === BAND.MINED);
    found.push[r + 1] = found.push[r] + plain[place];
  }
  return found;
}
