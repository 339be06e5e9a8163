// @ts-check
/** Explorers within a page of the site; their snapshots lie beside this script as classic scripts that pages share. */

import { checkState, parseState, writeState } from "../../cltools/explorer/front/engine/state.js";
import { bytesOf, recordedOf } from "../../cltools/explorer/front/standalone.js";
import { setAttribute } from "../../cltools/explorer/front/views/dom.js";
import { shownOf } from "../../cltools/explorer/front/views/held.js";
import { mount } from "../../cltools/explorer/front/views/page.js";
import { listen } from "./checks.js";
import { measured } from "./measures.js";

/** @typedef {import("../../cltools/explorer/front/views/scene.js").Shown} Shown */

const SETTLED = 500; // milliseconds from the last change until the address tells it
const AHEAD = "600px"; // how far below the window an explorer is loaded

/**
 * Snapshots by name, requested or loaded.
 * @type {Map<string, Promise<Shown>>}
 */
const held = new Map();

/**
 * Load a snapshot once. Its script puts the data into `cltoolsSnapshots`.
 * @param {string} folder address of the scripts
 * @param {string} name
 * @returns {Promise<Shown>}
 */
function loaded(folder, name) {
  const known = held.get(name);
  if (known) return known;
  const asked = new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `${folder}${name}.js`;
    script.onload = () => resolve(shownOf(/** @type {any} */ (globalThis).cltoolsSnapshots[name], bytesOf));
    script.onerror = () => reject(new Error(`The embeddings are missing: ${name}.js could not be loaded.`));
    document.head.append(script);
  });
  held.set(name, asked);
  return asked;
}

/**
 * Give an explorer the theme that the site has chosen.
 * @param {HTMLElement} root
 */
function followTheme(root) {
  const tell = () => setAttribute(root, "data-theme", document.documentElement.dataset.theme ?? "");
  new MutationObserver(tell).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  tell();
}

/**
 * The state that the page's address gives to an explorer; null for none, or one that it cannot show.
 * @param {HTMLElement} root
 * @param {Shown[]} snapshots
 */
function addressed(root, snapshots) {
  const head = `#${root.id}=`;
  if (!location.hash.startsWith(head)) return null;
  try {
    const state = parseState(decodeURIComponent(location.hash.slice(head.length)));
    checkState(state, snapshots);
    return state;
  } catch {
    return null;
  }
}

/**
 * Make an explorer live. The text of a viewer without scripts goes, and a fault is shown in its place.
 * @param {HTMLElement} root with what it shows in `data-explorer`
 * @param {string} folder address of the snapshots
 * @param {string} code that a worker runs to count
 */
async function awaken(root, folder, code) {
  const told = JSON.parse(root.dataset.explorer ?? "");
  const snapshots = await Promise.all(told.snapshots.map((/** @type {string} */ name) => loaded(folder, name)));
  const first = parseState(JSON.stringify(told.state));
  /** @type {number | undefined} */
  let waiting;
  let now = first;
  followTheme(root);
  const page = mount(root, snapshots, first, {
    show: told.show,
    known: recordedOf(told.recorded, first, snapshots),
    code,
    settled(state) {
      if (state === now) return; // it comes from the address, or is the first
      root.dispatchEvent(new Event("changed"));
      now = state;
      clearTimeout(waiting);
      waiting = setTimeout(() => {
        try {
          history.replaceState(null, "", `#${root.id}=${encodeURIComponent(writeState(state))}`);
        } catch {
          // an address that may not be written changes nothing else
        }
      }, SETTLED);
    },
  });
  const follow = () => {
    const asked = addressed(root, snapshots);
    if (asked === null) return;
    now = asked;
    page.set(asked);
    root.scrollIntoView();
  };
  follow();
  addEventListener("hashchange", follow);
  Object.assign(root, { explorer: page }); // for the console, and for tests
  return () => measured(snapshots, page.state());
}

/**
 * Make every explorer of this page live when it is near the window.
 * @param {string} folder address of the snapshots
 * @param {string} code that a worker runs to count
 */
export function live(folder, code) {
  /** @type {Map<HTMLElement, ReturnType<typeof awaken>>} */
  const started = new Map();
  /** Make an explorer live, once. @param {HTMLElement} root */
  function start(root) {
    const known = started.get(root);
    if (known) return known;
    near.unobserve(root);
    const live = awaken(root, folder, code);
    live.catch((error) => {
      root.append(Object.assign(document.createElement("p"), { className: "alert", textContent: error.message }));
    });
    started.set(root, live);
    return live;
  }
  const near = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) start(/** @type {HTMLElement} */ (target));
      }
    },
    { rootMargin: AHEAD },
  );
  const roots = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".cltools-explorer[data-explorer]"));
  /** Start the explorer that the address names, wherever it is. */
  const lead = () => {
    for (const root of roots) if (location.hash.startsWith(`#${root.id}=`)) start(root);
  };
  for (const [i, root] of roots.entries()) {
    root.id ||= `explorer-${i + 1}`;
    near.observe(root);
  }
  lead();
  addEventListener("hashchange", lead);
  for (const form of /** @type {NodeListOf<HTMLFormElement>} */ (document.querySelectorAll("form.cl-check"))) {
    const above = [...roots].find((root) => root.dataset.session === form.dataset.session);
    listen(form, above, async () => (await start(/** @type {HTMLElement} */ (above)))());
  }
}

export { serveCensus } from "../../cltools/explorer/front/views/counting.js";
