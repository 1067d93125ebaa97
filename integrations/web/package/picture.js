// SPDX-License-Identifier: Apache-2.0
// A picture through a network, tile by tile.
import { LMBError } from './error.js';
import { automaticSide, cut } from './tiles.js';
import { isTransparent, showHiddenColours, writeTransparency } from './transparency.js';

const MOST_BYTES = 2 ** 31 - 1; // of a result

/**
 * @param {import('./engine.js').Network} network
 * @param {{data: Uint8ClampedArray, width: number, height: number}} image RGBA
 * @param {(done: number, total: number) => (void | Promise<void>)} after called after each tile; what it throws ends the run
 * @param {number} [side] of a tile, LR pixels
 * @returns {Promise<{data: Uint8ClampedArray, width: number, height: number}>}
 */
export async function upscalePicture(network, image, after, side) {
  const { width, height } = image, { upscale: factor, channels } = network;
  if (channels !== 3 || network.outChannels !== 3) {
    throw new LMBError(`The network is for pictures of ${channels} channel${channels === 1 ? '' : 's'}, not for colour.`);
  }
  const result = empty(width * factor, height * factor);
  const transparent = isTransparent(image.data), gray = isGray(image.data);
  const plain = !transparent && !gray; // bytes, as they are
  const source = plain ? image.data : valuesOf(image.data, gray), stride = plain ? 4 : 3;
  const write = plain ? writeBytes : gray ? writeGray : writeValues;
  if (transparent) showHiddenColours(source, image.data, height, width);

  const overlap = network.reach + 1;
  const step = network.seesAll ? Math.max(width, height) : side ?? automaticSide(network.bytesPerPixel, overlap);
  const tiles = cut(height, width, step, overlap);
  for (const [i, { inner, outer }] of tiles.entries()) {
    const outerWidth = outer.right - outer.left;
    const fill = (rgb) => {
      for (let y = outer.top, to = 0; y < outer.bottom; y++) {
        for (let from = stride * (y * width + outer.left), x = 0; x < outerWidth; x++, from += stride) {
          rgb[to++] = source[from];
          rgb[to++] = source[from + 1];
          rgb[to++] = source[from + 2];
        }
      }
    };
    const take = (rgb) => {
      const n = factor * (inner.right - inner.left);
      for (let y = factor * inner.top; y < factor * inner.bottom; y++) {
        const from = 3 * ((y - factor * outer.top) * outerWidth * factor + factor * (inner.left - outer.left));
        write(rgb, from, n, result.data, 4 * (y * result.width + factor * inner.left));
      }
    };
    if (plain) network.runBytes(outer.bottom - outer.top, outerWidth, fill, take);
    else network.runFloats(outer.bottom - outer.top, outerWidth, fill, take);
    await after(i + 1, tiles.length);
  }
  if (transparent) writeTransparency(source, image.data, height, width, factor, result.data);
  return result;
}

/** Whether no pixel that is seen has a colour. */
function isGray(rgba) {
  for (let i = 0; i < rgba.length; i += 4) {
    if (rgba[i + 3] !== 0 && (rgba[i] !== rgba[i + 1] || rgba[i] !== rgba[i + 2])) return false;
  }
  return true;
}

function valuesOf(rgba, gray) {
  const values = new Float32Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    for (let c = 0; c < 3; c++) values[to++] = rgba[from + (gray ? 0 : c)] / 255;
  }
  return values;
}

// Part of a row of a result: n pixels, opaque. A clamped array rounds and cuts.
function writeBytes(rgb, from, n, data, to) {
  for (let i = 0; i < n; i++, from += 3, to += 4) {
    data[to] = rgb[from];
    data[to + 1] = rgb[from + 1];
    data[to + 2] = rgb[from + 2];
    data[to + 3] = 255;
  }
}

function writeValues(rgb, from, n, data, to) {
  for (let i = 0; i < n; i++, from += 3, to += 4) {
    for (let c = 0; c < 3; c++) data[to + c] = Math.fround(255 * rgb[from + c]);
    data[to + 3] = 255;
  }
}

// The mean of the three results, so that no tint comes in.
function writeGray(rgb, from, n, data, to) {
  for (let i = 0; i < n; i++, from += 3, to += 4) {
    const mean = Math.fround(Math.fround(Math.fround(rgb[from] + rgb[from + 1]) + rgb[from + 2]) / 3);
    data[to] = data[to + 1] = data[to + 2] = Math.fround(255 * mean);
    data[to + 3] = 255;
  }
}

function empty(width, height) {
  const bytes = 4 * width * height;
  const tooLarge = () =>
    new LMBError(`The result would be ${width} x ${height} pixels, too large for this browser's memory. Use a smaller picture.`);
  if (bytes > MOST_BYTES) throw tooLarge();
  try {
    return { data: new Uint8ClampedArray(bytes), width, height };
  } catch (error) {
    throw error instanceof RangeError ? tooLarge() : error;
  }
}
