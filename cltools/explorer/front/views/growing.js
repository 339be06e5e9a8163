// @ts-check
/** A snapshot that grows while it is shown, as an encoder is trained. */

import { sideOf } from "../engine/state.js";

/** @typedef {import("../engine/state.js").State} State */
/** @typedef {import("../engine/judgement.js").Side} Side */
/** @typedef {import("./scene.js").Shown} Shown */
/** @typedef {Pick<Shown, "epochs" | "embeddings" | "mapNames" | "maps" | "kept">} Epochs */

/**
 * The snapshot with its later epochs replaced by these, and with only their maps.
 * @param {Shown} shown
 * @param {Epochs} added
 * @returns {Shown}
 */
export function withEpochs(shown, added) {
  const before = shown.epochs.filter((epoch) => epoch < added.epochs[0]).length;
  const maps = added.mapNames.map((name) => shown.mapNames.indexOf(name));
  /** @type {<T>(old: T[], more: T[]) => T[]} */
  const grown = (old, more) => [...old.slice(0, before), ...more];
  return {
    ...shown,
    epochs: grown(shown.epochs, added.epochs),
    embeddings: grown(shown.embeddings, added.embeddings),
    mapNames: added.mapNames,
    maps: maps.map((map, i) => grown(shown.maps[map], added.maps[i])),
    kept: maps.map((map, i) => grown(shown.kept[map], added.kept[i])),
  };
}

/**
 * The state with epochs and a map that exist; a side at the previous newest epoch moves to the new one.
 * @param {State} state
 * @param {Shown[]} snapshots one, or two that are shown side by side
 * @param {number} newest
 * @returns {State}
 */
export function fitted(state, snapshots, newest) {
  const grown = newest !== snapshots[0].epochs.at(-1);
  /** @type {(side: Side, shown: Shown) => Side} */
  const moved = (side, { epochs }) => {
    const stays = epochs.includes(side.epoch) && (side.epoch !== newest || !grown);
    return stays ? side : { ...side, epoch: /** @type {number} */ (epochs.at(-1)) };
  };
  const { mapNames } = snapshots[0];
  return {
    ...state,
    a: moved(state.a, snapshots[0]),
    b: state.b && moved(sideOf(state, "B"), /** @type {Shown} */ (snapshots.at(-1))),
    map: mapNames.includes(state.map) ? state.map : mapNames[0],
  };
}
