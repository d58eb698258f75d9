/** The backend that computes with the native CPU library, on tensors in this process's memory. */
import type { AttentionArgs, Backend, LogitComparison } from "../lib/backend.ts";
import { type DType, DTYPES } from "../lib/dtype.ts";
import {
  countOf,
  emptyTensor,
  expectTensor,
  hostData,
  type HostTensor,
  resizedRows,
  type Tensor,
  type TensorData,
} from "../lib/tensor.ts";
import { attention } from "./attention.ts";
import type { NativeContext } from "./context.ts";
import { kvFilterObserve, kvFilterScan } from "./filter.ts";

/** Element types that `linear` and `embedding` take as weights. */
const WEIGHTS = (Object.keys(DTYPES) as DType[]).filter((dtype) => DTYPES[dtype].code < 100);
const FLOATS: readonly DType[] = ["f32", "f16", "bf16"];

/** A host tensor's values as FFI takes them. */
function dataOf(tensor: Tensor): TensorData & BufferSource {
  return hostData(tensor) as TensorData & BufferSource;
}

/**
 * {@linkcode Backend} over the native CPU library; make one with {@linkcode openCpu}. All methods check shapes and
 * types first (`TypeError`, `RangeError`), and throw a {@linkcode KernelError} where the library refuses a value.
 */
export class CpuBackend implements Backend {
  readonly name = "cpu";
  readonly #context: NativeContext;
  readonly #note: string;

  /** Use {@linkcode openCpu}. `note` is added to the description. */
  constructor(context: NativeContext, note = "") {
    this.#context = context;
    this.#note = note;
    this.kvFilterScan = kvFilterScan(context);
    this.kvFilterObserve = kvFilterObserve(context);
  }

  get description(): string {
    return `cpu: ${this.#context.description}${this.#note && ` (${this.#note})`}`;
  }

  readonly kvFilterScan: Backend["kvFilterScan"];
  readonly kvFilterObserve: Backend["kvFilterObserve"];

  alloc(dtype: DType, shape: readonly number[]): HostTensor {
    return emptyTensor(dtype, shape);
  }

  upload(tensor: HostTensor): HostTensor {
    return tensor;
  }

  resizeRows(tensor: Tensor, rows: number): HostTensor {
    return resizedRows(this.read(tensor), rows);
  }

  read(tensor: Tensor): HostTensor {
    return { dtype: tensor.dtype, shape: tensor.shape, data: hostData(tensor) };
  }

  /** `values` of any weight type as f32, in the same shape. */
  dequantize(values: Tensor): HostTensor {
    expectTensor("values", values, WEIGHTS, values.shape);
    const out = emptyTensor("f32", values.shape);
    const count = countOf(values.shape);
    const v = dataOf(values), o = dataOf(out);
    const { symbols, pointer } = this.#context;
    this.#check(
      "tkf_tensor_dequantize",
      symbols.tkf_tensor_dequantize(
        pointer,
        DTYPES[values.dtype].code,
        v,
        v.byteLength,
        count,
        o,
        o.byteLength,
      ),
    );
    return out;
  }

  embedding(table: Tensor, ids: Tensor, out: Tensor): void {
    expectTensor("table", table, WEIGHTS, [-1, -1]);
    const [vocabSize, hiddenSize] = table.shape;
    expectTensor("ids", ids, "i32", [-1]);
    const rows = ids.shape[0];
    expectTensor("out", out, "f32", [rows, hiddenSize]);
    const t = dataOf(table), i = dataOf(ids), o = dataOf(out);
    const { symbols, pointer } = this.#context;
    this.#check(
      "tkf_embedding_gather",
      symbols.tkf_embedding_gather(
        pointer,
        DTYPES[table.dtype].code,
        t,
        t.byteLength,
        vocabSize,
        hiddenSize,
        i,
        i.byteLength,
        rows,
        o,
        o.byteLength,
      ),
    );
  }

  rmsNorm(x: Tensor, weight: Tensor, eps: number, out: Tensor): void {
    expectTensor("x", x, "f32", [-1, -1]);
    const [rows, cols] = x.shape;
    expectTensor("weight", weight, "f32", [cols]);
    expectTensor("out", out, "f32", [rows, cols]);
    const a = dataOf(x), w = dataOf(weight), o = dataOf(out);
    const { symbols, pointer } = this.#context;
    this.#check(
      "tkf_rms_norm_apply",
      symbols.tkf_rms_norm_apply(
        pointer,
        a,
        a.byteLength,
        w,
        w.byteLength,
        eps,
        rows,
        cols,
        o,
        o.byteLength,
      ),
    );
  }

  linear(x: Tensor, weight: Tensor, out: Tensor): void {
    expectTensor("weight", weight, WEIGHTS, [-1, -1]);
    const [n, k] = weight.shape;
    expectTensor("x", x, "f32", [-1, k]);
    const rows = x.shape[0];
    expectTensor("out", out, "f32", [rows, n]);
    const a = dataOf(x), w = dataOf(weight), o = dataOf(out);
    const { symbols, pointer } = this.#context;
    this.#check(
      "tkf_linear_apply",
      symbols.tkf_linear_apply(
        pointer,
        a,
        a.byteLength,
        DTYPES[weight.dtype].code,
        w,
        w.byteLength,
        rows,
        n,
        k,
        o,
        o.byteLength,
      ),
    );
  }

  rope(x: Tensor, positions: Tensor, theta: number): void {
    expectTensor("x", x, "f32", [-1, -1, -1]);
    const [rows, heads, headDim] = x.shape;
    expectTensor("positions", positions, "i32", [rows]);
    const a = dataOf(x), p = dataOf(positions);
    const { symbols, pointer } = this.#context;
    this.#check(
      "tkf_rope_apply",
      symbols.tkf_rope_apply(pointer, a, a.byteLength, p, p.byteLength, theta, rows, heads, headDim),
    );
  }

  swiglu(gate: Tensor, up: Tensor, out: Tensor): void {
    expectTensor("gate", gate, "f32", [-1, -1]);
    expectTensor("up", up, "f32", gate.shape);
    expectTensor("out", out, "f32", gate.shape);
    const g = dataOf(gate), u = dataOf(up), o = dataOf(out);
    const { symbols, pointer } = this.#context;
    this.#check(
      "tkf_swiglu_apply",
      symbols.tkf_swiglu_apply(
        pointer,
        g,
        g.byteLength,
        u,
        u.byteLength,
        countOf(gate.shape),
        o,
        o.byteLength,
      ),
    );
  }

  gatherRows(x: Tensor, rows: Tensor, out: Tensor): void {
    expectTensor("x", x, FLOATS, [-1, -1]);
    const [count, cols] = x.shape;
    expectTensor("rows", rows, "i32", [-1]);
    const picked = rows.shape[0];
    expectTensor("out", out, ["f32", x.dtype], [picked, cols]);
    const a = dataOf(x), r = dataOf(rows), o = dataOf(out);
    const { symbols, pointer } = this.#context;
    this.#check(
      "tkf_rows_gather",
      symbols.tkf_rows_gather(
        pointer,
        DTYPES[x.dtype].code,
        a,
        a.byteLength,
        count,
        cols,
        r,
        r.byteLength,
        picked,
        DTYPES[out.dtype].code,
        o,
        o.byteLength,
      ),
    );
  }

  scatterAddRows(x: Tensor, rows: Tensor, delta: Tensor): void {
    expectTensor("x", x, "f32", [-1, -1]);
    const [count, cols] = x.shape;
    expectTensor("rows", rows, "i32", [-1]);
    const picked = rows.shape[0];
    expectTensor("delta", delta, "f32", [picked, cols]);
    const a = dataOf(x), r = dataOf(rows), d = dataOf(delta);
    const { symbols, pointer } = this.#context;
    this.#check(
      "tkf_rows_scatter_add",
      symbols.tkf_rows_scatter_add(
        pointer,
        a,
        a.byteLength,
        count,
        cols,
        r,
        r.byteLength,
        picked,
        d,
        d.byteLength,
      ),
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
    const a = dataOf(x), o = dataOf(out);
    const { symbols, pointer } = this.#context;
    this.#check(
      "tkf_rows_store",
      symbols.tkf_rows_store(
        pointer,
        a,
        a.byteLength,
        rows,
        cols,
        DTYPES[out.dtype].code,
        o,
        o.byteLength,
        at,
      ),
    );
  }

  rowNorms(x: Tensor): Float64Array<ArrayBuffer> {
    expectTensor("x", x, "f32", [-1, -1]);
    const [rows, cols] = x.shape;
    const norms = new Float64Array(rows);
    const a = dataOf(x);
    const { symbols, pointer } = this.#context;
    this.#check(
      "tkf_rows_norm",
      symbols.tkf_rows_norm(pointer, a, a.byteLength, rows, cols, norms, norms.byteLength),
    );
    return norms;
  }

  attention(args: AttentionArgs): void {
    attention(this.#context, args);
  }

  nll(logits: Tensor, targets: Tensor): Float64Array<ArrayBuffer> {
    expectTensor("logits", logits, "f32", [-1, -1]);
    const [rows, vocabSize] = logits.shape;
    expectTensor("targets", targets, "i32", [rows]);
    const losses = new Float64Array(rows);
    const l = dataOf(logits), t = dataOf(targets);
    const { symbols, pointer } = this.#context;
    this.#check(
      "tkf_nll_compute",
      symbols.tkf_nll_compute(
        pointer,
        l,
        l.byteLength,
        t,
        t.byteLength,
        rows,
        vocabSize,
        losses,
        losses.byteLength,
      ),
    );
    return losses;
  }

  compareLogits(base: Tensor, other: Tensor, targets: Tensor): LogitComparison {
    expectTensor("base", base, "f32", [-1, -1]);
    const [rows, vocabSize] = base.shape;
    expectTensor("other", other, "f32", [rows, vocabSize]);
    expectTensor("targets", targets, "i32", [rows]);
    const nll = new Float64Array(rows), baseNll = new Float64Array(rows), kl = new Float64Array(rows);
    const agree = new Uint8Array(rows);
    const p = dataOf(base), q = dataOf(other), t = dataOf(targets);
    const { symbols, pointer } = this.#context;
    this.#check(
      "tkf_logits_compare",
      symbols.tkf_logits_compare(
        pointer,
        p,
        p.byteLength,
        q,
        q.byteLength,
        t,
        t.byteLength,
        rows,
        vocabSize,
        nll,
        nll.byteLength,
        baseNll,
        baseNll.byteLength,
        kl,
        kl.byteLength,
        agree,
        agree.byteLength,
      ),
    );
    return { nll, baseNll, kl, agree };
  }

  /**
   * What the machine can do with this backend's level and threads, measured in about a second: multiply-adds of
   * float32 in FLOP/s (each counts as two), and reading memory in bytes/s.
   */
  measureMachine(): { flopsPerSecond: number; bytesPerSecond: number } {
    const out = new Float64Array(2);
    const { symbols, pointer } = this.#context;
    this.#check("tkf_machine_measure", symbols.tkf_machine_measure(pointer, out, out.byteLength));
    return { flopsPerSecond: out[0]!, bytesPerSecond: out[1]! };
  }

  #check(op: string, status: number): void {
    if (status !== 0) this.#context.check(op, status);
  }
}
