// @ts-check
/** The user's actions, each a function from a state to the next. */

import { BAND, keptOf } from "../engine/bands.js";
import { hasEdges, moveEdge } from "../engine/edges.js";
import { rankedOtherwise, withNegatives } from "../engine/moves.js";
import { orderByScore } from "../engine/order.js";
import { drawPerKey } from "../engine/similarities.js";
import { completeRule, freshRule, sideOf } from "../engine/state.js";

/** @typedef {import("../engine/state.js").State} State */
/** @typedef {import("../engine/judgement.js").Side} Side */
/** @typedef {import("../engine/fields.js").Settings} Settings */
/** @typedef {import("../engine/edges.js").EdgeName} EdgeName */
/** @typedef {import("./scene.js").Scene} Scene */

/**
 * @param {State} state
 * @param {Partial<Side>} changes of the side that the controls move
 * @returns {State}
 */
export function withSide(state, changes) {
  const side = { ...sideOf(state, state.active), ...changes };
  return { ...state, [state.active === "B" && state.b ? "b" : "a"]: side };
}

/** @type {(by: string, drop_closest: number, keep_within: number) => Settings} */
const rankBand = (by, drop_closest, keep_within) =>
  completeRule({ rule: "RankBand", drop_closest, keep_within, by }, "negatives");

/**
 * The rule whose edges are shown and dragged: the band itself, or a band by ranks that selects as a ring does; null
 * where a rule has no edges.
 * @param {Settings} rule
 * @returns {Settings | null}
 */
export function bandOf(rule) {
  if (hasEdges(rule)) return rule;
  if (rule.rule === "AllNegatives") return rankBand("anchor", 0, 1);
  if (rule.rule === "RingNegatives") return rankBand("anchor", rule.inner * rule.outer, rule.outer);
  return null;
}

/**
 * Move an edge; a rule that is no band becomes one.
 * @param {State} state
 * @param {import("./scene.js").Judged} judged its active side
 * @param {EdgeName} name
 * @param {number} value a number of keys for a band by ranks, else a score
 * @returns {State}
 */
export function withEdgeAt(state, { band, edges }, name, value) {
  return band === null || edges === null ? state : withSide(state, { negatives: moveEdge(band, name, value, edges) });
}

/**
 * The rule of a class name; one band in place of another keeps as many keys of this anchor on either side.
 * @param {State} state
 * @param {Scene} scene
 * @param {"positives" | "negatives"} kind
 * @param {string} name
 * @returns {State}
 */
export function withRuleNamed(state, scene, kind, name) {
  const { side, similarities } = scene.shown;
  const rule = freshRule(name, kind);
  return withSide(state, kind === "negatives" ? withNegatives(similarities, side, rule) : { positives: rule });
}

/**
 * One setting of a side's rule, by the name of its field.
 * @param {State} state
 * @param {Scene} scene
 * @param {"positives" | "negatives"} kind
 * @param {string} field
 * @param {any} value
 * @returns {State}
 */
export function withSetting(state, scene, kind, field, value) {
  const { side, similarities } = scene.shown;
  if (kind === "negatives" && field === "by" && hasEdges(side.negatives)) {
    return withSide(state, rankedOtherwise(similarities, side, value));
  }
  return withSide(state, { [kind]: completeRule({ ...side[kind], [field]: value }, kind) });
}

/** @typedef {"all" | "middle" | "ring" | "tenth" | "chance"} PresetName */
/** Presets of rules, in their order. */
export const PRESETS = /** @type {[PresetName, string][]} */ ([
  ["all", "Keep all"],
  ["middle", "Middle band"],
  ["ring", "Ring"],
  ["tenth", "Closest tenth"],
  ["chance", "As many by chance"],
]);

/**
 * The rule of a preset. Bands keep what they rank by, so that the axis stays as it is.
 * @param {PresetName} name
 * @param {Scene} scene
 * @returns {Settings}
 */
export function presetRule(name, scene) {
  const { side, summary, similarities, judgement } = scene.shown;
  const by = side.negatives.by === "anchor" ? "anchor" : "positive";
  if (name === "all") return rankBand(by, 0, 1);
  if (name === "middle") return scene.a.snapshot.middle ?? rankBand(by, 0.05, 0.5);
  if (name === "ring") return { ...freshRule("RingNegatives", "negatives"), outer: 0.2 };
  if (name === "tenth") return rankBand(by, 0, 0.1);
  if (side.negatives.rule === "RandomNegatives") return side.negatives;
  // mined keys are no negatives, so as many more are drawn as lie among the drawn
  const draws = drawPerKey(similarities);
  let [wanted, drawn] = [Math.max(1, keptOf(summary.keys)), 0];
  for (const place of orderByScore(draws, similarities.own)) {
    if (wanted === 0) break;
    drawn++;
    if (judgement.band[place] !== BAND.MINED) wanted--;
  }
  return { ...freshRule("RandomNegatives", "negatives"), share: drawn / draws.length };
}

/**
 * The preset that a rule equals, or null.
 * @param {Settings} rule
 * @param {Scene} scene
 * @returns {PresetName | null}
 */
export function presetOf(rule, scene) {
  if (rule.rule === "AllNegatives") return "all";
  if (rule.rule === "RandomNegatives") return "chance";
  const text = JSON.stringify(rule);
  const is = (/** @type {PresetName} */ name) => name !== "chance" && JSON.stringify(presetRule(name, scene)) === text;
  return PRESETS.find(([name]) => is(name))?.[0] ?? null;
}

/**
 * Start or end the comparison of two sides.
 * @param {State} state
 * @returns {State}
 */
export function withComparison(state) {
  if (state.b === null) return { ...state, b: state.a, active: "B", colour: "difference" };
  return { ...state, b: null, active: "A", colour: state.colour === "difference" ? "band" : state.colour };
}

/**
 * Classes shown or hidden; colours by class go with them.
 * @param {State} state
 * @param {boolean} truth
 * @returns {State}
 */
export function withTruth(state, truth) {
  return { ...state, truth, colour: !truth && state.colour === "class" ? "band" : state.colour };
}
