/**
 * Random calls of every function of the C ABI, at every level: none may crash, write outside its buffers, or refuse
 * without a message. The calls are made in a process of its own that says each call's seed first, so that a crash has a
 * seed too. One call again: `deno run -A --no-config --no-check ffi/abi_fuzz_test.ts calls SEED 1`.
 */
import { byteSize, type DType, DTYPES } from "../lib/dtype.ts";
import { type LayerSpec, NUM_SLOTS } from "../lib/filter/layer.ts";
import { policyOf } from "../lib/filter/threshold.ts";
import { learnedLayout } from "../lib/methods/learned.ts";
import { NativeContext, supportedLevels } from "./context.ts";
import { openCpuLibrary } from "./library.ts";
import { setInts, STATUS, SYMBOLS } from "./symbols.ts";
import { Draw, HOSTILE_INTS, HOSTILE_NUMBERS, HOSTILE_SIZES } from "./testing.ts";

const CALLS = 20_000;
const FIRST_SEED = 1;

type Argument = number | bigint | null | BufferSource | Deno.PointerObject;

const FLOATS: readonly DType[] = ["f32", "f16", "bf16"];
const WEIGHTS = (Object.keys(DTYPES) as DType[]).filter((dtype) => DTYPES[dtype].code < 100);

/** Sizes of `linear`, `embedding` and their like: columns in whole blocks, mostly. */
function columns(d: Draw, dtype: DType): { real: number; told: number | bigint } {
  const { blockSize } = DTYPES[dtype];
  const real = blockSize === 1 ? d.below(70) : blockSize * d.below(4);
  const odd = d.once(40);
  return { real, told: odd ? d.pick([...HOSTILE_SIZES, BigInt(real + 1)]) : real };
}

function attentionCall(d: Draw): Argument[] {
  const { dtype, code } = d.dtype(FLOATS);
  const queries = d.size(d.pick([4, 40])), keys = d.size(d.pick([8, 300])), recent = d.size(12);
  const kvHeads = 1 + d.below(3), heads = kvHeads * (1 + d.below(5));
  const headDim = d.pick([1, 3, 16, 33, 64, 80, 256]);
  const shape = new DataView(new ArrayBuffer(56));
  [queries, keys, recent].forEach(({ told }, i) => shape.setBigInt64(8 * i, BigInt(told), true));
  const ints = [heads, kvHeads, headDim, code, d.below(20), 0];
  if (d.once(20)) ints[d.below(5)] = d.pick(HOSTILE_INTS);
  setInts(shape, 24, Object.fromEntries(ints.map((value, i) => [`int ${i}`, value])));
  shape.setFloat64(48, d.option(0.25), true);
  const store = (rows: number) => d.buffer(d.values(dtype, rows * kvHeads * headDim));
  return [
    ...d.buffer(shape),
    ...d.buffer(d.floats(queries.real * heads * headDim)),
    ...d.buffer(d.positions(queries.real)),
    ...store(keys.real),
    ...store(keys.real),
    ...d.buffer(d.positions(keys.real)),
    ...store(recent.real),
    ...store(recent.real),
    ...d.buffer(d.positions(recent.real)),
    ...d.buffer(new Float32Array(queries.real * heads * headDim)),
  ];
}

/** A spec as numbers, a state that goes with it, and the spec's buffer. */
function filterState(d: Draw, fusion: number) {
  const learns = fusion === 9;
  const warmup = learns ? 8 + d.below(6) : d.below(6), threshold = d.below(learns ? 2 : 5);
  const spec = {
    ...{ numKvHeads: 1 + d.below(3), headDim: d.pick([1, 4, 17, 32]), hiddenSize: 1 + d.below(20) },
    ...{ warmup, window: d.pick([1, 2, 5, 40]), block: 1 + d.below(6), projections: d.below(20) },
    ...{ features: d.below(16), queriesSize: 1 + d.below(9), absorb: learns ? 0 : d.below(2) },
  };
  const layer = {
    ...spec,
    threshold: (["budget", "window", "robbins-monro", "fixed", "topk"] as const)[threshold],
  } as unknown as LayerSpec;
  const ints = [
    ...[
      d.below(4),
      spec.numKvHeads,
      spec.headDim,
      spec.hiddenSize,
      fusion,
      d.below(2),
      d.below(2),
      spec.absorb,
    ],
    ...[
      warmup,
      threshold,
      spec.window,
      d.below(3),
      spec.block,
      spec.projections,
      spec.features,
      spec.queriesSize,
    ],
  ];
  if (d.once(20)) ints[d.below(ints.length)] = d.pick(HOSTILE_INTS);
  const view = new DataView(new ArrayBuffer(144));
  setInts(view, 0, Object.fromEntries(ints.map((value, i) => [`int ${i}`, value])));
  [0.5, 1, 0.5, 1e-6, 0.5, 0.9, 0.3, 0.1, 1].forEach((x, i) =>
    view.setFloat64(64 + 8 * i, d.option(x), true)
  );
  const { P, length } = learnedLayout(layer);
  // `learned`: a block that began at 0 or at a multiple of `block` past the warm-up, and how far it has come.
  const first = d.once(2) ? 0 : spec.block * (Math.ceil(warmup / spec.block) + d.below(3));
  const pending = learns ? d.below((first === 0 ? warmup : spec.block) + 1) : 0;
  const seen = learns && !d.once(20) ? first + pending : d.once(2) || threshold === 4 ? 0 : d.below(50);
  const numbers = new Float64Array(NUM_SLOTS), decided = d.below(seen + 1), settled = d.below(pending + 1);
  numbers.set([
    seen,
    d.below(seen + 1),
    d.below(60),
    decided,
    d.below(decided + 1),
    0.1,
    d.once(2) ? 0.1 : 0,
  ]);
  numbers.set([pending, settled, d.below(2)], 7);
  if (d.once(12)) numbers[d.below(10)] = d.pick(HOSTILE_NUMBERS);
  const learned = d.doubles(learns ? length : 0);
  if (learns) { for (let i = 0; i < P; i++) learned[length - P + i] = d.below(3); }
  return {
    spec,
    open: pending - settled,
    state: [
      ...d.buffer(numbers),
      ...d.buffer(d.doubles(policyOf(layer).capacity(layer))),
      ...d.buffer(learned),
    ],
    packed: d.buffer(view),
  };
}

function scanCall(d: Draw): Argument[] {
  const { spec, state, packed } = filterState(d, d.once(3) ? 9 : d.below(9));
  const { dtype, code } = d.dtype(FLOATS);
  const { real, told } = d.size(30, 1), size = spec.numKvHeads * spec.headDim;
  return [
    ...packed,
    ...d.buffer(d.floats(size)),
    ...d.buffer(d.floats(size)),
    ...state,
    code,
    ...d.buffer(d.values(dtype, real * size)),
    ...d.buffer(d.values(dtype, real * size)),
    ...d.buffer(d.floats(real * spec.hiddenSize)),
    ...d.buffer(d.floats(real * spec.hiddenSize)),
    ...d.buffer(d.floats(real * spec.queriesSize)),
    told,
    ...d.buffer(new Uint8Array(real)),
    ...d.buffer(new Float64Array(7 * real)),
    ...d.buffer(new BigInt64Array(1)),
  ];
}

/** Arguments behind the context of every op. */
const OPS: { readonly [name: string]: (d: Draw) => Argument[] } = {
  // Takes a second where it succeeds: bad calls alone.
  tkf_machine_measure: (d) => d.pick([[null, 16], [new Float64Array(2), 15], [new Uint8Array(0), 0]]),
  tkf_blas_load: (d) => [
    d.once(4)
      ? null
      : new TextEncoder().encode("/no/" + d.pick(["such", "\u20ac".repeat(400), "%s%n"]) + "\0"),
  ],
  tkf_tensor_dequantize: (d) => {
    const { dtype, code } = d.dtype(WEIGHTS), { real, told } = columns(d, dtype);
    return [code, ...d.buffer(d.values(dtype, real)), told, ...d.buffer(new Float32Array(real))];
  },
  tkf_embedding_gather: (d) => {
    const { dtype, code } = d.dtype(WEIGHTS),
      cols = columns(d, dtype),
      vocab = d.size(6, 1),
      rows = d.size(9);
    const table = d.buffer(d.values(dtype, vocab.real * cols.real));
    const ids = d.buffer(d.indices(rows.real, vocab.real));
    const out = d.buffer(new Float32Array(rows.real * cols.real));
    return [code, ...table, vocab.told, cols.told, ...ids, rows.told, ...out];
  },
  tkf_rms_norm_apply: (d) => {
    const rows = d.size(9), cols = d.size(70), count = rows.real * cols.real;
    const inputs = [...d.buffer(d.floats(count)), ...d.buffer(d.floats(cols.real))];
    return [...inputs, d.option(1e-5), rows.told, cols.told, ...d.buffer(new Float32Array(count))];
  },
  tkf_linear_apply: (d) => {
    const { dtype, code } = d.dtype(WEIGHTS),
      k = columns(d, dtype),
      rows = d.size(d.pick([3, 30])),
      n = d.size(20);
    const x = d.buffer(d.floats(rows.real * k.real)), weight = d.buffer(d.values(dtype, n.real * k.real));
    const out = d.buffer(new Float32Array(rows.real * n.real));
    return [...x, code, ...weight, rows.told, n.told, k.told, ...out];
  },
  tkf_rope_apply: (d) => {
    const rows = d.size(6), heads = d.size(5), { real, told } = d.size(20), headDim = 2 * real;
    const x = d.buffer(d.floats(rows.real * heads.real * headDim));
    const positions = d.buffer(d.indices(rows.real, 5000));
    return [...x, ...positions, d.option(1e4), rows.told, heads.told, told === real ? headDim : told];
  },
  tkf_swiglu_apply: (d) => {
    const { real, told } = d.size(80), inputs = [...d.buffer(d.floats(real)), ...d.buffer(d.floats(real))];
    return [...inputs, told, ...d.buffer(new Float32Array(real))];
  },
  tkf_rows_gather: (d) => {
    const from = d.dtype(FLOATS), to = d.once(2) ? from : d.dtype(["f32", from.dtype]);
    const xRows = d.size(6, 1), cols = d.size(40), rows = d.size(9);
    const x = d.buffer(d.values(from.dtype, xRows.real * cols.real));
    const indices = d.buffer(d.indices(rows.real, xRows.real));
    const out = d.buffer(new Uint8Array(byteSize(to.dtype, rows.real * cols.real)));
    return [from.code, ...x, xRows.told, cols.told, ...indices, rows.told, to.code, ...out];
  },
  tkf_rows_scatter_add: (d) => {
    const xRows = d.size(9, 1), cols = d.size(40), rows = d.size(xRows.real + 1);
    const x = d.buffer(d.floats(xRows.real * cols.real)), at = d.buffer(d.places(rows.real, xRows.real));
    return [...x, xRows.told, cols.told, ...at, rows.told, ...d.buffer(d.floats(rows.real * cols.real))];
  },
  tkf_rows_store: (d) => {
    const { dtype, code } = d.dtype(FLOATS), rows = d.size(9), cols = d.size(40), at = d.size(4);
    const out = d.buffer(new Uint8Array(byteSize(dtype, (at.real + rows.real) * cols.real)));
    return [...d.buffer(d.floats(rows.real * cols.real)), rows.told, cols.told, code, ...out, at.told];
  },
  tkf_rows_norm: (d) => {
    const rows = d.size(9), cols = d.size(40), x = d.buffer(d.floats(rows.real * cols.real));
    return [...x, rows.told, cols.told, ...d.buffer(new Float64Array(rows.real))];
  },
  tkf_nll_compute: (d) => {
    const rows = d.size(5), vocab = d.size(d.pick([9, 2100]), 1), column = new Float64Array(rows.real);
    const inputs = [
      ...d.buffer(d.floats(rows.real * vocab.real)),
      ...d.buffer(d.indices(rows.real, vocab.real)),
    ];
    return [...inputs, rows.told, vocab.told, ...d.buffer(column)];
  },
  tkf_logits_compare: (d) => {
    const rows = d.size(5), vocab = d.size(d.pick([9, 2100]), 1), count = rows.real * vocab.real;
    const inputs = [...d.buffer(d.floats(count)), ...d.buffer(d.floats(count))];
    const targets = d.buffer(d.indices(rows.real, vocab.real)),
      column = () => d.buffer(new Float64Array(rows.real));
    const outputs = [...column(), ...column(), ...column(), ...d.buffer(new Uint8Array(rows.real))];
    return [...inputs, ...targets, rows.told, vocab.told, ...outputs];
  },
  tkf_attention_filtered: attentionCall,
  tkf_filter_scan: scanCall,
  tkf_filter_observe: (d) => {
    const { open, state, packed } = filterState(d, d.once(20) ? d.below(9) : 9);
    const { real, told } = d.size(open + 1 + d.below(2));
    return [...packed, ...state, ...d.buffer(d.doubles(real)), told];
  },
};
/** Functions without checks to fuzz, or called below for every call. */
const OTHERS = [
  "tkf_abi_version",
  "tkf_context_best_level",
  "tkf_context_description",
  "tkf_context_message",
];
const CONTEXTS = ["tkf_context_create", "tkf_context_destroy"];

/** Makes `count` calls from a seed on; says each seed first, and at last how often each function took or refused one. */
async function makeCalls(first: number, count: number): Promise<void> {
  const symbols = await openCpuLibrary();
  const contexts = supportedLevels(symbols).flatMap((level) =>
    [1, 3].map((threads) => new NativeContext(symbols, { level, threads }).pointer)
  );
  const names = [...Object.keys(OPS), "tkf_context_create"];
  const tally = Object.fromEntries(names.map((name) => [name, [0, 0]]));
  const call = symbols as unknown as Record<string, (...args: Argument[]) => number>;
  const text = (pointer: Deno.PointerValue) => new Deno.UnsafePointerView(pointer!).getCString();
  const say = (line: string) => Deno.stdout.writeSync(new TextEncoder().encode(line + "\n"));
  for (let seed = first; seed < first + count; seed++) {
    say(`${seed}`);
    const d = new Draw(seed), name = names[seed % names.length]!;
    let status: number;
    if (name === "tkf_context_create") {
      const out = new BigUint64Array(1);
      status = symbols.tkf_context_create(
        d.pick([-1, 0, 1, 2, 5, 1025]),
        d.below(5) - 1,
        d.once(9) ? null : out,
      );
      const made = Deno.UnsafePointer.create(out[0]!);
      if ((made === null) === (status === STATUS.ok)) {
        throw new Error(`seed ${seed}: status ${status}, ${out[0]}`);
      }
      symbols.tkf_context_destroy(made);
    } else {
      const context = d.once(60) ? null : d.pick(contexts);
      status = call[name]!(context, ...OPS[name]!(d));
      const said = text(symbols.tkf_context_message(context));
      if (
        status !== STATUS.ok && !said.startsWith("found ") && name !== "tkf_blas_load"
      ) {
        throw new Error(`seed ${seed}: ${name} refused with status ${status} and "${said}"`);
      }
    }
    if (!Object.values(STATUS).includes(status as 0) || !d.guardsHold()) {
      throw new Error(`seed ${seed}: ${name} gave status ${status}, guards held: ${d.guardsHold()}`);
    }
    tally[name]![status === STATUS.ok ? 0 : 1]!++;
  }
  say(JSON.stringify(tally));
}

if (Deno.args[0] === "calls") await makeCalls(Number(Deno.args[1]), Number(Deno.args[2]));

Deno.test("the C ABI survives 20,000 random calls", async () => {
  const { success, signal, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      "--no-config",
      "--no-lock",
      "--no-check",
      import.meta.url,
      "calls",
      `${FIRST_SEED}`,
      `${CALLS}`,
    ],
    stdin: "null",
  }).output();
  const lines = new TextDecoder().decode(stdout).trim().split("\n");
  if (!success) {
    throw new Error(
      `Died (${signal}) at seed ${lines.at(-1)}:\n${new TextDecoder().decode(stderr).slice(0, 8000)}`,
    );
  }
  if (lines.length !== CALLS + 1) throw new Error(`found ${lines.length - 1} calls, expected ${CALLS}`);
  const tally: { [name: string]: [number, number] } = JSON.parse(lines.at(-1)!);
  const fuzzed = new Set([...Object.keys(tally), ...OTHERS, ...CONTEXTS]);
  const missing = Object.keys(SYMBOLS).filter((name) => !fuzzed.has(name));
  if (missing.length > 0) throw new Error(`found no calls of ${missing}`);
  for (const [name, [taken, refused]] of Object.entries(tally)) {
    const takes = name !== "tkf_machine_measure" && name !== "tkf_blas_load";
    if (takes && taken < 300 || refused < 100) {
      throw new Error(`${name} took ${taken} calls and refused ${refused}`);
    }
  }
});
