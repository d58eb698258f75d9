/** The memory of the WebAssembly backend, and what it refuses. */
import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { KernelError, ModelFormatError, NativeLibraryError } from "../../lib/errors.ts";
import { fromF16 } from "../../lib/math/half.ts";
import { createPruner } from "../../lib/methods/mod.ts";
import { loadModel, openModel, resolveModel } from "../../lib/model/mod.ts";
import { f32Data, firstRows, hostTensor, type Tensor } from "../../lib/tensor.ts";
import { inChild } from "../../kernels/testing/child.ts";
import { run } from "../build/command.ts";
import { collectUntil } from "../collector_testing.ts";
import { openLibrary } from "./library.ts";
import { LEAST_BYTES, LinearMemory } from "./memory.ts";
import { openWasm, type WasmBackend } from "./mod.ts";

const MB = 2 ** 20;
const filled = (count: number, value: number) =>
  hostTensor("f32", [count], new Float32Array(count).fill(value));
/** Writes a sum into a tensor: x += delta. */
const add = (backend: WasmBackend, x: Tensor, delta: Tensor) =>
  backend.add({ ...x, shape: [1, ...x.shape] }, { ...delta, shape: [1, ...delta.shape] });

Deno.test("tensors keep their values and their ops as the memory grows from 2 MB to 1 GB", async () => {
  const backend = await openWasm(), x = backend.upload(filled(1000, 1));
  const parts = Array.from({ length: 16 }, () => backend.alloc("u8", [64 * MB], true));
  add(backend, x, backend.upload(filled(1000, 2)));
  assert(f32Data(backend.read(x)).every((value) => value === 3));
  for (const part of parts) backend.free(part);
});

Deno.test("arrays that are not in linear memory take part in an op, and get its results", async () => {
  const backend = await openWasm(), x = filled(6, 1), twice = { ...x, data: x.data.subarray(2) };
  add(backend, { ...twice, shape: [4] }, filled(4, 2));
  assertEquals([...x.data], [1, 1, 3, 3, 3, 3]);
});

Deno.test("linear() reads all numbers of f16, infinity and NaN among them, in blocks of 32", async () => {
  const backend = await openWasm(),
    n = 2 ** 16,
    k = 32,
    bits = new Uint16Array(n * k),
    out = backend.alloc("f32", [1, n]);
  for (let i = 0; i < n; i++) bits[i * k + i % k] = i; // in every place of a block, next to zeros
  const x = hostTensor("f32", [1, k], new Float32Array(k).fill(1));
  backend.linear(backend.upload(x), backend.upload(hostTensor("f16", [n, k], bits)), out);
  assertEquals(f32Data(backend.read(out)), Float32Array.from({ length: n }, (_, i) => fromF16(i) + 0));
});

Deno.test("free() gives memory back, twice or by a view; the collector does for what is dropped, but not under a view", async () => {
  const backend = await openWasm(), start = backend.bytesInUse;
  const x = backend.alloc("f32", [4, 1024]);
  assertEquals(backend.bytesInUse - start, 16384);
  backend.free(firstRows(x, 2));
  backend.free(x);
  assertThrows(() => backend.read(x), Error, "it was freed");
  assertEquals(backend.bytesInUse, start);
  const view = firstRows(backend.upload(hostTensor("f32", [4, 1024], new Float32Array(4096).fill(5))), 2);
  for (let i = 0; i < 200; i++) backend.alloc("f32", [MB / 4], true);
  await collectUntil(() => backend.bytesInUse - start === 16384);
  assertEquals(backend.bytesInUse - start, 16384);
  assert(f32Data(backend.read(view)).every((value) => value === 5));
});

Deno.test("sequences leave only the weights, whether they were freed or dropped", async () => {
  const backend = await openWasm(), { model, config } = await loadModel("tiny", backend);
  const pruner = createPruner("token-filtering", config, { preset: "keys", pruneRatio: 0.5 });
  const ids = Int32Array.from({ length: 96 }, (_, i) => i + 7);
  const settle = async () => {
    let turns = 0;
    await collectUntil(() => turns++ > 20);
    return backend.bytesInUse;
  };
  const weights = await settle(), numbers = 4 * (96 - 1); // the backend keeps those of rows, so far of the trial's one
  for (let i = 0; i < 16; i++) {
    const sequence = model.start(pruner), hidden = sequence.feed(ids);
    if (i % 2 === 0) continue;
    backend.free(hidden);
    sequence.free();
  }
  assertEquals(await settle(), weights + numbers);
});

Deno.test("memory that is used up is a RangeError that names bytes and limit, and the backend goes on", async () => {
  const backend = await openWasm({ memory: 16 * MB });
  assertThrows(
    () => backend.alloc("f32", [8 * MB]),
    RangeError,
    `Cannot allocate ${32 * MB} bytes in WebAssembly: found 0 in use of ${16 * MB}`,
  );
  const { bytes } = await resolveModel("tiny"), small = await openWasm({ memory: LEAST_BYTES });
  await assertRejects(() => openModel(bytes, small), RangeError, "expected room: a smaller model");
  const x = backend.upload(filled(8, 1));
  add(backend, x, x);
  assertEquals(f32Data(backend.read(x))[7], 2);
});

Deno.test("where memory cannot grow without a loss of views, it has its final size at once", () => {
  const memory = new WebAssembly.Memory({ initial: 32, maximum: 160 });
  Object.defineProperty(memory, "toResizableBuffer", { value: undefined });
  let end = 2 * MB; // a bump allocator, which grows the memory by whole pages
  const allocate = (_: number, bytes: number) => {
    if (end + bytes > 158 * 65536) return 0;
    if (end + bytes > memory.buffer.byteLength) {
      memory.grow(Math.ceil((end + bytes - memory.buffer.byteLength) / 65536));
    }
    return (end += bytes) - bytes;
  };
  const linear = new LinearMemory(memory, { allocate, free: () => end = 2 * MB }, 10 * MB);
  assertEquals(linear.buffer.byteLength, 10 * MB);
  const { data } = linear.alloc("f32", [MB]);
  assertThrows(() => linear.alloc("f32", [2 * MB]), RangeError);
  assertEquals(data.length, MB);
});

Deno.test("a trap in a kernel is a KernelError of memory, and the backend says that it is dead", async () => {
  const backend = await openWasm({ memory: 3 * MB }), parts: Tensor[] = [];
  const x = backend.upload(hostTensor("f32", [4000, 1, 2], new Float32Array(8000)));
  const positions = backend.upload(hostTensor("i32", [4000], Int32Array.from({ length: 4000 }, (_, i) => i)));
  const turns = backend.upload(hostTensor("f64", [1, 2], Float64Array.of(1, 1)));
  assertThrows(() => {
    for (;;) parts.push(backend.alloc("u8", [4096], true));
  }, RangeError);
  const error = assertThrows(
    () => backend.rope(x, positions, turns),
    KernelError,
    "most likely for lack of memory",
  );
  assertEquals(error.code, 7);
  assertThrows(() => backend.alloc("u8", [1]), Error, "Cannot use this backend: tkf_rope_apply has trapped");
  parts.forEach((part) => backend.free(part));
  backend[Symbol.dispose]();
});

Deno.test("openWasm() refuses options that it cannot use, and files that are no library of this release", async () => {
  // deno-lint-ignore no-explicit-any
  const open = (options: any) => () => openWasm(options);
  await assertRejects(open({ memry: 1 }), TypeError, 'the nearest is "memory"');
  await assertRejects(
    open({ memory: 1.5 * MB }),
    RangeError,
    '"memory": found 1572864, expected an integer from 2097152',
  );
  await assertRejects(open({ wasm: "file" }), TypeError, '"wasm": found string, expected object');
  await assertRejects(
    open({ wasm: Uint8Array.of(1, 2, 3, 4) }),
    NativeLibraryError,
    "Cannot compile this WebAssembly",
  );
  const empty = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0);
  await assertRejects(open({ wasm: empty }), NativeLibraryError, "expected the file of this release");
});

Deno.test("openModel() refuses bytes that are no model in one line", async () => {
  const backend = await openWasm();
  const open = (bytes: Parameters<typeof openModel>[0]) => () => openModel(bytes, backend, { name: "mine" });
  await assertRejects(open(new Uint8Array(100)), ModelFormatError, 'Cannot read "mine" at byte 0');
  await assertRejects(open({}), ModelFormatError, 'Cannot read "mine": found no config.json');
  await assertRejects(
    open({ "config.json": new TextEncoder().encode("{") }),
    ModelFormatError,
    "mine/config.json",
  );
  const { bytes } = await resolveModel("tiny");
  await assertRejects(open(bytes.slice(0, 1e6)), ModelFormatError, 'Cannot read "mine"');
});

Deno.test("openLibrary() gives every instance a memory of its own", async () => {
  const [one, two] = [await openLibrary(undefined, 8 * MB), await openLibrary(undefined, 8 * MB)];
  assert(one.memory.buffer !== two.memory.buffer);
});

Deno.test("openCpu() runs on WebAssembly where there is neither a library nor a compiler, and says so once", async () => {
  const cache = await Deno.makeTempDir(),
    env = { TOKENFILTER_CACHE: cache, PATH: cache, CXX: "", TOKENFILTER_BLAS: "none" };
  const open = (options: string) =>
    inChild(
      env,
      `const { openCpu } = await load("ffi/mod.ts"), lines = [], onProgress = (line) => lines.push(line);
       const names = [];
       for (let i = 0; i < 2; i++) names.push((await openCpu({ onProgress, ${options} })).name);
       return { names, lines };`,
    );
  const built = await open("build: true"), found = await open("threads: 2");
  assertEquals([built.names, found.names], [["wasm", "wasm"], ["wasm", "wasm"]]);
  assertEquals([built.lines.length, found.lines.length], [1, 1]);
  assertMatch(
    built.lines[0],
    /neither g\+\+ nor clang\+\+, .* install g\+\+ .* Going on with WebAssembly, .* slower$/,
  );
  assertMatch(
    found.lines[0],
    /nor a build of these sources .*; run: .*build\.ts\. Going on with WebAssembly/,
  );
  for (
    const named of ["level: 'base'", "library: '/none.so'", "products: 'bf16'", "build: true, level: 'base'"]
  ) {
    assertMatch((await open(named)).error, /^NativeLibraryError/);
  }
  await Deno.remove(cache, { recursive: true });
});

Deno.test("openCpu() runs on WebAssembly with --deny-ffi, and says so", async () => {
  const script = await Deno.makeTempFile({ suffix: ".ts" }),
    module = new URL("../mod.ts", import.meta.url).href;
  await Deno.writeTextFile(
    script,
    `import { openCpu } from "${module}";
console.log((await openCpu({ onProgress: console.log })).name);`,
  );
  const flags = ["--no-check", "--no-prompt", "--deny-ffi", "--allow-read", "--allow-env"];
  const { stdout } = await run(Deno.execPath(), ["run", ...flags, script]);
  assertMatch(stdout, /^Cannot load a native library: .*--allow-ffi\. Going on with WebAssembly.*\nwasm\n$/);
  await Deno.remove(script);
});
