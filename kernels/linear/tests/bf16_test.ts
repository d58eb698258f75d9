import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Products } from "../../../lib/backend.ts";
import { NativeLibraryError } from "../../../lib/errors.ts";
import { fromBf16, toBf16 } from "../../../lib/math/half.ts";
import { dequantize } from "../../../lib/reference/dequantize.ts";
import { f32Data, hostTensor, type Tensor } from "../../../lib/tensor.ts";
import { RUNS_SLOW } from "../../../lib/testing.ts";
import { STATUS } from "../../../ffi/library/abi.ts";
import { findBf16Unit } from "../../../ffi/bf16_testing.ts";
import { findCompiler, run } from "../../../ffi/build/command.ts";
import { testedDevice } from "../../../ffi/cuda/testing.ts";
import { cpuLevels, openCpu } from "../../../ffi/mod.ts";
import { inChild } from "../../testing/child.ts";
import { WEIGHTS } from "../../testing/fuzz/draw.ts";
import { assertNear, numbers, randomTensor, randomWeight, unwritten } from "../../testing/inputs.ts";
import { isSampled, testOnCpu, testOnDevice } from "../../testing/ways.ts";
import { LINEAR_CASES, type LinearCase } from "../cases.ts";
import { checkTogether, prepare } from "./testing.ts";

const open = (products: Products, threads: number) =>
  openCpu({ products, threads, level: "avx512", blas: "none" });

/** The unit that multiplies in it: AMX, AVX512-BF16; or the reason why this machine has neither. */
async function findUnit(): Promise<{ unit?: string; reason?: string }> {
  if ((testedDevice() ?? "cpu") !== "cpu") return { reason: "not of a device" };
  if (!(await cpuLevels()).includes("avx512")) return { reason: "no AVX-512 here" };
  return await findBf16Unit("avx512");
}
const { unit, reason } = await findUnit();

/** Rows of x up to which products are exact. */
const FEW = 8;

const round = (values: Float32Array) => values.map((value) => fromBf16(toBf16(value)));

function multiply(
  backend: Awaited<ReturnType<typeof openCpu>>,
  x: Float32Array,
  c: LinearCase,
  weight: Tensor,
) {
  const rows = c.k === 0 ? c.rows : x.length / c.k, out = unwritten([rows, c.n]);
  backend.linear(hostTensor("f32", [rows, c.k], new Float32Array(x)), weight, out);
  return f32Data(out);
}

testOnCpu(
  "linear() in bf16 is the product of rounded factors, exact up to 8 rows, whatever the threads, of all types",
  async () => {
    const backends = [await open("bf16", 1), await open("bf16", 3)], exactOne = await open("exact", 1);
    assertEquals(backends.map(({ products }) => products), ["bf16", "bf16"]);
    assert(backends.every(({ description }) => description.includes(`in bf16 by ${unit}`)));
    assert(exactOne.products === undefined && !exactOne.description.includes("bf16"));
    const wide = WEIGHTS.flatMap((dtype) =>
      (RUNS_SLOW ? [9, 25, 33] : [25]).map((rows) => ({ dtype, rows, n: 50, k: 1792 }))
    );
    // More rows than sums are held of, and more columns than are unpacked together.
    const large: LinearCase = { dtype: "q4_0", rows: 530, n: 1100, k: 64 };
    const dense: LinearCase[] = [
      { dtype: "bf16", rows: 9, n: 17, k: 550 },
      { dtype: "bf16", rows: 9, n: 17, k: 1610 },
      { dtype: "f32", rows: 16, n: 3, k: 0 },
    ];
    let runs = 0;
    for (
      const [i, c] of [...LINEAR_CASES.filter((_, i) => isSampled(i)), ...wide, large, ...dense].entries()
    ) {
      const { x, weight, sizes, expected: exact } = prepare(c, i + 1),
        [found, again] = backends.map((own) => multiply(own, f32Data(x), c, weight));
      const what = `${c.rows} x ${c.k} by ${c.n} ${c.dtype}`;
      assertEquals(found, again, what);
      if (c.rows <= FEW) {
        assertEquals(found, multiply(exactOne, f32Data(x), c, weight), what);
        continue;
      }
      const xs = round(f32Data(x)), ws = round(dequantize(weight, 0, c.n * c.k));
      const expected = Float64Array.from({ length: c.rows * c.n }, (_, at) => {
        const row = Math.floor(at / c.n) * c.k, column = at % c.n * c.k;
        let sum = 0;
        for (let j = 0; j < c.k; j++) sum += xs[row + j]! * ws[column + j]!;
        return sum;
      });
      assertNear(found!, expected, 2e-6, what, (at) => sizes[at]!);
      // Two factors, each wrong by up to 2^-8 of itself.
      assertNear(found!, exact, 1.01 * 2 ** -7, what, (at) => sizes[at]!);
      runs++;
    }
    assert(runs > 40, `${runs} runs`);
  },
  reason,
);

testOnCpu("linears() in bf16 are the same as one by one", async () => {
  for (const threads of [1, 3]) checkTogether(await open("bf16", threads));
}, reason);

testOnCpu(
  "linear() in bf16 gives a row of more than few the same among some and many, and keeps NaN to it",
  async () => {
    const backend = await open("bf16", 2), c: LinearCase = { dtype: "q4_1", rows: 100, n: 70, k: 1088 };
    const next = numbers(5), x = f32Data(randomTensor([c.rows, c.k], next));
    const weight = randomWeight(c.dtype, [c.n, c.k], next), all = multiply(backend, x, c, weight);
    for (const [begin, end] of [[0, FEW + 1], [7, 40], [30, 100]] as const) {
      const some = multiply(backend, x.subarray(begin * c.k, end * c.k), c, weight);
      assertEquals(some, all.slice(begin * c.n, end * c.n), `rows ${begin} to ${end}`);
    }
    const eight = multiply(backend, x.subarray(0, 8 * c.k), c, weight);
    x[3 * c.k + 40] = NaN;
    multiply(backend, x.subarray(0, 8 * c.k), c, weight).forEach((value, at) => {
      if (Math.floor(at / c.n) === 3) assert(Number.isNaN(value));
      else assertEquals(value, eight[at], `row ${Math.floor(at / c.n)} of 8`);
    });
    x[50 * c.k] = Infinity;
    multiply(backend, x, c, weight).forEach((value, at) => {
      const row = Math.floor(at / c.n);
      if (row === 3) assert(Number.isNaN(value), `row ${row}`);
      else if (row === 50) assert(!Number.isFinite(value), `row ${row}`);
      else assertEquals(value, all[at], `row ${row}`);
    });
  },
  reason,
);

testOnCpu("products in bf16 are refused where they cannot be had, with what helps", async () => {
  for (const level of (await cpuLevels()).filter((level) => level !== "avx512" || unit === undefined)) {
    await assertRejects(
      () => openCpu({ products: "bf16", level }),
      NativeLibraryError,
      `Cannot use products "bf16" at level "${level}": ${
        level === "avx512" ? "found neither AMX nor AVX512-BF16" : "expected level avx512"
      }; use exact`,
    );
  }
});

testOnCpu("products are of a known kind", async () => {
  for (const products of ["int4", "int16", "bf16x2", "fast"]) {
    await assertRejects(
      () => openCpu({ products: products as Products }),
      RangeError,
      `Cannot make a context: found products "${products}", expected exact, bf16, int8`,
    );
  }
});

testOnDevice("products on a device are exact, or in bf16 with cuBLASLt", ({ backend }) => {
  const { library, pointer, message } = (backend as unknown as { context: Context }).context;
  assertEquals(typeof message, "string");
  const use = (kind: number) => library.symbols.tkf_products_use(pointer, kind);
  const ofBf16 = backend.description.includes("cuBLASLt") ? STATUS.ok : STATUS.unsupported;
  assertEquals([1, 2, 0].map(use), [ofBf16, STATUS.unsupported, STATUS.ok]);
});

interface Context {
  readonly library: {
    readonly symbols: { tkf_products_use(context: Deno.PointerValue, kind: number): number };
  };
  readonly pointer: Deno.PointerValue;
  readonly message: string;
}

/** The C library's `syscall`, but that the system refuses AMX's registers, as an old one does. */
const REFUSING = `
long syscall(long number, long a, long b, long c, long d, long e, long f) {
  if (number == 158 && a == 0x1023) return -1;  /* arch_prctl(ARCH_REQ_XCOMP_PERM) */
  register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  if (result >= 0 || result < -4095) return result;
  extern int *__errno_location(void);
  *__errno_location() = (int)-result;
  return -1;
}`;

testOnCpu(
  "products in bf16 go without AMX, and nothing crashes, where the system does not give its registers",
  async () => {
    const folder = await Deno.makeTempDir();
    try {
      const { command, args } = await findCompiler(), library = `${folder}/refusing.so`;
      await Deno.writeTextFile(`${folder}/refusing.c`, REFUSING);
      const { success, stderr } = await run(command, [
        ...args,
        ...["-x", "c", "-shared", "-fPIC", `${folder}/refusing.c`, "-o", library],
      ]);
      assert(success, stderr);
      const rows = 20, k = 96, n = 17;
      const x = Float32Array.from({ length: rows * k }, (_, i) => Math.sin(i + 1));
      const w = Float32Array.from({ length: n * k }, (_, i) => Math.cos(3 * i + 2));
      const { error, description, values } = await inChild(
        { LD_PRELOAD: `${Deno.env.get("LD_PRELOAD") ?? ""} ${library}` }, // sanitizers have theirs
        `const { openCpu } = await load("ffi/mod.ts"), { hostTensor } = await load("lib/tensor.ts");
        const backend = await openCpu({ products: "bf16", level: "avx512", blas: "none" });
        const tensor = (rows, columns, values) => hostTensor("f32", [rows, columns], Float32Array.from(values));
        const out = tensor(${rows}, ${n}, new Array(${rows * n}).fill(NaN));
        backend.linear(tensor(${rows}, ${k}, [${x}]), tensor(${n}, ${k}, [${w}]), out);
        return { description: backend.description, values: [...out.data] };`,
      );
      if (unit === undefined) {
        return assertEquals(
          error,
          'NativeLibraryError: Cannot use products "bf16" at level "avx512": ' +
            "found neither AMX nor AVX512-BF16; use exact",
        );
      }
      assertEquals(error, undefined);
      assert(description.includes("in bf16 by AVX512-BF16"), description);
      const xs = round(x), ws = round(w);
      const expected = Float64Array.from({ length: rows * n }, (_, at) => {
        let sum = 0;
        for (let j = 0; j < k; j++) sum += xs[Math.floor(at / n) * k + j]! * ws[at % n * k + j]!;
        return sum;
      });
      assertNear(Float32Array.from(values), expected, 2e-6, description, () => k);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
  (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") && "not Linux on x86-64" ||
    !(await cpuLevels()).includes("avx512") && "no AVX-512 here",
);
