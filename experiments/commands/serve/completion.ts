/** One text for a prompt: in pieces, with the probabilities of its tokens where they are asked for. */
import type { Pruner } from "../../../lib/methods/protocol/pruner.ts";
import { Sampler } from "../../../lib/model/generate/sampler.ts";
import type { Model } from "../../../lib/model/model.ts";
import { logProbabilities, type TokenLogProbability } from "../../../lib/model/run/log_probabilities.ts";
import type { SequenceUsage } from "../../../lib/model/run/usage.ts";
import type { Tokenizer } from "../../../lib/model/tokenizer/tokenizer.ts";
import { f32Data, type HostTensor, rowsOf } from "../../../lib/tensor.ts";
import type { Batch, PromptSight } from "./batch.ts";
import { Constraint } from "./grammar/constraint.ts";
import type { CompletionRequest } from "./request.ts";

export interface ScoredToken {
  readonly id: number;
  /** In nats; null for the first token of a prompt. */
  readonly logProbability: number | null;
  /** The likeliest tokens at its place. */
  readonly top: readonly TokenLogProbability[];
}

export interface TextPiece {
  readonly text: string;
  /** Tokens that have come, where probabilities are asked for. */
  readonly tokens: readonly ScoredToken[];
}

export interface TextEnd {
  readonly finish: "stop" | "length";
  readonly tokens: number;
  readonly usage: SequenceUsage;
}

export interface Engine {
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  readonly pruner: Pruner | undefined;
  /** Computes all texts of the model. */
  readonly batch: Batch;
}

/** Rows of logits of a prompt that are in memory at a time. */
const ROWS = 64;

/**
 * Makes one text.
 *
 * @param index Number of the text among those for its prompt: each has a seed of its own.
 * @throws The signal's reason, once it is aborted.
 */
export async function* complete(
  { model, tokenizer, pruner, batch }: Engine,
  request: CompletionRequest,
  prompt: Int32Array<ArrayBuffer>,
  index: number,
  signal: AbortSignal,
): AsyncGenerator<TextPiece, TextEnd> {
  const { logprobs, echo, maxTokens } = request, { samplingSeed = 0 } = request.sampling;
  const seed = BigInt.asUintN(64, BigInt(samplingSeed) + BigInt(index));
  const sampler = new Sampler({ ...request.sampling, samplingSeed: seed });
  const endIds = request.ignoreEnd ? new Set<number>() : tokenizer.endIds;
  const decoder = tokenizer.decodeStream(prompt), gate = new StopGate(request.stop);
  const scoresPrompt = echo && logprobs !== undefined;
  const ofPrompt: ScoredToken[] = scoresPrompt ? [{ id: prompt[0]!, logProbability: null, top: [] }] : [];
  const scorePiece: PromptSight = (hidden, fed) => {
    const first = fed - hidden.shape[0]!;
    ofPrompt.push(...scoreRows(model, hidden, prompt.subarray(first + 1, fed + 1), logprobs!));
  };
  const constraint = request.format && new Constraint(request.format, tokenizer);
  const sequence = model.start(pruner);
  let made = 0, finish: TextEnd["finish"] = "length";
  try {
    let logits = await batch.prompt(sequence, prompt, signal, scoresPrompt ? scorePiece : undefined);
    if (echo) yield { text: tokenizer.decode(prompt), tokens: ofPrompt };
    sampler.accept(prompt);
    while (made < maxTokens) {
      const id = constraint?.next(sampler, logits, made, endIds) ?? sampler.next(logits, made);
      const isEnd = endIds.has(id);
      made++;
      sampler.accept([id]);
      const tokens = logprobs === undefined ? [] : [scoreToken(logits, id, logprobs)];
      const isWhole = constraint?.isWhole === true, isLast = isEnd || isWhole || made === maxTokens;
      const said = (isEnd ? "" : decoder.next(id)) + (isLast ? decoder.end() : "");
      const { text, isStop } = gate.pass(said, isLast);
      if (text !== "" || tokens.length > 0) yield { text, tokens };
      if (isEnd || isWhole || isStop) {
        finish = "stop";
        break;
      }
      if (!isLast) logits = await batch.next(sequence, id, signal);
    }
    return { finish, tokens: made, usage: sequence.usage() };
  } finally {
    sequence.free();
  }
}

function scoreToken(logits: Float32Array, id: number, top: number): ScoredToken {
  const probabilities = logProbabilities(logits);
  return { id, logProbability: probabilities.of(id), top: probabilities.top(top) };
}

/** Probabilities of the tokens that come after rows of hidden states; the last row may have none. */
function scoreRows(model: Model, hidden: HostTensor, targets: Int32Array, top: number): ScoredToken[] {
  const { backend, config: { vocabSize } } = model, scored: ScoredToken[] = [];
  for (let start = 0; start < targets.length; start += ROWS) {
    const end = Math.min(start + ROWS, targets.length);
    const rows = backend.upload(rowsOf(hidden, start, end)), logits = model.logits(rows);
    const values = f32Data(backend.read(logits));
    for (let row = start; row < end; row++) {
      const at = (row - start) * vocabSize;
      scored.push(scoreToken(values.subarray(at, at + vocabSize), targets[row]!, top));
    }
    backend.free(logits);
    backend.free(rows);
  }
  return scored;
}

/** Passes text on up to the beginning of a stop text; a possible beginning of one is held back. */
export class StopGate {
  readonly #stops: readonly string[];
  #held = "";

  /** @param stops Texts that end a text. */
  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** @returns the text that may be shown now, and whether a stop text came */
  pass(text: string, isLast: boolean): { readonly text: string; readonly isStop: boolean } {
    const all = this.#held + text;
    const found = this.#stops.map((stop) => all.indexOf(stop)).filter((at) => at >= 0);
    if (found.length > 0) return { text: all.slice(0, Math.min(...found)), isStop: true };
    const longest = Math.max(0, ...this.#stops.map((stop) => stop.length - 1));
    let held = isLast ? 0 : Math.min(longest, all.length);
    while (held > 0 && !this.#stops.some((stop) => stop.startsWith(all.slice(-held)))) held--;
    this.#held = all.slice(all.length - held);
    return { text: all.slice(0, all.length - held), isStop: false };
  }
}
