import { DTYPES } from "../../../lib/dtype.ts";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { cublasLtPlaces, loadCublasLt } from "../../../ffi/cuda/cublaslt.ts";
import { KernelError, NativeLibraryError } from "../../../lib/errors.ts";
import { fromBf16, toBf16 } from "../../../lib/math/half.ts";
import { dequantize } from "../../../lib/reference/dequantize.ts";
import { f32Data, hostTensor } from "../../../lib/tensor.ts";
import { RUNS_SLOW, withVariables } from "../../../lib/testing.ts";
import { CudaBackend } from "../../../ffi/cuda/backend.ts";
import { CudaContext } from "../../../ffi/cuda/context.ts";
import { openTestDevice, testOnPtx } from "../../../ffi/cuda/testing.ts";
import { decisionsOf, type DeviceWay, deviceWay, isSampled } from "../../testing/ways.ts";
import { WEIGHTS } from "../../testing/fuzz/draw.ts";
import { assertNear, numbers, randomWeight, withInfinity } from "../../testing/inputs.ts";
import { LINEAR_CASES, type LinearCase, MULTIPLIED } from "../cases.ts";
import { barOf, checkSlots, compileFakeCublasLt, prepare } from "./testing.ts";

const folder = await Deno.makeTempDir(), path = await compileFakeCublasLt(folder);
const fake = Deno.dlopen(path, {
  fake_mode: { parameters: ["i32"], result: "void" },
  fake_counts: { parameters: ["buffer"], result: "void" },
}).symbols;
globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));

/** Heuristics asked for, products, products that were added to others, objects alive. */
function counts(): number[] {
  const out = new BigInt64Array(4);
  fake.fake_counts(out);
  return [...out].map(Number);
}
const since = (before: readonly number[]) => counts().map((count, i) => count - before[i]!);

/** The interpreter, whose memory is this process's, in which the stand-in computes; with a context of its own. */
async function openDevice(): Promise<DeviceWay> {
  const { memory, context: { library } } = await openTestDevice(), context = new CudaContext(library, memory);
  return deviceWay({ memory, context, backend: new CudaBackend(context, memory) });
}

function load(device: DeviceWay, path: string): void {
  const bytes = new TextEncoder().encode(`${path}\0`);
  const { context } = device;
  context.check("tkf_blas_load", context.library.symbols.tkf_blas_load(context.pointer, bytes));
}

const round = (values: Float32Array) => values.map((value) => fromBf16(toBf16(value)));

function check(device: DeviceWay, c: LinearCase, seed: number): void {
  const { x, weight, expected, sizes } = prepare(c, seed);
  const out = device.empty(c.rows, c.n);
  device.backend.linear(device.on(x), device.on(weight), out);
  const what = `${c.rows} x ${c.k} by ${c.n} ${c.dtype}`;
  assertNear(device.values(out), expected, barOf(device, c), what, (i) => sizes[i]!);
}

testOnPtx("linear() by cuBLASLt equals the reference on all cases of many rows", async () => {
  const device = await openDevice();
  load(device, path);
  fake.fake_mode(0);
  const before = counts();
  const all = LINEAR_CASES.filter(({ rows, n, k }) => rows > 30 && n > 0 && k > 0);
  const cases = all.filter((_, i) => isSampled(i));
  cases.forEach((c, i) => check(device, c, i + 1));
  // 64 rows of blocks are still few, and 16-bit rows that are not whole pieces of 16 bytes are for no tensor core. Parts of x
  // are rows of one matrix; quantised weights are in two parts, each a product.
  const isBlocks = ({ dtype }: LinearCase) => DTYPES[dtype].blockSize > 1;
  const isMany = (c: LinearCase) => isBlocks(c) ? c.rows > 64 : c.dtype === "f32" || c.k % 8 === 0;
  const many = cases.filter(isMany), added = many.filter(isBlocks).length;
  assertEquals(since(before).slice(1, 3), [many.length + added, added]);
  assertEquals(all.filter(isMany).length, 2 * 6 + 2 * 2 + 5 * 5 + 2 * 4 + 3 * 2 + 2 * 2 + 6 * 2);
});

testOnPtx("linear() by cuBLASLt splits quantised weights of every type into two parts", async () => {
  const device = await openDevice();
  load(device, path);
  fake.fake_mode(0);
  const types = WEIGHTS.filter((dtype) => DTYPES[dtype].blockSize > 1), before = counts();
  for (const [i, dtype] of types.entries()) check(device, { dtype, rows: 65, n: 5, k: 256 }, i + 1);
  assertEquals(since(before).slice(1, 3), [2 * types.length, types.length]);
});

testOnPtx("rows with a single 1 by cuBLASLt give quantised weights, to 22 bits of each", async () => {
  const device = await openDevice(), next = numbers(1), k = 256, n = 9;
  load(device, path);
  fake.fake_mode(0);
  const ones = hostTensor(
    "f32",
    [k, k],
    Float32Array.from({ length: k * k }, (_, i) => Number(i % (k + 1) === 0)),
  );
  for (const dtype of WEIGHTS.filter((dtype) => DTYPES[dtype].blockSize > 1)) {
    const weight = randomWeight(dtype, [n, k], next), values = dequantize(weight, 0, n * k);
    const out = device.empty(k, n);
    device.backend.linear(device.on(ones), device.on(weight), out);
    const expected = Float32Array.from({ length: k * n }, (_, i) => values[i % n * k + Math.floor(i / n)]!);
    assertNear(device.values(out), expected, 2 ** -22, dtype);
  }
});

testOnPtx("linear() by cuBLASLt shows infinity among quantised weights in their column alone", async () => {
  const device = await openDevice(), { backend, on } = device, rows = 65, n = 5, k = 256;
  load(device, path);
  fake.fake_mode(0);
  for (const [i, dtype] of WEIGHTS.filter((dtype) => DTYPES[dtype].blockSize > 1).entries()) {
    const { x, weight } = prepare({ dtype, rows, n, k }, i + 1),
      found = [weight, withInfinity(weight)].map((w) => {
        const out = device.empty(rows, n);
        backend.linear(on(x), on(w), out);
        return device.values(out);
      });
    found[1]!.forEach((value, at) => {
      if (at % n === 1) assert(!Number.isFinite(value), `${dtype}: ${value}`);
      else assertEquals(value, found[0]![at], dtype);
    });
  }
});

testOnPtx("linear() by cuBLASLt asks for an algorithm once a shape", async () => {
  const device = await openDevice();
  load(device, path);
  fake.fake_mode(0);
  const c: LinearCase = { dtype: "f32", rows: 40, n: 64, k: 64 };
  const { x, weight } = prepare(c, 1);
  const xOn = device.on(x), weightOn = device.on(weight), out = device.empty(40, 64);
  const before = counts();
  for (let i = 0; i < 3; i++) device.backend.linear(xOn, weightOn, out);
  assertEquals(since(before).slice(0, 3), [1, 3, 0]);
});

testOnPtx("linear() by cuBLASLt goes through weights and rows in pieces where they are many", async () => {
  const device = await openDevice();
  load(device, path);
  fake.fake_mode(0);
  const before = counts();
  check(device, { dtype: "q8_0", rows: 65, n: 65, k: 32_800 }, 1); // 16 MiB hold parts of 64 rows of weights
  const long: LinearCase = { dtype: "f16", rows: 4097, n: 2, k: 32 }, slots = [3, 4096];
  check(device, long, 1);
  assertEquals(since(before)[1], 2 * 2 + 2);
  const { x, weight } = prepare(long, 1), out = device.empty(long.rows, long.n);
  device.backend.linear(device.on(x), device.on(weight), out, decisionsOf(device, long.rows, slots));
  checkSlots(device, long, out, slots, 1);
  assertEquals(since(before)[1], 2 * 2 + 2 + 2);
});

testOnPtx(
  "linear() of kept slots by cuBLASLt writes them alone, also where it has no algorithm",
  async () => {
    const device = await openDevice();
    load(device, path);
    for (const dtype of (["f16", "q4_1", "bf16"] as const).slice(0, RUNS_SLOW ? 3 : 2)) {
      const isBlocks = dtype === "q4_1", products = isBlocks ? 2 : 1, least = isBlocks ? 65 : 40;
      for (
        const [mode, batch, each] of [[0, least, products], [1, least + 1, 0], [0, 257, products]] as const
      ) {
        fake.fake_mode(mode);
        const before = counts(),
          c = { dtype, rows: batch, n: 1100, k: 32 },
          { x, weight } = prepare(c, batch);
        for (const slots of [[], [batch - 1, 3, 17], Array.from({ length: batch }, (_, i) => i)]) {
          const out = device.empty(batch, c.n);
          device.backend.linear(device.on(x), device.on(weight), out, decisionsOf(device, batch, slots));
          checkSlots(device, c, out, slots, batch);
        }
        assertEquals(since(before)[1], 3 * each, `${dtype}, ${batch} rows`);
      }
    }
    fake.fake_mode(0);
  },
);

testOnPtx(
  "linear() in bf16 is the product of rounded factors by cuBLASLt, exact where rows are few, of all types",
  async () => {
    const device = await openDevice(), { backend } = device;
    assertEquals([backend.useBf16(true), backend.products], [false, undefined]);
    load(device, path);
    fake.fake_mode(0);
    assertEquals([backend.useBf16(true), backend.products], [true, "bf16"]);
    assert(backend.description.endsWith(", products in bf16"), backend.description);
    const types = [...MULTIPLIED, "iq4_xs" as const], before = counts();
    for (const [i, dtype] of types.entries()) {
      const isBlocks = DTYPES[dtype].blockSize > 1, few = isBlocks ? 64 : 16;
      for (const rows of [few, 71]) {
        const c = { dtype, rows, n: 35, k: 256 }, { x, weight, sizes, expected: exact } = prepare(c, i + 1);
        const out = device.empty(rows, c.n), xOn = device.on(x), weightOn = device.on(weight);
        backend.linear(xOn, weightOn, out);
        const found = device.values(out), what = `${rows} by ${dtype}`;
        if (rows === few) {
          assertNear(found, exact, barOf(device, c), what, (at) => sizes[at]!);
          continue;
        }
        const xs = round(f32Data(x)), ws = round(dequantize(weight, 0, c.n * c.k));
        const rounded = Float64Array.from(found, (_, at) => {
          const row = Math.floor(at / c.n) * c.k, column = at % c.n * c.k;
          let sum = 0;
          for (let j = 0; j < c.k; j++) sum += xs[row + j]! * ws[column + j]!;
          return sum;
        });
        // Products of two bf16 numbers are exact in f32; their sum is rounded once, and a cut factor would be off by 2^-8.
        assertNear(found, rounded, 1e-6, what, (at) => sizes[at]!);
        assert(found.some((value, at) => Math.abs(value - exact[at]!) > 1e-4 * sizes[at]!), what);
        const kept = device.empty(rows, c.n), slots = [3, 17, rows - 1];
        backend.linear(xOn, weightOn, kept, decisionsOf(device, rows, slots));
        const some = device.values(kept);
        some.forEach((value, at) => {
          assertEquals(value, slots.includes(Math.floor(at / c.n)) ? found[at] : NaN, what);
        });
        backend.linear(xOn, weightOn, out, undefined, true); // x in one part is there already
        assertEquals(device.values(out), found, what);
      }
    }
    assertEquals(since(before).slice(1, 3), [3 * types.length, 0]); // one product each time
    assertEquals([backend.useBf16(false), backend.products], [false, undefined]);
    check(device, { dtype: "q8_0", rows: 71, n: 35, k: 256 }, 1);
  },
);

testOnPtx(
  "linear() computes itself what cuBLASLt has no algorithm for, and tells its failures",
  async () => {
    const device = await openDevice();
    load(device, path);
    const before = counts();
    for (const [mode, rows] of [[1, 33], [3, 35]] as const) {
      fake.fake_mode(mode);
      for (const dtype of ["f32", "f16", "bf16", "q4_0"] as const) {
        check(device, { dtype, rows: dtype === "q4_0" ? rows + 32 : rows, n: 9, k: 96 }, 1);
      }
      assertEquals(since(before)[1], 0);
    }
    fake.fake_mode(0);
    check(device, { dtype: "f32", rows: 34, n: 9, k: 96 }, 1);
    fake.fake_mode(2);
    for (const dtype of ["f32", "bf16"] as const) {
      const failed = () => check(device, { dtype, rows: 34, n: 9, k: 96 }, 1);
      const message = "found a failure of cuBLASLt 13.0.2: status 13, CUBLAS_STATUS_EXECUTION_FAILED";
      assertEquals(assertThrows(failed, KernelError, message).code, 8);
    }
    fake.fake_mode(4); // an error other than a missing algorithm is reported
    for (let turn = 0; turn < 2; turn++) {
      const failed = () => check(device, { dtype: "f16", rows: 36, n: 9, k: 96 }, 1);
      assertThrows(failed, KernelError, "status 7, CUBLAS_STATUS_INVALID_VALUE");
    }
    fake.fake_mode(0);
    check(device, { dtype: "f32", rows: 34, n: 9, k: 96 }, 1);
  },
);

testOnPtx(
  "loadCublasLt() takes the first that serves, or the one that is asked for, or none",
  async () => {
    const { context } = await openDevice();
    const load = (asked: string, paths: string[]) =>
      withVariables({ TOKENFILTER_CUBLASLT: asked }, () => loadCublasLt(context, paths));
    assertEquals(await load("", [`${folder}/missing.so`, "libm.so.6", path, "never"]), path);
    assertEquals(await load("", [`${folder}/missing.so`]), undefined);
    assertEquals(await load(path, []), path);
    const message =
      'Cannot load cuBLASLt from "libm.so.6": found no cuBLASLt in libm.so.6; set TOKENFILTER_CUBLASLT';
    await assertRejects(() => load("libm.so.6", [path]), NativeLibraryError, message);
    assertEquals(await load("none", [path]), undefined);
    const places = [...cublasLtPlaces()];
    assertEquals(places.slice(0, 2), ["libcublasLt.so.13", "libcublasLt.so.12"]);
    assert(places.includes("/usr/local/cuda/lib64/libcublasLt.so.13"));
  },
);

testOnPtx(
  "tkf_blas_load says why a library does not serve, and keeps the one it has",
  async () => {
    const device = await openDevice();
    load(device, path);
    assertThrows(
      () => load(device, `${folder}/missing.so`),
      KernelError,
      "missing.so: cannot open shared object file",
    );
    assertThrows(() => load(device, "libm.so.6"), KernelError, "found no cuBLASLt in libm.so.6");
    const fresh = counts(), product: LinearCase = { dtype: "f32", rows: 34, n: 9, k: 96 };
    check(device, product, 1);
    assertEquals(since(fresh), [1, 1, 0, 4]); // a plan: the computation, and three layouts
    const used = counts();
    load(device, path);
    assertEquals(since(used), [0, 0, 0, -4]); // the old plans are gone, and its handle gave way to another
    check(device, product, 1);
    assertEquals(since(used), [1, 1, 0, 0]);
  },
);
