// @ts-check
/** The sentences of the page, and formats of numbers. */

import { BAND, keptOf } from "../engine/bands.js";
import { sumOf } from "../engine/order.js";

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("./scene.js").Judged} Judged */
/** @typedef {import("../engine/edges.js").Edges} Edges */
/** @typedef {import("../engine/edges.js").EdgeName} EdgeName */
/** @typedef {import("../engine/intervals.js").Share} Share */
/** @typedef {import("../engine/census.js").Census} Census */
/** A piece of a sentence: plain text, or text that names a band by its code, or a number that leads. */
/** @typedef {string | {text: string, band?: number, strong?: boolean}} Piece */

/** Symbols by code of `BAND`. */
export const SYMBOLS = ["○", "●", "◆", "▲", "★", "✕", "◇"];
/** Names by code of `BAND`. */
export const NAMES = ["its own", "too easy", "pushed away", "suspected", "mined", "left out", "pushed less"];
/** @param {number} code of `BAND` */
export const bandName = (code) => `${SYMBOLS[code]} ${NAMES[code]}`;

export const ONLY_PYTHON = "Only Python counts what this rule does: explorer.anchors(). ";

const NUMBERS = new Intl.NumberFormat("en-US");

/** @param {number} value a whole number */
export const count = (value) => NUMBERS.format(value);

/**
 * A share in percent with at most one digit after the point; number and sign stay on one line.
 * @param {number} share
 */
export function percent(share) {
  if (!Number.isFinite(share)) return "–";
  const value = 100 * share;
  if (value > 0 && value < 0.05) return "<\u00a00.1\u00a0%";
  return `${Number(value.toFixed(1))}\u00a0%`;
}

/**
 * A share with its 95 % interval.
 * @param {Share} share
 */
export function interval(share) {
  return `${percent(share.value)} (${percent(share.low)} to ${percent(share.high)})`;
}

/**
 * A cosine or another score; ∞ where an edge cuts nothing.
 * @param {number} value
 */
export function score(value) {
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  return (Math.round(100 * value) / 100 || 0).toFixed(2).replace("-", "−"); // no −0.00
}

/** @type {(n: number, one: string) => string} */
const plural = (n, one) => `${count(n)} ${one}${n === 1 ? "" : "s"}`;

/** By code of `BAND`: why keys are left out, and what leaves them out where a rule has edges. */
const LEFT_OUT = /** @type {[number, string, string][]} */ ([
  [BAND.HARD, " so close they may show the same thing", "The right edge"],
  [BAND.EASY, " so far they may teach little", "The left edge"],
  [BAND.OTHER, " for a reason other than closeness", "It"],
]);

/**
 * The sentence on what the rule does for this anchor.
 * @param {Judged} judged
 * @returns {Piece[]}
 */
export function answer({ summary, edges, unknown, judgement, side }) {
  if (unknown) return [{ text: unknown, strong: true }];
  const { keys, others, synthetic } = summary;
  const kept = keptOf(keys);
  /** @type {Piece[]} */
  const pieces = [
    "This rule pushes it away from ",
    { text: `${SYMBOLS[BAND.POTENTIAL]} ${count(kept)}`, band: BAND.POTENTIAL },
    ` of ${count(others)}`,
  ];
  if (keys[BAND.SOFTENED]) pieces.push(", ", named(BAND.SOFTENED, keys), " of them less than the others");
  const left = LEFT_OUT.filter(([code]) => keys[code]);
  left.forEach(([code, why], i) => {
    const before = i === 0 ? ". It leaves out " : i === left.length - 1 ? " and " : ", ";
    pieces.push(before, named(code, keys), side.negatives.rule === "RandomNegatives" ? " by chance" : why);
  });
  if (left.length === 0 && edges) pieces.push(". It leaves out none");
  pieces.push(edges ? "." : ". It has no edges to drag.");
  if (keys[BAND.MINED]) pieces.push(" It pulls ", named(BAND.MINED, keys), " closer, as further positives.");
  if (synthetic) pieces.push(` It adds ${plural(synthetic, "synthetic negative")}, which no picture shows.`);
  if (kept === 0 && !synthetic) pieces.push(" Nothing pushes this anchor.");
  const weight = Number(judgement.selection.anchorWeight.toPrecision(6));
  if (weight !== 1) pieces.push(` In the mean of the loss this anchor has the weight ${weight}.`);
  return pieces;
}

/** @type {(code: number, keys: number[]) => Piece} */
const named = (code, keys) => ({ text: `${SYMBOLS[code]} ${count(keys[code])}`, band: code });

/**
 * How many anchors are counted.
 * @param {Census} census
 */
export const anchorsOf = ({ anchors, of }) => `${anchors < of ? `${count(anchors)} of` : "all"} ${count(of)} anchors`;

/**
 * The lines on the classes of this anchor's keys: the main number and its base rate, then what leaving out brings and
 * costs.
 * @param {Judged} judged
 * @param {Census} [census] of its rule
 * @returns {Piece[]}
 */
export function truth({ summary, edges, snapshot, judgement }, census) {
  const { keys, same, others } = summary;
  if (same === null || snapshot.anchorLabels[judgement.similarities.place] < 0) return ["It has no label."];
  const kept = keptOf(keys);
  const falseKept = keptOf(same);
  const all = sumOf(same);
  /** @type {Piece[]} */
  const pieces = [
    `For this ${snapshot.anchorNoun}, `,
    { text: `${count(falseKept)} of the ${count(kept)} (${percent(falseKept / kept)})`, strong: true },
    ` that it is pushed away from are of its own class (marked =), false negatives; by chance ${percent(all / others)}.`,
  ];
  for (const [code, , edge] of LEFT_OUT) {
    if (!keys[code]) continue;
    const lost = keys[code] - same[code];
    const push = sumOf(judgement.plain.filter((_, i) => judgement.band[i] === code));
    const gain = `, ${percent(push)} of the push: ${plural(same[code], "false negative")}; its cost is `;
    const cost = `${count(lost)} of other classes (${percent(lost / keys[code])})`;
    const all = code === BAND.HARD && census?.anchors;
    const over = all ? `; over ${anchorsOf(census)}, ${percent(1 - census.sameByBand[code].value)}.` : ".";
    pieces.push(`\n${edges ? edge : "It"} leaves out `, named(code, keys), gain, cost, over);
  }
  const [mined, right] = [keys, same].map((counts) => counts[BAND.MINED]);
  const words = ` mined, ${count(right)} (${percent(right / mined)}) are of its class.`;
  if (mined) pieces.push("\nOf ", named(BAND.MINED, keys), words);
  return pieces;
}

/**
 * How far two sides agree.
 * @param {Int8Array} difference
 */
export function agreement(difference) {
  const counts = [0, 0, 0, 0];
  for (const code of difference) counts[code]++;
  return `Pushed away by both ${count(counts[1])}, by A only ${count(counts[2])}, by B only ${count(counts[3])}.`;
}

/**
 * The text of an edge: number of images, share and score.
 * @param {EdgeName} name
 * @param {Edges} edges
 * @param {Judged} judged
 * @returns {{short: string, lines: string[]}}
 */
export function edgeWords(name, edges, { judgement, snapshot, summary }) {
  const { others } = summary; // own keys rank last, and are no negatives whatever the edges
  const closest = name === "closest";
  const cut = closest ? Math.min(edges.closest, others) : Math.max(0, others - edges.beyond);
  const at = closest ? `≥ ${score(edges.closestScore)}` : `< ${score(edges.beyondScore)}`;
  const share = edges[name] / edges.keys;
  const sums = judgement.profile.mined;
  const mined = closest ? sums[cut] : sums[others] - sums[others - cut];
  const among = mined ? `, ${count(mined)} mined` : "";
  if (cut === 0) return { short: "none", lines: [`every ${snapshot.noun} is within`] };
  const short = closest ? `the closest ${percent(share)}` : `the farthest ${percent(1 - share)}`;
  return { short, lines: [`${plural(cut, snapshot.noun)}${among}`, `${edges.measure} ${at}`] };
}

/**
 * A rule as Python writes it: what differs from the class's defaults.
 * @param {import("../engine/fields.js").Settings} rule
 * @param {Record<string, import("../engine/fields.js").Field>} fields
 */
export function pythonOf(rule, fields) {
  const said = Object.entries(rule)
    .filter(([name, value]) => name !== "rule" && fields[name]?.fallback !== value && value !== null)
    .map(([name, value]) => `${name}=${pythonValue(value)}`);
  return `${rule.rule}(${said.join(", ")})`;
}

/** @param {any} value */
function pythonValue(value) {
  if (typeof value === "boolean") return value ? "True" : "False";
  return typeof value === "number" ? String(Number(value.toPrecision(6))) : JSON.stringify(value);
}
