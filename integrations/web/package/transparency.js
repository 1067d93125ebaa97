// SPDX-License-Identifier: Apache-2.0
// Pictures that are transparent in places: lmb_quant/upscaling/colour.py, step by step; it has the reasons. `rgba` are the
// picture's bytes, `values` its colours, three float32 a pixel in [0, 1].

const REACH = 2; // of bicubic upscaling, pixels
const VISIBLE = 1 / 1024; // less opacity is rounded to none

/** Whether any pixel is not opaque. */
export function isTransparent(rgba) {
  for (let i = 3; i < rgba.length; i += 4) if (rgba[i] !== 255) return true;
  return false;
}

/** Gives hidden pixels the colours of the nearest visible ones, by means over 2 x 2 blocks. */
export function showHiddenColours(values, rgba, height, width) {
  const total = new Float32Array(3 * height * width), weight = new Float32Array(height * width);
  let hidden = 0;
  for (let i = 0; i < weight.length; i++) {
    weight[i] = rgba[4 * i + 3] / 255;
    hidden += weight[i] === 0;
    for (let c = 0; c < 3; c++) total[3 * i + c] = weight[i] * values[3 * i + c];
  }
  if (hidden === 0 || hidden === weight.length) return;
  const colours = filled(total, weight, height, width);
  for (let i = 0; i < weight.length; i++) {
    if (weight[i] === 0) values.set(colours.subarray(3 * i, 3 * i + 3), 3 * i);
  }
}

function filled(total, weight, height, width) {
  const mean = total.slice();
  let empty = 0;
  for (let i = 0; i < weight.length; i++) {
    if (weight[i] > 0) for (let c = 0; c < 3; c++) mean[3 * i + c] /= weight[i];
    else empty++;
  }
  if (empty === 0 || Math.max(height, width) === 1) return mean;
  const h = Math.ceil(height / 2), w = Math.ceil(width / 2);
  const sums = new Float32Array(3 * h * w), weights = new Float32Array(h * w);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const to = (y >> 1) * w + (x >> 1);
      weights[to] += weight[i];
      for (let c = 0; c < 3; c++) sums[3 * to + c] += total[3 * i + c];
    }
  }
  for (let y = 0, i = 0; y < h; y++) { // means, so that a block at an odd border counts as others do
    for (let x = 0; x < w; x++, i++) {
      const count = Math.min(2, height - 2 * y) * Math.min(2, width - 2 * x);
      weights[i] /= count;
      for (let c = 0; c < 3; c++) sums[3 * i + c] /= count;
    }
  }
  const coarse = filled(sums, weights, h, w);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const from = (y >> 1) * w + (x >> 1);
      if (weight[i] === 0) for (let c = 0; c < 3; c++) mean[3 * i + c] = coarse[3 * from + c];
    }
  }
  return mean;
}

/**
 * Writes into large, the result, what a picture's transparency decides: alpha, upscaled bicubically; and within reach of
 * hidden pixels the colours, weighted by alpha and upscaled likewise.
 */
export function writeTransparency(values, rgba, height, width, factor, large) {
  const edge = nearHidden(rgba, height, width);
  const inside = (i, n) => Math.min(Math.max(i, 0), n - 1);
  const rows = taps(height, factor), columns = taps(width, factor);
  const line = new Float32Array(4 * width); // colours times alpha, and alpha
  rows.forEach((row, y) => {
    const own = Math.floor(y / factor) * width, hasEdge = edge.subarray(own, own + width).includes(1);
    line.fill(0);
    row.weights.forEach((weight, t) => {
      for (let i = width * inside(row.first + t, height), x = 0; x < width; x++, i++) {
        const alpha = (weight * rgba[4 * i + 3]) / 255;
        line[4 * x + 3] += alpha;
        if (hasEdge) for (let c = 0; c < 3; c++) line[4 * x + c] += alpha * values[3 * i + c];
      }
    });
    const sum = (column, c) =>
      column.weights.reduce((total, weight, t) => total + weight * line[4 * inside(column.first + t, width) + c], 0);
    columns.forEach((column, x) => {
      const at = 4 * (y * columns.length + x), opacity = sum(column, 3);
      large[at + 3] = Math.fround(255 * opacity); // a clamped array rounds and cuts
      if (!edge[own + Math.floor(x / factor)] || opacity <= VISIBLE) return;
      for (let c = 0; c < 3; c++) large[at + c] = Math.fround((255 * sum(column, c)) / opacity);
    });
  });
}

// 1 for pixels within bicubic reach of a hidden one.
function nearHidden(rgba, height, width) {
  const near = new Uint8Array(height * width);
  for (let y = 0, i = 3; y < height; y++) {
    for (let x = 0; x < width; x++, i += 4) {
      if (rgba[i] !== 0) continue;
      const left = Math.max(0, x - REACH), right = Math.min(width, x + REACH + 1);
      for (let v = Math.max(0, y - REACH); v < Math.min(height, y + REACH + 1); v++) {
        near.fill(1, v * width + left, v * width + right);
      }
    }
  }
  return near;
}

const A = -0.75; // PyTorch's bicubic kernel

function bicubic(distance) {
  const d = Math.abs(distance);
  if (d <= 1) return ((A + 2) * d - (A + 3)) * d * d + 1;
  return d < 2 ? (((d - 5) * d + 8) * d - 4) * A : 0;
}

// For each of n * factor results its first pixel, counted from 2 before the first, and 4 weights.
function taps(n, factor) {
  return Array.from({ length: n * factor }, (_, i) => {
    const at = (i + 0.5) / factor - 0.5, first = Math.floor(at) - 1;
    return { first, weights: [0, 1, 2, 3].map((t) => bicubic(at - first - t)) };
  });
}
