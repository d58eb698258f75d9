/** Speed of decode attention over a cache that is larger than the processor's caches. */
import type { AttentionArgs } from "../../../lib/backend.ts";
import { byteSize } from "../../../lib/dtype.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import { emptyTensor, f32Data, type HostTensor, rowsOf } from "../../../lib/tensor.ts";
import type { CpuBackend } from "../../../ffi/mod.ts";
import type { AttentionInputs } from "./attention.ts";
import { SHAPE } from "./attention_call.ts";
import { attentionArgs } from "./attention_call.ts";
import { type BenchCase, expectClose, timed } from "./run.ts";

/** Copies of all rows of the inputs in the cache: 805 MB of f32. */
const TIMES = 128;

/** One query over repeated rows, whose output equals that over each row once. */
export function longDecodeRace(
  backend: CpuBackend,
  impl: string,
  inputs: AttentionInputs,
  times = TIMES,
): BenchCase[] {
  const { tokens, numHeads, numKvHeads, headDim } = SHAPE, width = numKvHeads * headDim, all = tokens * times;
  const query = rowsOf(inputs.queries, 0, 1);
  const call = (cache: (name: "keys" | "values") => HostTensor, cached: number): AttentionArgs => {
    const args = attentionArgs({ asking: [cached - 1], cached: [], skipped: [], recent: 0 }, {
      gather: (name, rows) => name === "queries" ? query : rowsOf(inputs[name], 0, rows.length),
      i32: (list) => ({ dtype: "i32", shape: [list.length], data: Int32Array.from(list) }),
      alloc: (shape) => emptyTensor("f32", shape),
    });
    const [keys, values] = [cache("keys"), cache("values")], none = rowsOf(keys, 0, 0);
    const data = Int32Array.from({ length: cached }, (_, i) => i);
    const keyPositions = { dtype: "i32", shape: [cached], data } as const;
    return { ...args, keys, values, keyPositions, numKeys: cached, recentKeys: none, recentValues: none };
  };
  return (["f32", "bf16"] as const).map((dtype): BenchCase => {
    const long = call((name) => {
      const rows = { ...inputs[name], shape: [tokens, width] };
      const cache = backend.alloc(dtype, [all, width]);
      for (let i = 0; i < times; i++) backend.storeRows(rows, cache, i * tokens);
      return { ...cache, shape: [all, numKvHeads, headDim] };
    }, all);
    return {
      op: "filtered_attention",
      impl,
      phase: "decode",
      dtype,
      skip: 0,
      recent: 0,
      shape: `T=${all} heads=${numHeads} kvHeads=${numKvHeads} headDim=${headDim}`,
      flops: 4 * headDim * numHeads * all,
      bytes: 2 * byteSize(dtype, all * width),
      verify() {
        const once = call((name) => rowsOf(long[name] as HostTensor, 0, tokens), tokens);
        new ReferenceBackend().attention(once);
        backend.attention(long);
        expectClose(`decode over ${all} rows of ${dtype}`, f32Data(long.out), f32Data(once.out), 1e-5);
      },
      time: timed(() => backend.attention(long)),
    };
  });
}
