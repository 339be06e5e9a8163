// @ts-check
/** Sums along one anchor's ranking, so that what lies between two edges is told by two differences. */

import { BAND, BANDS } from "./bands.js";

/** @typedef {import("./similarities.js").Similarities} Similarities */
/** @typedef {import("./similarities.js").Ranking} Ranking */
/**
 * Each array has one number more than there are keys: at r the sum over the r closest.
 * @typedef {object} Profile
 * @property {number} others keys that are not the anchor's own
 * @property {Int32Array} mined how many are mined
 * @property {Int32Array} same how many are of the anchor's class; zeros without labels
 * @property {Int32Array} sameMined how many are both
 * @property {Float64Array} push share of the push if every key were kept
 * @property {Float64Array} pushMined of it that of the mined keys
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
  const found = {
    others: keys,
    mined: new Int32Array(keys + 1),
    same: new Int32Array(keys + 1),
    sameMined: new Int32Array(keys + 1),
    push: new Float64Array(keys + 1),
    pushMined: new Float64Array(keys + 1),
  };
  for (let r = 0; r < keys; r++) {
    const place = ranking.order[r];
    const mined = band[place] === BAND.MINED ? 1 : 0;
    const same = s.sameClass !== null && !s.own[place] ? s.sameClass[place] : 0;
    found.others -= s.own[place];
    found.mined[r + 1] = found.mined[r] + mined;
    found.same[r + 1] = found.same[r] + same;
    found.sameMined[r + 1] = found.sameMined[r] + (same & mined);
    found.push[r + 1] = found.push[r] + plain[place];
    found.pushMined[r + 1] = found.pushMined[r] + mined * plain[place];
  }
  return found;
}

/**
 * What each code of `BAND` has of the ranks from one to another, where two edges cut them.
 * @param {Profile} profile
 * @param {{hardTo: number, easyFrom: number}} cut ranks before the one are HARD, from the other on EASY
 * @param {number} [from]
 * @param {number} [to]
 * @returns {{keys: number[], same: number[], push: number[]}}
 */
export function sumsByCode(profile, { hardTo, easyFrom }, from = 0, to = profile.others) {
  const [keys, same, push] = [0, 1, 2].map(() => new Array(BANDS).fill(0));
  const ends = [from, hardTo, easyFrom, to].map((rank) => Math.min(Math.max(rank, from), to));
  [BAND.HARD, BAND.POTENTIAL, BAND.EASY].forEach((code, i) => {
    const [a, b] = [ends[i], ends[i + 1]];
    const between = (/** @type {ArrayLike<number>} */ sums) => sums[b] - sums[a];
    const mined = between(profile.mined);
    const sameMined = between(profile.sameMined);
    const pushMined = between(profile.pushMined);
    keys[code] = b - a - mined;
    same[code] = between(profile.same) - sameMined;
    push[code] = between(profile.push) - pushMined;
    keys[BAND.MINED] += mined;
    same[BAND.MINED] += sameMined;
    push[BAND.MINED] += pushMined;
  });
  return { keys, same, push };
}
