/** Tensors that the processes of one sweep share: each computed once, in files that all map. */
import { mapFile } from "../../ffi/mod.ts";
import type { SharedTensors } from "../../lib/eval/mod.ts";
import { countOf, type HostTensor, hostTensor } from "../../lib/tensor.ts";
import { exists } from "./files.ts";

/** Bytes before the values, a multiple of what kernels read at once: how many sizes there are, and the sizes. */
const HEADER_BYTES = 64;

/** Where they lie beside a study's file, while the sweep that began it runs. */
export const sharedFolder = (study: string): string => study.replace(/[^/]*$/, ".dense");

/** Removes what is shared, or what a sweep that was killed has left. */
export function removeShared(folder: string): void {
  if (exists(folder)) Deno.removeSync(folder, { recursive: true });
}

/** Whether this system has what is needed. */
export const canShare = (): boolean => Deno.build.os !== "windows";

/** Tensors of float32 in a folder, a file each, which is there as a whole or not at all. */
export class TensorFiles implements SharedTensors {
  readonly #folder: string;

  /** Those in a folder that is there. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Makes an empty folder for them, which goes when it is disposed of. */
  static make(folder: string): TensorFiles & Disposable {
    removeShared(folder);
    Deno.mkdirSync(folder);
    return Object.assign(new TensorFiles(folder), { [Symbol.dispose]: () => removeShared(folder) });
  }

  #path(key: string): string {
    return `${this.#folder}/${key.replaceAll(" ", "-")}`;
  }

  /** See {@linkcode SharedTensors.find}. */
  find(key: string): HostTensor | undefined {
    if (!exists(this.#path(key))) return undefined;
    const { buffer } = mapFile(this.#path(key)),
      [rank = 0, ...sizes] = new Int32Array(buffer, 0, HEADER_BYTES / 4);
    const shape = sizes.slice(0, rank);
    return hostTensor("f32", shape, new Float32Array(buffer, HEADER_BYTES, countOf(shape)));
  }

  /** See {@linkcode SharedTensors.keep}. */
  keep(key: string, { shape, data }: HostTensor): HostTensor | undefined {
    const path = this.#path(key), part = `${path}.${Deno.pid}`, header = new Int32Array(HEADER_BYTES / 4);
    header.set([shape.length, ...shape]);
    try {
      {
        using file = Deno.openSync(part, { write: true, create: true, truncate: true });
        for (const { buffer, byteOffset, byteLength } of [header, data]) {
          const bytes = new Uint8Array(buffer, byteOffset, byteLength);
          for (let at = 0; at < byteLength;) at += file.writeSync(bytes.subarray(at));
        }
      }
      Deno.linkSync(part, path); // never in place of another's, which may be mapped already
    } catch {
      if (!exists(path)) return undefined; // no room: each process keeps its own
    } finally {
      if (exists(part)) Deno.removeSync(part);
    }
    return this.find(key);
  }
}
