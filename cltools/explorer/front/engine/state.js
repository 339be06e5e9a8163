// @ts-check
/** The explorer's state as a plain value: reads, checks and writes the JSON of `explorer/state.py`. */

import { checked, choice, completed, flag, kind, real, refuse, whole } from "./fields.js";
import { RULES } from "./select.js";

/** @typedef {import("./judgement.js").Side} Side */
/** @typedef {import("./similarities.js").Snapshot} Snapshot */
/** @typedef {import("./fields.js").Settings} Settings */
/** @typedef {import("./fields.js").Field} Field */
/**
 * @typedef {object} State
 * @property {number} anchor id of the image whose keys are judged
 * @property {Side} a the choice that is shown
 * @property {Side | null} b another beside it
 * @property {"A" | "B"} active which of the two the controls move
 * @property {"band" | "class" | "similarity" | "gradient" | "difference"} colour what colours tell on the map
 * @property {"anchor" | "all"} scope whether the sentence speaks of this anchor or of all
 * @property {string} map name of one of the snapshot's maps
 * @property {boolean} truth whether classes may be seen
 * @property {boolean} doubtful whether misplaced points are marked
 */

const anything = kind(() => true, "");
const text = kind((value) => typeof value === "string", "must be text");

/** @type {Record<string, Field>} */
const STATE = {
  anchor: whole(undefined),
  a: anything(undefined),
  b: anything(null),
  active: choice("A", "B"),
  colour: choice("band", "class", "similarity", "gradient", "difference"),
  scope: choice("anchor", "all"),
  map: text("PCA"),
  truth: flag(false),
  doubtful: flag(false),
};

/** @type {Record<string, Field>} */
const SIDE = {
  positives: anything(undefined),
  negatives: anything(undefined),
  temperature: real(undefined),
  epoch: whole(undefined),
};

/**
 * A rule with all of its settings, checked. A rule that only Python knows is passed on as it is.
 * @param {any} plain its class name as `rule`, and settings
 * @param {"positives" | "negatives"} kind
 * @param {string} [path] what an error calls it
 * @returns {Settings}
 */
export function completeRule(plain, kind, path = kind) {
  const known = RULES[kind];
  if (typeof plain?.rule !== "string") {
    const example = kind === "positives" ? "NearestKeys" : "RankBand";
    refuse(`${path} must name its rule, as in {"rule": "${example}"}.`);
  }
  const { rule, ...settings } = plain;
  if (!Object.hasOwn(known, rule)) return plain;
  /** @type {Settings} */
  const found = { rule, ...completed(settings, known[rule].fields, path) };
  if (rule === "MarginBand" && found.margin === null && found.relative === null) found.margin = 0;
  return checked(known[rule], found);
}

/**
 * A rule in its initial state: with its defaults, at full strength.
 * @param {string} name
 * @param {"positives" | "negatives"} kind
 * @returns {Settings}
 */
export function freshRule(name, kind) {
  const rule = completeRule({ rule: name }, kind);
  if (kind === "positives") return name === "AugmentedView" ? rule : { ...rule, start: 0, ramp: 0 };
  return "start" in rule ? { ...rule, start: 0 } : rule;
}

/**
 * @param {any} plain
 * @param {string} path
 * @returns {Side}
 */
function completeSide(plain, path) {
  const side = /** @type {Side} */ (completed(plain, SIDE, path));
  for (const kind of /** @type {const} */ (["positives", "negatives"])) {
    side[kind] = completeRule(side[kind], kind, `${path}.${kind}`);
  }
  return side;
}

/**
 * Read what `writeState` or `State.to_json` wrote.
 * @param {string} text
 * @returns {State}
 */
export function parseState(text) {
  let plain;
  try {
    plain = JSON.parse(text);
  } catch (error) {
    refuse(`This is not a state: ${/** @type {Error} */ (error).message}.`);
  }
  const found = completed(plain, STATE, "state");
  const state = /** @type {State} */ ({
    ...found,
    a: completeSide(found.a, "state.a"),
    b: found.b === null ? null : completeSide(found.b, "state.b"),
  });
  if (state.b === null && (state.active === "B" || state.colour === "difference"))
    refuse("There is no side B to show or to move.");
  return state;
}

/**
 * One line that `parseState` and `State.from_json` read.
 * @param {State} state
 */
export function writeState(state) {
  return JSON.stringify(state);
}

/**
 * The side of a name; A where there is no other.
 * @param {State} state
 * @param {"A" | "B"} name
 */
export function sideOf(state, name) {
  return name === "B" && state.b !== null ? state.b : state.a;
}

/**
 * Throw an error if a state refers to something that the snapshots do not have.
 * @param {State} state
 * @param {Snapshot[]} snapshots one, or two that are shown side by side
 */
export function checkState(state, snapshots) {
  const [first] = snapshots;
  if (!first.anchorIds.includes(state.anchor)) refuse(`There is no anchor ${state.anchor}.`);
  if (!first.mapNames.includes(state.map))
    refuse(`There is no map ${JSON.stringify(state.map)}; there is ${first.mapNames.join(", ")}.`);
  if (snapshots.length === 2 && state.b === null) refuse("Two snapshots need a side B.");
  for (const [side, snapshot] of /** @type {[Side, Snapshot][]} */ ([
    [state.a, first],
    [sideOf(state, "B"), snapshots[snapshots.length - 1]],
  ])) {
    if (!snapshot.epochs.includes(side.epoch))
      refuse(`This snapshot has no epoch ${side.epoch}; it has ${snapshot.epochs.join(", ")}.`);
    const { thresholds } = snapshot.embeddings[snapshot.epochs.indexOf(side.epoch)];
    if (side.negatives.rule === "LearnedThreshold" && thresholds === null)
      refuse("LearnedThreshold learns while training, and this snapshot holds nothing that it learned.");
    if (!(side.temperature > 0)) refuse(`The temperature is ${side.temperature}; it must be above 0.`);
  }
  if (!first.labelled && (state.truth || state.colour === "class"))
    refuse("These have no labels, so there are no classes to show.");
  if (state.colour === "class" && !state.truth) refuse("Classes are hidden; show them before they colour the map.");
}
