// @ts-check
/**
 * What stands for a key or an anchor: its picture, else its text, else its id. A thing is the place of a key, or that of
 * an anchor counted on from the last key where anchors are no keys.
 */

import { setAttribute, setText } from "./dom.js";

/** @typedef {import("./scene.js").Shown} Shown */

/**
 * @param {Shown} snapshot
 * @param {number} place of an anchor
 */
export const thingOf = ({ own, ids }, place) => (own === null ? place : ids.length + place);

/**
 * A thing's name.
 * @param {Shown} snapshot
 * @param {number} thing
 * @param {boolean} [truth] whether its class is told too
 */
export function nameOf({ noun, anchorNoun, ids, anchorIds, classes, labels, anchorLabels }, thing, truth = false) {
  const at = thing - ids.length;
  const [name, label] =
    at < 0 ? [`${noun} ${ids[thing]}`, labels[thing]] : [`${anchorNoun} ${anchorIds[at]}`, anchorLabels[at]];
  return truth ? `${name} of class ${classes[label] ?? "unknown"}` : name;
}

/**
 * The text or else the id of a thing.
 * @param {Shown} snapshot
 * @param {number} thing
 */
export const wordsOf = ({ texts, ids, anchorIds }, thing) =>
  texts[thing] || (texts.length ? "(no text)" : String(ids[thing] ?? anchorIds[thing - ids.length]));

/**
 * A function that returns the column and row of a thing's picture on the sheet, or null.
 * @param {Shown} snapshot
 * @returns {(thing: number) => [number, number] | null}
 */
export function sheetOf({ tiles, columns, pictured }) {
  const known = pictured && new Map(pictured.map((thing, tile) => [thing, tile]));
  return (thing) => {
    const tile = known ? known.get(thing) : thing;
    return tile === undefined || tile >= tiles ? null : [tile % columns, Math.floor(tile / columns)];
  };
}

/**
 * Fills an element with a thing; the pictures of a snapshot are one sheet.
 * @param {Shown} snapshot
 * @returns {(thing: number, tile: HTMLElement) => void}
 */
export function painterOf(snapshot) {
  const { sprite, columns, tiles } = snapshot;
  const [across, down] = [Math.max(1, columns - 1), Math.max(1, Math.ceil(tiles / columns) - 1)];
  const spot = sheetOf(snapshot);
  return (thing, tile) => {
    if (tile.dataset.place === String(thing)) return;
    tile.dataset.place = String(thing);
    const at = spot(thing);
    tile.classList.toggle("worded", at === null);
    setText(tile, at ? "" : wordsOf(snapshot, thing));
    Object.assign(tile.style, {
      backgroundImage: at ? `url("${sprite}")` : "",
      backgroundSize: `${columns * 100}% ${(down + 1) * 100}%`,
      backgroundPosition: at ? `${(100 * at[0]) / across}% ${(100 * at[1]) / down}%` : "",
    });
    setAttribute(tile, "aria-label", nameOf(snapshot, thing));
  };
}
