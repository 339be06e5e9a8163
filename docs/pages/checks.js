// @ts-check
/** Checks of exercises on a page: the cases of `notebooks/course/exercises/cases.py`, tried on a live explorer. */

import { MEASURES } from "./measures.js";

/** @typedef {number | string | null} Bound a number, the name of one, or none */
/**
 * @typedef {object} Case
 * @property {string} words
 * @property {Record<string, [Bound, Bound]>} where
 * @property {boolean} right
 */
/** @typedef {{cases: Case[], measures: Record<string, [string, ...number[]]>, unit: string}} Cases */

/**
 * What a check says to an answer, as in a notebook.
 * @param {Cases} check
 * @param {number | null} answer the reader's number, if one is asked for
 * @param {import("./measures.js").Measured | null} shown the explorer, if one is measured
 */
export async function told({ cases, measures }, answer, shown) {
  /** @type {Record<string, any>} */
  const known = answer === null ? {} : { answer };
  /** @param {string} name */
  async function number(name) {
    if (!(name in known)) {
      const [measure, ...numbers] = measures[name];
      known[name] = await MEASURES[measure](/** @type {import("./measures.js").Measured} */ (shown), ...numbers);
    }
    return known[name];
  }
  /** @param {Case} each */
  async function holds({ where }) {
    for (const [name, bounds] of Object.entries(where)) {
      const value = await number(name);
      const [low, high] = await Promise.all(bounds.map((bound) => (typeof bound === "string" ? number(bound) : bound)));
      if (!((low === null || value >= low) && (high === null || value <= high))) return false;
    }
    return true;
  }
  for (const each of cases) {
    if (!(await holds(each))) continue;
    let text = each.words;
    for (const [place, name, form] of each.words.matchAll(/\{(\w+)(?::([^}]*))?\}/g))
      text = text.replace(place, written(await number(name), form));
    return each.right ? `Right. ${text[0].toUpperCase()}${text.slice(1)}.` : `Not yet: ${text}.`;
  }
  throw new Error("The last case of a check holds for every answer.");
}

/**
 * A value as Python's format writes it.
 * @param {number | string} value
 * @param {string | undefined} form
 */
export function written(value, form) {
  if (typeof value === "string" || !form) return `${value}`;
  if (form === ",") return value.toLocaleString("en-US");
  const digits = Number.parseInt(form.slice(1), 10);
  if (form.endsWith("f")) return value.toFixed(digits);
  return `${Number(value.toPrecision(Number.isNaN(digits) ? 6 : digits))}`;
}

const THOUSANDS = /^[1-9]\d{0,2}(,\d{3})+$/;

/** The number that was written, as `predict.py` reads it. @param {string} text */
function numberOf(text) {
  const plain = text.trim();
  return Number((THOUSANDS.test(plain) ? plain.replaceAll(",", "") : plain.replace(",", ".")) || Number.NaN);
}

/**
 * Connect a form of a check.
 * @param {HTMLFormElement} form
 * @param {HTMLElement | undefined} root the explorer that it is about
 * @param {() => Promise<import("./measures.js").Measured>} measure makes the explorer live, and reads it
 */
export function listen(form, root, measure) {
  /** @type {Cases} */
  const check = JSON.parse(form.dataset.check ?? "");
  const status = /** @type {HTMLElement} */ (form.querySelector("[role=status]"));
  const input = form.querySelector("input");
  if (root) for (const link of form.querySelectorAll("a")) link.href = `#${root.id}`;
  form.hidden = false;
  let asked = 0;
  /** What was said holds for another answer. */
  const forget = () => {
    asked++;
    status.textContent = "";
  };
  input?.addEventListener("input", forget);
  root?.addEventListener("changed", forget);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const turn = ++asked;
    const answer = input && numberOf(input.value);
    if (answer !== null && !Number.isFinite(answer)) {
      status.textContent = "Write a number, such as 40.";
      return;
    }
    status.textContent = "Counting …";
    try {
      const shown = Object.keys(check.measures).length > 0 ? await measure() : null;
      const words = await told(check, answer, shown);
      if (turn === asked) status.textContent = words;
    } catch (error) {
      status.textContent = `This could not be checked. ${error instanceof Error ? error.message : error}`;
    }
  });
}
