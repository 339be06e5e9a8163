// @ts-check
/** Every built-in rule for negatives, by class name: its settings, and which keys it keeps with what weight. */

import { BAND, bandsOfCut, cutAtRanks, rankCount, scoreAtRank } from "./bands.js";
import { annealFault, choice, edgesOverTime, flag, optional, real, shareFault, whole } from "./fields.js";
import { mixedCosines } from "./mixtures.js";
import { orderByScore, rankedScores } from "./order.js";
import { drawPerKey, rankingBy } from "./similarities.js";

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
 * @property {(rule: Settings) => string} [fault] what is wrong with settings of the right types; empty if nothing
 * @property {(rule: Settings) => By} [by] what its edges cut, or what keys are best shown by
 * @property {(s: Similarities, rule: Settings) => string} [unknown] why it cannot be answered; empty if it can
 * @property {(rule: Settings, ranked: Float32Array, anchorPositive: number) => import("./bands.js").Cut} [cut] where
 *   its edges cut the scores by which it ranks; a rule without it has `judge`
 * @property {(s: Similarities, rule: Settings, temperature: number) => Int8Array} [judge] EASY, POTENTIAL, HARD, OTHER
 * @property {(s: Similarities, rule: Settings, context: Context) => Float32Array | null} [weigh] null for ones
 * @property {boolean} [softens] whether a kept key of weight below 1 is SOFTENED
 * @property {(s: Similarities, rule: Settings, kept: Uint8Array) => Float32Array | null} [synthesise] cosines of
 *   synthetic negatives with the anchor
 * @property {(rule: Settings) => Estimate} [estimate]
 * @property {(s: Similarities, rule: Settings, context: Context) => number} [weighAnchor]
 */

/** @type {Estimate} */
export const NEUTRAL = Object.freeze({ beta: 0, tauPlus: 0, detach: true });

/** @param {Similarities} s */
function keepAll(s) {
  return new Int8Array(s.own.length).fill(BAND.POTENTIAL);
}

/**
 * OTHER where a key is dropped for a reason that is not similarity.
 * @param {Similarities} s
 * @param {(place: number) => boolean} dropped
 */
function dropWhere(s, dropped) {
  return keepAll(s).map((code, i) => (dropped(i) ? BAND.OTHER : code));
}

/**
 * @param {Uint8Array} marks of 0 and 1
 */
function countMarks(marks) {
  let count = 0;
  for (let i = 0; i < marks.length; i++) count += marks[i];
  return count;
}

/**
 * If `rescale`, the kept weigh (keys neither own nor mined) / (keys kept).
 * @param {Similarities} _
 * @param {Settings} rule
 * @param {Context} context
 */
function rescaled(_, rule, context) {
  if (!rule.rescale) return null;
  const weight = countMarks(context.eligible) / Math.max(1, countMarks(context.kept));
  return Float32Array.from(context.kept, (kept) => kept * weight);
}

/**
 * The class that labels tell; without labels there is none.
 * @param {Similarities} s
 */
function unlabelledFault(s) {
  return s.sameClass === null ? "It reads classes, and some of these images have no label." : "";
}

/** Start and end of edges that are numbers. */
const ANNEAL = 0.5;
/** @param {string[]} edges */
const from = (...edges) => Object.fromEntries(edges.map((edge) => [`${edge}_from`, optional(real(null))]));

/**
 * What is wrong with an edge that starts somewhere and is not there in the end; empty if nothing.
 * @param {Settings} rule
 * @param {...string} edges
 */
function moveFault(rule, ...edges) {
  const lost = edges.find((edge) => rule[edge] === null && rule[`${edge}_from`] !== null);
  return lost ? `${lost}_from is given without ${lost}; say where the edge ends.` : "";
}

/**
 * Score from which a key is too hard for a `MarginBand`: −margin, or −(1 − relative)·|z·z'|.
 * @param {Settings} rule
 * @param {number} anchorPositive z·z'
 */
export function marginTop(rule, anchorPositive) {
  if (rule.relative === null) return Math.fround(-rule.margin);
  return Math.fround(Math.fround(rule.relative - 1) * Math.abs(anchorPositive));
}

/** @type {Record<string, NegativeRule>} */
export const NEGATIVE_RULES = {
  AllNegatives: { fields: {}, judge: keepAll },

  RankBand: {
    fields: {
      drop_closest: real(0.05),
      keep_within: real(0.5),
      by: choice("positive", "anchor", "force"),
      rescale: flag(false),
      ...from("drop_closest", "keep_within"),
      anneal: real(ANNEAL),
    },
    fault(rule) {
      for (const [closest, within] of edgesOverTime(rule, "drop_closest", "keep_within")) {
        if (!(0 <= closest && closest < within && within <= 1)) {
          return `drop_closest is ${closest} and keep_within ${within}; they must satisfy 0 ≤ drop_closest < keep_within ≤ 1.`;
        }
      }
      return annealFault(rule, ANNEAL, "drop_closest", "keep_within");
    },
    by: (rule) => rule.by,
    cut: (rule, ranked) => cutAtRanks(ranked, rule.drop_closest, rule.keep_within),
    weigh: rescaled,
  },

  CosineBand: {
    fields: {
      above: optional(real(0)),
      below: optional(real(null)),
      by: choice("positive", "anchor"),
      rescale: flag(false),
      ...from("above", "below"),
      anneal: real(ANNEAL),
    },
    fault(rule) {
      for (const [above, below] of edgesOverTime(rule, "above", "below")) {
        const low = above ?? -1;
        const high = below ?? 1;
        if (!(-1 <= low && low < high && high <= 1)) {
          return `above is ${above} and below ${below}; cosines must satisfy −1 ≤ above < below ≤ 1.`;
        }
      }
      return moveFault(rule, "above", "below") || annealFault(rule, ANNEAL, "above", "below");
    },
    by: (rule) => rule.by,
    // rounding puts a cosine just outside of [−1, 1], where an edge of −1 must cut nothing
    cut: (rule) => ({ easyBelow: rule.above === -1 ? null : rule.above, hardFrom: rule.below }),
    weigh: rescaled,
  },

  MarginBand: {
    fields: {
      margin: optional(real(null)),
      relative: optional(real(null)),
      within: optional(real(null)),
      rescale: flag(false),
      ...from("margin", "relative", "within"),
      anneal: real(ANNEAL),
    },
    fault(rule) {
      if (rule.margin !== null && rule.relative !== null) {
        return "margin and relative are two forms of one edge; give one and leave one out.";
      }
      const limits = { margin: [-2, 2], relative: [0, Number.MAX_VALUE], within: [0, 4] };
      for (const [name, [low, high]] of Object.entries(limits)) {
        for (const value of [rule[name], rule[`${name}_from`]]) {
          if (value !== null && !(low <= value && value <= high)) {
            return `${name} is ${value}; it must lie between ${low} and ${name === "relative" ? "infinity" : high}.`;
          }
        }
      }
      if (rule.within === 0 || rule.within_from === 0) {
        return "within is 0, which keeps nothing; give a difference of cosines above 0.";
      }
      const edges = ["margin", "relative", "within"];
      return moveFault(rule, ...edges) || annealFault(rule, ANNEAL, ...edges);
    },
    by: () => "margin",
    cut(rule, _, anchorPositive) {
      const top = marginTop(rule, anchorPositive);
      return { easyBelow: rule.within === null ? null : Math.fround(top - Math.fround(rule.within)), hardFrom: top };
    },
    weigh: rescaled,
  },

  SoftenedBand: {
    fields: {
      margin: real(0.2),
      skip_closest: real(0),
      soften_within: real(0.1),
      by: choice("anchor", "positive"),
      ...from("margin", "skip_closest", "soften_within"),
      anneal: real(ANNEAL),
    },
    fault(rule) {
      const edges = ["margin", "skip_closest", "soften_within"];
      for (const [margin, skip, within] of edgesOverTime(rule, ...edges)) {
        if (!(0 <= margin && margin <= 4)) return `margin is ${margin}; it must lie between 0 and 4.`;
        if (!(0 <= skip && skip < within && within <= 1)) {
          return `skip_closest is ${skip} and soften_within ${within}; they must satisfy 0 ≤ skip_closest < soften_within ≤ 1.`;
        }
      }
      return annealFault(rule, ANNEAL, ...edges);
    },
    by: (rule) => rule.by,
    judge: keepAll,
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
    fields: { inner: real(0.1), outer: real(0.1), ...from("outer"), anneal: real(ANNEAL) },
    fault(rule) {
      for (const name of ["outer", "outer_from"]) {
        if (rule[name] !== null && !(0 < rule[name] && rule[name] <= 1)) {
          return `${name} is ${rule[name]}; it must be above 0 and at most 1.`;
        }
      }
      if (!(0 <= rule.inner && rule.inner < 1)) return `inner is ${rule.inner}; it must be at least 0 and below 1.`;
      return annealFault(rule, ANNEAL, "outer");
    },
    cut: (rule, ranked) => cutAtRanks(ranked, rule.inner * rule.outer, rule.outer),
  },

  CancelFalseNegatives: {
    fields: { k: whole(10), min_cosine: real(0.7), by: choice("either", "positive", "anchor") },
    fault: (rule) => (rule.k < 1 ? `k is ${rule.k}; it must be at least 1.` : ""),
    by: (rule) => rule.by,
    cut(rule, ranked) {
      const edge = scoreAtRank(ranked, Math.min(rule.k, ranked.length));
      return { easyBelow: null, hardFrom: Math.max(edge, Math.fround(rule.min_cosine)) };
    },
  },

  LearnedThreshold: {
    fields: { alpha: real(0.01), start: real(0.35) },
    fault(rule) {
      if (!(0 <= rule.alpha && rule.alpha < 1)) return `alpha is ${rule.alpha}; it must be at least 0 and below 1.`;
      return shareFault(rule, "start");
    },
    unknown: (s) => (s.threshold === null ? "This snapshot holds no thresholds that it learned." : ""),
    judge(s) {
      const threshold = s.threshold ?? Number.POSITIVE_INFINITY;
      return Int8Array.from(s.anchorKeys, (cosine) => (cosine > threshold ? BAND.HARD : BAND.POTENTIAL));
    },
  },

  HardnessWeighted: {
    fields: { beta: real(1), tau_plus: real(0.1), detach: flag(true), anneal: optional(real(null)) },
    fault(rule) {
      if (!(0 <= rule.beta && rule.beta < Number.POSITIVE_INFINITY)) {
        return `beta is ${rule.beta}; it must be at least 0 and finite.`;
      }
      if (rule.anneal !== null && !(0 < rule.anneal && rule.anneal <= 1)) {
        return `anneal is ${rule.anneal}; it must be above 0 and at most 1.`;
      }
      return falseShareFault(rule);
    },
    judge: keepAll,
    estimate: (rule) => ({ beta: rule.beta, tauPlus: rule.tau_plus, detach: rule.detach }),
  },

  Debiased: {
    fields: { tau_plus: real(0.1) },
    fault: falseShareFault,
    judge: keepAll,
    estimate: (rule) => ({ ...NEUTRAL, tauPlus: rule.tau_plus }),
  },

  MixedNegatives: {
    fields: { hardest: whole(256), pairs: whole(128), with_anchor: whole(64), start: real(0.1) },
    fault(rule) {
      for (const [name, least] of Object.entries({ hardest: 1, pairs: 0, with_anchor: 0 })) {
        if (rule[name] < least) return `${name} is ${rule[name]}; it must be at least ${least}.`;
      }
      return shareFault(rule, "start");
    },
    judge: keepAll,
    synthesise: mixedCosines,
  },

  RandomNegatives: {
    fields: { share: real(0.5), rescale: flag(false), ...from("share"), anneal: real(ANNEAL) },
    fault(rule) {
      for (const name of ["share", "share_from"]) {
        if (rule[name] !== null && !(0 < rule[name] && rule[name] <= 1)) {
          return `${name} is ${rule[name]}; it must be above 0 and at most 1.`;
        }
      }
      return annealFault(rule, ANNEAL, "share");
    },
    judge(s, rule) {
      const draw = drawPerKey(s);
      const ranked = rankedScores(draw, orderByScore(draw, s.own), s.own);
      const edge = scoreAtRank(ranked, rankCount(rule.share, draw.length));
      return dropWhere(s, (i) => draw[i] < edge);
    },
    weigh: rescaled,
  },

  OracleNegatives: {
    fields: { share: real(1), rescale: flag(false) },
    fault: (rule) => shareFault(rule, "share"),
    unknown: unlabelledFault,
    judge(s, rule) {
      const share = Math.fround(rule.share);
      const draw = drawPerKey(s); // below 1, which drops all of the class
      return dropWhere(s, (i) => s.sameClass !== null && s.sameClass[i] === 1 && draw[i] < share);
    },
    weigh: rescaled,
  },

  DifficultAnchors: {
    fields: {
      min_cosine: real(0.7),
      tolerated: real(0.05),
      anchor_weight: real(0),
      by: choice("anchor", "positive"),
    },
    fault(rule) {
      if (!(-1 <= rule.min_cosine && rule.min_cosine <= 1)) {
        return `min_cosine is ${rule.min_cosine}; it must lie between −1 and 1.`;
      }
      return shareFault(rule, "tolerated", "anchor_weight");
    },
    by: (rule) => rule.by,
    judge: keepAll,
    weighAnchor(s, rule, { eligible, temperature }) {
      const { score } = rankingBy(s, rule.by, temperature);
      const least = Math.fround(rule.min_cosine);
      let close = 0;
      for (let i = 0; i < score.length; i++) if (score[i] >= least) close += eligible[i];
      return close > rankCount(rule.tolerated, score.length) ? Math.fround(rule.anchor_weight) : 1;
    },
  },
};

/**
 * What is wrong with an assumed share of false negatives; empty if nothing.
 * @param {Settings} rule
 */
function falseShareFault(rule) {
  return 0 <= rule.tau_plus && rule.tau_plus < 1
    ? ""
    : `tau_plus is ${rule.tau_plus}; it must be at least 0 and below 1.`;
}

/**
 * What a rule's edges cut, or what keys are best shown by: the cosine to the anchor for rules that rank nothing.
 * @param {Settings} rule
 * @returns {By}
 */
export function rankedBy(rule) {
  if (Object.hasOwn(NEGATIVE_RULES, rule.rule)) return NEGATIVE_RULES[rule.rule].by?.(rule) ?? "anchor";
  return rule.by === "positive" || rule.by === "either" ? rule.by : "anchor"; // of a rule that only Python knows
}

/**
 * Where a rule cuts its ranking; null for rules that choose otherwise.
 * @param {Settings} rule
 * @param {Float32Array} ranked the scores by which it ranks, largest first, own keys last at −∞
 * @param {number} anchorPositive z·z'
 */
export function cutOf(rule, ranked, anchorPositive) {
  return NEGATIVE_RULES[rule.rule]?.cut?.(rule, ranked, anchorPositive) ?? null;
}

/**
 * EASY, POTENTIAL, HARD and OTHER, whatever own and mined keys are.
 * @param {Similarities} s
 * @param {Settings} rule
 * @param {number} temperature
 * @returns {Int8Array}
 */
export function judgedBands(s, rule, temperature) {
  const { score, ranked } = rankingBy(s, rankedBy(rule), temperature);
  const cut = cutOf(rule, ranked, s.anchorPositive);
  if (cut !== null) return bandsOfCut(score, cut);
  return NEGATIVE_RULES[rule.rule].judge?.(s, rule, temperature) ?? keepAll(s);
}
