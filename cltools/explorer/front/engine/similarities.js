// @ts-check
/** The input of rules: one anchor's cosines with all keys of a snapshot, and the keys in the order of a score. */

import { drawsOf } from "./draws.js";
import { unitRows, unpackHalves } from "./float16.js";
import { orderByScore, rankedScores } from "./order.js";

/**
 * A run's embeddings of some images at some epochs, as `cltools.snapshot.Snapshot`. Anchors are the keys themselves, or
 * queries of their own.
 * @typedef {object} Snapshot
 * @property {number[]} epochs their numbers, ascending
 * @property {number} dim of an embedding
 * @property {Embeddings[]} embeddings one for each epoch
 * @property {number[]} ids of the keys, whole numbers below 2⁵³
 * @property {Int32Array} labels of the keys, −1 where unknown
 * @property {number[]} anchorIds
 * @property {Int32Array} anchorLabels
 * @property {number[][] | null} own places of each anchor's own keys; null where anchor and key are one
 * @property {boolean} labelled whether some class is known
 * @property {string[]} mapNames
 * @property {Form} form of the loss
 */
/**
 * @typedef {object} Embeddings
 * @property {Float32Array} anchors unit vectors, one after the other
 * @property {Float32Array} positives
 * @property {Float32Array} keys
 * @property {Float32Array | null} thresholds that the run's rule has learned, one for each image
 */
/** @typedef {"sep" | "in" | "out" | "decoupled"} Form */
/**
 * One anchor and all keys. All cosines are float32; z is the anchor, z' its positive, n a key.
 * @typedef {object} Similarities
 * @property {number} place of the anchor among the anchors
 * @property {number} anchorId
 * @property {ArrayLike<number>} keyIds
 * @property {Float32Array} anchorKeys z·n
 * @property {Float32Array} positiveKeys z'·n
 * @property {number} anchorPositive z·z'
 * @property {Uint8Array} own 1 where the key comes from the anchor's own image
 * @property {Uint8Array | null} sameClass null without labels
 * @property {number | null} threshold learned of the anchor's image, ∞ where none was; null without a state
 * @property {Float32Array} anchor z
 * @property {Float32Array} keys n, one after the other
 * @property {Map<string, any>} memo what was computed of it already
 */
/** @typedef {"positive" | "anchor" | "either" | "force" | "margin"} By */
/**
 * Keys in the order of a score.
 * @typedef {object} Ranking
 * @property {Float32Array} score larger is closer
 * @property {Int32Array} order places of the keys, the closest first and own ones last; equal scores as they stand
 * @property {Float32Array} ranked scores in this order, own keys at −∞
 */

/**
 * Vectors of each epoch in float16; positives are the keys where there are none.
 * @typedef {{dim: number, anchors: Uint16Array[], keys: Uint16Array[], positives?: Uint16Array[] | null,
 *   thresholds?: (Float32Array | null)[]}} Held
 */
/**
 * A snapshot of what a file or a message holds.
 * @param {Held & {epochs: number[], ids: number[], labels: ArrayLike<number>, mapNames: string[], form: Form,
 *   anchorIds?: number[] | null, anchorLabels?: number[] | null, own?: Int32Array | null}} held `own` are pairs of an
 *   anchor and a key
 * @returns {Snapshot}
 */
export function snapshotOf(held) {
  const { epochs, dim, ids, mapNames, form } = held;
  const labels = Int32Array.from(held.labels);
  const anchorLabels = held.anchorLabels ? Int32Array.from(held.anchorLabels) : labels;
  const anchorIds = held.anchorIds ?? ids;
  const own = held.own ? anchorIds.map(() => /** @type {number[]} */ ([])) : null;
  for (let i = 0; own && held.own && i < held.own.length; i += 2) own[held.own[i]].push(held.own[i + 1]);
  const labelled = [labels, anchorLabels].every((each) => each.some((label) => label >= 0));
  const embeddings = embeddingsOf(held);
  return { epochs, dim, embeddings, ids, labels, anchorIds, anchorLabels, own, labelled, mapNames, form };
}

/**
 * Unit vectors of each epoch.
 * @param {Held} held
 * @returns {Snapshot["embeddings"]}
 */
export function embeddingsOf({ dim, anchors, keys, positives, thresholds }) {
  const unit = (/** @type {Uint16Array} */ halves) => unitRows(unpackHalves(halves), dim);
  return anchors.map((halves, i) => {
    const unitKeys = unit(keys[i]);
    return {
      anchors: unit(halves),
      positives: positives ? unit(positives[i]) : unitKeys,
      keys: unitKeys,
      thresholds: thresholds?.[i] ?? null,
    };
  });
}

/**
 * Cosines of one vector with all keys. Products of float32 are exact in float64, and so are sums but for 1e-16; one
 * rounding at the end makes equal keys equal, and the numbers those of Python.
 * @param {Float32Array} vectors
 * @param {number} start where the vector begins
 * @param {Float32Array} keys
 * @param {number} dim
 * @returns {Float32Array}
 */
export function cosinesWithKeys(vectors, start, keys, dim) {
  const count = keys.length / dim;
  const found = new Float32Array(count);
  const vector = Float64Array.from(vectors.subarray(start, start + dim));
  for (let i = 0, at = 0; i < count; i++) {
    let [even, odd] = [0, 0]; // two sums that do not wait for each other
    let j = 0;
    for (; j + 1 < dim; j += 2, at += 2) {
      even += vector[j] * keys[at];
      odd += vector[j + 1] * keys[at + 1];
    }
    if (j < dim) even += vector[j] * keys[at++];
    found[i] = even + odd;
  }
  return found;
}

/**
 * One anchor's similarities with all keys; cosines are computed when they are first read.
 * @param {Snapshot} snapshot
 * @param {number} epoch its place among the snapshot's epochs, not its number
 * @param {number} place of the anchor among the anchors
 * @returns {Similarities}
 */
export function similaritiesOf(snapshot, epoch, place) {
  const { dim, labels, ids, anchorIds, anchorLabels } = snapshot;
  const { anchors, positives, keys, thresholds } = snapshot.embeddings[epoch];
  const own = new Uint8Array(ids.length);
  for (const key of snapshot.own?.[place] ?? [place]) own[key] = 1;
  const start = place * dim;
  return {
    place,
    anchorId: anchorIds[place],
    keyIds: ids,
    get anchorKeys() {
      return remembered(this, "z·n", () => cosinesWithKeys(anchors, start, keys, dim));
    },
    get positiveKeys() {
      return remembered(this, "z'·n", () => cosinesWithKeys(positives, start, keys, dim));
    },
    anchorPositive: cosinesWithKeys(anchors, start, positives.subarray(start, start + dim), dim)[0],
    own,
    sameClass: snapshot.labelled
      ? Uint8Array.from(labels, (label) => Number(label >= 0 && label === anchorLabels[place]))
      : null,
    threshold: thresholds?.[place] ?? null,
    anchor: anchors.subarray(start, start + dim),
    keys,
    memo: new Map(),
  };
}

/**
 * 1 where a key is not the anchor's own.
 * @param {Similarities} s
 */
export function othersOf(s) {
  return s.own.map((own) => 1 - own);
}

/**
 * Why a rule that reads classes cannot be answered; empty if it can.
 * @param {Similarities} s
 */
export function whyNoClasses(s) {
  return s.sameClass === null ? "It reads classes, and these have none." : "";
}

/** Maximum number of cached results per anchor; the oldest is dropped first, as dragging a temperature makes many. */
const REMEMBERED = 32;

/**
 * The cached result of this name for these similarities, or else a new one.
 * @template T
 * @param {Similarities} s
 * @param {string} name
 * @param {() => T} make
 * @returns {T}
 */
export function remembered(s, name, make) {
  if (s.memo.has(name)) return s.memo.get(name);
  const made = make();
  for (const oldest of s.memo.keys()) {
    if (s.memo.size < REMEMBERED) break;
    s.memo.delete(oldest);
  }
  s.memo.set(name, made);
  return made;
}

/**
 * What keys may be ranked by; larger is closer. Every step is rounded to float32, as in Python.
 * @param {Similarities} s
 * @param {By} by
 * @param {number} temperature of the loss, which "force" reads
 * @returns {Float32Array}
 */
export function scoreBy(s, by, temperature) {
  if (by === "positive") return s.positiveKeys;
  const toAnchor = s.anchorKeys;
  if (by === "anchor") return toAnchor;
  if (by === "either") {
    const toPositive = s.positiveKeys;
    return toAnchor.map((cosine, i) => Math.max(cosine, toPositive[i]));
  }
  if (by === "margin") return toAnchor.map((cosine) => cosine - s.anchorPositive);
  const f = Math.fround;
  const tau = f(temperature);
  return toAnchor.map((c) => f(c / tau) + f(0.5 * f(Math.log(Math.max(f(f(1 - c) * f(1 + c)), 2 ** -126)))));
}

/**
 * The keys in the order of a score; sorted once for each score.
 * @param {Similarities} s
 * @param {By} by
 * @param {number} temperature
 * @returns {Ranking}
 */
export function rankingBy(s, by, temperature) {
  return remembered(s, by === "force" ? `force ${temperature}` : by, () => {
    const score = scoreBy(s, by, temperature);
    const order = orderByScore(score, s.own);
    return { score, order, ranked: rankedScores(score, order, s.own) };
  });
}

/**
 * A number in [0, 1) for each key.
 * @param {Similarities} s
 * @returns {Float32Array}
 */
export function drawPerKey(s) {
  return remembered(s, "draws", () => Float32Array.from(s.keyIds, drawsOf(s.anchorId)));
}
