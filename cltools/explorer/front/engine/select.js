// @ts-check
/** The choice of samples for one anchor, as `cltools.mining.selection.select` makes it. */

import { BAND } from "./bands.js";
import { refuse } from "./fields.js";
import { judgedBands, NEGATIVE_RULES, NEUTRAL, weightsOf } from "./negatives.js";
import { mine, nothingMined, POSITIVE_RULES } from "./positives.js";
import { othersOf, remembered } from "./similarities.js";

/** @typedef {import("./similarities.js").Similarities} Similarities */
/** @typedef {import("./fields.js").Settings} Settings */
/**
 * Which samples the loss learns from.
 * @typedef {object} Selection
 * @property {Int32Array} positiveIndex keys that are candidates for mined positives
 * @property {Float32Array} positiveWeight they sum to 1; the first is the augmented view's
 * @property {Float32Array} negativeWeight of each key; 0 removes it
 * @property {Int8Array} band codes of `BAND`
 * @property {Float32Array | null} synthetic cosines of made negatives with the anchor
 * @property {import("./negatives.js").Estimate} estimate how the negatives' mass is estimated
 * @property {number} anchorWeight how much the anchor counts in the mean of the loss
 */

/** All built-in rules, by what they choose and by class name. */
export const RULES = { positives: POSITIVE_RULES, negatives: NEGATIVE_RULES };

/**
 * The reason why these rules cannot be evaluated on the page for this anchor; empty if they can.
 * @param {Similarities} s
 * @param {Settings} positives
 * @param {Settings} negatives
 */
export function whyUnknown(s, positives, negatives) {
  return whyRuleUnknown(s, "negatives", negatives) || whyRuleUnknown(s, "positives", positives);
}

/**
 * The same of one rule.
 * @param {Similarities} s
 * @param {"positives" | "negatives"} kind what it chooses
 * @param {Settings} rule
 */
export function whyRuleUnknown(s, kind, rule) {
  const known = RULES[kind];
  if (!Object.hasOwn(known, rule.rule)) return `${rule.rule} is a rule that only Python knows.`;
  const why = rule.strength === 0 ? "" : known[rule.rule].unknown?.(s, rule);
  return why ? `${rule.rule} cannot be answered here. ${why}` : "";
}

/**
 * A selection of negatives by their weights alone: nothing is mined and nothing made.
 * @param {Int8Array} band
 * @param {Float32Array} negativeWeight
 * @returns {Selection}
 */
export function negativesOnly(band, negativeWeight) {
  const { index, weight } = nothingMined();
  return {
    positiveIndex: index,
    positiveWeight: weight,
    negativeWeight,
    band,
    synthetic: null,
    estimate: NEUTRAL,
    anchorWeight: 1,
  };
}

/**
 * Choose positives and negatives.
 * @param {Similarities} s
 * @param {Settings} positives a positive rule, complete
 * @param {Settings} negatives a negative rule, complete
 * @param {number} temperature of the loss
 * @returns {Selection}
 */
export function select(s, positives, negatives, temperature) {
  const why = whyUnknown(s, positives, negatives);
  if (why) refuse(why);
  const rule = NEGATIVE_RULES[negatives.rule];
  const mined = remembered(s, `mined ${JSON.stringify(positives)}`, () => mine(s, positives));
  const band = judgedBands(s, negatives, temperature);
  const eligible = othersOf(s);
  for (let i = 0; i < mined.index.length; i++) {
    if (mined.weight[1 + i] > 0) {
      eligible[mined.index[i]] = 0;
      band[mined.index[i]] = BAND.MINED;
    }
  }
  const kept = new Uint8Array(band.length);
  for (let i = 0; i < band.length; i++) {
    if (s.own[i]) band[i] = BAND.OWN;
    kept[i] = band[i] === BAND.POTENTIAL ? 1 : 0;
  }
  const context = { eligible, kept, temperature };
  const weight = weightsOf(s, negatives, context);
  if (weight !== null) {
    for (let i = 0; i < band.length; i++) {
      if (!kept[i]) weight[i] = 0;
      else if (!(weight[i] > 0)) {
        band[i] = BAND.OTHER;
        kept[i] = weight[i] = 0;
      } else if (rule.softens && weight[i] < 1) band[i] = BAND.SOFTENED;
    }
  }
  return {
    positiveIndex: mined.index,
    positiveWeight: mined.weight,
    negativeWeight: weight ?? new Float32Array(kept),
    band,
    synthetic: rule.synthesise?.(s, negatives, kept) ?? null,
    estimate: rule.estimate?.(negatives) ?? NEUTRAL,
    anchorWeight: rule.weighAnchor?.(s, negatives, context) ?? 1,
  };
}
