// @ts-check
/** All anchors in a list, sorted by what the rule does to them. */

import { BAND, keptOf } from "../engine/bands.js";
import { countsOf } from "../engine/report.js";
import { button, el, setText } from "./dom.js";
import { nameOf, thingOf, wordsOf } from "./things.js";
import { anchorsOf, count, percent } from "./words.js";

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("../engine/census.js").Census} Census */

const ROWS = 100; // so many anchors at a time

/** What may be sorted by, the largest first; the last needs classes. */
const ORDERS = /** @type {[string, (keys: Int32Array, same: Int32Array) => number][]} */ ([
  ["left out", (keys) => keys[BAND.HARD] + keys[BAND.EASY] + keys[BAND.OTHER]],
  ["suspected", (keys) => keys[BAND.HARD]],
  ["mined", (keys) => keys[BAND.MINED]],
  ["pushed away", keptOf],
  ["false negatives", (_, same) => keptOf(same)],
]);

/**
 * The list, for a dialog.
 * @param {object} page
 * @param {() => Scene} page.scene
 * @param {(thing: number, tile: HTMLElement) => void} page.picture
 * @param {(place: number) => void} page.choose
 * @param {Census | null | undefined} page.census of the side that the controls move; null where only Python can count
 */
export function anchorList({ scene, picture, choose, census }) {
  const { state, shown } = scene();
  const { snapshot } = shown;
  if (census === null) return el("p", {}, "Only Python knows this rule: explorer.anchors() lists what it does.");
  if (!census?.anchors) return el("p", {}, "Counting …");
  const orders = ORDERS.slice(0, state.truth ? ORDERS.length : -1);
  const by = el("select", { change: draw }, ...orders.map(([name], i) => el("option", { value: i }, name)));
  const find = el("input", { type: "search", placeholder: "find", "aria-label": "find an anchor", input: draw });
  const rows = el("tbody");
  const heads = ["anchor", ...orders.map(([name]) => name)].map((head) => el("th", {}, head));
  const table = el("table", "list", el("thead", {}, el("tr", {}, ...heads)), rows);
  const further = button({ class: "word", click: add });
  const { places } = census;
  const [inBands, sameInBands] = [countsOf(census.inBands), countsOf(census.sameInBands)];
  /** Which of the counted anchors are listed, and how many are shown. */
  let [listed, drawn] = [/** @type {number[]} */ ([]), 0];

  function draw() {
    const score = orders[Number(by.value)][1];
    const asked = find.value.trim().toLowerCase();
    const scores = inBands.map((keys, i) => score(keys, sameInBands[i]));
    listed = [...inBands.keys()]
      .filter((i) => wordsOf(snapshot, thingOf(snapshot, places[i])).toLowerCase().includes(asked))
      .sort((a, b) => scores[b] - scores[a]);
    drawn = 0;
    rows.replaceChildren();
    add();
  }

  function add() {
    for (const i of listed.slice(drawn, drawn + ROWS)) {
      const thing = thingOf(snapshot, places[i]);
      const tile = el("div", "tile");
      picture(thing, tile);
      const name = button({ class: "link", click: () => choose(places[i]) }, nameOf(snapshot, thing, state.truth));
      const others = inBands[i].reduce((sum, each) => sum + each, 0);
      const cells = orders.map(([name, score]) => {
        const number = score(inBands[i], sameInBands[i]);
        const of = name === "false negatives" ? keptOf(inBands[i]) : others;
        return el("td", {}, `${count(number)} (${percent(number / of)})`);
      });
      rows.append(el("tr", {}, el("td", {}, tile, name), ...cells));
    }
    drawn = Math.min(listed.length, drawn + ROWS);
    further.hidden = drawn === listed.length;
    setText(further, `show more of the other ${count(listed.length - drawn)}`);
  }

  draw();
  return el("div", {}, el("p", {}, `${anchorsOf(census)}, sorted by what is `, by, " ", find), table, further);
}
