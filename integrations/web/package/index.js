// SPDX-License-Identifier: Apache-2.0
import { LMBError } from './error.js';

export { LMBError };

let worker;
let last = 0;
const jobs = new Map();

export async function upscale(image, { network, signal, onProgress } = {}) {
  if (!(image?.data instanceof Uint8ClampedArray) || !(image.width > 0 && image.height > 0)) {
    throw new TypeError('image: it is no ImageData.');
  }
  const file = await bytesOf(network, signal);
  signal?.throwIfAborted();
  const id = ++last;
  const result = await new Promise((resolve, reject) => {
    const cancel = () => {
      worker?.postMessage({ id, cancel: true });
      jobs.delete(id);
      reject(signal.reason);
    };
    jobs.set(id, {
      onProgress,
      end(settle, value) {
        signal?.removeEventListener('abort', cancel);
        jobs.delete(id);
        settle(value);
      },
      resolve,
      reject,
    });
    signal?.addEventListener('abort', cancel, { once: true });
    start().postMessage({ id, file, image: { data: image.data, width: image.width, height: image.height } });
  });
  return new ImageData(result.data, result.width, result.height);
}

async function bytesOf(network, signal) {
  if (network instanceof Uint8Array) return network;
  if (Object.prototype.toString.call(network) === '[object ArrayBuffer]') return new Uint8Array(network); // of any frame
  if (typeof network !== 'string' && !(network instanceof URL)) {
    throw new TypeError('network: it is no address and no bytes of a packed network.');
  }
  const answer = await fetch(network, { signal });
  if (!answer.ok) throw new LMBError(`The network was not found (${network}: ${answer.status}).`);
  return new Uint8Array(await answer.arrayBuffer());
}

function start() {
  if (worker) return worker;
  worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
  worker.addEventListener('message', ({ data }) => {
    const job = jobs.get(data.id);
    if (!job) return; // cancelled
    if (data.image) job.end(job.resolve, data.image);
    else if (data.error) job.end(job.reject, new LMBError(data.error));
    else job.onProgress?.(data.done, data.total);
  });
  worker.addEventListener('error', (event) => {
    event.preventDefault?.();
    worker.terminate();
    worker = undefined;
    const error = new LMBError(`The worker could not be started or stopped${event.message ? `: ${event.message}` : ''}.`);
    for (const job of [...jobs.values()]) job.end(job.reject, error);
  });
  return worker;
}
