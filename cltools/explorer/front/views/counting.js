// @ts-check
/** The count over all anchors, in a worker if possible, else in idle time. */

import { censusOf, countMore, recount, shuffledPlaces, startCensus } from "../engine/census.js";

/** @typedef {import("../engine/similarities.js").Snapshot} Snapshot */
/** @typedef {import("../engine/judgement.js").Side} Side */
/** @typedef {import("../engine/census.js").Census} Census */
/** @typedef {import("../engine/census.js").Counting} Counting */

/** Above this number of anchors, the order is random, so that the first are a sample of all. */
const EXACT = 3000;
const SLICE = 30; // milliseconds between answers

/**
 * Counts a side of a snapshot and reports partial results, until all is counted or another side is requested.
 * @param {(which: number, census: Census) => void} tell
 */
export function counterOf(tell) {
  /** The current count of each snapshot, by its number. */
  const counted = /** @type {Map<number, {snapshot: Snapshot, counting: Counting | null}>} */ (new Map());

  /** @type {(which: number, counting: Counting) => void} */
  function goOn(which, counting) {
    if (counted.get(which)?.counting !== counting) return;
    const until = performance.now() + SLICE;
    let done = false;
    do done = countMore(counting, 1);
    while (!done && performance.now() < until);
    tell(which, censusOf(counting));
    if (!done) setTimeout(() => goOn(which, counting), 0);
  }

  return {
    /** @type {(which: number, snapshot: Snapshot) => void} */
    load(which, snapshot) {
      counted.set(which, { snapshot, counting: null });
    },
    /** @type {(which: number, side: Side) => void} */
    count(which, side) {
      const now = counted.get(which);
      if (now === undefined) return;
      const { snapshot, counting: before } = now;
      const places = snapshot.anchorIds.length > EXACT ? shuffledPlaces(snapshot) : undefined;
      const counting = before ? recount(before, side) : startCensus(snapshot, side, { places });
      now.counting = counting;
      setTimeout(() => goOn(which, counting), 0);
    },
    /** Discard everything and stop. */
    close: () => counted.clear(),
  };
}

/**
 * The code of a worker.
 * @param {any} scope its global object
 */
export function serveCensus(scope) {
  const counter = counterOf((which, census) => scope.postMessage({ which, census }));
  scope.onmessage = (/** @type {MessageEvent} */ { data }) => {
    if (data.snapshot) counter.load(data.which, data.snapshot);
    else counter.count(data.which, data.side);
  };
}

/**
 * The page's counter: a worker that runs this script's text, or the page itself if no worker can start.
 * @param {string} code of the script, and the name it defines
 * @param {(which: number, census: Census) => void} tell
 * @returns {ReturnType<typeof counterOf>}
 */
export function censusFor(code, tell) {
  const here = counterOf(tell);
  if (!code) return here;
  try {
    const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
    const worker = new Worker(address);
    let failed = false;
    /** The last request, which the page handles itself if the worker fails. @type {[number, Side] | null} */
    let asked = null;
    worker.onmessage = ({ data }) => tell(data.which, data.census);
    worker.onerror = () => {
      failed = true;
      if (asked) here.count(...asked);
    };
    return {
      load(which, shown) {
        const { maps, kept, texts, metadata, ...snapshot } = /** @type {import("./scene.js").Shown} */ (shown); // which no count needs
        here.load(which, snapshot);
        worker.postMessage({ which, snapshot });
      },
      count(which, side) {
        asked = [which, side];
        if (failed) here.count(which, side);
        else worker.postMessage({ which, side });
      },
      close() {
        here.close();
        worker.terminate();
        URL.revokeObjectURL(address);
      },
    };
  } catch {
    return here;
  }
}
