// @ts-check
/** All anchors in a list, sorted by what the rule does to them. */

import { BAND, keptOf } from "../engine/bands.js";
import { sumOf } from "../engine/order.js";
import { countsOf } from "../engine/report.js";
import { button, el, setText } from "./dom.js";
import { nameOf, thingOf, wordsOf } from "./things.js";
import { anchorsOf, count, ONLY_PYTHON, percent } from "./words.js";

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("../engine/census.js").Census} Census */

const ROWS = 300; // so many anchors at most
const LATER = 1000; // milliseconds from one count to the next that is shown

/** What may be sorted by, the largest first; the last needs classes. */
const ORDERS = /** @type {[string, (keys: Int32Array, same: Int32Array) => number][]} */ ([
  ["left out", (keys) => keys[BAND.HARD] + keys[BAND.EASY] + keys[BAND.OTHER]],
  ["suspected", (keys) => keys[BAND.HARD]],
  ["mined", (keys) => keys[BAND.MINED]],
  ["pushed away", keptOf],
  ["false negatives", (_, same) => keptOf(same)],
]);

/**
 * @param {object} page
 * @param {() => Scene} page.scene
 * @param {(thing: number, tile: HTMLElement) => void} page.picture
 * @param {(place: number) => void} page.choose
 * @param {() => Census | null} page.census of the side that the controls move
 */
export function anchorsView({ scene, picture, choose, census }) {
  const options = ORDERS.map(([name], i) => el("option", { value: i }, name));
  const by = el("select", { change: draw }, ...options);
  const find = el("input", { type: "search", placeholder: "find", "aria-label": "find an anchor", input: draw });
  const [told, list] = [el("span"), el("div", "list")];
  const root = el("div", {}, el("p", {}, told, by, " ", find), list);

  /** Draw the first of them. */
  function draw() {
    const { state, shown } = scene();
    const { snapshot, builtIn } = shown;
    const counted = builtIn ? census() : null;
    options[4].hidden = !state.truth;
    if (!state.truth && by.value === "4") by.value = "0";
    list.replaceChildren();
    if (!builtIn) return setText(told, ONLY_PYTHON);
    if (!counted?.anchors) return setText(told, "Counting … ");
    const [keys, same] = [countsOf(counted.inBands), countsOf(counted.sameInBands)];
    const [name, score] = ORDERS[Number(by.value)];
    const scores = keys.map((each, i) => score(each, same[i]));
    const asked = find.value.trim().toLowerCase();
    const things = Array.from(counted.places, (place) => thingOf(snapshot, place));
    const said = (/** @type {number} */ thing) =>
      `${nameOf(snapshot, thing)} ${wordsOf(snapshot, thing)}`.toLowerCase();
    const found = [...things.keys()].filter((i) => said(things[i]).includes(asked));
    found.sort((a, b) => scores[b] - scores[a]);
    const goesOn = counted.anchors < counted.of ? "; counting goes on" : "";
    setText(told, `${count(found.length)} out of ${anchorsOf(counted)}${goesOn}, by what is `);
    for (const i of found.slice(0, ROWS)) {
      const tile = el("div", "tile");
      picture(things[i], tile);
      const link = { class: "link", click: () => choose(counted.places[i]) };
      const of = name === "false negatives" ? keptOf(keys[i]) : sumOf(keys[i]);
      const number = el("span", {}, `${count(scores[i])} (${percent(scores[i] / of)})`);
      list.append(el("p", {}, tile, button(link, nameOf(snapshot, things[i], state.truth)), number));
    }
  }

  let later = 0;
  /** Draw soon, but do not move anything under the pointer or the focus. */
  function update() {
    clearTimeout(later);
    const used = () => root.matches(":active") || list.contains(document.activeElement);
    later = window.setTimeout(() => (used() ? update() : draw()), LATER);
  }

  return { root, draw, update };
}
