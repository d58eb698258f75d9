/** Products with a weight matrix. */
import { countOf, expectTensor, f32Data, type HostTensor, type Tensor } from "../tensor.ts";
import { dequantize } from "./dequantize.ts";

/** Weights in float32, made once for each weight tensor and dropped with it. */
const dense = new WeakMap<Tensor, Float32Array>();

/**
 * See {@linkcode Backend.linear}. Sums in float64.
 *
 * @param x [T, k] f32.
 * @param weight [n, k] of any dtype.
 * @param out [T, n] f32.
 */
export function linear(x: Tensor, weight: Tensor, out: Tensor): void {
  const [n, k] = expectTensor("weight", weight, weight?.dtype, [-1, -1]);
  const [rows] = expectTensor("x", x, "f32", [-1, k]);
  expectTensor("out", out, "f32", [rows, n]);
  let w = dense.get(weight);
  if (w === undefined) dense.set(weight, w = dequantize(weight as HostTensor, 0, countOf(weight.shape)));
  const source = f32Data(x), target = f32Data(out);
  // Four columns at a time: with only one sum, each addition would wait for the last one. Past the end, the last column
  // repeats.
  for (let column = 0; column < n; column += 4) {
    const c1 = Math.min(column + 1, n - 1),
      c2 = Math.min(column + 2, n - 1),
      c3 = Math.min(column + 3, n - 1);
    const b0 = column * k, b1 = c1 * k, b2 = c2 * k, b3 = c3 * k;
    for (let row = 0; row < rows; row++) {
      const a = row * k, to = row * n;
      let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
      for (let i = 0; i < k; i++) {
        const value = source[a + i]!;
        s0 += value * w[b0 + i]!;
        s1 += value * w[b1 + i]!;
        s2 += value * w[b2 + i]!;
        s3 += value * w[b3 + i]!;
      }
      target[to + column] = s0;
      target[to + c1] = s1;
      target[to + c2] = s2;
      target[to + c3] = s3;
    }
  }
}
