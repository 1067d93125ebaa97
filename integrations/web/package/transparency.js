// SPDX-License-Identifier: Apache-2.0
// Pictures that are transparent in places, RGBA bytes: lmb_quant/upscaling/colour.py has the reasons.

/** Whether any pixel is not opaque. */
export function isTransparent(rgba) {
  for (let i = 3; i < rgba.length; i += 4) if (rgba[i] !== 255) return true;
  return false;
}

/** A copy in which hidden pixels have the colours of the nearest visible ones, by means over 2 x 2 blocks. */
export function withVisibleColours(rgba, height, width) {
  const total = new Float32Array(3 * height * width), weight = new Float32Array(height * width);
  let hidden = 0;
  for (let i = 0; i < weight.length; i++) {
    weight[i] = rgba[4 * i + 3];
    hidden += weight[i] === 0;
    for (let c = 0; c < 3; c++) total[3 * i + c] = weight[i] * rgba[4 * i + c];
  }
  const result = rgba.slice();
  if (hidden === 0 || hidden === weight.length) return result;
  const colours = filled(total, weight, height, width);
  for (let i = 0; i < weight.length; i++) {
    if (weight[i] === 0) for (let c = 0; c < 3; c++) result[4 * i + c] = Math.round(colours[3 * i + c]);
  }
  return result;
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
  const coarse = filled(sums, weights, h, w);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const from = (y >> 1) * w + (x >> 1);
      if (weight[i] === 0) for (let c = 0; c < 3; c++) mean[3 * i + c] = coarse[3 * from + c];
    }
  }
  return mean;
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

/** Writes the alpha of rgba, upscaled bicubically, into that of large. */
export function upscaleAlpha(rgba, height, width, factor, large) {
  const inside = (i, n) => Math.min(Math.max(i, 0), n - 1);
  const rows = taps(height, factor), columns = taps(width, factor);
  const line = new Float32Array(width);
  rows.forEach((row, y) => {
    line.fill(0);
    row.weights.forEach((weight, t) => {
      const from = 4 * width * inside(row.first + t, height) + 3;
      for (let x = 0; x < width; x++) line[x] += weight * rgba[from + 4 * x];
    });
    columns.forEach((column, x) => {
      let value = 0;
      column.weights.forEach((weight, t) => { value += weight * line[inside(column.first + t, width)]; });
      large[4 * (y * columns.length + x) + 3] = value; // a clamped array rounds and cuts
    });
  });
}
