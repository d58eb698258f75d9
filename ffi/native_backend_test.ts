/** Each tensor of each op is refused by its name where its type or its shape is another than the op takes. */
import { assertThrows } from "@std/assert";
import type { Backend } from "../lib/backend.ts";
import type { DType } from "../lib/dtype.ts";
import { countOf, hostTensor, type Tensor } from "../lib/tensor.ts";
import { openTested } from "../kernels/testing/ways.ts";

type Shapes = Readonly<Record<string, readonly [DType, ...number[]]>>;

/** An op, and tensors that it takes. */
interface Call<S extends Shapes = Shapes> {
  readonly tensors: S;
  readonly run: (backend: Backend, tensors: { readonly [name in keyof S]: Tensor }) => unknown;
}

function call<S extends Shapes>(tensors: S, run: Call<S>["run"]): Call {
  return { tensors, run: run as Call["run"] };
}

const CALLS: Readonly<Record<string, Call>> = {
  embedding: call(
    { table: ["f32", 3, 4], ids: ["i32", 2], out: ["f32", 2, 4] },
    (b, { table, ids, out }) => b.embedding(table, ids, out),
  ),
  rmsNorm: call(
    { x: ["f32", 2, 4], weight: ["f32", 4], out: ["f32", 2, 4] },
    (b, { x, weight, out }) => b.rmsNorm(x, weight, 1e-5, out),
  ),
  linear: call(
    { x: ["f32", 2, 4], weight: ["f32", 3, 4], out: ["f32", 2, 3] },
    (b, { x, weight, out }) => b.linear(x, weight, out),
  ),
  rope: call(
    { x: ["f32", 2, 1, 4], positions: ["i32", 2], turns: ["f64", 2, 2] },
    (b, { x, positions, turns }) => b.rope(x, positions, turns),
  ),
  swiglu: call(
    { gate: ["f32", 2, 4], up: ["f32", 2, 4], out: ["f32", 2, 4] },
    (b, { gate, up, out }) => b.swiglu(gate, up, out),
  ),
  gatherRows: call(
    { x: ["f32", 3, 4], rows: ["i32", 2], out: ["f32", 2, 4] },
    (b, { x, rows, out }) => b.gatherRows(x, rows, out),
  ),
  scatterAddRows: call(
    { x: ["f32", 3, 4], rows: ["i32", 2], delta: ["f32", 2, 4] },
    (b, { x, rows, delta }) => b.scatterAddRows(x, rows, delta),
  ),
  storeRows: call(
    { x: ["f32", 2, 4], out: ["f32", 3, 4] },
    (b, { x, out }) => b.storeRows(x, out, 0),
  ),
  rowNorms: call({ x: ["f32", 2, 4] }, (b, { x }) => b.rowNorms(x)),
  nll: call(
    { logits: ["f32", 2, 4], targets: ["i32", 2] },
    (b, { logits, targets }) => b.nll(logits, targets),
  ),
  compareLogits: call(
    { base: ["f32", 2, 4], other: ["f32", 2, 4], targets: ["i32", 2] },
    (b, { base, other, targets }) => b.compareLogits(base, other, targets),
  ),
};

const ARRAYS = { f32: Float32Array, f64: Float64Array, i32: Int32Array } as const;
const zeros = (dtype: DType, shape: readonly number[]) =>
  hostTensor(dtype, shape, new ARRAYS[dtype as keyof typeof ARRAYS](countOf(shape)));

for (const [op, { tensors, run }] of Object.entries(CALLS)) {
  Deno.test(`${op}() refuses tensors of another type or shape by their names`, async () => {
    using backend = await openTested({ threads: 1 });
    const right = Object.fromEntries(
      Object.entries(tensors).map(([name, [dtype, ...shape]]) => [name, zeros(dtype, shape)]),
    );
    const upload = (host: Record<string, ReturnType<typeof zeros>>) =>
      Object.fromEntries(Object.entries(host).map(([name, tensor]) => [name, backend.upload(tensor)]));
    run(backend, upload(right));
    for (const [name, [dtype, ...shape]] of Object.entries(tensors)) {
      const other = zeros(dtype === "f64" ? "f32" : "f64", shape);
      assertThrows(() => run(backend, upload({ ...right, [name]: other })), TypeError, `"${name}"`);
      const deeper = zeros(dtype, [...shape, 1]);
      assertThrows(() => run(backend, upload({ ...right, [name]: deeper })), RangeError, `"${name}"`);
    }
  });
}
