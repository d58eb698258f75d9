/** The ops of a batch over the functions of `tokenfilter_cuda.h`: tensors packed into its structs. */
import type { Backend } from "../../lib/backend.ts";
import type { BatchCache, BatchDecisions, BatchOps, BatchRows, BatchStates } from "../../lib/batch_ops.ts";
import { byteSize, DTYPES } from "../../lib/dtype.ts";
import { type LayerSpec, projectionsOf } from "../../lib/filter/layer.ts";
import { countOf, expectTensor, type HostTensor, type Tensor } from "../../lib/tensor.ts";
import { packSpec, SPEC_BYTES } from "../filter.ts";
import { WEIGHTS } from "../native_backend.ts";
import { setInts } from "../symbols.ts";
import type { CudaBackend, DeviceTensor } from "./backend.ts";
import type { CudaContext } from "./context.ts";
import { addressAt } from "./memory.ts";

/** Bytes of a `tkf_buffer`: address and length. */
const BUFFER_BYTES = 16;

/** A struct that begins with buffers, followed by numbers of its own. */
function packStruct(tensors: readonly (Tensor | undefined)[], more: number): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(BUFFER_BYTES * tensors.length + more));
  for (const [i, tensor] of tensors.entries()) {
    if (tensor === undefined) continue;
    const { address, bytes } = placeOf(tensor);
    view.setBigUint64(BUFFER_BYTES * i, address, true);
    view.setBigUint64(BUFFER_BYTES * i + 8, BigInt(bytes), true);
  }
  return view;
}

/** Address and bytes of a tensor; 0 and 0 where it is empty. */
function placeOf(tensor: Tensor): { address: bigint; bytes: number } {
  const { buffer, offset = 0 } = tensor as DeviceTensor;
  if (buffer === undefined) {
    throw new TypeError("Cannot use a tensor of this process on a device: upload it with its backend");
  }
  const bytes = byteSize(tensor.dtype, countOf(tensor.shape));
  if (bytes === 0) return { address: 0n, bytes: 0 };
  return { address: BigInt(Deno.UnsafePointer.value(addressAt(buffer.address, offset))), bytes };
}

function packCache(cache: BatchCache): DataView<ArrayBuffer> {
  const { keys, values, positions, counts, recentKeys, recentValues, recentPositions } = cache;
  const [batch, capacity, kvHeads, headDim] = keys.shape as readonly [number, number, number, number];
  const recent = recentKeys.shape[1]!;
  expectTensor("keys", keys, ["f32", "f16", "bf16"], [-1, -1, -1, -1]);
  expectTensor("values", values, keys.dtype, keys.shape);
  expectTensor("positions", positions, "i32", [batch, capacity]);
  expectTensor("counts", counts, "i32", [batch]);
  expectTensor("recentKeys", recentKeys, keys.dtype, [batch, recent, kvHeads, headDim]);
  expectTensor("recentValues", recentValues, keys.dtype, recentKeys.shape);
  expectTensor("recentPositions", recentPositions, "i32", [batch, recent]);
  const buffers = [keys, values, positions, counts, undefined, recentKeys, recentValues, recentPositions];
  const view = packStruct(buffers, 32);
  view.setBigInt64(128, BigInt(capacity), true);
  setInts(view, 136, { batch, pageRows: 0, kvHeads, headDim, dtype: DTYPES[keys.dtype].code, recent });
  return view;
}

function packStates(states: BatchStates): DataView<ArrayBuffer> {
  const { anchorK, anchorV, numbers, scores, learned, signs } = states;
  return packStruct([anchorK, anchorV, numbers, scores, learned, signs], 0);
}

function packDecisions({ keep, kept, keptCount, columns }: BatchDecisions): DataView<ArrayBuffer> {
  return packStruct([keep, kept, keptCount, columns], 0);
}

/** Width of the queries that a spec reads; 0 where it reads none. */
const queriesSize = (queries: Tensor | undefined) => queries?.shape[1] ?? 0;

/** The ops of a batch, and `linear`, `rope` and `add` for its kept sequences. */
export type DecodeOps = BatchOps & Pick<Backend, "linear" | "rope" | "add">;

/** Makes the ops for a backend. */
export function decodeOps(context: CudaContext, backend: CudaBackend): DecodeOps {
  const { symbols } = context;
  const run = (op: string, call: () => number) => context.run(op, call);
  const at = (tensor: Tensor): readonly [Deno.PointerValue, number] => {
    const { address, bytes } = placeOf(tensor);
    return [address === 0n ? null : Deno.UnsafePointer.create(address), bytes];
  };
  const listOf = (decisions: BatchDecisions | undefined) =>
    decisions === undefined
      ? [null, 0, null, 0] as const
      : [...at(decisions.kept), ...at(decisions.keptCount)] as const;
  const row = (tensor: Tensor, index: number): DeviceTensor => {
    const { dtype, shape, buffer, offset = 0 } = tensor as DeviceTensor;
    if (!(index >= 0 && index < shape[0]!)) {
      throw new RangeError(`Cannot take row ${index} of a tensor of shape [${shape}]`);
    }
    const own = shape.slice(1);
    return { dtype, shape: own, buffer, offset: offset + index * byteSize(dtype, countOf(own)) };
  };
  return {
    row,

    kvFilterSigns(spec: LayerSpec): Tensor {
      const { count } = projectionsOf(spec), out = backend.alloc("f32", [count, spec.hiddenSize]);
      if (count > 0) {
        run(
          "tkf_filter_signs",
          () => symbols.tkf_filter_signs(context.pointer, packSpec(spec, 0), SPEC_BYTES, ...at(out)),
        );
      }
      return out;
    },

    kvFilterStep(states, cache, rows: BatchRows, cacheSkipped, decisions) {
      const { filterKeys, keys, values, residual, normed, queries, positions } = rows;
      const packed = packStruct(
        [filterKeys, keys, values, residual, normed, queries, positions, undefined],
        8,
      );
      setInts(packed, 128, { kvDtype: DTYPES[keys.dtype].code, cacheSkipped: cacheSkipped ? 1 : 0 });
      const spec = states === undefined ? null : packSpec(states.spec, queriesSize(queries));
      const own = states === undefined ? null : packStates(states);
      const c = packCache(cache), d = packDecisions(decisions);
      run("tkf_filter_step", () =>
        symbols.tkf_filter_step(
          context.pointer,
          spec,
          spec?.byteLength ?? 0,
          own,
          own?.byteLength ?? 0,
          c,
          c.byteLength,
          packed,
          packed.byteLength,
          d,
          d.byteLength,
        ));
    },

    kvFilterObserveBatch(states, decisions, output, residual) {
      const s = packStates(states), d = packDecisions(decisions), batch = output.shape[0]!;
      expectTensor("output", output, "f32", [batch, states.spec.hiddenSize]);
      expectTensor("residual", residual, "f32", output.shape);
      const o = at(output), r = at(residual), spec = packSpec(states.spec, 0);
      run("tkf_filter_observe_batch", () =>
        symbols.tkf_filter_observe_batch(
          ...[context.pointer, spec, SPEC_BYTES, s, s.byteLength, batch, d, d.byteLength] as const,
          ...o,
          ...r,
        ));
    },

    attentionDecode(cache, queries, positions, decisions, scale, out) {
      expectTensor("queries", queries, "f32", [-1, -1, -1]);
      expectTensor("out", out, "f32", queries.shape);
      const rows = packStruct([queries, out, positions, decisions.keep], 16);
      setInts(rows, 64, { numHeads: queries.shape[1]!, window: 0 });
      rows.setFloat64(72, scale, true);
      const c = packCache(cache);
      run(
        "tkf_attention_decode",
        () => symbols.tkf_attention_decode(context.pointer, c, c.byteLength, rows, rows.byteLength),
      );
    },

    linear(x, weight, out, decisions) {
      expectTensor("weight", weight, WEIGHTS, [-1, -1]);
      const [n, k] = weight.shape as readonly [number, number];
      expectTensor("x", x, "f32", [-1, k]);
      const batch = x.shape[0]!;
      expectTensor("out", out, "f32", [batch, n]);
      const code = DTYPES[weight.dtype].code, list = listOf(decisions);
      const a = at(x), w = at(weight), o = at(out);
      run(
        "tkf_linear_rows",
        () => symbols.tkf_linear_rows(context.pointer, ...a, code, ...w, batch, n, k, ...list, ...o),
      );
    },

    rope(x, positions, theta, decisions) {
      expectTensor("x", x, "f32", [-1, -1, -1]);
      const [batch, heads, headDim] = x.shape as readonly [number, number, number];
      expectTensor("positions", positions, "i32", [batch]);
      const a = at(x), p = at(positions), list = listOf(decisions);
      run(
        "tkf_rope_kept",
        () => symbols.tkf_rope_kept(context.pointer, ...a, ...p, theta, batch, heads, headDim, ...list),
      );
    },

    add(x, delta, decisions) {
      expectTensor("x", x, "f32", [-1, -1]);
      const [batch, cols] = x.shape as readonly [number, number];
      expectTensor("delta", delta, "f32", x.shape);
      const a = at(x), d = at(delta), list = listOf(decisions);
      run(
        "tkf_rows_add_kept",
        () => symbols.tkf_rows_add_kept(context.pointer, ...a, ...d, batch, cols, ...list),
      );
    },

    advance(positions) {
      const p = at(positions), batch = positions.shape[0]!;
      run("tkf_positions_advance", () => symbols.tkf_positions_advance(context.pointer, ...p, batch));
    },

    argmax(logits, ids) {
      expectTensor("logits", logits, "f32", [-1, -1]);
      const [rows, vocab] = logits.shape as readonly [number, number];
      expectTensor("ids", ids, "i32", [rows]);
      const l = at(logits), i = at(ids);
      run("tkf_logits_argmax", () => symbols.tkf_logits_argmax(context.pointer, ...l, rows, vocab, ...i));
    },

    write(to: Tensor, values: HostTensor) {
      expectTensor("values", values, to.dtype, to.shape);
      const { buffer, offset = 0 } = to as DeviceTensor;
      backend.memory.write(buffer, values.data, offset);
    },

    copyRows(from, fromRow, to, toRow, count) {
      expectTensor("to", to, from.dtype, [-1, from.shape[1]!]);
      if (count === 0) return;
      const rowBytes = byteSize(from.dtype, from.shape[1]!);
      const source = from as DeviceTensor, target = to as DeviceTensor;
      backend.memory.copy(source.buffer, target.buffer, count * rowBytes, {
        from: (source.offset ?? 0) + fromRow * rowBytes,
        to: (target.offset ?? 0) + toRow * rowBytes,
      });
    },
  };
}
