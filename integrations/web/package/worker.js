// SPDX-License-Identifier: Apache-2.0
// Where the work is done: {id, file, image} comes in; {id, done, total}, then {id, image} or {id, error} goes out.
// {id, cancel} ends a job after its tile.
import { engineFile, loadEngine } from './engine.js';
import { LMBError } from './error.js';
import { upscalePicture } from './picture.js';

const CANCELLED = Symbol('cancelled');
const cancelled = new Set();
let loading;

function engine() {
  loading ??= fetch(new URL(`./${engineFile()}`, import.meta.url)).then(async (answer) => {
    if (!answer.ok) throw new LMBError(`The engine was not found (${engineFile()}: ${answer.status}).`);
    return loadEngine(await answer.arrayBuffer());
  });
  return loading;
}

// Lets messages come in between two tiles.
function pause() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => { port1.close(); resolve(); };
    port2.postMessage(null);
  });
}

async function run({ id, file, image }) {
  let network;
  try {
    network = (await engine()).open(file);
    const result = await upscalePicture(network, image, async (done, total) => {
      self.postMessage({ id, done, total });
      await pause();
      if (cancelled.has(id)) throw CANCELLED;
    });
    self.postMessage({ id, image: result }, [result.data.buffer]);
  } catch (error) {
    if (error === CANCELLED) return;
    if (!(error instanceof LMBError)) loading = network = undefined; // the engine's memory may be in any state
    self.postMessage({ id, error: words(error) });
  } finally {
    network?.close();
    cancelled.delete(id);
  }
}

function words(error) {
  if (error instanceof LMBError) return error.message;
  if (error instanceof RangeError) return 'There is not enough memory for this picture. Use a smaller one.';
  return `The engine stopped: ${error?.message ?? error}`;
}

self.addEventListener('message', ({ data }) => {
  if (data.cancel) cancelled.add(data.id);
  else run(data);
});
