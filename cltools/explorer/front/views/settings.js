// @ts-check
/** The contents of "more": rules by name, their settings, axis, map, epochs, comparison, and the rules as code. */

import { RULES, whyRuleUnknown } from "../engine/select.js";
import { freshRule, parseState, writeState } from "../engine/state.js";
import { withRuleNamed, withSetting, withSide } from "./actions.js";
import { el, iconButton, setAttribute, setText } from "./dom.js";
import { pythonOf } from "./words.js";

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("../engine/state.js").State} State */
/** @typedef {import("../engine/judgement.js").Side} Side */
/** @typedef {import("../engine/fields.js").Field} Field */
/** @typedef {"positives" | "negatives"} Kind */

/** Schedules: an explorer shows a moment, at full strength. */
const HIDDEN = /^(start|ramp|strength|anneal|.*_from)$/;
const TEMPERATURES = [0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 2, 5];
const PLAY = 700; // milliseconds an epoch

/**
 * @param {object} page
 * @param {() => Scene} page.scene
 * @param {(make: (scene: Scene) => State, settled: boolean, step: string | undefined, tell: (fault: string) => void) => void
 *   } page.change
 * @param {() => void} page.close
 * @param {Record<string, Record<string, string>>} page.help what each setting does, by rule and by setting
 */
export function settingsView(page) {
  const { explorer, labels } = page.help;
  const root = el("div", { class: "panel", role: "dialog", "aria-label": "More controls", hidden: true });
  const alert = el("p", { class: "alert", role: "alert" });
  /** @type {number | undefined} */
  let playing;
  /** The values that determine which controls exist; controls are kept while these are equal, as one may be in use. */
  let built = "";

  /** @type {(label: string, control: HTMLElement, title: string, name?: string) => HTMLElement} */
  const row = (label, control, title, name = label) => {
    setAttribute(control, "data-setting", name);
    setAttribute(control, "title", title);
    const help = el("details", {}, el("summary", { "aria-label": `Help: ${label}` }, "?"), title);
    // a label of several controls would hand each press to the first
    const field = el(control.matches("div") ? "div" : "label", "field", el("span", {}, label), control);
    return el("div", "row", field, help);
  };

  /** Say what is wrong with a value beside its control, in the words of the label. @param {string} fault */
  function say(fault) {
    alert.remove();
    const words = fault
      .replace(/^\w+[.:] ?/, "")
      .replaceAll("_", " ")
      .replace("null", "empty");
    setText(alert, used?.matches("textarea") ? fault : words);
    if (fault) used?.closest(".row")?.append(alert);
  }
  /** The control that was used last. @type {Element | null} */
  let used = null;
  root.addEventListener("change", (event) => (used = /** @type {Element} */ (event.target)), true);

  /** @type {(make: (scene: Scene) => State, step?: string) => void} */
  const change = (make, step) => page.change(make, true, step, say);
  /** @type {(changes: Partial<State>) => void} */
  const set = (changes) => change(({ state }) => ({ ...state, ...changes }));
  /** @type {(changes: Partial<Side>, step?: string) => void} */
  const setSide = (changes, step) => change(({ state }) => withSide(state, changes), step);

  /**
   * @param {(string | number)[]} values to choose from
   * @param {any} value
   * @param {(value: any) => void} act
   * @param {Record<string, string>} [names] of values that are shown by another
   * @param {(value: any) => string} [why] a value cannot be chosen; empty if it can
   */
  function chooser(values, value, act, names = {}, why = () => "") {
    const list = values.map((each) => {
      const title = why(each) || null;
      return el("option", { value: JSON.stringify(each), disabled: title, title }, names[each] ?? String(each));
    });
    const change = (/** @type {any} */ { target }) => act(JSON.parse(target.value));
    return el("select", { value: JSON.stringify(value), change }, ...list);
  }

  /** @type {(kind: Kind, name: string, field: Field, value: any) => HTMLElement} */
  function settingControl(kind, name, field, value) {
    const act = (/** @type {any} */ next) => change((scene) => withSetting(scene.state, scene, kind, name, next));
    if (field.options) return chooser(field.options, value, act);
    if (typeof value === "boolean") return checkbox(value, act);
    return el("input", {
      type: "text",
      inputmode: "decimal",
      placeholder: field.holds(null) && "none",
      value: value ?? "",
      change(/** @type {any} */ { target }) {
        const text = target.value.trim();
        const number = Number(text.replace(",", "."));
        act(text === "" ? null : Number.isFinite(number) ? number : text);
      },
    });
  }

  /** Draw the scene. */
  function draw() {
    if (root.hidden) return;
    const scene = page.scene();
    const { state, shown } = scene;
    const { side, snapshot, similarities } = shown;
    const fieldsOf = (/** @type {Kind} */ kind) => RULES[kind][side[kind].rule]?.fields ?? {};
    /** @type {(kind: Kind) => HTMLElement[]} */
    const ruleRows = (kind) => {
      const { rule } = side[kind];
      const known = Object.keys(RULES[kind]);
      const why = (/** @type {string} */ name) =>
        known.includes(name) ? whyRuleUnknown(similarities, kind, freshRule(name, kind)) : "";
      const chosen = (/** @type {string} */ name) => change((now) => withRuleNamed(now.state, now, kind, name));
      const names = known.includes(rule) ? known : [rule, ...known];
      const settings = Object.entries(fieldsOf(kind)).filter(([name]) => !HIDDEN.test(name));
      return [
        row(`rule for ${kind}`, chooser(names, rule, chosen, {}, why), explorer[kind]),
        ...settings.map(([name, field]) => {
          const control = settingControl(kind, name, field, side[kind][name]);
          const help = page.help[rule]?.[name] ?? "";
          const label = labels[name] ?? name.replaceAll("_", " ");
          return row(label, control, `${help} In code: ${name}`.trim(), `${kind}.${name}`);
        }),
      ];
    };
    const colours = Object.keys(page.help.colours).filter(
      (name) => (name !== "class" || state.truth) && (name !== "difference" || state.b),
    );
    const temperatures = [...new Set([...TEMPERATURES, side.temperature])].sort((a, b) => a - b);
    const temperature = chooser(temperatures, side.temperature, (temperature) => setSide({ temperature }));
    const map = chooser(scene.a.snapshot.mapNames, state.map, (map) => set({ map }));
    const colour = chooser(colours, state.colour, (colour) => set({ colour }), page.help.colours);
    const doubtful = checkbox(state.doubtful, (doubtful) => set({ doubtful }));
    const kinds = /** @type {Kind[]} */ (["positives", "negatives"]);
    const code = el("textarea", {
      rows: 2,
      readonly: true,
      "aria-label": "in Python",
      "data-setting": "code",
      value: kinds.map((kind) => `${kind} = ${pythonOf(side[kind], fieldsOf(kind))}`).join("\n"),
    });
    const read = (/** @type {any} */ { target }) => change(() => parseState(target.value));
    const line = el("textarea", { rows: 3, spellcheck: "false", value: writeState(state), change: read });
    const ofSide = state.b ? ` of side ${state.active}` : "";
    const fresh = el(
      "div",
      {},
      el("header", {}, el("h3", {}, `Negatives${ofSide}`), iconButton("close", "Close", page.close)),
      ...ruleRows("negatives"),
      el("h3", {}, `Positives${ofSide}`),
      ...ruleRows("positives"),
      el("h3", {}, "Shown"),
      row("temperature τ", temperature, explorer.temperature),
      snapshot.epochs.length > 1 && epochs(snapshot.epochs, side.epoch),
      row("map", map, explorer.map),
      row("colours", colour, explorer.colour),
      row("mark misplaced points", doubtful, explorer.doubtful),
      el("h3", {}, "Take it away"),
      code,
      row("the state as JSON", line, explorer.state),
    );
    const form = fresh.textContent.replace(/epoch \d+/g, "");
    if (form === built) return update(fresh);
    built = form;
    const focused = root.contains(document.activeElement) && document.activeElement?.getAttribute("data-setting");
    root.replaceChildren(...fresh.children);
    if (focused) /** @type {HTMLElement | null} */ (root.querySelector(`[data-setting="${focused}"]`))?.focus();
  }

  /** Set each control to the value of its new counterpart; a text is kept while the user types. @param {Element} fresh */
  function update(fresh) {
    const controls = (/** @type {Element} */ node) =>
      /** @type {HTMLInputElement[]} */ ([...node.querySelectorAll("[data-setting], output")]);
    for (const [i, next] of controls(fresh).entries()) {
      const control = controls(root)[i];
      if (control.matches("textarea:focus, [type=text]:focus")) continue;
      for (const { name, value } of next.attributes) setAttribute(control, name, value);
      if (control.value !== next.value) control.value = next.value;
      control.checked = next.checked;
      if (control.matches("button")) control.replaceChildren(...next.children);
    }
  }

  /** @type {(checked: boolean, act: (value: boolean) => void) => HTMLElement} */
  const checkbox = (checked, act) =>
    el("input", { type: "checkbox", checked, change: (/** @type {any} */ { target }) => act(target.checked) });

  /** @type {(known: number[], epoch: number) => HTMLElement} */
  function epochs(known, epoch) {
    const output = el("output", {}, `epoch ${epoch}`);
    const slider = el("input", {
      type: "range",
      max: known.length - 1,
      "data-setting": "epoch",
      "aria-valuetext": `epoch ${epoch}`,
      "aria-label": "epoch",
      value: known.indexOf(epoch),
      input: () => setSide({ epoch: page.scene().shown.snapshot.epochs[Number(slider.value)] }, "epoch"),
    });
    const play = iconButton(playing ? "pause" : "play", playing ? "Stop" : "Play the epochs", toggle, {
      "data-setting": "play",
    });
    return row("epoch", el("div", "epochs", play, slider, output), explorer.epoch, "epochs");
  }

  /** Play the epochs, or stop. */
  function toggle() {
    const step = () => {
      const { snapshot, side } = page.scene().shown;
      const known = snapshot.epochs;
      const next = known[(known.indexOf(side.epoch) + 1) % known.length];
      setSide({ epoch: next }, "epoch");
      if (next === known.at(-1)) toggle();
    };
    clearInterval(playing);
    playing = playing === undefined ? window.setInterval(step, PLAY) : undefined;
    draw();
  }

  return { root, draw, say, close: () => clearInterval(playing) };
}
