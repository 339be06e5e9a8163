// @ts-check
/** Settings of rules: their types and defaults, and what is wrong with a value, in words. */

/** What a person can mend: a state, a setting, or a question that cannot be answered here. */
export class EngineError extends Error {}

/**
 * A setting: its default, and what is wrong with a value of another type; empty if nothing.
 * @typedef {object} Field
 * @property {any} fallback the default
 * @property {(value: any) => string} fault
 * @property {string[]} [options] the words to choose from
 */
/**
 * Settings of a rule or a state: plain values by name, and in a rule its class name as `rule`.
 * @typedef {Record<string, any>} Settings
 */

/**
 * @param {number | null} fallback
 * @returns {Field}
 */
export function real(fallback) {
  return { fallback, fault: (value) => (typeof value === "number" ? "" : "must be a number") };
}

/**
 * @param {number | null} fallback
 * @returns {Field}
 */
export function whole(fallback) {
  return { fallback, fault: (value) => (Number.isInteger(value) ? "" : "must be a whole number") };
}

/**
 * @param {boolean} fallback
 * @returns {Field}
 */
export function flag(fallback) {
  return { fallback, fault: (value) => (typeof value === "boolean" ? "" : "must be true or false") };
}

/**
 * One of some words, the first by default.
 * @param {...string} options
 * @returns {Field}
 */
export function choice(...options) {
  return {
    fallback: options[0],
    options,
    fault: (value) => (options.includes(value) ? "" : `must be one of ${options.join(", ")}`),
  };
}

/**
 * The same, or null.
 * @param {Field} field
 * @returns {Field}
 */
export function optional(field) {
  return {
    fallback: field.fallback,
    fault: (value) => {
      const fault = value === null ? "" : field.fault(value);
      return fault && `${fault}, or null`;
    },
  };
}

/**
 * Of one type or of another; the default is the first one's.
 * @param {Field} one
 * @param {Field} other
 * @returns {Field}
 */
export function either(one, other) {
  return {
    fallback: one.fallback,
    fault: (value) => (one.fault(value) && other.fault(value) ? `${one.fault(value)}, or ${other.fault(value)}` : ""),
  };
}

/**
 * Plain settings with defaults where they are missing, in the order of the fields.
 * @param {any} plain
 * @param {Record<string, Field>} fields
 * @param {string} path what an error calls it
 * @returns {Settings}
 */
export function completed(plain, fields, path) {
  if (typeof plain !== "object" || plain === null || Array.isArray(plain)) {
    throw new EngineError(`${path} must be an object of settings, not ${JSON.stringify(plain)}.`);
  }
  for (const name of Object.keys(plain)) {
    if (!Object.hasOwn(fields, name)) {
      const known = Object.keys(fields).join(", ") || "none";
      throw new EngineError(`There is no setting ${JSON.stringify(name)} in ${path}. It has: ${known}.`);
    }
  }
  /** @type {Settings} */
  const found = {};
  for (const [name, field] of Object.entries(fields)) {
    const value = Object.hasOwn(plain, name) ? plain[name] : field.fallback;
    if (value === undefined) throw new EngineError(`${path} lacks ${JSON.stringify(name)}, which has no default.`);
    const fault = field.fault(value);
    if (fault) throw new EngineError(`${path}.${name} is ${JSON.stringify(value)}; it ${fault}.`);
    found[name] = value;
  }
  return found;
}

/**
 * What is wrong with a share; empty if nothing.
 * @param {Settings} rule
 * @param {...string} names of settings that lie between 0 and 1, or are null
 */
export function shareFault(rule, ...names) {
  for (const name of names) {
    const value = rule[name];
    if (value !== null && !(value >= 0 && value <= 1)) return `${name} is ${value}; it must lie between 0 and 1.`;
  }
  return "";
}

/**
 * What is wrong with edges that move while training; empty if nothing.
 * @param {Settings} rule
 * @param {number} usual the default of `anneal`
 * @param {...string} edges their settings; where each starts stands in `<edge>_from`
 */
export function annealFault(rule, usual, ...edges) {
  if (!(rule.anneal > 0 && rule.anneal <= 1)) return `anneal is ${rule.anneal}; it must be above 0 and at most 1.`;
  if (rule.anneal !== usual && edges.every((edge) => rule[`${edge}_from`] === null)) {
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
