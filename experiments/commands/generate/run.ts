/** One continued text, and its cost. */
import { yieldToEventLoop } from "../../../lib/eval/chunks/chunks.ts";
import type { Pruner } from "../../../lib/methods/protocol/pruner.ts";
import { generateTokens, type GenerationOptions } from "../../../lib/model/generate/generate.ts";
import type { Model } from "../../../lib/model/model.ts";
import type { SequenceUsage } from "../../../lib/model/run/usage.ts";
import type { Tokenizer } from "../../../lib/model/tokenizer/tokenizer.ts";

export interface GeneratedText {
  readonly name: "dense" | "filtered";
  readonly promptTokens: number;
  /** Tokens that were made, the one that ends the text too. */
  readonly ids: readonly number[];
  readonly text: string;
  /** The reason of its end: a token that ends it, the limit of tokens, or an interruption. */
  readonly ended: "stop" | "length" | "interrupt";
  readonly promptMs: number;
  /** From the end of the prompt to the last token. */
  readonly tokensMs: number;
  readonly usage: SequenceUsage;
  readonly pruner: Pruner | undefined;
  /** Tokens that the sequence was fed: all but the last one. */
  readonly length: number;
  /** The sequence's decisions, as `ModelSequence` has them. */
  readonly keep: ReadonlyMap<number, Uint8Array>;
  readonly kvKeep: ReadonlyMap<number, Uint8Array>;
}

interface RunOptions extends GenerationOptions {
  readonly name: GeneratedText["name"];
  readonly tokenizer: Tokenizer;
  readonly signal: AbortSignal;
  /** Called with the tokens of the prompt fed so far. */
  readonly onPrompt: (fed: number) => void;
  /** Called with each piece of the text. */
  readonly onText: (text: string) => void;
}

/** Continues a prompt. Times are those of the model, without showing the text. */
export async function runGeneration(
  model: Model,
  pruner: Pruner | undefined,
  prompt: Int32Array<ArrayBuffer>,
  { name, tokenizer, signal, onPrompt, onText, ...options }: RunOptions,
): Promise<GeneratedText> {
  const sequence = model.start(pruner), steps = generateTokens(model, sequence, prompt, options);
  const decoder = tokenizer.decodeStream(prompt), ids: number[] = [];
  const times = { prompt: 0, token: 0 };
  let text = "", ended: GeneratedText["ended"] = "length";
  const add = (piece: string) => {
    text += piece;
    if (piece !== "") onText(piece);
  };
  try {
    for (;;) {
      const begin = performance.now(), { value: step } = steps.next(), time = performance.now() - begin;
      if (step === undefined) break;
      times[step.kind] += time;
      if (step.kind === "prompt") onPrompt(step.fed);
      else {
        ids.push(step.id);
        if (step.isEnd) ended = "stop";
        add(decoder.next(step.id));
      }
      await yieldToEventLoop();
      if (signal.aborted && !(step.kind === "token" && step.isEnd)) {
        ended = "interrupt";
        break;
      }
    }
    add(decoder.end());
    const { length, keep, kvKeep } = sequence, usage = sequence.usage();
    return {
      ...{ name, promptTokens: prompt.length, ids, text, ended, usage, pruner, length, keep, kvKeep },
      ...{ promptMs: times.prompt, tokensMs: times.token },
    };
  } finally {
    steps.return();
    sequence.free();
  }
}
