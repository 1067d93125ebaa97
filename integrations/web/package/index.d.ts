// SPDX-License-Identifier: Apache-2.0

/** What a user can do something about; the message is one or two sentences. */
export declare class LMBError extends Error {
  name: 'LMBError';
}

export interface UpscaleOptions {
  /** A packed network with its stages: the bytes of the file, or the address from which it is fetched. */
  network: Uint8Array | ArrayBuffer | string | URL;
  /** Cancels: the promise is rejected at once with the signal's reason; a tile that is being computed is thrown away. */
  signal?: AbortSignal;
  /** Called after each tile with the tiles that are done and all of them. */
  onProgress?: (done: number, total: number) => void;
}

/**
 * Upscales a picture by the network's SR factor.
 *
 * The work is done in one worker, in tiles; the result in tiles equals that of the whole picture. The picture is not
 * changed. Where it is transparent, alpha is upscaled bicubically.
 *
 * Rejects with an `LMBError` if the file is no packed network or a damaged one, if the result does not fit into memory, or
 * if this browser cannot run the engine; with a `TypeError` for a wrong argument.
 */
export declare function upscale(image: ImageData, options: UpscaleOptions): Promise<ImageData>;
