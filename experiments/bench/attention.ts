/** Races of filtered attention: dense, half of the tokens skipped, and PyTorch's attention. */
import type { AttentionArgs } from "../../lib/backend.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { emptyTensor, f32Data, type HostTensor, hostTensor } from "../../lib/tensor.ts";
import type { CpuBackend } from "../../ffi/mod.ts";
import { type BenchCase, expectClose, numbers, timed } from "./run.ts";
import type { Torch } from "./torch.ts";

/** SmolLM2-135M's attention over 4,096 tokens. */
export const SHAPE = { tokens: 4096, numHeads: 9, numKvHeads: 3, headDim: 64 };
const { tokens, numHeads, numKvHeads, headDim } = SHAPE;
const WORDS = `T=${tokens} heads=${numHeads} kvHeads=${numKvHeads} headDim=${headDim}`;
const SCALE = 1 / Math.sqrt(headDim);
/** Queries that are compared with the reference. */
const SAMPLES = 12;

/** Random queries, keys and values of all tokens. */
export interface AttentionInputs {
  readonly queries: HostTensor;
  readonly keys: HostTensor;
  readonly values: HostTensor;
}

function random(seed: number, heads: number): HostTensor {
  const tensor = emptyTensor("f32", [tokens, heads, headDim]), next = numbers(seed);
  for (let i = 0; i < tensor.data.length; i++) tensor.data[i] = next() + next() + next(); // variance 1
  return tensor;
}

/** Makes the inputs that all attention cases share. */
export function attentionInputs(): AttentionInputs {
  return { queries: random(1, numHeads), keys: random(2, numKvHeads), values: random(3, numKvHeads) };
}

function i32(list: readonly number[]): HostTensor {
  return { dtype: "i32", shape: [list.length], data: Int32Array.from(list) };
}

/** Which tokens a call works on. */
interface Selection {
  readonly asking: readonly number[];
  readonly cached: readonly number[];
  readonly skipped: readonly number[];
  readonly recent: number;
}

/** Keeps all, or every other token at random past a warm-up of 32. */
function select(phase: "prefill" | "decode", skip: number, recent: number): Selection {
  const next = numbers(4);
  const all = Array.from({ length: tokens }, (_, t) => t);
  const keep = all.map((t) => t < 32 || t === tokens - 1 || next() >= 2 * skip - 1);
  const cached = all.filter((t) => keep[t]);
  return {
    asking: phase === "prefill" ? cached : [tokens - 1],
    cached,
    // What a runner hands over: in a prefill all skipped tokens, in a decode step the ring.
    skipped: all.filter((t) => !keep[t] && recent > 0 && (phase === "prefill" || tokens - 1 - t <= recent)),
    recent,
  };
}

function countPairs({ asking, cached, skipped, recent }: Selection): number {
  let pairs = 0, seen = 0, low = 0, high = 0;
  for (const position of asking) {
    while (seen < cached.length && cached[seen]! <= position) seen++;
    while (high < skipped.length && skipped[high]! <= position) high++;
    while (low < high && position - skipped[low]! > recent) low++;
    pairs += seen + high - low;
  }
  return pairs;
}

/** The tensors of a call, gathered from those of all tokens. */
class Call {
  readonly args: AttentionArgs;
  readonly #gathers: readonly { from: HostTensor; rows: HostTensor; to: HostTensor }[];

  constructor(inputs: AttentionInputs, { asking, cached, skipped, recent }: Selection) {
    const gathers: { from: HostTensor; rows: HostTensor; to: HostTensor }[] = [];
    const gather = (from: HostTensor, list: readonly number[]): HostTensor => {
      const to = emptyTensor("f32", [list.length, ...from.shape.slice(1)]);
      gathers.push({ from, rows: i32(list), to });
      return to;
    };
    const queries = gather(inputs.queries, asking);
    this.args = {
      queries,
      queryPositions: i32(asking),
      keys: gather(inputs.keys, cached),
      values: gather(inputs.values, cached),
      keyPositions: i32(cached),
      numKeys: cached.length,
      recentKeys: gather(inputs.keys, skipped),
      recentValues: gather(inputs.values, skipped),
      recentPositions: i32(skipped),
      numRecent: skipped.length,
      recent,
      scale: SCALE,
      out: emptyTensor("f32", queries.shape),
    };
    this.#gathers = gathers;
  }

  /** Copies the rows that the call works on. */
  gather(backend: CpuBackend): void {
    for (const { from, rows, to } of this.#gathers) {
      if (to.shape[0]! > 0) backend.gatherRows(flat(from), rows, flat(to));
    }
  }

  /** Compares some rows of the output with the reference. */
  expectRight(what: string): void {
    const { args } = this, count = args.queries.shape[0]!, width = numHeads * headDim;
    const picked = Array.from(
      { length: Math.min(SAMPLES, count) },
      (_, i) => Math.floor(i * count / SAMPLES),
    );
    picked[picked.length - 1] = count - 1;
    const row = (tensor: HostTensor, i: number) => f32Data(tensor).subarray(i * width, (i + 1) * width);
    const shape = [1, numHeads, headDim];
    for (const i of picked) {
      const out = emptyTensor("f32", shape);
      new ReferenceBackend().attention({
        ...args,
        queries: hostTensor("f32", shape, row(args.queries as HostTensor, i)),
        queryPositions: i32([(args.queryPositions as HostTensor).data[i]!]),
        out,
      });
      expectClose(`${what}, query ${i}`, row(args.out as HostTensor, i), f32Data(out), 1e-5);
    }
  }
}

/** [T, heads, headDim] as [T, heads * headDim]. */
function flat(tensor: HostTensor): HostTensor {
  return { ...tensor, shape: [tensor.shape[0]!, tensor.shape[1]! * headDim] };
}

/** This project's kernel. A prefill with skipped tokens gathers its rows each time; a cache is compact already. */
function ours(
  backend: CpuBackend,
  impl: string,
  inputs: AttentionInputs,
  phase: "prefill" | "decode",
  skip: number,
  recent: number,
): { benchCase: BenchCase; call: Call } {
  const selection = select(phase, skip, recent);
  const call = new Call(inputs, selection);
  call.gather(backend);
  const gathers = phase === "prefill" && skip > 0;
  const rows = numHeads * selection.asking.length * 2 +
    numKvHeads * 2 * (selection.cached.length + selection.skipped.length);
  const benchCase: BenchCase = {
    op: "filtered_attention",
    impl,
    phase,
    shape: WORDS,
    dtype: "f32",
    skip,
    recent,
    flops: 4 * headDim * numHeads * countPairs(selection),
    bytes: 4 * headDim * rows,
    verify() {
      backend.attention(call.args);
      call.expectRight(`${phase} with ${skip} skipped, recent ${recent}`);
    },
    time: timed(() => {
      if (gathers) call.gather(backend);
      backend.attention(call.args);
    }),
  };
  return { benchCase, call };
}

/** The cases of one phase. PyTorch's run only where there is a `torch`; they are verified against ours. */
export async function attentionRace(
  backend: CpuBackend,
  impl: string,
  inputs: AttentionInputs,
  phase: "prefill" | "decode",
  torch: Torch | undefined,
): Promise<BenchCase[]> {
  const dense = ours(backend, impl, inputs, phase, 0, 0);
  const cases = [
    dense.benchCase,
    ours(backend, impl, inputs, phase, 0.5, 0).benchCase,
    ours(backend, impl, inputs, phase, 0.5, 16).benchCase,
  ];
  if (torch === undefined) return cases;
  for (const heads of ["grouped", "repeated"] as const) {
    const id = await torch.prepare(phase, heads, SHAPE, dense.call.args);
    cases.push({
      ...dense.benchCase,
      impl: `torch ${torch.version}, ${heads} heads`,
      async verify() {
        backend.attention(dense.call.args);
        const found = await torch.output(id);
        expectClose(`PyTorch's ${phase}`, found, f32Data(dense.call.args.out), 1e-5);
      },
      time: (repeats) => torch.time(id, repeats),
    });
  }
  return cases;
}
