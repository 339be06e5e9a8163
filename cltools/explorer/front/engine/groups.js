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
 * The keys beside each edge, nearest to the edge first: what is kept last and what is left out first.
 * @param {Int32Array} order
 * @param {Int8Array} band
 * @param {number} count of keys on each side
 * @returns {{closest: {kept: number[], left: number[]}, beyond: {kept: number[], left: number[]}}}
 */
export function borderKeys(order, band, count) {
  const kept = [...order.filter((place) => isKept(band[place]))];
  const hard = [...keysOfBand(order, band, BAND.HARD)];
  const easy = [...keysOfBand(order, band, BAND.EASY)];
  return {
    closest: { kept: kept.slice(0, count), left: hard.reverse().slice(0, count) },
    beyond: { kept: kept.reverse().slice(0, count), left: easy.slice(0, count) },
  };
}
