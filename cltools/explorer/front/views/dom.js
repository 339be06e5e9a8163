// @ts-check
/** Elements of the page. Everything from a snapshot is set as text, never as markup. */

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * An element with attributes and children. `class` and `aria-…` are attributes; functions are listeners by event name.
 * A text in place of attributes is the class; `value` and `checked` are properties, as someone may change them.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any> | string} [attributes] null and false leave one out, true makes it empty
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const child of children) if (child) node.append(child);
  const given = typeof attributes === "string" ? { class: attributes } : attributes;
  for (const [name, value] of Object.entries(given)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (name === "value" || name === "checked") Object.assign(node, { [name]: value });
    else setAttribute(node, name, value);
  }
  return node;
}

/**
 * Set an attribute, or remove it for null and false; equal values are not written.
 * @param {Element} node
 * @param {string} name
 * @param {string | number | boolean | null | undefined} value
 */
export function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else {
    const text = value === true ? "" : String(value);
    if (node.getAttribute(name) !== text) node.setAttribute(name, text);
  }
}

/**
 * Set a text if it differs.
 * @param {Element} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const SVG = "http://www.w3.org/2000/svg";
/** Strokes on a grid of 24. */
const ICONS = {
  undo: "M9 7 4 12l5 5M4 12h10a6 6 0 0 1 6 6",
  redo: "M15 7l5 5-5 5M20 12H10a6 6 0 0 0-6 6",
  compare: "M4 5h7v14H4zM13 5h7v14h-7z",
  more: "M4 7h10M18 7h2M4 17h2M10 17h10M16 5v4M8 15v4",
  help: "M9.2 9a3 3 0 1 1 4.6 2.6c-1.2.8-1.8 1.4-1.8 2.9M12 18.2v.1",
  previous: "M15 5l-7 7 7 7",
  next: "M9 5l7 7-7 7",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  pictures: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  lasso: "M12 4c5 0 8 2.4 8 5.5S17 15 12 15s-8-2.4-8-5.5S7 4 12 4M9 15c-2 1-2.4 3 0 5",
  play: "M8 5l11 7-11 7z",
  pause: "M8 5v14M16 5v14",
  close: "M6 6l12 12M18 6 6 18",
  handle: "M9 8l-4 4 4 4M15 8l4 4-4 4",
};

/**
 * @param {keyof typeof ICONS} name
 * @returns {SVGSVGElement}
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * A button, with attributes and children as of `el`.
 * @param {Record<string, any>} attributes
 * @param {...Child} children
 */
export const button = (attributes, ...children) => el("button", { type: "button", ...attributes }, ...children);

/**
 * A quiet button that shows an icon; its name is read out and shown on hover.
 * @param {keyof typeof ICONS} picture
 * @param {string} name
 * @param {() => void} act
 * @param {Record<string, any>} [attributes]
 */
export function iconButton(picture, name, act, attributes = {}) {
  return button({ class: "icon", "aria-label": name, title: name, click: act, ...attributes }, icon(picture));
}

/**
 * Buttons of which one is chosen; arrow keys choose the next.
 * @template {string} T
 * @param {string} label
 * @param {[T, string][]} options value and text of each
 * @param {Record<string, string>} help an explanation of each text
 * @param {(value: T) => void} act
 */
export function radios(label, options, help, act) {
  const buttons = options.map(([value, text]) =>
    button({ role: "radio", title: help[text], "data-preset": value, click: () => act(value) }, text),
  );
  const click = (/** @type {any} */ { target }) => target.scrollIntoView({ block: "nearest" });
  const root = el("div", { class: "presets", role: "radiogroup", "aria-label": label, click }, ...buttons);
  root.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const at = buttons.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
    const next = buttons[(at + by + buttons.length) % buttons.length];
    next.focus();
    next.click();
  });
  return {
    root,
    /** @param {T | null} value that is chosen */
    show(value) {
      const chosen = options.findIndex(([each]) => each === value);
      buttons.forEach((button, i) => {
        setAttribute(button, "aria-checked", String(i === chosen));
        button.tabIndex = i === Math.max(0, chosen) ? 0 : -1;
      });
    },
  };
}
