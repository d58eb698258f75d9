/** Losses of a model's next-token distributions, a block of rows at a time so that logits stay small. */
import type { LogitComparison } from "../backend.ts";
import { f32Data, firstRows, type HostTensor, hostTensor, type Tensor } from "../tensor.ts";
import type { EvaluatedModel } from "./language_model.ts";

/** Where a run's logits are kept for other calls, block by block; a block is named by its first row. */
export interface KeptLogits {
  /** The kept logits of a block, or the computed ones, which are kept if there is room. */
  get(block: number, compute: () => Tensor): Tensor;
  has(block: number): boolean;
}

/** Rows of logits that exist at a time; half as many of a large vocabulary: 64 rows of one of 49,152 take 13 MB. */
export const ROWS_PER_BLOCK = 128;
const LARGE_VOCABULARY = 32_768;

/** Memory for the logits of all blocks in turn: fresh pages cost a tenth of the product. */
interface Room {
  logits?: Tensor;
}

/** Calls `visit` for each block of the rows that have a target, with the targets as a tensor. */
function forEachBlock(
  model: EvaluatedModel,
  ids: Int32Array,
  visit: (start: number, end: number, targets: Tensor, room: Room) => void,
): void {
  const rows = ids.length - 1, { vocabSize = 0 } = model.config, room: Room = {};
  const most = vocabSize > LARGE_VOCABULARY ? ROWS_PER_BLOCK / 2 : ROWS_PER_BLOCK;
  for (let start = 0; start < rows; start += most) {
    const end = Math.min(start + most, rows);
    const targets = Int32Array.from(ids.subarray(start + 1, end + 1));
    const uploaded = model.backend.upload(hostTensor("i32", [end - start], targets));
    visit(start, end, uploaded, room);
    model.backend.free(uploaded);
  }
  if (room.logits !== undefined) model.backend.free(room.logits);
}

/**
 * Logits of rows [start, end) of hidden states.
 *
 * @param out Where they go; default: new memory.
 */
function logitsOf(model: EvaluatedModel, hidden: Tensor, start: number, end: number, out?: Tensor): Tensor {
  const { backend } = model, width = hidden.shape[1]!;
  const numbers = Int32Array.from({ length: end - start }, (_, i) => start + i);
  const picked = backend.upload(hostTensor("i32", [end - start], numbers));
  const rows = backend.alloc("f32", [end - start, width], true);
  backend.gatherRows(hidden, picked, rows);
  backend.free(picked);
  const logits = model.logits(rows, out);
  if (logits !== rows) backend.free(rows);
  return logits;
}

/** Calls `look` with the logits of rows [start, end): in the room, or, where they are kept, in memory of their own. */
function withLogits<T>(
  model: EvaluatedModel,
  hidden: Tensor,
  [start, end]: readonly [number, number],
  memory: KeptLogits | Room,
  look: (logits: Tensor) => T,
): T {
  if ("get" in memory) {
    const logits = memory.get(start, () => logitsOf(model, hidden, start, end)), result = look(logits);
    if (!memory.has(start)) model.backend.free(logits);
    return result;
  }
  const out = memory.logits && firstRows(memory.logits, end - start);
  const logits = logitsOf(model, hidden, start, end, out), result = look(logits);
  memory.logits ??= logits;
  // A model may have ignored `out`.
  if (logits !== out && logits !== memory.logits) model.backend.free(logits);
  return result;
}

/**
 * Losses of the tokens of one sequence.
 *
 * @param ids Token ids, [T].
 * @param hidden Hidden states after the final norm, [T, hiddenSize] f32.
 * @param kept Where its logits are found or kept; default: made for this call.
 * @returns -ln p(ids[i + 1] | ids[0..i]) in nats, [T - 1].
 */
export function nextTokenNll(
  model: EvaluatedModel,
  ids: Int32Array,
  hidden: Tensor,
  kept?: KeptLogits,
): Float64Array<ArrayBuffer> {
  const nll = new Float64Array(ids.length - 1);
  forEachBlock(model, ids, (start, end, targets, room) => {
    const look = (logits: Tensor) => model.backend.nll(logits, targets);
    nll.set(withLogits(model, hidden, [start, end], kept ?? room, look), start);
  });
  return nll;
}

interface TokenScores {
  /** -ln p of each, nats. */
  readonly nll: Float64Array<ArrayBuffer>;
  /** 1 where it is the likeliest token, the first one of equals. */
  readonly greedy: Uint8Array<ArrayBuffer>;
}

/**
 * Losses of the tokens of one sequence as {@linkcode nextTokenNll} has them, and whether each is the likeliest.
 *
 * @param ids Token ids, [T].
 * @param hidden Hidden states after the final norm, at least [T - 1, hiddenSize] f32.
 */
export function scoreNextTokens(model: EvaluatedModel, ids: Int32Array, hidden: Tensor): TokenScores {
  const nll = new Float64Array(ids.length - 1), greedy = new Uint8Array(ids.length - 1);
  forEachBlock(model, ids, (start, end, targets) => {
    const logits = logitsOf(model, hidden, start, end);
    nll.set(model.backend.nll(logits, targets), start);
    const { data, shape: [, vocabulary] } = model.backend.read(logits);
    for (let row = start; row < end; row++) {
      const own = (data as Float32Array).subarray(
        (row - start) * vocabulary!,
        (row - start + 1) * vocabulary!,
      );
      const target = ids[row + 1]!, highest = own[target]!;
      greedy[row] = own.every((logit, id) => logit < highest || (logit === highest && id >= target)) ? 1 : 0;
    }
    model.backend.free(logits);
  });
  return { nll, greedy };
}

/** The likeliest token after each row of hidden states, [R, hiddenSize] f32; the first one of equals. */
export function likeliestTokens(model: EvaluatedModel, hidden: HostTensor): number[] {
  const { backend } = model, rows = hidden.shape[0]!, uploaded = backend.upload(hidden);
  const logits = logitsOf(model, uploaded, 0, rows);
  backend.free(uploaded);
  const data = f32Data(backend.read(logits)), width = data.length / rows;
  const found = Array.from({ length: rows }, (_, row) => {
    const own = data.subarray(row * width, (row + 1) * width);
    let best = 0;
    for (let id = 1; id < width; id++) if (own[id]! > own[best]!) best = id;
    return best;
  });
  backend.free(logits);
  return found;
}

/**
 * Losses, divergence and agreement of two runs of one sequence, on the same positions.
 *
 * @param ids Token ids, [T].
 * @param base Hidden states of the first run (dense), [T, hiddenSize] f32.
 * @param other Hidden states of the second run (filtered), like `base`.
 * @param kept Where the first run's logits are found or kept; default: made for this call.
 * @returns T - 1 entries each, in nats: losses of both, KL(base || other), and 1 where the likeliest token is one.
 */
export function compareNextTokens(
  model: EvaluatedModel,
  ids: Int32Array,
  base: Tensor,
  other: Tensor,
  kept?: KeptLogits,
): LogitComparison {
  const rows = ids.length - 1;
  const all: LogitComparison = {
    nll: new Float64Array(rows),
    baseNll: new Float64Array(rows),
    kl: new Float64Array(rows),
    agree: new Uint8Array(rows),
  };
  const ofBase: Room = {};
  forEachBlock(model, ids, (start, end, targets, room) => {
    const block = withLogits(model, base, [start, end], kept ?? ofBase, (logits) => {
      const compare = (others: Tensor) => model.backend.compareLogits(logits, others, targets);
      return withLogits(model, other, [start, end], room, compare);
    });
    all.nll.set(block.nll, start);
    all.baseNll.set(block.baseNll, start);
    all.kl.set(block.kl, start);
    all.agree.set(block.agree, start);
  });
  if (ofBase.logits !== undefined) model.backend.free(ofBase.logits);
  return all;
}
