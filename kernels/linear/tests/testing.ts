/** Helpers of the tests of matrix products. */
import { fileURLToPath } from "node:url";
import { findCompiler, run } from "../../../ffi/build/command.ts";
import { dequantize } from "../../../lib/reference/dequantize.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import { countOf, f32Data, type HostTensor, type Tensor } from "../../../lib/tensor.ts";
import { assertEquals } from "@std/assert";
import type { Backend } from "../../../lib/backend.ts";
import type { DType } from "../../../lib/dtype.ts";
import { assertNear, numbers, randomTensor, randomWeight, unwritten } from "../../testing/inputs.ts";
import type { Way } from "../../testing/ways.ts";
import type { LinearCase } from "../cases.ts";

const reference = new ReferenceBackend();

/**
 * Compiles testdata/fake_cublaslt.cpp into a folder: it checks what it is called with, computes plainly, counts.
 *
 * @returns Its path.
 */
export async function compileFakeCublasLt(folder: string): Promise<string> {
  const path = `${folder}/libcublasLt.so.13`, { command, args } = await findCompiler();
  const source = fileURLToPath(new URL("../testdata/fake_cublaslt.cpp", import.meta.url));
  const flags = ["-std=c++17", "-O3", "-shared", "-fPIC", "-Wall", "-Wextra"];
  const built = await run(command, [...args, ...flags, source, "-o", path]);
  if (!built.success) throw new Error(built.stderr);
  return path;
}

/** A case in words. */
export const nameOf = (c: LinearCase): string => `${c.rows} x ${c.k} by ${c.n} ${c.dtype}`;

/**
 * Tolerance of a way, relative to |x| . |w|. Far below the required 1e-5: float32 sums of up to 2,304 products;
 * activations lose nothing in 16-bit parts either. Tensor cores cut sums off where floats are rounded: they multiply
 * weights other than f32 by more than four rows, if these are whole pieces of 16 bytes. The order of sums of cuBLASLt is not
 * known.
 */
export function barOf({ backend }: Way, { dtype, rows, k }: Omit<LinearCase, "n">): number {
  if (backend.description.includes("cuBLASLt")) return 1e-5;
  const isCut = backend.name === "cuda" && dtype !== "f32" && rows > 4 && k % 8 === 0;
  return isCut ? 4e-6 : 1e-6;
}

/** Inputs, the reference's result, and |x| . |w| of each output, which bounds its rounding error. */
export interface PreparedProduct {
  readonly x: HostTensor;
  readonly weight: HostTensor;
  readonly expected: Float32Array;
  readonly sizes: Float64Array;
}

let latest: { readonly key: string; readonly product: PreparedProduct } | undefined;

/** Makes the inputs of a case from a seed; those of the last call are kept, and not to be changed. */
export function prepare(c: LinearCase, seed: number): PreparedProduct {
  const key = `${nameOf(c)} ${seed}`;
  if (latest?.key !== key) latest = { key, product: prepareAnew(c, seed) };
  return latest.product;
}

function prepareAnew(c: LinearCase, seed: number): PreparedProduct {
  const next = numbers(seed);
  const x = randomTensor([c.rows, c.k], next);
  const weight = randomWeight(c.dtype, [c.n, c.k], next);
  const out = unwritten([c.rows, c.n]);
  reference.linear(x, weight, out);
  const xs = f32Data(x).map(Math.abs), ws = dequantize(weight, 0, countOf(weight.shape)).map(Math.abs);
  const size = (i: number) => {
    const row = Math.floor(i / c.n) * c.k, column = (i % c.n) * c.k;
    let sum = 0;
    for (let j = 0; j < c.k; j++) sum += xs[row + j]! * ws[column + j]!;
    return sum;
  };
  const sizes = Float64Array.from({ length: countOf(out.shape) }, (_, i) => size(i));
  return { x, weight, expected: f32Data(out), sizes };
}

/** Fails unless the rows of `slots` equal the reference's and the others are as before, which is NaN. */
export function checkSlots(
  way: Way,
  c: LinearCase,
  out: Tensor,
  slots: readonly number[],
  seed: number,
): void {
  const { expected, sizes } = prepare(c, seed);
  const want = expected.map((value, i) => slots.includes(Math.floor(i / c.n)) ? value : NaN);
  assertNear(
    way.values(out),
    want,
    barOf(way, c),
    `${way.name}, ${nameOf(c)}, slots ${slots}`,
    (i) => sizes[i]!,
  );
}

/** Fails unless products of one x in a call, and gated ones, are bit by bit those of calls of their own. */
export function checkTogether(backend: Backend): void {
  const next = numbers(1);
  const productsOf = (dtypes: readonly DType[], ns: readonly number[], rows: number, k: number) =>
    dtypes.map((dtype, i) => ({
      weight: randomWeight(dtype, [ns[i]!, k], next),
      out: unwritten([rows, ns[i]!]),
    }));
  const alone = (x: Tensor, { weight, out }: { weight: Tensor; out: Tensor }) => {
    const own = unwritten(out.shape);
    backend.linear(x, weight, own);
    return own;
  };
  for (const rows of [1, 3, 6, 9, 40]) {
    for (
      const dtypes of [["q4_1", "q4_1", "q4_1"], ["q8_0", "f16", "q8_0"], ["q4_k", "q6_k", "q4_k"]] as const
    ) {
      const x = randomTensor([rows, 256], next), products = productsOf(dtypes, [50, 7, 300], rows, 256);
      backend.linears(x, products);
      for (const [i, product] of products.entries()) {
        const what = `${backend.description}: ${rows} rows, product ${i} by ${dtypes}`;
        assertEquals(product.out.data, f32Data(alone(x, product)), what);
      }
    }
  }
  // Also more rows than sums are held of, and weights that are unpacked in parts.
  for (const [rows, n, k] of [[3, 50, 256], [9, 50, 256], [40, 50, 1792], [530, 33, 256]] as const) {
    for (const dtypes of [["q4_1", "q4_1"], ["bf16", "bf16"], ["q4_k", "q6_k"]] as const) {
      for (const gate of ["swiglu", "geglu"] as const) {
        const x = randomTensor([rows, k], next), [first, second] = productsOf(dtypes, [n, n], rows, k);
        backend.gatedLinear(x, first!, second!, gate);
        const out = alone(x, first!);
        backend[gate](out, alone(x, second!), out);
        const what = `${backend.description}: ${rows} x ${k} by ${n}, ${gate} of ${dtypes}`;
        assertEquals(first!.out.data, f32Data(out), what);
      }
    }
  }
}
