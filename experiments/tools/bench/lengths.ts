/** A model at growing lengths, dense and with each preset, end to end. */
import type { Backend } from "../../../lib/backend.ts";
import type { WeightDType } from "../../../lib/dtype.ts";
import { UsageError } from "../../../lib/errors.ts";
import { type LengthRow, type MeasuredMethod, measureLengths } from "../../../lib/eval/mod.ts";
import { createPruner, type MethodOptions } from "../../../lib/methods/mod.ts";
import {
  type LoadedModel,
  loadModel,
  readModelFile,
  retrievalScores,
  type Tokenizer,
} from "../../../lib/model/mod.ts";
import { readNamedText } from "../../commands/cli/flags/text.ts";
import type { Progress } from "../../commands/cli/output/progress.ts";

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

/** A model on a backend, with a GPU's usual cache. */
export function openRaced({ model, dtype }: LengthPlan, backend: Backend): Promise<LoadedModel> {
  const cache = backend.name === "cuda" && { cacheDType: "bf16" } as const;
  return loadModel(model, backend, { ...(dtype && { dtype }), ...cache });
}

/** Measures dense and the methods in turns. @throws {UsageError} If the text is shorter than the longest length. */
export async function measureModel(
  backend: Backend,
  progress: Progress,
  plan: LengthPlan,
): Promise<LengthRow[]> {
  const { lengths } = plan, loaded = await openRaced(plan, backend);
  const ids = await readIds(loaded.tokenizer, plan);
  progress.line(`${plan.model} at ${lengths.join(", ")} tokens`);
  progress.start();
  const onProgress = (fraction: number) => progress.bar(fraction, "lengths");
  const rows = measureLengths(loaded.model, ids, bindMethods(loaded), {
    lengths,
    decodes: DECODES,
    onProgress,
  });
  progress.clear();
  return rows;
}

/**
 * Checks model and text before the kernels are measured, which takes minutes.
 *
 * @throws {UsageError | ModelFormatError} If one cannot be read, or the text is shorter than the longest length.
 */
export async function expectInputs(plan: LengthPlan): Promise<void> {
  await readIds((await readModelFile(plan.model)).tokenizer, plan);
}

/** Ids of the beginning of a text: the longest length, and the decoded ones. @throws {UsageError} If it is shorter. */
export async function readIds(
  tokenizer: Tokenizer,
  { lengths, text: path }: LengthPlan,
): Promise<Int32Array<ArrayBuffer>> {
  const { text, name } = await readNamedText(path), tokens = Math.max(...lengths), longest = tokens + DECODES;
  const ids = Int32Array.from(tokenizer.encode(text.slice(0, 16 * longest), { bos: tokenizer.addsBos }));
  if (ids.length < longest) {
    throw new UsageError(
      `Cannot measure ${tokens} tokens and ${DECODES} after them: ${name} has ${ids.length} ` +
        `(take a longer one: --text FILE)`,
    );
  }
  return ids.slice(0, longest);
}

/** The methods that are measured, the full model first. */
export function bindMethods({ model, tokenizer, config }: LoadedModel): MeasuredMethod[] {
  const context = { backend: model.backend, retrieval: retrievalScores({ model, tokenizer }) };
  const filtered = METHODS.map(([name, options]): MeasuredMethod => ({
    name,
    pruner: createPruner("token-filtering", config, { pruneRatio: 0.5, ...options }, context),
  }));
  return [{ name: "dense" }, ...filtered];
}
