// SPDX-License-Identifier: Apache-2.0
// The module as pages use it: node --test, with LMB_MODULE (its folder) and LMB_NETWORK (a packed file) set.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { read, threads } from './browser.mjs';

const load = (name) => import(pathToFileURL(`${process.env.LMB_MODULE}/${name}`));
const { LMBError, upscale } = await load('index.js');
const { loadEngine } = await load('engine.js');
const { upscalePicture } = await load('picture.js');
const network = await read(process.env.LMB_NETWORK);
const wasm = await read(`${process.env.LMB_MODULE}/lmb_quant.wasm`);

after(() => threads.forEach((thread) => thread.terminate()));

function picture(width, height, alpha = () => 255) {
  let state = 1;
  const data = new Uint8ClampedArray(4 * width * height).map((_, i) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return i % 4 === 3 ? alpha(i >> 2) : (state >> 16) & 255;
  });
  return new ImageData(data, width, height);
}

test('the result has the factor of the network, and the picture stays as it is', async () => {
  const small = picture(9, 5), before = small.data.slice();
  const large = await upscale(small, { network });
  assert.deepEqual([large.width, large.height, large.data.length], [36, 20, 4 * 36 * 20]);
  assert.ok(large instanceof ImageData);
  assert.deepEqual(small.data, before);
});

test('tiles give the result of the whole', async () => {
  const opened = (await loadEngine(wasm)).open(network), small = picture(61, 45);
  let count;
  const whole = await upscalePicture(opened, small, () => {});
  const tiled = await upscalePicture(opened, small, (_, total) => { count = total; }, 16);
  assert.equal(count, 12);
  assert.deepEqual(tiled.data, whole.data);
});

test('progress counts the tiles', async () => {
  const seen = [];
  await upscale(picture(500, 20), { network, onProgress: (...each) => seen.push(each) });
  assert.deepEqual(seen, [[1, 2], [2, 2]]);
});

test('several pictures at once', async () => {
  const pictures = [picture(7, 7), picture(13, 4), picture(450, 3)];
  const together = await Promise.all(pictures.map((each) => upscale(each, { network })));
  for (const [i, large] of together.entries()) {
    assert.deepEqual(large.data, (await upscale(pictures[i], { network })).data);
  }
});

test('a signal cancels, before and between tiles, and the next picture is not disturbed', async () => {
  await assert.rejects(upscale(picture(8, 8), { network, signal: AbortSignal.abort() }), { name: 'AbortError' });
  const controller = new AbortController();
  let tiles = 0;
  const long = upscale(picture(4000, 40), {
    network, signal: controller.signal,
    onProgress: () => { tiles++; controller.abort(new Error('enough')); },
  });
  await assert.rejects(long, { message: 'enough' });
  assert.equal(tiles, 1);
  assert.equal((await upscale(picture(8, 8), { network })).width, 32);
});

test('alpha is upscaled, what is opaque stays opaque, and hidden colours do not shine through', async () => {
  const small = picture(16, 8, (i) => (i % 16 < 8 ? 0 : 255));
  for (let i = 0; i < 128; i++) small.data.set(i % 16 < 8 ? [255, 0, 0] : [0, 0, 200], 4 * i);
  const large = await upscale(small, { network });
  const at = (x) => [...large.data.slice(4 * (16 * 64 + x), 4 * (16 * 64 + x) + 4)];
  assert.equal(at(2)[3], 0);
  assert.equal(at(62)[3], 255);
  assert.ok(at(36)[0] < 40, `red at the edge: ${at(36)}`);
});

test('a damaged network is told in words', async () => {
  const small = picture(4, 4);
  const cases = [new Uint8Array(), network.slice(0, 7), network.slice(0, 3000), network.slice(0, -1), new Uint8Array(5000)];
  for (let at = 20; at < network.length; at += 997) {
    cases.push(network.slice());
    cases.at(-1)[at] ^= 255;
  }
  for (const damaged of cases) {
    await assert.rejects(upscale(small, { network: damaged }), (error) => {
      assert.ok(error instanceof LMBError, String(error));
      assert.match(error.message, /^The network file cannot be used: .+/);
      return true;
    });
  }
  assert.equal((await upscale(small, { network })).width, 16);
});

test('wrong arguments', async () => {
  await assert.rejects(upscale({}, { network }), TypeError);
  await assert.rejects(upscale(picture(2, 2), { network: 3 }), TypeError);
  await assert.rejects(upscale(picture(2, 2)), TypeError);
});

test('a result that is too large is refused before anything is allocated', async () => {
  const opened = (await loadEngine(wasm)).open(network);
  const huge = { data: new Uint8ClampedArray(4), width: 30000, height: 30000 };
  await assert.rejects(upscalePicture(opened, huge, () => {}), { name: 'LMBError', message: /120000 x 120000 pixels, too large/ });
});

test('a browser without what the engine needs is told in words', async () => {
  await assert.rejects(loadEngine(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 9])), { name: 'LMBError', message: /SIMD/ });
});
