// @ts-check
/** The stand-alone page, which contains the snapshot, and has the state in its address. */

import { checkState, parseState, sideOf, writeState } from "./engine/state.js";
import { serveCensus } from "./views/counting.js";
import { shownOf } from "./views/held.js";
import { mount } from "./views/page.js";
import { questionOf } from "./views/scene.js";

/** @typedef {import("./engine/state.js").State} State */
/** @typedef {import("./views/scene.js").Shown} Shown */

const AFTER = 500; // milliseconds from the last change until the address tells it

/**
 * The bytes of a base64 text.
 * @param {string} text
 */
export function bytesOf(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/**
 * The recorded choices of rules that only Python can evaluate, by `questionOf`.
 * @param {any[]} recorded of each side; null where its rules are built in
 * @param {State} state that was saved
 * @param {Shown[]} snapshots
 */
export function recordedOf(recorded, state, snapshots) {
  /** @type {Map<string, import("./engine/judgement.js").Recorded>} */
  const known = new Map();
  for (const [i, told] of recorded.entries()) {
    if (told === null) continue;
    const which = Math.min(i, snapshots.length - 1);
    const keys = snapshots[which].ids.length;
    const band = new Int8Array(bytesOf(told.band).buffer);
    const weight = told.weight === null ? undefined : new Float32Array(bytesOf(told.weight).buffer);
    for (const [row, place] of told.places.entries()) {
      const [from, to] = [row * keys, (row + 1) * keys];
      known.set(questionOf(sideOf(state, i === 0 ? "A" : "B"), which, place), {
        band: band.subarray(from, to),
        weight: weight?.subarray(from, to),
        anchorWeight: told.anchorWeight?.[row],
      });
    }
  }
  return known;
}

/**
 * Start the page, or serve a count where this script runs in a worker.
 * @param {any} scope its global object
 */
export function start(scope) {
  if (scope.document === undefined) {
    serveCensus(scope);
    return null;
  }
  const { document, location, history } = scope;
  const held = JSON.parse(document.getElementById("cltools-data").textContent);
  const snapshots = held.snapshots.map((/** @type {any} */ each) => shownOf(each, bytesOf));
  const state = parseState(JSON.stringify(held.state));
  const known = recordedOf(held.recorded, state, snapshots);
  /** The state that the address tells; without one as it was saved, and null for one that fits no view of this page. */
  function addressed() {
    if (location.hash.length < 2) return state;
    try {
      const asked = parseState(decodeURIComponent(location.hash.slice(1)));
      checkState(asked, snapshots);
      return asked;
    } catch {
      return null;
    }
  }
  /** @type {number | undefined} */
  let waiting;
  const page = mount(document.getElementById("cltools-explorer"), snapshots, addressed() ?? state, {
    show: held.show,
    known,
    code: document.getElementById("cltools-code").textContent,
    settled(now) {
      clearTimeout(waiting);
      waiting = scope.setTimeout(() => {
        try {
          history.replaceState(null, "", `#${encodeURIComponent(writeState(now))}`);
        } catch {
          // an address that may not be written changes nothing else
        }
      }, AFTER);
    },
  });
  const refuse = () => page.say("This address does not match any view of this page.");
  if (addressed() === null) refuse();
  scope.addEventListener("hashchange", () => {
    const asked = addressed();
    if (asked) page.set(asked);
    else refuse();
  });
  return page;
}
