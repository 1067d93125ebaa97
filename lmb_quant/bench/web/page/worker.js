// SPDX-License-Identifier: Apache-2.0
// Runs the forms of plan.json once and reports what they give, then times them in turn and reports the seconds.
import { engineFile, loadEngine } from './lmb-quant/engine.js';
import { upscalePicture } from './lmb-quant/picture.js';
import * as ort from './onnxruntime-web/ort.wasm.min.mjs';

const get = async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer());
const report = (name, body) => fetch(`report/${name}`, { method: 'POST', body });

async function main() {
  const { height, width, rounds, threads, forms } = await (await fetch('plan.json')).json();
  const image = { data: new Uint8ClampedArray((await get('picture')).buffer), width, height };
  const engine = await loadEngine(await get(`lmb-quant/${engineFile()}`));
  ort.env.wasm.numThreads = threads;
  const input = new ort.Tensor('float32', planes(image), [1, 3, height, width]);

  const runs = [];
  for (const { packed, file } of forms) {
    if (packed) {
      const network = engine.open(await get(file));
      runs.push(async () => (await upscalePicture(network, image, () => {})).data);
    } else {
      const session = await ort.InferenceSession.create(await get(file), { executionProviders: ['wasm'] });
      runs.push(async () => (await session.run({ image: input })).upscaled.data);
    }
  }
  for (const [i, run] of runs.entries()) await report(`output-${i}`, await run());
  const seconds = runs.map(() => []);
  for (let round = 0; round <= rounds; round++) {
    for (const [i, run] of runs.entries()) {
      const start = performance.now();
      await run();
      if (round > 0) seconds[i].push((performance.now() - start) / 1000);
    }
  }
  await report('times', JSON.stringify(seconds));
}

function planes({ data, width, height }) {
  const values = new Float32Array(3 * height * width);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) values[c * height * width + i] = data[4 * i + c] / 255;
  }
  return values;
}

main().catch((error) => report('failed', String(error?.stack ?? error)));
