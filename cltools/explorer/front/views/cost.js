// @ts-check
/** The cost and benefit of an edge over all anchors: false negatives by rank, with intervals; needs shown classes. */

import { BAND } from "../engine/bands.js";
import { looseningOf, settingsOf } from "../engine/report.js";
import { drawBox, drawLine, drawWords, font, surface } from "./canvas.js";
import { el, setText } from "./dom.js";
import { ticksBetween } from "./histogram.js";
import { anchorsOf, bandName, count, interval, ONLY_PYTHON, percent, SYMBOLS } from "./words.js";

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("./palette.js").Palette} Palette */
/** @typedef {import("../engine/census.js").Census} Census */

const WANTED = 10; // negatives that an anchor should have, as `mine_pairs` takes by default

/**
 * @param {object} page
 * @param {() => Scene} page.scene
 * @param {() => Palette} page.palette
 * @param {() => Census | null} page.census of the side that the controls move
 */
export function costView(page) {
  const title = el("h3");
  const words = el("p");
  const canvas = el("canvas", { "aria-hidden": "true" });
  const rows = el("tbody");
  const last = el("th", {}, "of the anchor's class");
  const heads = ["over all anchors", "share", "left out by"].map((head) => el("th", {}, head));
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...heads, last)), rows);
  const root = el("section", { class: "cost", "aria-label": "What the edges cost" }, title, words, canvas, table);

  /** Draw the scene. */
  function draw() {
    const scene = page.scene();
    const { side, edges, builtIn } = scene.shown;
    const { truth } = scene.state;
    const census = builtIn ? page.census() : null;
    const counted = census !== null && census.anchors > 0;
    table.hidden = !counted;
    canvas.hidden = !counted || !truth;
    setText(title, truth ? "What does leaving out cost?" : "What is left out?");
    if (!counted) return setText(words, builtIn ? "Counting …" : ONLY_PYTHON);
    const { kept, recall, baseRate, shareByBand, sameByBand } = census;
    const { short, settings } = looseningOf(census.inBands, side, WANTED);
    const values = settings.map((name) => (name in side.negatives ? `${name} (now ${side.negatives[name]})` : name));
    const left = [BAND.HARD, BAND.EASY, BAND.OTHER].reduce((sum, code) => sum + shareByBand[code].value, 0);
    const said = [`Over ${anchorsOf(census)}, ${percent(left)} of the candidates are left out.`];
    if (short) said.push(`${count(short)} keep fewer than ${WANTED}: loosen ${values.join(", then ")}.`);
    if (truth) {
      const { value, low, high } = sameByBand[BAND.HARD];
      const lost = interval({ ...sameByBand[BAND.HARD], value: 1 - value, low: 1 - high, high: 1 - low });
      if (shareByBand[BAND.HARD].value > 0) said.push(`Of the suspected ${lost} are of other classes: the cost.`);
      said.push(
        `Of the kept ${interval(census.false)} are false negatives; of all, ${percent(baseRate.value)} are of the ` +
          `anchor's class. ${interval(recall)} of that class are left out; by chance it would be ${percent(1 - kept.value)}.`,
      );
    }
    setText(words, said.join(" "));
    const by = settingsOf(side);
    const ends = /** @type {Record<number, string>} */ (
      edges ? { [BAND.HARD]: "right edge, ", [BAND.EASY]: "left edge, " } : {}
    );
    const codes = [BAND.HARD, BAND.POTENTIAL, BAND.SOFTENED, BAND.EASY, BAND.OTHER, BAND.MINED];
    const rowOf = (/** @type {number} */ code) => {
      const cells = [percent(shareByBand[code].value), by[code] ? (ends[code] ?? "") + by[code] : "–"];
      if (truth) cells.push(interval(sameByBand[code]));
      return el("tr", {}, el("th", `band-${code}`, bandName(code)), ...cells.map((cell) => el("td", {}, cell)));
    };
    last.hidden = !truth;
    rows.replaceChildren(...codes.filter((code) => shareByBand[code].value > 0).map(rowOf));
    if (truth) drawRanks(canvas, census, scene, page.palette());
  }

  return { root, draw };
}

/**
 * The share of the anchor's class among keys by rank, with 95 % intervals, the base rate, and where the edges stand.
 * @param {HTMLCanvasElement} canvas
 * @param {Census} census
 * @param {Scene} scene
 * @param {Palette} palette
 */
function drawRanks(canvas, census, { shown }, palette) {
  const found = surface(canvas);
  if (found === null) return;
  const { context, width, height } = found;
  const bins = census.byRank.length;
  const [left, right, top, floor] = [40, width - 4, 20, height - 30];
  const most = Math.min(1, Math.max(0.05, ...census.byRank.map((share) => share.high || 0)) * 1.08);
  const y = (/** @type {number} */ share) => floor - (share / most) * (floor - top);
  const w = (right - left) / bins;
  context.font = font(11);
  for (const tick of ticksBetween(0, most, 3)) {
    const at = Math.round(y(tick)) + 0.5;
    drawLine(context, palette.line, left, at, right, at);
    drawWords(context, percent(tick), left - 4, y(tick) + 4, palette.soft, "right");
  }
  census.byRank.forEach((share, i) => {
    const x = left + i * w;
    if (!Number.isFinite(share.value)) return;
    drawBox(context, palette.soft, x + 2, y(share.value), w - 4, floor - y(share.value));
    context.lineWidth = 1.5;
    drawLine(context, palette.ink, x + w / 2, y(share.low), x + w / 2, y(Math.min(share.high, most)));
  });
  const base = y(census.baseRate.value);
  context.setLineDash([4, 3]);
  drawLine(context, palette.ink, left, base, right, base);
  context.setLineDash([]);
  if (shown.edges) {
    const { closest, beyond } = shown.edges;
    for (const [rank, code, side] of [
      [closest, BAND.HARD, -7],
      [beyond, BAND.EASY, 7],
    ]) {
      const i = census.ranks.findIndex((end) => end > rank) - 1;
      if (i < 0 || rank === 0) continue;
      const at = left + (i + (rank - census.ranks[i]) / (census.ranks[i + 1] - census.ranks[i])) * w;
      context.lineWidth = 2;
      drawLine(context, palette.ink, at, top - 12, at, floor);
      drawWords(context, SYMBOLS[code], at + side, top - 3, palette.text[code]);
    }
  }
  for (let i = 0; i < bins; i++) {
    const share = Number(((100 * census.ranks[i + 1]) / census.ranks[bins]).toPrecision(2));
    drawWords(context, String(share), left + (i + 1) * w, floor + 13, palette.soft, "right");
  }
  drawWords(context, "of the anchor's class", 0, top - 9, palette.soft, "left");
  drawWords(context, "the closest … %; dashed: all", (left + right) / 2, height - 3, palette.soft);
}
