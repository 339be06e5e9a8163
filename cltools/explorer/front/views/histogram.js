// @ts-check
/** The histogram of closeness: bars, two edges to drag, the push below, and ribbons to the pictures. */

import { BAND, BANDS } from "../engine/bands.js";
import { countsByBand } from "../engine/histogram.js";
import { countAtLeast } from "../engine/order.js";
import { withEdgeAt } from "./actions.js";
import { drawBox, drawLine, drawWords, font, STRONG_FONT, surface } from "./canvas.js";
import { button, el, icon, setAttribute, setText } from "./dom.js";
import { painted } from "./pictures.js";
import { bandName, count, edgeWords, NAMES, percent, SYMBOLS } from "./words.js";

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("./scene.js").Judged} Judged */
/** @typedef {import("./palette.js").Palette} Palette */
/** @typedef {import("../engine/edges.js").EdgeName} EdgeName */

/** Pixels of the parts, from the top: flags, bars, numbers of the axis, push, ribbons; less where two stand below each other. */
const PARTS = { flags: 66, axis: 20, push: 44, ribbon: 22 };
const COMPACT = { flags: 26, axis: 20, push: 0, ribbon: 3 };
const LEFT = 40;
/** The two handles, from left to right: names, what stands on either side of one, and the band beyond it. */
const EDGES = /** @type {{name: EdgeName, label: string, captions: string[], code: number}[]} */ ([
  { name: "beyond", label: "left edge", captions: ["first left out", "last kept"], code: BAND.EASY },
  { name: "closest", label: "right edge", captions: ["last kept", "first left out"], code: BAND.HARD },
]);
const STAR = 4; // pixels between two stars
const CUT = 3; // so many bins may be taller than the axis, and are cut
const SMALL = 10; // bins of so few keys are never cut
const GRIP = 24; // width of a handle's grip: closer edges hide each other's

/**
 * Positions on the axis.
 * @typedef {object} Axis
 * @property {(score: number) => number} x in pixels
 * @property {(x: number) => number} score
 * @property {number} left
 * @property {number} right
 */

/** @type {(judged: Judged, width: number) => Axis} */
function axisOf({ bins }, width) {
  const [low, left, right] = [bins.low, LEFT, width - 6];
  const scale = (right - left) / bins.width;
  return { left, right, x: (value) => left + (value - low) * scale, score: (x) => low + (x - left) / scale };
}

/**
 * The position of an edge: half way between the two keys that it separates.
 * @param {EdgeName} name
 * @param {Judged} judged
 * @param {Axis} axis
 */
function edgeX(name, { edges, judgement }, axis) {
  const { ranked } = judgement.ranking;
  const { others } = judgement.profile;
  const rank = edges?.[name] ?? others;
  if (rank === 0 || others === 0) return axis.right;
  if (rank >= others) return axis.left;
  return axis.x((ranked[rank - 1] + ranked[rank]) / 2);
}

/**
 * @param {object} page
 * @param {() => Scene} page.scene
 * @param {() => Palette} page.palette
 * @param {(make: (scene: Scene) => import("../engine/state.js").State, settled?: boolean, step?: string) => void} page.change
 * @param {(place: number | null, at?: {x: number, y: number}) => void} page.point
 * @param {(place: number, tile: HTMLElement) => void} page.picture fills an element with an image's picture
 * @param {boolean} page.push whether the push is shown
 * @param {"A" | "B"} side whose keys are shown
 */
export function histogramView(page, side) {
  const judgedNow = () => {
    const { a, b } = page.scene();
    return side === "B" && b ? b : a;
  };
  const letter = el("b", "letter", side);
  const canvas = el("canvas", {
    class: "bars",
    "aria-hidden": "true",
    pointerdown: startDrag,
    pointerleave: () => page.point(null),
  });
  const marker = el("i", { class: "marker", hidden: true });
  const axisName = el("span");
  const asked = el("span", "wide");
  const hint = el("span", { class: "hint", "aria-hidden": "true" }, "Drag an edge");
  const handles = EDGES.map(handle);
  const root = el(
    "section",
    { class: "histogram", "data-side": side },
    el("p", "axis-name", letter, asked, axisName),
    canvas,
    marker,
    ...handles.map(({ flag }) => flag),
    ...handles.map(({ node }) => node),
  );
  let axis = axisOf(judgedNow(), 0);
  /** Cancels the current drag. @type {(() => void) | null} */
  let cancel = null;

  /** @param {typeof EDGES[number]} edge */
  function handle({ name, label, captions, code }) {
    const words = el("span");
    const lines = [el("small"), el("small")];
    const tiles = captions.map(() => button({ class: "tile" }));
    const [farther, closer] = tiles.map((tile, i) => el("figure", {}, tile, el("figcaption", {}, captions[i])));
    const named = el("span", "wide", `${NAMES[code]}: `);
    const flag = el(
      "div",
      `flag ${name}`,
      el("div", "flag-words", el("strong", `band-${code}`, `${SYMBOLS[code]} `, named, words), ...lines),
      el("div", "border", farther, el("i", { "aria-hidden": "true" }), closer),
    );
    const node = button(
      {
        class: `edge ${name}`,
        role: "slider",
        "data-edge": name,
        "aria-label": label,
        "aria-orientation": "horizontal",
        title: page.scene().a.snapshot.help.explorer[name],
        pointerdown: startDrag,
        keydown: (/** @type {KeyboardEvent} */ event) => moveByKey(name, event),
      },
      el("i"),
      el("u", {}, icon("handle")),
      name === "closest" && side === "A" && hint,
    );
    return { name, node, flag, words, lines, tiles };
  }

  let [at, last, level] = [0, 0, 0];
  /** The position of a pointer; a finger far above or below its start moves in finer steps. @param {PointerEvent} event */
  const xOf = ({ type, pointerType, clientX, clientY }) => {
    if (type === "pointerdown") [at, last, level] = [clientX, clientX, clientY];
    const far = pointerType === "touch" ? Math.abs(clientY - level) : 0;
    at += (clientX - last) / Math.max(1, far / 40);
    last = clientX;
    return at - root.getBoundingClientRect().x;
  };

  /** Move an edge; the controls move this side from then on. @type {(name: EdgeName, value: number, done: boolean, step?: string) => void} */
  function moveTo(name, value, done, step) {
    page.change(({ state }) => withEdgeAt({ ...state, active: side }, judgedNow(), name, value), done, step);
  }

  /** Drag the closer edge. @param {PointerEvent} event */
  function startDrag(event) {
    const { state } = page.scene();
    const judged = judgedNow();
    if (event.button !== 0 || judged.edges === null) return;
    event.preventDefault();
    hint.remove();
    const start = xOf(event);
    const from = EDGES.map(({ name }) => edgeX(name, judged, axis));
    const closer = Number(start > (from[0] + from[1]) / 2);
    // of grips that hide each other the first move tells which is meant: they part, or one of them could not move at all
    let held = from[1] - from[0] < GRIP ? -1 : closer;
    const { node } = handles[closer];
    node.focus({ preventScroll: true }); // the page stays where it is under the finger
    node.setPointerCapture(event.pointerId);
    cancel = () => {
      page.change(() => state);
      node.releasePointerCapture(event.pointerId);
    };
    node.onpointermove = (moved) => {
      const by = xOf(moved) - start;
      if (held < 0) {
        if (Math.abs(by) < 3) return;
        held = Number(by > 0);
        handles[held].node.focus({ preventScroll: true });
      }
      moveTo(EDGES[held].name, valueAt(from[held] + by), false);
    };
    node.onlostpointercapture = () => {
      node.onpointermove = node.onlostpointercapture = cancel = null;
      page.change((scene) => scene.state);
    };
  }

  canvas.addEventListener("pointermove", (event) => {
    if (cancel) return;
    const { ranking, profile } = judgedNow().judgement;
    const rank = Math.min(countAtLeast(ranking.ranked, axis.score(event.offsetX)), profile.others - 1);
    if (rank >= 0) page.point(ranking.order[rank], { x: event.clientX, y: event.clientY });
  });

  /**
   * The value of an edge at this position, in the band's unit.
   * @param {number} x
   */
  function valueAt(x) {
    const { edges, judgement } = judgedNow();
    const at = axis.score(x);
    if (edges?.unit !== "rank") return at;
    const { others } = judgement.profile;
    const rank = countAtLeast(judgement.ranking.ranked.subarray(0, others), at);
    return rank === others ? edges.keys : rank;
  }

  /** @type {(name: EdgeName, event: KeyboardEvent) => void} */
  function moveByKey(name, event) {
    const { edges } = judgedNow();
    if (edges === null) return;
    const { min, max, now } = rangeOf(name, edges);
    // to the right keys are closer: fewer of the closest are left out, and fewer are kept within
    const rank = edges.unit === "rank";
    const times = event.shiftKey ? -Math.ceil(edges.keys / 100) : -1;
    const [one, many] = rank ? [times, times * Math.ceil(edges.keys / 20)] : [0.01, 0.05];
    const places = /** @type {Record<string, number>} */ ({
      ArrowRight: now + one,
      ArrowUp: now + one,
      ArrowLeft: now - one,
      ArrowDown: now - one,
      PageUp: now + many,
      PageDown: now - many,
      Home: rank ? max : min,
      End: rank ? min : max,
    });
    const takeBack = ["Escape", "z"].includes(event.key) && cancel;
    if (!takeBack && !(event.key in places)) return;
    event.preventDefault();
    event.stopPropagation();
    if (takeBack) return takeBack();
    hint.remove();
    moveTo(name, places[event.key], true, `edge ${side} ${name}`);
  }

  /** Draw the scene. */
  function draw() {
    const scene = page.scene();
    const two = scene.b !== null;
    root.hidden = side === "B" && !two;
    if (root.hidden) return;
    const judged = judgedNow();
    letter.hidden = !two;
    const how = two ? `Side ${side}: how` : "How";
    setAttribute(root, "aria-label", `${how} close every other ${scene.a.snapshot.noun} is`);
    setAttribute(root, "data-form", two ? (scene.shown === judged ? "active" : "other") : null);
    const found = surface(canvas);
    if (found === null) return;
    const { context, width, height } = found;
    axis = axisOf(judged, width);
    const columns = two ? [] : columnsBelow();
    const parts = two
      ? COMPACT
      : { ...PARTS, push: page.push ? PARTS.push : 0, ribbon: columns.length ? PARTS.ribbon : 3 };
    root.style.setProperty("--under", `${parts.ribbon + (parts.push ? 16 : 0)}px`);
    drawBars(context, judged, axis, page.palette(), { width, height, parts, columns });
    setText(asked, two ? "" : `How close is every other ${judged.snapshot.noun}? `);
    const run = scene.a.snapshot === (scene.b ?? scene.a).snapshot ? "" : `${judged.snapshot.run}: by`;
    setText(axisName, `${run || "By"} ${judged.snapshot.help.axes[judged.judgement.by]}.`);
    for (const each of handles) place(each, judged, axis);
    if (judged.edges) apart(judged, axis, width);
  }

  /** @type {(handle: typeof handles[number], judged: Judged, axis: Axis) => void} */
  function place({ name, node, flag, words, lines, tiles }, judged, axis) {
    const { edges, border } = judged;
    node.hidden = flag.hidden = edges === null;
    if (edges === null) return;
    node.style.transform = `translateX(${edgeX(name, judged, axis)}px)`;
    const said = edgeWords(name, edges, judged);
    setText(words, said.short);
    for (const [i, line] of lines.entries()) setText(line, said.lines[i] ?? "");
    const value = { text: `leave out ${said.short}, ${said.lines.join(", ")}`, ...rangeOf(name, edges) };
    for (const [part, told] of Object.entries(value)) setAttribute(node, `aria-value${part}`, told);
    tiles.forEach((tile, i) => {
      const shown = border[name][i];
      const none = shown === undefined;
      tile.classList.toggle("none", none);
      tile.disabled = none;
      if (none) {
        tile.removeAttribute("data-place");
        tile.style.backgroundImage = "";
        tile.classList.remove("same", "worded");
        setText(tile, "");
        setAttribute(tile, "aria-label", "none");
      } else painted(page, tile, shown);
    });
  }

  /** Place the two flags above their edges, without overlap and within the view. */
  function apart(/** @type {Judged} */ judged, /** @type {Axis} */ axis, /** @type {number} */ width) {
    const [one, two] = handles.map(({ name, flag }) => {
      const size = flag.offsetWidth;
      return { flag, size, x: Math.max(0, Math.min(width - size, edgeX(name, judged, axis) - size / 2)) };
    });
    const apart = one.size + 8;
    const over = one.x + apart - two.x;
    if (over > 0) {
      one.x = Math.max(0, one.x - over / 2);
      two.x = Math.min(width - two.size, Math.max(two.x, one.x + apart));
      one.x = Math.max(0, Math.min(one.x, two.x - apart));
    }
    for (const { flag, x } of [one, two]) flag.style.transform = `translateX(${x}px)`;
  }

  /** Where the pictures of each band stand below: code, left and right in pixels of the canvas. */
  function columnsBelow() {
    const found = root.parentElement?.querySelectorAll(".bands > [data-band]") ?? [];
    const from = canvas.getBoundingClientRect();
    const columns = [...found].map((column) => {
      const { left, right, top } = column.getBoundingClientRect();
      return { code: Number(column.getAttribute("data-band")), left: left - from.x, right: right - from.x, top };
    });
    return columns.every(({ top }) => top === columns[0].top) ? columns : []; // on a phone they are rows
  }

  /** @param {number | null} place whose score is marked on the axis */
  function mark(place) {
    marker.hidden = place === null || page.scene().own.includes(place);
    if (place === null) return;
    const { score } = judgedNow().judgement.ranking;
    marker.style.transform = `translateX(${axis.x(score[place])}px)`;
  }

  return { root, draw, mark };
}

/**
 * The position of an edge between its limits, in keys or as a score.
 * @param {EdgeName} name
 * @param {import("../engine/edges.js").Edges} edges
 */
function rangeOf(name, edges) {
  if (edges.unit === "rank") return { min: 0, max: edges.keys, now: edges[name] };
  const score = edges[/** @type {const} */ (`${name}Score`)];
  const max = edges.unit === "margin" ? 2 : 1; // a margin is a difference of two cosines
  return { min: -max, max, now: Math.max(-max, Math.min(max, score)) };
}

/** A part of the axis, of one band, with its share of the push. @typedef {{code: number, left: number, right: number, push: number}} Stretch */

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Judged} judged
 * @param {Axis} axis
 * @param {Palette} palette
 * @param {{width: number, height: number, parts: typeof PARTS, columns: {code: number, left: number, right: number}[]}} layout
 */
function drawBars(context, judged, axis, palette, { width, height, parts, columns }) {
  const { judgement, edges } = judged;
  const { ranks, low, width: span } = judged.bins;
  const { push } = judgement.profile;
  const [top, floor] = [parts.flags, height - parts.ribbon - parts.push - parts.axis];
  const under = floor + parts.axis;
  const total = Array.from(ranks.subarray(1), (end, i) => ranks[i] - end);
  const sorted = [...total].sort((a, b) => b - a);
  const cut = sorted[CUT] > SMALL && sorted[0] > 1.6 * sorted[CUT];
  const most = cut ? 1.15 * sorted[CUT] : Math.max(1, sorted[0]);
  const tall = floor - top - (cut ? 30 : 14); // with room for the numbers of cut bars below the names
  const unit = tall / most;
  /** None of rules without edges. @type {Stretch[]} */
  let stretches = [];
  const ends = [axis.left, axis.right];
  if (edges) {
    ends.splice(1, 0, ...EDGES.map(({ name }) => edgeX(name, judged, axis)));
    const sums = [edges.keys, edges.beyond, edges.closest, 0].map((rank) => push[rank]);
    stretches = [BAND.EASY, BAND.POTENTIAL, BAND.HARD]
      .map((code, i) => ({ code, left: ends[i], right: ends[i + 1], push: sums[i] - sums[i + 1] }))
      .filter(({ left, right }) => right - left > 0.5);
  }

  // washes and names of the stretches
  context.font = STRONG_FONT;
  for (const { code, left, right } of stretches) {
    drawBox(context, palette.wash[code], left, top, right - left, under + parts.push - top);
    const name = bandName(code);
    if (context.measureText(name).width < right - left - 8) {
      drawWords(context, name, (left + right) / 2, top + 13, palette.text[code]);
    }
  }

  // the linear axis of counts
  context.font = font(11);
  drawWords(context, `${judged.snapshot.noun}s`, 2, top + 8, palette.soft, "left");
  for (const tick of ticksBetween(0, most, 3)) {
    if (tick === 0 || !Number.isInteger(tick)) continue;
    const y = Math.round(floor - tick * unit) + 0.5;
    drawLine(context, palette.line, axis.left, y, axis.right, y);
    drawWords(context, count(tick), 2, y + 4, palette.soft, "left"); // clear of a grip at the left end
  }

  // bars: one colour each, split where an edge crosses; of rules without edges stacked by band
  const w = (axis.right - axis.left) / total.length;
  const counts = countsByBand(judged.bins, judgement.ranking, judgement.band);
  /** Fill a bar's width, each part in what fills its stretch. @type {(x: number, y: number, height: number) => void} */
  const fillSplit = (x, y, height) => {
    for (const { code, left, right } of stretches) {
      const [a, b] = [Math.max(x, left), Math.min(x + w - 1, right)];
      if (b > a) drawBox(context, palette.fills[code], a, y, b - a, height);
    }
  };
  total.forEach((keys, i) => {
    const x = axis.left + i * w;
    const drawn = Math.min(keys, most);
    if (edges) fillSplit(x, floor - drawn * unit, drawn * unit);
    let below = 0;
    for (let code = 0; code < BANDS && !edges; code++) {
      const part = (counts[i * BANDS + code] * drawn) / keys;
      drawBox(context, palette.fills[code], x, floor - (below + part) * unit, w - 1, part * unit);
      below += part;
    }
    if (keys > most) {
      drawBox(context, palette.ground, x - 1, floor - tall * 0.86, w + 1, 3);
      drawWords(context, count(keys), x + w / 2, floor - drawn * unit - 3, palette.ink);
    }
  });

  // mined keys, each as a star above the axis
  const { positiveIndex, positiveWeight } = judgement.selection;
  const stars = [...positiveIndex]
    .filter((_, i) => positiveWeight[1 + i] > 0)
    .map((place) => axis.x(judgement.ranking.score[place]))
    .sort((a, b) => a - b);
  context.font = font(13);
  let last = 0;
  for (const x of stars) {
    if (x - last < STAR) continue;
    last = x;
    drawWords(context, SYMBOLS[BAND.MINED], x, floor + 0.5, palette.ground);
    drawWords(context, SYMBOLS[BAND.MINED], x, floor - 1, palette.band[BAND.MINED]);
  }

  // the axis
  drawLine(context, palette.ink, axis.left, floor + 0.5, axis.right, floor + 0.5);
  context.font = font(11);
  /** @type {[string, number][]} */
  const words = [
    ["far", axis.left + 17],
    ["near", axis.right - 18],
  ];
  for (const tick of ticksBetween(low, low + span, Math.max(2, Math.floor(width / 110)))) {
    words.push([tick.toFixed(span < 0.5 ? 2 : 1).replace("-", "−"), axis.x(tick)]);
  }
  for (const [text, x] of words) {
    if (ends.some((other) => Math.abs(x - other) <= 16)) continue; // there is a line of an edge, or a word
    ends.push(x - 16, x + 16);
    drawWords(context, text, x, floor + 14, palette.soft);
  }

  // the push of each bin if every key were kept, on a scale of its own
  if (parts.push) {
    const share = Array.from(ranks.subarray(1), (end, i) => push[ranks[i]] - push[end]);
    const scale = (parts.push - 16) / Math.max(...share, 1e-9);
    drawWords(context, "push", axis.left - 5, under + 11, palette.soft, "right");
    share.forEach((each, i) => {
      const [x, h] = [axis.left + i * w, each * scale];
      if (h < 0.2) return;
      if (edges) fillSplit(x, under, h);
      else drawBox(context, palette.soft, x, under, w - 1, h);
    });
    context.font = STRONG_FONT;
    for (const { code, left, right, push } of stretches) {
      const text = percent(push);
      const half = context.measureText(text).width / 2 + 2;
      const x = Math.max(axis.left + half, Math.min(axis.right - half, (left + right) / 2));
      drawWords(context, text, x, under + parts.push - 4, palette.ink, "center", palette.wash[code]);
    }
  }

  // ribbons from each stretch to its pictures
  const down = height - parts.ribbon;
  const pulled = { code: BAND.MINED, left: stars[0] - 3, right: stars[stars.length - 1] + 3, push: 0 };
  if (edges && stars.length) stretches.push(pulled);
  context.globalAlpha = 0.22;
  for (const { code, left, right } of columns) {
    const source = stretches.find((each) => each.code === code);
    if (!source) continue;
    context.fillStyle = palette.band[code];
    context.beginPath();
    context.moveTo(source.left, down);
    context.bezierCurveTo(source.left, down + 14, left, down + 8, left, height);
    context.lineTo(right, height);
    context.bezierCurveTo(right, down + 8, source.right, down + 14, source.right, down);
    context.fill();
  }
  context.globalAlpha = 1;
}

/**
 * Round numbers between two ends.
 * @param {number} low
 * @param {number} high
 * @param {number} about
 */
export function ticksBetween(low, high, about) {
  const raw = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= raw) ?? raw;
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + 1e-9; i++) found.push(i * step);
  return found;
}
