// @ts-check
/** The count over all anchors, in a worker where there can be one, else between other work. */

import { censusOf, countMore, recount, shuffledPlaces, startCensus } from "../engine/census.js";

/** @typedef {import("../engine/similarities.js").Snapshot} Snapshot */
/** @typedef {import("../engine/judgement.js").Side} Side */
/** @typedef {import("../engine/census.js").Census} Census */
/** @typedef {import("../engine/census.js").Counting} Counting */

/** Above so many anchors they are counted in a random order, so that the first are a sample of all. */
const EXACT = 3000;
const SLICE = 30; // milliseconds between answers

/**
 * Counts a side of a snapshot, and tells what is known so far until all is counted or another side is asked for.
 * @param {(which: number, census: Census) => void} tell
 */
export function counterOf(tell) {
  /** By number of a snapshot: what is counted of it. */
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
    /** Forget everything, so that nothing goes on. */
    close: () => counted.clear(),
  };
}

/**
 * What a worker runs.
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
 * The same of a page: a worker that runs this script's text, or the page itself where none may start.
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
    /** What was asked last, which the page counts where the worker fails. @type {[number, Side] | null} */
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
