import { assert, assertEquals, assertThrows } from "@std/assert";
import { INTERPRETS_PTX, type OpenDevice, ptxCounts } from "../../ffi/cuda/testing.ts";
import type { AttentionArgs } from "../../lib/backend.ts";
import { KernelError } from "../../lib/errors.ts";
import { attention } from "../../lib/reference/attention.ts";
import { f32Data, type HostTensor, hostTensor } from "../../lib/tensor.ts";
import { testOnDevice, testSameInAnyOrder } from "../testing/ways.ts";
import { roundTo, tensorOf } from "./cases.ts";
import { type BatchCase, expectedOf, nameOf, prefillCases, scaleOf, sequencesOf } from "./batch_cases.ts";
import { BAR, difference } from "./testing.ts";
import { RUNS_SLOW } from "../../lib/testing.ts";

/** A prefill of one sequence of a case. */
interface Prefill {
  readonly c: BatchCase;
  /** The call, on the host; `out` holds NaN. */
  readonly args: AttentionArgs;
  readonly expected: Float32Array;
}

/** The prefills of a case. `from`: the fraction of a sequence before its first query, as in a later chunk of a prefill. */
function prepare(c: BatchCase, from: number): Prefill[] {
  const heads = c.numKvHeads * c.group, width = c.numKvHeads * c.headDim, row = heads * c.headDim;
  const { sequences, normal } = sequencesOf(c);
  const ints = (x: readonly number[]) => hostTensor("i32", [x.length], Int32Array.from(x));
  return sequences.filter(({ kept }) => kept.length > 0).map((sequence) => {
    const tokens = sequence.kept.map((_, t) => t);
    const cached = tokens.filter((t) => sequence.kept[t]), recent = tokens.filter((t) => !sequence.kept[t]);
    const asking = cached.filter((t) => t >= from * tokens.length);
    const queries: number[] = [], expected: number[] = [];
    for (const t of asking) {
      const query = roundTo(c.dtype, [row], normal);
      queries.push(...query);
      expected.push(...expectedOf(c, sequence, t, query));
    }
    const store = (values: Float32Array, rows: readonly number[]) =>
      tensorOf(
        c.dtype,
        [rows.length, c.numKvHeads, c.headDim],
        (i) => values[rows[Math.floor(i / width)]! * width + i % width]!,
      );
    const shape = [asking.length, heads, c.headDim], windowed = c.window > 0;
    return {
      c,
      args: {
        queries: tensorOf("f32", shape, (i) => queries[i]!),
        queryPositions: ints(asking),
        keys: store(sequence.keys, cached),
        values: store(sequence.values, cached),
        keyPositions: ints(cached),
        numKeys: cached.length,
        recentKeys: store(sequence.keys, recent),
        recentValues: store(sequence.values, recent),
        recentPositions: ints(recent),
        numRecent: recent.length,
        recent: windowed ? Math.min(c.recent, c.window - 1) : c.recent,
        ...windowed && { windows: ints(asking.map(() => c.window - 1)) },
        scale: scaleOf(c),
        out: tensorOf("f32", shape, () => NaN),
      },
      expected: Float32Array.from(expected),
    };
  });
}

const numQueries = ({ args }: Prefill) => args.queries.shape[0]!;

/** Whether a device has wgmma. */
function hasWgmma({ context }: OpenDevice): boolean {
  const has = context.useWgmma(true);
  context.useWgmma(false);
  return has;
}

/** Whether a prefill is one that wgmma takes: 16-bit heads of at most 128, and rows for a whole tile. */
function fitsWgmma(p: Prefill): boolean {
  const { dtype, headDim, group } = p.c;
  return dtype !== "f32" && headDim % 8 === 0 && headDim <= 128 && numQueries(p) > 16 &&
    numQueries(p) * group >= 128;
}

/** The kernels that a device has for a prefill: mma.sync or plain (false), and where it can, wgmma (true). */
function variantsOf(device: OpenDevice, p: Prefill): boolean[] {
  return fitsWgmma(p) && hasWgmma(device) ? [false, true] : [false];
}

/** @param wgmma Whether wgmma must do it; where it must not, it must not */
function run({ context, backend }: OpenDevice, { c, args }: Prefill, wgmma = false): Float32Array {
  const placed = Object.fromEntries(
    Object.entries(args).map(([name, x]) => [name, typeof x === "object" ? backend.upload(x) : x]),
  ) as unknown as AttentionArgs;
  const before = ptxCounts();
  assertEquals(context.useWgmma(wgmma), wgmma);
  try {
    backend.attention(placed);
  } finally {
    context.useWgmma(false);
  }
  if (before !== undefined) {
    assertEquals(ptxCounts()!.products > before.products, wgmma, `wgmma: ${nameOf(c)}`);
  }
  return f32Data(backend.read(placed.out));
}

/** Fails unless every prefill kernel of a device gives the expected output. Returns the number of wgmma kernels. */
function check(device: OpenDevice, p: Prefill): number {
  const variants = variantsOf(device, p);
  for (const wgmma of variants) {
    const worst = difference(run(device, p, wgmma), p.expected);
    const what = `${device.backend.description}, ${nameOf(p.c)}, ${numQueries(p)} queries, wgmma ${wgmma}`;
    assert(worst <= BAR[p.c.dtype], `${what}: off by ${worst}`);
  }
  return variants.length - 1;
}

let prefills: Prefill[] | undefined;

testOnDevice(
  "attention() of a prefill equals the reference for every sequence of a batch, small cases",
  (device) => {
    prefills ??= prefillCases().flatMap((c, i) =>
      (RUNS_SLOW ? [0, 0.6] : [i % 2 * 0.6]).flatMap((from) => prepare(c, from))
    );
    let byWgmma = 0, values = 0;
    for (const p of prefills) {
      byWgmma += check(device, p);
      values += p.expected.length;
    }
    assertEquals(byWgmma, !hasWgmma(device) ? 0 : RUNS_SLOW ? 40 : 15);
    assert(values > (RUNS_SLOW ? 3_000_000 : 1_000_000), `${values} values`);
    assertEquals(prefills.length, RUNS_SLOW ? 220 : 110);
  },
);

testSameInAnyOrder(
  "attention() of a prefill is the same",
  (device) =>
    (["f32", "bf16"] as const).flatMap((dtype) =>
      prepare({ ...prefillCases()[0]!, tokens: [90, 0, 41], dtype }, 0).map((p) => {
        assert(numQueries(p) > 16);
        return variantsOf(device, p).map((wgmma) => {
          const found = run(device, p, wgmma);
          assert(difference(found, p.expected) <= BAR[dtype]);
          return found;
        });
      })
    ),
);

/** Few queries after a long past: their keys are split among blocks. */
const AFTER_LONG_PAST: BatchCase = {
  ...prefillCases()[0]!,
  tokens: [989],
  numKvHeads: 1,
  group: 3,
  kept: 0.7,
};

testOnDevice("attention() of few queries after a long past equals the reference", (device) => {
  const cases: BatchCase[] = [
    { ...AFTER_LONG_PAST, tokens: [700, 0, 600], kept: 0.9 },
    { ...AFTER_LONG_PAST, recent: 0, kept: 1 },
    { ...AFTER_LONG_PAST, window: 40 }, // most splits see nothing
    { ...AFTER_LONG_PAST, window: 500, group: 1 },
    { ...AFTER_LONG_PAST, group: 8 }, // rows enough for wgmma
    { ...AFTER_LONG_PAST, group: 8, kept: 1, headDim: 96, dtype: "f16" },
    { ...AFTER_LONG_PAST, tokens: [800], group: 4, kept: 1 }, // one tile of wgmma, and splits
  ];
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    for (const headDim of [20, 64, 96, 128, 256]) cases.push({ ...AFTER_LONG_PAST, dtype, headDim });
  }
  const prefills = [
    ...cases.flatMap((c) => prepare(c, 0.96)),
    ...prepare({ ...AFTER_LONG_PAST, kept: 0.1 }, 0.7), // recent keys above all
  ];
  let byWgmma = 0;
  for (const p of prefills) {
    assert(numQueries(p) > 16, nameOf(p.c));
    byWgmma += check(device, p);
  }
  assertEquals([prefills.length, byWgmma], [24, hasWgmma(device) ? 3 : 0]);
});

testOnDevice("attention() takes more queries one by one than a launch does", (device) => {
  const count = 4100, wave = (i: number) => Math.sin(i * i % 1009 + 1);
  const ints = (at: (i: number) => number, length = count) =>
    hostTensor("i32", [length], Int32Array.from({ length }, (_, i) => at(i)));
  const c: BatchCase = { ...AFTER_LONG_PAST, tokens: [count], group: 1, headDim: 1 };
  const shape = [count, 1, 1], queries = roundTo(c.dtype, shape, wave);
  const args: AttentionArgs = {
    queries: hostTensor("f32", shape, queries),
    queryPositions: ints((i) => i),
    keys: tensorOf(c.dtype, [4, 1, 1], wave),
    values: tensorOf(c.dtype, [4, 1, 1], (i) => wave(i + 7)),
    keyPositions: ints((i) => 1300 * i, 4),
    numKeys: 4,
    windows: ints((i) => i % 2 === 0 ? -1 : 2000),
    sinks: 1,
    recentKeys: tensorOf(c.dtype, [1, 1, 1], wave),
    recentValues: tensorOf(c.dtype, [1, 1, 1], wave),
    recentPositions: ints(() => 4095, 1),
    numRecent: 1,
    recent: 8,
    scale: 1,
    out: tensorOf("f32", shape, () => NaN),
  };
  const expected = tensorOf("f32", shape, () => NaN);
  attention({ ...args, out: expected });
  assert(
    difference(run(device, { c, args, expected: f32Data(expected) }), f32Data(expected)) <= BAR[c.dtype],
  );
});

testSameInAnyOrder("attention() of few queries is the same", (device) => {
  const [p] = prepare({ ...AFTER_LONG_PAST, kept: 0.9, group: 5 }, 0.96);
  return [variantsOf(device, p!).map((wgmma) => run(device, p!, wgmma))];
});

testOnDevice("attention() of a prefill takes a scale of 0, and a negative one", (device) => {
  for (const dtype of ["f32", "bf16"] as const) {
    for (const scale of [0, -0.125, 0.5]) {
      const [p] = prepare({ ...prefillCases()[0]!, tokens: [80], dtype, scale }, 0);
      check(device, p!);
    }
  }
});

testOnDevice("attention() of a prefill reports positions that do not ascend", (device) => {
  for (const dtype of ["f32", "bf16"] as const) {
    for (const which of ["queryPositions", "keyPositions", "recentPositions"] as const) {
      const [p] = prepare({ ...prefillCases()[0]!, tokens: [60], dtype }, 0);
      ((p!.args[which] as HostTensor).data as Int32Array)[5] = 0;
      assertThrows(() => run(device, p!), KernelError, "positions that do not ascend");
    }
  }
});

testOnDevice(
  "attention() of a prefill shows NaN and infinity to the queries that see them, and to no others",
  (device) => {
    let reached = 0, spared = 0;
    for (const [dtype, headDim] of [["f32", 64], ["f16", 64], ["bf16", 128], ["bf16", 20]] as const) {
      const c: BatchCase = { ...prefillCases()[0]!, tokens: [100], dtype, headDim };
      const width = c.numKvHeads * headDim, row = width * c.group;
      for (const what of ["keys", "values", "recentKeys", "recentValues"] as const) {
        for (const poison of [NaN, Infinity]) {
          const p = prepare(c, 0)[0]!, { args } = p, recent = what.startsWith("recent");
          const positions = (recent ? args.recentPositions : args.keyPositions) as HostTensor;
          const at = positions.shape[0]! >> 1, j = positions.data[at]!;
          const bad = tensorOf(dtype, [1], () => poison).data[0]!;
          ((args[what] as HostTensor).data as Float32Array).fill(bad, at * width, (at + 1) * width);
          for (const wgmma of variantsOf(device, p)) {
            const found = run(device, p, wgmma);
            for (const [q, i] of ((args.queryPositions as HostTensor).data as Int32Array).entries()) {
              const part = [q * row, (q + 1) * row] as const, output = found.subarray(...part);
              const message = `${dtype}, ${what}, ${poison}, query ${i}`;
              if (j <= i && (!recent || i - j <= c.recent)) {
                assert(output.every((x) => !Number.isFinite(x)), message);
                reached++;
              } else {
                assert(difference(output, p.expected.subarray(...part)) <= BAR[dtype], message);
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

testOnDevice("attention() of a prefill shows infinity among values that end, by every kernel", (device) => {
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    for (const headDim of [64, 96, 128, 256]) {
      const c: BatchCase = { ...prefillCases()[0]!, tokens: [80], numKvHeads: 1, kept: 1, dtype, headDim };
      const p = prepare(c, 0)[0]!,
        values = p.args.values as HostTensor,
        out = tensorOf("f32", p.args.out.shape, () => NaN);
      // Infinity in all columns, of either sign: in three of four in one row, in the others in another. Most keys end
      // between two queries.
      for (let column = 0; column < headDim; column++) {
        const row = column % 4 === 1 ? 51 : 40, x = column % 3 === 0 ? -Infinity : Infinity;
        values.data[row * headDim + column] = tensorOf(dtype, [1], () => x).data[0]!;
      }
      const keyEnds = hostTensor("i32", [80], Int32Array.from({ length: 80 }, (_, t) => t + 20 + t % 3 * 5));
      const args = { ...p.args, keyEnds };
      attention({ ...args, out });
      const expected = f32Data(out),
        finite = (x: Float32Array) => x.map((each) => Number.isFinite(each) ? each : 0);
      for (const wgmma of variantsOf(device, p)) {
        const found = run(device, { ...p, args }, wgmma), what = `${nameOf(c)}, wgmma ${wgmma}`;
        assertEquals(
          found.filter((x) => !Number.isFinite(x)),
          expected.filter((x) => !Number.isFinite(x)),
          what,
        );
        assert(difference(finite(found), finite(expected)) <= BAR[dtype], what);
      }
      assert(
        expected.includes(Infinity) && expected.includes(-Infinity) &&
          expected.slice(-headDim).every(Number.isFinite),
      );
    }
  }
});

/** A prefill with NaN and infinity among the values that only some queries see. */
function withSpecialValues(c: BatchCase): Prefill {
  const p = prepare(c, 0)[0]!, width = c.numKvHeads * c.headDim;
  for (const [which, poison] of [["values", NaN], ["recentValues", Infinity]] as const) {
    const values = p.args[which] as HostTensor, at = (values.shape[0]! >> 1) * width;
    (values.data as Uint16Array).fill(tensorOf(c.dtype, [1], () => poison).data[0]!, at, at + width);
  }
  return p;
}

testOnDevice("attention() by wgmma equals the reference over many key tiles", (device) => {
  if (!hasWgmma(device)) return;
  const tokens = INTERPRETS_PTX ? 420 : 989, turns = INTERPRETS_PTX ? 1 : 20; // a race does not show every time
  let runs = 0;
  for (const [headDim, dtype] of [[64, "bf16"], [96, "f16"], [128, "bf16"]] as const) {
    for (const kept of RUNS_SLOW ? [1, 0.5] : [headDim === 96 ? 1 : 0.5]) {
      const c = { ...prefillCases()[0]!, tokens: [tokens, 150], numKvHeads: 1, headDim, dtype, kept };
      for (const p of prepare(c, 0)) {
        for (let turn = 0; turn < 2 * turns; turn++) {
          const wgmma = turn % 2 === 1, worst = difference(run(device, p, wgmma), p.expected);
          assert(worst <= BAR[dtype], `${nameOf(p.c)}, wgmma ${wgmma}, turn ${turn}: off by ${worst}`);
          runs++;
        }
      }
    }
  }
  assertEquals(runs, 2 * (RUNS_SLOW ? 6 : 3) * 2 * turns);
});

testOnDevice("attention() by wgmma shows NaN as mma.sync does", (device) => {
  if (!hasWgmma(device)) return;
  for (const [headDim, dtype] of [[64, "bf16"], [128, "f16"]] as const) {
    const c: BatchCase = { ...prefillCases()[0]!, tokens: [290], numKvHeads: 1, headDim, dtype };
    const p = withSpecialValues(c), expected = run(device, p), found = run(device, p, true);
    assert(expected.some(Number.isNaN) && expected.some(Number.isFinite));
    assertEquals(
      found.map((x) => Number(Number.isFinite(x))),
      expected.map((x) => Number(Number.isFinite(x))),
    );
    for (let i = 0; i < found.length; i++) {
      if (Number.isFinite(found[i])) assert(Math.abs(found[i]! - expected[i]!) <= 2 * BAR[dtype], `${i}`);
    }
  }
});
