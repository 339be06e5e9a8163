// @ts-check
/** What an edge costs and buys over all anchors, once classes are shown: false negatives by rank, with intervals. */

import { BAND } from "../engine/bands.js";
import { looseningOf, settingsOf } from "../engine/report.js";
import { drawBox, drawLine, drawWords, font, surface } from "./canvas.js";
import { button, el, setText } from "./dom.js";
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
 * @param {() => void} page.showTruth
 */
export function costView(page) {
  const title = el("h3");
  const words = el("p");
  const canvas = el("canvas", { "aria-hidden": "true" });
  const rows = el("tbody");
  const last = el("th");
  const heads = [el("th", {}, "over all anchors"), el("th", {}, "share"), last];
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...heads)), rows);
  const ask = button({ class: "word", click: page.showTruth }, "Show true classes");
  const root = el("section", { class: "cost", "aria-label": "What the edges cost" }, title, words, canvas, table, ask);

  /** Say something in place of the table. @type {(head: string, text: string) => void} */
  function say(head, text) {
    setText(title, head);
    setText(words, text);
    rows.replaceChildren();
  }

  /** Why candidates are left out, and what to loosen. @param {Scene} scene */
  function report({ shown }) {
    const title = "Why are candidates left out?";
    if (!shown.builtIn) return say(title, ONLY_PYTHON);
    const census = page.census();
    if (!census?.anchors) return say(title, "Counting …");
    const { short, settings } = looseningOf(census.inBands, shown.side, WANTED);
    const fewer = short
      ? `${count(short)} of them keep fewer than ${WANTED}: loosen ${settings.join(", then ")}.`
      : `Each keeps ${WANTED} or more.`;
    say(title, `Over ${anchorsOf(census)}, ${percent(1 - census.kept.value)} are left out. ${fewer}`);
    const names = settingsOf(shown.side);
    table.hidden = false;
    tabulate(census, (code) => names[code] ?? "");
    setText(last, "left out by");
  }

  /** A row for each band: its share, and something about it. @type {(census: Census, about: (code: number) => string) => void} */
  function tabulate({ shareByBand }, about) {
    const codes = [BAND.HARD, BAND.POTENTIAL, BAND.SOFTENED, BAND.EASY, BAND.OTHER, BAND.MINED];
    const held = codes.filter((code) => shareByBand[code].value > 0);
    const cells = (/** @type {number} */ code) => [
      el("th", `band-${code}`, bandName(code)),
      el("td", {}, percent(shareByBand[code].value)),
      el("td", {}, about(code)),
    ];
    rows.replaceChildren(...held.map((code) => el("tr", {}, ...cells(code))));
  }

  /** Draw the scene. */
  function draw() {
    const scene = page.scene();
    const { snapshot, judgement } = scene.shown;
    const { truth } = scene.state;
    canvas.hidden = table.hidden = !truth;
    ask.hidden = truth || !snapshot.labelled;
    if (!truth && !snapshot.labelled) return report(scene);
    if (!truth) {
      const { others, push } = judgement.profile;
      const tenth = Math.max(1, Math.round(others / 10));
      return say(
        "What would leaving some out cost?",
        `If every ${snapshot.noun} were kept, the closest tenth would hold ${percent(push[tenth])} of the push. ` +
          "Classes tell whether it is right to leave some out.",
      );
    }
    if (!scene.shown.builtIn) {
      canvas.hidden = true;
      return say("What does this rule cost?", ONLY_PYTHON);
    }
    const census = page.census();
    const { edges } = scene.shown;
    const asked = edges ? "What do the edges cost?" : "How many are of the anchor's own class?";
    if (!census?.anchors) return say(asked, "Counting …");
    setText(title, asked);
    const { kept, recall, baseRate, shareByBand, sameByBand } = census;
    const { value, low, high } = sameByBand[BAND.HARD];
    const lost = interval({ ...sameByBand[BAND.HARD], value: 1 - value, low: 1 - high, high: 1 - low });
    const cost =
      shareByBand[BAND.HARD].value > 0
        ? `${lost} of what the right edge leaves out are of other classes. Losing these good negatives is its cost.`
        : "the right edge leaves out nothing.";
    setText(
      words,
      `Over ${anchorsOf(census)}, ${edges ? `${cost} The` : "the"} rule keeps ${percent(kept.value)} as negatives. ` +
        `Of these ${interval(census.false)} are false negatives; of all, ${percent(baseRate.value)} are of the anchor's ` +
        `class. It leaves out ${interval(recall)} of that class; by chance it would leave out ${percent(1 - kept.value)}.`,
    );
    setText(last, "of the anchor's class");
    tabulate(census, (code) => interval(sameByBand[code]));
    drawRanks(canvas, census, scene, page.palette());
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
  let free = 0;
  for (let i = 1; i <= bins; i++) {
    const [text, x] = [`${Number(((100 * census.ranks[i]) / census.ranks[bins]).toPrecision(2))}`, left + i * w];
    const half = context.measureText(text).width / 2;
    if (x - half < free) continue;
    drawWords(context, text, Math.min(x, right - half), floor + 13, palette.soft);
    free = x + half + 4;
  }
  drawWords(context, "of the anchor's class", 0, top - 9, palette.soft, "left");
  drawWords(context, "the closest … %; dashed: all", (left + right) / 2, height - 3, palette.soft);
}
