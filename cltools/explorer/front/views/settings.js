// @ts-check
/** Everything behind "more": rules by name, their settings, axis, map, epochs, comparison, and the choice as code. */

import { RULES, whyRuleUnknown } from "../engine/select.js";
import { freshRule, parseState, writeState } from "../engine/state.js";
import { withRuleNamed, withSetting, withSide } from "./actions.js";
import { el, iconButton, setAttribute } from "./dom.js";
import { pythonOf } from "./words.js";

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("../engine/state.js").State} State */
/** @typedef {import("../engine/judgement.js").Side} Side */
/** @typedef {import("../engine/fields.js").Field} Field */
/** @typedef {"positives" | "negatives"} Kind */

/** Schedules: an explorer shows a moment, at full strength. */
const HIDDEN = /^(start|ramp|strength|anneal|.*_from)$/;
const TEMPERATURES = [0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 2, 5];
const COLOURS = {
  band: "what the rule does",
  class: "true class",
  similarity: "cosine",
  gradient: "push under the rule",
  difference: "difference of A and B",
};
const PLAY = 700; // milliseconds an epoch

/**
 * @param {object} page
 * @param {() => Scene} page.scene
 * @param {(make: (scene: Scene) => State, settled: boolean, step?: string) => void} page.change
 * @param {() => void} page.close
 * @param {Record<string, Record<string, string>>} page.help what each setting does, by rule and by setting
 */
export function settingsView(page) {
  const root = el("div", { class: "panel", role: "dialog", "aria-label": "More controls", hidden: true });
  /** @type {number | undefined} */
  let playing;

  /** @type {(label: string, control: HTMLElement, title: string, name?: string) => HTMLElement} */
  const row = (label, control, title, name = label) => {
    setAttribute(control, "data-setting", name);
    setAttribute(control, "title", title);
    return el("label", { class: "row", title }, el("span", {}, label), control);
  };

  /** @type {(make: (scene: Scene) => State, step?: string) => void} */
  const change = (make, step) => page.change(make, true, step);
  /** @type {(changes: Partial<State>) => void} */
  const set = (changes) => change(({ state }) => ({ ...state, ...changes }));
  /** @type {(changes: Partial<Side>, step?: string) => void} */
  const setSide = (changes, step) => change(({ state }) => withSide(state, changes), step);

  /**
   * @param {(string | number)[]} values to choose from
   * @param {any} value
   * @param {(value: any) => void} act
   * @param {Record<string, string>} [names] of values that are shown by another
   * @param {Record<string, string>} [disabled] why a value cannot be chosen
   */
  function chooser(values, value, act, names = {}, disabled = {}) {
    const list = values.map((each) =>
      el(
        "option",
        { value: JSON.stringify(each), disabled: each in disabled, title: disabled[each] },
        names[each] ?? String(each),
      ),
    );
    const select = el("select", { change: () => act(JSON.parse(select.value)) }, ...list);
    select.value = JSON.stringify(value);
    return select;
  }

  /** @type {(kind: Kind, name: string, field: Field, value: any) => HTMLElement} */
  function settingControl(kind, name, field, value) {
    const act = (/** @type {any} */ next) => change((scene) => withSetting(scene.state, scene, kind, name, next));
    if (field.options) return chooser(field.options, value, act);
    if (typeof value === "boolean") return checkbox(value, act);
    const input = el("input", {
      type: "text",
      inputmode: "decimal",
      placeholder: field.holds(null) && "none",
      change() {
        const text = input.value.trim();
        const number = Number(text.replace(",", "."));
        if (text === "") act(null);
        else act(Number.isFinite(number) ? number : text);
      },
    });
    input.value = value === null ? "" : String(value);
    return input;
  }

  /** Draw the scene. */
  function draw() {
    if (root.hidden) return;
    const focused = root.contains(document.activeElement) ? document.activeElement?.getAttribute("data-setting") : null;
    const scene = page.scene();
    const { state, shown } = scene;
    const { side, snapshot, similarities } = shown;
    const fieldsOf = (/** @type {Kind} */ kind) => RULES[kind][side[kind].rule]?.fields ?? {};
    /** @type {(kind: Kind, help: string) => HTMLElement[]} */
    const ruleRows = (kind, help) => {
      const { rule } = side[kind];
      const known = Object.keys(RULES[kind]);
      const disabled = Object.fromEntries(
        known
          .map((name) => [name, whyRuleUnknown(similarities, kind, freshRule(name, kind))])
          .filter(([_, why]) => why),
      );
      const chosen = (/** @type {string} */ name) => change((now) => withRuleNamed(now.state, now, kind, name));
      const names = known.includes(rule) ? known : [rule, ...known];
      const settings = Object.entries(fieldsOf(kind)).filter(([name]) => !HIDDEN.test(name));
      return [
        row(`rule for ${kind}`, chooser(names, rule, chosen, {}, disabled), `${help}: the rule's class in code.`),
        ...settings.map(([name, field]) => {
          const control = settingControl(kind, name, field, side[kind][name]);
          const help = page.help[rule]?.[name] ?? "";
          const label = `${kind === "positives" ? "mined " : ""}${name.replaceAll("_", " ")}`;
          return row(label, control, `${help} In code: ${name}`.trim(), `${kind}.${name}`);
        }),
      ];
    };
    const colours = Object.keys(COLOURS).filter(
      (name) => (name !== "class" || state.truth) && (name !== "difference" || state.b !== null),
    );
    const kinds = /** @type {Kind[]} */ (["positives", "negatives"]);
    const python = kinds.map((kind) => `${kind} = ${pythonOf(side[kind], fieldsOf(kind))}`).join("\n");
    const line = el("textarea", {
      rows: 3,
      spellcheck: "false",
      change: () => change(() => parseState(line.value)),
    });
    line.value = writeState(state);
    root.replaceChildren(
      el("header", {}, el("h3", {}, "Negatives"), iconButton("close", "Close these controls", page.close)),
      ...ruleRows("negatives", "How negatives are chosen"),
      el("h3", {}, "Positives"),
      ...ruleRows("positives", "How positives are mined"),
      el("h3", {}, "Shown"),
      row(
        "temperature τ",
        chooser(
          [...new Set([...TEMPERATURES, side.temperature])].sort((a, b) => a - b),
          side.temperature,
          (temperature) => setSide({ temperature }),
        ),
        "What the loss divides cosines by. It changes the push, and what is chosen only where the force decides.",
      ),
      epochs(snapshot.epochs, side.epoch),
      row(
        "map",
        chooser(scene.a.snapshot.mapNames, state.map, (map) => set({ map })),
        "Which map of the same embeddings; each keeps other neighbours.",
      ),
      row(
        "colours",
        chooser(colours, state.colour, (colour) => set({ colour }), COLOURS),
        "What colours mean on the map.",
      ),
      row(
        "mark misplaced points",
        checkbox(state.doubtful, (doubtful) => set({ doubtful })),
        "Points that have less than a fifth of their 15 true neighbours among their 15 on the map.",
      ),
      el("h3", {}, "Take it away"),
      el("code", "code", python),
      row("the state as JSON", line, "A line that opens this view here and in Python: explore(snapshot, state)."),
    );
    if (focused)
      /** @type {HTMLElement | null} */ (root.querySelector(`[data-setting="${CSS.escape(focused)}"]`))?.focus();
  }

  /** @type {(value: boolean, act: (value: boolean) => void) => HTMLInputElement} */
  function checkbox(value, act) {
    const box = el("input", { type: "checkbox", change: () => act(box.checked) });
    box.checked = value;
    return box;
  }

  /** @type {(known: number[], epoch: number) => HTMLElement | string} */
  function epochs(known, epoch) {
    if (known.length < 2) return "";
    const output = el("output", {}, `epoch ${epoch}`);
    const slider = el("input", {
      type: "range",
      min: 0,
      max: known.length - 1,
      step: 1,
      "data-setting": "epoch",
      "aria-valuetext": `epoch ${epoch}`,
      "aria-label": "epoch",
      title: "The moment of training at which the encoder was asked.",
      input: () => setSide({ epoch: known[Number(slider.value)] }, "epoch"),
    });
    slider.value = String(known.indexOf(epoch));
    const play = iconButton(playing ? "pause" : "play", playing ? "Stop" : "Play the epochs", () => toggle(known), {
      "data-setting": "play",
    });
    return el("div", "row", el("span", {}, "epoch"), el("div", "epochs", play, slider, output));
  }

  /** Play the epochs, or stop. @param {number[]} known */
  function toggle(known) {
    const step = () => {
      const now = page.scene().shown.side.epoch;
      const next = known[(known.indexOf(now) + 1) % known.length];
      setSide({ epoch: next }, "epoch");
      if (next === known[known.length - 1]) toggle(known);
    };
    clearInterval(playing);
    playing = playing === undefined ? window.setInterval(step, PLAY) : undefined;
    draw();
  }

  return { root, draw };
}
