// SPDX-License-Identifier: Apache-2.0
// A picture through a network, tile by tile.
import { LMBError } from './error.js';
import { automaticSide, cut } from './tiles.js';
import { isTransparent, upscaleAlpha, withVisibleColours } from './transparency.js';

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
  const transparent = isTransparent(image.data);
  const source = transparent ? withVisibleColours(image.data, height, width) : image.data;

  const overlap = network.reach + 1;
  const step = network.seesAll ? Math.max(width, height) : side ?? automaticSide(network.bytesPerPixel, overlap);
  const tiles = cut(height, width, step, overlap);
  for (const [i, { inner, outer }] of tiles.entries()) {
    const outerWidth = outer.right - outer.left;
    network.run(
      outer.bottom - outer.top, outerWidth,
      (rgb) => {
        for (let y = outer.top, to = 0; y < outer.bottom; y++) {
          for (let from = 4 * (y * width + outer.left), x = 0; x < outerWidth; x++, from += 4) {
            rgb[to++] = source[from];
            rgb[to++] = source[from + 1];
            rgb[to++] = source[from + 2];
          }
        }
      },
      (rgb) => {
        const n = factor * (inner.right - inner.left);
        for (let y = factor * inner.top; y < factor * inner.bottom; y++) {
          let from = 3 * ((y - factor * outer.top) * outerWidth * factor + factor * (inner.left - outer.left));
          let to = 4 * (y * result.width + factor * inner.left);
          for (let x = 0; x < n; x++, to += 4) {
            result.data[to] = rgb[from++];
            result.data[to + 1] = rgb[from++];
            result.data[to + 2] = rgb[from++];
            result.data[to + 3] = 255;
          }
        }
      });
    await after(i + 1, tiles.length);
  }
  if (transparent) upscaleAlpha(image.data, height, width, factor, result.data);
  return result;
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
