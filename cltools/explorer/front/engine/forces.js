// @ts-check
/** The loss's gradient in closed form, and how hard each key pushes; after `cltools.gradients`, in float64. */

import { negativesOnly } from "./select.js";
import { remembered } from "./similarities.js";

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
  const share = new Float64Array(x.length);
  let top = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < x.length; i++) if (weight[i] > 0 && x[i] > top) top = x[i];
  if (top === Number.NEGATIVE_INFINITY) return { log: top, share };
  let sum = 0;
  for (let i = 0; i < x.length; i++) {
    if (weight[i] > 0) sum += share[i] = weight[i] * Math.exp(scale * (x[i] - top));
  }
  const scaled = 1 / sum;
  for (let i = 0; i < x.length; i++) share[i] *= scaled;
  return { log: scale * top + Math.log(sum), share };
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
  let count = 0;
  for (let i = 0; i < negative.length; i++) count += negativeWeight[i];
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
    const rest = log > logFalse ? log + Math.log(-Math.expm1(logFalse - log)) : Number.NEGATIVE_INFINITY;
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
  let byMass = mass.log > Number.NEGATIVE_INFINITY ? 1 : 0;
  let byPositive = Float64Array.from(w, (weight) => -weight);
  if (form === "sep") {
    byPositive = byPositive.map((weight, i) => weight * sigmoid(mass.log - positive[i] / temperature));
    byMass = -byPositive.reduce((sum, each) => sum + each, 0);
  } else if (form === "in") {
    const attracting = weighedSum(positive, w, 1 / temperature);
    byMass = sigmoid(mass.log - attracting.log);
    byPositive = attracting.share.map((share) => -byMass * share);
  } else if (form === "out") {
    const present = Float64Array.from(w, (weight) => (weight > 0 ? 1 : 0));
    const attracting = weighedSum(positive, present, 1 / temperature);
    byMass = sigmoid(mass.log - attracting.log);
    byPositive = attracting.share.map((share, i) => (1 - byMass) * share - w[i]);
  }
  const { byNegative } = mass;
  for (let i = 0; i < byNegative.length; i++) byNegative[i] *= byMass / temperature;
  for (let i = 0; i < byPositive.length; i++) {
    byPositive[i] = (byPositive[i] + byMass * mass.byPositive[i]) / temperature;
  }
  return { byPositive, byNegative };
}

/**
 * Cosines and weights that a selection decides; synthetic negatives stand after the keys.
 * @param {Similarities} s
 * @param {Selection} selection
 * @returns {Terms}
 */
export function termsOf(s, selection) {
  const { positiveIndex, positiveWeight, negativeWeight, synthetic, estimate } = selection;
  const positive = new Float64Array(1 + positiveIndex.length);
  positive[0] = s.anchorPositive;
  for (let i = 0; i < positiveIndex.length; i++) positive[1 + i] = s.anchorKeys[positiveIndex[i]];
  if (synthetic === null) return { positive, positiveWeight, negative: s.anchorKeys, negativeWeight, estimate };
  const keys = s.anchorKeys.length;
  const negative = new Float32Array(keys + synthetic.length);
  negative.set(s.anchorKeys);
  negative.set(synthetic, keys);
  const weight = new Float32Array(negative.length).fill(1);
  weight.set(negativeWeight);
  return { positive, positiveWeight, negative, negativeWeight: weight, estimate };
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
  for (let i = 0; i < byNegative.length; i++) {
    if (byNegative[i] === 0) continue;
    const cosine = terms.negative[i];
    byNegative[i] = Math.abs(byNegative[i]) * Math.sqrt(Math.max(0, (1 - cosine) * (1 + cosine)));
  }
  return byNegative;
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
  const total = push.reduce((sum, each) => sum + each, 0);
  const shares = new Float32Array(s.anchorKeys.length);
  if (total > 0) for (let i = 0; i < shares.length; i++) shares[i] = push[i] / total;
  return shares;
}

/**
 * Each key's share of the push if every key were kept and none mined.
 * @param {Similarities} s
 * @param {number} temperature
 * @returns {Float32Array}
 */
export function plainShares(s, temperature) {
  return remembered(s, `plain ${temperature}`, () => {
    const kept = Float32Array.from(s.own, (own) => 1 - own);
    return pushShares(s, negativesOnly(new Int8Array(0), kept), temperature, "sep");
  });
}
