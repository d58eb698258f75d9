import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { specArgs, statesArgs, storeColumns } from "../../ffi/filter.ts";
import { KernelError } from "../../lib/errors.ts";
import { createLayerState, createScanOutput, type LayerState } from "../../lib/filter/layer.ts";
import { type HostTensor, hostTensor, rowsOf, type Tensor } from "../../lib/tensor.ts";
import { tensorOf } from "../filtered_attention/cases.ts";
import { type FilterCase, filterCase, NUM_FILTER_CASES } from "./cases.ts";
import { bandOf, distanceOf, expectSame, expectState, float32Exactness, REFERENCE } from "./testing.ts";
import { type DeviceWay, testOnDevice } from "../testing/ways.ts";

const STATE_PARTS = ["anchorK", "anchorV", "numbers", "scores", "learned"] as const;

/** What a batch's scan left behind. */
interface Scanned {
  readonly keep: Uint8Array;
  readonly columns: Float64Array;
  readonly taken: number[];
  readonly states: LayerState[];
}

/** Scans rows [starts[b], starts[b + 1]) of a case's input for every sequence b, from empty states. */
function scanBatch(
  { backend, context, on }: DeviceWay,
  c: FilterCase,
  starts: readonly number[],
  options: { tile?: number; longest?: number; chunks?: readonly number[] } = {},
): Scanned {
  const { spec, input } = c, batch = starts.length - 1, rows = starts.at(-1)!;
  const lengths = starts.slice(1).map((end, b) => end - starts[b]!);
  const one = createLayerState(spec);
  const states = STATE_PARTS.map((name) =>
    backend.alloc(one[name] instanceof Float32Array ? "f32" : "f64", [batch, one[name].length])
  );
  const signs = spec.reads.includes("outputs") ? backend.kvFilterSigns(spec) : null;
  const part = (tensor: Tensor | undefined) => tensor && on(rowsOf(tensor as HostTensor, 0, rows));
  const ints = (values: readonly number[]) => on(hostTensor("i32", [values.length], Int32Array.from(values)));
  const keep = backend.alloc("u8", [rows]),
    columns = backend.alloc("f64", [7, rows]),
    taken = backend.alloc("f64", [batch]);
  const [anchorK, anchorV, numbers, scores, learned] = states;
  context.call("tkf_filter_scan_batch", {
    spec: specArgs(spec, input.queries?.shape[1] ?? 0),
    states: statesArgs({
      anchorK: anchorK!,
      anchorV: anchorV!,
      numbers: numbers!,
      scores: scores!,
      learned: learned!,
    }, signs),
    keys: part(input.keys)!,
    values: part(input.values)!,
    residual: part(input.residual) ?? null,
    normed: part(input.normed) ?? null,
    queries: part(input.queries) ?? null,
    starts: ints(starts),
    chunks: options.chunks ? ints(options.chunks) : null,
    ...{ keep, columns, taken, num_rows: rows, batch, kv_dtype: input.keys.dtype },
    ...{ longest: options.longest ?? Math.max(...lengths), tile: options.tile ?? 0 },
  });
  const parts = states.map((tensor) => backend.read(tensor).data);
  return {
    keep: backend.read(keep).data as Uint8Array,
    columns: backend.read(columns).data as Float64Array,
    taken: [...new BigInt64Array((backend.read(taken).data as Float64Array<ArrayBuffer>).buffer)].map(Number),
    states: Array.from({ length: batch }, (_, b) =>
      Object.fromEntries(STATE_PARTS.map((name, i) => {
        const size = one[name].length;
        return [name, parts[i]!.slice(b * size, (b + 1) * size)];
      })) as unknown as LayerState),
  };
}

/** Holds every sequence of a batch to the reference, to the first decision that rounding took otherwise. */
function compare(
  c: FilterCase,
  starts: readonly number[],
  found: Scanned,
  chunks?: readonly number[],
): number {
  const rows = starts.at(-1)!, output = createScanOutput(rows), expected = createScanOutput(rows);
  const exactness = float32Exactness(c);
  storeColumns(found.columns, rows, rows, output, 0);
  output.keep.set(found.keep);
  let flips = 0;
  for (let b = 0; b + 1 < starts.length; b++) {
    const first = starts[b]!, count = starts[b + 1]! - first, state = createLayerState(c.spec);
    const name = `${c.name}, sequence ${b} of ${count} tokens`;
    if (count === 0) {
      assertEquals(found.taken[b], 0, name);
      assertEquals(found.states[b], state, name);
      continue;
    }
    const spec = { ...c.spec, chunk: chunks?.[b] ?? c.spec.chunk };
    const taken = REFERENCE.kvFilterScan(spec, state, c.input, first, count, expected);
    assertEquals(found.taken[b], taken, name);
    let same = true;
    for (let t = first; same && t < first + taken; t++) {
      if (output.keep[t] === expected.keep[t]) {
        expectSame(name, t, output, expected, exactness.decision);
        continue;
      }
      const distance = distanceOf(spec, expected, t, first, first + taken);
      assert(distance < bandOf(spec), `${name}, token ${t}: decided otherwise at a distance of ${distance}`);
      flips++;
      same = spec.threshold === "topk"; // whose decisions do not hang on one another
    }
    if (same) expectState(name, found.states[b]!, state, exactness);
  }
  return flips;
}

/** A case with so many tokens of a drifting stream. */
function longCase(i: number, tokens: number, d: number): FilterCase {
  const c = filterCase(i), H = 2;
  const stream = (k: number) =>
    tensorOf("f16", [tokens, H, d], (j) => {
      const t = Math.floor(j / (H * d)), e = j % (H * d);
      return Math.cos(e * (k + 1) + t / 90) + 0.8 * Math.sin(e * e * 13 + t * t * (k + 3) % 1009);
    });
  return {
    ...c,
    name: `${c.name.split(",")[0]}, ${tokens} tokens of ${H}x${d}`,
    tokens,
    spec: { ...c.spec, numKvHeads: H, headDim: d },
    input: { keys: stream(0), values: stream(1) },
  };
}

testOnDevice(
  "tkf_filter_scan_batch() decides sequences of different lengths as the reference does",
  (device) => {
    let runs = 0, flips = 0;
    for (let i = 0; i < NUM_FILTER_CASES; i++) {
      const c = filterCase(i);
      if (c.spec.headDim === 1 || c.tokens < 130) continue;
      const starts = [0, 0, 1, 32, 64, 97, 97, 130].map((at) => Math.min(at, c.tokens));
      const chunks = i % 2 === 0 ? starts.slice(1).map((_, b) => 3 * b) : undefined;
      flips += compare(c, starts, scanBatch(device, c, starts, { chunks }), chunks);
      runs++;
    }
    assert(runs >= 40, `${runs}`);
    assert(flips <= 30, `${flips} decisions of ${runs} batches differed`);
  },
);

testOnDevice("tkf_filter_scan_batch() gives the same whatever a tile of the anchors' scan is", (device) => {
  let runs = 0;
  for (const [i, d] of [[0, 32], [1, 64], [12, 80], [34, 96], [41, 128], [24, 256]] as const) {
    const c = longCase(i, 260, d), starts = [0, 127, 127, 260];
    for (const tile of [0, 7, 32, 128, 1000]) {
      assert(compare(c, starts, scanBatch(device, c, starts, { tile })) <= 1);
      runs++;
    }
  }
  assertEquals(runs, 30);
});

testOnDevice("tkf_filter_scan_batch() reports starts that it cannot use", (device) => {
  const c = filterCase(3);
  assert(c.tokens >= 20 && c.spec.rule.name === "key");
  const good = [0, 5, 9, 20];
  assertEquals(scanBatch(device, c, good).taken, [5, 4, 11]);
  for (const longest of [10, 1]) {
    const error = assertThrows(() => scanBatch(device, c, good, { longest }), KernelError);
    assertStringIncludes(error.message, "starts that do not ascend");
  }
  for (const starts of [[0, 9, 5, 20], [-1, 5, 9, 20], [0, 5, 21, 20]]) {
    const error = assertThrows(() => scanBatch(device, c, starts, { longest: 20 }), KernelError);
    assertStringIncludes(error.message, "starts that do not ascend");
  }
});
