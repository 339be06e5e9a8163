// @ts-check
/** Pictures of each band in the axis's order, and all of a band on demand. */

import { evenlySpaced, keysOfBand } from "../engine/groups.js";
import { el, setAttribute, setText } from "./dom.js";
import { bandsShown } from "./scene.js";
import { count, MEANINGS, NAMES, SYMBOLS } from "./words.js";

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("./scene.js").Shown} Shown */

/** Relative widths of the columns by code of `BAND`, so that nothing jumps while an edge is dragged. */
const WIDTHS = [0, 3, 4, 4, 2, 2, 3];
/** So many pictures at a time of a band that is shown whole. */
const PAGE = 300;
const TILE_GAP = 4;

/**
 * Fills an element with an image's picture; the picture of a snapshot is one sheet of tiles.
 * @param {Shown} snapshot
 * @returns {(place: number, tile: HTMLElement) => void}
 */
export function painterOf({ sprite, columns, ids, noun }) {
  const rows = Math.ceil(ids.length / columns);
  return (place, tile) => {
    if (tile.dataset.place === String(place)) return;
    tile.dataset.place = String(place);
    const [column, row] = [place % columns, Math.floor(place / columns)];
    tile.style.backgroundImage = `url("${sprite}")`;
    tile.style.backgroundSize = `${columns * 100}% ${rows * 100}%`;
    tile.style.backgroundPosition = `${columns > 1 ? (100 * column) / (columns - 1) : 0}% ${rows > 1 ? (100 * row) / (rows - 1) : 0}%`;
    setAttribute(tile, "aria-label", `${noun} ${ids[place]}`);
  };
}

/**
 * @param {object} page
 * @param {() => Scene} page.scene
 * @param {(place: number, tile: HTMLElement) => void} page.picture
 * @param {(place: number) => void} page.choose makes an image the anchor
 * @param {(place: number | null, at?: {x: number, y: number}) => void} page.point
 * @param {(title: string, body: HTMLElement) => void} page.dialog
 */
export function picturesView(page) {
  const root = el("section", { class: "bands", "aria-label": "Pictures of each band, from far to near" });
  /** @type {Map<number, ReturnType<typeof columnOf>>} */
  const columns = new Map();

  /** @param {number} code */
  function columnOf(code) {
    const head = el("h3");
    const small = el("small");
    const all = el("button", { type: "button", class: "link", click: () => showAll(code) }, "all");
    const tiles = el("div", { class: "tiles" });
    const none = el("p", { class: "none" }, MEANINGS[code]);
    const node = el(
      "div",
      { class: `band band-${code}`, "data-band": code, style: `flex-grow: ${WIDTHS[code]}` },
      el("header", { title: MEANINGS[code] }, head, el("p", {}, small, all)),
      tiles,
      none,
    );
    return { node, head, small, all, tiles, none };
  }

  /** @type {() => HTMLButtonElement} */
  const newTile = () => el("button", { type: "button", class: "tile" });
  root.addEventListener("click", (event) => {
    const tile = tileOf(event);
    if (tile !== null) page.choose(tile);
  });
  root.addEventListener("pointerover", (event) => {
    const tile = tileOf(event);
    page.point(tile, tile === null ? undefined : { x: event.clientX, y: event.clientY });
  });
  root.addEventListener("pointerleave", () => page.point(null));
  root.addEventListener("focusin", (event) => page.point(tileOf(event)));
  root.addEventListener("focusout", () => page.point(null));

  /** @param {number} code */
  function showAll(code) {
    const scene = page.scene();
    const { ranking, band } = scene.shown.judgement;
    const places = keysOfBand(ranking.order, band, code);
    const tiles = el("div", { class: "tiles all", style: root.style.cssText });
    let shown = 0;
    const further = el("button", { type: "button", class: "word", click: () => add() });
    function add() {
      for (const place of places.subarray(shown, shown + PAGE)) {
        const tile = newTile();
        paint(tile, place, scene);
        tiles.append(tile);
      }
      shown = Math.min(places.length, shown + PAGE);
      further.hidden = shown === places.length;
      setText(further, `${count(Math.min(PAGE, places.length - shown))} more of ${count(places.length - shown)}`);
    }
    add();
    tiles.addEventListener("click", (event) => {
      const tile = tileOf(event);
      if (tile !== null) page.choose(tile);
    });
    page.dialog(
      `${SYMBOLS[code]} ${NAMES[code]}: ${count(places.length)}, the closest first`,
      el("div", {}, tiles, further),
    );
  }

  /** @type {(tile: HTMLElement, place: number, scene: Scene) => void} */
  function paint(tile, place, scene) {
    page.picture(place, tile);
    const { sameClass } = scene.shown.similarities;
    tile.classList.toggle("same", scene.state.truth && sameClass !== null && sameClass[place] === 1);
  }

  /** Draw the scene. */
  function draw() {
    const scene = page.scene();
    const { shown } = scene;
    const { ranking, band } = shown.judgement;
    const codes = bandsShown(shown);
    for (const code of codes) if (!columns.has(code)) columns.set(code, columnOf(code));
    const nodes = codes.map((code) => /** @type {ReturnType<typeof columnOf>} */ (columns.get(code)).node);
    if ([...root.children].some((node, i) => node !== nodes[i]) || root.children.length !== nodes.length) {
      root.replaceChildren(...nodes);
    }
    const style = getComputedStyle(root);
    const [size, rows] = [
      Number.parseFloat(style.getPropertyValue("--tile")),
      Number(style.getPropertyValue("--rows")),
    ];
    for (const code of codes) {
      const column = /** @type {ReturnType<typeof columnOf>} */ (columns.get(code));
      const across = Math.max(1, Math.floor((column.node.clientWidth + TILE_GAP) / (size + TILE_GAP)));
      const places = keysOfBand(ranking.order, band, code);
      const sample = evenlySpaced(places, across * rows).reverse(); // from far to near, as on the axis
      setText(column.head, `${SYMBOLS[code]} ${NAMES[code]} ${count(places.length)}`);
      const part = places.length > sample.length;
      setText(column.small, part ? `${count(sample.length)} shown` : "");
      setAttribute(column.small, "title", "Evenly spaced along the axis, both ends among them.");
      column.all.hidden = !part;
      setText(column.all, `show all ${count(places.length)}`);
      column.none.hidden = places.length > 0;
      while (column.tiles.children.length > sample.length) column.tiles.lastChild?.remove();
      while (column.tiles.children.length < sample.length) column.tiles.append(newTile());
      for (let i = 0; i < sample.length; i++)
        paint(/** @type {HTMLElement} */ (column.tiles.children[i]), sample[i], scene);
    }
  }

  return { root, draw };
}

/**
 * The place of the image whose tile an event is about.
 * @param {Event} event
 */
function tileOf(event) {
  const tile = event.target instanceof Element ? event.target.closest("[data-place]") : null;
  return tile === null ? null : Number(tile.getAttribute("data-place"));
}
