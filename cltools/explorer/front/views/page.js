// @ts-check
/** The explorer as one element, for a stand-alone page or a notebook. */

import { EngineError } from "../engine/fields.js";
import { checkState } from "../engine/state.js";
import { PRESETS, presetOf, presetRule, withComparison, withSide, withTruth } from "./actions.js";
import { costView } from "./cost.js";
import { censusFor } from "./counting.js";
import { button, el, iconButton, radios, setAttribute, setText } from "./dom.js";
import { findingView } from "./finding.js";
import { fitted } from "./growing.js";
import { histogramView } from "./histogram.js";
import { anchorsView } from "./listing.js";
import { mapView } from "./map.js";
import { paletteOf } from "./palette.js";
import { picturesView, tileOf } from "./pictures.js";
import { questionOf, scenes } from "./scene.js";
import { settingsView } from "./settings.js";
import { storeOf } from "./store.js";
import { nameOf, painterOf, sheetOf } from "./things.js";
import { agreement, answer, bandName, count, percent, score, truth } from "./words.js";

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("./scene.js").Shown} Shown */
/** @typedef {import("../engine/state.js").State} State */
/** @typedef {import("../engine/census.js").Census} Census */
/** @typedef {import("./scene.js").Recorded} Recorded */
/** @typedef {"pictures" | "map" | "push" | "cost"} Part */
/**
 * @typedef {object} Options
 * @property {Part[]} show which parts are shown
 * @property {string} code this script's text, for a worker that counts
 * @property {(state: State) => void} settled told after every change that can be undone
 * @property {(side: number, state: State) => Promise<Recorded>} [ask] asks Python for the bands of a side that only it
 *   can judge
 * @property {() => Promise<any>} [train] trains with the rule that is shown
 * @property {() => void} [stop] stops that
 * @property {(ids: number[]) => void} [grouped] told of the keys that were circled on the map
 * @property {Map<string, Recorded>} [known] what Python has chosen by rules that only it knows, by `questionOf`
 */

const SIDES = /** @type {["A" | "B", string][]} */ (["A", "B"].map((side) => [side, side]));
const TRAIN = "Train with this rule";
const QUIET = 400; // milliseconds of rest after which screen readers hear what is shown
const LARGE = 1250;
const WIDE = 900;
const PHONE = 600;

/** A list of names and what they are. @param {string[][]} pairs */
const terms = (pairs) => el("dl", {}, ...pairs.flatMap(([name, is]) => [el("dt", {}, name), el("dd", {}, is)]));

/**
 * Build an explorer inside of an element.
 * @param {HTMLElement} root
 * @param {Shown[]} snapshots one, or two of the same images that are shown side by side
 * @param {State} first
 * @param {Options} options
 */
export function mount(root, snapshots, first, { show, code, settled, ask, train, stop, grouped, known }) {
  checkState(first, snapshots);
  const store = storeOf(first, changed);
  /** @type {Map<string, Recorded>} */
  const recorded = new Map(known);
  let sceneOf = scenes(snapshots, recorded);
  let scene = sceneOf(first);
  let palette = paletteOf(root);
  /** @type {Census[]} */
  const censuses = [];
  const [snapshot] = snapshots;
  const picture = painterOf(snapshot);
  const sheet = new Image();
  sheet.src = snapshot.sprite;
  const spot = sheetOf(snapshot);

  /** `tell` shows a fault. @type {(make: (scene: Scene) => State, settled?: boolean, step?: string, tell?: (fault: string) => void) => void} */
  function change(make, done = true, step = "", tell = say) {
    try {
      const next = make(scene);
      checkState(next, snapshots);
      if (done) store.set(next, step);
      else store.preview(next);
      say("");
      settings.say("");
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      tell(error.message);
      drawSoon();
    }
  }
  /** Make an anchor the one that is judged, counted from the end for places below 0. @param {number} place */
  const choose = (place) =>
    change(({ state }) => ({ ...state, anchor: /** @type {number} */ (snapshot.anchorIds.at(place)) }));
  /** Make a key the anchor, or show it enlarged if it cannot be one. @param {number} place */
  const pick = (place) => (snapshot.own ? showThing(place) : choose(place));
  /** 1 for each key that is looked for. @type {Uint8Array | null} */
  let found = null;
  const shared = { scene: () => scene, palette: () => palette, found: () => found, change, picture, pick, point };

  // --- the parts

  const worded = snapshot.texts.length > 0;
  const anchorTile = el("div", {
    class: "tile anchor-tile",
    role: "img",
    click: () => worded && showThing(scene.thing),
  });
  const positive = button({ class: "tile", title: "its positive" });
  const match = el("div", "match", el("small", {}, "its positive"), positive);
  const anchorName = button({ class: "link anchor-name", title: "List all anchors", click: listAnchors });
  const question = el(
    "h2",
    "question",
    "Which of these should ",
    el("strong", {}, "this one"),
    " be pushed away from?",
  );
  const sentence = el("p", "sentence");
  const heard = el("p", { class: "heard", role: "status" });
  const labels = el("p", "truth-words");
  const alert = el("p", { class: "alert", role: "alert" });
  const step = (/** @type {number} */ by) => () => choose((scene.place + by) % snapshot.anchorIds.length);
  const steps = el(
    "div",
    "steps",
    iconButton("previous", "previous anchor", step(-1)),
    iconButton("next", "next anchor", step(1)),
  );
  const undo = iconButton("undo", "Undo", store.undo);
  const redo = iconButton("redo", "Redo", store.redo);
  const compare = iconButton("compare", "Compare two rules, A and B", () =>
    change(({ state }) => withComparison(state)),
  );
  const more = iconButton("more", "More controls", toggleMore, { "aria-expanded": "false" });
  const explain = iconButton("help", "What is shown here?", showHelp);
  const icons = el("div", "icons", undo, redo, snapshots.length === 1 && compare, explain, more);
  const help = snapshot.help.page;
  const rules = radios("Rule", PRESETS, help, (name) =>
    change((now) => withSide(now.state, { negatives: presetRule(name, now) })),
  );
  const runs = snapshots[1] ? { A: snapshot.run, B: snapshots[1].run } : snapshot.help.explorer;
  const sides = radios("Side", SIDES, runs, (active) => change(({ state }) => ({ ...state, active })));
  const truthBox = el("input", {
    type: "checkbox",
    role: "switch",
    change: () => change(({ state }) => withTruth(state, truthBox.checked)),
  });
  const truthSwitch = el("label", { class: "switch", title: help["True classes"] }, truthBox, "show true classes");
  const trainer = button({ class: "word", click: trainNow }, TRAIN);
  const trained = el("p", { role: "status" });
  const finding = findingView(snapshot, (keys) => {
    found = keys;
    drawSoon();
  });
  const bar = el("div", "bar", sides.root, rules.root, snapshot.labelled && truthSwitch, !worded && finding);

  const bars = { ...shared, push: show.includes("push") };
  const histograms = [histogramView(bars, "A"), histogramView(bars, "B")];
  const pictures = picturesView({ ...shared, dialog });
  const map = mapView({ ...shared, paint: paintOn, lassoed });
  const legend = el("p", "legend");
  map.root.append(legend);
  const census = () => censuses[which()] ?? null;
  const anchors = anchorsView({
    ...shared,
    census,
    choose(place) {
      box.close();
      choose(place);
    },
  });
  const cost = costView({ ...shared, census });
  const settings = settingsView({ ...shared, help: snapshot.help, close: toggleMore });
  const panel = settings.root;
  /** The views that may be left out. @type {Partial<Record<Part, {draw: () => void}>>} */
  const parts = { pictures, map, cost };
  const cardTile = el("div", { class: "tile", role: "img" });
  const cardWords = el("p");
  const card = el("div", { class: "card", role: "status", hidden: true }, cardTile, cardWords);
  const box = el("dialog", "sheet");
  const told = el("div", "say", sentence, labels, alert);
  const head = el("header", "head", anchorTile, anchorName, match, steps, question, icons, bar, told);
  steps.replaceChildren(worded ? anchorName : "", ...steps.children, worded ? (finding ?? "") : match);
  const [withMap, withCost] = [show.includes("map"), show.includes("cost")];
  const aside = el("div", "aside", withMap && map.root, withCost && cost.root);
  if (train) (withCost ? cost.root : aside).append(el("div", "training", trainer, trained));
  const main = el(
    "div",
    "main",
    el("div", "axis-column", ...histograms.map((each) => each.root), show.includes("pictures") && pictures.root),
    aside.children.length > 0 && aside,
  );
  const { ids, anchorIds, own, tiles, noun } = snapshot;
  const some = tiles && tiles < ids.length ? `, of which a draw of ${count(tiles)} has a picture` : "";
  const held = `${own ? `${count(anchorIds.length)} queries, ` : ""}${count(ids.length)} ${noun}s${some}`;
  const foot = el("p", "foot", `${snapshot.title}: ${held}. ${help["The encoder"]}`);
  root.classList.add("cltools-explorer");
  root.classList.toggle("worded", worded);
  root.replaceChildren(head, main, foot, panel, card, box, heard);

  // --- what is shown

  function which() {
    return scene.state.active === "B" && snapshots.length > 1 ? 1 : 0;
  }

  /** @param {string} message */
  function say(message) {
    setText(alert, message);
  }

  /** @param {import("./words.js").Piece[]} pieces */
  const nodes = (pieces) =>
    pieces.map((piece) =>
      typeof piece === "string" ? piece : el("b", piece.band ? `band-${piece.band}` : "lead", piece.text),
    );

  /** What the labels say, with the count over all anchors as far as it is; what changed is read out after a rest. */
  function tellTruth() {
    clearTimeout(speaking);
    speaking = window.setTimeout(() => setText(heard, `${sentence.textContent} ${labels.textContent}`), QUIET);
    labels.replaceChildren(...nodes(scene.state.truth ? truth(scene.shown, censuses[which()]) : []));
  }

  let speaking = 0;

  /** @param {boolean} done whether a change is complete */
  function draw(done) {
    const { state, shown } = scene;
    const text = answer(shown);
    if (scene.difference !== null) {
      text.unshift({ text: `${state.active}: `, strong: true });
      text.push(` ${agreement(scene.difference)}`);
    }
    sentence.replaceChildren(...nodes(text));
    tellTruth();
    picture(scene.thing, anchorTile);
    match.hidden = !snapshot.own || !scene.own.length;
    if (!match.hidden) picture(scene.own[0], positive);
    setText(anchorName, nameOf(snapshot, scene.thing, state.truth));
    truthBox.checked = state.truth;
    rules.show(presetOf(shown.side.negatives, scene));
    sides.root.hidden = state.b === null;
    sides.show(state.active);
    setAttribute(compare, "aria-pressed", String(state.b !== null));
    setAttribute(undo, "aria-disabled", String(!store.canUndo())); // disabled they would lose the focus
    setAttribute(redo, "aria-disabled", String(!store.canRedo()));
    for (const part of show) parts[part]?.draw();
    for (const each of histograms) each.draw(); // below them stand the pictures, drawn already
    setAttribute(root, "data-colour", state.colour);
    const classes = state.colour === "class" ? snapshot.classes : [];
    legend.replaceChildren(...classes.map((name, i) => el("span", { style: `--class: var(--class-${i % 10})` }, name)));
    if (done) settings.draw();
  }

  let [waiting, whole] = [false, false];
  function drawSoon(done = true) {
    whole ||= done;
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw(whole);
      whole = false;
    });
  }

  /** @type {ReturnType<typeof censusFor> | null} */
  let counter = null;
  let counted = "";
  function countSoon() {
    const { shown } = scene;
    const text = JSON.stringify([which(), shown.side]);
    if (!(withCost || box.open) || !shown.builtIn || text === counted) return;
    counted = text;
    if (counter === null) {
      counter = censusFor(code, (of, census) => {
        censuses[of] = census;
        if (withCost) cost.draw();
        tellTruth();
        if (box.open && box.contains(anchors.root)) anchors.update();
      });
      for (const [of, each] of snapshots.entries()) counter.load(of, each);
    }
    counter.count(which(), shown.side);
  }

  /** @type {(now: State, done: boolean) => void} */
  function changed(now, done) {
    scene = sceneOf(now);
    drawSoon(done);
    if (done || now.truth) countSoon(); // what is hidden need not keep up with a drag
    if (!done) return;
    settled(now);
    askPython();
    point(null);
  }

  /** Request judgements that only Python can make; until the answer, the page shows a sentence that says so. */
  function askPython() {
    for (const [side, judged] of [scene.a, scene.b].entries()) {
      if (!ask || !judged?.unknown) continue;
      const of = side === 1 ? snapshots.length - 1 : 0;
      const question = questionOf(judged.side, of, scene.place);
      say("Asking Python …");
      ask(side, store.state()).then(
        (told) => {
          say("");
          recorded.set(question, told);
          scene = sceneOf(store.state());
          drawSoon();
        },
        (error) => say(String(error.message ?? error)),
      );
    }
  }

  /** The rule's decision on a key. @param {number} place */
  function about(place) {
    const { similarities: s, judgement, summary } = scene.shown;
    const [rank, code] = [judgement.ranking.order.indexOf(place) + 1, judgement.band[place]];
    return [
      el("strong", `band-${code}`, bandName(code)),
      el("span", "name", nameOf(snapshot, place, scene.state.truth)),
      el("span", "text", snapshot.texts[place] ?? ""),
      `cosine ${score(s.anchorKeys[place])}, with the positive ${score(s.positiveKeys[place])}`,
      el("br"),
      `${count(rank - 1)} of ${count(summary.others)} are closer, ${percent(judgement.plain[place])} of the push`,
    ];
  }

  /** @type {(place: number | null, at?: {x: number, y: number}) => void} */
  function point(place, at) {
    for (const each of [...histograms, map]) each.mark(place);
    card.hidden = true;
    if (place === null || at === undefined || (!snapshot.own && place === scene.place)) return;
    card.hidden = false;
    picture(place, cardTile);
    cardWords.replaceChildren(...about(place));
    const host = box.open ? box : root; // nothing else lies above an open sheet
    if (card.parentNode !== host) host.append(card);
    card.style.transform = "";
    const { x, y, width, height } = card.getBoundingClientRect();
    /** After a point, or before it where there is no room. @type {(from: number, size: number, room: number) => number} */
    const beside = (from, size, room) => Math.max(0, from + 16 + size > room ? from - 16 - size : from + 16);
    const { right, bottom } = root.getBoundingClientRect();
    const left = beside(at.x, width, right) - x;
    const top = beside(at.y, height, Math.min(bottom, window.innerHeight)) - y;
    card.style.transform = `translate(${left}px, ${top}px)`;
  }

  /** @type {(place: number, x: number, y: number, size: number, context: CanvasRenderingContext2D) => void} */
  function paintOn(place, x, y, size, context) {
    const at = spot(place);
    if (!at || !sheet.naturalWidth) return; // it has no picture, or none yet
    const wide = sheet.naturalWidth / snapshot.columns;
    const high = (wide * snapshot.tile[0]) / snapshot.tile[1];
    context.drawImage(sheet, at[0] * wide, at[1] * high, wide, high, x, y, size, size);
    context.lineWidth = 2;
    context.strokeRect(x, y, size, size);
  }

  /** @param {number[]} places */
  function lassoed(places) {
    const codes = places.map((place) => scene.shown.judgement.band[place]);
    const number = (/** @type {number} */ code) => count(codes.filter((each) => each === code).length);
    const words = [...new Set(codes)].map((code) => `${bandName(code)} ${number(code)}`);
    const group = places.map((place) => snapshot.ids[place]);
    const area = el("textarea", { rows: 3, readonly: true, "aria-label": "ids of the group", value: group.join(", ") });
    grouped?.(group);
    const told = el("p", {}, words.join(", ") || "No point lies inside.");
    dialog(`${count(places.length)} ${noun}s inside the line`, el("div", {}, told, area, pictures.gallery(places)));
  }

  /** @type {(title: string, body: HTMLElement) => void} */
  function dialog(title, body) {
    const close = iconButton("close", "Close", () => box.close());
    setAttribute(box, "aria-label", title);
    box.replaceChildren(el("header", {}, el("h3", {}, title), close), body);
    box.showModal();
  }

  /** Everything known about a key or a query. @param {number} thing */
  function showThing(thing) {
    const tile = el("div", { class: "tile", role: "img" });
    picture(thing, tile);
    const key = thing < ids.length;
    const known = key ? Object.entries(snapshot.metadata).map(([name, values]) => [name, values[thing] || "–"]) : [];
    const body = el("div", "whole", tile, key && el("p", {}, ...about(thing)), terms(known));
    dialog(nameOf(snapshot, thing, scene.state.truth), body);
  }

  function listAnchors() {
    dialog("All anchors", anchors.root);
    countSoon();
    anchors.draw();
  }

  async function trainNow() {
    if (trainer.textContent !== TRAIN) return stop?.();
    setText(trainer, "Stop training");
    setText(trained, "Training …");
    const fault = await train?.().catch((error) => String(error.message ?? error));
    setText(trainer, TRAIN);
    setText(trained, typeof fault === "string" ? fault : "");
  }

  function showHelp() {
    dialog("What is shown here?", terms(Object.entries(help)));
  }

  function toggleMore() {
    const within = panel.contains(document.activeElement);
    panel.hidden = !panel.hidden;
    setAttribute(more, "aria-expanded", String(!panel.hidden));
    settings.draw();
    if (!panel.hidden) panel.querySelector("select")?.focus();
    else if (within) more.focus();
  }

  root.addEventListener("click", (event) => {
    if (event.target === box) box.close(); // beside the sheet, which covers its element
    if (!panel.hidden && !event.composedPath().some((node) => node === more || node === panel)) toggleMore();
    const place = tileOf(event);
    if (place === null) return;
    box.close();
    pick(place);
  });
  for (const name of ["pointerover", "focusin", "pointerout", "focusout"]) {
    root.addEventListener(name, (event) => {
      const place = tileOf(event);
      if (place === null) return;
      const { right: x, top: y } = /** @type {Element} */ (event.target).getBoundingClientRect();
      point(name.endsWith("out") ? null : place, { x, y });
    });
  }
  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !panel.hidden && !box.open) toggleMore();
    const typing = /** @type {Element} */ (event.target).matches("input, textarea");
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !typing) {
      event.preventDefault();
      (event.shiftKey ? store.redo : store.undo)();
    }
  });
  let wide = -1;
  /** Only if the width changed: counts change the height, and nothing may move under the pointer. */
  function layout() {
    const { width } = root.getBoundingClientRect();
    if (width === wide) return;
    wide = width;
    root.dataset.size = width < PHONE ? "phone" : width < WIDE ? "medium" : width < LARGE ? "wide" : "large";
    pictures.resized();
    map.resized();
    draw(false);
  }
  const resizes = new ResizeObserver(() => requestAnimationFrame(layout));
  resizes.observe(root);
  const themed = () => {
    palette = paletteOf(root);
    draw(false);
  };
  const media = ["(prefers-color-scheme: dark)", "print"].map((query) => matchMedia(query));
  for (const each of media) each.addEventListener("change", themed);
  const themes = new MutationObserver(themed);
  themes.observe(root, { attributes: true, attributeFilter: ["data-theme"] });
  layout();
  countSoon();
  askPython();

  return {
    state: store.state,
    /** @param {State} next */
    set: (next) => change(() => next),
    say,
    /** Report the progress of a training. @param {string} words */
    tell: (words) => setText(trained, words),
    /**
     * Replace the only snapshot by a grown one; a side that showed the last epoch shows the new last epoch.
     * @param {Shown} grown
     */
    extend(grown) {
      const { epochs } = snapshots[0];
      snapshots = [grown];
      sceneOf = scenes(snapshots, recorded);
      recorded.clear();
      counter?.load(0, grown);
      counted = "";
      store.rewrite((state) => fitted(state, snapshots, /** @type {number} */ (epochs.at(-1))));
      settings.draw();
      askPython();
    },
    close() {
      for (const observer of [resizes, themes]) observer.disconnect();
      for (const each of media) each.removeEventListener("change", themed);
      counter?.close();
      settings.close();
      clearTimeout(speaking);
    },
    scene: () => scene,
    map,
  };
}
