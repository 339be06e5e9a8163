// @ts-check
/** Everything behind "more": rules by name, their settings, axis, map, epochs, comparison, and the choice as code. */

import { NEGATIVE_RULES } from "../engine/negatives.js";
import { POSITIVE_RULES } from "../engine/positives.js";
import { whyUnknown } from "../engine/select.js";
import { checkState, freshRule, parseState, writeState } from "../engine/state.js";
import { withNegativesNamed, withSetting, withSide } from "./actions.js";
import { el, iconButton, setAttribute } from "./dom.js";
import { pythonOf } from "./words.js";

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("../engine/state.js").State} State */
/** @typedef {import("../engine/fields.js").Settings} Settings */
/** @typedef {import("../engine/fields.js").Field} Field */

/** Schedules: an explorer shows a moment, at full strength. */
const HIDDEN = /^(start|ramp|strength|anneal|rule|.*_from)$/;
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

  /** @type {(label: string, control: HTMLElement, help?: string, name?: string) => HTMLElement} */
  const row = (label, control, help = "", name = label) => {
    setAttribute(control, "data-setting", name);
    setAttribute(control, "title", help || null);
    return el("label", { class: "row", title: help || null }, el("span", {}, label), control);
  };

  /**
   * @param {[any, string][]} options values and names
   * @param {any} value
   * @param {(value: any) => void} act
   * @param {Record<string, string>} [disabled] why an option cannot be chosen, by its name
   */
  function chooser(options, value, act, disabled = {}) {
    const list = options.map(([each, name]) =>
      el("option", { value: JSON.stringify(each), disabled: name in disabled, title: disabled[name] ?? null }, name),
    );
    const select = el("select", { change: () => act(JSON.parse(select.value)) }, ...list);
    select.value = JSON.stringify(value);
    return select;
  }

  /** @type {(kind: "positives" | "negatives", name: string, field: Field, value: any) => HTMLElement} */
  function settingControl(kind, name, field, value) {
    const set = (/** @type {any} */ next) =>
      page.change((scene) => withSetting(scene.state, scene, kind, name, next), true);
    const options = field.options;
    if (options)
      return chooser(
        options.map((option) => [option, option]),
        value,
        set,
      );
    if (typeof value === "boolean") return checkbox(value, set);
    const input = el("input", { type: "text", inputmode: "decimal" });
    input.value = value === null ? "" : String(value);
    input.placeholder = field.fault(null) === "" ? "none" : "";
    input.addEventListener("change", () => {
      const text = input.value.trim();
      const number = Number(text.replace(",", "."));
      if (text === "") set(null);
      else set(Number.isFinite(number) ? number : text);
    });
    return input;
  }

  /** Draw the scene. */
  function draw() {
    if (root.hidden) return;
    const focused = root.contains(document.activeElement) ? document.activeElement?.getAttribute("data-setting") : null;
    const scene = page.scene();
    const { state, shown } = scene;
    const { side, snapshot, similarities } = shown;
    const unknown = Object.fromEntries(
      Object.keys(NEGATIVE_RULES).flatMap((name) => {
        const why = whyUnknown(similarities, side.positives, freshRule(name, "negatives"));
        return why ? [[name, why]] : [];
      }),
    );
    const own = (/** @type {Settings} */ rule, /** @type {object} */ known) => (rule.rule in known ? [] : [rule.rule]);
    const negatives = [...own(side.negatives, NEGATIVE_RULES), ...Object.keys(NEGATIVE_RULES)];
    const positives = [...own(side.positives, POSITIVE_RULES), ...Object.keys(POSITIVE_RULES)];
    const of = (/** @type {"positives" | "negatives"} */ kind) => {
      const known = kind === "positives" ? POSITIVE_RULES : NEGATIVE_RULES;
      const fields = known[side[kind].rule]?.fields ?? {};
      return Object.entries(fields)
        .filter(([name]) => !HIDDEN.test(name))
        .map(([name, field]) => {
          const control = settingControl(kind, name, field, side[kind][name]);
          const help = page.help[side[kind].rule]?.[name] ?? "";
          const label = `${kind === "positives" ? "mined " : ""}${name.replaceAll("_", " ")}`;
          return row(label, control, `${help} In code: ${name}`.trim(), `${kind}.${name}`);
        });
    };
    const colours = Object.entries(COLOURS).filter(
      ([name]) => (name !== "class" || state.truth) && (name !== "difference" || state.b !== null),
    );
    const python = el(
      "code",
      { class: "code" },
      `positives = ${pythonOf(side.positives, POSITIVE_RULES[side.positives.rule]?.fields ?? {})}\nnegatives = ${pythonOf(side.negatives, NEGATIVE_RULES[side.negatives.rule]?.fields ?? {})}`,
    );
    const line = el("textarea", { rows: 3, spellcheck: "false" });
    line.value = writeState(state);
    line.addEventListener("change", () =>
      page.change((now) => {
        const next = parseState(line.value);
        checkState(
          next,
          now.b && now.b.snapshot !== now.a.snapshot ? [now.a.snapshot, now.b.snapshot] : [now.a.snapshot],
        );
        return next;
      }, true),
    );
    root.replaceChildren(
      el("header", {}, el("h3", {}, "Negatives"), iconButton("close", "Close these controls", page.close)),
      row(
        "rule for negatives",
        chooser(
          negatives.map((name) => [name, name]),
          side.negatives.rule,
          (name) => page.change((now) => withNegativesNamed(now.state, now, name), true),
          unknown,
        ),
        "How negatives are chosen: the rule's class in code.",
      ),
      ...of("negatives"),
      el("h3", {}, "Positives"),
      row(
        "rule for positives",
        chooser(
          positives.map((name) => [name, name]),
          side.positives.rule,
          (name) => page.change((now) => withSide(now.state, { positives: freshRule(name, "positives") }), true),
        ),
        "How positives are mined: the rule's class in code.",
      ),
      ...of("positives"),
      el("h3", {}, "Shown"),
      row(
        "temperature τ",
        chooser(
          [...new Set([...TEMPERATURES, side.temperature])].sort((a, b) => a - b).map((each) => [each, String(each)]),
          side.temperature,
          (temperature) => page.change((now) => withSide(now.state, { temperature }), true),
        ),
        "What the loss divides cosines by. It changes the push, and what is chosen only where the force decides.",
      ),
      epochs(snapshot.epochs, side.epoch),
      row(
        "map",
        chooser(
          scene.a.snapshot.mapNames.map((name) => [name, name]),
          state.map,
          (map) => page.change((now) => ({ ...now.state, map }), true),
        ),
        "Which map of the same embeddings; each keeps other neighbours.",
      ),
      row(
        "colours",
        chooser(colours, state.colour, (colour) => page.change((now) => ({ ...now.state, colour }), true)),
        "What colours mean on the map.",
      ),
      row(
        "mark misplaced points",
        checkbox(state.doubtful, (doubtful) => page.change((now) => ({ ...now.state, doubtful }), true)),
        "Points that have less than a fifth of their 15 true neighbours among their 15 on the map.",
      ),
      el("h3", {}, "Take it away"),
      python,
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
    });
    slider.value = String(known.indexOf(epoch));
    slider.addEventListener("input", () =>
      page.change((now) => withSide(now.state, { epoch: known[Number(slider.value)] }), true, "epoch"),
    );
    const play = iconButton(playing ? "pause" : "play", playing ? "Stop" : "Play the epochs", () => toggle(known), {
      "data-setting": "play",
    });
    return el("div", { class: "row" }, el("span", {}, "epoch"), el("div", { class: "epochs" }, play, slider, output));
  }

  /** @param {number[]} known */
  function toggle(known) {
    if (playing !== undefined) {
      clearInterval(playing);
      playing = undefined;
      draw();
      return;
    }
    playing = window.setInterval(() => {
      const now = page.scene().shown.side.epoch;
      const next = known[(known.indexOf(now) + 1) % known.length];
      page.change((scene) => withSide(scene.state, { epoch: next }), true, "epoch");
      if (next === known[known.length - 1]) toggle(known);
    }, PLAY);
    draw();
  }

  return { root, draw };
}
