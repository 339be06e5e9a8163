// @ts-check
/** Every built-in rule for negatives, by class name: its settings, and which keys it keeps with what weight. */

import { BAND, bandsOfCut, cutAtRanks, rankCount, scoreAtRank } from "./bands.js";
import {
  atLeast,
  BELOW_ONE,
  between,
  choice,
  edgesOverTime,
  FINITE,
  flag,
  moving,
  optional,
  real,
  SHARE,
  SOME_SHARE,
  whole,
} from "./fields.js";
import { mixedCosines } from "./mixtures.js";
import { INFINITE, orderByScore, rankedScores, sumOf } from "./order.js";
import { drawPerKey, rankingBy, whyNoClasses } from "./similarities.js";

/** @typedef {import("./similarities.js").Similarities} Similarities */
/** @typedef {import("./similarities.js").By} By */
/** @typedef {import("./fields.js").Settings} Settings */
/** @typedef {import("./fields.js").Field} Field */
/**
 * How the negatives' mass is estimated: tilt, assumed share of false negatives, and whether the tilt is constant.
 * @typedef {{beta: number, tauPlus: number, detach: boolean}} Estimate
 */
/**
 * Which keys are neither own nor mined, which are kept so far, and the loss's temperature.
 * @typedef {{eligible: Uint8Array, kept: Uint8Array, temperature: number}} Context
 */
/**
 * A rule for negatives. What is left out is as the base class has it: weights of 1, nothing synthetic, no estimate.
 * @typedef {object} NegativeRule
 * @property {Record<string, Field>} fields
 * @property {(rule: Settings) => string} [fault] what is wrong with settings in their ranges; empty if nothing
 * @property {By} [by] what its edges cut, where it has no setting for that
 * @property {(s: Similarities, rule: Settings) => string} [unknown] why it cannot be answered; empty if it can
 * @property {(rule: Settings, ranked: Float32Array, anchorPositive: number) => import("./bands.js").Cut} [cut] where
 *   its edges cut the scores by which it ranks
 * @property {(s: Similarities, rule: Settings, temperature: number) => Int8Array} [judge] EASY, POTENTIAL, HARD, OTHER
 *   of a rule that cuts nothing; it keeps all without
 * @property {(s: Similarities, rule: Settings, context: Context) => Float32Array} [weigh] by its setting
 *   `rescale` without
 * @property {boolean} [softens] whether a kept key of weight below 1 is SOFTENED
 * @property {(s: Similarities, rule: Settings, kept: Uint8Array) => Float32Array | null} [synthesise] cosines of
 *   synthetic negatives with the anchor
 * @property {(rule: Settings) => Estimate} [estimate]
 * @property {(s: Similarities, rule: Settings, context: Context) => number} [weighAnchor]
 */

/** @type {Estimate} */
export const NEUTRAL = Object.freeze({ beta: 0, tauPlus: 0, detach: true });

/**
 * What is wrong with two edges between which a rule acts, where they end and where they start.
 * @param {Settings} rule
 * @param {string} first
 * @param {string} last
 * @param {number} [least] rank shares reach from 0, cosines from −1
 * @param {string} [words]
 */
function orderFault(rule, first, last, least = 0, words = "they must satisfy 0") {
  for (const [from, to] of edgesOverTime(rule, first, last)) {
    const [low, high] = [from ?? least, to ?? 1];
    if (!(least <= low && low < high && high <= 1)) {
      return `${first} is ${from} and ${last} ${to}; ${words} ≤ ${first} < ${last} ≤ 1.`;
    }
  }
  return "";
}

/** @type {Record<string, NegativeRule>} */
export const NEGATIVE_RULES = {
  AllNegatives: { fields: {} },

  RankBand: {
    fields: {
      drop_closest: real(0.05),
      keep_within: real(0.5),
      by: choice("positive", "anchor", "force"),
      rescale: flag(false),
      ...moving("drop_closest", "keep_within"),
    },
    fault: (rule) => orderFault(rule, "drop_closest", "keep_within"),
    cut: (rule, ranked) => cutAtRanks(ranked, rule.drop_closest, rule.keep_within),
  },

  CosineBand: {
    fields: {
      above: optional(real(0)),
      below: optional(real(null)),
      by: choice("positive", "anchor"),
      rescale: flag(false),
      ...moving("above", "below"),
    },
    fault: (rule) => orderFault(rule, "above", "below", -1, "cosines must satisfy −1"),
    // rounding puts a cosine just outside of [−1, 1], where an edge of −1 must cut nothing
    cut: (rule) => ({ easyBelow: rule.above === -1 ? null : rule.above, hardFrom: rule.below }),
  },

  MarginBand: {
    fields: {
      margin: optional(real(null, between(-2, 2))),
      relative: optional(real(null, FINITE)),
      within: optional(real(null, between(0, 4))),
      rescale: flag(false),
      ...moving("margin", "relative", "within"),
    },
    fault({ margin, relative, within, within_from }) {
      if (margin !== null && relative !== null) {
        return "margin and relative are two forms of one edge; give one and leave one out.";
      }
      const none = within === 0 || within_from === 0;
      return none ? "within is 0, which keeps nothing; give a difference of cosines above 0." : "";
    },
    by: "margin",
    /** Too hard from −margin on, or from −(1 − relative)·|z·z'|. */
    cut(rule, _, anchorPositive) {
      const relative = Math.fround(rule.relative - 1) * Math.abs(anchorPositive);
      const top = rule.relative === null ? Math.fround(-rule.margin) : Math.fround(relative);
      return { easyBelow: rule.within === null ? null : Math.fround(top - Math.fround(rule.within)), hardFrom: top };
    },
  },

  SoftenedBand: {
    fields: {
      margin: real(0.2, between(0, 4)),
      skip_closest: real(0),
      soften_within: real(0.1),
      by: choice("anchor", "positive"),
      ...moving("margin", "skip_closest", "soften_within"),
    },
    fault: (rule) => orderFault(rule, "skip_closest", "soften_within"),
    /** The kept keys of the band weigh e^(−margin/τ). */
    weigh(s, rule, { temperature }) {
      const { score, ranked } = rankingBy(s, rule.by, temperature);
      const softened = Math.exp(-rule.margin / temperature);
      const band = bandsOfCut(score, cutAtRanks(ranked, rule.skip_closest, rule.soften_within));
      return Float32Array.from(band, (code) => (code === BAND.POTENTIAL ? softened : 1));
    },
    softens: true,
  },

  RingNegatives: {
    fields: { inner: real(0.1, BELOW_ONE), outer: real(0.1, SOME_SHARE), ...moving("outer") },
    cut: (rule, ranked) => cutAtRanks(ranked, rule.inner * rule.outer, rule.outer),
  },

  CancelFalseNegatives: {
    fields: { k: whole(10, atLeast(1)), min_cosine: real(0.7), by: choice("either", "positive", "anchor") },
    cut(rule, ranked) {
      const edge = scoreAtRank(ranked, Math.min(rule.k, ranked.length));
      return { easyBelow: null, hardFrom: Math.max(edge, Math.fround(rule.min_cosine)) };
    },
  },

  LearnedThreshold: {
    fields: { alpha: real(0.01, BELOW_ONE), start: real(0.35, SHARE) },
    unknown: (s) => (s.threshold === null ? "This snapshot holds no thresholds that it learned." : ""),
    judge(s) {
      const threshold = s.threshold ?? INFINITE;
      return Int8Array.from(s.anchorKeys, (cosine) => (cosine > threshold ? BAND.HARD : BAND.POTENTIAL));
    },
  },

  HardnessWeighted: {
    fields: {
      beta: real(1, FINITE),
      tau_plus: real(0.1, BELOW_ONE),
      detach: flag(true),
      anneal: optional(real(null, SOME_SHARE)),
    },
    estimate: (rule) => ({ beta: rule.beta, tauPlus: rule.tau_plus, detach: rule.detach }),
  },

  Debiased: {
    fields: { tau_plus: real(0.1, BELOW_ONE) },
    estimate: (rule) => ({ ...NEUTRAL, tauPlus: rule.tau_plus }),
  },

  MixedNegatives: {
    fields: {
      hardest: whole(256, atLeast(1)),
      pairs: whole(128, atLeast(0)),
      with_anchor: whole(64, atLeast(0)),
      start: real(0.1, SHARE),
    },
    synthesise: mixedCosines,
  },

  RandomNegatives: {
    fields: { share: real(0.5, SOME_SHARE), rescale: flag(false), ...moving("share") },
    judge(s, rule) {
      const draw = drawPerKey(s);
      const ranked = rankedScores(draw, orderByScore(draw, s.own), s.own);
      const edge = scoreAtRank(ranked, rankCount(rule.share, draw.length));
      return Int8Array.from(draw, (each) => (each < edge ? BAND.OTHER : BAND.POTENTIAL));
    },
  },

  OracleNegatives: {
    fields: { share: real(1, SHARE), rescale: flag(false) },
    unknown: whyNoClasses,
    judge(s, rule) {
      const share = Math.fround(rule.share);
      // draws are below 1, which drops all of the class
      return Int8Array.from(drawPerKey(s), (draw, i) =>
        s.sameClass?.[i] && draw < share ? BAND.OTHER : BAND.POTENTIAL,
      );
    },
  },

  DifficultAnchors: {
    fields: {
      min_cosine: real(0.7, between(-1, 1)),
      tolerated: real(0.05, SHARE),
      anchor_weight: real(0, SHARE),
      by: choice("anchor", "positive"),
    },
    weighAnchor(s, rule, { eligible, temperature }) {
      const { score } = rankingBy(s, rule.by, temperature);
      const least = Math.fround(rule.min_cosine);
      const close = sumOf(eligible.filter((_, i) => score[i] >= least));
      return close > rankCount(rule.tolerated, score.length) ? Math.fround(rule.anchor_weight) : 1;
    },
  },
};

/**
 * What a rule's edges cut, or what keys are best shown by: the cosine to the anchor for rules that rank nothing.
 * @param {Settings} rule
 * @returns {By}
 */
export function rankedBy(rule) {
  if (Object.hasOwn(NEGATIVE_RULES, rule.rule)) return NEGATIVE_RULES[rule.rule].by ?? rule.by ?? "anchor";
  return rule.by === "positive" || rule.by === "either" ? rule.by : "anchor"; // of a rule that only Python knows
}

/**
 * The cuts of a rule in its ranking; null for rules that choose differently.
 * @param {Settings} rule
 * @param {Float32Array} ranked the scores by which it ranks, largest first, own keys last at −∞
 * @param {number} anchorPositive z·z'
 */
export function cutOf(rule, ranked, anchorPositive) {
  return NEGATIVE_RULES[rule.rule]?.cut?.(rule, ranked, anchorPositive) ?? null;
}

/**
 * Weights of the kept keys; null for ones. If `rescale`, they weigh (keys neither own nor mined) / (keys kept).
 * @param {Similarities} s
 * @param {Settings} rule
 * @param {Context} context
 * @returns {Float32Array | null}
 */
export function weightsOf(s, rule, context) {
  const { weigh } = NEGATIVE_RULES[rule.rule];
  if (weigh) return weigh(s, rule, context);
  const weight = sumOf(context.eligible) / Math.max(1, sumOf(context.kept));
  return rule.rescale ? Float32Array.from(context.kept, (kept) => kept * weight) : null;
}

/**
 * Codes EASY, POTENTIAL, HARD and OTHER, regardless of own and mined keys.
 * @param {Similarities} s
 * @param {Settings} rule
 * @param {number} temperature
 * @returns {Int8Array}
 */
export function judgedBands(s, rule, temperature) {
  const { score, ranked } = rankingBy(s, rankedBy(rule), temperature);
  const cut = cutOf(rule, ranked, s.anchorPositive);
  if (cut !== null) return bandsOfCut(score, cut);
  return NEGATIVE_RULES[rule.rule].judge?.(s, rule, temperature) ?? new Int8Array(s.own.length).fill(BAND.POTENTIAL);
}
