// @ts-check
/** Settings of rules: their types and defaults, and what is wrong with a value, in words. */

/** An error that the user can fix: in a state, a setting, or a request that the page cannot handle. */
export class EngineError extends Error {}

/**
 * @param {string} fault
 * @returns {never}
 */
export function refuse(fault) {
  throw new EngineError(fault);
}

/**
 * A setting: its default, which values are of its type, and what a value of another must be, in words.
 * @typedef {object} Field
 * @property {any} fallback the default; undefined where there is none
 * @property {(value: any) => boolean} holds
 * @property {string} words
 * @property {Range} [range] of numbers of the right type those that have a meaning; all if left out
 * @property {string[]} [options] the words to choose from
 */
/**
 * Numbers that have a meaning, and what such a number must do, in words.
 * @typedef {{holds: (value: number) => boolean, words: string}} Range
 */
/**
 * Settings of a rule or a state: plain values by name, and in a rule its class name as `rule`.
 * @typedef {Record<string, any>} Settings
 */

/**
 * A kind of setting: makes a field of a default, and of the numbers that have a meaning where not all have.
 * @param {(value: any) => boolean} holds
 * @param {string} words
 */
export const kind =
  (holds, words) =>
  /** @type {(fallback: any, range?: Range) => Field} */
  (fallback, range) => ({ fallback, range, holds, words });

export const real = kind((value) => typeof value === "number", "must be a number");
export const whole = kind(Number.isInteger, "must be a whole number");
export const flag = kind((value) => typeof value === "boolean", "must be true or false");

/** @type {(low: number, high: number) => Range} */
export const between = (low, high) => ({
  holds: (value) => low <= value && value <= high,
  words: `lie between ${low} and ${high}`,
});
/** @type {(least: number) => Range} */
export const atLeast = (least) => ({ holds: (value) => value >= least, words: `be at least ${least}` });
export const SHARE = between(0, 1);
/** @type {Range} */
export const SOME_SHARE = { holds: (value) => 0 < value && value <= 1, words: "be above 0 and at most 1" };
/** @type {Range} */
export const BELOW_ONE = { holds: (value) => 0 <= value && value < 1, words: "be at least 0 and below 1" };
/** @type {Range} */
export const ABOVE_ZERO = { holds: (value) => value > 0, words: "be above 0" };
/** @type {Range} */
export const FINITE = { holds: (value) => 0 <= value && value <= Number.MAX_VALUE, words: "be at least 0 and finite" };

/**
 * One of some words, the first by default.
 * @param {...string} options
 * @returns {Field}
 */
export function choice(...options) {
  const holds = (/** @type {any} */ value) => options.includes(value);
  return { fallback: options[0], options, holds, words: `must be one of ${options.join(", ")}` };
}

/**
 * The same, or null.
 * @param {Field} field
 * @returns {Field}
 */
export function optional(field) {
  return { ...field, holds: (value) => value === null || field.holds(value), words: `${field.words}, or null` };
}

/**
 * Plain settings with defaults where they are missing, in the order of the fields.
 * @param {any} plain
 * @param {Record<string, Field>} fields
 * @param {string} path what an error calls it
 * @returns {Settings}
 */
export function completed(plain, fields, path) {
  if (typeof plain !== "object" || plain === null || Array.isArray(plain))
    refuse(`${path} must be an object of settings, not ${JSON.stringify(plain)}.`);
  for (const name of Object.keys(plain)) {
    if (!Object.hasOwn(fields, name)) {
      const known = Object.keys(fields).join(", ") || "none";
      refuse(`There is no setting ${JSON.stringify(name)} in ${path}. It has: ${known}.`);
    }
  }
  /** @type {Settings} */
  const found = {};
  for (const [name, field] of Object.entries(fields)) {
    const value = Object.hasOwn(plain, name) ? plain[name] : field.fallback;
    if (value === undefined) refuse(`${path} lacks ${JSON.stringify(name)}, which has no default.`);
    if (!field.holds(value)) refuse(`${path}.${name} is ${JSON.stringify(value)}; it ${field.words}.`);
    found[name] = value;
  }
  return found;
}

/**
 * The fields of edges that move while training: where each starts, and until when they move.
 * @param {...string} edges
 * @returns {Record<string, Field>}
 */
export function moving(...edges) {
  const from = edges.map((edge) => [`${edge}_from`, optional(real(null))]);
  return { ...Object.fromEntries(from), anneal: real(0.5, SOME_SHARE) };
}

/**
 * The rule, unless its settings of the right types have no meaning.
 * @param {{fields: Record<string, Field>, fault?: (rule: Settings) => string}} known
 * @param {Settings} rule
 */
export function checked(known, rule) {
  const fault = faultOf(known, rule);
  if (fault) refuse(`${rule.rule}: ${fault}`);
  return rule;
}

/**
 * A description of what is wrong with them; empty if nothing.
 * @param {{fields: Record<string, Field>, fault?: (rule: Settings) => string}} known
 * @param {Settings} rule
 */
function faultOf({ fields, fault }, rule) {
  for (const name of Object.keys(fields)) {
    const { range } = fields[name.replace(/_from$/, "")];
    const value = rule[name];
    if (range && typeof value === "number" && !range.holds(value)) {
      return `${name} is ${value}; it must ${range.words}.`;
    }
  }
  const found = fault?.(rule);
  if (found) return found;
  const edges = Object.keys(fields).filter((name) => `${name}_from` in fields);
  const moved = edges.filter((edge) => rule[`${edge}_from`] !== null);
  const lost = moved.find((edge) => rule[edge] === null);
  if (lost) return `${lost}_from is given without ${lost}; say where the edge ends.`;
  if (edges.length && !moved.length && rule.anneal !== fields.anneal.fallback) {
    return `anneal is ${rule.anneal}, but nothing moves; say from where, or leave anneal out.`;
  }
  return "";
}

/**
 * Values of edges where they end, and where they start.
 * @param {Settings} rule
 * @param {...string} edges
 * @returns {any[][]}
 */
export function edgesOverTime(rule, ...edges) {
  return [edges.map((edge) => rule[edge]), edges.map((edge) => rule[`${edge}_from`] ?? rule[edge])];
}
