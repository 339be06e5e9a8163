// @ts-check
/** Finding keys by their texts, ids and metadata. */

import { sumOf } from "../engine/order.js";
import { el, setText } from "./dom.js";
import { count } from "./words.js";

/** @typedef {import("./scene.js").Shown} Shown */

const VALUES = 50; // so many values of a column are proposed

/**
 * 1 for each key that a question finds: by a part of its text, or by the whole of its id, of a value of its metadata, or
 * of "column: value"; null for an empty question, which finds all.
 * @param {Shown} snapshot
 * @param {string} question
 * @returns {Uint8Array | null}
 */
export function findKeys({ ids, texts, metadata }, question) {
  const asked = question.trim().toLowerCase().replace(/: */, ": ");
  if (asked === "") return null;
  const columns = Object.entries(metadata);
  return Uint8Array.from(ids, (id, i) => {
    const whole = [String(id), ...columns.flatMap(([name, column]) => [column[i], `${name}: ${column[i]}`])];
    const found = texts[i]?.toLowerCase().includes(asked) || whole.some((each) => each.toLowerCase() === asked);
    return Number(found);
  });
}

/**
 * A field to search with; null where there is nothing to find by.
 * @param {Shown} snapshot
 * @param {(found: Uint8Array | null) => void} act
 */
export function findingView(snapshot, act) {
  const columns = Object.entries(snapshot.metadata);
  if (!snapshot.texts.length && !columns.length) return null;
  const id = `cltools-${Math.random()}`;
  const proposed = columns.flatMap(([name, values]) =>
    [...new Set(values.filter(Boolean))]
      .sort()
      .slice(0, VALUES)
      .map((value) => `${name}: ${value}`),
  );
  const told = el("output");
  const input = el("input", {
    type: "search",
    list: id,
    placeholder: "find",
    title: snapshot.help.page.Find,
    "aria-label": `find ${snapshot.noun}s`,
    input() {
      const found = findKeys(snapshot, input.value);
      const hits = found ? sumOf(found) : 0;
      setText(told, found ? `${count(hits)} found` : "");
      act(found);
    },
  });
  return el("label", "find", input, told, el("datalist", { id }, ...proposed.map((value) => el("option", { value }))));
}
