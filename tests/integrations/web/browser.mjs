// SPDX-License-Identifier: Apache-2.0
// What the module needs of a browser and Node does not have: workers with web messages, fetch of files, ImageData.
import { readFile } from 'node:fs/promises';
import { Worker as Thread } from 'node:worker_threads';

const START = `
const { parentPort, workerData } = require('node:worker_threads');
const { readFileSync } = require('node:fs');
globalThis.self = {
  postMessage: (data, transfer) => parentPort.postMessage(data, transfer),
  addEventListener: (type, listener) => parentPort.on('message', (data) => listener({ data })),
};
globalThis.fetch = async (url) => new Response(readFileSync(url));
import(workerData);
`;

/** The threads that were started; they keep Node alive until they are ended. */
export const threads = [];

globalThis.Worker = class {
  constructor(url) {
    this.thread = new Thread(START, { eval: true, workerData: url.href });
    threads.push(this.thread);
  }
  postMessage(data) { this.thread.postMessage(data); }
  addEventListener(type, listener) {
    this.thread.on(type, (value) => listener(type === 'message' ? { data: value } : value));
  }
  terminate() { this.thread.terminate(); }
};

globalThis.ImageData = class {
  constructor(data, width, height) { Object.assign(this, { data, width, height }); }
};

export const read = async (url) => new Uint8Array(await readFile(url));
