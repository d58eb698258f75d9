import { assert, assertEquals } from "@std/assert";
import type { OpenDevice } from "../../ffi/cuda/testing.ts";
import type { AttentionArgs } from "../../lib/backend.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { dequantize } from "../../lib/reference/dequantize.ts";
import { inEveryOrder } from "../testing/device.ts";
import { BAR, difference } from "./cuda_testing.ts";
import { countOf, f32Data, type HostTensor, type Tensor } from "../../lib/tensor.ts";
import {
  ATTENTION_CASES,
  attentionArgs,
  type AttentionCase,
  nameOf,
  roundQueries,
  tensorOf,
} from "./cases.ts";

const reference = new ReferenceBackend();

/** Largest |x| of a tensor's first rows, and largest Euclidean norm of its vectors along the last dimension. */
function sizes(tensor: Tensor, rows = tensor.shape[0]!): { value: number; norm: number } {
  const width = tensor.shape.at(-1)!, count = rows * countOf(tensor.shape.slice(1));
  const x = dequantize(tensor as HostTensor, 0, count);
  let value = 0, norm = 0;
  for (let i = 0; i < count; i += width) {
    const vector = x.subarray(i, i + width);
    norm = Math.max(norm, Math.hypot(...vector));
    value = vector.reduce((most, a) => Math.max(most, Math.abs(a)), value);
  }
  return { value, norm };
}

/** The type's bar; where values and scores are large, what it allows of them (see filtered_attention_test.ts). */
function tolerance(c: AttentionCase, a: AttentionArgs): number {
  if (c.data !== "outliers" && c.data !== "peak") return BAR[c.dtype];
  const keys = Math.max(sizes(a.keys, a.numKeys).norm, sizes(a.recentKeys, a.numRecent).norm);
  const values = Math.max(sizes(a.values, a.numKeys).value, sizes(a.recentValues, a.numRecent).value);
  return (BAR[c.dtype] + 1.5e-7 * sizes(a.queries).norm * keys * a.scale) * values;
}

function run({ backend }: OpenDevice, args: AttentionArgs): Float32Array {
  const on = (tensor: Tensor) => backend.upload(tensor as HostTensor);
  const out = on(tensorOf("f32", args.out.shape, () => NaN));
  backend.attention({
    ...args,
    queries: on(args.queries),
    queryPositions: on(args.queryPositions),
    keys: on(args.keys),
    values: on(args.values),
    keyPositions: on(args.keyPositions),
    recentKeys: on(args.recentKeys),
    recentValues: on(args.recentValues),
    recentPositions: on(args.recentPositions),
    out,
  });
  return f32Data(backend.read(out));
}

function expected(args: AttentionArgs): Float32Array {
  const out = tensorOf("f32", args.out.shape, () => NaN);
  reference.attention({ ...args, out });
  return f32Data(out);
}

Deno.test("attention() on CUDA equals the reference on all cases", async () => {
  // Keys that end and local queries are the CPU's alone so far.
  const cases = ATTENTION_CASES.filter(({ ends, local }) => !ends && !local).map((c) => {
    const args = roundQueries(attentionArgs(c), c.dtype);
    return { c, args, wanted: expected(args), allowed: tolerance(c, args) };
  });
  let runs = 0;
  await inEveryOrder((device) => {
    for (const { c, args, wanted, allowed } of cases) {
      const worst = difference(run(device, args), wanted);
      assert(worst <= allowed, `${device.order}, ${nameOf(c)}: off by ${worst}, allowed ${allowed}`);
      runs++;
    }
  });
  assertEquals(runs, 5 * 236);
});
