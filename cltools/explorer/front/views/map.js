// @ts-check
/** The map: a point for each image, in its band's colour and symbol. Hover, click, keys, zoom, lasso, pictures. */

import { BAND } from "../engine/bands.js";
import { countAtLeast, INFINITE } from "../engine/order.js";
import { drawWords, STRONG_FONT, surface } from "./canvas.js";
import { el, iconButton, setAttribute, setText } from "./dom.js";
import { percent } from "./words.js";

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("./palette.js").Palette} Palette */

/** Shapes by code of `BAND`: each point is stamped with one. */
const SHAPES = ["circle", "circle", "diamond", "triangle", "star", "cross", "diamond"];
const SHAPE_OF_DIFFERENCE = ["circle", "diamond", "triangle", "star"];
/** How large a shape is beside a circle. */
const SIZES = /** @type {Record<string, number>} */ ({
  circle: 0.8,
  diamond: 1.15,
  triangle: 1.3,
  star: 1.5,
  cross: 1.1,
});
const NEAR = 12; // pixels within which the pointer is at a point
const PICTURES = 400; // so many pictures at most stand on the map at a time

/**
 * @param {object} page
 * @param {() => Scene} page.scene
 * @param {() => Palette} page.palette
 * @param {(place: number, x: number, y: number, size: number, context: CanvasRenderingContext2D) => void} page.paint
 * @param {() => Uint8Array | null} page.found 1 for each key that is looked for; null for all
 * @param {(place: number) => void} page.pick
 * @param {(place: number | null, at?: {x: number, y: number}) => void} page.point
 * @param {(places: number[]) => void} page.lassoed
 */
export function mapView(page) {
  const { noun, own, tiles } = page.scene().shown.snapshot;
  const picks = own ? "shows it whole" : "makes it the anchor";
  const canvas = el("canvas", {
    tabindex: 0,
    role: "application",
    "aria-label": `Map of all ${noun}s. Arrow keys walk from point to point, Enter ${picks}, + and − zoom.`,
    title: `A click on a point ${picks}; Ctrl and the wheel zoom.`,
    pointerleave: () => page.point(null),
    blur() {
      walked = null;
      page.point(null);
    },
  });
  const ring = el("i", { class: "ring", hidden: true });
  const note = el("p", "map-note");
  const on = { pictures: false, lasso: false };
  /** @type {(name: "pictures" | "lasso", words: string) => HTMLButtonElement} */
  function switched(name, words) {
    const toggle = () => {
      on[name] = !on[name];
      setAttribute(button, "aria-pressed", String(on[name]));
      draw();
    };
    const button = iconButton(name, words, toggle, { "aria-pressed": "false" });
    return button;
  }
  const tools = el(
    "div",
    "map-tools",
    tiles > 0 && switched("pictures", "Pictures instead of points"),
    switched("lasso", "Choose a group by a line around it"),
    iconButton("plus", "Zoom in", () => zoom(1.6)),
    iconButton("minus", "Zoom out", () => zoom(1 / 1.6)),
    iconButton("fit", "Show the whole map", () => zoom(0)),
  );
  const root = el(
    "section",
    { class: "map", "aria-label": "Map" },
    el("div", "map-box", canvas, ring),
    el("div", "map-foot", note, tools),
  );
  /** The frame: what the map's middle shows, and how much it is magnified. */
  let frame = { x: 0.5, y: 0.5, zoom: 1 };
  /** Places on the page in pixels, two numbers a point. */
  let pixels = new Float32Array(0);
  const pixelOf = (/** @type {number} */ place) => [pixels[2 * place], pixels[2 * place + 1]];
  /** The surface: pixels of the page, and the image that points are stamped on. @type {Surface | null} */
  let room = null;
  /** @type {number | null} */
  let walked = null;
  /** @type {[number, number][]} */
  let line = [];

  /** Centre the view at a position; it stays within the map. @type {(x: number, y: number, zoom: number) => void} */
  function look(x, y, zoom) {
    const half = 0.5 / zoom;
    const within = (/** @type {number} */ at) => Math.max(half, Math.min(1 - half, at));
    frame = { x: within(x), y: within(y), zoom };
    draw();
  }

  /** @type {(by: number, x?: number, y?: number) => void} */
  function zoom(by, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
    const next = Math.max(1, Math.min(40, frame.zoom * by));
    const { clientWidth: width, clientHeight: height } = canvas;
    const shift = (1 / frame.zoom - 1 / next) / sideOfMap(width, height);
    look(frame.x + (x - width / 2) * shift, frame.y + (y - height / 2) * shift, next);
  }

  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return; // a notebook goes on scrolling
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, event.offsetX, event.offsetY);
  });
  /** Positions of touching fingers; two of them zoom. @type {Map<number, [number, number]>} */
  const fingers = new Map();
  const apart = () => {
    const [[ax, ay], [bx, by]] = fingers.values();
    return Math.hypot(ax - bx, ay - by);
  };
  let moved = false;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    line = [[event.offsetX, event.offsetY]];
    fingers.set(event.pointerId, line[0]);
    moved = fingers.size > 1;
  });
  canvas.addEventListener("pointermove", (event) => {
    const { pointerId, offsetX: x, offsetY: y } = event;
    const last = fingers.get(pointerId);
    if (last === undefined) {
      page.point(nearest(x, y), { x: event.clientX, y: event.clientY });
      return;
    }
    const [dx, dy] = [x - last[0], y - last[1]];
    moved ||= Math.hypot(dx, dy) > 4;
    if (!moved) return;
    const before = fingers.size === 2 ? apart() : 0;
    fingers.set(pointerId, [x, y]);
    if (before) zoom(apart() / before, x, y);
    else if (on.lasso) {
      line.push([x, y]);
      draw();
    } else {
      const side = sideOfMap(canvas.clientWidth, canvas.clientHeight) * frame.zoom;
      look(frame.x - dx / side, frame.y - dy / side, frame.zoom);
    }
  });
  for (const name of /** @type {const} */ (["pointerup", "lostpointercapture"])) {
    canvas.addEventListener(name, (event) => {
      if (!fingers.delete(event.pointerId)) return;
      const drawn = line;
      line = [];
      draw();
      if (name !== "pointerup") return; // the browser took the finger, as for scrolling
      const place = nearest(event.offsetX, event.offsetY);
      if (drawn.length > 2) page.lassoed(inside(pathOf(drawn)));
      else if (!moved && place !== null) page.pick(place);
    });
  }
  canvas.addEventListener("keydown", (event) => {
    const steps = /** @type {Record<string, [number, number]>} */ ({
      ArrowRight: [1, 0],
      ArrowLeft: [-1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    });
    if (event.key in steps) walk(...steps[event.key]);
    else if (event.key === "Enter" && walked !== null) page.pick(walked);
    else if (event.key === "+") zoom(1.6);
    else if (event.key === "-") zoom(1 / 1.6);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  /** The point whose distance is least and below a limit. @type {(far: (x: number, y: number) => number, limit: number) => number | null} */
  function closest(far, limit) {
    let [best, least] = [/** @type {number | null} */ (null), limit];
    for (let i = 0; i < pixels.length / 2; i++) {
      const distance = far(pixels[2 * i], pixels[2 * i + 1]);
      if (distance < least) [best, least] = [i, distance];
    }
    return best;
  }

  /** @type {(x: number, y: number) => number | null} */
  const nearest = (x, y) => closest((toX, toY) => (toX - x) ** 2 + (toY - y) ** 2, NEAR ** 2);

  /** Go to the closest point that lies mainly in this direction. @type {(dx: number, dy: number) => void} */
  function walk(dx, dy) {
    const from = walked ?? page.scene().own[0] ?? 0;
    const [x, y] = pixelOf(from);
    const next = closest((toX, toY) => {
      const along = (toX - x) * dx + (toY - y) * dy;
      const across = Math.abs((toX - x) * dy) + Math.abs((toY - y) * dx);
      return along <= 0.5 || across > along ? INFINITE : along + 2 * across;
    }, INFINITE);
    walked = next ?? from;
    const box = canvas.getBoundingClientRect();
    const [nextX, nextY] = pixelOf(walked);
    page.point(walked, { x: box.x + nextX, y: box.y + nextY });
  }

  /** Places of the points within a path. @type {(path: Path2D) => number[]} */
  function inside(path) {
    return [...page.scene().map.kept.keys()].filter((place) => {
      const [x, y] = pixelOf(place).map((pixel) => pixel * (room?.scale ?? 1));
      return room?.context.isPointInPath(path, x, y, "evenodd");
    });
  }

  /** Draw the scene. */
  function draw() {
    const scene = page.scene();
    room ??= surfaceOf(canvas);
    if (room === null) return;
    const { context, width, height } = room;
    const { name, points, kept } = scene.map;
    const side = sideOfMap(width, height) * frame.zoom;
    // the map's coordinates lie in [0, 1]
    pixels = points.map((at, i) => (i % 2 ? height / 2 + (at - frame.y) * side : width / 2 + (at - frame.x) * side));
    // a finger draws the line, or moves what is zoomed; else it scrolls the page
    canvas.style.touchAction = on.lasso || frame.zoom > 1 ? "none" : "";
    const palette = page.palette();
    const { codes, shapes, colours } = painting(scene, palette);
    const size = Math.max(1.6, Math.min(4.2, 130 / Math.sqrt(pixels.length / 2))) * Math.sqrt(frame.zoom) ** 0.7;
    page.found()?.forEach((hit, i) => {
      if (!hit && !scene.own.includes(i)) pixels[2 * i] = Number.NaN; // it can be neither seen nor reached
    });
    stamp(room, pixels, codes, shapes, colours, palette.sunk, size);
    if (on.pictures) drawPictures(room, scene, codes, colours);
    if (scene.misplaced.length) {
      context.strokeStyle = palette.soft;
      context.lineWidth = 1;
      for (const [x, y] of scene.misplaced.map(pixelOf)) context.strokeRect(x - 4, y - 4, 8, 8);
    }
    if (line.length) {
      context.strokeStyle = palette.ink;
      context.setLineDash([4, 3]);
      context.stroke(pathOf(line));
      context.setLineDash([]);
    }
    for (const place of scene.own) anchorMark(context, palette, pixelOf(place), own ? "positive" : "anchor");
    const known = kept.filter((percent) => percent <= 100).sort();
    const middle = known[known.length >> 1] / 100;
    setText(note, `${name}: half of the points keep ${percent(middle)} of their 15 neighbours or fewer.`);
  }

  /** @type {(room: Surface, scene: Scene, codes: ArrayLike<number>, colours: string[]) => void} */
  function drawPictures({ context, width, height }, scene, codes, colours) {
    const size = 22;
    const taken = new Set();
    for (const place of [...scene.own, ...scene.shown.judgement.ranking.order]) {
      const [x, y] = pixelOf(place);
      const cell = `${Math.floor(x / size)} ${Math.floor(y / size)}`;
      if (!(x >= 0 && y >= 0 && x <= width && y <= height) || taken.has(cell)) continue;
      taken.add(cell);
      context.strokeStyle = colours[codes[place]];
      page.paint(place, x - size / 2, y - size / 2, size, context);
      if (taken.size === PICTURES) break;
    }
  }

  /** @param {number | null} place that is ringed */
  function mark(place) {
    ring.hidden = place === null || page.scene().own.includes(place);
    if (place === null) return;
    const [x, y] = pixelOf(place);
    ring.style.transform = `translate(${x}px, ${y}px)`;
  }

  /** Measure again before the next drawing. */
  const resized = () => (room = null);
  return { root, draw, mark, resized, pixelOf };
}

/** @typedef {NonNullable<ReturnType<typeof surfaceOf>>} Surface */

/**
 * A canvas at the device's resolution, and an image of its size; null while it has none.
 * @param {HTMLCanvasElement} canvas
 */
function surfaceOf(canvas) {
  const found = surface(canvas, { willReadFrequently: true });
  if (found === null) return null;
  const image = found.context.createImageData(canvas.width, canvas.height);
  return { ...found, image, words: new Uint32Array(image.data.buffer) };
}

/** Pixels that a map takes which is not zoomed. @type {(width: number, height: number) => number} */
const sideOfMap = (width, height) => 0.94 * Math.min(width, height);

/** A closed line. @param {[number, number][]} line */
const pathOf = (line) => new Path2D(`M${line.join("L")}Z`);

/**
 * The code of each point, and what shape and colour codes have, a circle by default; larger codes are drawn over smaller ones.
 * @param {Scene} scene
 * @param {Palette} palette
 * @returns {{codes: ArrayLike<number>, shapes: string[], colours: string[]}}
 */
export function painting(scene, palette) {
  const { state, shown, difference } = scene;
  const { judgement, snapshot } = shown;
  if (state.colour === "difference" && difference !== null) {
    return { codes: difference, shapes: SHAPE_OF_DIFFERENCE, colours: palette.difference };
  }
  if (state.colour === "class" && state.truth) {
    const codes = snapshot.labels.map((label) => (label < 0 ? 10 : label % 10));
    return { codes, shapes: [], colours: palette.classes };
  }
  if (state.colour === "similarity" || state.colour === "gradient") {
    const values = state.colour === "similarity" ? judgement.similarities.anchorKeys : judgement.push();
    const ranked = Float32Array.from(values).sort().reverse();
    const { length } = ranked;
    const levels = palette.levels.length;
    const codes = Uint8Array.from(values, (value) => (levels * (length - countAtLeast(ranked, value))) / length);
    return { codes, shapes: [], colours: palette.levels };
  }
  const codes = judgement.band.map((code) => (code === BAND.OWN ? BAND.EASY : code));
  return { codes, shapes: SHAPES, colours: palette.band };
}

/**
 * Draw every point as a stamp of pixels, because a path for each is much slower.
 * @param {Surface} room
 * @param {Float32Array} pixels
 * @param {ArrayLike<number>} codes
 * @param {string[]} shapes
 * @param {string[]} colours
 * @param {string} ground
 * @param {number} size radius of a circle in CSS pixels
 */
function stamp({ context, image, words, scale }, pixels, codes, shapes, colours, ground, size) {
  const { width: w, height: h } = image;
  const edge = wordOf(context, ground);
  words.fill(edge);
  colours.forEach((colour, code) => {
    const shape = shapes[code] ?? "circle";
    const { reach, inside, rim } = stampOf(shape, size * SIZES[shape] * scale, w);
    const word = wordOf(context, colour);
    for (let i = 0; i < codes.length; i++) {
      if (codes[i] !== code) continue;
      const [x, y] = [Math.round(pixels[2 * i] * scale), Math.round(pixels[2 * i + 1] * scale)];
      if (!(x >= reach && y >= reach && x < w - reach && y < h - reach)) continue;
      for (const at of rim) words[y * w + x + at] = edge;
      for (const at of inside) words[y * w + x + at] = word;
    }
  });
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.putImageData(image, 0, 0);
  context.setTransform(scale, 0, 0, scale, 0, 0);
}

/**
 * A colour as the word that image data hold.
 * @param {CanvasRenderingContext2D} context
 * @param {string} colour
 */
function wordOf(context, colour) {
  context.fillStyle = colour;
  const rgb = Number.parseInt(String(context.fillStyle).slice(1), 16);
  return (255 << 24) | ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16);
}

/**
 * Pixels of a shape about its middle, and of the rim around it.
 * @param {string} shape
 * @param {number} radius
 * @param {number} width of an image: so many pixels lie between two rows
 */
function stampOf(shape, radius, width) {
  const reach = Math.ceil(radius) + 1;
  /** @type {number[]} */
  const inside = [];
  /** @type {number[]} */
  const rim = [];
  if (shape === "circle") radius = Math.min(radius, Math.SQRT2 * Math.floor(radius) - 0.01); // a small circle with all four corners is a square
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      if (covers(shape, x / radius, y / radius)) inside.push(y * width + x);
      else if (covers(shape, x / (radius + 1), y / (radius + 1))) rim.push(y * width + x);
    }
  }
  return { reach, inside, rim };
}

/** @type {(shape: string, x: number, y: number) => boolean} */
function covers(shape, x, y) {
  if (shape === "diamond") return Math.abs(x) + Math.abs(y) <= 1;
  if (shape === "triangle") return y <= 0.62 && y >= -0.95 && Math.abs(x) <= (y + 0.95) * 0.62;
  if (shape === "cross") return Math.abs(Math.abs(x) - Math.abs(y)) <= 0.3 && Math.abs(x) <= 0.85;
  if (shape === "star") {
    const [angle, far] = [Math.atan2(x, -y), Math.hypot(x, y)];
    const within = Math.abs(((angle / ((2 * Math.PI) / 5) + 10.5) % 1) - 0.5) * 2; // 0 at a point, 1 between
    return far <= 1 - 0.58 * within;
  }
  return x * x + y * y <= 1;
}

/** @type {(context: CanvasRenderingContext2D, palette: Palette, at: number[], name: string) => void} */
function anchorMark(context, palette, [x, y], name) {
  for (const [radius, width, colour] of /** @type {[number, number, string][]} */ ([
    [9, 5, palette.ground],
    [9, 2.5, palette.ink],
    [3, 4, palette.ink],
  ])) {
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke();
  }
  context.font = STRONG_FONT;
  const left = x < context.canvas.clientWidth - 70; // where there is room
  drawWords(context, name, left ? x + 15 : x - 15, y + 4, palette.ink, left ? "left" : "right", palette.sunk);
}
