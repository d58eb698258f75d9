/**
 * Wrong calls of the public API from plain JavaScript, and wrong values that its types accept: each is one line of the
 * documented class, on every backend.
 */
import { assertEquals, assertGreaterOrEqual } from "@std/assert";
import {
  type Backend,
  createCustomRule,
  createPruner,
  f32Data,
  hostTensor,
  loadModel,
  Model,
  ModelFormatError,
  NativeLibraryError,
  ReferenceBackend,
  resolveOptions,
  scoreSequence,
  type Tensor,
  TokenFilter,
  UsageError,
} from "../mod.ts";
import { createReplay } from "../lib/entries/methods.ts";
import { HeadCollection } from "../lib/entries/eval.ts";
import {
  generateTokens,
  parseGguf,
  parseSafetensors,
  resolveModel,
  Sampler,
  writeSafetensors,
} from "../lib/entries/model.ts";
import {
  auroc,
  benjaminiHochberg,
  blockBootstrap,
  mcnemarTest,
  pairedInterval,
  smallestDetectable,
  spearman,
} from "../lib/entries/stats.ts";
import { IN_SLOW_TIER, unless } from "../lib/testing.ts";
import { tallySkips } from "../lib/eval/mod.ts";
import { NO_DEVICE, openTestDevice } from "./cuda/testing.ts";
import { cpuLevels, openCpu, openCuda } from "./mod.ts";
import { openWasm } from "./wasm/mod.ts";

// deno-lint-ignore no-explicit-any
const any = (value?: unknown): any => value;

const shape = { numLayers: 4, numHeads: 2, numKvHeads: 1, headDim: 2, hiddenSize: 4 };
const uneven = { ...shape, numHeads: 3, numKvHeads: 2 };
const UNEVEN = 'found 3 for "numHeads", expected a multiple of numKvHeads, 2';
const plan = { pruneRatio: 0.25, tail: 0.5, warmup: 8 };
const f32 = (length: number) => new Float32Array(length).fill(1);
const filter = (fusion: "variance" | "learned" = "variance") =>
  new TokenFilter(shape, { ...plan, fusion }).start();
const series = (...numbers: number[]) => Float64Array.from(numbers);
const mean = ([own]: readonly number[]) => own!;
const sums = { sums: [1, 2], sizes: [1, 1] };

/** A call with wrong arguments, with the class of its error and a part of its message. */
type Call = readonly [
  type: new (...args: never[]) => Error,
  message: string,
  call: (on: Opened) => unknown,
];

/** A backend with the model that calls are made on. */
interface Opened extends Awaited<ReturnType<typeof loadModel>> {
  readonly backend: Backend;
}

const ARRAYS: readonly Call[] = [
  [RangeError, '"dtype": found "f33", expected one of f32, ', () => hostTensor(any("f33"), [1], f32(1))],
  [TypeError, '"dtype": found number', () => hostTensor(any(32), [1], f32(1))],
  [TypeError, '"data": found Int32Array, expected Float32Array', () => {
    // @ts-expect-error an array of another type
    hostTensor("f32", [2, 3], new Int32Array(6));
  }],
  [TypeError, '"data": found Array, expected Float32Array', () => hostTensor("f32", [2], any([1, 2]))],
  [TypeError, '"shape": found number, expected Array', () => hostTensor("f32", any(6), f32(6))],
  [RangeError, '"shape": found -2', () => hostTensor("f32", [-2, -3], f32(6))],
  [RangeError, "found 20 bytes, expected 24", () => hostTensor("f32", [2, 3], f32(5))],
  [
    TypeError,
    "Cannot use a i32 tensor: expected f32",
    () => f32Data(hostTensor("i32", [1], new Int32Array(1))),
  ],
  [TypeError, "read it through its backend", () => f32Data({ dtype: "f32", shape: [1] })],
  [RangeError, '"dtype": found "zz"', ({ backend }) => backend.alloc(any("zz"), [1])],
  [RangeError, "Cannot size 1.5 values of f32", ({ backend }) => backend.alloc("f32", [1.5])],
  [TypeError, '"tensor": found undefined, expected object', ({ backend }) => backend.upload(any())],
  [
    RangeError,
    '"dtype": found "f33", expected one of f32, ',
    ({ backend }) => backend.upload({ ...hostTensor("f32", [1], f32(1)), dtype: any("f33") }),
  ],
  [
    TypeError,
    '"data": found Array, expected Float32Array',
    ({ backend }) => backend.upload({ dtype: "f32", shape: [2], data: any([1, 2]) }),
  ],
  [
    TypeError,
    '"data": found undefined, expected Float32Array',
    ({ backend }) => backend.upload(any({ dtype: "f32", shape: [2] })),
  ],
  [
    TypeError,
    '"data": found Float64Array, expected Float32Array',
    ({ backend }) => backend.upload({ dtype: "f32", shape: [1, 2], data: any(series(3, 4)) }),
  ],
  [
    RangeError,
    "found 8 bytes, expected 12",
    ({ backend }) => backend.upload({ dtype: "f32", shape: [1, 3], data: f32(2) }),
  ],
  [
    RangeError,
    "found 12 bytes, expected 8",
    ({ backend }) => backend.upload({ dtype: "f32", shape: [1, 2], data: f32(3) }),
  ],
  [
    TypeError,
    '"shape": found number, expected Array',
    ({ backend }) => backend.upload({ dtype: "f32", shape: any(2), data: f32(2) }),
  ],
  [
    RangeError,
    '"x": found shape [1,2], expected [-1,3]',
    ({ backend }) => multiply(backend, backend.upload(hostTensor("f32", [1, 3], f32(3)))),
  ],
  [
    TypeError,
    '"x": found undefined, expected object',
    ({ backend }) => backend.rmsNorm(any(), any(), 0, any()),
  ],
];

/** A product of ones with a weight. */
function multiply(backend: Backend, weight: Tensor, width = 2): void {
  const x = backend.upload(hostTensor("f32", [1, width], f32(width)));
  backend.linear(x, weight, backend.alloc("f32", [1, 1]));
}

/** Tensors without an `upload`: backends in this process's memory take them unchanged. */
const UNSEEN: readonly Call[] = [
  [
    TypeError,
    '"data of a tensor of f32": found Float64Array, expected Float32Array',
    ({ backend }) => multiply(backend, any({ dtype: "f32", shape: [1, 2], data: series(3, 4) })),
  ],
  [
    TypeError,
    '"data of a tensor of q8_0": found Float32Array, expected Uint8Array',
    ({ backend }) => multiply(backend, any({ dtype: "q8_0", shape: [1, 32], data: f32(9) }), 32),
  ],
];

/** The same on a device, which has memory of its own. */
const UNSEEN_ON_DEVICE: readonly Call[] = [
  [
    TypeError,
    "Cannot use a tensor of this process on a device: upload it with its backend",
    ({ backend }) => multiply(backend, hostTensor("f32", [1, 2], f32(2))),
  ],
];

const LOADING: readonly Call[] = [
  [TypeError, '"nameOrPath": found number, expected string', ({ backend }) => loadModel(any(3), backend)],
  [TypeError, '"backend": found undefined, expected object', () => loadModel("tiny", any())],
  [TypeError, '"upload of the backend": found undefined', () => loadModel("tiny", any({}))],
  [UsageError, 'Cannot load model "tinny"', ({ backend }) => loadModel("tinny", backend)],
  [
    RangeError,
    '"dtype": found "q5_0", expected one of f32, bf16, f16, q8_0, q4_0',
    ({ backend }) => loadModel("tiny", backend, { dtype: any("q5_0") }),
  ],
  [TypeError, '"dtype": found number', ({ backend }) => loadModel("tiny", backend, { dtype: any(3) })],
  [
    RangeError,
    '"cacheDType": found "f64", expected one of f32, f16, bf16',
    ({ backend }) => loadModel("tiny", backend, { cacheDType: any("f64") }),
  ],
  [
    TypeError,
    'option "dtyp": no such option, the nearest is "dtype"',
    ({ backend }) => loadModel("tiny", backend, any({ dtyp: "f32" })),
  ],
  [TypeError, "Cannot use options: found null", ({ backend }) => loadModel("tiny", backend, any(null))],
  [RangeError, '"contextLength": found 0', ({ backend }) => loadModel("tiny", backend, { contextLength: 0 })],
  [UsageError, 'Cannot load model "tinny"', () => resolveModel("tinny")],
  [ModelFormatError, 'Cannot read "none.gguf" at byte 0', () => parseGguf(new Uint8Array(8), "none.gguf")],
  [
    ModelFormatError,
    'Cannot read "none.safetensors"',
    () => parseSafetensors(new Uint8Array(8), "none.safetensors"),
  ],
  [
    TypeError,
    'Cannot write tensor "x": found i32',
    () => writeSafetensors(new Map([["x", hostTensor("i32", [1], new Int32Array(1))]])),
  ],
];

const OPENING: readonly Call[] = [
  [TypeError, "Cannot use options: found null", () => openCpu(any(null))],
  [TypeError, 'option "thread": no such option, the nearest is "threads"', () => openCpu(any({ thread: 2 }))],
  [TypeError, '"threads": found string, expected number', () => openCpu({ threads: any("2") })],
  [RangeError, '"threads": found 0, expected an integer from 1 to 1024', () => openCpu({ threads: 0 })],
  [RangeError, '"threads": found 1.5', () => openCpu({ threads: 1.5 })],
  [RangeError, '"level": found "sse", expected one of base', () => openCpu({ level: "sse", threads: 1 })],
  [RangeError, 'found products "fast", expected exact', () => openCpu({ products: any("fast"), threads: 1 })],
  [NativeLibraryError, "/none.so", () => openCpu({ library: "/none.so" })],
  [NativeLibraryError, 'Cannot load the BLAS "/none.so"', () => openCpu({ blas: "/none.so", threads: 1 })],
  [TypeError, '"library": found number, expected string', () => openCpu({ library: any(3) })],
  [TypeError, '"blas": found boolean, expected string', () => openCpu({ blas: any(false) })],
  [TypeError, '"level": found number, expected string', () => openCpu({ level: any(2) })],
  [TypeError, '"products": found null, expected string', () => openCpu({ products: any(null) })],
  [
    RangeError,
    '"products": found "bf16", expected one of exact, int8',
    () => openWasm({ products: any("bf16") }),
  ],
  [TypeError, '"build": found string, expected boolean', () => openCpu({ build: any("yes") })],
  [TypeError, '"onProgress": found string, expected function', () => openCpu({ onProgress: any("log") })],
  [TypeError, 'option "level": no such option', () => cpuLevels(any({ level: "base" }))],
  [
    TypeError,
    '"library": found URL, expected string',
    () => cpuLevels({ library: any(new URL("file:///x")) }),
  ],
  [TypeError, "Cannot use options: found null", () => openCuda(any(null))],
  [TypeError, 'option "devise": no such option, the nearest is "device"', () => openCuda(any({ devise: 0 }))],
  [TypeError, '"device": found string, expected number', () => openCuda({ device: any("0") })],
  [RangeError, '"device": found -1, expected an integer of at least 0', () => openCuda({ device: -1 })],
  [RangeError, '"device": found 0.5', () => openCuda({ device: 0.5 })],
  [TypeError, '"library": found number, expected string', () => openCuda({ library: any(3) })],
  [TypeError, '"wgmma": found number, expected boolean', () => openCuda({ wgmma: any(1) })],
  [TypeError, '"dependentLaunch": found null', () => openCuda({ dependentLaunch: any(null) })],
  [TypeError, '"reuse": found string, expected boolean', () => openCuda({ reuse: any("no") })],
  [TypeError, '"build": found string, expected boolean', () => openCuda({ build: any("yes") })],
  [TypeError, '"onProgress": found Object, expected function', () => openCuda({ onProgress: any({}) })],
];

const FEEDING: readonly Call[] = [
  [RangeError, "Cannot embed id -1: expected 0 to", ({ model }) => model.start().feed(Int32Array.of(-1))],
  [RangeError, "Cannot embed id 99999", ({ model }) => model.start().feed(Int32Array.of(1, 99999))],
  [RangeError, "Cannot embed id -1", ({ model }) => model.embed(Int32Array.of(-1))],
  [RangeError, "Cannot embed id -1", ({ model }) => model.residualAt(Int32Array.of(-1), 1)],
  [
    RangeError,
    '"layer": found 99, expected an integer from 0 to 10',
    ({ model }) => model.residualAt(Int32Array.of(1), 99),
  ],
  [
    RangeError,
    '"layer": found 99',
    ({ model }) => model.start().feedResidual(model.embed(Int32Array.of(1)), 99),
  ],
  [TypeError, '"ids": found Array, expected Int32Array', ({ model }) => model.start().feed(any([1, 2]))],
  [
    TypeError,
    '"residual": found null, expected object',
    ({ model }) => model.start().feedResidual(any(null), 1),
  ],
  [
    RangeError,
    '"hidden": found shape [1], expected [-1,',
    ({ model }) => model.logits(hostTensor("f32", [1], f32(1))),
  ],
  [TypeError, '"start of a pruner": found undefined, expected function', ({ model }) => model.start(any({}))],
  [
    TypeError,
    '"start of a pruner": found undefined, expected function',
    ({ model }) => model.start(any(null)),
  ],
  [
    RangeError,
    '"cacheDType": found "f64"',
    ({ model }) => model.start(undefined, { cacheDType: any("f64") }),
  ],
  [RangeError, '"chunk": found -1', ({ model }) => model.start(undefined, { chunk: -1 })],
  [
    TypeError,
    'option "chunks": no such option, the nearest is "chunk"',
    ({ model }) => model.start(undefined, any({ chunks: 1 })),
  ],
  [TypeError, '"feeds": found Object, expected Array', ({ model }) => model.feedTogether(any({}))],
  [
    TypeError,
    '"sequence": found undefined, expected ModelSequence',
    ({ model }) => model.feedTogether(any([{}])),
  ],
  [
    RangeError,
    "Cannot embed id -1",
    ({ model }) => model.feedTogether([{ sequence: model.start(), ids: Int32Array.of(-1) }]),
  ],
  [RangeError, "found one of them twice", ({ model }) => {
    const feed = { sequence: model.start(), ids: Int32Array.of(1) };
    model.feedTogether([feed, feed]);
  }],
  [RangeError, "Cannot feed a sequence of another model", ({ model, config, backend }) => {
    const other = new Model(config, model.weights, backend);
    model.feedTogether([{ sequence: other.start(), ids: Int32Array.of(1) }]);
  }],
  [Error, "Cannot use this sequence: it was freed", ({ model }) => freed(model).feed(Int32Array.of(1))],
  [Error, "Cannot use this sequence: it was freed", ({ model }) => freed(model).fork()],
  [Error, "Cannot use this sequence: it was freed", ({ model }) => freed(model).usage()],
  [
    Error,
    "Cannot use this sequence: it was freed",
    ({ model }) => model.feedTogether([{ sequence: freed(model), ids: Int32Array.of(1) }]),
  ],
  [
    RangeError,
    "expected positive integers",
    ({ model }) => model.startBatch(undefined, { batch: 0, capacity: 8 }),
  ],
  [TypeError, "Cannot use options: found undefined", ({ model }) => model.startBatch(undefined, any())],
  [
    TypeError,
    'option "slots": no such option',
    ({ model }) => model.startBatch(undefined, any({ batch: 1, capacity: 8, slots: 1 })),
  ],
  [RangeError, '"cacheDType": found "f64"', ({ model }) => batch(model, { cacheDType: any("f64") })],
  [RangeError, "Cannot embed id -1", ({ model }) => batch(model).step(Int32Array.of(-1))],
  [RangeError, "found 8 bytes, expected 4", ({ model }) => batch(model).step(Int32Array.of(1, 1))],
  [TypeError, '"ids": found Array', ({ model }) => batch(model).step(any([1]))],
  [TypeError, '"sequence": found Object', ({ model }) => batch(model).admit(0, any({}))],
  [
    RangeError,
    "Cannot admit a sequence to slot 9: expected an idle one of 0 to 0",
    ({ model }) => batch(model).admit(9, model.start()),
  ],
  [RangeError, 'Cannot admit a sequence of the method "token-filtering"', ({ model, config }) => {
    using decoder = model.startBatch(undefined, { batch: 1, capacity: 8 });
    decoder.admit(0, model.start(createPruner("key", config, plan)));
  }],
  [RangeError, '"slot": found 9', ({ model }) => batch(model).release(9)],
  [Error, "Cannot use this batch decoder: it was disposed", ({ model }) => disposed(model).begin(0)],
  [
    Error,
    "Cannot use this batch decoder: it was disposed",
    ({ model }) => disposed(model).admit(0, model.start()),
  ],
  [Error, "Cannot use this batch decoder: it was disposed", ({ model }) => disposed(model).release(0)],
  [
    Error,
    "Cannot use this batch decoder: it was disposed",
    ({ model }) => disposed(model).step(Int32Array.of(1)),
  ],
  [Error, "Cannot use this batch decoder: it was disposed", ({ model }) => disposed(model).ids()],
  [Error, "Cannot use this batch decoder: it was disposed", ({ model }) => disposed(model).keep()],
  [Error, "Cannot use this batch decoder: it was disposed", ({ model }) => disposed(model).kvKeep()],
];

function freed(model: Opened["model"]) {
  using sequence = model.start();
  sequence.feed(Int32Array.of(1, 2));
  return sequence;
}

/** A decoder of one slot, in which a sequence has begun. */
function batch(model: Opened["model"], options = {}) {
  const decoder = model.startBatch(undefined, { batch: 1, capacity: 8, ...options });
  decoder.begin(0);
  return decoder;
}

function disposed(model: Opened["model"]) {
  using decoder = batch(model);
  return decoder;
}

const SCORING: readonly Call[] = [
  [TypeError, '"ids": found undefined, expected Int32Array', ({ model }) => scoreSequence(model, any())],
  [RangeError, "a sequence of 1 tokens", ({ model }) => scoreSequence(model, Int32Array.of(1))],
  [
    RangeError,
    '"phase": found "decoding", expected one of prefill, decode',
    ({ model }) => scoreSequence(model, Int32Array.of(1, 2), undefined, { phase: any("decoding") }),
  ],
  [
    RangeError,
    "Cannot feed chunks of 0",
    ({ model }) => scoreSequence(model, Int32Array.of(1, 2), undefined, { chunk: 0 }),
  ],
  [
    TypeError,
    'option "phases": no such option, the nearest is "phase"',
    ({ model }) => scoreSequence(model, Int32Array.of(1, 2), undefined, any({ phases: "decode" })),
  ],
  [
    TypeError,
    '"ids": found Float64Array, expected Int32Array',
    ({ model }) => new HeadCollection(model, any(new Float64Array(40))),
  ],
  [TypeError, '"text": found number, expected string', ({ tokenizer }) => tokenizer.encode(any(3))],
  [RangeError, "Cannot use token -1", ({ tokenizer }) => tokenizer.decode([-1])],
  [RangeError, 'option "temperature": found -1', () => new Sampler({ temperature: -1 })],
  [
    RangeError,
    "Cannot go on from an empty prompt",
    (
      { model },
    ) => [
      ...generateTokens(model, model.start(), new Int32Array(0), { sampler: new Sampler(), maxTokens: 1 }),
    ],
  ],
  [
    RangeError,
    'Cannot use "maxTokens": found -1',
    (
      { model },
    ) => [
      ...generateTokens(model, model.start(), Int32Array.of(1), { sampler: new Sampler(), maxTokens: -1 }),
    ],
  ],
  [TypeError, '"keep": found Object, expected Map', () => tallySkips(2, 1, [{ length: 2, keep: any({}) }])],
];

const FILTERING: readonly Call[] = [
  [
    TypeError,
    '"keys": found Array, expected Float32Array or a tensor',
    () => filter().step(2, any([1, 0]), f32(2)),
  ],
  [
    TypeError,
    '"values": found Float64Array, expected Float32Array',
    () => filter().step(2, f32(2), any(new Float64Array(2))),
  ],
  [TypeError, '"keys": found null, expected Float32Array', () => filter().scan(2, any(null), f32(2))],
  [TypeError, '"keys": found number, expected Float32Array', () => filter().scan(2, any(3), f32(2))],
  [
    TypeError,
    '"residual": found Array, expected Float32Array',
    () => filter("learned").scan(2, f32(4), f32(4), any({ residual: Array(8).fill(1), normed: f32(8) })),
  ],
  [
    TypeError,
    '"outputNorms": found Array, expected Float64Array',
    () => filter("learned").observe(2, any([1]), new Float64Array(1)),
  ],
  [
    TypeError,
    '"residualNorms": found string, expected Float64Array',
    () => filter("learned").observe(2, new Float64Array(1), any("1")),
  ],
  [
    RangeError,
    '"keys": found 3 numbers, expected a multiple of 2 (1 x 2)',
    () => filter().step(2, f32(3), f32(2)),
  ],
  [RangeError, "Cannot step layer 2: found 2 tokens, expected 1", () => filter().step(2, f32(4), f32(2))],
  [RangeError, "values", () => filter().scan(2, f32(4), f32(2))],
  [RangeError, "Cannot filter layer 0: expected one of 2, 3", () => filter().step(0, f32(2), f32(2))],
  [TypeError, '"shape": found undefined, expected object', () => new TokenFilter(any())],
  [TypeError, '"kvFilterScan of the backend": found undefined', () => new TokenFilter(shape, {}, any({}))],
  [RangeError, UNEVEN, () => new TokenFilter(uneven)],
  [RangeError, UNEVEN, () => createPruner("oracle", uneven)],
  [RangeError, UNEVEN, () => createPruner("token-filtering", uneven)],
  [RangeError, UNEVEN, () => createCustomRule(uneven, () => 1)],
  [TypeError, '"name": found Object, expected string', () => createPruner(any(shape), any(plan))],
  [
    RangeError,
    'Cannot prune by "orcle": no such method, the nearest is "oracle"',
    () => createPruner(any("orcle"), shape),
  ],
  [TypeError, '"shape": found null, expected object', () => createPruner("oracle", any(null))],
  [
    TypeError,
    'option "backed": no such option, the nearest is "backend"',
    ({ backend }) => createPruner("key", shape, plan, any({ backed: backend })),
  ],
  [TypeError, '"score": found number, expected function', () => createCustomRule(shape, any(3))],
  [
    TypeError,
    'option "traces": no such option, the nearest is "trace"',
    () => createCustomRule(shape, () => 1, plan, any({ traces: 1 })),
  ],
  [TypeError, '"keep": found Object, expected Map', () => createReplay(shape, { keep: any({}) })],
  [
    TypeError,
    '"keep of layer 2": found Array, expected Uint8Array',
    () => createReplay(shape, { keep: new Map([[2, any([1])]]) }),
  ],
  [
    TypeError,
    'option "gama": no such option, the nearest is "gamma"',
    () => resolveOptions(any({ gama: 0.5 })),
  ],
  [RangeError, 'option "gamma": found 1, expected a number in [0, 1)', () => resolveOptions({ gamma: 1 })],
  [TypeError, 'option "gamma": found "0.9"', () => resolveOptions({ gamma: any("0.9") })],
  [TypeError, "Cannot use options: found null", () => resolveOptions(any(null))],
];

const STATISTICS: readonly Call[] = [
  [RangeError, '"blockSize": found 0', () => blockBootstrap([[series(1, 2)]], mean, { blockSize: 0 })],
  [RangeError, '"blockSize": found -1', () => blockBootstrap([[series(1, 2)]], mean, { blockSize: -1 })],
  [RangeError, '"blockSize": found 1.5', () => blockBootstrap([[series(1, 2)]], mean, { blockSize: 1.5 })],
  [RangeError, '"resamples": found -1', () => blockBootstrap([[series(1, 2)]], mean, { resamples: -1 })],
  [RangeError, '"confidence": found 2', () => blockBootstrap([[series(1, 2)]], mean, { confidence: 2 })],
  [RangeError, '"seed": found 1.5', () => blockBootstrap([[series(1, 2)]], mean, { seed: 1.5 })],
  [TypeError, 'option "block": no such option', () => blockBootstrap([[series(1)]], mean, any({ block: 1 }))],
  [RangeError, "Cannot resample: found no value", () => blockBootstrap([], mean)],
  [TypeError, '"segment": found Array, expected Float64Array', () => blockBootstrap([[any([1, 2])]], mean)],
  [TypeError, '"statistic": found undefined, expected function', () => blockBootstrap([[series(1)]], any())],
  [TypeError, '"sums": found undefined, expected Array', () => pairedInterval(any({}), any({}))],
  [RangeError, '"confidence": found 2', () => pairedInterval(sums, sums, 2)],
  [RangeError, "found 1 and 2 values", () => spearman(series(1), series(1, 2))],
  [TypeError, '"a": found Array, expected Float64Array', () => spearman(any([1]), series(1))],
  [TypeError, '"labels": found Array, expected Uint8Array', () => auroc(series(1), any([1]))],
  [RangeError, '"power": found 2', () => smallestDetectable(0.1, 2)],
  [RangeError, "found 2, expected numbers in [0, 1]", () => benjaminiHochberg([2])],
  [RangeError, "Cannot pair 1 items with 2", () => mcnemarTest([1], [1, 0])],
];

const CALLS = { ARRAYS, LOADING, OPENING, FEEDING, SCORING, FILTERING, STATISTICS };

const hosts = [new ReferenceBackend(), await openCpu({ threads: 1, blas: "none" })];
const devices = NO_DEVICE ? [] : [(await openTestDevice()).backend];
for (const backend of [...hosts, ...devices]) {
  const opened = { ...await loadModel("tiny", backend), backend };
  const own = { ...CALLS, UNSEEN: backend.name === "cuda" ? UNSEEN_ON_DEVICE : UNSEEN };
  for (const [name, calls] of Object.entries(own)) {
    const title = `${backend.name}: wrong calls are refused in one line, by class: ${name.toLowerCase()}`;
    // Sequences on the interpreter take their time to begin.
    const isSlow = backend.name === "cuda" && calls === FEEDING && IN_SLOW_TIER;
    Deno.test({
      ...unless(isSlow, title),
      async fn() {
        for (const [type, message, call] of calls) {
          const error = await Promise.try(call, opened).then(() => undefined, (error) => error);
          const found = `${error?.constructor.name}: ${error?.message}`;
          assertEquals(
            [error?.constructor, found.includes(message), found.includes("\n")],
            [type, true, false],
            found,
          );
        }
      },
    });
  }
}

Deno.test("there are at least 82 wrong calls, none twice", () => {
  const all = [...Object.values(CALLS), UNSEEN, UNSEEN_ON_DEVICE].flat();
  assertGreaterOrEqual(all.length, 82);
  assertEquals(new Set(all.map(([, , call]) => `${call}`)).size, all.length);
});
