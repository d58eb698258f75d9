/** Races of filtered attention: dense, half of the tokens skipped, and PyTorch's attention. */
import type { AttentionArgs } from "../../../lib/backend.ts";
import { emptyTensor, f32Data, type HostTensor } from "../../../lib/tensor.ts";
import type { CpuBackend } from "../../../ffi/mod.ts";
import {
  attentionArgs,
  chooseKept,
  countPairs,
  expectQueries,
  type Selection,
  SHAPE,
} from "./attention_call.ts";
import { type BenchCase, expectClose, numbers, timed } from "./run.ts";
import type { Torch } from "./torch.ts";

const { tokens, numHeads, numKvHeads, headDim } = SHAPE;
const WORDS = `T=${tokens} heads=${numHeads} kvHeads=${numKvHeads} headDim=${headDim}`;
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

/** Keeps all, or every other token at random past a warm-up of 32. */
function select(phase: "prefill" | "decode", skip: number, recent: number): Selection {
  const { kept, skipped } = chooseKept(tokens, skip, 4), isPrefill = phase === "prefill";
  return {
    asking: isPrefill ? kept : [tokens - 1],
    cached: kept,
    // A runner passes all skipped tokens in a prefill, and those of the ring in a decode step.
    skipped: skipped.filter((t) => recent > 0 && (isPrefill || tokens - 1 - t <= recent)),
    recent,
  };
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
): { benchCase: BenchCase; args: AttentionArgs } {
  const selection = select(phase, skip, recent), copies: (() => void)[] = [];
  const args = attentionArgs(selection, {
    gather: (name, list) => {
      const from = inputs[name], to = emptyTensor("f32", [list.length, ...from.shape.slice(1)]);
      const rows = i32(list);
      if (list.length > 0) copies.push(() => backend.gatherRows(flat(from), rows, flat(to)));
      return to;
    },
    i32,
    alloc: (shape) => emptyTensor("f32", shape),
  });
  const gather = () => copies.forEach((copy) => copy());
  gather();
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
      backend.attention(args);
      expectQueries(`${phase} with ${skip} skipped, recent ${recent}`, args, SAMPLES, 1e-5);
    },
    time: timed(() => {
      if (gathers) gather();
      backend.attention(args);
    }),
  };
  return { benchCase, args };
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
    const id = await torch.prepare(phase, heads, SHAPE, dense.args);
    cases.push({
      ...dense.benchCase,
      impl: `torch ${torch.version}, ${heads} heads`,
      async verify() {
        backend.attention(dense.args);
        const found = await torch.output(id);
        expectClose(`PyTorch's ${phase}`, found, f32Data(dense.args.out), 1e-5);
      },
      time: (repeats) => torch.time(id, repeats),
    });
  }
  return cases;
}
