/** A batch in decode, token by token: several sequences of one case on a device, compared with the reference. */
import { assert, assertEquals } from "@std/assert";
import type { Backend } from "../../lib/backend.ts";
import type { BatchCache, BatchDecisions, BatchRows, BatchStates } from "../../lib/batch_ops.ts";
import { byteSize } from "../../lib/dtype.ts";
import {
  cloneLayerState,
  createLayerState,
  createScanOutput,
  type LayerState,
  type ScanInput,
  type ScanOutput,
} from "../../lib/filter/layer.ts";
import { outcomeOf } from "../../lib/filter/outcome.ts";
import { norm } from "../../lib/filter/similarity.ts";
import { dequantize } from "../../lib/reference/dequantize.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import {
  countOf,
  emptyTensor,
  f32Data,
  type HostTensor,
  hostTensor,
  rowsOf,
  type Tensor,
} from "../../lib/tensor.ts";
import type { FilterCase } from "../kv_filter_scan/cases.ts";
import type { DeviceWay, Way } from "../testing/ways.ts";
import { bandOf, type Exactness, expectSame, expectState, REFERENCE } from "../kv_filter_scan/testing.ts";

const STATE_PARTS = ["anchorK", "anchorV", "numbers", "scores", "learned"] as const;
const COLUMNS = ["redundancy", "threshold", "muK", "varK", "muV", "varV", "wK"] as const;

/** One sequence: rows of the case in an order of its own, its reference, and its decisions. */
export interface Sequence {
  /** Row of the case that is token t. */
  readonly order: readonly number[];
  /** Step of the batch at which it begins; before it and after its end it is idle. */
  readonly begin: number;
  readonly state: LayerState;
  readonly kept: number[];
}

/** Token of a sequence at a step of the batch; undefined = idle. */
function tokenAt({ order, begin }: Sequence, step: number): number | undefined {
  const t = step - begin;
  return t >= 0 && t < order.length ? t : undefined;
}

/**
 * Three sequences of a case: as it is; backwards and half as long; and every seventh row first, late.
 *
 * @param past State of all of them before their first token; a new one by default
 */
export function sequencesOf(c: FilterCase, past = createLayerState(c.spec)): Sequence[] {
  const rows = Array.from({ length: c.tokens }, (_, i) => i);
  const make = (order: number[], begin: number): Sequence => ({
    order,
    begin,
    state: cloneLayerState(past),
    kept: [],
  });
  const mixed = [...rows].sort((a, b) => a % 7 - b % 7 || a - b);
  return [make(rows, 0), make(rows.toReversed().slice(0, Math.ceil(c.tokens / 2)), 0), make(mixed, 3)];
}

/** Rows of a host tensor, one for each index; row 0 where it is undefined (it must not be read). */
export function gather(tensor: HostTensor, rows: readonly (number | undefined)[]): HostTensor {
  const width = countOf(tensor.shape.slice(1));
  const data = tensor.data.slice(0, 0).constructor as new (length: number) => typeof tensor.data;
  const out = new data(rows.length * width);
  rows.forEach((row, i) =>
    out.set(tensor.data.subarray((row ?? 0) * width, ((row ?? 0) + 1) * width) as never, i * width)
  );
  return { dtype: tensor.dtype, shape: [rows.length, ...tensor.shape.slice(1)], data: out } as HostTensor;
}

/** Everything that a layer of the batch has on the device. */
export interface Batch {
  readonly states: BatchStates;
  readonly cache: BatchCache;
  readonly decisions: BatchDecisions;
}

/** An empty batch. @param c Has the cache's KV heads in its input. @param dtype of the cache */
export function createBatch(
  { backend, on }: Way<Backend>,
  c: FilterCase,
  batch: number,
  capacity: number,
  recent: number,
  dtype: "f32" | "f16" | "bf16",
): Batch {
  const { spec } = c, one = createLayerState(spec);
  const row = c.input.keys.shape.slice(1);
  const alloc = (dtype: "f32" | "f64", part: ArrayLike<number>) => backend.alloc(dtype, [batch, part.length]);
  return {
    states: {
      spec,
      anchorK: alloc("f32", one.anchorK),
      anchorV: alloc("f32", one.anchorV),
      numbers: alloc("f64", one.numbers),
      scores: alloc("f64", one.scores),
      learned: alloc("f64", one.learned),
      signs: backend.kvFilterSigns(spec),
    },
    cache: {
      keys: backend.alloc(dtype, [batch, capacity, ...row]),
      values: backend.alloc(dtype, [batch, capacity, ...row]),
      positions: on(hostTensor("i32", [batch, capacity], new Int32Array(batch * capacity).fill(-9))),
      counts: backend.alloc("i32", [batch]),
      recentKeys: backend.alloc(dtype, [batch, recent, ...row]),
      recentValues: backend.alloc(dtype, [batch, recent, ...row]),
      recentPositions: on(hostTensor("i32", [batch, recent], new Int32Array(batch * recent).fill(-1))),
    },
    decisions: {
      keep: backend.alloc("u8", [batch]),
      kept: backend.alloc("i32", [batch]),
      keptCount: backend.alloc("i32", [2]),
      columns: backend.alloc("f64", [7, batch]),
    },
  };
}

/** Sequence b's state as it is on the device. */
export function readState(
  { backend }: Way<Backend>,
  { states }: Pick<Batch, "states">,
  b: number,
): LayerState {
  const read = (name: typeof STATE_PARTS[number]) => {
    const data = backend.read(states[name]).data, size = states[name].shape[1]!;
    return data.slice(b * size, (b + 1) * size);
  };
  return Object.fromEntries(STATE_PARTS.map((name) => [name, read(name)])) as unknown as LayerState;
}

/** Overwrites sequence b's state on the device. */
export function writeState(
  { backend }: Way<Backend>,
  { states }: Pick<Batch, "states">,
  b: number,
  state: LayerState,
): void {
  for (const name of STATE_PARTS) {
    const size = state[name].length;
    if (size === 0) continue;
    const dtype = states[name].dtype as "f32";
    const row = backend.row(states[name], b);
    backend.write(row, hostTensor(dtype, [size], state[name] as Float32Array<ArrayBuffer>));
  }
}

/** The same values in float32. */
function widened(x: HostTensor): HostTensor {
  return hostTensor("f32", x.shape, Float32Array.from(dequantize(x, 0, x.data.length)));
}

/** The rows of one step, in float32 as a model has them; idle sequences get rows of NaN. */
export function stepRows(c: FilterCase, sequences: readonly Sequence[], step: number) {
  const tokens = sequences.map((sequence) => tokenAt(sequence, step));
  const rows = tokens.map((t, b) => t === undefined ? undefined : sequences[b]!.order[t]!);
  const take = (tensor: Tensor | undefined) => {
    if (tensor === undefined) return undefined;
    const out = widened(gather(tensor as HostTensor, rows)), width = out.data.length / rows.length;
    rows.forEach((row, b) => {
      if (row === undefined) out.data.fill(NaN, b * width, (b + 1) * width);
    });
    return out;
  };
  const { keys, values, residual, normed, queries } = c.input;
  return {
    tokens,
    rows,
    keys: take(keys)!,
    values: take(values)!,
    residual: take(residual),
    normed: take(normed),
    queries: c.spec.reads.includes("queries") ? take(queries) : undefined,
    positions: hostTensor("i32", [rows.length], Int32Array.from(tokens, (t) => t ?? -1)),
  };
}

/** The rows of one step where a backend computes. */
export function rowsOn(way: Way<Backend>, rows: ReturnType<typeof stepRows>): BatchRows {
  const none = way.backend.alloc("f32", [rows.rows.length, 0]);
  const on = (tensor: HostTensor | undefined) => tensor === undefined ? none : way.on(tensor);
  const keys = on(rows.keys);
  return {
    filterKeys: keys,
    keys,
    values: on(rows.values),
    residual: on(rows.residual),
    normed: on(rows.normed),
    queries: rows.queries && on(rows.queries),
    positions: on(rows.positions),
  };
}

/** One step of the batch on the device: the filter's. */
export function runStep(
  device: DeviceWay,
  { states, cache, decisions }: Batch,
  rows: ReturnType<typeof stepRows>,
  cacheSkipped = false,
): void {
  device.backend.kvFilterStep(states, cache, rowsOn(device, rows), cacheSkipped, decisions);
}

/** Outputs whose outcomes are those of the case: one number each, rounded to float32. */
function outputsOf(c: FilterCase, rows: ReturnType<typeof stepRows>): { output: HostTensor; y: number[] } {
  const { hiddenSize } = c.spec, x = f32Data(rows.residual!);
  const data = new Float32Array(rows.rows.length * hiddenSize), y: number[] = [];
  rows.rows.forEach((row, b) => {
    if (row === undefined) return;
    const residualNorm = norm(x, b * hiddenSize, hiddenSize);
    data[b * hiddenSize + b % hiddenSize] = Math.exp(c.outcomes[row]!) * (residualNorm + 1e-6);
    y[b] = outcomeOf({ substitute: "none" }, norm(data, b * hiddenSize, hiddenSize), residualNorm);
  });
  return { output: hostTensor("f32", [rows.rows.length, hiddenSize], data), y };
}

/** Events of a batch. */
export interface Followed {
  flips: number;
  decisions: number;
}

/**
 * Decodes three sequences of a case on the device and by the reference, and compares each token. If rounding decides
 * otherwise, the device continues from the reference's state. At the end it compares states, cache, ring and lists.
 */
export function followBatch(
  device: DeviceWay,
  c: FilterCase,
  options: {
    exactness: Exactness;
    recent: number;
    dtype: "f32" | "f16" | "bf16";
    cacheSkipped?: boolean;
    past?: LayerState;
  },
): Followed {
  const { exactness, recent, dtype, cacheSkipped = false, past } = options;
  const sequences = sequencesOf(c, past), count: Followed = { flips: 0, decisions: 0 };
  const steps = Math.max(...sequences.map(({ order, begin }) => begin + order.length));
  const batch = createBatch(device, c, sequences.length, c.tokens, recent, dtype);
  const { backend } = device, found = createScanOutput(1), expected = createScanOutput(1);
  if (past !== undefined) { for (const b of sequences.keys()) writeState(device, batch, b, past); }
  for (let step = 0; step < steps; step++) {
    const rows = stepRows(c, sequences, step);
    runStep(device, batch, rows, cacheSkipped);
    const keep = backend.read(batch.decisions.keep).data as Uint8Array;
    const columns = backend.read(batch.decisions.columns!).data as Float64Array;
    const learned = c.spec.reads.includes("outputs") ? outputsOf(c, rows) : undefined;
    if (learned !== undefined) {
      backend.kvFilterObserveBatch(
        batch.states,
        batch.decisions,
        device.on(learned.output),
        device.on(rows.residual!),
      );
    }
    for (const [b, sequence] of sequences.entries()) {
      const t = rows.tokens[b], name = `${device.name}, ${c.name}, sequence ${b}`;
      if (t === undefined) {
        assertEquals(keep[b], 0, name);
        continue;
      }
      count.decisions++;
      COLUMNS.forEach((column, i) => found[column][0] = columns[i * sequences.length + b]!);
      found.keep[0] = keep[b]!;
      if (keep[b]) sequence.kept.push(t);
      decideReference(c, sequence, rows.rows[b]!, expected, learned?.y[b]);
      expectSame(name, t, found, expected, exactness.decision);
      if (found.keep[0] !== expected.keep[0]) {
        const distance = Math.abs(expected.redundancy[0]! - expected.threshold[0]!);
        assert(
          distance < bandOf(c.spec),
          `${name}, token ${t}: decided otherwise at a distance of ${distance}`,
        );
        count.flips++;
        writeState(device, batch, b, sequence.state);
      }
    }
    const [length] = backend.read(batch.decisions.keptCount).data as Int32Array;
    const list = backend.read(batch.decisions.kept).data.slice(0, length) as Int32Array;
    assertEquals([...list], [0, 1, 2].filter((b) => keep[b]), c.name);
  }
  for (const [b, sequence] of sequences.entries()) {
    expectState(`${c.name}, sequence ${b}`, readState(device, batch, b), sequence.state, exactness);
    expectCache(device, c, batch, b, sequence, recent, cacheSkipped);
  }
  return count;
}

/** The reference decides the next token of a sequence. */
export function decideReference(
  c: FilterCase,
  { state }: Sequence,
  row: number,
  output: ScanOutput,
  y: number | undefined,
): void {
  const input = Object.fromEntries(
    Object.entries(c.input as unknown as Record<string, HostTensor>).map((
      [name, x],
    ) => [name, rowsOf(x, row, row + 1)]),
  ) as unknown as ScanInput<HostTensor>;
  REFERENCE.kvFilterScan(c.spec, state, input, 0, 1, output);
  if (y !== undefined) REFERENCE.kvFilterObserve(c.spec, state, Float64Array.from(output.keep[0] ? [y] : []));
}

/** Cache and ring of sequence b hold the rows of its tokens, as they were decided. */
function expectCache(
  { backend }: DeviceWay,
  c: FilterCase,
  { cache }: Batch,
  b: number,
  sequence: Sequence,
  recent: number,
  cacheSkipped: boolean,
): void {
  const { order, kept } = sequence, name = `${c.name}, sequence ${b}`;
  const tokens = order.map((_, t) => t), skipped = tokens.filter((t) => !kept.includes(t));
  const cached = cacheSkipped ? tokens : kept, capacity = cache.positions.shape[1]!;
  const counts = backend.read(cache.counts).data as Int32Array;
  assertEquals(counts[b], cached.length, name);
  const positions = backend.read(cache.positions).data as Int32Array;
  const own = [...positions.slice(b * capacity, (b + 1) * capacity)];
  assertEquals(own, [...cached, ...new Array(capacity - cached.length).fill(-9)], name);
  expectRows(
    backend.read(cache.keys),
    c.input.keys,
    cached.map((t, i) => [b * capacity + i, order[t]!]),
    name,
  );
  expectRows(
    backend.read(cache.values),
    c.input.values,
    cached.map((t, i) => [b * capacity + i, order[t]!]),
    name,
  );

  const ring = new Array<number>(recent).fill(-1);
  if (!cacheSkipped && recent > 0) { for (const t of skipped) ring[t % recent] = t; }
  const recents = backend.read(cache.recentPositions).data as Int32Array;
  assertEquals([...recents.slice(b * recent, (b + 1) * recent)], ring, name);
  const places = ring.flatMap((t, slot) => t < 0 ? [] : [[b * recent + slot, order[t]!] as [number, number]]);
  expectRows(backend.read(cache.recentKeys), c.input.keys, places, name);
  expectRows(backend.read(cache.recentValues), c.input.values, places, name);
}

/** The same numbers as a matrix. */
function flat(tensor: HostTensor): HostTensor {
  return { ...tensor, shape: [tensor.shape[0]!, countOf(tensor.shape.slice(1))] };
}

/** Rows [place, row]: those of the case, in the cache's type. */
export function expectRows(
  found: HostTensor,
  rows: HostTensor,
  places: readonly (readonly [number, number])[],
  name: string,
): void {
  const stored = found.dtype === rows.dtype ? rows : emptyTensor(found.dtype, rows.shape);
  if (stored !== rows) new ReferenceBackend().storeRows(flat(rows), flat(stored), 0);
  const width = byteSize(found.dtype, countOf(rows.shape.slice(1)));
  const bytes = (tensor: HostTensor, row: number) =>
    new Uint8Array(tensor.data.buffer, tensor.data.byteOffset + row * width, width);
  for (const [place, row] of places) assertEquals(bytes(found, place), bytes(stored, row), name);
}
