// @ts-check
/** The explorer in a notebook: the snapshot comes from Python once for all explorers of a page, the state goes both ways. */

import { parseState } from "./engine/state.js";
import { shownOf } from "./standalone.js";
import { el } from "./views/dom.js";
import { mount } from "./views/page.js";

/** @typedef {import("./views/scene.js").Shown} Shown */
/**
 * What anywidget gives: the model that Python shares, and the element to draw in.
 * @typedef {object} Context
 * @property {any} model
 * @property {HTMLElement} el
 */

const PATIENCE = 8000; // milliseconds after which it is said that no kernel answers

/** @type {Map<string, Promise<Shown[]>>} */
const HELD = new Map();

/**
 * The next message of Python that fits.
 * @param {any} model
 * @param {object} question
 * @param {(content: any) => boolean} fits
 * @returns {Promise<{content: any, buffers: DataView[]}>}
 */
function answered(model, question, fits) {
  return new Promise((resolve) => {
    /** @type {(content: any, buffers: DataView[]) => void} */
    const heard = (content, buffers) => {
      if (!fits(content)) return;
      model.off("msg:custom", heard);
      resolve({ content, buffers });
    };
    model.on("msg:custom", heard);
    model.send(question);
  });
}

/**
 * A copy of a message's bytes, which begins where typed arrays may.
 * @param {DataView} view
 */
function copied({ buffer, byteOffset, byteLength }) {
  return new Uint8Array(buffer.slice(byteOffset, byteOffset + byteLength));
}

/**
 * The snapshots of an explorer: as the page holds them, else asked for.
 * @param {any} model
 * @returns {Promise<Shown[]>}
 */
function snapshotsOf(model) {
  const digest = model.get("digest");
  const known = HELD.get(digest);
  if (known) return known;
  const made = answered(model, { want: digest }, (content) => content.digest === digest).then(({ content, buffers }) =>
    content.held.map((/** @type {any} */ held) => shownOf(held, (/** @type {number} */ i) => copied(buffers[i]))),
  );
  HELD.set(digest, made);
  return made;
}

/**
 * Draw an explorer in the output of a cell.
 * @param {Context} context
 * @param {string} code that a worker runs to count
 */
export function render({ model, el: place }, code) {
  const waiting = el("p", { class: "foot" }, "Waiting for the snapshot …");
  const root = el("div", { class: "cltools-explorer" }, waiting);
  place.append(root);
  const me = `page ${Math.random()}`;
  const late = setTimeout(() => {
    waiting.textContent =
      "The kernel that holds this snapshot does not answer. If it is busy, wait; if it was restarted, run the cell again.";
  }, PATIENCE);
  let question = 0;
  /** @type {ReturnType<typeof mount> | null} */
  let page = null;

  const heard = () => {
    const told = JSON.parse(model.get("state"));
    if (page !== null && told.author !== me) page.follow(parseState(JSON.stringify(told.state)));
  };
  snapshotsOf(model).then((snapshots) => {
    clearTimeout(late);
    page = mount(root, snapshots, parseState(JSON.stringify(JSON.parse(model.get("state")).state)), {
      show: model.get("show"),
      code,
      settled(state) {
        const { revision } = JSON.parse(model.get("state"));
        model.set("state", JSON.stringify({ revision: revision + 1, author: me, state }));
        model.save_changes();
      },
      async ask(side) {
        const number = `${me} ${question++}`;
        const { content, buffers } = await answered(model, { judge: side, number }, (each) => each.number === number);
        if (content.error) throw new Error(content.error);
        const [band, weight] = buffers.map(copied);
        return { band: new Int8Array(band.buffer), weight: new Float32Array(weight.buffer) };
      },
    });
  });
  model.on("change:state", heard);
  return () => {
    model.off("change:state", heard);
    page?.close();
  };
}

export { serveCensus } from "./views/counting.js";
