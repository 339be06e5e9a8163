// @ts-check
/** Scenes: everything that the views draw of a state, computed once per change. */

import { BAND } from "../engine/bands.js";
import { differenceOf, misplacedPoints } from "../engine/comparing.js";
import { edgesOf } from "../engine/edges.js";
import { borderKeys } from "../engine/groups.js";
import { binsOf } from "../engine/histogram.js";
import { judge, judgeRecorded, summaryOf } from "../engine/judgement.js";
import { whyUnknown } from "../engine/select.js";
import { similaritiesOf } from "../engine/similarities.js";
import { sideOf } from "../engine/state.js";
import { bandOf } from "./actions.js";
import { thingOf } from "./things.js";

/** @typedef {import("../engine/state.js").State} State */
/** @typedef {import("../engine/judgement.js").Side} Side */
/** @typedef {import("../engine/judgement.js").Judgement} Judgement */
/** @typedef {import("../engine/judgement.js").Summary} Summary */
/** @typedef {import("../engine/judgement.js").Recorded} Recorded */
/** @typedef {import("../engine/similarities.js").Similarities} Similarities */
/** @typedef {import("../engine/similarities.js").Snapshot} Snapshot */
/** @typedef {import("../engine/fields.js").Settings} Settings */
/**
 * A snapshot with the data that views draw.
 * @typedef {Snapshot & {
 *   title: string, run: string, noun: string, anchorNoun: string, classes: string[], texts: string[],
 *   metadata: Record<string, string[]>, tile: [number, number], tiles: number, columns: number,
 *   pictured: number[] | null, sprite: string, maps: Float32Array[][], kept: Uint8Array[][], middle: Settings | null,
 *   help: Record<string, Record<string, string>>,
 * }} Shown `pictured` are the things (`things.js`) on the sheet of `tiles`, null for all; maps and kept neighbours (in
 *   percent, above 100 where they are not known) by map and epoch; `middle` is the run's own band, if it has one; `help`
 *   says what each setting does, by rule and by setting
 */
/**
 * The judgement of the anchor by one side.
 * @typedef {object} Judged
 * @property {Side} side
 * @property {Shown} snapshot
 * @property {Similarities} similarities
 * @property {Judgement} judgement
 * @property {Summary} summary
 * @property {Settings | null} band the rule in the form whose edges can be dragged
 * @property {import("../engine/edges.js").Edges | null} edges of it
 * @property {import("../engine/histogram.js").Bins} bins
 * @property {ReturnType<typeof borderKeys>} border
 * @property {boolean} builtIn whether its rules are known here, and not to Python alone
 * @property {string} unknown why it cannot be answered here; empty if it can
 */
/**
 * @typedef {object} Scene
 * @property {State} state
 * @property {number} place of the anchor among the anchors
 * @property {number} thing that it is (`things.js`)
 * @property {number[]} own places of its own keys
 * @property {Judged} a
 * @property {Judged | null} b
 * @property {Judged} shown the side that the controls move
 * @property {Int8Array | null} difference by `KEPT_BY`
 * @property {{name: string, points: Float32Array, kept: Uint8Array}} map of the shown side: its places, and what percent of
 *   each point's neighbours are its neighbours there
 * @property {number[]} misplaced places of points, if they are marked
 */

const ANCHORS_HELD = 6;

/**
 * A function from states to scenes, which caches the similarities of the last anchors.
 * @param {Shown[]} snapshots one, or two that are shown side by side
 * @param {Map<string, Recorded>} recorded what Python answered for rules that only it knows, by `questionOf`
 */
export function scenes(snapshots, recorded) {
  /** @type {Map<string, Similarities>} */
  const known = new Map();

  /** @type {(which: number, epoch: number, place: number) => Similarities} */
  const similaritiesFor = (which, epoch, place) => {
    const name = `${which} ${epoch} ${place}`;
    const found = known.get(name) ?? similaritiesOf(snapshots[which], snapshots[which].epochs.indexOf(epoch), place);
    known.delete(name);
    known.set(name, found);
    for (const oldest of known.keys()) if (known.size > ANCHORS_HELD) known.delete(oldest);
    return found;
  };

  /** @type {(side: Side, which: number, place: number) => Judged} */
  const judged = (side, which, place) => {
    const snapshot = snapshots[which];
    const s = similaritiesFor(which, side.epoch, place);
    const why = whyUnknown(s, side.positives, side.negatives);
    const told = why ? recorded.get(questionOf(side, which, place)) : undefined;
    const unknown = told ? "" : why;
    const answered = unknown ? { ...side, negatives: { rule: "AllNegatives" }, positives: MINES_NOTHING } : side;
    const judgement = told ? judgeRecorded(s, side, snapshot.form, told) : judge(s, answered, snapshot.form);
    const { ranking, profile, band: codes } = judgement;
    const band = why ? null : bandOf(side.negatives);
    const bins = binsOf(ranking, profile.others);
    return {
      side,
      snapshot,
      similarities: s,
      judgement,
      summary: summaryOf(judgement),
      band,
      edges: band && edgesOf(band, ranking.ranked, s.anchorPositive),
      bins,
      border: borderKeys(ranking.order, codes),
      builtIn: why === "",
      unknown,
    };
  };

  /** @type {(state: State) => Scene} */
  return (state) => {
    const place = snapshots[0].anchorIds.indexOf(state.anchor);
    const a = judged(state.a, 0, place);
    const b = state.b && judged(sideOf(state, "B"), snapshots.length - 1, place);
    const shown = state.active === "B" && b ? b : a;
    const { mapNames, maps, kept, epochs } = shown.snapshot;
    const at = Math.max(0, mapNames.indexOf(state.map)); // another snapshot may have other maps
    const epoch = epochs.indexOf(shown.side.epoch);
    const map = { name: mapNames[at], points: maps[at][epoch], kept: kept[at][epoch] };
    return {
      state,
      place,
      thing: thingOf(snapshots[0], place),
      own: snapshots[0].own?.[place] ?? [place],
      a,
      b,
      shown,
      map,
      difference: b && differenceOf(a.judgement.band, b.judgement.band),
      misplaced: state.doubtful ? misplacedPoints(Float32Array.from(map.kept, (percent) => percent / 100)) : [],
    };
  };
}

/**
 * The request to Python about a side's anchor.
 * @param {Side} side
 * @param {number} which snapshot
 * @param {number} place
 */
export function questionOf(side, which, place) {
  return JSON.stringify([which, place, side]);
}

/** The positive rule that mines nothing. */
export const MINES_NOTHING = Object.freeze({ rule: "AugmentedView", start: 0.1, ramp: 0.05, strength: 1 });

/**
 * Codes of the bands that a scene has pictures of, from the far end of the axis to the near.
 * @param {Judged} judged
 * @returns {number[]}
 */
export function bandsShown({ summary, edges }) {
  /** @type {number[]} */
  const always = edges ? [BAND.EASY, BAND.POTENTIAL, BAND.HARD] : [BAND.POTENTIAL];
  const order = [BAND.OTHER, BAND.EASY, BAND.POTENTIAL, BAND.SOFTENED, BAND.HARD, BAND.MINED];
  return order.filter((code) => summary.keys[code] > 0 || always.includes(code));
}
