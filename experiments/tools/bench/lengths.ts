/** A model at growing lengths, dense and with each preset, end to end. */
import type { Backend } from "../../../lib/backend.ts";
import type { WeightDType } from "../../../lib/dtype.ts";
import { type LengthRow, type MeasuredMethod, measureLengths } from "../../../lib/eval/mod.ts";
import { createPruner, type MethodOptions, type PrunerContext } from "../../../lib/methods/mod.ts";
import {
  loadModel,
  type ModelConfig,
  readModelFile,
  retrievalScores,
  type Tokenizer,
} from "../../../lib/model/mod.ts";
import { UsageError } from "../../../lib/errors.ts";
import type { Progress } from "../../commands/cli/output/progress.ts";
import { readNamedText } from "../../commands/cli/flags/text.ts";

/** Default lengths. */
export const LENGTHS: readonly number[] = [128, 256, 512, 1024, 2048];
/** Tokens decoded after each prefill. */
export const DECODES = 8;
const METHODS: readonly (readonly [name: string, options: MethodOptions])[] = [
  ["learned, half skipped", { fusion: "learned" }],
  ["paper, half skipped", { preset: "paper" }],
  ["keys, half evicted", { preset: "keys" }],
  ["keys, 75% evicted", { preset: "keys", kvRatio: 0.75 }],
  ["local, half skipped and half evicted", { preset: "local" }],
  ["retrieval, 75% dropped", { preset: "retrieval", kvRatio: 0.75 }],
];

/** The measured model, lengths and text. */
export interface LengthPlan {
  /** A model as `--model` takes it. */
  readonly model: string;
  /** The type of its matrices; by default, that of the file. */
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
  const ids = await readIds(tokenizer, path, Math.max(...lengths)),
    methods = bindMethods(config, backend, retrievalScores({ model, tokenizer }));
  progress.line(`${name} at ${lengths.join(", ")} tokens`);
  progress.start();
  const rows = measureLengths(model, ids, methods, {
    lengths,
    decodes: DECODES,
    onProgress: (fraction) => progress.bar(fraction, "lengths"),
  });
  progress.clear();
  return rows;
}

/**
 * Checks model and text before the kernels are measured, which takes minutes.
 *
 * @throws {UsageError | ModelFormatError} If one cannot be read, or the text is shorter than the longest length.
 */
export async function expectInputs({ model, lengths, text }: LengthPlan): Promise<void> {
  const { tokenizer } = await readModelFile(model);
  await readIds(tokenizer, text, Math.max(...lengths));
}

/** Ids of the beginning of a text: the longest length, and the decoded ones. @throws {UsageError} If it is shorter. */
export async function readIds(
  tokenizer: Tokenizer,
  path: string | undefined,
  tokens: number,
): Promise<Int32Array<ArrayBuffer>> {
  const { text, name } = await readNamedText(path), longest = tokens + DECODES;
  const ids = Int32Array.from(
    tokenizer.encode(text.slice(0, 16 * longest), { bos: tokenizer.addsBos }),
  ).slice(0, longest);
  if (ids.length < longest) {
    throw new UsageError(
      `Cannot measure ${tokens} tokens and ${DECODES} after them: ${name} has ${ids.length} ` +
        `(take a longer one: --text FILE)`,
    );
  }
  return ids;
}

/** The methods that are measured, the full model first. */
export function bindMethods(
  config: ModelConfig,
  backend: Backend,
  retrieval: PrunerContext["retrieval"],
): MeasuredMethod[] {
  const filtered = METHODS.map(([name, options]): MeasuredMethod => ({
    name,
    pruner: createPruner("token-filtering", config, { pruneRatio: 0.5, ...options }, { backend, retrieval }),
  }));
  return [{ name: "dense" }, ...filtered];
}
