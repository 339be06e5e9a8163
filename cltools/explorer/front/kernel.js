// @ts-check
/** The explorer in a notebook. Python sends a snapshot once for all explorers of a page; the state is synchronised. */

import { parseState } from "./engine/state.js";
import { el, setAttribute, setText } from "./views/dom.js";
import { fitted, withEpochs } from "./views/growing.js";
import { epochsOf, shownOf } from "./views/held.js";
import { mount } from "./views/page.js";

/** @typedef {import("./views/scene.js").Shown} Shown */
/**
 * The argument of anywidget: the model shared with Python, and the element to draw in.
 * @typedef {object} Context
 * @property {any} model
 * @property {HTMLElement} el
 */

const PATIENCE = 8000; // milliseconds after which it is said that no kernel answers
const GONE =
  "The kernel does not answer. If it is busy, wait; if it was restarted, run the cells again, from the first.";

const PYTHON = "python";
const SHARED = Symbol.for("cltools snapshots");
/** @type {any} */
const wholePage = globalThis;
wholePage[SHARED] ??= new Map();
/**
 * Snapshots by digest, requested or loaded; shared by the whole page, as each explorer has its own copy of the script.
 * @type {Map<string, Promise<Shown[]>>}
 */
const HELD = wholePage[SHARED];

/**
 * Give an element JupyterLab's theme; if there is none, the style sheet follows the system.
 * @param {HTMLElement} root
 */
function followTheme(root) {
  const tell = () => {
    const light = document.body.dataset.jpThemeLight;
    setAttribute(root, "data-theme", light && (light === "false" ? "dark" : "light"));
  };
  const watch = new MutationObserver(tell);
  watch.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  tell();
  return watch;
}

/**
 * Listen to a model.
 * @param {any} model
 * @param {Record<string, (...told: any[]) => void>} listeners
 * @returns {() => void} what ends it
 */
function listening(model, listeners) {
  const each = Object.entries(listeners);
  for (const [name, listener] of each) model.on(name, listener);
  return () => {
    for (const [name, listener] of each) model.off(name, listener);
  };
}

/**
 * The next matching message from Python; an error if the kernel is gone.
 * @param {any} model
 * @param {object} question
 * @param {(content: any) => boolean} fits
 * @returns {Promise<{content: any, buffers: DataView[]}>}
 */
function answered(model, question, fits) {
  /** @type {() => void} */
  let done;
  const answer = new Promise((resolve, reject) => {
    const gone = () => reject(new Error(GONE));
    done = listening(model, {
      "msg:custom": (content, buffers) => fits(content) && resolve({ content, buffers }),
      comm_live_update: gone, // ipywidgets tells so that a kernel was restarted
      destroy: gone,
    });
    model.send(question);
  });
  return answer.finally(() => done());
}

/**
 * A copy of a message's bytes, aligned for typed arrays.
 * @param {DataView} view
 */
function copied({ buffer, byteOffset, byteLength }) {
  return new Uint8Array(buffer.slice(byteOffset, byteOffset + byteLength));
}

/**
 * The snapshots of an explorer: as the page holds them, else asked for. Where another explorer has asked and its kernel
 * is gone, this one asks.
 * @param {any} model
 * @returns {Promise<Shown[]>}
 */
function snapshotsOf(model) {
  const digest = model.get("digest");
  const known = HELD.get(digest);
  if (known) return known.catch(() => snapshotsOf(model));
  const asked = answered(model, { want: digest }, (content) => content.digest === digest);
  const made = asked.then(({ content, buffers }) =>
    content.held.map((/** @type {any} */ held) => shownOf(held, (i) => copied(buffers[i]))),
  );
  HELD.set(digest, made);
  made.then(
    () => {
      HELD.delete(digest); // it may have grown meanwhile, and the answer is what it is now
      HELD.set(model.get("digest"), made);
    },
    () => HELD.delete(digest),
  );
  return made;
}

/**
 * Draw an explorer in the output of a cell.
 * @param {Context} context
 * @param {string} code that a worker runs to count
 */
export function render({ model, el: place }, code) {
  const waiting = el("p", "foot", "Waiting for the snapshot …");
  const root = el("div", "cltools-explorer", waiting);
  root.dataset.lmSuppressShortcuts = "true"; // what is pressed here is no command of the notebook
  root.addEventListener("keydown", (event) => event.stopPropagation());
  place.append(root);
  const theme = followTheme(root);
  const me = `page ${Math.random()}`;
  const late = setTimeout(() => setText(waiting, GONE), PATIENCE);
  const told = () => JSON.parse(model.get("state"));
  const stateOf = (/** @type {any} */ state) => parseState(JSON.stringify(state));
  let now = stateOf(told().state);
  let question = 0;
  /** The last revision received from Python. */
  let seen = told().seen;
  let live = true;
  /** @type {ReturnType<typeof mount> | null} */
  let page = null;
  /** @type {Shown[]} */
  let snapshots = [];

  const deaf = listening(model, {
    comm_live_update: () => (live = false),
    "msg:custom"(content, buffers) {
      if (page === null) return;
      if (content.training) page.tell(`Training: ${content.training}.`);
      if (content.renewed) load();
      if (!content.added) return;
      const epochs = epochsOf(content.added, (i) => copied(buffers[i]));
      snapshots = [withEpochs(snapshots[0], epochs)];
      HELD.set(content.digest, Promise.resolve(snapshots));
      page.extend(snapshots[0]);
    },
    "change:state"() {
      const { author, newest, state, seen: heard, count } = told();
      // what is told of other snapshots waits for them, and what Python tells again is known
      if (page === null || author === me || count !== snapshots.length || (author === PYTHON && heard === seen)) return;
      seen = heard;
      now = fitted(stateOf(state), snapshots, newest);
      page.set(now);
    },
  });
  /** Send Python a request after the state, which is sent separately. @param {object} asked @returns {ReturnType<typeof answered>} */
  async function ask(asked) {
    if (!live) throw new Error(GONE);
    const number = `${me} ${question++}`;
    const answer = await answered(model, { ...asked, number }, (each) => each.number === number);
    if (answer.content.error) throw new Error(answer.content.error);
    return answer;
  }
  /** Replace the snapshots that are shown. @param {Shown[]} held */
  function show(held) {
    if (root.parentNode === null) return; // the cell's output is gone
    const before = page?.state();
    page?.close();
    snapshots = held;
    seen = told().seen;
    now = fitted(stateOf(told().state), snapshots, told().newest);
    const merged =
      before && now.b ? { ...now, a: fitted(before, snapshots, told().newest).a, anchor: before.anchor } : now;
    page = mount(root, snapshots, now, {
      show: model.get("show"),
      code,
      settled(state) {
        if (state === now) return; // it comes from there
        now = state;
        const [count, newest] = [snapshots.length, snapshots[0].epochs.at(-1)];
        model.set("state", JSON.stringify({ revision: told().revision + 1, author: me, seen, count, newest, state }));
        if (live) model.save_changes();
      },
      async ask(side, state) {
        const { content, buffers } = await ask({ judge: side, state });
        const [band, weight] = buffers.map(copied);
        const { anchorWeight } = content;
        return { band: new Int8Array(band.buffer), weight: new Float32Array(weight.buffer), anchorWeight };
      },
      grouped: (ids) => live && model.send({ group: ids }),
      train: model.get("trains") ? () => ask({ train: true }) : undefined,
      stop: () => model.send({ stop: true }),
    });
    if (merged !== now) {
      page.set(merged); // side A stays as it was moved meanwhile
      page.tell("Done: side B is what it made, side A what was there.");
    }
    Object.assign(root, { explorer: page }); // for the console, and for tests
  }
  const load = () => snapshotsOf(model).then(show, (error) => setText(waiting, error.message));
  load().finally(() => clearTimeout(late));
  return () => {
    deaf();
    clearTimeout(late);
    theme.disconnect();
    root.remove();
    page?.close();
  };
}

export { serveCensus } from "./views/counting.js";
