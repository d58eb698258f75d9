/** Ops that work row by row: embedding, norms, gather, scatter, store, SwiGLU, rotary embedding. */
import { expectIds, expectTensor, f32Data, hostData, type HostTensor, type Tensor } from "../tensor.ts";
import type { StoredRows } from "../backend.ts";
import { toBf16, toF16 } from "../math/half.ts";
import { dequantize } from "./dequantize.ts";

/**
 * See {@linkcode Backend.embedding}.
 * out = scale * rows of a table.
 *
 * @throws {RangeError} If an id is outside the vocabulary.
 * @param table [vocabSize, n] of any dtype.
 * @param ids [T] i32.
 * @param out [T, n] f32.
 */
export function embedding(table: Tensor, ids: Tensor, out: Tensor, scale = 1): void {
  const [vocabSize, width] = expectTensor("table", table, table?.dtype, [-1, -1]);
  expectTensor("ids", ids, "i32", [-1]);
  expectTensor("out", out, "f32", [ids.shape[0]!, width]);
  const target = f32Data(out), rows = hostData(ids), factor = Math.fround(scale);
  expectIds(rows, vocabSize);
  rows.forEach((id, row) => {
    const values = dequantize(table as HostTensor, id * width, width);
    target.set(values.map((x) => x * factor), row * width);
  });
}

/** @param x [T, n] f32. @param weight [n] f32. @param out [T, n] f32. */
export function rmsNorm(x: Tensor, weight: Tensor, eps: number, out: Tensor): void {
  const [rows, width] = expectTensor("x", x, "f32", [-1, -1]);
  expectTensor("weight", weight, "f32", [width]);
  expectTensor("out", out, "f32", [rows, width]);
  const source = f32Data(x), scale = f32Data(weight), target = f32Data(out);
  for (let row = 0; row < rows; row++) {
    const at = row * width;
    let squares = 0;
    for (let i = 0; i < width; i++) squares += source[at + i]! ** 2;
    const factor = 1 / Math.sqrt(squares / width + eps);
    for (let i = 0; i < width; i++) target[at + i] = source[at + i]! * factor * scale[i]!;
  }
}

/**
 * @param x [T, heads, headDim] f32, changed in place.
 * @param positions [T] i32.
 * @param turns [headDim / 2, 2] f64.
 * @throws {RangeError} If a head has an odd size.
 */
export function rope(x: Tensor, positions: Tensor, turns: Tensor): void {
  const [rows, heads, headDim] = expectTensor("x", x, "f32", [-1, -1, -1]);
  expectTensor("positions", positions, "i32", [rows]);
  if (headDim % 2 !== 0) throw new RangeError(`Cannot rotate heads of ${headDim}: expected an even size`);
  expectTensor("turns", turns, "f64", [headDim / 2, 2]);
  const values = f32Data(x), at = hostData(positions), turn = hostData(turns);
  for (let pair = 0; pair < headDim / 2; pair++) {
    const frequency = turn[2 * pair]!, length = turn[2 * pair + 1]!;
    for (let row = 0; row < rows; row++) {
      const angle = at[row]! * frequency, cos = length * Math.cos(angle), sin = length * Math.sin(angle);
      for (let head = 0; head < heads; head++) {
        const i = (row * heads + head) * headDim + 2 * pair;
        const a = values[i]!, b = values[i + 1]!;
        values[i] = a * cos - b * sin;
        values[i + 1] = a * sin + b * cos;
      }
    }
  }
}

/** @param gate [T, n] f32. @param up [T, n] f32. @param out [T, n] f32. */
export function swiglu(gate: Tensor, up: Tensor, out: Tensor): void {
  applyGate(gate, up, out, (x) => x / (1 + Math.exp(-x)));
}

/** @param gate [T, n] f32. @param up [T, n] f32. @param out [T, n] f32. */
export function geglu(gate: Tensor, up: Tensor, out: Tensor): void {
  const root = Math.sqrt(2 / Math.PI);
  applyGate(gate, up, out, (x) => x * (1 + Math.tanh(root * (x + 0.044715 * x ** 3))) / 2);
}

function applyGate(gate: Tensor, up: Tensor, out: Tensor, activate: (x: number) => number): void {
  expectTensor("gate", gate, "f32", [-1, -1]);
  expectTensor("up", up, "f32", gate.shape);
  expectTensor("out", out, "f32", gate.shape);
  const g = f32Data(gate), u = f32Data(up), target = f32Data(out);
  for (let i = 0; i < g.length; i++) target[i] = activate(g[i]!) * u[i]!;
}

/** @param x [T, n] of a cache dtype. @param rows [R] i32. @param out [R, n] f32 or of the dtype of x. */
export function gatherRows(x: Tensor, rows: Tensor, out: Tensor): void {
  const [height, width] = expectTensor("x", x, ["f32", "f16", "bf16"], [-1, -1]);
  expectTensor("rows", rows, "i32", [-1]);
  expectTensor("out", out, ["f32", x.dtype], [rows.shape[0]!, width]);
  const target = hostData(out);
  hostData(rows).forEach((row, i) => {
    checkRow(row, height);
    const values = out.dtype === x.dtype
      ? hostData(x).subarray(row * width, (row + 1) * width)
      : dequantize(x as HostTensor, row * width, width);
    target.set(values, i * width);
  });
}

/** @param x [T, n] f32, changed in place. @param rows [R] i32. @param delta [R, n] f32. */
export function scatterAddRows(x: Tensor, rows: Tensor, delta: Tensor): void {
  const [height, width] = expectTensor("x", x, "f32", [-1, -1]);
  expectTensor("rows", rows, "i32", [-1]);
  expectTensor("delta", delta, "f32", [rows.shape[0]!, width]);
  const target = f32Data(x), added = f32Data(delta);
  hostData(rows).forEach((row, i) => {
    checkRow(row, height);
    for (let j = 0; j < width; j++) target[row * width + j]! += added[i * width + j]!;
  });
}

/** @param x [T, n] f32, changed in place. @param delta [T, n] f32. */
export function add(x: Tensor, delta: Tensor): void {
  expectTensor("x", x, "f32", [-1, -1]);
  expectTensor("delta", delta, "f32", x.shape);
  const target = f32Data(x), added = f32Data(delta);
  for (let i = 0; i < target.length; i++) target[i]! += added[i]!;
}

/**
 * @param x [T, n] of a cache dtype.
 * @param out [at least at + R, n] of a cache dtype.
 * @param rows [R] i32.
 * @throws {RangeError} If rows do not fit into `out`.
 */
export function storeRows(x: Tensor, out: Tensor, at: number, rows?: Tensor, second?: StoredRows): void {
  const [height, width] = expectTensor("x", x, ["f32", "f16", "bf16"], [-1, -1]),
    count = (rows ?? x).shape[0]!;
  expectTensor("out", out, x.dtype === "f32" ? ["f32", "f16", "bf16"] : x.dtype, [-1, width]);
  if (!(at >= 0 && at + count <= out.shape[0]!)) {
    throw new RangeError(
      `Cannot store ${count} rows at ${at}: expected them to fit into the ${out.shape[0]} of "out"`,
    );
  }
  const target = hostData(out), source = hostData(x), picked = rows && hostData(rows);
  const round = out.dtype === x.dtype ? (v: number) => v : out.dtype === "f16" ? toF16 : toBf16;
  for (let i = 0; i < count; i++) {
    const row = picked?.[i] ?? i;
    checkRow(row, height);
    for (let j = 0; j < width; j++) target[(at + i) * width + j] = round(source[row * width + j]!);
  }
  if (second === undefined) return;
  expectTensor("second.x", second.x, x.dtype, x.shape);
  expectTensor("second.out", second.out, out.dtype, out.shape);
  storeRows(second.x, second.out, at, rows);
}

/** @param x [T, n] f32. @returns [T] f64. */
export function rowNorms(x: Tensor): Float64Array<ArrayBuffer> {
  const [rows, width] = expectTensor("x", x, "f32", [-1, -1]);
  const values = f32Data(x), norms = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    let squares = 0;
    for (let i = row * width; i < (row + 1) * width; i++) squares += values[i]! ** 2;
    norms[row] = Math.sqrt(squares);
  }
  return norms;
}

function checkRow(row: number, height: number): void {
  if (row < 0 || row >= height) throw new RangeError(`Cannot take row ${row}: expected 0 to ${height - 1}`);
}
