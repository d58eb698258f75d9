/** Texts that are computed together: weights are read once for the next tokens of all, with pieces of prompts between. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { yieldToEventLoop } from "../../../lib/eval/mod.ts";
import type { Model, ModelSequence } from "../../../lib/model/mod.ts";
import { f32Data, hostTensor, rowsOf, type Tensor } from "../../../lib/tensor.ts";

/** Tokens of a prompt between two tokens of the other texts. */
const PIECE = 64;

/** What a text waits for. */
interface Job {
  readonly sequence: ModelSequence;
  readonly signal: AbortSignal;
  readonly done: PromiseWithResolvers<Float32Array>;
}

interface TokenJob extends Job {
  readonly id: number;
}

interface PromptJob extends Job {
  readonly ids: Int32Array<ArrayBuffer>;
  /** Tokens fed so far. */
  at: number;
  readonly see: PromptSight | undefined;
}

/** Shown the hidden states of a piece of a prompt, [T, hiddenSize], and how many tokens were fed by then. */
export type PromptSight = (hidden: Tensor, fed: number) => void;

/** The sequences of one model, each with a method of its own. */
export class Batch {
  readonly #model: Model;
  #prompts: PromptJob[] = [];
  #tokens: TokenJob[] = [];
  #isRunning = false;

  constructor(model: Model) {
    this.#model = model;
  }

  /**
   * Feeds a prompt: one after the other, piece by piece.
   *
   * @returns Logits of what comes next, [vocabSize].
   * @throws The signal's reason, once it is aborted.
   */
  prompt(
    sequence: ModelSequence,
    ids: Int32Array<ArrayBuffer>,
    signal: AbortSignal,
    see?: PromptSight,
  ): Promise<Float32Array> {
    const done = Promise.withResolvers<Float32Array>();
    this.#prompts.push({ sequence, ids, signal, done, see, at: 0 });
    this.#start();
    return done.promise;
  }

  /** Feeds a text's next token, together with those of the others; otherwise as {@linkcode prompt}. */
  next(sequence: ModelSequence, id: number, signal: AbortSignal): Promise<Float32Array> {
    const done = Promise.withResolvers<Float32Array>();
    this.#tokens.push({ sequence, id, signal, done });
    this.#start();
    return done.promise;
  }

  #start(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    for (;;) {
      await nextTurn(); // texts go on that have got their logits, and ask for the next ones
      await yieldToEventLoop(); // who left is seen
      this.#prompts = endLeft(this.#prompts);
      this.#tokens = endLeft(this.#tokens);
      if (this.#prompts.length + this.#tokens.length === 0) break;
      const prompt = this.#prompts.shift();
      if (prompt !== undefined) attempt([prompt], () => this.#feedPiece(prompt));
      const tokens = this.#tokens.splice(0);
      if (tokens.length > 0) attempt(tokens, () => this.#feedTokens(tokens));
    }
    this.#isRunning = false;
  }

  #feedPiece(job: PromptJob): void {
    const { sequence, ids, see, done } = job, { backend } = this.#model;
    const hidden = sequence.feed(ids.slice(job.at, job.at + PIECE)), rows = hidden.shape[0]!;
    job.at += rows;
    see?.(hidden, job.at);
    const isLast = job.at === ids.length;
    const last = isLast && rowsOf(backend.read(hidden), rows - 1, rows);
    backend.free(hidden);
    if (!last) return void this.#prompts.unshift(job);
    done.resolve(this.#logits(backend.upload(hostTensor("f32", last.shape, Float32Array.from(last.data)))));
  }

  #feedTokens(jobs: readonly TokenJob[]): void {
    const feeds = jobs.map(({ sequence, id }) => ({ sequence, ids: Int32Array.of(id) }));
    const logits = this.#logits(this.#model.stepTogether(feeds)), { vocabSize } = this.#model.config;
    jobs.forEach(({ done }, i) => done.resolve(logits.subarray(i * vocabSize, (i + 1) * vocabSize)));
  }

  /** Logits of rows, which it frees. */
  #logits(hidden: Tensor): Float32Array {
    const { backend } = this.#model, logits = this.#model.logits(hidden);
    const values = f32Data(backend.read(logits));
    backend.free(hidden);
    backend.free(logits);
    return values;
  }
}

/** Ends the jobs of those who left; gives the others. */
function endLeft<J extends Job>(jobs: readonly J[]): J[] {
  for (const { signal, done } of jobs) if (signal.aborted) done.reject(signal.reason);
  return jobs.filter(({ signal }) => !signal.aborted);
}

/** Does work for jobs; they fail with it. */
function attempt(jobs: readonly Job[], work: () => void): void {
  try {
    work();
  } catch (error) {
    for (const { done } of jobs) done.reject(error);
  }
}
