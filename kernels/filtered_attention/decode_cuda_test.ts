import { assert, assertEquals, assertThrows } from "@std/assert";
import type { OpenDevice } from "../../ffi/cuda/testing.ts";
import { KernelError } from "../../lib/errors.ts";
import type { AttentionArgs, Backend } from "../../lib/backend.ts";
import { attention } from "../../lib/reference/attention.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { emptyTensor, f32Data, type HostTensor, hostTensor, type Tensor } from "../../lib/tensor.ts";
import { testOnDevice, testSameInAnyOrder } from "../testing/ways.ts";
import { attentionArgs, type AttentionCase, normals, roundQueries, roundTo, tensorOf } from "./cases.ts";
import { BAR, difference } from "./testing.ts";
import { type BatchCase, decodeCases, expectedOf, nameOf, scaleOf, sequencesOf } from "./batch_cases.ts";

/** A decode of a case: its tensors on the host, in the form of the call. */
interface Decode {
  readonly c: BatchCase;
  readonly capacity: number;
  readonly queries: HostTensor;
  readonly out: HostTensor;
  readonly positions: HostTensor;
  readonly keep: HostTensor;
  readonly keys: HostTensor;
  readonly values: HostTensor;
  readonly keyPositions: HostTensor;
  readonly counts: HostTensor;
  readonly recentKeys: HostTensor;
  readonly recentValues: HostTensor;
  readonly recentPositions: HostTensor;
  /** NaN in the rows that must stay as they are. */
  readonly expected: Float32Array;
}

function prepare(c: BatchCase): Decode {
  const batch = c.tokens.length, heads = c.numKvHeads * c.group, width = c.numKvHeads * c.headDim;
  const { sequences, normal } = sequencesOf(c);
  const rounded = roundTo(c.dtype, [batch, heads, c.headDim], normal);
  const keep = c.tokens.map((tokens, b) => tokens > 0 && !c.skipping?.includes(b));
  const counts = sequences.map(({ kept }) => kept.filter(Boolean).length);
  const capacity = Math.max(...counts) + 5, numRows = batch * capacity;
  const store = (rows: number) => new Float32Array(rows * width).fill(NaN);
  const keys = store(numRows), values = store(numRows), keyPositions = new Int32Array(numRows).fill(-9);
  const recentKeys = store(batch * c.recent), recentValues = store(batch * c.recent);
  const recentPositions = new Int32Array(batch * c.recent).fill(-1);
  const expected = new Float32Array(batch * heads * c.headDim).fill(NaN);
  sequences.forEach((sequence, b) => {
    if (!keep[b]) return;
    let count = 0;
    sequence.kept.forEach((kept, t) => {
      if (!kept && c.recent === 0) return;
      const row = kept ? b * capacity + count++ : b * c.recent + t % c.recent;
      (kept ? keyPositions : recentPositions)[row] = t;
      const from = [t * width, (t + 1) * width] as const;
      (kept ? keys : recentKeys).set(sequence.keys.subarray(...from), row * width);
      (kept ? values : recentValues).set(sequence.values.subarray(...from), row * width);
    });
    const at = [b * heads * c.headDim, (b + 1) * heads * c.headDim] as const;
    expected.set(expectedOf(c, sequence, sequence.kept.length - 1, rounded.subarray(...at)), at[0]);
  });
  const shape = [batch, heads, c.headDim];
  const encode = (x: Float32Array) => tensorOf(c.dtype, [x.length], (i) => x[i]!);
  const ints = (x: Int32Array) => hostTensor("i32", [x.length], x);
  return {
    c,
    capacity,
    queries: hostTensor("f32", shape, rounded),
    out: tensorOf("f32", shape, () => NaN),
    positions: ints(Int32Array.from(c.tokens, (tokens) => tokens - 1)),
    keep: hostTensor("u8", [batch], Uint8Array.from(keep, Number)),
    keys: encode(keys),
    values: encode(values),
    keyPositions: ints(keyPositions),
    counts: ints(Int32Array.from(counts)),
    recentKeys: encode(recentKeys),
    recentValues: encode(recentValues),
    recentPositions: ints(recentPositions),
    expected,
  };
}

/** Puts a decode on the device; `run` makes the call, `read` gives the output and reports faults. */
function place({ context, backend }: OpenDevice, d: Decode) {
  const { c } = d, on = (tensor: HostTensor) => backend.upload(tensor);
  const out = on(d.out), counts = on(d.counts);
  const cache = {
    keys: on(d.keys),
    values: on(d.values),
    positions: on(d.keyPositions),
    counts,
    recent_keys: on(d.recentKeys),
    recent_values: on(d.recentValues),
    recent_positions: on(d.recentPositions),
    ...{ capacity: d.capacity, batch: c.tokens.length, kv_heads: c.numKvHeads },
    ...{ head_dim: c.headDim, dtype: c.dtype, recent: c.recent },
  };
  const rows = { queries: on(d.queries), out, positions: on(d.positions), keep: on(d.keep) };
  const numbers = {
    ...{ heads: c.numKvHeads * c.group, query_kv_heads: c.numKvHeads, window: c.window, scale: scaleOf(c) },
    ...{ kv_places: null, changes: null, head_weights: null, first: null },
    ...{ change_rows: 0, change_keys: 0, change_distance: 0 },
  };
  return {
    counts,
    run: () => context.call("tkf_attention_decode", { cache, ...rows, ...numbers }),
    read: () => f32Data(backend.read(out)),
  };
}

let decodes: Decode[] | undefined;

testOnDevice(
  "tkf_attention_decode equals the reference for every sequence of a batch, and leaves the others alone, small cases",
  (device) => {
    let written = 0, left = 0;
    decodes ??= decodeCases().map(prepare);
    for (const d of decodes) {
      const call = place(device, d);
      call.run();
      const worst = difference(call.read(), d.expected);
      assert(worst <= BAR[d.c.dtype], `${device.name}, ${nameOf(d.c)}: off by ${worst}`);
      for (const x of d.expected) Number.isNaN(x) ? left++ : written++;
    }
    assert(written > 80_000 && left > 30_000, `${written} written, ${left} left alone`);
    assertEquals(decodes.length, 82 + 2 * 27);
  },
);

/** The output of `attention()` on a device, of arguments on the host. */
function attend(backend: Backend, args: AttentionArgs): Float32Array {
  const placed = Object.entries(args).map(([name, x]) => {
    return [name, typeof x === "object" ? backend.upload(x as HostTensor) : x];
  });
  const call: AttentionArgs = { ...Object.fromEntries(placed), out: backend.alloc("f32", args.out.shape) };
  backend.attention(call);
  return f32Data(backend.read(call.out));
}

testOnDevice("attention() of one query over thousands of rows equals the reference", ({ backend }) => {
  // A block has so many rows of narrow 16-bit heads that it copies to each place in shared memory several times.
  for (const dtype of ["f16", "bf16"] as const) {
    for (const [headDim, ends] of [[64, undefined], [64, "last"], [61, "last"]] as const) {
      const c: AttentionCase = {
        ...{ tokens: 12_400, keep: "all", phase: "decode", numKvHeads: 1, group: 8, headDim, dtype },
        ...{ recent: 0, data: "plain", ends },
      };
      const args = roundQueries(attentionArgs(c), dtype), queries = f32Data(args.queries);
      attention(args);
      for (const heads of [1, 4, 8]) {
        const shape = [1, heads, headDim], count = heads * headDim, out = emptyTensor("f32", shape);
        const some = { ...args, queries: hostTensor("f32", shape, queries.slice(0, count)), out };
        const worst = difference(attend(backend, some), f32Data(args.out).subarray(0, count));
        assert(
          worst <= BAR[dtype] / 10,
          `${heads} heads of ${headDim}, ${dtype}, ends ${ends}: off by ${worst}`,
        );
      }
    }
  }
});

testOnDevice(
  "attention() of one query takes no number of a row that ended, nor beyond a row",
  ({ backend }) => {
    let turn = 0;
    for (const dtype of ["f32", "f16", "bf16"] as const) {
      for (const most of [64, 128, 256]) {
        for (const [i, group] of [1, 4, 8, 1, 4, 8, 1, 4, 8].entries()) {
          const headDim = most - 1 - turn++ % 7; // the last piece of 16 bytes of a row holds any number of values
          // Kept rows, then recent ones, where a block goes on to further rows; and sinks alone, before an empty window.
          const isFar = i >= 6, [tokens, recent] = i < 3 ? [200, 100] : isFar ? [40, 5] : [127, 120];
          const position = isFar ? 90 : tokens - 1;
          const c: AttentionCase = {
            ...{ tokens, keep: "half", phase: "decode", numKvHeads: 1, group, headDim, dtype },
            ...{ recent, data: "plain" },
          };
          const made = roundQueries(attentionArgs(c), dtype), ends = made.keyPositions.shape[0]!;
          const endOf = (row: number) => row % 3 === 1 ? position : position + 1;
          const keyEnds = hostTensor(
            "i32",
            [ends],
            Int32Array.from({ length: ends }, (_, row) => endOf(row)),
          );
          const i32 = (value: number) => hostTensor("i32", [1], Int32Array.of(value));
          const far = isFar && { queryPositions: i32(position), windows: i32(0), sinks: 12 };
          const args = { ...made, ...far, keyEnds }, nan = tensorOf(dtype, [1], () => NaN).data[0]!;
          attention(args);
          const hide = (tensor: Tensor, count: number, isHidden: (row: number) => boolean) => {
            const data = (tensor as HostTensor).data as Float32Array;
            for (let row = 0; row < count; row++) {
              if (isHidden(row)) data.fill(nan, row * headDim, (row + 1) * headDim);
            }
          };
          const positions = (args.recentPositions as HostTensor).data;
          for (const side of ["Keys", "Values"] as const) {
            hide(args[side === "Keys" ? "keys" : "values"], args.numKeys, (row) => endOf(row) <= position);
            hide(
              args[`recent${side}`],
              args.numRecent,
              (row) => Number(positions[row]) < position - recent,
            );
          }
          const worst = difference(attend(backend, args), f32Data(args.out));
          assert(worst <= BAR[dtype], `${group} heads of ${headDim}, ${dtype}: off by ${worst}`);
        }
      }
    }
    assertEquals(turn, 81);
  },
);

testOnDevice("attentionDecode() of some KV heads gives what the reference gives, changes too", (device) => {
  const cases = decodeCases(), { backend } = device;
  for (const c of [cases[0]!, ...cases.filter(({ window }) => window > 3), cases.at(-1)!]) {
    const d = prepare(c), batch = c.tokens.length, heads = (c.numKvHeads + 1) * c.group, places = [0, 2];
    const rows = [batch, 8, 40], shape = [batch, heads, c.headDim];
    const queries = hostTensor("f32", shape, roundTo(c.dtype, shape, normals(5)));
    const cached = (x: HostTensor, count: number) => ({
      ...x,
      shape: [batch, count, c.numKvHeads, c.headDim],
    });
    const at = (x: HostTensor, count: number) => ({ ...x, shape: [batch, count] });
    const kept = [...d.keep.data].flatMap((keep, slot) => keep ? [slot] : []),
      i32 = (values: number[]) => hostTensor("i32", [values.length], Int32Array.from(values));
    const run = (on: Backend) => {
      const up = (x: HostTensor) => on.upload({ ...x, data: x.data.slice() } as HostTensor);
      const out = up(tensorOf("f32", shape, () => NaN));
      const changes = {
        out: up(hostTensor("f64", rows, new Float64Array(batch * 320).fill(-7))),
        headWeights: up(tensorOf("f32", [heads], (i) => 1 + i)),
        first: up(i32(c.tokens.map((tokens) => Math.max(0, tokens - 30)))),
        distance: 3,
      };
      on.attentionDecode(
        {
          keys: up(cached(d.keys, d.capacity)),
          values: up(cached(d.values, d.capacity)),
          positions: up(at(d.keyPositions, d.capacity)),
          counts: up(d.counts),
          recentKeys: up(cached(d.recentKeys, c.recent)),
          recentValues: up(cached(d.recentValues, c.recent)),
          recentPositions: up(at(d.recentPositions, c.recent)),
        },
        up(queries),
        up(d.positions),
        {
          keep: up(d.keep),
          kept: up(i32([...kept, ...Array(batch - kept.length).fill(0)])),
          keptCount: up(i32([kept.length, 0])),
        },
        scaleOf(c),
        out,
        c.window,
        { kvPlaces: { places: up(i32(places)), of: c.numKvHeads + 1 }, changes },
      );
      return { out: f32Data(on.read(out)), changes: on.read(changes.out).data as Float64Array };
    };
    const want = run(new ReferenceBackend()), found = run(backend);
    assert(difference(found.out, want.out) <= BAR[c.dtype], nameOf(c));
    let most = 0;
    want.changes.forEach((x, i) => {
      assert(
        Math.abs(found.changes[i]! - x) <= 1e-3 * Math.abs(x) + 1e-6,
        `${nameOf(c)}: ${found.changes[i]}, not ${x}`,
      );
      most = Math.max(most, x);
    });
    assert(most > 0.01 && want.changes.includes(-7) && want.changes.includes(0), `${most}`);
  }
});

testSameInAnyOrder("tkf_attention_decode is the same", (device) => {
  const base = decodeCases()[0]!;
  // A query's own token in the ring takes the place of the one that is as many back as the ring has rows.
  const own = { ...base, tokens: [16, 1, 0, 9], skipping: [], ownIsRecent: true };
  const cases = [base, { ...base, dtype: "f32" as const, headDim: 256, group: 1 }, own];
  return cases.map((c) => {
    const d = prepare(c), call = place(device, d);
    call.run();
    const found = call.read();
    assert(difference(found, d.expected) <= BAR[c.dtype]);
    return [found];
  });
});

testOnDevice("tkf_attention_decode can be recorded once and run again over a cache that grew", (device) => {
  const c: BatchCase = { ...decodeCases()[0]!, kept: 1, recent: 0 };
  const d = prepare(c), call = place(device, d);
  call.run(); // takes the workspace
  using graph = device.memory.capture(call.run);
  const grown = (d.counts.data as Int32Array).slice(), before = grown.map((count) => count >> 1);
  device.memory.write(call.counts.buffer, before);
  graph.launch();
  assert(difference(call.read(), d.expected) > 0.1, "half a cache gives other outputs");
  device.memory.write(call.counts.buffer, grown);
  graph.launch();
  assert(difference(call.read(), d.expected) <= BAR[c.dtype]);
});

testOnDevice(
  "tkf_attention_decode reports more rows than there are",
  (device) => {
    const c: BatchCase = decodeCases()[0]!;
    for (const count of [-1, 100_000]) {
      const d = prepare(c);
      (d.counts.data as Int32Array)[0] = count;
      const call = place(device, d);
      call.run();
      assertThrows(call.read, KernelError, "index outside");
    }
    const d = prepare(c), call = place(device, d); // the reported error is over
    call.run();
    assert(difference(call.read(), d.expected) <= BAR[c.dtype]);
  },
);

testOnDevice("tkf_attention_decode shows NaN and infinity to the sequences that see them alone", (device) => {
  const c: BatchCase = {
    ...decodeCases()[0]!,
    tokens: [50, 60],
    skipping: [],
    kept: 1,
    dtype: "f32",
    recent: 0,
  };
  for (const what of ["keys", "values"] as const) {
    for (const poison of [NaN, Infinity]) {
      const d = prepare(c), width = c.numKvHeads * c.headDim, half = d.expected.length / 2;
      f32Data(d[what]).fill(poison, 7 * width, 8 * width);
      const call = place(device, d);
      call.run();
      const found = call.read();
      assert(found.subarray(0, half).every((x) => !Number.isFinite(x)));
      assert(difference(found.subarray(half), d.expected.subarray(half)) <= BAR.f32);
    }
  }
});

testOnDevice("tkf_attention_decode takes an empty batch", (device) => {
  const d = prepare({ ...decodeCases()[0]!, tokens: [1], skipping: [] });
  const empty = (tensor: HostTensor) => emptyTensor(tensor.dtype, [0, ...tensor.shape.slice(1)]);
  const call = place(device, {
    ...d,
    c: { ...d.c, tokens: [] },
    out: empty(d.out),
    queries: empty(d.queries),
  });
  call.run();
  assertEquals(call.read().length, 0);
});

testOnDevice(
  "tkf_attention_decode, once recorded, keeps its workspace where a larger one is reserved",
  (device) => {
    const d = prepare({ ...decodeCases()[0]!, tokens: [989], skipping: [], kept: 0.7 }),
      call = place(device, d);
    call.run();
    using graph = device.memory.capture(call.run);
    device.context.reserve(64 * 2 ** 20);
    graph.launch();
    assert(difference(call.read(), d.expected) <= BAR[d.c.dtype]);
    call.run(); // in the larger one
    assert(difference(call.read(), d.expected) <= BAR[d.c.dtype]);
  },
);
