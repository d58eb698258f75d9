/** Holds an execution of the filter's recurrence against the reference. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { Backend } from "../../lib/backend.ts";
import {
  cloneLayerState,
  codeOf,
  createLayerState,
  createScanOutput,
  type LayerSpec,
  type LayerState,
  type ScanInput,
  type ScanOutput,
  SLOT,
} from "../../lib/filter/layer.ts";
import { observeLayer, scanLayer } from "../../lib/filter/scan.ts";
import type { Tensor } from "../../lib/tensor.ts";
import type { Way } from "../testing/ways.ts";
import { normals } from "../filtered_attention/cases.ts";
import type { FilterCase } from "./cases.ts";

/** A way as an executor of one case. */
export function executorOf({ backend, on }: Way<Backend>, c: FilterCase): Executor {
  const { kvFilterScan, kvFilterObserve } = backend;
  const input = Object.fromEntries(Object.entries(c.input).map(([name, x]) => [name, on(x)]));
  return { kvFilterScan, kvFilterObserve, input: input as unknown as ScanInput<Tensor> };
}

/** What decides and learns: a backend, or the reference. */
export interface Executor extends Pick<Backend, "kvFilterScan" | "kvFilterObserve"> {
  /** The case's input where this executor reads it, if not in this process. */
  readonly input?: ScanInput<Tensor>;
}
/** The reference. */
export const REFERENCE: Executor = { kvFilterScan: scanLayer, kvFilterObserve: observeLayer };

/**
 * A case whose sequence has a long past: its window of `window` scores is full, and begins in the middle of its ring.
 * It has skipped as many tokens as `budget` wants; with a window of 1025, after more tokens than 32 bits hold.
 */
export function longPast(base: FilterCase, window: number): { c: FilterCase; past: LayerState } {
  const c = { ...base, spec: { ...base.spec, window, warmup: window } };
  const past = createLayerState(c.spec), normal = normals(base.tokens);
  const seen = 2 * window + 17 + (window === 1025 ? 2 ** 33 : 0), decided = seen - window;
  past.numbers.set([
    seen,
    seen,
    past.scores.length > 0 ? seen - 1 : 0,
    decided,
    Math.floor(c.spec.skipRatio * decided),
  ]);
  for (let j = 0; j < past.scores.length; j++) past.scores[j] = Math.tanh(0.3 + 0.2 * normal());
  for (const anchor of [past.anchorK, past.anchorV]) {
    for (let j = 0; j < anchor.length; j++) anchor[j] = normal();
  }
  return { c, past };
}

/** Decides tokens [from, to), in calls of at most `chunk`, `learned` being told its outcomes. */
export function advance(
  executor: (call: number) => Executor,
  c: FilterCase,
  state: LayerState,
  output: ScanOutput,
  from: number,
  to: number,
  chunk: number,
): void {
  for (let at = from, call = 0; at < to; call++) {
    const { kvFilterScan, kvFilterObserve, input = c.input } = executor(call);
    const taken = kvFilterScan(c.spec, state, input, at, Math.min(chunk, to - at), output);
    if (c.spec.reads.includes("outputs")) {
      const kept = Array.from({ length: taken }, (_, i) => at + i).filter((t) => output.keep[t]);
      kvFilterObserve(c.spec, state, Float64Array.from(kept, (t) => c.outcomes[t]!));
    }
    at += taken;
  }
}

const COLUMNS = ["redundancy", "threshold", "muK", "varK", "muV", "varV", "wK"] as const;

/** Both have the same number for token t, or both have none. */
export function expectSame(
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

/** How near an execution must come to the reference. */
export interface Exactness {
  /** Tolerance of each number of a decision, relative if it is above 1. */
  readonly decision: number;
  /** Tolerance of a number of the anchors, relative if they are above 1. */
  readonly anchor: number;
}

/** Tolerance of sums in float64, which differ only by the order of additions. The fit of `learned` solves equations. */
export function float64Exactness({ spec }: FilterCase): Exactness {
  return { decision: spec.reads.includes("outputs") ? 1e-9 : 1e-12, anchor: 0 };
}

/** Sums and anchors in float32, but for `learned`. */
export function float32Exactness(c: FilterCase): Exactness {
  return c.spec.reads.includes("outputs") ? float64Exactness(c) : { decision: bandOf(c.spec), anchor: 1e-6 };
}

/** Distance of a score from its threshold within which rounding may decide. */
export function bandOf(spec: LayerSpec): number {
  return 2e-5 * Math.max(1, codeOf(spec, "tau"));
}

/** The states agree. */
export function expectState(
  name: string,
  found: LayerState,
  expected: LayerState,
  exactness: Exactness,
): void {
  assertEquals(found.numbers.slice(0, SLOT.theta), expected.numbers.slice(0, SLOT.theta), name);
  assertEquals(found.numbers.slice(SLOT.pending), expected.numbers.slice(SLOT.pending), name);
  const { decision, anchor } = exactness;
  for (const slot of [SLOT.theta, SLOT.sdW]) {
    const a = expected.numbers[slot]!;
    assertAlmostEquals(found.numbers[slot]!, a, decision * Math.max(1, Math.abs(a)), `${name}, slot ${slot}`);
  }
  const parts = { scores: decision, learned: decision, anchorK: anchor, anchorV: anchor };
  for (const [part, tolerance] of Object.entries(parts) as ["scores", number][]) {
    const scale = expected[part].reduce(
      (most, x) => Math.max(most, Math.abs(x)),
      1,
    );
    for (let i = 0; i < expected[part].length; i++) {
      const a = found[part][i]!, b = expected[part][i]!;
      assert(Math.abs(a - b) <= tolerance * scale, `${name}: ${part}[${i}] is ${a}, expected ${b}`);
    }
  }
}

/** How far a decision of rows [first, end) is from another one: `topk` decides at the lowest score that it skips. */
export function distanceOf(
  spec: LayerSpec,
  output: ScanOutput,
  t: number,
  first: number,
  end: number,
): number {
  let boundary = output.threshold[t]!;
  if (spec.threshold === "topk") {
    boundary = Infinity;
    for (let i = first; i < end; i++) {
      if (!output.keep[i]) boundary = Math.min(boundary, output.redundancy[i]!);
    }
  }
  return Math.abs(output.redundancy[t]! - boundary);
}

/**
 * Follows the reference; where a decision differs, the score must lie within the band about the threshold, and the
 * rest goes on from the reference's decision. Returns the number of such tokens.
 */
export function countFlips(
  name: string,
  executor: (call: number) => Executor,
  c: FilterCase,
  chunk: number,
  exactness: Exactness = float64Exactness(c),
  past: LayerState = createLayerState(c.spec),
): number {
  const expected = createScanOutput(c.tokens), found = createScanOutput(c.tokens);
  let state = cloneLayerState(past), flips = 0;
  for (let from = 0; from < c.tokens;) {
    const start = cloneLayerState(state), own = cloneLayerState(state);
    advance(() => REFERENCE, c, state, expected, from, c.tokens, c.tokens);
    advance(executor, c, own, found, from, c.tokens, chunk);
    let flip: number | undefined;
    for (let t = from; t < c.tokens && flip === undefined; t++) {
      if (found.keep[t] === expected.keep[t]) {
        expectSame(name, t, found, expected, exactness.decision);
        continue;
      }
      const distance = distanceOf(c.spec, expected, t, 0, c.tokens);
      assert(
        distance < bandOf(c.spec),
        `${name}, token ${t}: decided otherwise at a distance of ${distance}`,
      );
      flips++;
      if (c.spec.threshold !== "topk") flip = t; // whose decisions do not hang on one another
    }
    if (flip === undefined) {
      expectState(name, own, state, exactness);
      return flips;
    }
    state = start;
    advance(() => REFERENCE, c, state, expected, from, flip + 1, c.tokens);
    from = flip + 1;
  }
  return flips;
}
