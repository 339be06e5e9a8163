// @ts-check
/** Numbers of an explorer's state that checks are about, as `notebooks/course/exercises/measures.py` computes them. */

import { BAND, rankCount } from "../../cltools/explorer/front/engine/bands.js";
import { countMore, startCensus } from "../../cltools/explorer/front/engine/census.js";
import { sumOf } from "../../cltools/explorer/front/engine/order.js";
import { mine } from "../../cltools/explorer/front/engine/positives.js";
import { select } from "../../cltools/explorer/front/engine/select.js";
import { rankingBy, similaritiesOf } from "../../cltools/explorer/front/engine/similarities.js";
import { freshRule, sideOf } from "../../cltools/explorer/front/engine/state.js";

/** @typedef {import("../../cltools/explorer/front/engine/judgement.js").Side} Side */
/** @typedef {import("../../cltools/explorer/front/engine/similarities.js").Snapshot} Snapshot */
/** @typedef {import("../../cltools/explorer/front/engine/similarities.js").Similarities} Similarities */
/**
 * The explorer that is measured: what its active side shows.
 * @typedef {{snapshot: Snapshot, side: Side, place: number}} Measured
 */

const BUSY = 20; // milliseconds of counting until the page may answer

/**
 * What an explorer of this state shows.
 * @param {Snapshot[]} snapshots
 * @param {import("../../cltools/explorer/front/engine/state.js").State} state
 * @returns {Measured}
 */
export function measured(snapshots, state) {
  const snapshot = snapshots[state.active === "B" ? snapshots.length - 1 : 0];
  return { snapshot, side: sideOf(state, state.active), place: snapshots[0].anchorIds.indexOf(state.anchor) };
}

/** The anchor's similarities, or those of another. @param {Measured} given @param {number} [place] */
function at({ snapshot, side, place: shown }, place = shown) {
  return similaritiesOf(snapshot, snapshot.epochs.indexOf(side.epoch), place);
}

/**
 * The mean of a number over all anchors, which leaves the page time to answer.
 * @param {Measured} given
 * @param {(s: Similarities) => number} measure
 */
async function meanOf(given, measure) {
  const count = given.snapshot.anchorIds.length;
  let sum = 0;
  let since = performance.now();
  for (let place = 0; place < count; place++) {
    sum += measure(at(given, place));
    if (performance.now() - since < BUSY) continue;
    await new Promise((resolve) => setTimeout(resolve));
    since = performance.now();
  }
  return sum / count;
}

/** @param {Measured} given @param {number} code */
function inBand(given, code) {
  const { side } = given;
  const { band } = select(at(given), side.positives, side.negatives, side.temperature);
  return band.filter((each) => each === code).length;
}

/**
 * The share of the keys before the right edge, or one further, of those of the anchor's class or of the others. It is
 * counted as if no key were mined, and none too far.
 * @param {Measured} given
 * @param {number} further in percent
 * @param {boolean} ofClass
 */
async function dropped({ snapshot, side }, further, ofClass) {
  const { negatives } = side;
  if (negatives.rule !== "RankBand" || !snapshot.labelled) return Number.NaN;
  const edge = Math.min(1, negatives.drop_closest + further / 100);
  const moved = { ...negatives, drop_closest: edge, keep_within: 1 };
  const counting = startCensus(
    snapshot,
    { ...side, positives: freshRule("AugmentedView", "positives"), negatives: moved },
    { budget: 0 },
  );
  while (!countMore(counting, 16)) await new Promise((resolve) => setTimeout(resolve));
  let [hard, all] = [0, 0];
  counting.keys.forEach((keys, i) => {
    const same = counting.same[i];
    hard += ofClass ? same[BAND.HARD] : keys[BAND.HARD] - same[BAND.HARD];
    all += ofClass ? sumOf(same) : sumOf(keys) - sumOf(same);
  });
  return (100 * hard) / Math.max(1, all);
}

/** @param {number | null | undefined} share */
const percentOf = (share) => (typeof share === "number" ? 100 * share : Number.NaN);

/** @type {Record<string, (given: Measured, ...numbers: number[]) => any>} */
export const MEASURES = {
  rule: ({ side }) => side.negatives.rule,
  cuts_ranks: ({ side }) => Number(side.negatives.rule === "RankBand"),
  ranks_by_positive: ({ side }) => Number(side.negatives.by === "positive"),
  rescales: ({ side }) => Number(side.negatives.rescale === true),
  mines: ({ side }) => Number(side.positives.rule !== "AugmentedView"),
  labelled: ({ snapshot }) => Number(snapshot.labelled),
  drop_closest: ({ side }) => percentOf(side.negatives.drop_closest),
  keep_within: ({ side }) => percentOf(side.negatives.keep_within),
  dropped_of({ side, snapshot }, count = snapshot.ids.length) {
    const share = side.negatives.drop_closest;
    return typeof share === "number" ? rankCount(share, count) : Number.NaN;
  },
  augmented_share: ({ side }) => percentOf(side.positives.augmented_share),
  temperature: ({ side }) => side.temperature,
  epoch: ({ side }) => side.epoch,
  epochs_left: ({ side, snapshot: { epochs } }) => epochs.length - 1 - epochs.indexOf(side.epoch),
  keys: ({ snapshot }) => snapshot.ids.length,
  kept: (given) => inBand(given, BAND.POTENTIAL),
  mined: (given) => inBand(given, BAND.MINED),
  dropped_false: (given, further = 0) => dropped(given, further, true),
  dropped_true: (given, further = 0) => dropped(given, further, false),
  closest_push: (given, share) =>
    meanOf(given, (s) => {
      const { temperature } = given.side;
      const { ranked } = rankingBy(s, "anchor", temperature);
      const push = Float64Array.from(ranked, (cosine) => Math.exp((cosine - ranked[0]) / temperature));
      return (100 * sumOf(push.subarray(0, rankCount(share / 100, push.length)))) / sumOf(push);
    }),
  mined_weight: (given) => meanOf(given, (s) => 100 * sumOf(mine(s, given.side.positives).weight.subarray(1))),
  wrong_weight: (given) =>
    meanOf(given, (s) => {
      const { index, weight } = mine(s, given.side.positives);
      if (s.sameClass === null) return Number.NaN;
      let wrong = 0;
      for (let i = 0; i < index.length; i++) if (!s.sameClass[index[i]]) wrong += weight[1 + i];
      return 100 * wrong;
    }),
};
