// @ts-check
/** Decodes a snapshot from a page or a message, with encoded arrays, for display. */

import { embeddingsOf, snapshotOf } from "../engine/similarities.js";

/** @typedef {import("./scene.js").Shown} Shown */

/**
 * A page's data of some epochs.
 * @param {any} held
 * @param {(coded: any) => Uint8Array} bytes of an array as it is held
 * @returns {import("./growing.js").Epochs}
 */
export function epochsOf(held, bytes) {
  const { epochs, dim, anchors, keys, positives, thresholds, mapNames, maps, kept } = held;
  const halves = (/** @type {any} */ coded) => new Uint16Array(bytes(coded).buffer);
  const floats = (/** @type {any} */ coded) => new Float32Array(bytes(coded).buffer);
  const packed = {
    dim,
    anchors: anchors.map(halves),
    keys: keys.map(halves),
    positives: positives?.map(halves),
    thresholds: thresholds?.map(floats),
  };
  return {
    epochs,
    embeddings: embeddingsOf(packed),
    mapNames,
    maps: maps.map((/** @type {any[]} */ map) => map.map(floats)),
    kept: kept.map((/** @type {any[]} */ map) => map.map(bytes)),
  };
}

/**
 * A page's data of a snapshot.
 * @param {any} held
 * @param {(coded: any) => Uint8Array} bytes of an array as it is held: base64, or what a message numbers
 * @returns {Shown}
 */
export function shownOf(held, bytes) {
  const { title, run, noun, anchorNoun, classes, tile, tiles, columns, pictured, texts, metadata, middle, help } = held;
  // a short address: every tile's style holds it
  const sprite = URL.createObjectURL(new Blob([/** @type {BlobPart} */ (bytes(held.sprite))], { type: "image/webp" }));
  const words = { title, run, noun, anchorNoun, classes, texts, metadata, middle, help };
  const own = held.own === null ? null : new Int32Array(bytes(held.own).buffer);
  const bare = snapshotOf({ ...held, own, anchors: [], keys: [] });
  return { ...bare, ...epochsOf(held, bytes), ...words, tile, tiles, columns, pictured, sprite };
}
