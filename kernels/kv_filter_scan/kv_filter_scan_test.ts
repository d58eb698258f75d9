import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { type CpuBackend, cpuLevels, openCpu } from "../../ffi/mod.ts";
import { KernelError } from "../../lib/errors.ts";
import {
  cloneLayerState,
  createLayerState,
  createScanOutput,
  type LayerState,
  type ScanOutput,
  SLOT,
} from "../../lib/filter/layer.ts";
import { observeLayer } from "../../lib/filter/learned.ts";
import { scanLayer } from "../../lib/filter/scan.ts";
import type { HostTensor } from "../../lib/tensor.ts";
import { tensorOf } from "../filtered_attention/cases.ts";
import { type FilterCase, filterCase, NUM_FILTER_CASES } from "./cases.ts";

const LEVELS = await cpuLevels();
const open = (level: string, threads = 2) => openCpu({ level, threads, blas: "none" });

/** What decides and learns: a backend, or the reference. */
type Executor = Pick<CpuBackend, "kvFilterScan" | "kvFilterObserve">;
const reference: Executor = { kvFilterScan: scanLayer, kvFilterObserve: observeLayer };

/** Decides tokens [from, to), in calls of at most `chunk`, `learned` being told its outcomes. */
function advance(
  executor: (call: number) => Executor,
  c: FilterCase,
  state: LayerState,
  output: ScanOutput,
  from: number,
  to: number,
  chunk: number,
): void {
  for (let at = from, call = 0; at < to; call++) {
    const { kvFilterScan, kvFilterObserve } = executor(call);
    const taken = kvFilterScan(c.spec, state, c.input, at, Math.min(chunk, to - at), output);
    if (c.spec.fusion === "learned") {
      const kept = Array.from({ length: taken }, (_, i) => at + i).filter((t) => output.keep[t]);
      kvFilterObserve(c.spec, state, Float64Array.from(kept, (t) => c.outcomes[t]!));
    }
    at += taken;
  }
}

const COLUMNS = ["redundancy", "threshold", "muK", "varK", "muV", "varV", "wK"] as const;

/** Both say the same of token t, or both say nothing: sums in float64 differ by the order of additions alone. */
function expectSame(
  name: string,
  t: number,
  found: ScanOutput,
  expected: ScanOutput,
  tolerance = 1e-12,
): void {
  for (const column of COLUMNS) {
    const a = found[column][t]!, b = expected[column][t]!;
    if (Number.isNaN(b)) assert(Number.isNaN(a), `${name}, token ${t}: ${column} is ${a}, expected none`);
    else assertAlmostEquals(a, b, tolerance * Math.max(1, Math.abs(b)), `${name}, token ${t}: ${column}`);
  }
}

/**
 * Follows the reference; where a decision differs, the score must lie within the band about the threshold, and the
 * rest goes on from the reference's decision. Returns the number of such tokens.
 */
function countFlips(
  name: string,
  executor: (call: number) => Executor,
  c: FilterCase,
  chunk: number,
): number {
  const tolerance = c.spec.fusion === "learned" ? 1e-9 : 1e-12; // the fit solves a system of equations
  const band = 2e-5 * Math.max(1, c.spec.tau);
  const expected = createScanOutput(c.tokens), found = createScanOutput(c.tokens);
  let state = createLayerState(c.spec), flips = 0;
  for (let from = 0; from < c.tokens;) {
    const start = cloneLayerState(state), own = cloneLayerState(state);
    advance(() => reference, c, state, expected, from, c.tokens, c.tokens);
    advance(executor, c, own, found, from, c.tokens, chunk);
    let t = from;
    while (t < c.tokens && found.keep[t] === expected.keep[t]) {
      expectSame(name, t++, found, expected, tolerance);
    }
    if (t === c.tokens) {
      assertEquals(own.numbers.slice(0, SLOT.theta), state.numbers.slice(0, SLOT.theta), name);
      assertEquals(own.anchorK, state.anchorK, name);
      assertEquals(own.anchorV, state.anchorV, name);
      return flips;
    }
    const distance = Math.abs(expected.redundancy[t]! - expected.threshold[t]!);
    assert(distance < band, `${name}, token ${t}: decided otherwise at a distance of ${distance}`);
    flips++;
    state = start;
    advance(() => reference, c, state, expected, from, t + 1, c.tokens);
    from = t + 1;
  }
  return flips;
}

Deno.test("kvFilterScan() decides as the reference does: whole, in chunks, in steps, and in turns with it", async () => {
  const cases = Array.from({ length: NUM_FILTER_CASES }, (_, i) => filterCase(i));
  const backends = await Promise.all(LEVELS.map((level) => open(level)));
  let runs = 0, flips = 0, decisions = 0;
  for (const c of cases) {
    const looksAhead = c.spec.threshold === "topk";
    for (const backend of backends) {
      const name = `${backend.description}, ${c.name}`;
      for (const chunk of looksAhead ? [c.tokens] : [c.tokens, 41, 1]) {
        flips += countFlips(name, () => backend, c, chunk);
        runs++;
        decisions += c.tokens;
      }
      if (looksAhead) continue;
      flips += countFlips(`${name}, in turns`, (call) => call % 2 === 0 ? backend : reference, c, 17);
      runs++;
    }
  }
  const ahead = cases.filter((c) => c.spec.threshold === "topk").length;
  assertEquals(runs, LEVELS.length * (4 * (cases.length - ahead) + ahead));
  assert(ahead >= 20 && decisions > 10_000);
  assert(flips <= decisions / 5000, `${flips} of ${decisions} decisions lay within rounding and differed`);
});

Deno.test("kvFilterScan() gives the same on one thread and on two", async () => {
  const one = await open(LEVELS.at(-1)!, 1), two = await open(LEVELS.at(-1)!, 2);
  const base = filterCase(0);
  const c: FilterCase = {
    ...base,
    tokens: 1200,
    spec: { ...base.spec, numKvHeads: 4, headDim: 64 },
    input: {
      keys: tensorOf("f32", [1200, 4, 64], (i) => Math.sin(i * i % 1009)),
      values: tensorOf("f32", [1200, 4, 64], (i) => Math.cos(i * i % 1013)),
    },
  };
  const outputs = [one, two].map((backend) => {
    const output = createScanOutput(c.tokens);
    advance(() => backend, c, createLayerState(c.spec), output, 0, c.tokens, c.tokens);
    return output;
  });
  assertEquals(outputs[0], outputs[1]);
});

function learnedCase(): FilterCase {
  const found = Array.from({ length: 20 }, (_, i) => filterCase(i)).find((c) => c.spec.fusion === "learned");
  return found!;
}

Deno.test("kvFilterScan() refuses a state or a number that it cannot go on from", async () => {
  const backend = await open(LEVELS.at(-1)!);
  const c = learnedCase();
  const scan = (change: (state: LayerState) => void, input = c.input, spec = c.spec) => {
    const state = createLayerState(spec);
    change(state);
    return backend.kvFilterScan(spec, state, input, 0, 1, createScanOutput(c.tokens));
  };
  assertEquals(scan(() => {}), 1);
  const slot = (index: number, value: number) => (state: LayerState) => {
    state.numbers[index] = value;
  };
  for (const value of [-1, 0.5, NaN, Infinity]) {
    for (const index of [SLOT.seen, SLOT.scored, SLOT.pending, SLOT.settled, SLOT.fitted]) {
      assertThrows(() => scan(slot(index, value)), KernelError, `in slot ${index} of the state`);
    }
  }
  assertThrows(() => scan(slot(SLOT.skipped, 3)), KernelError, "in slot 4");
  assertThrows(
    () => scan((state) => (state.numbers[SLOT.scored] = 1, state.scores[0] = NaN)),
    KernelError,
    "not finite",
  );
  for (const change of [{ tau: -1 }, { skipRatio: 2 }, { gamma: 1 }, { ridge: 0 }, { eps: NaN }]) {
    const name = Object.keys(change)[0]!.replace("skipRatio", "skip_ratio");
    assertThrows(() => scan(() => {}, c.input, { ...c.spec, ...change }), KernelError, `found ${name} = `);
  }
  const absorb = { ...c.spec, absorb: "kept" } as const;
  assertThrows(() => scan(() => {}, c.input, absorb), KernelError, 'absorb under "learned"');
  const broken: HostTensor = { ...c.input.keys, data: c.input.keys.data.slice() };
  broken.data.fill(broken.dtype === "f32" ? NaN : 0xFFFF);
  assertThrows(() => scan(() => {}, { ...c.input, keys: broken }), KernelError, "not finite at token 0");
});

Deno.test("kvFilterScan() stops before a token that is not finite, and can go on", async () => {
  const c = filterCase(0);
  const width = c.input.keys.data.length / c.tokens, bad = 5;
  assert(c.tokens > bad + 1);
  const keys: HostTensor = { ...c.input.keys, data: c.input.keys.data.slice() };
  keys.data[bad * width] = keys.dtype === "f32" ? Infinity : 0xFFFF;
  for (const level of LEVELS) {
    const backend = await open(level);
    const state = createLayerState(c.spec), output = createScanOutput(c.tokens);
    assertThrows(
      () => backend.kvFilterScan(c.spec, state, { ...c.input, keys }, 0, c.tokens, output),
      KernelError,
      `not finite at token ${bad}`,
    );
    assertEquals(state.numbers[SLOT.seen], bad);
    advance(() => backend, c, state, output, bad, c.tokens, c.tokens);
    const whole = createScanOutput(c.tokens);
    advance(() => backend, c, createLayerState(c.spec), whole, 0, c.tokens, c.tokens);
    for (let t = bad; t < c.tokens; t++) expectSame(level, t, output, whole);
  }
});

Deno.test("kvFilterScan() holds `learned` to its blocks", async () => {
  const backend = await open(LEVELS.at(-1)!);
  const c = learnedCase();
  const state = createLayerState(c.spec), output = createScanOutput(c.tokens);
  assertEquals(backend.kvFilterScan(c.spec, state, c.input, 0, c.tokens, output), c.spec.warmup);
  assertThrows(
    () => backend.kvFilterScan(c.spec, state, c.input, c.spec.warmup, 1, output),
    KernelError,
    "not yet observed",
  );
  const tooMany = new Float64Array(c.spec.warmup + 1);
  assertThrows(() => backend.kvFilterObserve(c.spec, state, tooMany), KernelError, "expected at most");
  const infinite = new Float64Array([Infinity]);
  assertThrows(() => backend.kvFilterObserve(c.spec, state, infinite), KernelError, "not finite");
  backend.kvFilterObserve(c.spec, state, c.outcomes.slice(0, c.spec.warmup));
  assertEquals(state.numbers[SLOT.fitted], 1);
  const other = filterCase(0);
  assertThrows(
    () => backend.kvFilterObserve(other.spec, createLayerState(other.spec), new Float64Array(0)),
    KernelError,
    "learns nothing",
  );
});

Deno.test("kvFilterScan() wants a whole sequence for topk", async () => {
  const backend = await open(LEVELS.at(-1)!);
  const c = filterCase(40);
  assertEquals(c.spec.threshold, "topk");
  const state = createLayerState(c.spec), output = createScanOutput(c.tokens);
  backend.kvFilterScan(c.spec, state, c.input, 0, c.tokens, output);
  assertThrows(
    () => backend.kvFilterScan(c.spec, state, c.input, 0, 1, output),
    KernelError,
    "looks at a whole sequence",
  );
});
