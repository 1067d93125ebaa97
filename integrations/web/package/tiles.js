// SPDX-License-Identifier: Apache-2.0
// How an image is cut: as lmb_quant/upscaling/tiles.py does.

const BUDGET = 64 << 20; // bytes for the feature maps of one run
const LARGEST = 384, SMALLEST = 64; // a tile is also the step of progress, and of cancelling

/** Side of a tile, LR pixels. */
export function automaticSide(bytesPerPixel, overlap) {
  const side = Math.floor(Math.sqrt(BUDGET / Math.max(1, bytesPerPixel))) - 2 * overlap;
  return Math.max(SMALLEST, Math.min(LARGEST, side));
}

/**
 * The tiles of an image. `inner` is what a tile contributes, `outer` what the network is shown: inner and the overlap, cut
 * at the image's borders. The image stays whole where one tile with its overlap would cover it anyway.
 */
export function cut(height, width, side, overlap) {
  const step = Math.max(height, width) <= side + 2 * overlap ? Math.max(height, width) : side;
  const tiles = [];
  for (let top = 0; top < height; top += step) {
    for (let left = 0; left < width; left += step) {
      const inner = { top, bottom: Math.min(top + step, height), left, right: Math.min(left + step, width) };
      tiles.push({
        inner,
        outer: {
          top: Math.max(0, inner.top - overlap),
          bottom: Math.min(height, inner.bottom + overlap),
          left: Math.max(0, inner.left - overlap),
          right: Math.min(width, inner.right + overlap),
        },
      });
    }
  }
  return tiles;
}
