// @ts-check
/** Why candidates of all anchors are left out, and which settings to loosen, as `cltools.interop.pairs` reports it. */

import { BAND, BANDS, keptOf } from "./bands.js";
import { NEGATIVE_RULES } from "./negatives.js";

/** @typedef {import("./judgement.js").Side} Side */

/** Settings of a band that leave out what is close, and what is far. @type {Record<string, [string, string]>} */
const SETTINGS_OF_EDGES = {
  RankBand: ["drop_closest", "keep_within"],
  CosineBand: ["below", "above"],
  MarginBand: ["margin", "within"],
};

/**
 * By code of `BAND`: the setting of a side's rules that leaves keys out.
 * @param {Side} side
 * @returns {Record<number, string>}
 */
export function settingsOf({ positives, negatives }) {
  const names = Object.keys(NEGATIVE_RULES[negatives.rule]?.fields ?? {});
  const others = names.filter((name) => !/^(rescale|anneal|by|.*_from)$/.test(name)).join(", ") || "the rule";
  const [close, far] = SETTINGS_OF_EDGES[negatives.rule] ?? [others, others];
  const hard = close === "margin" && negatives.margin === null ? "relative" : close;
  return { [BAND.HARD]: hard, [BAND.EASY]: far, [BAND.OTHER]: others, [BAND.MINED]: "k" in positives ? "k" : "mining" };
}

/**
 * Keys of each anchor by code of `BAND`.
 * @param {Int32Array} joined as a census gives them
 */
export function countsOf(joined) {
  return Array.from({ length: joined.length / BANDS }, (_, i) => joined.subarray(i * BANDS, (i + 1) * BANDS));
}

/**
 * How many anchors keep fewer negatives than are wanted, and the settings that cost these most, the first the most.
 * @param {Int32Array} inBands of a census
 * @param {Side} side
 * @param {number} wanted
 */
export function looseningOf(inBands, side, wanted) {
  const short = countsOf(inBands).filter((counts) => keptOf(counts) < wanted);
  const dropped = Object.entries(settingsOf(side)).map(([code, name]) => {
    return { name, count: short.reduce((sum, counts) => sum + counts[Number(code)], 0) };
  });
  const most = dropped.filter(({ count }) => count > 0).sort((a, b) => b.count - a.count);
  return { short: short.length, settings: [...new Set(most.map(({ name }) => name))] };
}
