/** What every runtime must compute alike: this module is bundled for Node, Bun and browsers too. */
import { createPruner, type MethodOptions } from "../../lib/methods/mod.ts";
import { type LoadedModel, openModel } from "../../lib/model/open.ts";
import { findRetrievalLayers } from "../../lib/model/retrieval.ts";
import { openWasm } from "./mod.ts";

const METHODS: Readonly<Record<string, MethodOptions | undefined>> = {
  dense: undefined,
  paper: { preset: "paper", pruneRatio: 0.5 },
  keys: { preset: "keys", pruneRatio: 0.5 },
  retrieval: { preset: "retrieval", kvRatio: 0.5 },
};
const PREFILL = 256, DECODE = 8;

/** A digest of all bits of arrays, by FNV-1a. */
function digest(arrays: readonly ArrayBufferView[]): string {
  let hash = 0x811c9dc5;
  for (const { buffer, byteOffset, byteLength } of arrays) {
    for (const byte of new Uint8Array(buffer, byteOffset, byteLength)) {
      hash = Math.imul(hash ^ byte, 0x01000193);
    }
  }
  return (hash >>> 0).toString(16).padStart(8, "0");
}

/**
 * Runs a model with each method on a prompt and on the most likely tokens after it.
 *
 * @returns By method, a digest of all its logits and one of its decisions; how many tokens it skipped and dropped.
 */
export function bitsOf(loaded: LoadedModel): Record<string, string> {
  const { model, config } = loaded, { backend } = model;
  const shape = { ...config, retrieval: findRetrievalLayers(loaded).heads.flat() };
  const prompt = Int32Array.from({ length: PREFILL }, (_, i) => (i * i * 31 + i * 7) % config.vocabSize);
  const found = Object.entries(METHODS).map(([name, options]) => {
    const sequence = model.start(options && createPruner("token-filtering", shape, options));
    const logits: Float32Array[] = [];
    for (let next = prompt; logits.length <= DECODE;) {
      const hidden = sequence.feed(next), all = model.logits(hidden);
      const values = backend.read(all).data.slice() as Float32Array;
      [hidden, all].forEach((tensor) => backend.free(tensor));
      const last = values.subarray(-config.vocabSize);
      logits.push(values);
      next = Int32Array.of(last.indexOf(Math.max(...last)));
    }
    const masks = [...sequence.keep.values(), ...sequence.kvKeep.values()];
    const dropped = masks.reduce((sum, mask) => sum + mask.reduce((count, kept) => count + 1 - kept, 0), 0);
    sequence.free();
    return [name, `${digest(logits)} ${digest(masks)} ${dropped}`];
  });
  return Object.fromEntries(found);
}

/** The same of a model's bytes, with the bytes of the kernels for so many threads. */
export async function wasmBits(model: Uint8Array<ArrayBuffer>, wasm: Uint8Array<ArrayBuffer>, threads = 1) {
  const backend = await openWasm({ wasm, threads }), bits = bitsOf(await openModel(model, backend));
  backend[Symbol.dispose](); // Node 22 has no "using"
  return bits;
}
