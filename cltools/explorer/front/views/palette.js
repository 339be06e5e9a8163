// @ts-check
/** Colours by theme, from the style sheet's variables, and the textures that tell bands apart without colour. */

/**
 * Colours of one theme, each as CSS writes it.
 * @typedef {object} Palette
 * @property {string[]} band by code of `BAND`
 * @property {string[]} text of a band's name
 * @property {string[]} wash behind a band's bars
 * @property {string[]} difference by `KEPT_BY`
 * @property {string[]} classes
 * @property {string[]} levels from little to much
 * @property {string} ink
 * @property {string} soft
 * @property {string} line
 * @property {string} ground
 * @property {string} sunk
 */

const BAND_VARIABLES = ["easy", "easy", "kept", "hard", "mined", "other", "less"];

/**
 * @param {Element} root whose style sheet is read
 * @returns {Palette}
 */
export function paletteOf(root) {
  const style = getComputedStyle(root);
  const colour = (/** @type {string} */ name) => style.getPropertyValue(`--${name}`).trim();
  return {
    band: BAND_VARIABLES.map(colour),
    text: BAND_VARIABLES.map((name) => colour(`${name}-text`)),
    wash: BAND_VARIABLES.map((name) => colour(`${name}-wash`)),
    difference: ["strong", "ink", "side-a", "side-b"].map(colour),
    classes: Array.from({ length: 10 }, (_, i) => colour(`class-${i}`)),
    levels: Array.from({ length: 8 }, (_, i) => colour(`level-${i}`)),
    ink: colour("ink"),
    soft: colour("soft"),
    line: colour("line"),
    ground: colour("ground"),
    sunk: colour("sunk"),
  };
}

/** By code of `BAND`: how its bars are textured. */
const TEXTURES = ["none", "dots", "none", "stripes", "rows", "cross", "thin"];

/**
 * What fills a band's bars: its colour, with a texture in the ground's colour.
 * @param {CanvasRenderingContext2D} context
 * @param {Palette} palette
 * @param {number} code
 * @returns {string | CanvasPattern}
 */
export function fillOf(context, palette, code) {
  const known = FILLS.get(palette)?.[code];
  if (known !== undefined) return known;
  const fill = madeFill(context, palette, code);
  const fills = FILLS.get(palette) ?? [];
  fills[code] = fill;
  FILLS.set(palette, fills);
  return fill;
}

/** @type {WeakMap<Palette, (string | CanvasPattern)[]>} */
const FILLS = new WeakMap();

/** @type {(context: CanvasRenderingContext2D, palette: Palette, code: number) => string | CanvasPattern} */
function madeFill(context, palette, code) {
  const texture = TEXTURES[code];
  if (texture === "none") return palette.band[code];
  const tile = document.createElement("canvas");
  [tile.width, tile.height] = [6, 6];
  const draw = tile.getContext("2d");
  if (draw === null) return palette.band[code];
  draw.fillStyle = palette.band[code];
  draw.fillRect(0, 0, 6, 6);
  draw.fillStyle = draw.strokeStyle = palette.ground;
  draw.lineWidth = 1.1;
  if (texture === "rows") draw.fillRect(0, 2, 6, 1.4);
  else if (texture === "dots") {
    for (const [x, y] of [
      [1, 1],
      [4, 4],
    ]) {
      draw.fillRect(x, y, 1.4, 1.4);
    }
  } else {
    const lines = texture === "cross" ? [0, 6, 0, 6] : [0, 6];
    draw.beginPath();
    for (const shift of [-6, 0, 6]) {
      draw.moveTo(shift, 6);
      draw.lineTo(shift + 6, 0);
      if (lines.length > 2) {
        draw.moveTo(shift, 0);
        draw.lineTo(shift + 6, 6);
      }
    }
    draw.globalAlpha = texture === "thin" ? 0.5 : 0.85;
    draw.stroke();
  }
  return context.createPattern(tile, "repeat") ?? palette.band[code];
}
