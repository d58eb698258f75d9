/** What the tests of matrix products share. */
import { dequantize } from "../../lib/reference/dequantize.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { countOf, f32Data, type HostTensor } from "../../lib/tensor.ts";
import { numbers, randomTensor, randomWeight, unwritten } from "../testing/inputs.ts";
import type { LinearCase } from "./cases.ts";

const reference = new ReferenceBackend();

/** Inputs, the reference's result, and |x| . |w| of each output, which bounds its rounding error. */
export interface PreparedProduct {
  readonly x: HostTensor;
  readonly weight: HostTensor;
  readonly expected: Float32Array;
  readonly sizes: Float64Array;
}

/** Makes the inputs of a case from a seed. */
export function prepare(c: LinearCase, seed: number): PreparedProduct {
  const next = numbers(seed);
  const x = randomTensor([c.rows, c.k], next);
  const weight = randomWeight(c.dtype, [c.n, c.k], next);
  const out = unwritten([c.rows, c.n]);
  reference.linear(x, weight, out);
  const xs = f32Data(x), ws = dequantize(weight, 0, countOf(weight.shape));
  const size = (i: number) => {
    const row = Math.floor(i / c.n) * c.k, column = (i % c.n) * c.k;
    let sum = 0;
    for (let j = 0; j < c.k; j++) sum += Math.abs(xs[row + j]! * ws[column + j]!);
    return sum;
  };
  const sizes = Float64Array.from({ length: countOf(out.shape) }, (_, i) => size(i));
  return { x, weight, expected: f32Data(out), sizes };
}
