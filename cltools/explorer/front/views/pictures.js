// @ts-check
/** Pictures of each band in the axis's order, and all of a band on demand. */

import { evenlySpaced, keysOfBand } from "../engine/groups.js";
import { button, el, setAttribute, setText } from "./dom.js";
import { bandsShown } from "./scene.js";
import { nameOf } from "./things.js";
import { bandName, count } from "./words.js";

/** @typedef {import("./scene.js").Scene} Scene */

/** Relative widths of the columns by code of `BAND`, so that nothing jumps while an edge is dragged. */
const WIDTHS = [0, 3, 4, 4, 2, 2, 3];
/** Number of pictures added at a time to a group that is shown completely. */
const PAGE = 300;
const TILE_GAP = 4;

/**
 * A group of keys: a band, or keys that two sides treat alike.
 * @typedef {object} Group
 * @property {string} name its class, too
 * @property {number | null} code of `BAND`, if it is one
 * @property {string} title
 * @property {string} meaning
 * @property {number} width beside others
 * @property {Int32Array} places the closest first; of those that are found, if something is looked for
 * @property {number} total how many there are, found or not
 */

/** What two sides differ in, by code of `KEPT_BY`, in the order of the columns. */
const DIFFERENCES = /** @type {[number, string, string][]} */ ([
  [2, "△ A only", "Pushed away by A and not by B."],
  [1, "◇ both", "Pushed away by A and by B."],
  [3, "☆ B only", "Pushed away by B and not by A."],
]);

/**
 * The groups of a scene, from left to right.
 * @param {Scene} scene
 * @param {Uint8Array | null} found 1 for each key that is looked for; null for all
 * @returns {Group[]}
 */
function groupsOf({ shown, difference }, found) {
  const { ranking, band } = shown.judgement;
  /** @type {(codes: Int8Array, code: number) => Pick<Group, "places" | "total">} */
  const held = (codes, code) => {
    const all = keysOfBand(ranking.order, codes, code);
    return { places: found ? all.filter((place) => found[place]) : all, total: all.length };
  };
  if (difference !== null) {
    return DIFFERENCES.map(([code, title, meaning]) => {
      return { name: `by-${code}`, code: null, title, meaning, width: 1, ...held(difference, code) };
    });
  }
  return bandsShown(shown).map((code) => ({
    name: `band-${code}`,
    code,
    title: bandName(code),
    meaning: shown.snapshot.help.bands[code],
    width: WIDTHS[code],
    ...held(band, code),
  }));
}

/**
 * Fill a tile with an image's picture, and mark what is of the anchor's class where classes are shown.
 * @param {{scene: () => Scene, picture: (place: number, tile: HTMLElement) => void}} page
 * @param {HTMLElement} tile
 * @param {number} place
 */
export function painted({ scene, picture }, tile, place) {
  picture(place, tile);
  const { state, shown } = scene();
  const { similarities, snapshot } = shown;
  const same = state.truth && similarities.sameClass?.[place] === 1;
  tile.classList.toggle("same", same);
  setAttribute(tile, "aria-label", nameOf(snapshot, place) + (same ? ", same class" : ""));
  return tile;
}

/**
 * @param {object} page
 * @param {() => Scene} page.scene
 * @param {() => Uint8Array | null} page.found
 * @param {(place: number, tile: HTMLElement) => void} page.picture
 * @param {(title: string, body: HTMLElement) => void} page.dialog
 */
export function picturesView(page) {
  const root = el("section", { class: "bands", "aria-label": "Pictures of each group, from far to near" });
  /** @type {Map<string, ReturnType<typeof columnOf>>} */
  const columns = new Map();
  /** The columns measured last; measured again if their space may have changed. */
  let measured = "";
  /** How many pictures fit into each column. @type {number[]} */
  let room = [];

  /** @param {Group} group */
  function columnOf({ name, code, meaning, width }) {
    const head = el("h3");
    const small = el("small");
    const all = button({ class: "link", click: () => showAll(name) });
    const tiles = el("div", "tiles");
    const none = el("p", "none");
    const node = el(
      "div",
      { class: `band ${name}`, "data-band": code, style: `flex-grow: ${width}` },
      el("header", { title: meaning }, head, el("p", {}, small, all)),
      tiles,
      none,
    );
    return { node, head, small, all, tiles, none };
  }

  /** @param {string} name */
  function showAll(name) {
    const group = groupsOf(page.scene(), page.found()).find((each) => each.name === name);
    if (group) page.dialog(`${group.title}: ${count(group.places.length)}, the closest first`, gallery(group.places));
  }

  /**
   * Pictures of many images, some at a time.
   * @param {ArrayLike<number>} places
   */
  function gallery(places) {
    const tiles = el("div", { class: "tiles all", style: root.style.cssText });
    const further = button({ class: "word", click: add });
    let shown = 0;
    function add() {
      const next = Math.min(places.length, shown + PAGE);
      while (shown < next) tiles.append(painted(page, newTile(), places[shown++]));
      further.hidden = shown === places.length;
      setText(further, `show more of the other ${count(places.length - shown)}`);
    }
    add();
    return el("div", {}, tiles, further);
  }

  /** Draw the scene. */
  function draw() {
    const scene = page.scene();
    const groups = groupsOf(scene, page.found());
    for (const group of groups) if (!columns.has(group.name)) columns.set(group.name, columnOf(group));
    const shown = groups.map(({ name }) => /** @type {ReturnType<typeof columnOf>} */ (columns.get(name)));
    const names = groups.map(({ name }) => name).join();
    if (names !== measured) {
      root.replaceChildren(...shown.map(({ node }) => node));
      const style = getComputedStyle(root);
      const worded = scene.shown.snapshot.texts.length > 0; // a text fills a line
      const size = worded ? 1e6 : Number.parseFloat(style.getPropertyValue("--tile")) + TILE_GAP;
      const rows = Number(style.getPropertyValue(scene.b ? "--rows-two" : "--rows"));
      room = shown.map(({ node }) => rows * Math.max(1, Math.floor((node.clientWidth + TILE_GAP) / size)));
      measured = names;
    }
    groups.forEach(({ title, meaning, places, total }, g) => {
      const { head, small, all, tiles, none } = shown[g];
      const sample = evenlySpaced(places, room[g]).reverse(); // from far to near, as on the axis
      const part = places.length > sample.length;
      setText(head, `${title} ${places.length < total ? `${count(places.length)} of ` : ""}${count(total)}`);
      setText(small, part ? `${count(sample.length)} shown` : "");
      all.hidden = !part;
      setText(all, `show all ${count(places.length)}`);
      none.hidden = places.length > 0;
      setText(none, total > 0 ? "None found." : `None. ${meaning}`);
      while (tiles.children.length > sample.length) tiles.lastChild?.remove();
      sample.forEach((place, i) => {
        painted(page, /** @type {HTMLElement} */ (tiles.children[i] ?? tiles.appendChild(newTile())), place);
      });
    });
  }

  /** Measure again before the next drawing. */
  const resized = () => (measured = "");
  return { root, draw, gallery, resized };
}

const newTile = () => button({ class: "tile" });

/**
 * The place of the image whose tile an event is about.
 * @param {Event} event
 */
export function tileOf(event) {
  const tile = event.target instanceof Element ? event.target.closest("button[data-place]") : null;
  return tile === null ? null : Number(tile.getAttribute("data-place"));
}
