/** One call of attention over tokens of a sequence, on any backend: its tensors, its work, a check of its output. */
import type { AttentionArgs } from "../../../lib/backend.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import { emptyTensor, f32Data, type HostTensor, rowsOf, type Tensor } from "../../../lib/tensor.ts";
import { expectClose, numbers } from "./run.ts";

/** SmolLM2-135M's attention over 4,096 tokens. */
export const SHAPE = { tokens: 4096, numHeads: 9, numKvHeads: 3, headDim: 64 };

/** The tokens of a call. */
export interface Selection {
  readonly asking: readonly number[];
  readonly cached: readonly number[];
  /** Skipped tokens that are passed to the call; only those within `recent` tokens are attended to. */
  readonly skipped: readonly number[];
  readonly recent: number;
}

/** Keeps all tokens, or a fraction of them at random past a warm-up of 32. */
export function chooseKept(
  tokens: number,
  skip: number,
  seed: number,
): { kept: number[]; skipped: number[] } {
  const next = numbers(seed), kept: number[] = [], skipped: number[] = [];
  for (let t = 0; t < tokens; t++) {
    (t < 32 || t === tokens - 1 || next() >= 2 * skip - 1 ? kept : skipped).push(t);
  }
  return { kept, skipped };
}

/** Number of pairs of a query and a key that it attends to. */
export function countPairs({ asking, cached, skipped, recent }: Selection): number {
  let pairs = 0, seen = 0, low = 0, high = 0;
  for (const position of asking) {
    while (seen < cached.length && cached[seen]! <= position) seen++;
    while (high < skipped.length && skipped[high]! <= position) high++;
    while (low < high && position - skipped[low]! > recent) low++;
    pairs += seen + high - low;
  }
  return pairs;
}

/** The tensors of a call. @param make how a backend makes them: rows of all tokens' tensors, numbers, and room */
export function attentionArgs({ asking, cached, skipped, recent }: Selection, make: {
  readonly gather: (name: "queries" | "keys" | "values", rows: readonly number[]) => Tensor;
  readonly i32: (list: readonly number[]) => Tensor;
  readonly alloc: (shape: readonly number[]) => Tensor;
}): AttentionArgs {
  const { gather, i32 } = make, queries = gather("queries", asking);
  return {
    queries,
    queryPositions: i32(asking),
    keys: gather("keys", cached),
    values: gather("values", cached),
    keyPositions: i32(cached),
    numKeys: cached.length,
    recentKeys: gather("keys", skipped),
    recentValues: gather("values", skipped),
    recentPositions: i32(skipped),
    numRecent: skipped.length,
    recent,
    scale: 1 / Math.sqrt(queries.shape[2]!),
    out: make.alloc(queries.shape),
  };
}

/** Compares some rows of a call's output with the reference. @param args tensors on the host */
export function expectQueries(what: string, args: AttentionArgs, samples: number, tolerance: number): void {
  const queries = args.queries as HostTensor, count = queries.shape[0]!;
  const row = (tensor: Tensor, i: number) => rowsOf(tensor as HostTensor, i, i + 1);
  for (let sample = 0; sample < Math.min(samples, count); sample++) {
    const i = Math.floor(sample * (count - 1) / Math.max(1, samples - 1));
    const out = emptyTensor("f32", [1, ...queries.shape.slice(1)]);
    const positions = row(args.queryPositions, i);
    new ReferenceBackend().attention({ ...args, queries: row(queries, i), queryPositions: positions, out });
    expectClose(`${what}, query ${i}`, f32Data(row(args.out, i)), f32Data(out), tolerance);
  }
}
