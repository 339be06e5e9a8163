// @ts-check
/** New negatives mixed from the closest kept keys, as `MixedNegatives` makes them. */

import { drawsOf } from "./draws.js";
import { rankingBy } from "./similarities.js";

/** @typedef {import("./similarities.js").Similarities} Similarities */

/**
 * Cosines of the anchor with its mixtures; null where there are no keys or nothing is mixed.
 * @param {Similarities} s
 * @param {import("./fields.js").Settings} rule
 * @param {Uint8Array} kept
 * @returns {Float32Array | null}
 */
export function mixedCosines(s, rule, kept) {
  const total = rule.pairs + rule.with_anchor;
  if (total === 0 || kept.length === 0) return null;
  const found = new Float32Array(total).fill(-1); // an anchor that keeps no key gets the point opposite to it
  const hardest = rankingBy(s, "anchor", 1)
    .order.filter((place) => kept[place])
    .slice(0, rule.hardest);
  if (hardest.length === 0) return found;
  const [shareOfPair, shareOfAnchor, first, second, single] = [1, 2, 3, 4, 5].map((n) => drawsOf(s.anchorId, n));
  const dim = s.anchor.length;
  /** @param {number} draw */
  const vector = (draw) => {
    const at = Math.min(Math.trunc(Math.fround(draw * hardest.length)), hardest.length - 1);
    return s.keys.subarray(hardest[at] * dim, (hardest[at] + 1) * dim);
  };
  for (let i = 0; i < rule.pairs; i++) {
    found[i] = cosineOfMixture(s.anchor, shareOfPair(i), vector(first(i)), vector(second(i)));
  }
  for (let i = 0; i < rule.with_anchor; i++) {
    found[rule.pairs + i] = cosineOfMixture(s.anchor, shareOfAnchor(i) / 2, s.anchor, vector(single(i)));
  }
  return found;
}

/**
 * Cosine of z with norm(share·a + (1 − share)·b).
 * @param {Float32Array} z
 * @param {number} share
 * @param {Float32Array} a
 * @param {Float32Array} b
 */
function cosineOfMixture(z, share, a, b) {
  let dot = 0;
  let square = 0;
  for (let i = 0; i < z.length; i++) {
    const mixed = share * a[i] + (1 - share) * b[i];
    dot += z[i] * mixed;
    square += mixed * mixed;
  }
  return dot / Math.max(Math.sqrt(square), 1e-12);
}
