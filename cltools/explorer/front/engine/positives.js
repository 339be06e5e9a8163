// @ts-check
/** Every built-in rule for positives, by class name: which keys are positives beside the augmented view. */

import { ABOVE_ZERO, atLeast, choice, kind, optional, real, SHARE, whole } from "./fields.js";
import { INFINITE, orderByScore, sumOf } from "./order.js";
import { drawPerKey, othersOf, rankingBy, whyNoClasses } from "./similarities.js";

/** @typedef {import("./similarities.js").Similarities} Similarities */
/** @typedef {import("./fields.js").Settings} Settings */
/** @typedef {import("./fields.js").Field} Field */
/**
 * Candidates and weights: of the augmented view first, then of each candidate. They sum to 1.
 * @typedef {{index: Int32Array, weight: Float32Array}} Mined
 */
/**
 * @typedef {object} PositiveRule
 * @property {Record<string, Field>} fields
 * @property {(rule: Settings) => string} [fault] what is wrong with settings in their ranges; empty if nothing
 * @property {(s: Similarities, rule: Settings) => string} [unknown] why it cannot be answered; empty if it can
 * @property {(s: Similarities, rule: Settings) => [Int32Array, Float32Array]} mine candidates, and their shares of what
 *   the augmented view leaves: they sum to 1, or to 0 where nothing is accepted
 */

/** A weight that equals the gate up to float32 rounding passes it. */
const ROUNDING = 1e-6;

const weightOrMean = kind(
  (value) => typeof value === "number" || value === "mean",
  "must be a number, or must be one of mean",
);

/**
 * What every positive rule has beside its own settings.
 * @type {Record<string, Field>}
 */
const WARM_UP = { start: real(0.1, SHARE), ramp: real(0.05, SHARE), strength: real(1, SHARE) };

/** @returns {Mined} */
export function nothingMined() {
  return { index: new Int32Array(0), weight: Float32Array.of(1) };
}

/**
 * Softmax over the accepted, 0 elsewhere; 0 throughout if none is. Each step is rounded to float32, as in Python.
 * @param {Float32Array} logits
 * @param {ArrayLike<number>} accepted 0 where not
 * @returns {Float32Array}
 */
function softmaxOver(logits, accepted) {
  const top = logits.reduce((most, logit, i) => (accepted[i] ? Math.max(most, logit) : most), -INFINITE);
  const mass = logits.map((logit, i) => (accepted[i] ? Math.exp(Math.fround(logit - top)) : 0));
  const whole = Math.max(Math.fround(sumOf(mass)), 2 ** -126);
  return mass.map((each) => each / whole);
}

/**
 * Each candidate's share of the mined weight.
 * @param {Settings} rule of `NearestKeys`
 * @param {Float32Array} score of the candidates
 * @param {Uint8Array} candidate 0 where it is an own key
 */
function candidateShares(rule, score, candidate) {
  const logits = score.map((each) => each / Math.fround(rule.temperature));
  const soft = softmaxOver(logits, candidate);
  const least = rule.min_weight === "mean" ? 1 / rule.k : rule.min_weight;
  const accepted = candidate.map((each, i) => {
    const close = rule.min_cosine === null || score[i] >= Math.fround(rule.min_cosine);
    const heavy = least === null || soft[i] >= Math.fround(least * (1 - ROUNDING));
    return each && close && heavy ? 1 : 0;
  });
  return softmaxOver(rule.weighting === "uniform" ? new Float32Array(score.length) : logits, accepted);
}

/** @type {Record<string, PositiveRule>} */
export const POSITIVE_RULES = {
  AugmentedView: {
    fields: WARM_UP,
    fault(rule) {
      const given = Object.keys(WARM_UP).find((name) => rule[name] !== WARM_UP[name].fallback);
      return given ? `${given} has no meaning, because nothing is mined; leave it out.` : "";
    },
    mine: () => [new Int32Array(0), new Float32Array(0)],
  },

  NearestKeys: {
    fields: {
      ...WARM_UP,
      k: whole(5, atLeast(1)),
      skip: whole(0, atLeast(0)),
      weighting: choice("softmax", "uniform"),
      min_cosine: optional(real(null)),
      min_weight: optional(weightOrMean(null, SHARE)),
      augmented_share: optional(real(0.5, SHARE)),
      temperature: real(0.1, ABOVE_ZERO),
      by: choice("positive", "anchor", "either"),
      pick: optional(whole(null)),
    },
    fault: ({ pick }) => (pick === null || pick >= 1 ? "" : `pick is ${pick}; it must be at least 1.`),
    mine(s, rule) {
      const { order, score } = rankingBy(s, rule.by, 1);
      let index = order.subarray(rule.skip, rule.skip + rule.k);
      if (rule.pick !== null && rule.pick < index.length) {
        const draw = drawPerKey(s);
        const draws = Float32Array.from(index, (place) => (s.own[place] ? -1 : draw[place]));
        const drawn = orderByScore(draws, new Uint8Array(index.length)).subarray(0, rule.pick);
        index = drawn.map((column) => index[column]);
      }
      const candidate = Uint8Array.from(index, (place) => 1 - s.own[place]);
      const scores = Float32Array.from(index, (place) => score[place]);
      return [index, candidateShares(rule, scores, candidate)];
    },
  },

  EveryKey: {
    fields: { ...WARM_UP, temperature: real(0.05, ABOVE_ZERO), augmented_share: real(0.5, SHARE) },
    mine(s, rule) {
      const logits = s.positiveKeys.map((cosine) => cosine / Math.fround(rule.temperature));
      return [Int32Array.from(s.own.keys()), softmaxOver(logits, othersOf(s))];
    },
  },

  OraclePositives: {
    fields: {
      ...WARM_UP,
      k: optional(whole(5, { ...atLeast(1), words: "be at least 1, or null for all of the class" })),
      purity: real(1, SHARE),
      right: choice("nearest", "random"),
      wrong: choice("nearest", "random"),
      augmented_share: optional(real(0.5, SHARE)),
    },
    fault: ({ k, purity }) =>
      k === null && purity !== 1
        ? `purity is ${purity} of every key of the class; say how many keys are mined (k).`
        : "",
    unknown: whyNoClasses,
    mine(s, rule) {
      /** @type {(how: string, same: number, count: number) => Int32Array} */
      const taken = (how, same, count) => {
        const order = how === "nearest" ? rankingBy(s, "positive", 1).order : orderByScore(drawPerKey(s), s.own);
        return order.filter((place) => !s.own[place] && s.sameClass?.[place] === same).subarray(0, count);
      };
      const right = rule.k === null ? s.own.length : Math.floor(rule.purity * rule.k + 0.5);
      const index = Int32Array.of(
        ...taken(rule.k === null ? "nearest" : rule.right, 1, right),
        ...taken(rule.wrong, 0, rule.k === null ? 0 : rule.k - right),
      );
      return [index, new Float32Array(index.length).fill(1 / index.length)];
    },
  },
};

/**
 * What a rule mines, its strength applied. Candidates share 1 − `augmented_share`; null: the augmented view is one among
 * those with a share above 0. Where nothing is accepted it has weight 1.
 * @param {Similarities} s
 * @param {Settings} rule
 * @returns {Mined}
 */
export function mine(s, rule) {
  if (rule.strength === 0 || s.own.length === 0) return nothingMined();
  const [index, shares] = POSITIVE_RULES[rule.rule].mine(s, rule);
  const accepted = shares.filter((share) => share > 0).length;
  const left = rule.augmented_share === null ? accepted / (1 + accepted) : accepted && 1 - rule.augmented_share;
  const mined = Math.fround(left);
  const weight = Float32Array.from([1 - mined, ...shares.map((share) => mined * share)]);
  if (rule.strength === 1) return { index, weight };
  const f = Math.fround;
  const strength = f(rule.strength);
  return { index, weight: weight.map((each, i) => (i ? strength * each : 1 - f(strength * f(1 - each)))) };
}
