/** Texts that are computed together: weights are read once for the next tokens of all, with pieces of prompts between. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { yieldToEventLoop } from "../../../lib/eval/chunks/chunks.ts";
import type { Model } from "../../../lib/model/model.ts";
import type { ModelSequence } from "../../../lib/model/run/sequence.ts";
import { f32Data, type HostTensor, hostTensor, rowsOf, type Tensor } from "../../../lib/tensor.ts";

/** Tokens of prompts between two tokens of the other texts. */
const PIECE = 64;

/** A text whose next logits are due. */
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

/** The next tokens of a prompt. */
interface Piece {
  readonly job: PromptJob;
  readonly sequence: ModelSequence;
  readonly ids: Int32Array<ArrayBuffer>;
}

/** Shown the hidden states of a piece of a prompt, [T, hiddenSize], and how many tokens were fed by then. */
export type PromptSight = (hidden: HostTensor, fed: number) => void;

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
   * Feeds a prompt piece by piece. Earlier prompts come first, and short ones are fed together.
   *
   * @returns Logits after the prompt, [vocabSize].
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
      await nextTurn(); // texts that have got their logits ask for the next ones
      await yieldToEventLoop(); // clients that have left are noticed
      this.#prompts = endLeft(this.#prompts);
      this.#tokens = endLeft(this.#tokens);
      if (this.#prompts.length + this.#tokens.length === 0) break;
      const pieces = this.#cutPieces();
      if (pieces.length > 0) attempt(pieces.map(({ job }) => job), () => this.#feedPieces(pieces));
      const tokens = this.#tokens.splice(0);
      if (tokens.length > 0) attempt(tokens, () => this.#feedTokens(tokens));
    }
    this.#isRunning = false;
  }

  /** The next tokens of the prompts that came first; those prompts leave the list. */
  #cutPieces(): Piece[] {
    const pieces: Piece[] = [];
    for (let room = PIECE; room > 0 && this.#prompts.length > 0; room -= pieces.at(-1)!.ids.length) {
      const job = this.#prompts.shift()!;
      pieces.push({ job, sequence: job.sequence, ids: job.ids.slice(job.at, job.at + room) });
    }
    return pieces;
  }

  #feedPieces(pieces: readonly Piece[]): void {
    const { backend } = this.#model, [first, second] = pieces;
    const hidden = second === undefined ? first!.sequence.feed(first!.ids) : this.#model.feedTogether(pieces);
    const rows = backend.read(hidden);
    const whole: PromptJob[] = [], last: number[] = [];
    let at = 0;
    for (const { job, ids } of pieces) {
      const from = at;
      at += ids.length;
      job.at += ids.length;
      job.see?.(rowsOf(rows, from, at), job.at);
      if (job.at < job.ids.length) this.#prompts.unshift(job); // only the last one can be unfinished
      else {
        whole.push(job);
        last.push(...f32Data(rowsOf(rows, at - 1, at)));
      }
    }
    backend.free(hidden);
    if (whole.length === 0) return;
    const shape = [whole.length, rows.shape[1]!];
    this.#answer(whole, backend.upload(hostTensor("f32", shape, Float32Array.from(last))));
  }

  #feedTokens(jobs: readonly TokenJob[]): void {
    const feeds = jobs.map(({ sequence, id }) => ({ sequence, ids: Int32Array.of(id) }));
    const [first, second] = feeds;
    const hidden = second === undefined ? first!.sequence.feed(first!.ids) : this.#model.stepTogether(feeds);
    this.#answer(jobs, hidden);
  }

  /** Gives each job the logits of its row of hidden states, which are freed. */
  #answer(jobs: readonly Job[], hidden: Tensor): void {
    const { backend, config: { vocabSize } } = this.#model, logits = this.#model.logits(hidden);
    const values = f32Data(backend.read(logits));
    backend.free(hidden);
    backend.free(logits);
    jobs.forEach(({ done }, i) => done.resolve(values.subarray(i * vocabSize, (i + 1) * vocabSize)));
  }
}

/** Ends the jobs of clients that have left. @returns The others. */
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
