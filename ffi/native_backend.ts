/** The ops of {@linkcode Backend} over the C ABI, wherever its tensors lie. */
import type { AttentionArgs, Backend, LogitComparison } from "../lib/backend.ts";
import type { BatchDecisions, BatchOps } from "../lib/batch_ops.ts";
import { type DType, DTYPES } from "../lib/dtype.ts";
import { countOf, expectTensor, type HostTensor, type Tensor } from "../lib/tensor.ts";
import { callAttention } from "./attention.ts";
import type { KernelContext } from "./context.ts";
import type { Buffer } from "./symbols.ts";

/** Element types that `linear` and `embedding` take as weights. */
export const WEIGHTS: readonly DType[] = (Object.keys(DTYPES) as DType[]).filter((dtype) =>
  DTYPES[dtype].code < 100
);
const FLOATS: readonly DType[] = ["f32", "f16", "bf16"];

/**
 * What the backends of both libraries share: all methods check shapes and types first (`TypeError`, `RangeError`), and
 * throw a {@linkcode KernelError} where the library refuses a value.
 */
export abstract class NativeBackend implements Backend, Disposable {
  abstract readonly name: string;
  abstract readonly description: string;
  abstract readonly kvFilterScan: Backend["kvFilterScan"];
  abstract readonly kvFilterObserve: Backend["kvFilterObserve"];
  /** The ops of {@linkcode BatchOps}. */
  protected abstract readonly batch: BatchOps;
  abstract add(x: Tensor, delta: Tensor, only?: BatchDecisions): void;
  abstract alloc(dtype: DType, shape: readonly number[]): Tensor;
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

  /** Gives back what the library holds: threads, or memory of the device. Any use afterwards throws an `Error`. */
  [Symbol.dispose](): void {
    this.context[Symbol.dispose]();
  }

  /**
   * Where a tensor lies, and how many bytes it has. @throws {TypeError} If it is of another backend.
   * @internal
   */
  protected abstract at(tensor: Tensor): Buffer;

  /** See {@linkcode Backend.kvFilterSigns}. */
  get kvFilterSigns(): BatchOps["kvFilterSigns"] {
    return this.batch.kvFilterSigns;
  }

  /** See {@linkcode Backend.kvFilterStep}. */
  get kvFilterStep(): BatchOps["kvFilterStep"] {
    return this.batch.kvFilterStep;
  }

  /** See {@linkcode Backend.kvFilterObserveBatch}. */
  get kvFilterObserveBatch(): BatchOps["kvFilterObserveBatch"] {
    return this.batch.kvFilterObserveBatch;
  }

  /** See {@linkcode Backend.attentionDecode}. */
  get attentionDecode(): BatchOps["attentionDecode"] {
    return this.batch.attentionDecode;
  }

  /** See {@linkcode Backend.advance}. */
  get advance(): BatchOps["advance"] {
    return this.batch.advance;
  }

  /** See {@linkcode Backend.argmax}. */
  get argmax(): BatchOps["argmax"] {
    return this.batch.argmax;
  }

  /** See {@linkcode Backend.row}. */
  get row(): BatchOps["row"] {
    return this.batch.row;
  }

  /** See {@linkcode Backend.write}. */
  get write(): BatchOps["write"] {
    return this.batch.write;
  }

  /** See {@linkcode Backend.copyRows}. */
  get copyRows(): BatchOps["copyRows"] {
    return this.batch.copyRows;
  }

  /** Makes a call and throws where its status is not 0. */
  protected run(op: string, call: () => number): void {
    const status = call();
    if (status !== 0) this.context.check(op, status);
  }

  /** `values` of any weight type as f32, in the same shape. */
  dequantize(values: Tensor): Tensor {
    expectTensor("values", values, WEIGHTS, values.shape);
    const out = this.alloc("f32", values.shape);
    const { symbols, pointer } = this.context;
    const code = DTYPES[values.dtype].code, count = countOf(values.shape);
    this.run(
      "tkf_tensor_dequantize",
      () => symbols.tkf_tensor_dequantize(pointer, code, ...this.at(values), count, ...this.at(out)),
    );
    return out;
  }

  embedding(table: Tensor, ids: Tensor, out: Tensor): void {
    expectTensor("table", table, WEIGHTS, [-1, -1]);
    const [vocab, cols] = table.shape;
    expectTensor("ids", ids, "i32", [-1]);
    const rows = ids.shape[0];
    expectTensor("out", out, "f32", [rows, cols]);
    const { symbols, pointer } = this.context;
    const code = DTYPES[table.dtype].code;
    const t = this.at(table), i = this.at(ids), o = this.at(out);
    this.run(
      "tkf_embedding_gather",
      () => symbols.tkf_embedding_gather(pointer, code, ...t, vocab, cols, ...i, rows, ...o),
    );
  }

  rmsNorm(x: Tensor, weight: Tensor, eps: number, out: Tensor): void {
    expectTensor("x", x, "f32", [-1, -1]);
    const [rows, cols] = x.shape;
    expectTensor("weight", weight, "f32", [cols]);
    expectTensor("out", out, "f32", [rows, cols]);
    const { symbols, pointer } = this.context;
    const a = this.at(x), w = this.at(weight), o = this.at(out);
    this.run(
      "tkf_rms_norm_apply",
      () => symbols.tkf_rms_norm_apply(pointer, ...a, ...w, eps, rows, cols, ...o),
    );
  }

  linear(x: Tensor, weight: Tensor, out: Tensor): void {
    expectTensor("weight", weight, WEIGHTS, [-1, -1]);
    const [n, k] = weight.shape;
    expectTensor("x", x, "f32", [-1, k]);
    const rows = x.shape[0];
    expectTensor("out", out, "f32", [rows, n]);
    const { symbols, pointer } = this.context;
    const code = DTYPES[weight.dtype].code;
    const a = this.at(x), w = this.at(weight), o = this.at(out);
    this.run(
      "tkf_linear_apply",
      () => symbols.tkf_linear_apply(pointer, ...a, code, ...w, rows, n, k, ...o),
    );
  }

  rope(x: Tensor, positions: Tensor, theta: number): void {
    expectTensor("x", x, "f32", [-1, -1, -1]);
    const [rows, heads, headDim] = x.shape;
    expectTensor("positions", positions, "i32", [rows]);
    const { symbols, pointer } = this.context;
    const a = this.at(x), p = this.at(positions);
    this.run(
      "tkf_rope_apply",
      () => symbols.tkf_rope_apply(pointer, ...a, ...p, theta, rows, heads, headDim),
    );
  }

  swiglu(gate: Tensor, up: Tensor, out: Tensor): void {
    expectTensor("gate", gate, "f32", [-1, -1]);
    expectTensor("up", up, "f32", gate.shape);
    expectTensor("out", out, "f32", gate.shape);
    const { symbols, pointer } = this.context;
    const g = this.at(gate), u = this.at(up), o = this.at(out), count = countOf(gate.shape);
    this.run("tkf_swiglu_apply", () => symbols.tkf_swiglu_apply(pointer, ...g, ...u, count, ...o));
  }

  gatherRows(x: Tensor, rows: Tensor, out: Tensor): void {
    expectTensor("x", x, FLOATS, [-1, -1]);
    const [count, cols] = x.shape;
    expectTensor("rows", rows, "i32", [-1]);
    const picked = rows.shape[0];
    expectTensor("out", out, ["f32", x.dtype], [picked, cols]);
    const { symbols, pointer } = this.context;
    const from = DTYPES[x.dtype].code, to = DTYPES[out.dtype].code;
    const a = this.at(x), r = this.at(rows), o = this.at(out);
    this.run(
      "tkf_rows_gather",
      () => symbols.tkf_rows_gather(pointer, from, ...a, count, cols, ...r, picked, to, ...o),
    );
  }

  scatterAddRows(x: Tensor, rows: Tensor, delta: Tensor): void {
    expectTensor("x", x, "f32", [-1, -1]);
    const [count, cols] = x.shape;
    expectTensor("rows", rows, "i32", [-1]);
    const picked = rows.shape[0];
    expectTensor("delta", delta, "f32", [picked, cols]);
    const { symbols, pointer } = this.context;
    const a = this.at(x), r = this.at(rows), d = this.at(delta);
    this.run(
      "tkf_rows_scatter_add",
      () => symbols.tkf_rows_scatter_add(pointer, ...a, count, cols, ...r, picked, ...d),
    );
  }

  storeRows(x: Tensor, out: Tensor, at: number): void {
    expectTensor("x", x, "f32", [-1, -1]);
    const [rows, cols] = x.shape;
    expectTensor("out", out, FLOATS, [-1, cols]);
    if (!Number.isSafeInteger(at) || at < 0 || at + rows > out.shape[0]) {
      throw new RangeError(
        `Cannot store ${rows} rows at ${at}: expected them to fit into the ${out.shape[0]} of "out"`,
      );
    }
    const { symbols, pointer } = this.context;
    const code = DTYPES[out.dtype].code, a = this.at(x), o = this.at(out);
    this.run("tkf_rows_store", () => symbols.tkf_rows_store(pointer, ...a, rows, cols, code, ...o, at));
  }

  rowNorms(x: Tensor): Float64Array<ArrayBuffer> {
    expectTensor("x", x, "f32", [-1, -1]);
    const [rows, cols] = x.shape;
    const norms = this.alloc("f64", [rows]);
    const { symbols, pointer } = this.context;
    const a = this.at(x), o = this.at(norms);
    this.run("tkf_rows_norm", () => symbols.tkf_rows_norm(pointer, ...a, rows, cols, ...o));
    return this.#doubles(norms);
  }

  attention(args: AttentionArgs): void {
    callAttention(
      this.context,
      args,
      (tensor) => this.at(tensor),
      (call) => this.run("tkf_attention_filtered", call),
    );
  }

  nll(logits: Tensor, targets: Tensor): Float64Array<ArrayBuffer> {
    expectTensor("logits", logits, "f32", [-1, -1]);
    const [rows, vocab] = logits.shape;
    expectTensor("targets", targets, "i32", [rows]);
    const losses = this.alloc("f64", [rows]);
    const { symbols, pointer } = this.context;
    const l = this.at(logits), t = this.at(targets), o = this.at(losses);
    this.run("tkf_nll_compute", () => symbols.tkf_nll_compute(pointer, ...l, ...t, rows, vocab, ...o));
    return this.#doubles(losses);
  }

  compareLogits(base: Tensor, other: Tensor, targets: Tensor): LogitComparison {
    expectTensor("base", base, "f32", [-1, -1]);
    const [rows, vocab] = base.shape;
    expectTensor("other", other, "f32", [rows, vocab]);
    expectTensor("targets", targets, "i32", [rows]);
    const nll = this.alloc("f64", [rows]), baseNll = this.alloc("f64", [rows]);
    const kl = this.alloc("f64", [rows]), agree = this.alloc("u8", [rows]);
    const { symbols, pointer } = this.context;
    const p = this.at(base), q = this.at(other), t = this.at(targets);
    const out = [...this.at(nll), ...this.at(baseNll), ...this.at(kl), ...this.at(agree)] as const;
    this.run(
      "tkf_logits_compare",
      () => symbols.tkf_logits_compare(pointer, ...p, ...q, ...t, rows, vocab, ...out),
    );
    return {
      nll: this.#doubles(nll),
      baseNll: this.#doubles(baseNll),
      kl: this.#doubles(kl),
      agree: this.#taken(agree) as Uint8Array<ArrayBuffer>,
    };
  }

  /**
   * What the machine can do with this backend, measured in about a second: multiply-adds of float32 in FLOP/s (each
   * counts as two), and reading memory in bytes/s.
   */
  measureMachine(): { flopsPerSecond: number; bytesPerSecond: number } {
    const out = new Float64Array(2);
    const { symbols, pointer } = this.context;
    this.run("tkf_machine_measure", () => symbols.tkf_machine_measure(pointer, out, out.byteLength));
    return { flopsPerSecond: out[0]!, bytesPerSecond: out[1]! };
  }

  #doubles(tensor: Tensor): Float64Array<ArrayBuffer> {
    return this.#taken(tensor) as Float64Array<ArrayBuffer>;
  }

  /** The values of a tensor that nobody else has; its memory is given back. */
  #taken(tensor: Tensor): HostTensor["data"] {
    const { data } = this.read(tensor);
    this.free(tensor);
    return data;
  }
}
