// SPDX-License-Identifier: Apache-2.0
// The engine: its C interface (lmb_quant.h) as two classes. It knows nothing of workers and pages.
import { LMBError } from './error.js';

const AUTO = 0, OK = 0, NO_MEMORY = 3, INTERLEAVED = 1; // lmbq_isa, lmbq_status, lmbq_layout
const ONE_THREAD = 1;
const INFO_BYTES = 40; // lmbq_network_info
const POINTER_BYTES = 4;

// A function that shuffles bytes by an instruction of relaxed SIMD.
const RELAXED = Uint8Array.of(
  0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 5, 1, 0x60, 0, 1, 0x7b, 3, 2, 1, 0,
  10, 15, 1, 13, 0, 0x41, 1, 0xfd, 15, 0x41, 2, 0xfd, 15, 0xfd, 0x80, 2, 11);

/** The engine that is fastest here, the name of a file beside this one. */
export function engineFile() {
  const relaxed = typeof WebAssembly === 'object' && WebAssembly.validate(RELAXED);
  return relaxed ? 'lmb_quant_relaxed.wasm' : 'lmb_quant.wasm';
}

/**
 * @param {ArrayBuffer | Uint8Array} bytes of the engine's file
 * @returns {Promise<Engine>}
 */
export async function loadEngine(bytes) {
  if (typeof WebAssembly !== 'object') throw new LMBError('This browser has no WebAssembly, which the engine needs.');
  let module;
  try {
    module = await WebAssembly.compile(bytes);
  } catch (error) {
    if (!(error instanceof WebAssembly.CompileError)) throw error;
    throw new LMBError(
      'This browser cannot run the engine, which needs WebAssembly with SIMD and exceptions. Chrome and Edge have them ' +
        'from version 95, Firefox from 114, Safari from 16.4.');
  }
  const memory = () => instance.exports.memory.buffer;
  const instance = await WebAssembly.instantiate(module, {
    host: { number: (at, length) => Number(new TextDecoder().decode(new Uint8Array(memory(), at >>> 0, length))) },
    wasi_snapshot_preview1: system(memory),
  });
  instance.exports._initialize();
  return new Engine(instance.exports);
}

// What the C library asks of a system: there are no environment variables.
function system(memory) {
  return {
    environ_get: () => 0,
    environ_sizes_get(count, size) {
      const view = new DataView(memory());
      view.setUint32(count, 0, true);
      view.setUint32(size, 0, true);
      return 0;
    },
    proc_exit(code) {
      throw new Error(`the engine ended with ${code}`);
    },
  };
}

export class Engine {
  constructor(exports) {
    this.c = exports;
  }

  /** The bytes of memory from `at` on. Made anew each time: memory that grows leaves old views empty. */
  bytes(at, length) {
    return new Uint8Array(this.c.memory.buffer, at, length);
  }

  /** Calls f with the address of `size` bytes, which are free again afterwards. */
  with(size, f) {
    const at = this.c.malloc(size) >>> 0;
    if (!at) throw new LMBError('There is not enough memory.');
    try {
      return f(at);
    } finally {
      this.c.free(at);
    }
  }

  check(status) {
    if (status === NO_MEMORY) throw new LMBError('There is not enough memory.');
    if (status !== OK) throw new LMBError(this.text(this.c.lmbq_last_error()));
  }

  text(at) {
    const all = new Uint8Array(this.c.memory.buffer, at >>> 0);
    return new TextDecoder().decode(all.slice(0, all.indexOf(0)));
  }

  /**
   * @param {Uint8Array} file a packed network
   * @returns {Network}
   */
  open(file) {
    return this.with(POINTER_BYTES, (out) =>
      this.with(Math.max(1, file.length), (at) => {
        this.bytes(at, file.length).set(file);
        try {
          this.check(this.c.lmbq_network_open(at, file.length, AUTO, out));
        } catch (error) {
          throw error instanceof LMBError ? new LMBError(`The network file cannot be used: ${error.message}.`) : error;
        }
        return new Network(this, new DataView(this.c.memory.buffer).getUint32(out, true));
      }));
  }
}

export class Network {
  constructor(engine, pointer) {
    this.engine = engine;
    this.pointer = pointer;
    engine.with(INFO_BYTES, (at) => {
      engine.check(engine.c.lmbq_network_query(pointer, at));
      const view = new DataView(engine.c.memory.buffer, at, INFO_BYTES);
      this.channels = view.getInt32(0, true);
      this.outChannels = view.getInt32(4, true);
      this.upscale = view.getInt32(8, true);
      this.reach = view.getInt32(12, true);
      this.seesAll = view.getInt32(16, true) !== 0;
      this.bytesPerPixel = Number(view.getBigUint64(32, true));
    });
  }

  /**
   * One image of bytes, interleaved; `fill(bytes)` writes its height * width * channels bytes, `take(bytes)` reads the
   * result. Neither may keep them.
   */
  runBytes(height, width, fill, take) {
    const row = BigInt(width * this.channels), largeRow = BigInt(width * this.upscale * this.outChannels);
    this.#run(Uint8Array, height, width, fill, take, (input, output, finite) =>
      this.engine.c.lmbq_network_run_bytes(
        this.pointer, input, row, output, largeRow, BigInt(height), BigInt(width), ONE_THREAD, finite));
  }

  /** The same with float32 values about [0, 1], of which the result is neither rounded nor cut. */
  runFloats(height, width, fill, take) {
    this.#run(Float32Array, height, width, fill, take, (input, output, finite) =>
      this.engine.c.lmbq_network_run(
        this.pointer, input, INTERLEAVED, output, INTERLEAVED, 1n, BigInt(height), BigInt(width), ONE_THREAD, finite));
  }

  #run(Kind, height, width, fill, take, call) {
    const { engine, channels, outChannels, upscale } = this;
    const count = height * width * channels, large = height * upscale * width * upscale * outChannels;
    // Made anew each time: memory that grows leaves old views empty.
    const at = (address, length) => new Kind(engine.c.memory.buffer, address, length);
    engine.with(POINTER_BYTES, (finite) =>
      engine.with(count * Kind.BYTES_PER_ELEMENT, (input) =>
        engine.with(large * Kind.BYTES_PER_ELEMENT, (output) => {
          fill(at(input, count));
          engine.check(call(input, output, finite));
          if (!new DataView(engine.c.memory.buffer).getInt32(finite, true)) {
            throw new LMBError('The network gives values that are no numbers: it is damaged.');
          }
          take(at(output, large));
        })));
  }

  close() {
    this.engine.with(POINTER_BYTES, (at) => {
      new DataView(this.engine.c.memory.buffer).setUint32(at, this.pointer, true);
      this.engine.c.lmbq_network_close(at);
    });
  }
}
