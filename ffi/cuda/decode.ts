/** The ops of a batch over those that only the CUDA library has. */
import type { BatchCache, BatchOps, BatchRows, BatchStates } from "../../lib/batch_ops.ts";
import { byteSize, type DType } from "../../lib/dtype.ts";
import { type LayerSpec, projectionsOf } from "../../lib/filter/layer.ts";
import { countOf, expectTensor, type HostTensor, type Tensor } from "../../lib/tensor.ts";
import type { Arguments } from "../library/abi.ts";
import { specArgs, statesArgs } from "../filter.ts";
import type { CudaContext } from "./context.ts";
import { bufferOf, type DeviceMemory, type DeviceTensor } from "./memory.ts";

function cacheArgs(cache: BatchCache): Arguments {
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
  return {
    keys,
    values,
    positions,
    counts,
    recent_keys: recentKeys,
    recent_values: recentValues,
    recent_positions: recentPositions,
    capacity,
    batch,
    kv_heads: kvHeads,
    head_dim: headDim,
    dtype: keys.dtype,
    recent,
  };
}

/** Members of a backend that the ops use. */
interface Device {
  readonly memory: DeviceMemory;
  alloc(dtype: DType, shape: readonly number[]): DeviceTensor;
}

export function decodeOps(context: CudaContext, backend: Device): BatchOps {
  const row = (tensor: Tensor, index: number): DeviceTensor => {
    const { dtype, shape, buffer, offset = 0 } = bufferOf(tensor);
    if (!(index >= 0 && index < shape[0]!)) {
      throw new RangeError(`Cannot take row ${index} of a tensor of shape [${shape}]`);
    }
    const own = shape.slice(1);
    return { dtype, shape: own, buffer, offset: offset + index * byteSize(dtype, countOf(own)) };
  };
  return {
    row,

    rows(tensor, from, count) {
      const { dtype, shape, buffer, offset = 0 } = bufferOf(tensor), own = shape.slice(1);
      if (!(from >= 0 && count >= 0 && from + count <= shape[0]!)) {
        throw new RangeError(`Cannot take ${count} rows from ${from} on: found ${shape[0]} rows`);
      }
      const first = offset + from * byteSize(dtype, countOf(own));
      return { dtype, shape: [count, ...own], buffer, offset: first };
    },

    kvFilterSigns(spec: LayerSpec): Tensor {
      const { count } = projectionsOf(spec), signs = backend.alloc("f32", [count, spec.hiddenSize]);
      if (count > 0) context.call("tkf_filter_signs", { spec: specArgs(spec, 0), signs });
      return signs;
    },

    kvFilterStep(states: BatchStates | undefined, cache, rows: BatchRows, cacheSkipped, decisions) {
      const { filterKeys, keys, values, residual, normed, queries, positions } = rows;
      const { keep, kept, keptCount, columns } = decisions, [batch, , ...heads] = cache.keys.shape;
      for (const [name, tensor] of Object.entries({ filterKeys, keys, values })) {
        expectTensor(name, tensor, "f32", [batch!, ...heads]);
      }
      context.call("tkf_filter_step", {
        spec: states === undefined ? null : specArgs(states.spec, queries?.shape[1] ?? 0),
        states: states === undefined ? null : statesArgs(states, states.signs),
        cache: cacheArgs(cache),
        decisions: { keep, kept, kept_count: keptCount, columns: columns ?? null },
        filter_keys: filterKeys,
        keys,
        values,
        residual,
        normed,
        queries: queries ?? null,
        positions,
        cache_skipped: cacheSkipped,
        filtered: states !== undefined,
      });
    },

    kvKeyStep({ states, ends, keep, columns }, cache, { filterKeys, values, positions }) {
      const { spec } = states;
      expectTensor("ends", ends, "i32", cache.positions.shape);
      expectTensor("filterKeys", filterKeys, "f32", [cache.keys.shape[0]!, spec.numKvHeads, spec.headDim]);
      expectTensor("values", values, "f32", filterKeys.shape);
      context.call("tkf_key_step", {
        spec: specArgs(spec, 0),
        states: statesArgs(states),
        cache: cacheArgs(cache),
        filter_keys: filterKeys,
        values,
        positions,
        ends,
        keep,
        columns: columns ?? null,
        recent: spec.recent,
      });
    },

    kvFilterObserveBatch(states, decisions, output, residual) {
      const batch = output.shape[0]!, { spec, signs } = states;
      expectTensor("output", output, "f32", [batch, spec.hiddenSize]);
      expectTensor("residual", residual, "f32", output.shape);
      const args = { spec: specArgs(spec, 0), states: statesArgs(states, signs), keep: decisions.keep };
      context.call("tkf_filter_observe_batch", { ...args, batch, output, residual });
    },

    attentionDecode(cache, queries, positions, decisions, scale, out, window = 0, more = {}) {
      const { kvPlaces, changes } = more, numKvHeads = cache.keys.shape[2]!;
      const [, heads] = expectTensor("queries", queries, "f32", [-1, -1, -1]), { keep } = decisions;
      expectTensor("out", out, "f32", queries.shape);
      const [, changeRows, changeKeys] = changes
        ? expectTensor("changes", changes.out, "f64", [queries.shape[0]!, -1, -1])
        : [];
      context.call("tkf_attention_decode", {
        cache: cacheArgs(cache),
        queries,
        out,
        positions,
        keep,
        kv_places: kvPlaces?.places ?? null,
        changes: changes?.out ?? null,
        head_weights: changes?.headWeights ?? null,
        first: changes?.first ?? null,
        heads,
        query_kv_heads: kvPlaces?.of ?? numKvHeads,
        window,
        change_rows: changeRows ?? 0,
        change_keys: changeKeys ?? 0,
        change_distance: changes?.distance ?? 0,
        scale,
      });
    },

    advance(positions) {
      context.call("tkf_positions_advance", { positions, batch: positions.shape[0]! });
    },

    argmax(logits, ids) {
      const [rows, vocab] = expectTensor("logits", logits, "f32", [-1, -1]);
      expectTensor("ids", ids, "i32", [rows]);
      context.call("tkf_logits_argmax", { logits, ids, rows, vocab });
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
