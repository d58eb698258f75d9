/**
 * The ops of a decode step of a batch, in this process's memory: every sequence by the ops of one, which is their
 * definition. A backend whose tensors lie in this process can take them as they are.
 */
import type { Backend } from "../backend.ts";
import type { BatchCache, BatchDecisions, BatchOps, BatchRows, BatchStates } from "../batch_ops.ts";
import { beginsBlock, judgedAt, NEVER } from "../filter/blocks.ts";
import {
  createScanOutput,
  type LayerSpec,
  type LayerState,
  projectionsOf,
  SCAN_COLUMNS,
} from "../filter/layer.ts";
import { outcomeOf } from "../filter/outcome.ts";
import { projectionSigns } from "../math/random.ts";
import {
  countOf,
  emptyTensor,
  expectTensor,
  f32Data,
  hostData,
  type HostTensor,
  hostTensor,
  rowsOf,
  type Tensor,
  type TensorData,
} from "../tensor.ts";

type SequenceOps = Pick<Backend, "attention" | "kvFilterScan" | "kvFilterObserve" | "rowNorms" | "storeRows">;

/** Runs an op only on the rows of the kept sequences: gathers those of `out` and `inputs`, and scatters `out` back. */
export function onKept(
  only: BatchDecisions,
  out: Tensor,
  inputs: readonly Tensor[],
  apply: (out: HostTensor, ...inputs: HostTensor[]) => void,
): void {
  const slots = keptSlots(only);
  const own = take(out, slots);
  apply(own, ...inputs.map((tensor) => take(tensor, slots)));
  slots.forEach((slot, i) => copyRows(own, i, out, slot, 1));
}

/**
 * The ops of a batch, made of those of a sequence.
 *
 * @throws {RangeError} From its ops, where a cache is full or a row is not in a tensor.
 */
export function batchOps(ops: SequenceOps): BatchOps {
  /** One sequence's decision in a filtered layer, written to row `slot` of the columns. */
  function decide(
    states: BatchStates,
    slot: number,
    rows: BatchRows,
    columns: Float64Array | undefined,
  ): number {
    const one = (tensor: Tensor) => rowsOf(asHost(tensor), slot, slot + 1);
    const { filterKeys, values, residual, normed, queries } = rows;
    const input = {
      keys: one(filterKeys),
      values: one(values),
      residual: one(residual),
      normed: one(normed),
      ...(queries && { queries: one(queries) }),
    };
    const output = createScanOutput(1);
    ops.kvFilterScan(states.spec, stateOf(states, slot), input, 0, 1, output);
    const batch = filterKeys.shape[0]!;
    if (columns !== undefined) {
      SCAN_COLUMNS.forEach((name, i) => columns[i * batch + slot] = output[name][0]!);
    }
    return output.keep[0]!;
  }

  /** Puts one token into a sequence's cache, or into its recent window. */
  function append(cache: BatchCache, slot: number, { keys, values }: BatchRows, at: number, kept: boolean) {
    const store = (from: Tensor, to: Tensor, row: number) =>
      ops.storeRows(asMatrix(rowsOf(asHost(from), slot, slot + 1)), asMatrix(to, 2), row);
    const [, capacity] = cache.positions.shape as [number, number];
    const [, recent] = cache.recentPositions.shape as [number, number];
    if (kept) {
      const counts = hostData(cache.counts);
      if (counts[slot]! >= capacity) {
        throw new RangeError(`Cannot append to slot ${slot}: found its capacity of ${capacity} rows used up`);
      }
      const row = slot * capacity + counts[slot]!++;
      store(keys, cache.keys, row);
      store(values, cache.values, row);
      hostData(cache.positions)[row] = at;
    } else if (recent > 0) {
      const row = slot * recent + at % recent;
      store(keys, cache.recentKeys, row);
      store(values, cache.recentValues, row);
      hostData(cache.recentPositions)[row] = at;
    }
  }

  /** Takes the rows that end at a position out of a sequence's cache. */
  function drop(cache: BatchCache, ends: Int32Array, slot: number, position: number) {
    const [, capacity] = cache.positions.shape as [number, number], counts = hostData(cache.counts);
    const first = slot * capacity, end = first + counts[slot]!, positions = hostData(cache.positions);
    let to = first;
    for (let row = first; row < end; row++) {
      if (ends[row]! <= position) continue;
      if (to < row) {
        for (const part of [cache.keys, cache.values]) {
          copyRows(asMatrix(part, 2), row, asMatrix(part, 2), to, 1);
        }
        positions[to] = positions[row]!;
        ends[to] = ends[row]!;
      }
      to++;
    }
    counts[slot] = to - first;
  }

  return {
    kvFilterSigns(spec: LayerSpec): HostTensor {
      const { layer, hiddenSize } = spec, { seed, count } = projectionsOf(spec);
      const out = emptyTensor("f32", [count, hiddenSize]);
      projectionSigns(seed, layer, hiddenSize, count).forEach((sign, i) =>
        out.data[(i % count) * hiddenSize + Math.floor(i / count)] = sign
      );
      return out;
    },

    kvFilterStep(states, cache, rows, cacheSkipped, decisions): void {
      const keep = hostData(decisions.keep), kept = hostData(decisions.kept);
      const columns = decisions.columns && hostData(decisions.columns) as Float64Array;
      let count = 0;
      for (const [slot, position] of hostData(rows.positions).entries()) {
        const idle = position < 0;
        keep[slot] = idle ? 0 : states === undefined ? 1 : decide(states, slot, rows, columns);
        if (idle) continue;
        append(cache, slot, rows, position, keep[slot] === 1 || cacheSkipped);
        if (keep[slot] === 1) kept[count++] = slot;
      }
      hostData(decisions.keptCount)[0] = count;
    },

    kvKeyStep({ states, ends, keep, columns }, cache, rows): void {
      const stays = hostData(keep), own = hostData(ends) as Int32Array, { spec } = states;
      const [, capacity] = cache.positions.shape as [number, number];
      for (const [slot, position] of hostData(rows.positions).entries()) {
        stays[slot] = 0;
        if (position < 0) continue;
        stays[slot] = decide(states, slot, rows, columns && hostData(columns) as Float64Array);
        const row = slot * capacity + hostData(cache.counts)[slot]! - 1;
        own[row] = stays[slot] === 1 ? NEVER : judgedAt(position, spec);
        if (beginsBlock(position, spec)) drop(cache, own, slot, position);
      }
    },

    kvFilterObserveBatch(states, decisions, output, residual): void {
      const outputNorms = ops.rowNorms(output), residualNorms = ops.rowNorms(residual);
      for (const slot of keptSlots(decisions)) {
        const y = outcomeOf(states.spec, outputNorms[slot]!, residualNorms[slot]!);
        ops.kvFilterObserve(states.spec, stateOf(states, slot), Float64Array.of(y));
      }
    },

    attentionDecode(cache, queries, positions, decisions, scale, out, window = 0, more = {}): void {
      const { kvPlaces, changes } = more;
      const recent = Math.min(cache.recentPositions.shape[1]!, window === 0 ? Infinity : window - 1);
      const reach = hostTensor("i32", [1], Int32Array.of(window - 1)); // -1: all
      for (const slot of keptSlots(decisions)) {
        const one = (tensor: Tensor) => rowsOf(asHost(tensor), slot, slot + 1);
        const position = hostData(positions)[slot]!, ring = row(cache.recentPositions, slot).data;
        const seen = Array.from(ring.keys())
          .filter((i) => ring[i]! >= 0 && position - ring[i]! <= recent)
          .sort((a, b) => ring[a]! - ring[b]!);
        const numKeys = hostData(cache.counts)[slot]!, keyPositions = row(cache.positions, slot);
        const from = changes && hostData(changes.first)[slot]!;
        const read = keyPositions.data.subarray(0, numKeys).filter((at) => at >= (from ?? Infinity));
        const room = () => emptyTensor("f64", [1, read.length]), changed = room();
        ops.attention({
          queries: one(queries),
          queryPositions: one(positions),
          keys: row(cache.keys, slot),
          values: row(cache.values, slot),
          keyPositions,
          numKeys,
          recentKeys: take(row(cache.recentKeys, slot), seen),
          recentValues: take(row(cache.recentValues, slot), seen),
          recentPositions: take(row(cache.recentPositions, slot), seen),
          numRecent: seen.length,
          recent,
          windows: reach,
          scale,
          out: one(out),
          ...(kvPlaces && { kvPlaces }),
          ...(changes && {
            shares: room(),
            shareDistance: changes.distance,
            changes: { out: changed, headWeights: changes.headWeights },
          }),
        });
        if (changes === undefined) continue;
        const [, rows, places] = changes.out.shape as [number, number, number];
        const to = hostData(changes.out), at = (slot * rows + position % rows) * places;
        read.forEach((key, i) => to[at + key % places] = changed.data[i]!);
      }
    },

    advance(positions): void {
      const at = hostData(positions);
      at.forEach((position, slot) => position >= 0 && at[slot]!++);
    },

    argmax(logits, ids): void {
      const [rows, width] = expectTensor("logits", logits, "f32", [-1, -1]);
      expectTensor("ids", ids, "i32", [rows]);
      const values = f32Data(logits), found = hostData(ids);
      for (let i = 0; i < rows; i++) {
        let best = 0;
        for (let j = 1; j < width; j++) if (values[i * width + j]! > values[i * width + best]!) best = j;
        found[i] = best;
      }
    },

    row,

    rows: (tensor, from, count) => {
      checkRows(tensor, from, count);
      return rowsOf(asHost(tensor), from, from + count);
    },

    write(to, values): void {
      expectTensor("values", values, to.dtype, to.shape);
      hostData(to).set(values.data as never);
    },

    copyRows,
  };
}

function copyRows(from: Tensor, fromRow: number, to: Tensor, toRow: number, count: number): void {
  const width = countOf(from.shape.slice(1));
  if (countOf(to.shape.slice(1)) !== width) {
    throw new RangeError(`Cannot copy rows of shape [${from.shape.slice(1)}] to [${to.shape.slice(1)}]`);
  }
  expectTensor("to", to, from.dtype, to.shape);
  checkRows(from, fromRow, count);
  checkRows(to, toRow, count);
  const rows = hostData(from).subarray(fromRow * width, (fromRow + count) * width);
  hostData(to).set(rows as never, toRow * width);
}

function checkRows({ shape }: Tensor, first: number, count: number): void {
  if (first >= 0 && count >= 0 && first + count <= shape[0]!) return;
  throw new RangeError(`Cannot take ${count} rows from ${first} on: found ${shape[0]} rows`);
}

function row(tensor: Tensor, index: number): HostTensor {
  if (!(index >= 0 && index < tensor.shape[0]!)) {
    throw new RangeError(`Cannot take row ${index} of a tensor of shape [${tensor.shape}]`);
  }
  return { ...rowsOf({ ...tensor, data: hostData(tensor) }, index, index + 1), shape: tensor.shape.slice(1) };
}

function take(tensor: Tensor, rows: readonly number[]): HostTensor {
  const out = emptyTensor(tensor.dtype, [rows.length, ...tensor.shape.slice(1)]);
  rows.forEach((row, i) => copyRows(tensor, row, out, i, 1));
  return out;
}

function keptSlots({ kept, keptCount }: BatchDecisions): readonly number[] {
  return Array.from(hostData(kept).subarray(0, hostData(keptCount)[0]!));
}

/** A sequence's state of a layer, in the batch's memory. */
function stateOf(states: BatchStates, slot: number): LayerState {
  const part = <T extends TensorData>(tensor: Tensor) => row(tensor, slot).data as T;
  return {
    anchorK: part(states.anchorK),
    anchorV: part(states.anchorV),
    numbers: part(states.numbers),
    scores: part(states.scores),
    learned: part(states.learned),
  };
}

/** A tensor as a matrix whose rows are its innermost parts, after `outer` dimensions. */
function asMatrix(tensor: Tensor, outer = 1): HostTensor {
  const { shape } = tensor;
  return { ...asHost(tensor), shape: [countOf(shape.slice(0, outer)), countOf(shape.slice(outer))] };
}

function asHost(tensor: Tensor): HostTensor {
  return hostTensor(tensor.dtype, tensor.shape, hostData(tensor));
}
