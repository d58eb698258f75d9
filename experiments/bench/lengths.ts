/** A model at growing lengths, dense and with each preset, end to end. */
import type { Backend } from "../../lib/backend.ts";
import type { WeightDType } from "../../lib/dtype.ts";
import { type LengthRow, type MeasuredMethod, measureLengths } from "../../lib/eval/mod.ts";
import { createPruner, type MethodOptions } from "../../lib/methods/mod.ts";
import { loadModel } from "../../lib/model/mod.ts";
import { UsageError } from "../../lib/errors.ts";
import type { Progress } from "../cli/progress.ts";
import { namedText } from "../cli/text.ts";

/** Lengths where none are asked for. */
export const LENGTHS: readonly number[] = [128, 256, 512, 1024, 2048];
const DECODES = 8;
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
  /** What its matrices are turned into. */
  readonly dtype?: WeightDType | undefined;
  /** In tokens. */
  readonly lengths: readonly number[];
  /** A file, or else the built-in text. */
  readonly text?: string | undefined;
}

/** Measures dense and the methods in turns. @throws {UsageError} If the text is shorter than the longest length. */
export async function measureModel(
  backend: Backend,
  progress: Progress,
  { model: name, dtype, lengths, text: path }: LengthPlan,
): Promise<LengthRow[]> {
  const { model, tokenizer, config } = await loadModel(name, backend, dtype && { dtype });
  const { text, name: source } = await namedText(path);
  const longest = Math.max(...lengths) + DECODES;
  const ids = Int32Array.from(
    tokenizer.encode(text.slice(0, 16 * longest), { bos: tokenizer.addsBos }),
  ).slice(0, longest);
  if (ids.length < longest) {
    throw new UsageError(
      `Cannot measure ${longest - DECODES} tokens and ${DECODES} after them: ${source} has ${ids.length} ` +
        `(take a longer one: --text FILE)`,
    );
  }
  const filtered = METHODS.map(([name, options]): MeasuredMethod => ({
    name,
    pruner: createPruner("token-filtering", config, { pruneRatio: 0.5, ...options }, { backend }),
  }));
  progress.line(`${name} at ${lengths.join(", ")} tokens`);
  progress.start();
  const rows = measureLengths(model, ids, [{ name: "dense" }, ...filtered], {
    lengths,
    decodes: DECODES,
    onProgress: (fraction) => progress.bar(fraction, "lengths"),
  });
  progress.clear();
  return rows;
}
