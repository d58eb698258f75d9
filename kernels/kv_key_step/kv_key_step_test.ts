import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import type { Backend } from "../../lib/backend.ts";
import type { BatchKeys } from "../../lib/batch_ops.ts";
import { KernelError } from "../../lib/errors.ts";
import { beginsBlock, judgedAt, NEVER } from "../../lib/filter/blocks.ts";
import { createLayerState, createScanOutput, type LayerState, SCAN_COLUMNS } from "../../lib/filter/layer.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { type HostTensor, hostTensor, type Tensor } from "../../lib/tensor.ts";
import { tensorOf } from "../filtered_attention/cases.ts";
import { extremeCases, type FilterCase, filterCase } from "../kv_filter_scan/cases.ts";
import { bandOf, expectSame, expectState, float32Exactness, longPast } from "../kv_filter_scan/testing.ts";
import {
  type Batch,
  createBatch,
  decideReference,
  expectRows,
  gather,
  readState,
  rowsOn,
  sequencesOf,
  stepRows,
  writeState,
} from "../kv_filter_step/testing.ts";
import { testInEveryWay, testOnDevice, type Way, wayOf } from "../testing/ways.ts";
import { KEY_CASES } from "./cases.ts";

type StepRows = ReturnType<typeof stepRows>;
const REFERENCE = wayOf("reference", new ReferenceBackend());
const ints = (values: Iterable<number>) => {
  const data = Int32Array.from(values);
  return hostTensor("i32", [data.length], data);
};
const read = ({ backend }: Way<Backend>, tensor: Tensor) => [...backend.read(tensor).data as Int32Array];

/** A layer of a batch that evicts keys. */
function createKeys(way: Way<Backend>, { states, cache, decisions }: Batch): BatchKeys {
  const [batch, capacity] = cache.positions.shape as [number, number];
  return {
    states,
    ends: way.on(hostTensor("i32", [batch, capacity], new Int32Array(batch * capacity).fill(-7))),
    keep: way.backend.alloc("u8", [batch]),
    columns: decisions.columns!,
  };
}

/** One step: tokens are cached, then scored for eviction. @param cached Rows of the KV heads that the cache has */
function runStep(
  way: Way<Backend>,
  { cache, decisions }: Batch,
  keys: BatchKeys,
  rows: StepRows,
  cached: StepRows = rows,
): void {
  way.backend.kvFilterStep(undefined, cache, rowsOn(way, cached), true, decisions);
  way.backend.kvKeyStep(keys, cache, rowsOn(way, rows));
}

/** The case with keys and values of all KV heads but the first: what the cache has where that one keeps everything. */
function withoutFirstHead(c: FilterCase): FilterCase {
  const [tokens, heads, width] = c.input.keys.shape as [number, number, number];
  const rows = Array.from({ length: tokens * heads }, (_, row) => row).filter((row) => row % heads > 0);
  const part = (x: HostTensor) => ({
    ...gather({ ...x, shape: [tokens * heads, width] } as HostTensor, rows),
    shape: [tokens, heads - 1, width],
  });
  return { ...c, input: { ...c.input, keys: part(c.input.keys), values: part(c.input.values) } };
}

/**
 * Decodes three sequences of a case and compares each token with the definition. Returns the decisions, and those at a tie.
 *
 * @param evicting The case with keys and values of the KV heads that evict
 * @param past State of all sequences before their first token; a new one by default
 */
function follow(
  way: Way<Backend>,
  c: FilterCase,
  evicting = c,
  past?: LayerState,
): { decisions: number; flips: number; moves: number } {
  const { backend } = way,
    sequences = sequencesOf(c, past),
    batch = createBatch(way, evicting, 3, c.tokens, 0, c.input.keys.dtype as "f32");
  const keys = createKeys(way, batch), found = createScanOutput(1), expected = createScanOutput(1);
  const steps = Math.max(...sequences.map(({ order, begin }) => begin + order.length));
  const count = { decisions: 0, flips: 0, moves: 0 }, held = sequences.map(() => [] as number[]);
  if (past !== undefined) { for (const b of sequences.keys()) writeState(way, batch, b, past); }
  for (let step = 0; step < steps; step++) {
    const rows = stepRows(c, sequences, step);
    runStep(way, batch, keys, rows, stepRows(evicting, sequences, step));
    const stays = read(way, keys.keep),
      columns = read(way, keys.columns!),
      counts = read(way, batch.cache.counts);
    const positions = read(way, batch.cache.positions), ends = read(way, keys.ends);
    for (const [b, sequence] of sequences.entries()) {
      const t = rows.tokens[b], name = `${way.name}, ${c.name}, sequence ${b}, step ${step}`;
      if (t === undefined) {
        assertEquals([stays[b], counts[b]], [0, held[b]!.length], name);
        continue;
      }
      SCAN_COLUMNS.forEach((column, i) => found[column][0] = columns[3 * i + b]!);
      decideReference(c, sequence, rows.rows[b]!, expected, undefined);
      expectSame(name, 0, found, expected, float32Exactness(c).decision);
      count.decisions++;
      if (stays[b] !== expected.keep[0]) {
        assert(Math.abs(expected.redundancy[0]! - expected.threshold[0]!) < bandOf(c.spec), name);
        count.flips++;
        writeState(way, batch, b, sequence.state);
      }
      if (stays[b] === 1) sequence.kept.push(t);
      const before = [...held[b]!, t];
      held[b] = before.filter((j) => sequence.kept.includes(j) || judgedAt(j, c.spec) > t);
      if (held[b]!.length < before.length) {
        assert(beginsBlock(t, c.spec));
        count.moves++;
      }
      const own = (all: number[]) => all.slice(b * c.tokens, b * c.tokens + counts[b]!);
      assertEquals(own(positions), held[b], name);
      assertEquals(
        own(ends),
        held[b]!.map((j) => sequence.kept.includes(j) ? NEVER : judgedAt(j, c.spec)),
        name,
      );
    }
  }
  for (const [b, sequence] of sequences.entries()) {
    expectState(`${c.name}, sequence ${b}`, readState(way, batch, b), sequence.state, float32Exactness(c));
    const places = held[b]!.map((t, i) => [b * c.tokens + i, sequence.order[t]!] as const);
    for (const part of ["keys", "values"] as const) {
      expectRows(backend.read(batch.cache[part]), evicting.input[part], places, c.name);
    }
  }
  return count;
}

testInEveryWay("kvKeyStep() decides and drops as the method says, sequence by sequence", (ways) => {
  assert(KEY_CASES.length >= 40);
  let decisions = 0, flips = 0, moves = 0;
  for (const [i, c] of KEY_CASES.entries()) {
    // A level of the CPU each, in turns: their scan has tests of its own.
    for (const way of new Set([ways[i % ways.length]!, ...(i % 4 === 0 ? [REFERENCE] : [])])) {
      const count = follow(way, c, c.spec.numKvHeads > 1 && i % 2 === 1 ? withoutFirstHead(c) : c);
      moves += count.moves;
      if (c.spec.headDim === 1) continue; // cosines of heads of one number are all 1 or -1, so that most scores tie
      decisions += count.decisions;
      flips += count.flips;
    }
  }
  assert(moves > 400 && decisions > 3000 && flips <= decisions / 500, `${moves}, ${flips} of ${decisions}`);
});

testOnDevice("kvKeyStep() does the same, small cases", (device) => {
  const chosen = KEY_CASES.filter(({ spec }) => spec.headDim > 1).slice(0, 5).map((c) => ({
    ...c,
    tokens: Math.min(c.tokens, 30),
  }));
  for (const c of chosen) assertEquals(follow(device, c).flips, 0, c.name);
  const parts = chosen.filter(({ spec }) => spec.numKvHeads > 1);
  for (const c of parts) assertEquals(follow(device, c, withoutFirstHead(c)).flips, 0, c.name);
  assert(parts.length > 1);
});

testOnDevice("kvKeyStep() decides by wide heads, and by tiny and huge numbers", (device) => {
  let decisions = 0, flips = 0;
  for (const i of [0, 1, 30, 31, 70, 21]) { // every rule and policy that has a kernel of its own
    for (const c of extremeCases(filterCase(i))) {
      const count = follow(device, {
        ...c,
        spec: { ...c.spec, warmup: 2, block: 3, recent: 2, skipRatio: 0.5 },
      });
      decisions += count.decisions;
      flips += count.flips;
    }
  }
  assert(decisions > 400 && flips <= 1, `${flips} of ${decisions} decisions differed`);
});

testOnDevice("kvKeyStep() finds quantiles of windows of any length, by every kind of rule", (device) => {
  let decisions = 0, flips = 0;
  for (const i of [0, 1, 70, 21, 22]) { // rules `variance` and others; policies `budget` and `robbins-monro`
    for (const window of [33, 200, 1025]) { // in one run of 32, in many, and more than are sorted
      const { c, past } = longPast({ ...filterCase(i), tokens: 8 }, window),
        count = follow(device, c, c, past);
      decisions += count.decisions;
      flips += count.flips;
    }
  }
  assert(decisions > 200 && flips <= 1, `${flips} of ${decisions} decisions differed`);
});

/** A case of heads of 4 x `headDim` numbers whose one sequence has cached `rows` tokens. */
function longCase(dtype: "f32" | "f16" | "bf16", headDim: number, rows: number): FilterCase {
  const c = KEY_CASES[0]!, wave = (i: number) => Math.sin(i * i % 1009 + 1);
  const rowsOf = () => tensorOf(dtype, [rows, 4, headDim], wave);
  const spec = { ...c.spec, numKvHeads: 4, headDim, warmup: rows - 1, block: 32, recent: 5 };
  return { ...c, tokens: rows, spec, input: { keys: rowsOf(), values: rowsOf() } };
}

const LONG = [["f32", 8], ["f16", 16], ["bf16", 5], ["f32", 3]] as const;

/** All of a long case's rows but the last are cached, and every third ends where the last comes. */
function dropFromLong(way: Way<Backend>, c: FilterCase): void {
  const { tokens, spec, input } = c, count = tokens - 1;
  const batch = createBatch(way, c, 1, tokens, 0, input.keys.dtype as "f32"), keys = createKeys(way, batch);
  const ends = Int32Array.from(
    { length: tokens },
    (_, t) => t % 3 === 1 && t < count - spec.recent ? count : NEVER,
  );
  way.backend.write(keys.ends, hostTensor("i32", [1, tokens], ends));
  way.backend.write(batch.cache.positions, hostTensor("i32", [1, tokens], Int32Array.from(ends.keys())));
  way.backend.write(batch.cache.counts, ints([count]));
  for (const part of ["keys", "values"] as const) {
    const cached = way.on({ ...input[part], shape: [tokens, 4 * spec.headDim] });
    way.backend.copyRows(cached, 0, { ...batch.cache[part], shape: [tokens, 4 * spec.headDim] }, 0, count);
  }
  const order = Array.from({ length: tokens }, (_, t) => t);
  const rows = stepRows(c, [{ order, begin: 0, state: createLayerState(spec), kept: [] }], count);
  runStep(way, batch, keys, rows);
  const held = order.filter((t) => ends[t] === NEVER),
    name = `${way.name}, ${input.keys.dtype} of ${spec.headDim}`;
  assertEquals(read(way, batch.cache.counts), [held.length], name);
  assertEquals(read(way, batch.cache.positions).slice(0, held.length), held, name);
  assertEquals(new Set(read(way, keys.ends).slice(0, held.length)), new Set([NEVER]), name);
  for (const part of ["keys", "values"] as const) {
    expectRows(way.backend.read(batch.cache[part]), input[part], held.map((t, i) => [i, t]), name);
  }
}

testInEveryWay("kvKeyStep() moves up hundreds of rows of any width", (ways) => {
  for (const [dtype, headDim] of LONG) {
    for (const way of [...ways, REFERENCE]) dropFromLong(way, longCase(dtype, headDim, 600));
  }
});

testOnDevice("kvKeyStep() moves rows, small cases", (device) => {
  for (const [dtype, headDim] of LONG) dropFromLong(device, longCase(dtype, headDim, 300));
});

testOnDevice(
  "kvKeyStep() keeps a token that is not finite, or not the last of its cache, and tells",
  (device) => {
    const c = KEY_CASES[0]!,
      sequences = sequencesOf(c),
      rows = stepRows(c, sequences, 0),
      none = createLayerState(c.spec);
    const faultOf = (change: (batch: Batch, on: ReturnType<typeof rowsOn>) => void, told: string) => {
      const batch = createBatch(device, c, 3, c.tokens, 0, "f32"),
        keys = createKeys(device, batch),
        on = rowsOn(device, rows);
      device.backend.kvFilterStep(undefined, batch.cache, on, true, batch.decisions);
      change(batch, on);
      device.backend.kvKeyStep(keys, batch.cache, on);
      assertStringIncludes(assertThrows(() => device.context.synchronize(), KernelError).message, told);
      assertEquals(read(device, keys.keep), [1, 1, 0]);
      assertEquals(readState(device, batch, 0), none);
    };
    faultOf((_, { filterKeys }) => {
      const row = tensorOf("f32", rows.keys.shape.slice(1), () => NaN);
      device.backend.write(device.backend.row(filterKeys, 0), row);
    }, "not finite");
    for (const count of [0, 2, -1, c.tokens + 1]) {
      faultOf(
        ({ cache }) => device.backend.write(cache.counts, ints([count, 1, 0])),
        "state that does not allow",
      );
    }
  },
);

testOnDevice("kvKeyStep() refuses rules and policies that it does not have", (device) => {
  const step = (c: FilterCase) => {
    const sequences = sequencesOf(c), batch = createBatch(device, c, 3, c.tokens, 0, "f32");
    runStep(device, batch, createKeys(device, batch), stepRows(c, sequences, 0));
  };
  assertThrows(() => step(filterCase(9)), KernelError, 'the rule "learned"');
  assertThrows(() => step(filterCase(40)), KernelError, "looks at a whole sequence");
});
