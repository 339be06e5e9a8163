// @ts-check
/** Colours by theme, from the style sheet's variables, and the textures that tell bands apart without colour. */

/**
 * Colours of one theme, each as CSS writes it.
 * @typedef {object} Palette
 * @property {string[]} band by code of `BAND`
 * @property {(string | CanvasPattern)[]} fills of a band's bars: its colour, with a texture in the ground's colour
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
  const [band, ground] = [BAND_VARIABLES.map(colour), colour("ground")];
  return {
    band,
    fills: band.map((each, code) => fillOf(each, TEXTURES[code], ground)),
    text: BAND_VARIABLES.map((name) => colour(`${name}-text`)),
    wash: BAND_VARIABLES.map((name) => colour(`${name}-wash`)),
    difference: ["strong", "ink", "side-a", "side-b"].map(colour),
    classes: Array.from({ length: 11 }, (_, i) => colour(`class-${i}`)),
    levels: Array.from({ length: 8 }, (_, i) => colour(`level-${i}`)),
    ink: colour("ink"),
    soft: colour("soft"),
    line: colour("line"),
    ground,
    sunk: colour("sunk"),
  };
}

/** By code of `BAND`: how its bars are textured. */
const TEXTURES = ["none", "dots", "none", "stripes", "rows", "cross", "thin"];

const STRIPES = "M-6 6l6-6M0 6l6-6M6 6l6-6";
/** The lines of a texture, on a tile of 6 pixels. */
const LINES = /** @type {Record<string, string>} */ ({
  stripes: STRIPES,
  cross: `${STRIPES}M-6 0l6 6M0 0l6 6M6 0l6 6`,
  thin: STRIPES,
});

/** @type {(colour: string, texture: string, ground: string) => string | CanvasPattern} */
function fillOf(colour, texture, ground) {
  const tile = document.createElement("canvas");
  [tile.width, tile.height] = [6, 6];
  const context = tile.getContext("2d");
  if (texture === "none" || context === null) return colour;
  context.fillStyle = colour;
  context.fillRect(0, 0, 6, 6);
  context.fillStyle = context.strokeStyle = ground;
  context.lineWidth = 1.1;
  if (texture === "rows") context.fillRect(0, 2, 6, 1.4);
  else if (texture === "dots") for (const at of [1, 4]) context.fillRect(at, at, 1.4, 1.4);
  else {
    context.globalAlpha = texture === "thin" ? 0.5 : 0.85;
    context.stroke(new Path2D(LINES[texture]));
  }
  return context.createPattern(tile, "repeat") ?? colour;
}
