import { assertEquals, assertMatch } from "@std/assert";
import { NativeContext } from "./context.ts";
import { openCpuLibrary } from "./library.ts";
import { STATUS, SYMBOLS } from "./symbols.ts";

const symbols = await openCpuLibrary();
const context = new NativeContext(symbols, { threads: 2 });

type Argument = number | bigint | null | BufferSource | Deno.PointerObject;
const call = (name: keyof typeof SYMBOLS, args: readonly Argument[]): number =>
  (symbols[name] as (...args: readonly Argument[]) => number)(...args);
const message = () => new Deno.UnsafePointerView(symbols.tkf_context_message(context.pointer)!).getCString();

const floats = (count: number) => new Float32Array(count);
const ints = (count: number) => new Int32Array(count);
const doubles = (count: number) => new Float64Array(count);

/** A good call of every op of few arguments: buffers of more than 0 bytes, sizes of 2 to 4. */
const GOOD: { readonly [name: string]: () => Argument[] } = {
  tkf_tensor_dequantize: () => [context.pointer, 0, floats(4), 16, 4, floats(4), 16],
  tkf_embedding_gather: () => [context.pointer, 0, floats(6), 24, 2, 3, ints(2), 8, 2, floats(6), 24],
  tkf_rms_norm_apply: () => [context.pointer, floats(6), 24, floats(3), 12, 1e-5, 2, 3, floats(6), 24],
  tkf_linear_apply: () => [context.pointer, floats(6), 24, 0, floats(12), 48, 2, 4, 3, floats(8), 32],
  tkf_rope_apply: () => [context.pointer, floats(8), 32, ints(2), 8, 1e4, 2, 1, 4],
  tkf_swiglu_apply: () => [context.pointer, floats(4), 16, floats(4), 16, 4, floats(4), 16],
  tkf_rows_gather: () => [context.pointer, 0, floats(6), 24, 2, 3, ints(2), 8, 2, 0, floats(6), 24],
  tkf_rows_scatter_add: () => [context.pointer, floats(6), 24, 2, 3, ints(2), 8, 2, floats(6), 24],
  tkf_rows_store: () => [context.pointer, floats(6), 24, 2, 3, 0, floats(9), 36, 1],
  tkf_rows_norm: () => [context.pointer, floats(6), 24, 2, 3, doubles(2), 16],
  tkf_nll_compute: () => [context.pointer, floats(6), 24, ints(2), 8, 2, 3, doubles(2), 16],
  tkf_logits_compare: () => [
    ...[context.pointer, floats(6), 24, floats(6), 24, ints(2), 8, 2, 3],
    ...[doubles(2), 16, doubles(2), 16, doubles(2), 16, new Uint8Array(2), 2],
  ],
};

/** Every op with its arguments changed one at a time; fails unless the status is one of `allowed`. */
function refuseEach(
  wanted: "buffer" | "u64" | "i64" | "i32",
  change: (argument: Argument) => Argument,
  allowed: readonly number[],
): number {
  let runs = 0;
  for (const [name, make] of Object.entries(GOOD)) {
    const symbol = name as keyof typeof SYMBOLS;
    SYMBOLS[symbol].parameters.forEach((type, i) => {
      if (type !== wanted) return;
      const args = make();
      args[i] = change(args[i]!);
      const status = call(symbol, args);
      if (!allowed.includes(status)) {
        throw new Error(`${name} with argument ${i} changed: found status ${status}, expected ${allowed}`);
      }
      assertMatch(message(), /^found .+/);
      runs++;
    });
  }
  return runs;
}

/** How often a type occurs among the parameters of all these ops. */
const countOfType = (wanted: string) =>
  Object.keys(GOOD).flatMap((name) => [...SYMBOLS[name as keyof typeof SYMBOLS].parameters] as string[])
    .filter((type) => type === wanted).length;

Deno.test("the C ABI takes a good call of every op", () => {
  for (const [name, make] of Object.entries(GOOD)) {
    assertEquals(call(name as keyof typeof SYMBOLS, make()), STATUS.ok, name);
  }
});

Deno.test("the C ABI refuses NULL buffers, short ones and misaligned ones", () => {
  assertEquals(refuseEach("buffer", () => null, [STATUS.null]), countOfType("buffer"));
  assertEquals(refuseEach("u64", (bytes) => Number(bytes) - 1, [STATUS.buffer]), countOfType("u64"));
  assertEquals(refuseEach("u64", () => 0, [STATUS.buffer]), countOfType("u64"));
});

Deno.test("the C ABI refuses misaligned buffers, but for single bytes", () => {
  let refused = 0;
  for (const [name, make] of Object.entries(GOOD)) {
    const symbol = name as keyof typeof SYMBOLS;
    SYMBOLS[symbol].parameters.forEach((type, i) => {
      if (type !== "buffer") return;
      const args = make(), buffer = args[i] as ArrayBufferView;
      const bytes = buffer instanceof Uint8Array;
      args[i] = new Uint8Array(new ArrayBuffer(buffer.byteLength + 8), 1, buffer.byteLength);
      assertEquals(call(symbol, args), bytes ? STATUS.ok : STATUS.buffer, `${name}, argument ${i}`);
      if (!bytes) refused++;
    });
  }
  assertEquals(refused, countOfType("buffer") - 1);
});

Deno.test("the C ABI refuses negative sizes, and sizes whose product overflows", () => {
  const sizes = [STATUS.shape, STATUS.buffer];
  assertEquals(refuseEach("i64", () => -1, [STATUS.shape]), countOfType("i64"));
  assertEquals(refuseEach("i64", () => -(2n ** 63n), [STATUS.shape]), countOfType("i64"));
  assertEquals(refuseEach("i64", () => 2n ** 63n - 1n, sizes), countOfType("i64"));
  assertEquals(refuseEach("i64", () => 2n ** 62n, sizes), countOfType("i64"));
  assertEquals(refuseEach("i64", () => 2n ** 31n, sizes), countOfType("i64"));
});

Deno.test("the C ABI refuses unknown element types, and rows that are no whole number of blocks", () => {
  for (const code of [-1, 4, 99, 102, 2 ** 31 - 1]) {
    assertEquals(refuseEach("i32", () => code, [STATUS.dtype]), countOfType("i32"));
  }
  const args = GOOD.tkf_linear_apply!();
  args[3] = 8;
  assertEquals(call("tkf_linear_apply", args), STATUS.shape);
  assertMatch(message(), /multiple of the block of 32/);
});

Deno.test("the C ABI takes NULL for buffers of no bytes", () => {
  const none = [null, 0] as const;
  assertEquals(call("tkf_swiglu_apply", [context.pointer, ...none, ...none, 0, ...none]), STATUS.ok);
  assertEquals(call("tkf_linear_apply", [context.pointer, ...none, 0, ...none, 0, 4, 0, ...none]), STATUS.ok);
});

Deno.test("the C ABI refuses a NULL context", () => {
  for (const [name, make] of Object.entries(GOOD)) {
    assertEquals(call(name as keyof typeof SYMBOLS, [null, ...make().slice(1)]), STATUS.null, name);
  }
  assertEquals(symbols.tkf_context_destroy(null), STATUS.null);
  assertEquals(symbols.tkf_blas_load(null, new Uint8Array([47, 0])), STATUS.null);
  assertEquals(symbols.tkf_blas_load(context.pointer, null), STATUS.null);
  assertEquals(symbols.tkf_context_create(1, -1, null), STATUS.null);
});

Deno.test("tkf_context_create() refuses thread counts and levels outside their ranges", () => {
  const out = new BigUint64Array([1n]);
  for (const [threads, level] of [[0, -1], [-5, 0], [1025, 0], [1, -2], [1, 3]] as const) {
    assertEquals(symbols.tkf_context_create(threads, level, out), STATUS.value);
    assertEquals(out[0], 0n);
  }
});

Deno.test("tkf_context_destroy() ends a context's threads, many times over", () => {
  for (let i = 0; i < 50; i++) {
    const out = new BigUint64Array(1);
    assertEquals(symbols.tkf_context_create(4, 0, out), STATUS.ok);
    assertEquals(symbols.tkf_context_destroy(Deno.UnsafePointer.create(out[0]!)), STATUS.ok);
  }
});
