import { assert, assertEquals } from "@std/assert";
import type { DType } from "../../../lib/dtype.ts";
import { fromF16 } from "../../../lib/math/half.ts";
import { f32Data, type HostTensor, hostTensor } from "../../../lib/tensor.ts";
import { RUNS_SLOW } from "../../../lib/testing.ts";
import { cpuLevels, openCpu } from "../../../ffi/mod.ts";
import { openWasm } from "../../../ffi/wasm/mod.ts";
import { numbers, randomTensor, randomWeight, unwritten } from "../../testing/inputs.ts";
import { testOnCpu } from "../../testing/ways.ts";
import { checkTogether } from "./testing.ts";

const f32 = Math.fround;

/** A group of values that share a scale: values are d*q + m. */
interface Group {
  readonly q: readonly number[];
  readonly d: number;
  readonly m?: number;
}

const range = <T>(count: number, make: (i: number) => T) => Array.from({ length: count }, (_, i) => make(i));

/** Nibble `i` of blocks whose 16 bytes hold values 0 to 15 low and 16 to 31 high. */
const nibble = (bytes: Uint8Array, at: number, i: number) => bytes[at + i % 16]! >> (i < 16 ? 0 : 4) & 15;
const f16 = (bytes: Uint8Array, at: number) => fromF16(bytes[at]! | bytes[at + 1]! << 8);

/** Scale and minimum of a part of q4_k and q5_k, six bits each. */
function sixBits(bytes: Uint8Array, part: number): [number, number] {
  const s = bytes.subarray(4, 16), low = part % 4;
  if (part < 4) return [s[part]! & 63, s[part + 4]! & 63];
  return [s[8 + low]! & 15 | s[low]! >> 6 << 4, s[8 + low]! >> 4 | s[low + 4]! >> 6 << 4];
}
function ofParts(bytes: Uint8Array, nibbles: number, high?: number): Group[] {
  return range(8, (part) => {
    const [scale, least] = sixBits(bytes, part);
    const q = range(32, (i) => {
      const low = bytes[nibbles + 32 * (part >> 1) + i]! >> (part % 2 * 4) & 15;
      return high === undefined ? low : low | (bytes[high + i]! >> part & 1) << 4;
    });
    return { q, d: f32(f16(bytes, 0) * scale), m: f32(-f16(bytes, 2) * least) };
  });
}

/** By type: bytes of a block, and its groups. */
const TYPES: { readonly [dtype: string]: readonly [number, (bytes: Uint8Array) => Group[]] } = {
  q4_0: [18, (b) => [{ q: range(32, (i) => nibble(b, 2, i) - 8), d: f16(b, 0) }]],
  q4_1: [20, (b) => [{ q: range(32, (i) => nibble(b, 4, i)), d: f16(b, 0), m: f16(b, 2) }]],
  q8_0: [34, (b) => [{ q: range(32, (i) => b[2 + i]! << 24 >> 24), d: f16(b, 0) }]],
  q4_k: [144, (b) => ofParts(b, 16)],
  q5_k: [176, (b) => ofParts(b, 48, 16)],
  q6_k: [210, (b) =>
    range(16, (group) => {
      const half = group >> 3, quarter = group >> 1 & 3, side = 16 * (group % 2);
      const q = range(16, (i) => {
        const low = b[64 * half + 32 * (quarter % 2) + side + i]! >> (quarter < 2 ? 0 : 4) & 15;
        return (low | (b[128 + 32 * half + side + i]! >> 2 * quarter & 3) << 4) - 32;
      });
      return { q, d: f32(f16(b, 208) * (b[192 + group]! << 24 >> 24)) };
    })],
};

/** A block of 32 of a row of x: values are about d*q. */
function roundBlock(x: Float32Array): { readonly d: number; readonly q: readonly number[] } {
  const most = x.reduce((most, value) => Math.max(most, Math.abs(value)), 0); // NaN stays
  if (!Number.isFinite(most)) return { d: NaN, q: range(32, () => 0) };
  if (most < 2 ** -100) return { d: 0, q: range(32, () => 0) };
  const inverse = f32(127 / most), magic = 1.5 * 2 ** 23;
  return { d: f32(most / 127), q: Array.from(x, (value) => f32(f32(value * inverse) + magic) - magic) };
}

/** The product as int8 defines it, each product and each sum rounded to f32. */
function multiply(x: Float32Array, weight: HostTensor, n: number, k: number): Float32Array {
  const [size, unpack] = TYPES[weight.dtype]!, bytes = weight.data as Uint8Array, rows = x.length / k;
  const xs = range(rows * k / 32, (i) => roundBlock(x.subarray(32 * i, 32 * i + 32)));
  const out = new Float32Array(rows * n);
  for (let j = 0; j < n; j++) {
    const own = bytes.subarray(bytes.length / n * j, bytes.length / n * (j + 1));
    const groups = range(own.length / size, (i) => unpack(own.subarray(size * i, size * (i + 1)))).flat();
    for (let row = 0; row < rows; row++) {
      let sum = 0, at = 0;
      for (const { q, d, m } of groups) {
        const block = xs[row * k / 32 + (at >> 5)]!, part = block.q.slice(at & 31, (at & 31) + q.length);
        const dot = part.reduce((sum, value, i) => sum + value * q[i]!, 0);
        sum = f32(sum + f32(dot * f32(d * block.d)));
        const all = block.q.reduce((sum, value) => sum + value, 0);
        if (m !== undefined) sum = f32(sum + f32(m * f32(block.d * all)));
        at += q.length;
      }
      out[row * n + j] = sum;
    }
  }
  return out;
}

const levels = await cpuLevels();
const open = (level: string, threads: number) => openCpu({ products: "int8", level, threads, blas: "none" });

testOnCpu(
  "linear() in int8 has the bits of its definition, at all levels and whatever the threads",
  async () => {
    const backends = [
      ...await Promise.all(levels.flatMap((level) => [open(level, 1), open(level, 3)])),
      await openWasm({ products: "int8" }),
    ];
    assert(
      backends.every(({ products, description }) => products === "int8" && description.includes("in int8")),
    );
    const counts = RUNS_SLOW ? [1, 2, 3, 4, 5, 6, 7, 8, 13, 40] : [1, 3, 4, 8, 13];
    const cases = Object.keys(TYPES).flatMap((dtype) => [
      ...counts.map((rows) => ({ dtype, rows, n: 37, k: 512 })),
      { dtype, rows: 2, n: 2, k: 256 },
      { dtype, rows: 9, n: 70, k: TYPES[dtype]![0] < 50 ? 96 : 768 },
    ]);
    for (const [i, { dtype, rows, n, k }] of cases.entries()) {
      const next = numbers(i + 1), x = f32Data(randomTensor([rows, k], next));
      const weight = randomWeight(dtype as DType, [n, k], next);
      x.fill(0, 32, 64);
      x.fill(1e-38, 64, 96);
      if (rows > 2) x[2 * k + 40] = i % 2 ? NaN : -Infinity;
      const expected = multiply(x, weight, n, k);
      assert(expected.some((value) => value !== 0 && Number.isFinite(value)));
      for (const backend of backends) {
        const out = backend.alloc("f32", [rows, n]);
        backend.linear(backend.upload(hostTensor("f32", [rows, k], x)), backend.upload(weight), out);
        assertEquals(
          backend.read(out).data,
          expected,
          `${backend.description}: ${rows} x ${k} by ${n} ${dtype}`,
        );
      }
    }
  },
);

testOnCpu("linears() in int8 are the same as one by one", async () => {
  for (const level of levels) checkTogether(await open(level, 3));
});

testOnCpu("linear() in int8 is exact with weights of other types", async () => {
  const int8 = await open(levels.at(-1)!, 2);
  const exact = await openCpu({ level: levels.at(-1), threads: 2, blas: "none" });
  for (const dtype of ["f32", "bf16", "q5_0", "q3_k"] as const) {
    const next = numbers(1), x = randomTensor([9, 256], next), weight = randomWeight(dtype, [20, 256], next);
    const outs = [int8, exact].map((backend) => {
      const out = unwritten([9, 20]);
      backend.linear(x, weight, out);
      return out.data;
    });
    assertEquals(outs[0], outs[1], dtype);
  }
});
