/** Blocks of tokens: those that a rule learns from at once, and those at whose starts keys and values are decided. */

export interface Blocks {
  readonly warmup: number;
  readonly block: number;
}

/** @internal Blocks, and for how many tokens after it a key and value stay visible at least. */
export interface Spans extends Blocks {
  readonly recent: number;
}

/**
 * Tokens from one, the first of a block or any other, to the first of the next block. Blocks begin at 0, at `warmup`,
 * and at every multiple of `block` above it.
 */
export function blockLength({ warmup, block }: Blocks, first: number): number {
  return first < warmup ? warmup - first : block - first % block;
}

/**
 * The block start at which the key and value of token t are decided: the first one b with t < b - recent. Where they are
 * dropped, queries at b or later do not see them.
 */
export function judgedAt(t: number, blocks: Spans): number {
  const from = t + blocks.recent;
  return from + blockLength(blocks, from);
}

/** Whether keys and values are decided before token t: whether a block other than the first begins with it. */
export function beginsBlock(t: number, blocks: Blocks): boolean {
  return t > 0 && blockLength(blocks, t - 1) === 1;
}

/** Never: the end of rows that stay. */
export const NEVER = 2 ** 31 - 1;

/** Number of tokens of a sequence, from its first on, whose keys and values are decided after `tokens` tokens. */
export function judgedTokens(tokens: number, spans: Spans): number {
  let judged = 0;
  while (judgedAt(judged, spans) < tokens) judged++;
  return judged;
}
