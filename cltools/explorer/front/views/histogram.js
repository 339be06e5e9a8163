// @ts-check
/** How close every key is: bars on one axis, the two edges that are dragged, the push below, ribbons to the pictures. */

import { BAND } from "../engine/bands.js";
import { countAtLeast } from "../engine/order.js";
import { stretchOf } from "../engine/profile.js";
import { withEdgeAt } from "./actions.js";
import { el, icon, setAttribute, setText, surface } from "./dom.js";
import { fillOf } from "./palette.js";
import { AXES, count, edgeWords, NAMES, percent, SYMBOLS } from "./words.js";

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("./scene.js").Judged} Judged */
/** @typedef {import("./palette.js").Palette} Palette */
/** @typedef {import("../engine/edges.js").EdgeName} EdgeName */

/** Pixels of the parts, from the top: flags, bars, numbers of the axis, push, ribbons; less where two stand below each other. */
const PARTS = { flags: 66, axis: 20, push: 44, ribbon: 22 };
const COMPACT = { flags: 26, axis: 20, push: 0, ribbon: 3 };
const LEFT = 34;
const HELP = {
  beyond: "What is farther than this edge is too easy, and left out.",
  closest: "What is closer than this edge is suspected to show the same thing, and left out.",
};
const CUT = 3; // so many bins may be taller than the axis, and are cut

/**
 * Where things stand on the axis.
 * @typedef {object} Axis
 * @property {(score: number) => number} x in pixels
 * @property {(x: number) => number} score
 * @property {number} left
 * @property {number} right
 */

/** @type {(judged: Judged, width: number) => Axis} */
function axisOf({ bins }, width) {
  const [low, span] = [bins.low, bins.width];
  const [left, right] = [LEFT, width - 6];
  const scale = (right - left) / span;
  return { left, right, x: (value) => left + (value - low) * scale, score: (x) => low + (x - left) / scale };
}

/**
 * Where an edge is drawn: half way between the two keys that it parts.
 * @param {EdgeName} name
 * @param {Judged} judged
 * @param {Axis} axis
 */
function edgeX(name, { edges, judgement }, axis) {
  if (edges === null) return axis.left;
  const { ranked } = judgement.ranking;
  const others = judgement.profile.others;
  const rank = Math.min(name === "closest" ? edges.closest : edges.beyond, others);
  if (rank === 0) return axis.right;
  if (rank >= others) return axis.left;
  return axis.x((ranked[rank - 1] + ranked[rank]) / 2);
}

/**
 * @param {object} page
 * @param {() => Scene} page.scene
 * @param {() => Palette} page.palette
 * @param {(make: (scene: Scene) => import("../engine/state.js").State, settled: boolean, step?: string) => void} page.change
 * @param {(place: number | null, at?: {x: number, y: number}) => void} page.point
 * @param {(place: number, tile: HTMLElement) => void} page.picture fills an element with an image's picture
 * @param {boolean} page.push whether the push is shown
 * @param {"A" | "B"} side whose keys are shown
 */
export function histogramView(page, side) {
  const judgedOf = (/** @type {Scene} */ scene) => (side === "B" && scene.b ? scene.b : scene.a);
  /** The state whose controls move this side. @type {(scene: Scene) => import("../engine/state.js").State} */
  const active = ({ state }) => (state.active === side ? state : { ...state, active: side });
  const letter = el("b", { class: "letter" }, side);
  const canvas = el("canvas", { class: "bars", "aria-hidden": true });
  const marker = el("i", { class: "marker", hidden: true });
  const axisName = el("span");
  const hint = el("span", { class: "hint", "aria-hidden": true }, "Drag an edge");
  const handles = /** @type {Record<EdgeName, ReturnType<typeof handle>>} */ ({
    beyond: handle("beyond"),
    closest: handle("closest"),
  });
  const root = el(
    "section",
    { class: "histogram", "data-side": side },
    el("p", { class: "axis-name" }, letter, axisName),
    canvas,
    marker,
    handles.beyond.flag,
    handles.closest.flag,
    handles.beyond.node,
    handles.closest.node,
  );
  /** @type {Axis | null} */
  let axis = null;
  /** @type {EdgeName | null} */
  let dragged = null;

  /** @param {EdgeName} name */
  function handle(name) {
    const words = el("span");
    const lines = [el("small"), el("small")];
    const [farther, closer] = [
      el("button", { type: "button", class: "tile" }),
      el("button", { type: "button", class: "tile" }),
    ];
    const captions = name === "closest" ? ["last kept", "first left out"] : ["first left out", "last kept"];
    const flag = el(
      "div",
      { class: `flag ${name}` },
      el(
        "div",
        { class: "flag-words" },
        el("strong", {}, el("span", { class: "verb" }, "leave out "), words),
        ...lines,
      ),
      el(
        "div",
        { class: "border" },
        el("figure", {}, farther, el("figcaption", {}, captions[0])),
        el("i", { "aria-hidden": true }),
        el("figure", {}, closer, el("figcaption", {}, captions[1])),
      ),
    );
    const node = el(
      "button",
      {
        type: "button",
        class: `edge ${name}`,
        role: "slider",
        "data-edge": name,
        "aria-label": name === "closest" ? "leave out the closest" : "leave out the farthest",
        "aria-orientation": "horizontal",
        title: `${HELP[name]} Arrow keys move it by one key, with Shift by 1 %, Page Up and Down by 5 %.`,
      },
      el("i"),
      el("u", {}, icon("handle")),
      name === "closest" && side === "A" ? hint : null,
    );
    node.addEventListener("pointerdown", (event) => startDrag(name, event));
    node.addEventListener("keydown", (event) => moveByKey(name, event));
    return { node, flag, words, lines, farther, closer };
  }

  /** @type {(name: EdgeName, event: PointerEvent) => void} */
  function startDrag(name, event) {
    if (event.button !== 0 || axis === null) return;
    event.preventDefault();
    const { node } = handles[name];
    node.focus();
    node.setPointerCapture(event.pointerId);
    dragged = name;
    const shift = event.clientX - root.getBoundingClientRect().x - edgeX(name, judgedOf(page.scene()), axis);
    hint.remove();
    /** @param {PointerEvent} moved */
    const move = (moved) => {
      const x = moved.clientX - root.getBoundingClientRect().x - shift;
      page.change((scene) => withEdgeAt(active(scene), judgedOf(scene), name, valueAt(judgedOf(scene), x)), false);
    };
    const end = () => {
      node.removeEventListener("pointermove", move);
      dragged = null;
      page.change((scene) => scene.state, true);
    };
    node.addEventListener("pointermove", move);
    node.addEventListener("lostpointercapture", end, { once: true });
  }

  canvas.addEventListener("pointerdown", (event) => {
    const shown = judgedOf(page.scene());
    if (axis === null || shown.edges === null || event.button !== 0) return;
    const x = event.clientX - root.getBoundingClientRect().x;
    const [to, from] = [edgeX("closest", shown, axis), edgeX("beyond", shown, axis)];
    startDrag(Math.abs(x - to) <= Math.abs(x - from) ? "closest" : "beyond", event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (axis === null || dragged !== null) return;
    const { ranking, profile } = judgedOf(page.scene()).judgement;
    const rank = Math.min(countAtLeast(ranking.ranked, axis.score(event.offsetX)), profile.others - 1);
    if (rank >= 0) page.point(ranking.order[rank], { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointerleave", () => page.point(null));

  /**
   * What an edge at this place is, in the unit of the band.
   * @param {Judged} judged
   * @param {number} x
   */
  function valueAt({ edges, judgement }, x) {
    if (axis === null || edges === null) return 0;
    const at = axis.score(x);
    if (edges.unit !== "rank") return at;
    const { others } = judgement.profile;
    const rank = countAtLeast(judgement.ranking.ranked.subarray(0, others), at);
    return rank === others ? edges.keys : rank;
  }

  /** @type {(name: EdgeName, event: KeyboardEvent) => void} */
  function moveByKey(name, event) {
    const { edges } = judgedOf(page.scene());
    if (edges === null) return;
    const rank = edges.unit === "rank";
    const { least, most, now: clamped } = rangeOf(name, edges);
    // to the right keys are closer: fewer of the closest are left out, and fewer are kept within
    const steps = /** @type {Record<string, number>} */ ({
      ArrowRight: rank ? -1 : 0.01,
      ArrowUp: rank ? -1 : 0.01,
      ArrowLeft: rank ? 1 : -0.01,
      ArrowDown: rank ? 1 : -0.01,
      PageUp: rank ? -Math.ceil(edges.keys / 20) : 0.05,
      PageDown: rank ? Math.ceil(edges.keys / 20) : -0.05,
    });
    let value = clamped;
    if (event.key === "Home") value = rank ? most : least;
    else if (event.key === "End") value = rank ? least : most;
    else if (event.key in steps)
      value = clamped + steps[event.key] * (event.shiftKey && rank ? Math.ceil(edges.keys / 100) : 1);
    else return;
    event.preventDefault();
    event.stopPropagation();
    hint.remove();
    page.change((scene) => withEdgeAt(active(scene), judgedOf(scene), name, value), true, `edge ${side} ${name}`);
  }

  /** Draw the scene. */
  function draw() {
    const scene = page.scene();
    const two = scene.b !== null;
    root.hidden = side === "B" && !two;
    if (root.hidden) return;
    const judged = judgedOf(scene);
    letter.hidden = !two;
    setAttribute(root, "aria-label", `${two ? `Side ${side}: how` : "How"} close every key is`);
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
    const noun = two ? "" : `How close is every other ${judged.snapshot.noun}? `;
    setText(axisName, `${noun}By ${AXES[judged.judgement.by]}, from far to near.`);
    for (const name of /** @type {EdgeName[]} */ (["beyond", "closest"])) place(name, judged, axis);
    apart(width);
  }

  /** @type {(name: EdgeName, judged: Judged, axis: Axis) => void} */
  function place(name, judged, axis) {
    const { node, flag, words, lines, farther, closer } = handles[name];
    const { edges, border } = judged;
    node.hidden = flag.hidden = edges === null;
    if (edges === null) return;
    const x = edgeX(name, judged, axis);
    node.style.transform = `translateX(${x}px)`;
    flag.dataset.x = String(x);
    const said = edgeWords(name, judged);
    setText(words, said.short);
    lines.forEach((line, i) => {
      setText(line, said.lines[i] ?? "");
    });
    setAttribute(node, "aria-valuetext", `leave out ${said.short}, ${said.lines.join(", ")}`);
    const { least, most, now } = rangeOf(name, edges);
    setAttribute(node, "aria-valuemin", least);
    setAttribute(node, "aria-valuemax", most);
    setAttribute(node, "aria-valuenow", now);
    const { kept, left } = border[name];
    const [first, second] = name === "closest" ? [kept[0], left[0]] : [left[0], kept[0]];
    show(farther, first);
    show(closer, second);
  }

  /** @type {(tile: HTMLButtonElement, place: number | undefined) => void} */
  function show(tile, place) {
    tile.classList.toggle("none", place === undefined);
    tile.disabled = place === undefined;
    if (place === undefined) {
      tile.removeAttribute("data-place");
      tile.style.backgroundImage = "";
      setAttribute(tile, "aria-label", "no key");
    } else page.picture(place, tile);
  }

  /** Put the two flags above their edges, apart from each other and inside of the view. */
  function apart(/** @type {number} */ width) {
    const flags = [handles.beyond.flag, handles.closest.flag].filter((flag) => !flag.hidden);
    const places = flags.map((flag) => {
      const size = flag.offsetWidth;
      return { size, x: Math.max(0, Math.min(width - size, Number(flag.dataset.x) - size / 2)) };
    });
    if (places.length === 2) {
      const over = places[0].x + places[0].size + 8 - places[1].x;
      if (over > 0) {
        places[0].x = Math.max(0, places[0].x - over / 2);
        places[1].x = Math.min(width - places[1].size, Math.max(places[1].x, places[0].x + places[0].size + 8));
        places[0].x = Math.max(0, Math.min(places[0].x, places[1].x - places[0].size - 8));
      }
    }
    flags.forEach((flag, i) => {
      flag.style.transform = `translateX(${places[i].x}px)`;
    });
  }

  /** Where the pictures of each band stand below: code, left and right in pixels of the canvas. */
  function columnsBelow() {
    const strip = root.parentElement?.querySelector(".bands");
    const from = canvas.getBoundingClientRect();
    const columns = [...(strip?.querySelectorAll("[data-band]") ?? [])].map((column) => {
      const { left, right, top } = column.getBoundingClientRect();
      return { code: Number(column.getAttribute("data-band")), left: left - from.x, right: right - from.x, top };
    });
    return columns.every(({ top }) => top === columns[0].top) ? columns : []; // on a phone they are rows
  }

  /** @param {number | null} place whose score is marked on the axis */
  function mark(place) {
    const { ranking } = judgedOf(page.scene()).judgement;
    marker.hidden = place === null || axis === null || place === page.scene().place;
    if (!marker.hidden && axis !== null && place !== null) {
      marker.style.transform = `translateX(${axis.x(ranking.score[place])}px)`;
    }
  }

  return { root, draw, mark };
}

/**
 * Where an edge stands between its ends, in keys or as a score.
 * @param {EdgeName} name
 * @param {import("../engine/edges.js").Edges} edges
 */
function rangeOf(name, edges) {
  const closest = name === "closest";
  if (edges.unit === "rank") return { least: 0, most: edges.keys, now: closest ? edges.closest : edges.beyond };
  const score = closest ? edges.closestScore : edges.beyondScore;
  return { least: -1, most: 1, now: Math.max(-1, Math.min(1, score)) };
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Judged} judged
 * @param {Axis} axis
 * @param {Palette} palette
 * @param {{width: number, height: number, parts: typeof PARTS,
 *   columns: {code: number, left: number, right: number}[]}} layout
 */
function drawBars(context, judged, axis, palette, { width, height, parts, columns }) {
  const { bins, counts, judgement, edges, summary } = judged;
  const { push } = parts;
  const [top, floor] = [parts.flags, height - parts.ribbon - push - parts.axis];
  const tall = floor - top - 14;
  const bars = bins.ranks.length - 1;
  const codes = counts.length / bars;
  const total = Array.from({ length: bars }, (_, i) => bins.ranks[i] - bins.ranks[i + 1]);
  const sorted = [...total].sort((a, b) => b - a);
  const most = sorted[0] > 1.6 * sorted[CUT] && sorted[CUT] > 0 ? 1.15 * sorted[CUT] : Math.max(1, sorted[0]);
  const unit = tall / most;
  const [from, to] = edges ? [edgeX("beyond", judged, axis), edgeX("closest", judged, axis)] : [axis.left, axis.right];
  const stretches = edges
    ? [
        { code: BAND.EASY, left: axis.left, right: from },
        { code: BAND.POTENTIAL, left: from, right: to },
        { code: BAND.HARD, left: to, right: axis.right },
      ].filter(({ left, right }) => right - left > 0.5)
    : [{ code: BAND.POTENTIAL, left: axis.left, right: axis.right }];
  const fills = palette.band.map((_, code) => fillOf(context, palette, code));

  // washes and names of the stretches
  context.font = "600 12px system-ui, sans-serif";
  context.textAlign = "center";
  for (const { code, left, right } of stretches) {
    if (!edges) break;
    context.fillStyle = palette.wash[code];
    context.fillRect(left, top, right - left, floor - top + parts.axis + push);
    const name = `${SYMBOLS[code]} ${NAMES[code]}`;
    if (context.measureText(name).width < right - left - 8) {
      context.fillStyle = palette.text[code];
      context.fillText(name, (left + right) / 2, top + 13);
    }
  }

  // the linear axis of counts
  context.fillStyle = palette.soft;
  context.strokeStyle = palette.line;
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "right";
  context.lineWidth = 1;
  for (const tick of ticks(most, 3)) {
    const y = Math.round(floor - tick * unit) + 0.5;
    context.beginPath();
    context.moveTo(axis.left, y);
    context.lineTo(axis.right, y);
    context.stroke();
    context.fillText(count(tick), axis.left - 5, y + 4);
  }

  // bars: one colour each, split where an edge crosses; of rules without edges stacked by band
  const w = (axis.right - axis.left) / bars;
  for (let i = 0; i < bars; i++) {
    if (total[i] === 0) continue;
    const x = axis.left + i * w;
    const drawn = Math.min(total[i], most);
    if (edges) {
      for (const { code, left, right } of stretches) {
        const [a, b] = [Math.max(x, left), Math.min(x + w - 1, right)];
        if (b <= a) continue;
        context.fillStyle = fills[code];
        context.fillRect(a, floor - drawn * unit, b - a, drawn * unit);
      }
    } else {
      let under = 0;
      for (let code = 0; code < codes; code++) {
        const part = (counts[i * codes + code] * drawn) / total[i];
        if (part === 0) continue;
        context.fillStyle = fills[code];
        context.fillRect(x, floor - (under + part) * unit, w - 1, part * unit);
        under += part;
      }
    }
    if (total[i] > most) {
      context.fillStyle = palette.ground;
      context.fillRect(x - 1, floor - tall * 0.86, w + 1, 3);
      context.fillStyle = palette.ink;
      context.textAlign = "center";
      context.fillText(count(total[i]), x + w / 2, floor - drawn * unit - 3);
    }
  }

  // mined keys, each as a star above the axis
  context.font = "13px system-ui, sans-serif";
  context.textAlign = "center";
  const mined = judgement.selection.positiveIndex;
  for (let i = 0; i < mined.length && summary.keys[BAND.MINED] <= 40; i++) {
    if (judgement.selection.positiveWeight[1 + i] <= 0) continue;
    const x = axis.x(judgement.ranking.score[mined[i]]);
    context.fillStyle = palette.ground;
    context.fillText(SYMBOLS[BAND.MINED], x, floor + 0.5);
    context.fillStyle = palette.band[BAND.MINED];
    context.fillText(SYMBOLS[BAND.MINED], x, floor - 1);
  }

  // the axis
  context.strokeStyle = palette.ink;
  context.beginPath();
  context.moveTo(axis.left, floor + 0.5);
  context.lineTo(axis.right, floor + 0.5);
  context.stroke();
  context.fillStyle = palette.soft;
  context.font = "11px system-ui, sans-serif";
  const span = bins.width;
  for (const tick of ticksBetween(bins.low, bins.low + span, Math.max(2, Math.floor(width / 110)))) {
    const x = axis.x(tick);
    if (x < axis.left + 14 || x > axis.right - 14) continue;
    context.fillText(tick.toFixed(span < 0.5 ? 2 : 1).replace("-", "−"), x, floor + 14);
  }
  context.textAlign = "left";
  context.fillText("far", axis.left + 6, floor + 14);
  context.textAlign = "right";
  context.fillText("near", axis.right - 6, floor + 14);

  if (push) drawPush(context, judged, axis, palette, floor + parts.axis, fills, stretches);

  // ribbons from each stretch to its pictures
  const down = height - parts.ribbon;
  const stars = [...mined].filter((_, i) => judgement.selection.positiveWeight[1 + i] > 0);
  const places = stars.map((place) => axis.x(judgement.ranking.score[place]));
  const pulled = { code: BAND.MINED, left: Math.min(...places) - 3, right: Math.max(...places) + 3 };
  for (const { code, left, right } of columns) {
    const known = code === BAND.MINED && places.length ? [pulled] : stretches;
    const stretch = edges ? known.find((each) => each.code === code) : undefined;
    if (stretch === undefined) continue;
    context.fillStyle = palette.band[code];
    context.globalAlpha = 0.22;
    context.beginPath();
    context.moveTo(stretch.left, down);
    context.bezierCurveTo(stretch.left, down + 14, left, down + 8, left, height);
    context.lineTo(right, height);
    context.bezierCurveTo(right, down + 8, stretch.right, down + 14, stretch.right, down);
    context.fill();
    context.globalAlpha = 1;
  }
}

/**
 * The push of each bin if every key were kept, on a scale of its own, below the axis.
 * @param {CanvasRenderingContext2D} context
 * @param {Judged} judged
 * @param {Axis} axis
 * @param {Palette} palette
 * @param {number} top
 * @param {(string | CanvasPattern)[]} fills
 * @param {{code: number, left: number, right: number}[]} stretches
 */
function drawPush(context, { bins, judgement, edges, summary }, axis, palette, top, fills, stretches) {
  const bars = bins.ranks.length - 1;
  const w = (axis.right - axis.left) / bars;
  const share = Array.from(
    { length: bars },
    (_, i) => stretchOf(judgement.profile, bins.ranks[i + 1], bins.ranks[i]).push,
  );
  const most = Math.max(...share, 1e-9);
  const tall = PARTS.push - 16;
  context.fillStyle = palette.soft;
  context.textAlign = "right";
  context.fillText("push", axis.left - 5, top + 11);
  for (let i = 0; i < bars; i++) {
    const h = (share[i] / most) * tall;
    if (h < 0.2) continue;
    const x = axis.left + i * w;
    for (const { code, left, right } of stretches) {
      const [a, b] = [Math.max(x, left), Math.min(x + w - 1, right)];
      if (b <= a) continue;
      context.fillStyle = edges ? fills[code] : palette.soft;
      context.fillRect(a, top, b - a, h);
    }
  }
  if (!edges) return;
  context.font = "600 12px system-ui, sans-serif";
  for (const { code, left, right } of stretches) {
    const text = percent(summary.push[code] + (code === BAND.HARD ? summary.push[BAND.MINED] : 0));
    const half = context.measureText(text).width / 2 + 2;
    const x = Math.max(axis.left + half, Math.min(axis.right - half, (left + right) / 2));
    context.textAlign = "center";
    context.lineWidth = 4;
    context.strokeStyle = palette.wash[code];
    context.strokeText(text, x, top + PARTS.push - 4);
    context.fillStyle = palette.ink;
    context.fillText(text, x, top + PARTS.push - 4);
  }
}

/**
 * Round numbers up to the largest, about so many, without 0.
 * @param {number} most
 * @param {number} about
 */
function ticks(most, about) {
  return ticksBetween(0, most, about).filter((tick) => tick > 0 && Number.isInteger(tick));
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
