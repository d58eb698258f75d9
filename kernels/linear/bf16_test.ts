import { assert, assertEquals, assertRejects } from "@std/assert";
import { NativeLibraryError } from "../../lib/errors.ts";
import { fromBf16, toBf16 } from "../../lib/half.ts";
import { dequantize } from "../../lib/reference/dequantize.ts";
import { f32Data, hostTensor } from "../../lib/tensor.ts";
import { findCompiler, run } from "../../ffi/build/command.ts";
import { testedDevice } from "../../ffi/cuda/testing.ts";
import { type CpuBackend, cpuLevels, openCpu, type Products } from "../../ffi/mod.ts";
import { inChild } from "../testing/child.ts";
import { WEIGHTS } from "../testing/fuzz/draw.ts";
import { assertNear, numbers, randomTensor, randomWeight, unwritten } from "../testing/inputs.ts";
import { testOnCpu } from "../testing/ways.ts";
import { LINEAR_CASES, type LinearCase } from "./cases.ts";
import { checkTogether, prepare } from "./testing.ts";

const open = (products: Products, threads: number) =>
  openCpu({ products, threads, level: "avx512", blas: "none" });

const KINDS = ["bf16x2", "bf16"] as const;

/** Who multiplies in it: AMX, AVX512-BF16; or why this machine has none of these products. */
async function findUnit(kind: typeof KINDS[number]): Promise<{ unit?: string; reason?: string }> {
  if ((testedDevice() ?? "cpu") !== "cpu") return { reason: "not of a device" };
  if (!(await cpuLevels()).includes("avx512")) return { reason: "no AVX-512 here" };
  try {
    using backend = await open(kind, 1);
    return { unit: backend.description.match(/ in bf16(?:x2)? by ([A-Z0-9-]+),/)![1]! };
  } catch (error) {
    const none = error instanceof NativeLibraryError &&
      error.message.match(/no AMX|neither AMX nor AVX512-BF16/);
    if (none) return { reason: `${none[0]} here` };
    throw error;
  }
}
const UNITS = { bf16x2: await findUnit("bf16x2"), bf16: await findUnit("bf16") };

/** Each number rounded to bf16 and 0; or its upper half, and what is left of it as bf16. */
function split(values: Float32Array, kind: typeof KINDS[number]): [Float32Array, Float32Array] {
  if (kind === "bf16") return [values.map((value) => fromBf16(toBf16(value))), values.map(() => 0)];
  const bits = new Uint32Array(values.slice().buffer).map((word) => word & 0xFFFF0000);
  const upper = new Float32Array(bits.buffer);
  return [upper, values.map((value, i) => fromBf16(toBf16(value - upper[i]!)))];
}

function multiply(
  backend: CpuBackend,
  x: Float32Array,
  c: LinearCase,
  weight: Parameters<CpuBackend["linear"]>[1],
) {
  const rows = c.k === 0 ? c.rows : x.length / c.k, out = unwritten([rows, c.n]);
  backend.linear(hostTensor("f32", [rows, c.k], new Float32Array(x)), weight, out);
  return f32Data(out);
}

for (const kind of KINDS) {
  const { unit, reason } = UNITS[kind];
  /** Rows of x up to which products are in int16. */
  const few = unit === "AMX" ? 8 : 24;

  testOnCpu(
    `linear() in ${kind} is the product of rounded factors, whatever the threads, of all types`,
    async () => {
      const backends = [await open(kind, 1), await open(kind, 3)], int16 = await open("int16", 1);
      assertEquals(backends.map(({ products }) => products), [kind, kind]);
      assert(backends.every(({ description }) => description.includes(`in ${kind} by ${unit}`)));
      const wide = WEIGHTS.flatMap((dtype) => [25, 33].map((rows) => ({ dtype, rows, n: 50, k: 1792 })));
      // More rows than sums are held of, and more columns than are unpacked together.
      const large: LinearCase = { dtype: "q4_0", rows: 530, n: 1100, k: 64 };
      const dense: LinearCase[] = [
        { dtype: "bf16", rows: 9, n: 17, k: 550 },
        { dtype: "bf16", rows: 9, n: 17, k: 1610 },
        { dtype: "f32", rows: 16, n: 3, k: 0 },
      ];
      let runs = 0;
      for (const [i, c] of [...LINEAR_CASES, ...wide, large, ...dense].entries()) {
        const { x, weight, sizes, expected: exact } = prepare(c, i + 1),
          [found, again] = backends.map((own) => multiply(own, f32Data(x), c, weight));
        const what = `${c.rows} x ${c.k} by ${c.n} ${c.dtype}`;
        assertEquals(found, again, what);
        if (c.rows <= few) {
          const rounded = multiply(int16, f32Data(x), c, weight);
          if (unit !== "AMX" || c.rows < 4 || c.dtype === "q4_k") assertEquals(found, rounded, what);
          // In tiles: the same integers, whose multiples are summed in another order.
          else assertNear(found!, rounded, 2e-6, what, (at) => sizes[at]!);
          continue;
        }
        const [xs, xsRest] = split(f32Data(x), kind),
          [ws, wsRest] = split(dequantize(weight, 0, c.n * c.k), kind);
        const expected = Float64Array.from({ length: c.rows * c.n }, (_, at) => {
          const row = Math.floor(at / c.n) * c.k, column = at % c.n * c.k;
          let sum = 0;
          for (let j = 0; j < c.k; j++) {
            const [a, b] = [row + j, column + j];
            sum += xs[a]! * ws[b]! + xs[a]! * wsRest[b]! + xsRest[a]! * ws[b]!;
          }
          return sum;
        });
        assertNear(found!, expected, 2e-6, what, (at) => sizes[at]!);
        // Two factors, each wrong by up to 2^-8 of itself; or two whose rests, up to 2^-7, are wrong by so much of
        // themselves, and the product of the rests.
        assertNear(
          found!,
          exact,
          kind === "bf16" ? 1.01 * 2 ** -7 : 1.01 * 2 ** -13,
          what,
          (at) => sizes[at]!,
        );
        runs++;
      }
      assert(runs > 40, `${runs} runs`);
    },
    reason,
  );

  testOnCpu(`linears() in ${kind} are the same as one by one`, async () => {
    for (const threads of [1, 3]) checkTogether(await open(kind, threads));
  }, reason);

  testOnCpu(
    `linear() in ${kind} gives a row of more than few the same among some and many, and keeps NaN to it`,
    async () => {
      const backend = await open(kind, 2), c: LinearCase = { dtype: "q4_1", rows: 100, n: 70, k: 1088 };
      const next = numbers(5), x = f32Data(randomTensor([c.rows, c.k], next));
      const weight = randomWeight(c.dtype, [c.n, c.k], next), all = multiply(backend, x, c, weight);
      for (const [begin, end] of [[0, few + 1], [7, 40], [30, 100]] as const) {
        const some = multiply(backend, x.subarray(begin * c.k, end * c.k), c, weight);
        assertEquals(some, all.slice(begin * c.n, end * c.n), `rows ${begin} to ${end}`);
      }
      const eight = multiply(backend, x.subarray(0, 8 * c.k), c, weight);
      const five = multiply(backend, x.subarray(2 * c.k, 7 * c.k), c, weight);
      assertEquals(five, eight.slice(2 * c.n, 7 * c.n), "rows 2 to 7");
      x[3 * c.k + 40] = NaN;
      multiply(backend, x.subarray(0, 8 * c.k), c, weight).forEach((value, at) => {
        if (Math.floor(at / c.n) === 3) assert(Number.isNaN(value));
        else assertEquals(value, eight[at], `row ${Math.floor(at / c.n)} of 8`);
      });
      x[50 * c.k] = Infinity;
      multiply(backend, x, c, weight).forEach((value, at) => {
        const row = Math.floor(at / c.n);
        if (row === 3 || row === 50 && kind === "bf16x2") assert(Number.isNaN(value), `row ${row}`);
        else if (row === 50) assert(!Number.isFinite(value), `row ${row}`);
        else assertEquals(value, all[at], `row ${row}`);
      });
    },
    reason,
  );
}

testOnCpu("products in bf16 are refused where they cannot be had, with what helps", async () => {
  const missing = {
    bf16x2: "found no AMX that this process may use",
    bf16: "found neither AMX nor AVX512-BF16",
  };
  for (const level of await cpuLevels()) {
    for (const products of KINDS.filter((kind) => level !== "avx512" || UNITS[kind].unit === undefined)) {
      await assertRejects(
        () => openCpu({ products, level }),
        NativeLibraryError,
        `Cannot use products "${products}" at level "${level}": ${
          level === "avx512" ? missing[products] : "expected level avx512"
        }; use exact or int16`,
      );
    }
  }
});

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
  "products in bf16x2 are refused, and nothing crashes, where the system does not give AMX's registers",
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
      const { error } = await inChild(
        { LD_PRELOAD: `${Deno.env.get("LD_PRELOAD") ?? ""} ${library}` }, // sanitizers have theirs
        `const { openCpu } = await load("ffi/mod.ts");
        await openCpu({ products: "bf16x2", level: "avx512" });`,
      );
      assertEquals(
        error,
        'NativeLibraryError: Cannot use products "bf16x2" at level "avx512": ' +
          "found no AMX that this process may use; use exact or int16",
      );
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
  (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") && "not Linux on x86-64" ||
    !(await cpuLevels()).includes("avx512") && "no AVX-512 here",
);
