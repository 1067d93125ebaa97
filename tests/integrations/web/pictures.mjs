// SPDX-License-Identifier: Apache-2.0
// Upscales pictures: node pictures.mjs MODULE ENGINE JOBS, the jobs a JSON list of {network, picture, width, height, result}.
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [module, file, jobs] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(`${module}/${name}`));
const { loadEngine } = await load('engine.js');
const { upscalePicture } = await load('picture.js');

const engine = await loadEngine(readFileSync(`${module}/${file}`));
for (const { network, picture, width, height, result } of JSON.parse(readFileSync(jobs))) {
  const opened = engine.open(readFileSync(network));
  const image = { data: new Uint8ClampedArray(readFileSync(picture)), width, height };
  writeFileSync(result, (await upscalePicture(opened, image, () => {})).data);
  opened.close();
}
