// @ts-check
/** The judgement of one anchor by the rules of one side, with all data for its display. */

import { BANDS, isKept } from "./bands.js";
import { plainShares, pushShares } from "./forces.js";
import { rankedBy } from "./negatives.js";
import { profileOf } from "./profile.js";
import { negativesOnly, select } from "./select.js";
import { rankingBy, remembered } from "./similarities.js";

/** @typedef {import("./similarities.js").Similarities} Similarities */
/** @typedef {import("./similarities.js").Form} Form */
/** @typedef {import("./fields.js").Settings} Settings */
/**
 * One choice of samples: complete rules at full strength, the loss's temperature, and the epoch's number.
 * @typedef {{positives: Settings, negatives: Settings, temperature: number, epoch: number}} Side
 */
/**
 * The judgement of one anchor's keys.
 * @typedef {object} Judgement
 * @property {Similarities} similarities
 * @property {import("./select.js").Selection} selection
 * @property {Int8Array} band codes of `BAND`
 * @property {import("./similarities.js").Ranking} ranking by what the rule ranks
 * @property {import("./similarities.js").By} by
 * @property {import("./profile.js").Profile} profile along this ranking
 * @property {() => Float32Array} push each key's share of the whole push under the rules; computed when asked for
 * @property {Float32Array} plain its share if every key were kept and none mined
 */
/**
 * Numbers of keys by outcome, for sentences. Own keys are not counted.
 * @typedef {object} Summary
 * @property {number} others all keys that are not own
 * @property {number[]} keys by code of `BAND`
 * @property {number[] | null} same of them of the anchor's class; null without labels
 * @property {number} synthetic made negatives
 */

/**
 * Judge one anchor. Rankings, mined keys and plain forces are remembered with the similarities, so that after an edge
 * has moved only the codes are computed.
 * @param {Similarities} s
 * @param {Side} side
 * @param {Form} form
 * @returns {Judgement}
 */
export function judge(s, side, form) {
  const selection = select(s, side.positives, side.negatives, side.temperature);
  return judgementOf(s, side, form, selection, `profile ${JSON.stringify(side.positives)}`);
}

/**
 * What Python chose for one anchor by rules that only it knows: codes of `BAND`, and weights of the negatives where they
 * are not 0 and 1.
 * @typedef {{band: Int8Array, weight?: Float32Array, anchorWeight?: number}} Recorded
 */

/**
 * A judgement by rules that only Python knows, from the codes and weights that it recorded.
 * @param {Similarities} s
 * @param {Side} side
 * @param {Form} form
 * @param {Recorded} recorded
 * @returns {Judgement}
 */
export function judgeRecorded(s, side, form, { band, weight, anchorWeight = 1 }) {
  const kept = Float32Array.from(band, (code) => Number(isKept(code)));
  return judgementOf(s, side, form, { ...negativesOnly(band, weight ?? kept), anchorWeight });
}

/**
 * @param {Similarities} s
 * @param {Side} side
 * @param {Form} form
 * @param {import("./select.js").Selection} selection
 * @param {string} [name] by which the sums along the ranking are remembered; they are made anew without
 * @returns {Judgement}
 */
function judgementOf(s, side, form, selection, name) {
  const { negatives, temperature } = side;
  const by = rankedBy(negatives);
  const ranking = rankingBy(s, by, temperature);
  const plain = plainShares(s, temperature);
  const profile = () => profileOf(s, ranking, selection.band, plain);
  /** @type {Float32Array | null} */
  let push = null;
  return {
    similarities: s,
    selection,
    band: selection.band,
    ranking,
    by,
    profile: name ? remembered(s, `${name} ${by} ${temperature}`, profile) : profile(),
    push() {
      push ??= pushShares(s, selection, temperature, form);
      return push;
    },
    plain,
  };
}

/**
 * The counts of a judgement.
 * @param {Judgement} j
 * @returns {Summary}
 */
export function summaryOf({ similarities, band, profile, selection }) {
  const { sameClass, own } = similarities;
  const [keys, same] = [0, 1].map(() => new Array(BANDS).fill(0));
  for (let i = 0; i < own.length; i++) {
    if (own[i]) continue;
    keys[band[i]]++;
    if (sameClass !== null) same[band[i]] += sameClass[i];
  }
  const synthetic = selection.synthetic?.length ?? 0;
  return { others: profile.others, keys, same: sameClass && same, synthetic };
}
