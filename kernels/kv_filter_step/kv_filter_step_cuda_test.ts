import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import type { DeviceTensor } from "../../ffi/cuda/memory.ts";
import { KernelError } from "../../lib/errors.ts";
import { createLayerState, SLOT } from "../../lib/filter/layer.ts";
import type { Tensor } from "../../lib/tensor.ts";
import { learnedLayout } from "../../lib/methods/rules/learned.ts";
import { RUNS_SLOW } from "../../lib/testing.ts";
import { type DeviceWay, testOnDevice } from "../testing/ways.ts";
import {
  extremeCases,
  type FilterCase,
  filterCase,
  NUM_FILTER_CASES,
  withHeads,
} from "../kv_filter_scan/cases.ts";
import { float32Exactness, longPast } from "../kv_filter_scan/testing.ts";
import {
  type Batch,
  createBatch,
  followBatch,
  gather,
  readState,
  rowsOn,
  runStep,
  sequencesOf,
  stepRows,
} from "./testing.ts";

type StepRows = ReturnType<typeof stepRows>;

/** A case of at most `most` tokens. */
function shortCase(i: number, most: number): FilterCase {
  const c = filterCase(i);
  return { ...c, tokens: Math.min(c.tokens, most) };
}

testOnDevice(
  "kvFilterStep() decides a batch as the reference does, and keeps its cache",
  (device) => {
    let runs = 0, flips = 0, decisions = 0;
    const numCases = RUNS_SLOW ? NUM_FILTER_CASES : 50; // the first of three times that each rule meets each policy
    for (let i = 0; i < numCases; i++) {
      const c = shortCase(i, 60), dtype = c.input.keys.dtype as "f32" | "f16" | "bf16";
      if (c.spec.threshold === "topk") continue;
      const count = followBatch(device, c, {
        exactness: float32Exactness(c),
        recent: [0, 1, 4, 16][i % 4]!,
        dtype: dtype === "f32" && i % 3 > 0 ? (["f16", "bf16"] as const)[i % 2]! : dtype,
        cacheSkipped: i % 7 === 0,
      });
      if (c.spec.headDim > 1) { // cosines of heads of one number are all 1 or -1, so that most scores tie
        flips += count.flips;
        decisions += count.decisions;
      }
      runs++;
    }
    assertEquals(runs, numCases - (RUNS_SLOW ? 27 : 9));
    assert(
      decisions > 66 * numCases && flips <= decisions / 1000,
      `${flips} of ${decisions} decisions differed`,
    );
  },
);

testOnDevice("kvFilterStep() decides by every kind of rule and policy in every type", (device) => {
  const kinds = new Map<string, FilterCase>(), policies = ["budget", "fixed", "robbins-monro"];
  for (let i = 0; i < NUM_FILTER_CASES; i++) {
    const c = shortCase(i, 30), { rule: { name }, threshold } = c.spec;
    const rule = ["variance", "learned"].includes(name) ? name : "other";
    if (policies.includes(threshold)) kinds.set(`${rule} ${threshold}`, c);
  }
  assertEquals(kinds.size, 7);
  for (const kind of kinds.values()) {
    for (const dtype of ["f32", "f16", "bf16"] as const) {
      const c = withHeads(kind, 32, dtype);
      const { flips } = followBatch(device, c, { exactness: float32Exactness(c), recent: 4, dtype });
      assertEquals(flips, 0, `${kind.name} in ${dtype}`);
    }
  }
});

testOnDevice("kvFilterStep() decides by wide heads, and by tiny and huge numbers", (device) => {
  const kinds = [0, 1, 9, 30, 31, 70, 21].map((i) => shortCase(i, 60)); // every rule and policy that has a kernel of its own
  let decisions = 0, flips = 0;
  for (const [i, c] of kinds.flatMap(extremeCases).entries()) {
    for (const dtype of i % 3 === 0 ? ["f32", "f16", "bf16"] as const : ["f32"] as const) { // wide rows in every type
      const count = followBatch(device, c, { exactness: float32Exactness(c), recent: 4, dtype });
      decisions += count.decisions;
      flips += count.flips;
    }
  }
  assert(decisions > 500 && flips <= 1, `${flips} of ${decisions} decisions differed`);
});

testOnDevice("kvFilterStep() finds quantiles of windows of any length, by every kind of rule", (device) => {
  let decisions = 0, flips = 0, runs = 0;
  for (const i of [0, 1, 9, 70, 21, 22]) { // rules `variance`, others and `learned`; policies `budget` and `robbins-monro`
    for (const window of [33, 200, 1025]) { // in one run of 32, in many, and more than are sorted
      const { c, past } = longPast(shortCase(i, 8), window);
      const dtype = c.input.keys.dtype as "f32", exactness = float32Exactness(c);
      const count = followBatch(device, c, { exactness, recent: 4, dtype, past });
      decisions += count.decisions;
      flips += count.flips;
      runs++;
    }
  }
  assert(decisions > 15 * runs && flips <= 1, `${flips} of ${decisions} decisions differed`);
});

testOnDevice(
  "kvFilterStep() lists the kept of hundreds of sequences, by every kind of rule and policy",
  (device) => {
    const busy = [0, 3, 31, 32, 70, 100, 130, 131, 170, 199, 255, 256, 299]; // in every warp of a block, and beyond it
    for (const i of [undefined, 0, 1, 9, 30, 31, 70, 21]) {
      const c = withHeads(shortCase(i ?? 0, 1), 4, "f32"), batch = createBatch(device, c, 300, 1, 1, "f32");
      const sequences = Array.from({ length: 300 }, (_, b) => {
        return { order: [0], begin: busy.includes(b) ? 0 : 1, state: createLayerState(c.spec), kept: [] };
      });
      const rows = stepRows(c, sequences, 0), { states, cache, decisions } = batch;
      if (i !== undefined) runStep(device, batch, rows);
      else device.backend.kvFilterStep(undefined, cache, rowsOn(device, rows), false, decisions);
      const read = (tensor: Tensor) => [...device.backend.read(tensor).data as Int32Array];
      assertEquals(read(decisions.keptCount), [busy.length, 0], states.spec.rule.name);
      assertEquals(read(decisions.kept).slice(0, busy.length), busy, states.spec.rule.name);
    }
  },
);

testOnDevice("kvFilterStep() decides the same, small cases", (device) => {
  const chosen = [0, 9, 13, 23, 33, 52].map((i) => shortCase(i, 45));
  for (const c of chosen) {
    const dtype = c.input.keys.dtype as "f32";
    const { flips } = followBatch(device, c, { exactness: float32Exactness(c), recent: 4, dtype });
    assertEquals(flips, 0, c.name);
  }
});

testOnDevice("kvFilterStep() can be recorded once and launched for every token", (device) => {
  const { backend } = device, c = shortCase(0, 20);
  const sequences = sequencesOf(c), kept: number[][] = [];
  for (const recorded of [false, true]) {
    const batch = createBatch(device, c, sequences.length, c.tokens, 4, "f32");
    const first = stepRows(c, sequences, 0);
    const none = device.backend.alloc("f32", [sequences.length, 0]);
    const keys = device.on(first.keys),
      values = device.on(first.values),
      positions = device.on(first.positions);
    const rows = {
      filterKeys: keys,
      keys,
      values,
      positions,
      residual: none,
      normed: none,
      queries: undefined,
    };
    const step = () => backend.kvFilterStep(batch.states, batch.cache, rows, false, batch.decisions);
    const work = recorded ? backend.record(step) : { launch: step };
    kept.push([]);
    for (let t = 0; t < 20; t++) {
      const next = stepRows(c, sequences, t);
      backend.write(keys, next.keys);
      backend.write(values, next.values);
      backend.write(positions, next.positions);
      work.launch();
      kept.at(-1)!.push(...device.backend.read(batch.decisions.keep).data as Uint8Array);
    }
  }
  assertEquals(kept[1], kept[0]);
  assert(kept[0]!.includes(0) && kept[0]!.includes(1));
});

testOnDevice("kvFilterStep() without a filter keeps every sequence that is not idle", (device) => {
  const c = shortCase(0, 20), sequences = sequencesOf(c);
  const batch = createBatch(device, c, sequences.length, c.tokens, 4, "f32");
  const rows = stepRows(c, sequences, 0), none = device.backend.alloc("f32", [sequences.length, 0]);
  const keys = device.on(rows.keys), values = device.on(rows.values), positions = device.on(rows.positions);
  const { backend } = device;
  const on = { filterKeys: keys, keys, values, positions, residual: none, normed: none, queries: undefined };
  backend.kvFilterStep(undefined, batch.cache, on, false, batch.decisions);
  assertEquals([...device.backend.read(batch.decisions.keep).data as Uint8Array], [1, 1, 0]);
  assertEquals([...device.backend.read(batch.cache.counts).data as Int32Array], [1, 1, 0]);
  assertEquals([...device.backend.read(batch.decisions.keptCount).data as Int32Array], [2, 0]);
});

/** A batch after one step of case 0 whose rows `change` has changed; the fault that it ended in. */
function faultOf(
  device: DeviceWay,
  c: FilterCase,
  change: (batch: Batch, rows: StepRows) => void,
): [Batch, string] {
  const sequences = sequencesOf(c), batch = createBatch(device, c, sequences.length, c.tokens, 4, "f32");
  const rows = stepRows(c, sequences, 0);
  change(batch, rows);
  runStep(device, batch, rows);
  const error = assertThrows(() => device.context.synchronize(), KernelError);
  return [batch, error.message];
}

testOnDevice("kvFilterStep() keeps a token that is not finite, and leaves its state alone", (device) => {
  const c = shortCase(0, 20);
  const [batch, message] = faultOf(
    device,
    c,
    (_, rows) => rows.keys.data[0] = NaN,
  );
  assertStringIncludes(message, "not finite");
  assertEquals([...device.backend.read(batch.decisions.keep).data as Uint8Array], [1, 1, 0]);
  assertEquals(readState(device, batch, 0), createLayerState(c.spec));
  assertEquals(readState(device, batch, 1).numbers[SLOT.seen], 1);
  assertEquals([...device.backend.read(batch.cache.counts).data as Int32Array], [1, 1, 0]);
});

testOnDevice("kvFilterStep() keeps a token whose state does not allow the step", (device) => {
  const kinds = [0, 1, 9, 30, 31, 70, 21].map((i) => shortCase(i, 20)); // every rule and policy with a kernel of its own
  const slots = ["seen", "absorbed", "scored", "decided", "skipped"] as const;
  for (const [c, slot] of kinds.flatMap((c) => slots.map((slot) => [c, slot] as const))) {
    for (const value of [NaN, -1, 0.5, Infinity]) {
      const numbers = createLayerState(c.spec).numbers.slice();
      numbers[SLOT[slot]] = value;
      const [batch, message] = faultOf(device, c, ({ states }) => {
        device.memory.write((states.numbers as DeviceTensor).buffer, numbers);
      });
      assertStringIncludes(message, "state that does not allow");
      assertEquals([...device.backend.read(batch.decisions.keep).data as Uint8Array], [1, 1, 0]);
      assertEquals(readState(device, batch, 0).numbers, numbers);
    }
  }
});

testOnDevice("kvFilterStep() writes nothing where a cache is full", (device) => {
  const c = shortCase(0, 20);
  for (const count of [20, 21, -1]) {
    const [batch, message] = faultOf(device, c, ({ cache }) => {
      device.memory.write((cache.counts as DeviceTensor).buffer, new Int32Array([count]));
    });
    assertStringIncludes(message, "cache without a free row");
    assertEquals([...device.backend.read(batch.cache.counts).data as Int32Array], [count, 1, 0]);
    const positions = device.backend.read(batch.cache.positions).data as Int32Array;
    assertEquals([...positions.slice(0, 21)], [...new Array(20).fill(-9), 0]);
  }
});

testOnDevice("kvFilterStep() refuses topk", (device) => {
  const c = shortCase(40, 20);
  assertEquals(c.spec.threshold, "topk");
  const sequences = sequencesOf(c), batch = createBatch(device, c, sequences.length, c.tokens, 4, "f32");
  assertThrows(
    () => runStep(device, batch, stepRows(c, sequences, 0)),
    KernelError,
    "looks at a whole sequence",
  );
});

testOnDevice(
  "kvFilterObserveBatch() takes nothing from an outcome that is not finite, and goes on",
  (device) => {
    const c = shortCase(9, 20), { backend } = device;
    assertEquals(c.spec.rule.name, "learned");
    const sequences = sequencesOf(c), batch = createBatch(device, c, sequences.length, c.tokens, 4, "f32");
    const rows = stepRows(c, sequences, 0), output = gather(rows.residual!, [0, 1, 1]);
    output.data[0] = NaN;
    runStep(device, batch, rows);
    backend.kvFilterObserveBatch(batch.states, batch.decisions, device.on(output), device.on(rows.residual!));
    const error = assertThrows(() => device.context.synchronize(), KernelError);
    assertStringIncludes(error.message, "not finite");
    const { outcome } = learnedLayout(c.spec);
    for (const [b, expected] of [[0, 0], [1, 2]] as const) { // skipped; observed
      const { numbers, learned } = readState(device, batch, b);
      assertEquals([numbers[SLOT.pending], numbers[SLOT.settled], learned[outcome]], [1, 1, expected]);
    }
    assertEquals(readState(device, batch, 2), createLayerState(c.spec));
    runStep(device, batch, stepRows(c, sequences, 1));
    device.context.synchronize();
  },
);
