// @ts-check
/** Drawing on a canvas: its surface, straight lines, and words. */

/**
 * The drawing surface of a canvas at the device's resolution, cleared; null while the canvas has no size.
 * @param {HTMLCanvasElement} canvas
 * @param {CanvasRenderingContext2DSettings} [settings]
 * @returns {{context: CanvasRenderingContext2D, width: number, height: number, scale: number} | null}
 */
export function surface(canvas, settings) {
  const { width, height } = canvas.getBoundingClientRect();
  const scale = globalThis.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  const context = canvas.getContext("2d", settings);
  if (context === null || w < 1 || h < 1) return null;
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  context.lineWidth = 1;
  return { context, width, height, scale };
}

/** @type {(context: CanvasRenderingContext2D, fill: string | CanvasPattern, x: number, y: number, width: number, height: number) => void} */
export function drawBox(context, fill, x, y, width, height) {
  context.fillStyle = fill;
  context.fillRect(x, y, width, height);
}

/** @type {(context: CanvasRenderingContext2D, colour: string, x: number, y: number, toX: number, toY: number) => void} */
export function drawLine(context, colour, x, y, toX, toY) {
  context.strokeStyle = colour;
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(toX, toY);
  context.stroke();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {string} words
 * @param {number} x
 * @param {number} y of the line they stand on
 * @param {string} colour
 * @param {CanvasTextAlign} [align]
 * @param {string} [rim] colour around the letters, where they stand on something
 */
export function drawWords(context, words, x, y, colour, align = "center", rim = "") {
  context.textAlign = align;
  if (rim) {
    context.lineWidth = 4;
    context.strokeStyle = rim;
    context.strokeText(words, x, y);
  }
  context.fillStyle = colour;
  context.fillText(words, x, y);
}

/** @param {number} size in pixels */
export const font = (size) => `${size}px system-ui, sans-serif`;
/** Of names and numbers that stand out. */
export const STRONG_FONT = `600 ${font(12)}`;
