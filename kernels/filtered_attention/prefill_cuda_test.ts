import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  type OpenDevice,
  openTestDevice,
  testsOnGpu,
  THREAD_ORDERS,
  wgmmaProducts,
} from "../../ffi/cuda/testing.ts";
import { KernelError } from "../../lib/errors.ts";
import { dequantize } from "../../lib/reference/dequantize.ts";
import { type HostTensor, hostTensor } from "../../lib/tensor.ts";
import { NO_DEVICE, testInEveryOrder, testOnDevice, testSameInEveryOrder } from "../testing/ways.ts";
import { roundTo, tensorOf } from "./cases.ts";
import { type BatchCase, expectedOf, nameOf, prefillCases, scaleOf, sequencesOf } from "./batch_cases.ts";
import { BAR, difference } from "./testing.ts";
import { unless } from "../../lib/testing.ts";

/** A prefill of a case: its tensors on the host, as the call wants them. */
interface Prefill {
  readonly c: BatchCase;
  readonly queries: HostTensor;
  readonly queryPositions: HostTensor;
  /** Keys, values and positions, kept and recent. */
  readonly rows: readonly (readonly [HostTensor, HostTensor, HostTensor])[];
  /** Where each sequence's queries, kept keys and recent keys begin. */
  readonly starts: readonly HostTensor[];
  readonly longest: number;
  readonly expected: Float32Array;
}

/** `from`: the share of a sequence before its first query, as in a later chunk of a prefill. */
function prepare(c: BatchCase, from: number, queryType: "f32" | "f16" | "bf16" = "f32"): Prefill {
  const heads = c.numKvHeads * c.group, width = c.numKvHeads * c.headDim, row = heads * c.headDim;
  const { sequences, normal } = sequencesOf(c);
  const queries: number[] = [], expected: number[] = [];
  const positions: number[][] = [[], [], []], starts: number[][] = [[0], [0], [0]];
  const stores: [number[], number[]][] = [[[], []], [[], []]];
  for (const sequence of sequences) {
    sequence.kept.forEach((kept, t) => {
      const which = kept ? 0 : 1;
      stores[which]![0].push(...sequence.keys.subarray(t * width, (t + 1) * width));
      stores[which]![1].push(...sequence.values.subarray(t * width, (t + 1) * width));
      positions[1 + which]!.push(t);
      if (!kept || t < from * sequence.kept.length) return;
      const query = roundTo(c.dtype, [row], normal);
      queries.push(...query);
      expected.push(...expectedOf(c, sequence, t, query));
      positions[0]!.push(t);
    });
    positions.forEach((list, i) => starts[i]!.push(list.length));
  }
  const ints = (x: readonly number[]) => hostTensor("i32", [x.length], Int32Array.from(x));
  const store = (which: number) => {
    const [keys, values] = stores[which]!.map((x) => tensorOf(c.dtype, [x.length], (i) => x[i]!));
    return [keys!, values!, ints(positions[1 + which]!)] as const;
  };
  return {
    c,
    queries: tensorOf(queryType, [queries.length], (i) => queries[i]!),
    queryPositions: ints(positions[0]!),
    rows: [store(0), store(1)],
    starts: starts.map(ints),
    longest: Math.max(...starts[0]!.slice(1).map((end, b) => end - starts[0]![b]!)),
    expected: Float32Array.from(expected),
  };
}

/** Whether a device has wgmma. */
function hasWgmma({ context }: OpenDevice): boolean {
  const has = context.useWgmma(true);
  context.useWgmma(false);
  return has;
}

/** Whether a prefill is one that wgmma takes: 16-bit heads of at most 128, and rows for a whole tile. */
function fitsWgmma({ c, rows, longest }: Prefill): boolean {
  const { dtype, headDim, group } = c;
  return dtype !== "f32" && headDim % 8 === 0 && headDim <= 128 && longest * group >= 128 &&
    rows[0]![0].shape[0]! > 0;
}

/** The kernels that a device has for a prefill: mma.sync or plain (false), and where it can, wgmma (true). */
function variantsOf(device: OpenDevice, p: Prefill): boolean[] {
  return fitsWgmma(p) && hasWgmma(device) ? [false, true] : [false];
}

/** @param wgmma Whether wgmma must do it; where it must not, it must not */
function run(device: OpenDevice, p: Prefill, wgmma = false): Float32Array {
  const { context, backend } = device, { c } = p;
  const on = (tensor: HostTensor) => backend.upload(tensor);
  const queries = on(p.queries), out = on(tensorOf(p.queries.dtype as "f32", queries.shape, () => NaN));
  const [[keys, values, keyPositions], [recentKeys, recentValues, recentPositions]] = p.rows;
  const [queryStarts, keyStarts, recentStarts] = p.starts;
  const before = wgmmaProducts(context.library);
  assertEquals(context.useWgmma(wgmma), wgmma);
  try {
    context.call("tkf_attention_prefill", {
      queries,
      out,
      query_positions: on(p.queryPositions),
      keys: on(keys),
      values: on(values),
      key_positions: on(keyPositions),
      recent_keys: on(recentKeys),
      recent_values: on(recentValues),
      recent_positions: on(recentPositions),
      ...{ query_starts: on(queryStarts), key_starts: on(keyStarts), recent_starts: on(recentStarts) },
      ...{ num_queries: p.queryPositions.shape[0]!, longest_queries: p.longest },
      ...{ num_keys: keyPositions.shape[0]!, num_recent: recentPositions.shape[0]! },
      ...{
        batch: c.tokens.length,
        heads: c.numKvHeads * c.group,
        kv_heads: c.numKvHeads,
        head_dim: c.headDim,
      },
      ...{
        dtype: c.dtype,
        query_dtype: queries.dtype,
        recent: c.recent,
        window: c.window,
        scale: scaleOf(c),
      },
    });
  } finally {
    context.useWgmma(false);
  }
  if (before !== undefined) {
    assertEquals(wgmmaProducts(context.library)! > before, wgmma, `wgmma: ${nameOf(c)}`);
  }
  return Float32Array.from(dequantize(backend.read(out), 0, p.expected.length));
}

let prefills: Prefill[] | undefined;

testInEveryOrder(
  "tkf_attention_prefill equals the reference for all sequences of a batch",
  5 * 84,
  (device) => {
    prefills ??= prefillCases().flatMap((c) => [0, 0.6].map((from) => prepare(c, from)));
    let byWgmma = 0, values = 0;
    for (const p of prefills) {
      for (const wgmma of variantsOf(device, p)) {
        const worst = difference(run(device, p, wgmma), p.expected), { name } = device;
        const what = `${name}, ${nameOf(p.c)}, ${p.queries.shape[0]} queries, wgmma ${wgmma}`;
        assert(worst <= BAR[p.c.dtype], `${what}: off by ${worst}`);
        byWgmma += wgmma ? 1 : 0;
      }
      values += p.expected.length;
    }
    assertEquals(byWgmma, hasWgmma(device) ? 26 : 0);
    assert(values > 1_000_000, `${values} values`);
    return prefills.length;
  },
);

testOnDevice("tkf_attention_prefill reads and writes the keys' own type", (device) => {
  for (const dtype of ["f16", "bf16"] as const) {
    for (const headDim of [64, 20]) {
      const p = prepare({ ...prefillCases()[0]!, dtype, headDim }, 0, dtype);
      for (const wgmma of variantsOf(device, p)) {
        assert(difference(run(device, p, wgmma), p.expected) <= 2 * BAR[dtype]); // the output is rounded once more
      }
    }
  }
});

testSameInEveryOrder(
  "tkf_attention_prefill is the same in all thread orders",
  2,
  (device) =>
    (["f32", "bf16"] as const).map((dtype) => {
      const p = prepare({ ...prefillCases()[0]!, tokens: [90, 0, 31], dtype }, 0);
      return variantsOf(device, p).map((wgmma) => {
        const found = run(device, p, wgmma);
        assert(difference(found, p.expected) <= BAR[dtype]);
        return found;
      });
    }),
);

/** Few queries after a long past: their keys are split among blocks. */
const AFTER_LONG_PAST: BatchCase = {
  ...prefillCases()[0]!,
  tokens: [989],
  numKvHeads: 1,
  group: 3,
  kept: 0.7,
};

testOnDevice("tkf_attention_prefill of few queries after a long past equals the reference", (device) => {
  const cases: BatchCase[] = [
    { ...AFTER_LONG_PAST, tokens: [700, 0, 600] },
    { ...AFTER_LONG_PAST, recent: 0, kept: 1 },
    { ...AFTER_LONG_PAST, kept: 0 },
    { ...AFTER_LONG_PAST, window: 40 }, // most splits see nothing
    { ...AFTER_LONG_PAST, window: 500, group: 1 },
    { ...AFTER_LONG_PAST, group: 8 }, // rows enough for wgmma
    { ...AFTER_LONG_PAST, group: 8, kept: 1, headDim: 96, dtype: "f16" },
    { ...AFTER_LONG_PAST, tokens: [800], group: 4, kept: 1 }, // one tile of wgmma, and splits
  ];
  let byWgmma = 0;
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    for (const headDim of [20, 64, 96, 128, 256]) cases.push({ ...AFTER_LONG_PAST, dtype, headDim });
  }
  for (const c of cases) {
    for (const queryType of new Set(["f32", c.dtype] as const)) {
      const p = prepare(c, 0.96, queryType), allowed = BAR[c.dtype] * (queryType === "f32" ? 1 : 2);
      assert(p.expected.length > 0);
      for (const wgmma of variantsOf(device, p)) {
        const worst = difference(run(device, p, wgmma), p.expected);
        assert(worst <= allowed, `${nameOf(c)}, ${queryType} queries, wgmma ${wgmma}: off by ${worst}`);
        byWgmma += wgmma ? 1 : 0;
      }
    }
  }
  assertEquals([cases.length, byWgmma], [23, hasWgmma(device) ? 6 : 0]);
});

testSameInEveryOrder("tkf_attention_prefill of few queries is the same in all thread orders", 1, (device) => {
  const p = prepare({ ...AFTER_LONG_PAST, kept: 0.9, group: 5 }, 0.96);
  return [variantsOf(device, p).map((wgmma) => run(device, p, wgmma))];
});

testOnDevice("tkf_attention_prefill takes a scale of 0, and a negative one", (device) => {
  for (const dtype of ["f32", "bf16"] as const) {
    for (const scale of [0, -0.125, 0.5]) {
      const p = prepare({ ...prefillCases()[0]!, tokens: [80], dtype, scale }, 0);
      for (const wgmma of variantsOf(device, p)) {
        assert(
          difference(run(device, p, wgmma), p.expected) <= BAR[dtype],
          `${dtype}, ${scale}, wgmma ${wgmma}`,
        );
      }
    }
  }
});

testOnDevice("tkf_attention_prefill reports starts and positions that do not ascend", (device) => {
  const c: BatchCase = { ...prefillCases()[0]!, tokens: [60, 50] };
  for (const which of [0, 1, 2]) {
    for (const wrong of [-1, 1_000_000]) {
      const p = prepare(c, 0);
      (p.starts[which]!.data as Int32Array)[1] = wrong;
      assertThrows(() => run(device, p), KernelError, "starts that do not ascend");
    }
    const p = prepare(c, 0);
    const positions = [p.queryPositions, p.rows[0]![2], p.rows[1]![2]][which]!.data as Int32Array;
    positions[5] = 0;
    assertThrows(() => run(device, p), KernelError, "positions that do not ascend");
  }
  assertThrows(() => run(device, { ...prepare(c, 0), longest: 3 }), KernelError, "starts that do not ascend");
});

testOnDevice(
  "tkf_attention_prefill shows NaN and infinity to the queries that see them, and to no others",
  (device) => {
    let reached = 0, spared = 0;
    for (const [dtype, headDim] of [["f32", 64], ["f16", 64], ["bf16", 128], ["bf16", 20]] as const) {
      const c: BatchCase = { ...prefillCases()[0]!, tokens: [100], dtype, headDim };
      const width = c.numKvHeads * headDim, row = width * c.group;
      for (const which of [0, 1]) {
        for (const what of [0, 1]) {
          for (const poison of [NaN, Infinity]) {
            const p = prepare(c, 0), [, , positions] = p.rows[which]!, at = positions.shape[0]! >> 1;
            const bad = tensorOf(dtype, [1], () => poison).data[0]!;
            (p.rows[which]![what]!.data as Float32Array).fill(bad, at * width, (at + 1) * width);
            const j = (positions.data as Int32Array)[at]!, queries = p.queryPositions.data as Int32Array;
            const runs = variantsOf(device, p).map((wgmma) => run(device, p, wgmma));
            for (
              const [found, q] of runs.flatMap((run) => Array.from(queries.keys(), (q) => [run, q] as const))
            ) {
              const i = queries[q]!,
                [output, clean] = [found, p.expected].map((x) => x.subarray(q * row, (q + 1) * row));
              if (j <= i && (which === 0 || i - j <= c.recent)) {
                assert(
                  output!.every((x) => !Number.isFinite(x)),
                  `${dtype}, ${which}, ${what}, ${poison}, query ${i}`,
                );
                reached++;
              } else {
                assert(
                  difference(output!, clean!) <= BAR[dtype],
                  `${dtype}, ${which}, ${what}, ${poison}, query ${i}`,
                );
                spared++;
              }
            }
          }
        }
      }
    }
    assert(reached > 400 && spared > 400, `${reached} reached, ${spared} spared`);
  },
);

const NO_WGMMA = NO_DEVICE || !hasWgmma(await openTestDevice()) && "needs the emulator or sm_90";

/** A prefill with NaN and infinity among the values that only some queries see. */
function withSpecialValues(c: BatchCase): Prefill {
  const p = prepare(c, 0), width = c.numKvHeads * c.headDim;
  for (const [which, poison] of [[0, NaN], [1, Infinity]] as const) {
    const values = p.rows[which]![1], rows = values.shape[0]! / width, at = (rows >> 1) * width;
    (values.data as Uint16Array).fill(tensorOf(c.dtype, [1], () => poison).data[0]!, at, at + width);
  }
  return p;
}

Deno.test({
  ...unless(NO_WGMMA, "tkf_attention_prefill by wgmma equals the reference over many key tiles"),
  fn: async () => {
    const tokens = testsOnGpu() ? [989, 300] : [420, 150], turns = testsOnGpu() ? 20 : 1;
    let runs = 0;
    for (const [headDim, dtype] of [[64, "bf16"], [96, "f16"], [128, "bf16"]] as const) {
      for (const kept of [1, 0.5]) {
        const p = prepare({ ...prefillCases()[0]!, tokens, numKvHeads: 1, headDim, dtype, kept }, 0);
        for (const order of THREAD_ORDERS) {
          const device = await openTestDevice({ order });
          for (const wgmma of order === "ascending" ? [false, true] : [true]) {
            for (let turn = 0; turn < turns; turn++) { // a race does not show every time
              const worst = difference(run(device, p, wgmma), p.expected);
              assert(
                worst <= BAR[dtype],
                `${nameOf(p.c)}, wgmma ${wgmma}, ${order}, turn ${turn}: off by ${worst}`,
              );
              runs++;
            }
          }
        }
      }
    }
    assertEquals(runs, 6 * 6 * turns);
  },
});

Deno.test({
  ...unless(NO_WGMMA, "tkf_attention_prefill by wgmma shows NaN as mma.sync does, in all thread orders"),
  fn: async () => {
    for (const [headDim, dtype] of [[64, "bf16"], [128, "f16"]] as const) {
      const c: BatchCase = { ...prefillCases()[0]!, tokens: [150, 290], numKvHeads: 1, headDim, dtype };
      const p = withSpecialValues(c), expected = run(await openTestDevice(), p);
      assert(expected.some(Number.isNaN) && expected.some(Number.isFinite));
      for (const order of THREAD_ORDERS) {
        const found = run(await openTestDevice({ order }), p, true);
        assertEquals(
          found.map((x) => Number(Number.isFinite(x))),
          expected.map((x) => Number(Number.isFinite(x))),
        );
        for (let i = 0; i < found.length; i++) {
          if (Number.isFinite(found[i])) {
            assert(Math.abs(found[i]! - expected[i]!) <= 2 * BAR[dtype], `${order}, ${i}`);
          }
        }
      }
    }
  },
});
