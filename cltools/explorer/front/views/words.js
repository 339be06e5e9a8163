// @ts-check
/** Every sentence of the page, and numbers as people read them. */

import { BAND, keptOf } from "../engine/bands.js";

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("./scene.js").Judged} Judged */
/** @typedef {import("../engine/edges.js").Edges} Edges */
/** @typedef {import("../engine/edges.js").EdgeName} EdgeName */
/** @typedef {import("../engine/intervals.js").Share} Share */
/** A piece of a sentence: plain text, or text that names a band by its code, or a number that leads. */
/** @typedef {string | {text: string, band?: number, strong?: boolean}} Piece */

/** Symbols by code of `BAND`. */
export const SYMBOLS = Object.freeze(["○", "●", "◆", "▲", "★", "✕", "◇"]);
/** Names by code of `BAND`. */
export const NAMES = Object.freeze([
  "own image",
  "too easy",
  "pushed away",
  "suspected",
  "mined",
  "left out",
  "pushed less",
]);
/** What it means to be one, by code of `BAND`. */
export const MEANINGS = Object.freeze([
  "The anchor's own image is never its negative.",
  "Far from the anchor: pushing it away would teach next to nothing, so the rule leaves it out.",
  "Kept as a negative: the next step would push the anchor away from it.",
  "So close that it may show the same thing, a false negative: the rule leaves it out.",
  "So close that the rule takes it as one more positive: the anchor is pulled towards it.",
  "Left out for no similarity of its own, such as by chance or by its label.",
  "Kept as a negative, at a smaller weight.",
]);
/** @param {number} code of `BAND` */
export const bandName = (code) => `${SYMBOLS[code]} ${NAMES[code]}`;
export const FROZEN =
  "The encoder is frozen. What you change is what its next training step would learn from, not where points lie.";
/** What is shown, and what it tells. */
export const HELP = [
  [
    "The question",
    "The large picture is the anchor. A contrastive loss pulls it towards its positives and pushes it away from its negatives. A rule chooses which of all other images are which.",
  ],
  [
    "The bars",
    "How many images have which closeness to the anchor. What is closer than the right edge is suspected to show the same thing, what is farther than the left one is too easy. Drag them, or use the arrow keys.",
  ],
  [
    "Push",
    "The share of the whole push on the anchor that each image would exert if every one were kept; they sum to 100 percent.",
  ],
  [
    "True classes",
    "Labels are shown, and never used to select. A negative of the anchor's own class is a false negative. Intervals hold 95 percent.",
  ],
  [
    "The map",
    "Every point is an image; close points are mostly alike, and the line below says how far to trust that. Click a point or a picture to make it the anchor.",
  ],
  ["The encoder", FROZEN],
];

const NUMBERS = new Intl.NumberFormat("en-US");

/** @param {number} value a whole number */
export const count = (value) => NUMBERS.format(value);

/**
 * A share in percent with one digit after the point, which is left out where it is 0.
 * @param {number} share
 */
export function percent(share) {
  if (!Number.isFinite(share)) return "–";
  const value = 100 * share;
  if (value !== 0 && Math.abs(value) < 0.05) return value > 0 ? "< 0.1 %" : "0 %";
  return `${Number(value.toFixed(1))} %`;
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
  return Number.isFinite(value) ? value.toFixed(2).replace("-", "−") : value > 0 ? "∞" : "−∞";
}

/** @type {(n: number, one: string, many?: string) => string} */
const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** What the axis shows, by what keys are ranked by. */
export const AXES = Object.freeze({
  positive: "cosine with the anchor's other view",
  anchor: "cosine with the anchor",
  either: "larger cosine with the anchor or its other view",
  force: "log of the force on the anchor",
  margin: "cosine less the positive's cosine",
});

/**
 * What the rule does with this anchor.
 * @param {Judged} judged
 * @returns {Piece[]}
 */
export function answer({ summary, edges, unknown, judgement }) {
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
  /** @type {Piece[][]} */
  const left = [];
  if (keys[BAND.HARD] || edges) left.push([named(BAND.HARD, keys), " so close that they may show the same thing"]);
  if (keys[BAND.EASY] || edges) left.push([named(BAND.EASY, keys), " that are too easy"]);
  if (keys[BAND.OTHER]) left.push([named(BAND.OTHER, keys), " for no similarity of theirs"]);
  if (left.length) pieces.push(". It leaves out ", ...joined(left));
  pieces.push(".");
  if (keys[BAND.MINED]) pieces.push(" It pulls ", named(BAND.MINED, keys), " closer, as further positives.");
  if (synthetic) pieces.push(` It adds ${plural(synthetic, "synthetic negative")}, which no picture shows.`);
  if (kept === 0 && !synthetic) pieces.push(" Nothing pushes this anchor.");
  const weight = Number(judgement.selection.anchorWeight.toPrecision(6));
  if (weight !== 1) pieces.push(` In the mean of the loss this anchor has the weight ${weight}.`);
  return pieces;
}

/** @type {(code: number, keys: number[]) => Piece} */
const named = (code, keys) => ({ text: `${SYMBOLS[code]} ${count(keys[code])}`, band: code });

/** @type {(parts: Piece[][]) => Piece[]} */
function joined(parts) {
  return parts.flatMap((part, i) => (i === 0 ? part : [i === parts.length - 1 ? " and " : ", ", ...part]));
}

/**
 * What the labels say about this anchor's keys; it leads with the one number and its base rate.
 * @param {Judged} judged
 * @returns {Piece[]}
 */
export function truth({ summary, edges }) {
  const { keys, same, others } = summary;
  if (same === null) return [];
  const kept = keptOf(keys);
  const falseKept = keptOf(same);
  const all = same.reduce((sum, each) => sum + each, 0);
  /** @type {Piece[]} */
  const pieces = [
    { text: `${count(falseKept)} of the ${count(kept)} (${percent(falseKept / kept)})`, strong: true },
    ` that it is pushed away from are of its own class (marked =), false negatives; of all ${count(others)} it is ${percent(all / others)}.`,
  ];
  const lost = keys[BAND.HARD] - same[BAND.HARD];
  if (keys[BAND.HARD] && edges) {
    const words = `, of which ${count(lost)} (${percent(lost / keys[BAND.HARD])}) are of other classes: its cost.`;
    pieces.push(" The right edge leaves out ", named(BAND.HARD, keys), words);
  } else if (keys[BAND.HARD]) {
    pieces.push(` Of the suspected, ${count(same[BAND.HARD])} are (${percent(same[BAND.HARD] / keys[BAND.HARD])}).`);
  }
  if (keys[BAND.MINED]) pieces.push(` Of the mined, ${count(same[BAND.MINED])} of ${count(keys[BAND.MINED])}.`);
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
 * What an edge cuts, in keys, share and score at once.
 * @param {EdgeName} name
 * @param {Judged} judged
 * @returns {{short: string, lines: string[]}}
 */
export function edgeWords(name, { edges, judgement }) {
  if (edges === null) return { short: "", lines: [] };
  const others = edges.keys - 1; // the own key ranks last, and is no negative whatever the edges
  const closest = name === "closest";
  const cut = closest ? Math.min(edges.closest, others) : Math.max(0, others - edges.beyond);
  const at = closest ? `≥ ${score(edges.closestScore)}` : `< ${score(edges.beyondScore)}`;
  const share = percent(edges[name] / edges.keys);
  const sums = judgement.profile.mined;
  const mined = closest ? sums[cut] : sums[others] - sums[others - cut];
  const among = mined ? `, ${count(mined)} mined` : "";
  const where = closest ? "the closest" : "beyond";
  if (cut === 0) return { short: `${where}: none`, lines: ["every key is within"] };
  return { short: `${where} ${share}`, lines: [`${plural(cut, "key")}${among}`, `${edges.measure} ${at}`] };
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
