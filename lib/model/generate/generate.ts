/** Texts that go on: a prompt through a model, then token after token. */
import { expectInteger } from "../../errors.ts";
import { f32Data, hostTensor, rowsOf, type Tensor } from "../../tensor.ts";
import type { Model } from "../model.ts";
import type { Sampler } from "./sampler.ts";
import type { ModelSequence } from "../run/sequence.ts";

/** @internal Options of generation. */
export interface GenerationOptions {
  /** Chooses tokens; it observes those of the prompt. */
  readonly sampler: Sampler;
  readonly maxTokens: number;
  /** Tokens that end the text; the one that does is the last step. */
  readonly endIds?: ReadonlySet<number>;
  /** Tokens of the prompt between two steps. Default 512. */
  readonly piece?: number;
}

/** @internal One step: a piece of the prompt has been fed, or a token made. */
export type GenerationStep =
  | {
    readonly kind: "prompt";
    /** Its tokens' hidden states after the final norm, [T, hiddenSize] f32; freed at the next step. */
    readonly hidden: Tensor;
    readonly fed: number;
  }
  | {
    readonly kind: "token";
    readonly id: number;
    /** Logits that it was chosen from, [vocabSize]. */
    readonly logits: Float32Array;
    readonly isEnd: boolean;
  };

/**
 * Feeds a prompt to a sequence, and continues it token by token. A caller that stops iterating stops the work. The
 * sequence still belongs to the caller: it may read its usage and continue it, and must free it.
 *
 * @param model The sequence's model.
 * @param sequence The sequence to which the prompt is appended; with or without a pruner.
 * @param prompt Token ids, at least one.
 * @throws {RangeError} If the prompt is empty, an option is out of range, or the sequence's pruner is non-causal.
 *
 * @example
 * ```ts
 * import { loadModel, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * import { generateTokens, Sampler } from "@tokenfilter/tokenfilter/model";
 * const { model, tokenizer } = await loadModel("tiny", new ReferenceBackend());
 * const options = { sampler: new Sampler(), maxTokens: 2, endIds: tokenizer.endIds };
 * const prompt = tokenizer.encode("It was a dark night, and the");
 * const steps = [...generateTokens(model, model.start(), prompt, options)];
 * console.assert(tokenizer.decode(steps.flatMap((step) => step.kind === "token" ? [step.id] : [])) === "sun was");
 * ```
 */
export function* generateTokens(
  model: Model,
  sequence: ModelSequence,
  prompt: Int32Array<ArrayBuffer>,
  { sampler, maxTokens, endIds = new Set(), piece = 512 }: GenerationOptions,
): Generator<GenerationStep, void> {
  if (prompt.length === 0) throw new RangeError("Cannot go on from an empty prompt: expected a token");
  expectInteger("maxTokens", maxTokens, 0);
  expectInteger("piece", piece, 1);
  const { backend } = model;
  let last: Tensor | undefined;
  try {
    for (let at = 0; at < prompt.length; at += piece) {
      const hidden = sequence.feed(prompt.slice(at, at + piece)), rows = hidden.shape[0]!;
      try {
        yield { kind: "prompt", hidden, fed: at + rows };
        if (at + rows === prompt.length) last = lastRow(model, hidden);
      } finally {
        backend.free(hidden);
      }
    }
    sampler.accept(prompt);
    for (let step = 0; step < maxTokens; step++) {
      const tensor = model.logits(last!), logits = f32Data(backend.read(tensor)).slice();
      backend.free(tensor);
      const id = sampler.next(logits, step), isEnd = endIds.has(id);
      sampler.accept([id]);
      yield { kind: "token", id, logits, isEnd };
      if (isEnd || step + 1 === maxTokens) return;
      backend.free(last!);
      last = undefined;
      last = sequence.feed(Int32Array.of(id));
    }
  } finally {
    if (last !== undefined) backend.free(last);
  }
}

function lastRow({ backend }: Model, hidden: Tensor): Tensor {
  const [rows, width] = hidden.shape as [number, number];
  const { data } = rowsOf(backend.read(hidden), rows - 1, rows);
  return backend.upload(hostTensor("f32", [1, width], Float32Array.from(data)));
}
