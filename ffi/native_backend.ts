/** The ops of {@linkcode Backend} over the C ABI, on the CPU or a device. */
import {
  type AttentionArgs,
  type Backend,
  type Gate,
  type LogitComparison,
  MOST_PRODUCTS,
  type Product,
  type StoredRows,
} from "../lib/backend.ts";
import type { BatchDecisions, BatchOps } from "../lib/batch_ops.ts";
import { type DType, DTYPES } from "../lib/dtype.ts";
import { countOf, expectTensor, type HostTensor, type Tensor } from "../lib/tensor.ts";
import type { Arguments } from "./library/abi.ts";
import { callAttention } from "./attention.ts";
import type { KernelContext } from "./context.ts";

/** Element types that `linear` and `embedding` take as weights. */
const WEIGHTS: readonly DType[] = (Object.keys(DTYPES) as DType[]).filter((dtype) =>
  DTYPES[dtype].code < 100
);
const FLOATS: readonly DType[] = ["f32", "f16", "bf16"];

/** Combinations of two products in `tkf_linear_apply`, `TKF_GATE_…`. */
const GATES: Readonly<Record<Gate | "none", number>> = { none: 0, swiglu: 1, geglu: 2 };

/** A list of kept rows as ops take it; all rows where there is none. */
export function keptRows(only?: BatchDecisions): { kept: Tensor | null; kept_count: Tensor | null } {
  return { kept: only?.kept ?? null, kept_count: only?.keptCount ?? null };
}

/**
 * @internal The common part of the backends of both libraries: all methods check shapes and types first (`TypeError`,
 * `RangeError`), and throw a {@linkcode KernelError} where the library refuses a value.
 */
export abstract class NativeBackend implements Backend, Disposable {
  abstract readonly name: string;
  abstract readonly description: string;
  abstract readonly kvFilterScan: Backend["kvFilterScan"];
  abstract readonly kvFilterObserve: Backend["kvFilterObserve"];
  readonly knowsLocal?: boolean;
  readonly givesShares?: boolean;
  readonly movesRows?: boolean;
  // Made by `adopt`.
  declare readonly kvFilterSigns: BatchOps["kvFilterSigns"];
  declare readonly kvFilterStep: BatchOps["kvFilterStep"];
  declare readonly kvKeyStep: BatchOps["kvKeyStep"];
  declare readonly kvFilterObserveBatch: BatchOps["kvFilterObserveBatch"];
  declare readonly attentionDecode: BatchOps["attentionDecode"];
  declare readonly advance: BatchOps["advance"];
  declare readonly argmax: BatchOps["argmax"];
  declare readonly row: BatchOps["row"];
  declare readonly rows: BatchOps["rows"];
  declare readonly write: BatchOps["write"];
  declare readonly copyRows: BatchOps["copyRows"];
  abstract add(x: Tensor, delta: Tensor, only?: BatchDecisions): void;
  abstract alloc(dtype: DType, shape: readonly number[], filledLater?: boolean): Tensor;
  abstract upload(tensor: HostTensor): Tensor;
  abstract read(tensor: Tensor): HostTensor;
  abstract resizeRows(tensor: Tensor, rows: number): Tensor;
  abstract free(tensor: Tensor): void;

  /**
   * The library and the context that it is called with.
   * @internal
   */
  protected readonly context: KernelContext;

  /** Keeps the context. @param context Of the library whose tensors the subclass makes. */
  constructor(context: KernelContext) {
    this.context = context;
  }

  /** Takes the ops of a batch over. */
  protected adopt(ops: BatchOps): void {
    Object.assign(this, ops);
  }

  /** Frees the library's resources: threads, or memory of the device. Any use afterwards throws an `Error`. */
  [Symbol.dispose](): void {
    this.context[Symbol.dispose]();
  }

  regrowRows(tensor: Tensor, rows: number): Tensor {
    const out = this.resizeRows(tensor, rows);
    this.free(tensor);
    return out;
  }

  /** `values` of any weight type as f32, in the same shape. */
  dequantize(values: Tensor): Tensor {
    expectTensor("values", values, WEIGHTS, values.shape);
    const out = this.alloc("f32", values.shape), { dtype } = values, count = countOf(values.shape);
    this.context.call("tkf_tensor_dequantize", { values, dtype, count, out });
    return out;
  }

  embedding(table: Tensor, ids: Tensor, out: Tensor, scale = 1): void {
    const [vocab, cols] = expectTensor("table", table, WEIGHTS, [-1, -1]), { dtype } = table;
    const [rows] = expectTensor("ids", ids, "i32", [-1]);
    expectTensor("out", out, "f32", [rows, cols]);
    this.context.call("tkf_embedding_gather", { table, dtype, vocab, cols, ids, rows, scale, out });
  }

  rmsNorm(x: Tensor, weight: Tensor, eps: number, out: Tensor): void {
    this.#normalise(x, weight, eps, out);
  }

  addRmsNorm(
    x: Tensor,
    delta: Tensor,
    weight: Tensor,
    eps: number,
    out: Tensor,
    only?: BatchDecisions,
  ): void {
    expectTensor("delta", delta, "f32", x.shape);
    this.#normalise(x, weight, eps, out, delta, only?.keep);
  }

  linear(x: Tensor, weight: Tensor, out: Tensor, only?: BatchDecisions, sameX?: boolean): void {
    this.linears(x, [{ weight, out }], only, sameX);
  }

  linears(x: Tensor, products: readonly Product[], only?: BatchDecisions, sameX = false): void {
    if (products.length > MOST_PRODUCTS) {
      throw new RangeError(
        `Cannot multiply: found ${products.length} products, expected ${MOST_PRODUCTS} at most`,
      );
    }
    this.#multiply(x, products, { ...keptRows(only), same_x: sameX, gate: GATES.none });
  }

  gatedLinear(x: Tensor, gate: Product, up: Product, activation: Gate): void {
    expectTensor("up.out", up.out, "f32", gate.out.shape);
    this.#multiply(x, [gate, up], { ...keptRows(), same_x: false, gate: GATES[activation] });
  }

  rope(x: Tensor, positions: Tensor, turns: Tensor, only?: BatchDecisions): void {
    const [rows, heads, head_dim] = expectTensor("x", x, "f32", [-1, -1, -1]);
    expectTensor("positions", positions, "i32", [rows]);
    expectTensor("turns", turns, "f64", [Math.floor(head_dim / 2), 2]);
    this.context.call("tkf_rope_apply", { x, positions, turns, rows, heads, head_dim, ...keptRows(only) });
  }

  swiglu(gate: Tensor, up: Tensor, out: Tensor): void {
    this.#applyGate("swiglu", gate, up, out);
  }

  geglu(gate: Tensor, up: Tensor, out: Tensor): void {
    this.#applyGate("geglu", gate, up, out);
  }

  gatherRows(x: Tensor, rows: Tensor, out: Tensor): void {
    const [, cols] = expectTensor("x", x, FLOATS, [-1, -1]);
    const [picked] = expectTensor("rows", rows, "i32", [-1]);
    expectTensor("out", out, ["f32", x.dtype], [picked, cols]);
    this.#copyRows(x, out, 0, rows);
  }

  scatterAddRows(x: Tensor, rows: Tensor, delta: Tensor): void {
    const [x_rows, cols] = expectTensor("x", x, "f32", [-1, -1]);
    const [picked] = expectTensor("rows", rows, "i32", [-1]);
    expectTensor("delta", delta, "f32", [picked, cols]);
    this.context.call("tkf_rows_scatter_add", { x, x_rows, cols, indices: rows, rows: picked, delta });
  }

  storeRows(x: Tensor, out: Tensor, at: number, rows?: Tensor, second?: StoredRows): void {
    const [, cols] = expectTensor("x", x, FLOATS, [-1, -1]);
    const [room] = expectTensor("out", out, x.dtype === "f32" ? FLOATS : x.dtype, [-1, cols]);
    if (rows !== undefined) expectTensor("rows", rows, "i32", [-1]);
    if (second !== undefined) {
      expectTensor("second.x", second.x, x.dtype, x.shape);
      expectTensor("second.out", second.out, out.dtype, out.shape);
    }
    const count = (rows ?? x).shape[0]!;
    if (!Number.isSafeInteger(at) || at < 0 || at + count > room) {
      throw new RangeError(
        `Cannot store ${count} rows at ${at}: expected them to fit into the ${room} of "out"`,
      );
    }
    this.#copyRows(x, out, at, rows, second);
  }

  rowNorms(x: Tensor): Float64Array<ArrayBuffer> {
    const [rows, cols] = expectTensor("x", x, "f32", [-1, -1]);
    const out = this.alloc("f64", [rows]);
    this.context.call("tkf_rows_norm", { x, rows, cols, out });
    return this.#take(out) as Float64Array<ArrayBuffer>;
  }

  attention(args: AttentionArgs): void {
    callAttention(this.context, args);
  }

  nll(logits: Tensor, targets: Tensor): Float64Array<ArrayBuffer> {
    const [rows, vocab] = expectTensor("logits", logits, "f32", [-1, -1]);
    expectTensor("targets", targets, "i32", [rows]);
    const nll = this.alloc("f64", [rows]);
    this.context.call("tkf_nll_compute", { logits, targets, rows, vocab, nll });
    return this.#take(nll) as Float64Array<ArrayBuffer>;
  }

  compareLogits(base: Tensor, other: Tensor, targets: Tensor): LogitComparison {
    const [rows, vocab] = expectTensor("base", base, "f32", [-1, -1]);
    expectTensor("other", other, "f32", [rows, vocab]);
    expectTensor("targets", targets, "i32", [rows]);
    const nll = this.alloc("f64", [rows]), base_nll = this.alloc("f64", [rows]);
    const kl = this.alloc("f64", [rows]), agree = this.alloc("u8", [rows]);
    const args = { base, other, targets, rows, vocab, nll, base_nll, kl, agree };
    this.context.call("tkf_logits_compare", args);
    return {
      nll: this.#take(nll) as Float64Array<ArrayBuffer>,
      baseNll: this.#take(base_nll) as Float64Array<ArrayBuffer>,
      kl: this.#take(kl) as Float64Array<ArrayBuffer>,
      agree: this.#take(agree) as Uint8Array<ArrayBuffer>,
    };
  }

  /**
   * Speed of the machine with this backend, measured in about a second: multiply-adds of float32 in FLOP/s (each counts
   * as two), and reading memory in bytes/s. A GPU's throws a `KernelError`.
   */
  measureMachine(): { flopsPerSecond: number; bytesPerSecond: number } {
    const out = new Float64Array(2);
    this.context.call("tkf_machine_measure", { out });
    return { flopsPerSecond: out[0]!, bytesPerSecond: out[1]! };
  }

  #normalise(
    x: Tensor,
    weight: Tensor,
    eps: number,
    out: Tensor,
    delta: Tensor | null = null,
    keep: Tensor | null = null,
  ): void {
    const [rows, cols] = expectTensor("x", x, "f32", [-1, -1]);
    expectTensor("weight", weight, "f32", [cols]);
    expectTensor("out", out, "f32", [rows, cols]);
    this.context.call("tkf_rms_norm_apply", { x, delta, keep, weight, eps, rows, cols, out });
  }

  #copyRows(x: Tensor, out: Tensor, at: number, rows?: Tensor, second?: StoredRows): void {
    const [x_rows, cols] = x.shape as [number, number];
    const picked = { indices: rows ?? null, rows: (rows ?? x).shape[0]! };
    const also = { x2: second?.x ?? null, out2: second?.out ?? null };
    const types = { dtype: x.dtype, out_dtype: out.dtype };
    this.context.call("tkf_rows_copy", { x, out, ...also, x_rows, cols, at, ...picked, ...types });
  }

  #multiply(x: Tensor, products: readonly Product[], how: Arguments): void {
    if (products.length === 0) return;
    const k = products[0]!.weight.shape[1] ?? -1;
    const sized = products.map(({ weight, out }) => {
      const [n] = expectTensor("weight", weight, WEIGHTS, [-1, k]);
      return { weight, out, n, dtype: weight.dtype };
    });
    const [rows] = expectTensor("x", x, "f32", [-1, k]);
    for (const { out, n } of sized) expectTensor("out", out, "f32", [rows, n]);
    const [first = null, second = null, third = null] = sized;
    this.context.call("tkf_linear_apply", { x, first, second, third, rows, k, ...how });
  }

  #applyGate(kind: Gate, gate: Tensor, up: Tensor, out: Tensor): void {
    expectTensor("gate", gate, "f32", [-1, -1]);
    expectTensor("up", up, "f32", gate.shape);
    expectTensor("out", out, "f32", gate.shape);
    this.context.call("tkf_gate_apply", { gate, up, count: countOf(gate.shape), out, kind: GATES[kind] });
  }

  /** The values of a tensor that has no other owner; its memory is given back. */
  #take(tensor: Tensor): HostTensor["data"] {
    const { data } = this.read(tensor);
    this.free(tensor);
    return data;
  }
}
