/** A model at growing lengths, dense and with each preset, end to end. */
import type { Backend } from "../../lib/backend.ts";
import { type LengthRow, type MeasuredMethod, measureLengths, readBuiltinText } from "../../lib/eval/mod.ts";
import { createPruner, type MethodOptions } from "../../lib/methods/mod.ts";
import { loadModel } from "../../lib/model/mod.ts";
import type { Progress } from "../cli/progress.ts";

/** Lengths where none are asked for. */
export const LENGTHS: readonly number[] = [128, 256, 512, 1024, 2048];
const METHODS: readonly (readonly [name: string, options: MethodOptions])[] = [
  ["learned, half skipped", { fusion: "learned" }],
  ["paper, half skipped", { preset: "paper" }],
  ["keys, half dropped", { preset: "keys" }],
  ["keys, 75% dropped", { preset: "keys", kvRatio: 0.75 }],
  ["local, half skipped and half dropped", { preset: "local" }],
];

/** What is measured. */
export interface LengthPlan {
  /** A model as `--model` takes it. */
  readonly model: string;
  /** In tokens. */
  readonly lengths: readonly number[];
}

/** Measures dense and the methods in turns. */
export async function measureModel(
  backend: Backend,
  progress: Progress,
  { model: name, lengths }: LengthPlan,
): Promise<LengthRow[]> {
  const { model, tokenizer, config } = await loadModel(name, backend);
  const ids = Int32Array.from(tokenizer.encode(await readBuiltinText(), { bos: tokenizer.addsBos }));
  const filtered = METHODS.map(([name, options]): MeasuredMethod => ({
    name,
    pruner: createPruner("token-filtering", config, { pruneRatio: 0.5, ...options }, { backend }),
  }));
  progress.line(`${name} at ${lengths.join(", ")} tokens`);
  progress.start();
  const rows = measureLengths(model, ids, [{ name: "dense" }, ...filtered], {
    lengths,
    onProgress: (fraction) => progress.bar(fraction, "lengths"),
  });
  progress.clear();
  return rows;
}
