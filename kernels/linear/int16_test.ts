import { assert, assertEquals, assertRejects } from "@std/assert";
import type { DType } from "../../lib/dtype.ts";
import { dequantize } from "../../lib/reference/dequantize.ts";
import { countOf, f32Data, type HostTensor, hostTensor } from "../../lib/tensor.ts";
import { cpuLevels, openCpu } from "../../ffi/mod.ts";
import { openTestDevice } from "../../ffi/cuda/testing.ts";
import { WEIGHTS } from "../testing/fuzz/draw.ts";
import { assertNear, numbers, randomTensor, randomWeight, unwritten } from "../testing/inputs.ts";
import { testOnCpu } from "../testing/ways.ts";
import { LINEAR_CASES } from "./cases.ts";
import { checkTogether, prepare } from "./testing.ts";

/** Types that have products in int16. */
const CHANGED: readonly DType[] = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k"];
const CASES = LINEAR_CASES.filter(({ dtype, k }) => CHANGED.includes(dtype) && k > 0);

/** Rows whose values are rounded to 16 bits, 32 of them by one factor: the largest becomes 127 * 256; ties to even. */
function round({ shape, data }: HostTensor): HostTensor {
  const out = new Float32Array(data.length), f = Math.fround;
  for (let at = 0; at < data.length; at += 32) {
    const block = (data as Float32Array).subarray(at, at + 32), most = Math.max(...block.map(Math.abs));
    const inverse = most === 0 ? 0 : f(32512 / most);
    block.forEach((x, i) => {
      const scaled = f(x * inverse), below = Math.floor(scaled), rest = scaled - below;
      const whole = rest < 0.5 || rest === 0.5 && below % 2 === 0 ? below : below + 1;
      out[at + i] = whole * f(most / 32512);
    });
  }
  return hostTensor("f32", shape, out);
}

async function open(products: "exact" | "int16") {
  const backends = [];
  for (const level of await cpuLevels()) {
    for (const threads of [1, 3]) backends.push(await openCpu({ level, threads, products, blas: "none" }));
  }
  return backends;
}

testOnCpu("linear() in int16 is the product with rounded activations, at every level", async () => {
  const backends = await open("int16");
  assert(
    backends.every(({ products, description }) => products === "int16" && description.includes("int16")),
  );
  let runs = 0;
  for (const [i, c] of CASES.entries()) {
    const { x, weight, sizes } = prepare(c, i + 1), rounded = round(x), ws = dequantize(weight, 0, c.n * c.k);
    const expected = Float64Array.from({ length: c.rows * c.n }, (_, at) => {
      const row = Math.floor(at / c.n) * c.k, column = at % c.n * c.k;
      let sum = 0;
      for (let j = 0; j < c.k; j++) sum += f32Data(rounded)[row + j]! * ws[column + j]!;
      return sum;
    });
    for (const backend of backends) {
      const out = unwritten([c.rows, c.n]);
      backend.linear(x, weight, out);
      assertNear(
        f32Data(out),
        expected,
        2e-6,
        `${backend.description}, ${c.rows} x ${c.k} by ${c.n} ${c.dtype}`,
        (at) => sizes[at]!,
      );
      runs++;
    }
  }
  assertEquals(runs, ((5 * 6 + 5) * 11 + 2 * 3 + 2) * backends.length);
});

testOnCpu("linear() in int16 gives a row the same bits from 5 rows on, in blocks of 32 from 3", async () => {
  for (const backend of await open("int16")) {
    for (const dtype of CHANGED) {
      // Values in more than one piece, and a last group of rows of weights that is not whole.
      const next = numbers(5),
        x = randomTensor([20, 1280], next),
        weight = randomWeight(dtype, [35, 1280], next);
      const of = (rows: number) => {
        const out = unwritten([rows, 35]);
        backend.linear(hostTensor("f32", [rows, 1280], f32Data(x).slice(0, rows * 1280)), weight, out);
        return f32Data(out);
      };
      const all = of(20);
      for (let rows = dtype === "q4_k" ? 5 : 3; rows < 20; rows++) {
        assertEquals(of(rows), all.slice(0, rows * 35), `${backend.description}, ${rows} ${dtype}`);
      }
    }
  }
});

testOnCpu("linears() in int16 are the same as one by one", async () => {
  for (const backend of await open("int16")) checkTogether(backend);
});

testOnCpu("linear() in int16 leaves all other types exact", async () => {
  const exact = await open("exact");
  assert(
    exact.every(({ products, description }) => products === undefined && !description.includes("int16")),
  );
  for (const [i, backend] of (await open("int16")).entries()) {
    for (const dtype of WEIGHTS.filter((dtype) => !CHANGED.includes(dtype))) {
      const next = numbers(7), x = randomTensor([3, 256], next), weight = randomWeight(dtype, [5, 256], next);
      const [found, expected] = [backend, exact[i]!].map((own) => {
        const out = unwritten([3, 5]);
        own.linear(x, weight, out);
        return f32Data(out);
      });
      assertEquals(found, expected, `${backend.description}, ${dtype}`);
    }
  }
});

testOnCpu("linear() in int16 keeps to itself what is not finite, or too small for a factor", async () => {
  for (const backend of await open("int16")) {
    const next = numbers(3), x = randomTensor([10, 64], next), weight = randomWeight("q4_1", [17, 64], next);
    const of = () => {
      const out = unwritten([10, 17]);
      backend.linear(x, weight, out);
      return Array.from({ length: 10 }, (_, row) => f32Data(out).slice(row * 17, (row + 1) * 17));
    };
    const before = of(), values = f32Data(x);
    values[40] = NaN;
    values[3 * 64 + 5] = -Infinity;
    values.fill(1e-38, 5 * 64, 6 * 64);
    values.fill(4e-35, 6 * 64, 7 * 64); // its factor's inverse is past float32
    of().forEach((row, i) => {
      if (i === 0 || i === 3) assert(row.every(Number.isNaN), `${backend.description}, row ${i}`);
      else if (i === 5 || i === 6) assert(row.every((value) => value === 0), backend.description);
      else assertEquals(row, before[i], `${backend.description}, row ${i}`);
    });
    values.fill(0);
    assertEquals(of().flatMap((row) => [...row]).filter((value) => value !== 0), []);
    assertEquals(countOf(x.shape), 640);
  }
});

testOnCpu("products are of a known kind, and on a device exact alone", async () => {
  await assertRejects(
    () => openCpu({ products: "int4" as "int16" }),
    RangeError,
    'Cannot make a context: found products "int4", expected exact, int16, bf16x2, bf16',
  );
  const { backend } = await openTestDevice();
  const { library, pointer, message } = (backend as unknown as { context: Context }).context;
  assertEquals(typeof message, "string");
  assertEquals([0, 1, 2, 3, 4].map((kind) => library.symbols.tkf_products_use(pointer, kind)), [
    0,
    8,
    8,
    8,
    8,
  ]);
});

interface Context {
  readonly library: {
    readonly symbols: { tkf_products_use(context: Deno.PointerValue, kind: number): number };
  };
  readonly pointer: Deno.PointerValue;
  readonly message: string;
}
