// SPDX-License-Identifier: Apache-2.0
import { LMBError, upscale } from './lmb-quant/index.js';

const OWN_FILE = '';
const at = (id) => document.getElementById(id);
const state = { picture: null, name: 'picture', networks: [], ownFile: null, job: null };

// ---- What the user gives ----------------------------------------------------------------------------------------------

async function takeFile(file) {
  if (!file) return;
  if (file.name?.endsWith('.safetensors')) return takeNetwork(file);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return say(`${file.name || 'What was given'} is no picture that this browser can read.`);
  }
  try {
    const canvas = document.createElement('canvas');
    const context = sized(canvas, bitmap.width, bitmap.height);
    context.drawImage(bitmap, 0, 0);
    state.picture = context.getImageData(0, 0, bitmap.width, bitmap.height);
    state.name = (file.name || 'picture').replace(/\.[^.]*$/, '');
  } catch (error) {
    return say(words(error));
  } finally {
    bitmap.close();
  }
  await run();
}

async function takeNetwork(file) {
  state.ownFile = file;
  const select = at('network');
  select.options[select.options.length - 1].textContent = file.name;
  select.value = OWN_FILE;
  about();
  await run();
}

// The first one is the one to begin with.
async function findNetworks() {
  const answer = await fetch('networks/index.json');
  if (!answer.ok) throw new LMBError(`The list of networks was not found (${answer.status}).`);
  state.networks = await answer.json();
  const select = at('network');
  for (const { name, upscale: factor, bytes } of state.networks) {
    select.add(new Option(`${name} (${factor} times, ${Math.round(bytes / 1000)} kB)`, name));
  }
  select.add(new Option('A file of your own', OWN_FILE));
  about();
}

function about() {
  const chosen = state.networks.find(({ name }) => name === at('network').value);
  at('about').textContent = chosen?.description ?? 'A packed network, written by lmb_quant.save().';
}

// ---- The work ---------------------------------------------------------------------------------------------------------

async function run() {
  state.job?.abort();
  if (!state.picture) return;
  const name = at('network').value;
  if (name === OWN_FILE && !state.ownFile) return;
  const job = state.job = new AbortController();
  at('result').hidden = true;
  say('');
  at('work').hidden = false;
  at('progress').value = 0;
  tell(`Upscaling ${size(state.picture)} pixels.`);
  try {
    const known = state.networks.find((network) => network.name === name);
    if (known) sized(at('after'), state.picture.width * known.upscale, state.picture.height * known.upscale);
    const network = known ? new URL(`networks/${name}.safetensors`, document.baseURI) : await state.ownFile.arrayBuffer();
    const start = performance.now();
    const large = await upscale(state.picture, {
      network,
      signal: job.signal,
      onProgress: (done, total) => { at('progress').value = done / total; },
    });
    const seconds = (performance.now() - start) / 1000;
    show(large);
    const rate = (large.width * large.height) / 1e6 / seconds;
    tell(`${size(state.picture)} to ${size(large)} pixels in ${seconds.toPrecision(3)} s: ${rate.toPrecision(3)} megapixels a second.`);
  } catch (error) {
    if (state.job !== job) return; // another one has begun
    tell('');
    if (job.signal.aborted) tell('Cancelled.');
    else say(words(error));
  } finally {
    if (state.job === job) {
      state.job = null;
      at('work').hidden = true;
    }
  }
}

function show(large) {
  const { picture } = state;
  sized(at('after'), large.width, large.height).putImageData(large, 0, 0);
  const small = document.createElement('canvas');
  sized(small, picture.width, picture.height).putImageData(picture, 0, 0);
  const context = sized(at('before'), large.width, large.height);
  context.imageSmoothingQuality = 'high';
  context.drawImage(small, 0, 0, large.width, large.height);
  at('result').hidden = false;
}

// A canvas that is too large does not fail: it stays empty.
function sized(canvas, width, height) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context?.fillRect(width - 1, height - 1, 1, 1);
  if (!context || context.getImageData(width - 1, height - 1, 1, 1).data[3] !== 255) {
    throw new LMBError(`${width} x ${height} pixels are more than this browser can show. Use a smaller picture.`);
  }
  context.clearRect(0, 0, width, height);
  return context;
}

function save() {
  at('after').toBlob((blob) => {
    if (!blob) return say('This browser cannot write a PNG of this size.');
    const link = document.createElement('a');
    link.href = URL.createObjectURL(blob);
    link.download = `${state.name}_x${at('after').width / state.picture.width}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }, 'image/png');
}

// ---- Words ------------------------------------------------------------------------------------------------------------

const size = ({ width, height }) => `${width} x ${height}`;
const say = (text) => { at('error').textContent = text; };
const tell = (text) => { at('status').textContent = text; };

function words(error) {
  if (error instanceof LMBError) return error.message;
  if (error instanceof RangeError) return 'There is not enough memory for this picture. Use a smaller one.';
  return `It did not work: ${error?.message ?? error}`;
}

// ---- Events -----------------------------------------------------------------------------------------------------------

function split(percent) {
  const value = Math.min(100, Math.max(0, percent));
  at('split').value = value;
  at('split').setAttribute('aria-valuetext', `${Math.round(value)} percent before`);
  at('pictures').style.setProperty('--split', `${value}%`);
}

function splitAt(event) {
  const box = at('pictures').getBoundingClientRect();
  split((100 * (event.clientX - box.left)) / box.width);
}

at('picture').addEventListener('change', ({ target }) => { takeFile(target.files[0]); target.value = ''; });
at('network-file').addEventListener('change', ({ target }) => { if (target.files[0]) takeNetwork(target.files[0]); target.value = ''; });
at('network').addEventListener('change', () => {
  about();
  if (at('network').value === OWN_FILE) at('network-file').click();
  else run();
});
at('cancel').addEventListener('click', () => state.job?.abort());
at('save').addEventListener('click', save);
at('full').addEventListener('change', ({ target }) => at('stage').classList.toggle('real', target.checked));
at('split').addEventListener('input', ({ target }) => split(Number(target.value)));
at('pictures').addEventListener('pointerdown', (event) => { at('pictures').setPointerCapture(event.pointerId); splitAt(event); });
at('pictures').addEventListener('pointermove', (event) => { if (event.buttons) splitAt(event); });
at('settings').addEventListener('submit', (event) => event.preventDefault());
document.addEventListener('keydown', (event) => { if (event.key === 'Escape') state.job?.abort(); });
document.addEventListener('paste', (event) => {
  const file = [...event.clipboardData.files][0];
  if (file) takeFile(file);
  else say('What was pasted is no picture.');
});
for (const type of ['dragover', 'dragleave', 'drop']) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    document.body.classList.toggle('over', type === 'dragover');
  });
}
document.addEventListener('drop', (event) => {
  const file = event.dataTransfer.files[0];
  if (file) takeFile(file);
  else say('What was dropped is no file.');
});

findNetworks().catch((error) => say(words(error)));
