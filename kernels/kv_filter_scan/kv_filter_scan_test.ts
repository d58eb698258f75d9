import { assert, assertEquals, assertThrows } from "@std/assert";
import { KernelError } from "../../lib/errors.ts";
import {
  cloneLayerState,
  createLayerState,
  createScanOutput,
  type LayerState,
  SLOT,
} from "../../lib/filter/layer.ts";
import { learnedLayout } from "../../lib/methods/rules/learned.ts";
import { type HostTensor, rowsOf } from "../../lib/tensor.ts";
import { tensorOf } from "../filtered_attention/cases.ts";
import { openTested, testedLevels, testOnCpu } from "../testing/ways.ts";
import { type FilterCase, filterCase, localCase, NUM_FILTER_CASES } from "./cases.ts";
import { advance, countFlips, expectSame, expectState, float64Exactness, REFERENCE } from "./testing.ts";

const LEVELS = await testedLevels();
const open = (level: string, threads = 2) => openTested({ level, threads, blas: "none" });

testOnCpu(
  "kvFilterScan() decides as the reference does: whole, in chunks, in steps, and in turns with it",
  async () => {
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
        flips += countFlips(`${name}, in turns`, (call) => call % 2 === 0 ? backend : REFERENCE, c, 17);
        runs++;
      }
    }
    const ahead = cases.filter((c) => c.spec.threshold === "topk").length;
    assertEquals(runs, LEVELS.length * (4 * (cases.length - ahead) + ahead));
    assert(ahead >= 20 && decisions > 10_000);
    assert(flips <= decisions / 5000, `${flips} of ${decisions} decisions lay within rounding and differed`);
  },
);

testOnCpu("kvFilterScan() of learned knows local attention as the reference does", async () => {
  const backends = await Promise.all(LEVELS.map((level) => open(level)));
  let runs = 0, flips = 0, decisions = 0;
  const some = Array.from({ length: 8 }, (_, i) => localCase(i)),
    long = some.find(({ tokens }) => tokens > 220)!;
  // A warm-up whose keys are transposed in more than one piece.
  const spec = { ...long.spec, warmup: 170, recent: 40, sinks: 11 };
  for (const c of [...some, { ...long, spec, name: `${long.name}, long warm-up` }]) {
    for (const backend of backends) {
      const name = `${backend.description}, ${c.name}`;
      for (const chunk of [c.tokens, 41, 1]) flips += countFlips(name, () => backend, c, chunk), runs++;
      flips += countFlips(`${name}, in turns`, (call) => call % 2 === 0 ? backend : REFERENCE, c, 17);
    }
    decisions += Math.max(0, c.tokens - c.spec.warmup);
  }
  assertEquals([runs, flips], [3 * 9 * LEVELS.length, 0]);
  assert(decisions > 500, `${decisions}`);
});

testOnCpu("kvFilterScan() of one token finds quantiles among scores of which many are equal", async () => {
  const c = filterCase(0), { threshold, invert } = c.spec;
  assertEquals([threshold, c.spec.rule.native === undefined], ["budget", false]);
  let thresholds = 0;
  for (const level of LEVELS) {
    const backend = await open(level, 1);
    for (let window = 1; window <= 60; window++) {
      for (const [different, skipRatio] of [[1, 0.5], [2, 0.3], [3, 0.9], [7, 0.62], [1e9, 0.5]] as const) {
        const spec = { ...c.spec, window, skipRatio, warmup: 0 }, state = createLayerState(spec);
        state.scores.forEach((_, i) => state.scores[i] = Math.floor(Math.sin(i * i + 1) * different) / 7);
        state.numbers[SLOT.scored] = state.numbers[SLOT.seen] = state.numbers[SLOT.absorbed] = window;
        const [found, expected] = [backend, REFERENCE].map((own) => {
          const output = createScanOutput(1);
          own.kvFilterScan(spec, cloneLayerState(state), c.input, 0, 1, output);
          return output.threshold[0]!;
        });
        assertEquals(found, expected, `${level}, window ${window}, ${different} scores, ${invert}`);
        thresholds += Number.isFinite(found) ? 1 : 0;
      }
    }
  }
  assertEquals(thresholds, LEVELS.length * 60 * 5);
});

testOnCpu(
  "kvFilterScan() of a long sequence, on one thread and on two, is that of the reference",
  async () => {
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
    for (const backend of [one, two]) {
      assertEquals(countFlips(backend.description, () => backend, c, c.tokens), 0);
    }
  },
);

function learnedCase(): FilterCase {
  const found = Array.from({ length: 20 }, (_, i) => filterCase(i)).find((c) =>
    c.spec.rule.name === "learned"
  );
  return found!;
}

testOnCpu("kvFilterScan() refuses a state or a number that it cannot go on from", async () => {
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

testOnCpu(
  "kvFilterScan() refuses rows and tensors that are not there, before it calls the library",
  async () => {
    const backend = await open(LEVELS.at(-1)!), c = learnedCase(), { tokens, spec, input } = c;
    assert(spec.reads.includes("queries"));
    const state = createLayerState(spec),
      before = cloneLayerState(state),
      output = createScanOutput(tokens + 1);
    const refuses = (start: number, count: number, says: string, change = {}, into = output) =>
      assertThrows(
        () => backend.kvFilterScan(spec, state, { ...input, ...change }, start, count, into),
        RangeError,
        says,
      );
    for (
      const [start, count] of [[-1, 1], [-1, 2], [0.5, 1], [NaN, 1], [0, 0], [0, -1], [0, 1.5], [2 ** 53, 1]]
    ) {
      refuses(
        start!,
        count!,
        `Cannot scan ${count} rows from ${start}: expected at least 1, from 0 or later`,
      );
    }
    refuses(1, tokens, `Cannot scan to row ${tokens + 1}: found room for 2`, {}, createScanOutput(2));
    for (const name of ["keys", "values", "residual", "normed", "queries"] as const) {
      refuses(0, 2, `Cannot scan rows 0 to 2: found 1 rows of "${name}"`, {
        [name]: rowsOf(input[name]!, 0, 1),
      });
    }
    for (const name of ["residual", "normed", "queries"] as const) {
      assertThrows(
        () => backend.kvFilterScan(spec, state, { ...input, [name]: undefined }, 0, 1, output),
        TypeError,
        "Cannot scan with",
      );
    }
    for (const name of ["anchorK", "anchorV", "numbers", "scores", "learned"] as const) {
      const short = { ...state, [name]: state[name].slice(1) };
      assertThrows(() => backend.kvFilterScan(spec, short, input, 0, 1, output), RangeError, `in "${name}"`);
    }
    assertEquals(state, before);
  },
);

testOnCpu("kvFilterScan() stops before a token that is not finite, and can go on", async () => {
  // Anchors that take in every token go ahead of the decisions, and have to be taken back; others follow them.
  const cases = Array.from({ length: NUM_FILTER_CASES }, (_, i) => filterCase(i)).filter((c) =>
    c.spec.threshold !== "topk" && c.spec.headDim > 1 && c.spec.gamma > 0 && c.tokens > 40
  );
  const chosen = [
    cases.find(({ spec }) => spec.rule.name !== "learned" && spec.absorb === "all")!,
    cases.find(({ spec }) => spec.absorb === "kept")!,
    cases.find(({ spec }) => spec.rule.name === "learned")!,
    Array.from({ length: 15 }, (_, i) => localCase(i)).find(({ spec, tokens }) =>
      spec.headDim > 1 && spec.recent < 4 && tokens > 40
    )!,
  ];
  for (const c of chosen) {
    const width = c.input.keys.data.length / c.tokens, bad = 5;
    const keys: HostTensor = { ...c.input.keys, data: c.input.keys.data.slice() };
    keys.data[bad * width] = keys.dtype === "f32" ? Infinity : 0xFFFF;
    for (const level of LEVELS) {
      const backend = await open(level), name = `${level}, ${c.name}`;
      const state = createLayerState(c.spec), output = createScanOutput(c.tokens);
      advance(() => backend, c, state, output, 0, 2, 2); // the first token makes the anchors, whatever they were
      assertThrows(
        () => backend.kvFilterScan(c.spec, state, { ...c.input, keys }, 2, c.tokens - 2, output),
        KernelError,
        `not finite at token ${bad}`,
      );
      assertEquals(state.numbers[SLOT.seen], bad, name);
      const expected = createLayerState(c.spec), whole = createScanOutput(c.tokens);
      advance(() => REFERENCE, c, expected, whole, 0, bad, c.tokens);
      if (c.spec.rule.name === "learned") backend.kvFilterObserve(c.spec, state, c.outcomes.slice(2, bad)); // all kept
      expectState(name, state, expected, float64Exactness(c));
      advance(() => backend, c, state, output, bad, c.tokens, c.tokens);
      advance(() => REFERENCE, c, expected, whole, bad, c.tokens, c.tokens);
      for (let t = bad; t < c.tokens; t++) expectSame(name, t, output, whole, float64Exactness(c).decision);
    }
  }
});

testOnCpu("kvFilterScan() holds `learned` to its blocks", async () => {
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
  const short = { ...state, learned: state.learned.slice(1) };
  assertThrows(() => backend.kvFilterObserve(c.spec, short, c.outcomes.slice(0, 1)), RangeError, '"learned"');
  backend.kvFilterObserve(c.spec, state, c.outcomes.slice(0, c.spec.warmup));
  assertEquals(state.numbers[SLOT.fitted], 1);
  // The caller passes the state of the fit back: its matrix must still be solvable.
  const { A, F } = learnedLayout(c.spec);
  for (const [index, value] of [[0, -1e6], [F * F - 1, -1e6], [F + 1, NaN]] as const) {
    const broken = cloneLayerState(state);
    broken.learned[A + index] = value;
    const goOn = () => advance(() => backend, c, broken, output, c.spec.warmup, c.tokens, c.tokens);
    assertThrows(goOn, KernelError, "found a matrix in the state that is not positive definite");
  }
  const other = filterCase(0);
  assertThrows(
    () => backend.kvFilterObserve(other.spec, createLayerState(other.spec), new Float64Array(0)),
    KernelError,
    "learns nothing",
  );
});

testOnCpu("kvFilterScan() wants a whole sequence for topk", async () => {
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
