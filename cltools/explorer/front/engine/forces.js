// @ts-check
/** The loss's gradient in closed form, and how hard each key pushes; after `cltools.gradients`, in float64. */

import { INFINITE, sumOf } from "./order.js";
import { negativesOnly } from "./select.js";
import { othersOf, remembered } from "./similarities.js";

/** @typedef {import("./similarities.js").Similarities} Similarities */
/** @typedef {import("./similarities.js").Form} Form */
/** @typedef {import("./select.js").Selection} Selection */
/**
 * Cosines and weights of positives (the augmented view first) and of negatives.
 * @typedef {object} Terms
 * @property {ArrayLike<number>} positive
 * @property {ArrayLike<number>} positiveWeight
 * @property {ArrayLike<number>} negative
 * @property {ArrayLike<number>} negativeWeight
 * @property {import("./negatives.js").Estimate} estimate
 */

/** @param {number} x */
const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));

/**
 * Log Σ w·e^{scale·x}, and each term's share of the sum; −∞ and zeros without weight.
 * @param {ArrayLike<number>} x
 * @param {ArrayLike<number>} weight
 * @param {number} scale
 * @returns {{log: number, share: Float64Array}}
 */
function weighedSum(x, weight, scale) {
  let top = -INFINITE;
  for (let i = 0; i < x.length; i++) if (weight[i] > 0 && x[i] > top) top = x[i];
  const mass = Float64Array.from(x, (each, i) => (weight[i] > 0 ? weight[i] * Math.exp(scale * (each - top)) : 0));
  const sum = sumOf(mass);
  const scaled = sum && 1 / sum;
  return { log: scale * top + Math.log(sum), share: mass.map((each) => each * scaled) };
}

/**
 * Log of the negatives' mass, and its derivatives by each logit.
 * @param {Terms} terms
 * @param {number} temperature
 */
function massOf({ positive, positiveWeight, negative, negativeWeight, estimate }, temperature) {
  const { beta, tauPlus, detach } = estimate;
  const tilted = weighedSum(negative, negativeWeight, (1 + beta) / temperature);
  let log = tilted.log;
  let byNegative = tilted.share;
  const count = sumOf(negativeWeight);
  const logCount = Math.log(count);
  if (beta > 0 && count > 0) {
    const tilts = weighedSum(negative, negativeWeight, beta / temperature);
    log += logCount - tilts.log;
    if (!detach) byNegative = byNegative.map((share, i) => (1 + beta) * share - beta * tilts.share[i]);
  }
  /** @type {Float64Array} */
  let byPositive = new Float64Array(positive.length);
  if (tauPlus > 0 && count > 0) {
    const attracting = weighedSum(positive, positiveWeight, 1 / temperature);
    const logFalse = attracting.log + logCount + Math.log(tauPlus);
    const floor = logCount - 1 / temperature;
    const rest = log > logFalse ? log + Math.log(-Math.expm1(logFalse - log)) : -INFINITE;
    const corrected = rest - Math.log1p(-tauPlus);
    const free = corrected > floor; // else the mass is clamped, and depends on no cosine
    const byRaw = free ? -1 / Math.expm1(logFalse - log) : 0;
    log = free ? corrected : floor;
    byNegative = byNegative.map((share) => byRaw * share);
    if (free) byPositive = attracting.share.map((share) => (1 - byRaw) * share);
  }
  return { log, byNegative, byPositive };
}

/**
 * Derivative of an anchor's loss by each cosine: below zero pulls towards a sample, above zero pushes away from it.
 * @param {Terms} terms
 * @param {number} temperature
 * @param {Form} form
 * @returns {{byPositive: Float64Array, byNegative: Float64Array}}
 */
export function lossGradients(terms, temperature, form) {
  const { positive, positiveWeight: w } = terms;
  const mass = massOf(terms, temperature);
  let byMass = mass.log > -INFINITE ? 1 : 0;
  let byPositive = Float64Array.from(w, (weight) => -weight);
  if (form === "sep") {
    byPositive = byPositive.map((weight, i) => weight * sigmoid(mass.log - positive[i] / temperature));
    byMass = -sumOf(byPositive);
  } else if (form === "in" || form === "out") {
    const weight = form === "in" ? w : byPositive.map((each) => Number(each < 0));
    const attracting = weighedSum(positive, weight, 1 / temperature);
    byMass = sigmoid(mass.log - attracting.log);
    byPositive = attracting.share.map((share, i) => (form === "in" ? 0 : share - w[i]) - byMass * share);
  }
  return {
    byPositive: byPositive.map((each, i) => (each + byMass * mass.byPositive[i]) / temperature),
    byNegative: mass.byNegative.map((each) => each * (byMass / temperature)),
  };
}

/**
 * Cosines and weights that a selection decides; synthetic negatives stand after the keys.
 * @param {Similarities} s
 * @param {Selection} selection
 * @returns {Terms}
 */
export function termsOf(s, selection) {
  const { positiveIndex, positiveWeight, synthetic, estimate } = selection;
  const { anchorKeys } = s;
  const negative = synthetic ? [...anchorKeys, ...synthetic] : anchorKeys;
  return {
    positive: [s.anchorPositive, ...[...positiveIndex].map((place) => anchorKeys[place])],
    positiveWeight,
    negative,
    negativeWeight: Float32Array.from(negative, (_, i) => selection.negativeWeight[i] ?? 1),
    estimate,
  };
}

/**
 * How hard each negative moves the normalised anchor, |gradient|·√(1 − c²): synthetic ones after the keys.
 * @param {Similarities} s
 * @param {Selection} selection
 * @param {number} temperature
 * @param {Form} form
 * @returns {Float64Array}
 */
export function pushOf(s, selection, temperature, form) {
  const terms = termsOf(s, selection);
  const { byNegative } = lossGradients(terms, temperature, form);
  return byNegative.map((each, i) => {
    const cosine = terms.negative[i];
    return Math.abs(each) * Math.sqrt(Math.max(0, (1 - cosine) * (1 + cosine)));
  });
}

/**
 * Each key's share of the whole push across the anchor; synthetic negatives hold what is left of 1. Zeros where
 * nothing pushes.
 * @param {Similarities} s
 * @param {Selection} selection
 * @param {number} temperature
 * @param {Form} form
 * @returns {Float32Array}
 */
export function pushShares(s, selection, temperature, form) {
  const push = pushOf(s, selection, temperature, form);
  const total = sumOf(push);
  return s.anchorKeys.map((_, i) => (total > 0 ? push[i] / total : 0));
}

/**
 * Each key's share of the push if every key were kept and none mined.
 * @param {Similarities} s
 * @param {number} temperature
 * @returns {Float32Array}
 */
export function plainShares(s, temperature) {
  return remembered(s, `plain ${temperature}`, () => {
    const kept = Float32Array.from(othersOf(s));
    return pushShares(s, negativesOnly(new Int8Array(0), kept), temperature, "sep");
  });
}
