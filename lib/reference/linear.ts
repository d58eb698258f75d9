/** Products with a weight matrix. */
import { countOf, expectTensor, f32Data, type HostTensor, type Tensor } from "../tensor.ts";
import { dequantize } from "./dequantize.ts";

/** Weights in float32, made once for each weight tensor and dropped with it. */
const dense = new WeakMap<Tensor, Float32Array>();

/** See {@linkcode Backend.linear}. Sums in float64. */
export function linear(x: Tensor, weight: Tensor, out: Tensor): void {
  const [rows, k] = x.shape as [number, number];
  const n = weight.shape[0]!;
  expectTensor("x", x, "f32", [-1, weight.shape[1]!]);
  expectTensor("out", out, "f32", [rows, n]);
  let w = dense.get(weight);
  if (w === undefined) dense.set(weight, w = dequantize(weight as HostTensor, 0, countOf(weight.shape)));
  const source = f32Data(x), target = f32Data(out);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < n; column++) {
      const a = row * k, b = column * k;
      let sum = 0;
      for (let i = 0; i < k; i++) sum += source[a + i]! * w[b + i]!;
      target[row * n + column] = sum;
    }
  }
}
