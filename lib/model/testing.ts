/** The built-in model on the reference backend, and pruners whose decisions are known, for tests. */
import { assertEquals } from "@std/assert";
import { createDense, type Pruner, type Substitute } from "../methods/protocol/pruner.ts";
import { ReferenceBackend } from "../reference/mod.ts";
import { f32Data, type Tensor } from "../tensor.ts";
import { readModelConfig } from "./config/read_config.ts";
import { parseGguf } from "./formats/gguf.ts";
import { Model } from "./model.ts";
import { loadWeights } from "./load_weights.ts";

const file = new URL("tiny/tiny-llama-4.8m.Q8_0.gguf", import.meta.url);
const gguf = parseGguf(await Deno.readFile(file) as Uint8Array<ArrayBuffer>, file.pathname);
export const config = readModelConfig(gguf);
export const backend = new ReferenceBackend();
export const tiny = new Model(config, loadWeights(gguf, config), backend);

/** The first layers of the model, which cost less. */
export const firstLayers = (numLayers: number) => new Model({ ...config, numLayers }, tiny.weights, backend);

/** Some ids, BOS first. */
export const ids = (count: number) =>
  Int32Array.from({ length: count }, (_, i) => i === 0 ? 1 : 300 + (i * 37) % 2000);

/** Options of a pattern pruner besides its pattern. */
export interface PatternOptions extends Partial<Pick<Pruner, "needs" | "at">> {
  readonly recent?: number;
  readonly warmup?: number;
  readonly cacheSkipped?: boolean;
  readonly substitute?: Substitute;
}

/** Keeps and skips by a fixed pattern; records the keys and values it saw. */
export function patternPruner(
  layers: number[],
  keeps: (t: number) => boolean,
  { recent = 0, warmup = 0, cacheSkipped = false, substitute, ...more }: PatternOptions = {},
): Pruner & { keys: Map<number, number[]>; values: Map<number, number[]> } {
  const keys = new Map<number, number[]>(), values = new Map<number, number[]>();
  const start = (seen = new Map<number, number>()) => ({
    decide({ layer, count, keys: k, values: v }: Parameters<ReturnType<Pruner["start"]>["decide"]>[0]) {
      const at = seen.get(layer) ?? 0;
      seen.set(layer, at + count);
      keys.set(layer, [...keys.get(layer) ?? [], ...f32Data(k)]);
      values.set(layer, [...values.get(layer) ?? [], ...f32Data(v)]);
      return { keep: Uint8Array.from({ length: count }, (_, i) => keeps(at + i) ? 1 : 0) };
    },
    fork: () => start(new Map(seen)),
  });
  return {
    ...createDense(),
    name: "pattern",
    layers,
    start: () => start(),
    keys,
    values,
    spans: { warmup, block: 32, recent },
    skipped: { cached: cacheSkipped, substitute },
    ...more,
  };
}

/** Largest difference of two tensors of one shape. */
export function maxDifference(a: Tensor, b: Tensor): number {
  const x = f32Data(a), y = f32Data(b);
  assertEquals(a.shape, b.shape);
  return x.reduce((most, value, i) => Math.max(most, Math.abs(value - y[i]!)), 0);
}
