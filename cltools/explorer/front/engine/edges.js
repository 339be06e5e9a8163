// @ts-check
/** The two edges of a band, as ranks and as scores for one anchor, and how either is moved. */

import { rankCount, scoreAtRank } from "./bands.js";
import { checked } from "./fields.js";
import { cutOf, NEGATIVE_RULES } from "./negatives.js";
import { countAtLeast, INFINITE } from "./order.js";

/** @typedef {import("./fields.js").Settings} Settings */
/** @typedef {"closest" | "beyond"} EdgeName */
/**
 * A band's edges for one anchor, in all units.
 * @typedef {object} Edges
 * @property {number} closest keys at or above the upper edge: how many of the closest are dropped
 * @property {number} beyond how many keys are at or above the lower edge; the rest is dropped as easy
 * @property {number} closestScore score from which a key is dropped as suspected; ∞ where none is
 * @property {number} beyondScore score below which it is dropped as easy; −∞ where none is
 * @property {number} keys
 * @property {"rank" | "cosine" | "margin"} unit what the edges are given in
 * @property {string} measure what their scores are, in words
 */

const GAP = 1e-4; // edges that are values stay that far apart: between them lies a band

/**
 * Whether a rule has two edges that can be moved.
 * @param {Settings} rule
 */
export function hasEdges(rule) {
  return ["RankBand", "CosineBand", "MarginBand"].includes(rule.rule);
}

/**
 * The edges of a band for one anchor.
 * @param {Settings} rule
 * @param {Float32Array} ranked the rule's scores of all keys, largest first, own keys last at −∞
 * @param {number} anchorPositive z·z'
 * @returns {Edges}
 */
export function edgesOf(rule, ranked, anchorPositive) {
  const keys = ranked.length;
  const cut = cutOf(rule, ranked, anchorPositive);
  let low = cut?.easyBelow ?? -INFINITE;
  let high = cut?.hardFrom ?? INFINITE;
  const byRank = rule.rule === "RankBand";
  const margin = rule.rule === "MarginBand";
  if (margin && rule.within !== null) low = high - rule.within; // what is moved and shown is not rounded
  if (margin && high >= 2) high = INFINITE;
  const [closest, beyond] = byRank
    ? [rule.drop_closest, rule.keep_within].map((share) => rankCount(share, keys))
    : [high, low].map((score) => countAtLeast(ranked, Math.fround(score)));
  return {
    closest,
    beyond,
    closestScore: high,
    beyondScore: low,
    keys,
    unit: byRank ? "rank" : margin ? "margin" : "cosine",
    measure: margin ? "z·n − z·z'" : rule.by === "force" ? "log force" : "cosine",
  };
}

/**
 * A rule with other settings, if they have a meaning.
 * @param {Settings} rule
 * @param {Settings} settings
 * @returns {Settings}
 */
export function withSettings(rule, settings) {
  return checked(NEGATIVE_RULES[rule.rule], { ...rule, ...settings });
}

/**
 * The rule with edges at these scores; what lies outside of the possible cuts nothing.
 * @param {Settings} rule a `CosineBand` or `MarginBand`
 * @param {number} low
 * @param {number} high
 */
function withScores(rule, low, high) {
  if (rule.rule === "CosineBand") {
    return withSettings(rule, {
      above: low <= -1 ? null : Math.min(low, 1 - GAP),
      below: high > 1 ? null : Math.max(high, GAP - 1),
    });
  }
  const top = Math.max(Math.min(high, 2), GAP - 2); // a margin is a difference of two cosines
  return withSettings(rule, { margin: -top, relative: null, within: low <= -2 ? null : Math.max(top - low, GAP) });
}

/**
 * A whole number, halves to the even one, as Python rounds.
 * @param {number} value
 */
function rounded(value) {
  const nearest = Math.round(value); // which takes every half up
  return nearest - value === 0.5 && nearest % 2 !== 0 ? nearest - 1 : nearest;
}

/**
 * The rule with one edge moved, as far as the other lets it.
 * @param {Settings} rule a band
 * @param {EdgeName} name
 * @param {number} value a number of keys for a `RankBand`, else a score
 * @param {Edges} edges where they stand now
 * @returns {Settings}
 */
export function moveEdge(rule, name, value, edges) {
  const { keys } = edges;
  if (rule.rule === "RankBand") {
    const count = rounded(value);
    return name === "closest"
      ? withSettings(rule, { drop_closest: Math.max(0, Math.min(count, edges.beyond - 1)) / keys })
      : withSettings(rule, { keep_within: Math.min(keys, Math.max(count, edges.closest + 1)) / keys });
  }
  return name === "closest"
    ? withScores(rule, edges.beyondScore, Math.max(value, edges.beyondScore + GAP))
    : withScores(rule, Math.min(value, edges.closestScore - GAP), edges.closestScore);
}

/**
 * The rule with both edges moved at once, because moved one by one they could cross; values as in `moveEdge`.
 * @param {Settings} rule
 * @param {number} closest
 * @param {number} beyond
 * @param {number} keys
 * @returns {Settings}
 */
export function placeEdges(rule, closest, beyond, keys) {
  if (rule.rule !== "RankBand") return withScores(rule, Math.min(beyond, closest - GAP), closest);
  const first = Math.max(0, Math.min(rounded(closest), keys - 1));
  return withSettings(rule, {
    drop_closest: first / keys,
    keep_within: Math.min(keys, Math.max(rounded(beyond), first + 1)) / keys,
  });
}

/**
 * A band without its edges.
 * @param {Settings} rule
 * @returns {Settings}
 */
export function widened(rule) {
  if (rule.rule === "RankBand") return withSettings(rule, { drop_closest: 0, keep_within: 1 });
  return withScores(rule, -INFINITE, INFINITE);
}

/**
 * A band whose edges keep as many keys of one anchor as other edges do.
 * @param {Settings} rule whose kind and other settings stay; its edges are replaced
 * @param {Edges} edges of another band
 * @param {Float32Array} ranked scores by `rule`, as in `edgesOf`
 * @returns {Settings}
 */
export function convertEdges(rule, edges, ranked) {
  if (rule.rule === "RankBand") return placeEdges(rule, edges.closest, edges.beyond, edges.keys);
  let low = edges.beyond < edges.keys ? scoreAtRank(ranked, edges.beyond) : -INFINITE;
  if (rule.rule === "MarginBand" && Number.isFinite(low)) {
    const following = ranked[edges.beyond]; // top − within is rounded: the edge stands between two keys
    low = Number.isFinite(following) ? (low + following) / 2 : low - GAP;
  }
  return placeEdges(rule, scoreAtRank(ranked, edges.closest), low, edges.keys);
}
