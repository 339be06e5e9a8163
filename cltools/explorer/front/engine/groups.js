// @ts-check
/** The keys whose pictures are shown: an even sample of each band, and those beside each edge. */

import { BAND, isKept } from "./bands.js";

/**
 * Places of a band's keys, the closest first.
 * @param {Int32Array} order
 * @param {Int8Array} band
 * @param {number} code
 * @returns {Int32Array}
 */
export function keysOfBand(order, band, code) {
  return order.filter((place) => band[place] === code);
}

/**
 * At most this many items of a list, evenly spaced, including both ends.
 * @template {Int32Array | number[]} T
 * @param {T} places
 * @param {number} count
 * @returns {number[]}
 */
export function evenlySpaced(places, count) {
  if (places.length <= count) return [...places];
  if (count === 1) return [places[0]];
  return Array.from({ length: count }, (_, i) => places[Math.round((i * (places.length - 1)) / (count - 1))]);
}

/**
 * The keys beside each edge, from left to right: the last that is kept, and the first that is left out; undefined for
 * none.
 * @param {Int32Array} order
 * @param {Int8Array} band
 * @returns {Record<"closest" | "beyond", (number | undefined)[]>}
 */
export function borderKeys(order, band) {
  const kept = order.filter((place) => isKept(band[place]));
  return {
    closest: [kept[0], keysOfBand(order, band, BAND.HARD).at(-1)],
    beyond: [keysOfBand(order, band, BAND.EASY)[0], kept.at(-1)],
  };
}
