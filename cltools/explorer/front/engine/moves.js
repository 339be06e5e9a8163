// @ts-check
/** A side with one control moved: another rule, another measure; after `explorer/state.py`. */

import { convertEdges, edgesOf, hasEdges, widened } from "./edges.js";
import { refuse } from "./fields.js";
import { rankedBy } from "./negatives.js";
import { rankingBy } from "./similarities.js";

/** @typedef {import("./similarities.js").Similarities} Similarities */
/** @typedef {import("./judgement.js").Side} Side */
/** @typedef {import("./fields.js").Settings} Settings */

/**
 * A side's edges for an anchor.
 * @param {Similarities} s
 * @param {Side} side
 */
export function edgesNow(s, { negatives, temperature }) {
  if (!hasEdges(negatives)) refuse(`${negatives.rule} has no edges; choose a band first.`);
  return edgesOf(negatives, rankingBy(s, rankedBy(negatives), temperature).ranked, s.anchorPositive);
}

/**
 * The side with a band whose edges keep as many keys of this anchor as the present ones.
 * @param {Similarities} s
 * @param {Side} side
 * @param {Settings} rule
 * @returns {Side}
 */
function inPlace(s, side, rule) {
  const free = widened(rule);
  const { ranked } = rankingBy(s, rankedBy(free), side.temperature);
  return { ...side, negatives: convertEdges(free, edgesNow(s, side), ranked) };
}

/**
 * The side with another rule for negatives. A new band keeps as many keys on either side of each edge, and what it
 * ranks by.
 * @param {Similarities} s
 * @param {Side} side
 * @param {Settings} rule complete
 * @returns {Side}
 */
export function withNegatives(s, side, rule) {
  const old = side.negatives;
  if (!hasEdges(rule) || !hasEdges(old) || rule.rule === old.rule) return { ...side, negatives: rule };
  const ranksAlike = "by" in rule && (old.by === "positive" || old.by === "anchor");
  return inPlace(s, side, ranksAlike ? { ...rule, by: old.by } : rule);
}

/**
 * The side with a band that ranks by something else; its edges keep as many keys.
 * @param {Similarities} s
 * @param {Side} side
 * @param {string} by
 * @returns {Side}
 */
export function rankedOtherwise(s, side, by) {
  return inPlace(s, side, { ...side.negatives, by });
}
