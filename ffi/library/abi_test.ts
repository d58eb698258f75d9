import { assert, assertEquals, assertGreaterOrEqual, assertMatch, assertThrows } from "@std/assert";
import { hostData } from "../../lib/tensor.ts";
import { NativeContext } from "../cpu/context.ts";
import { openTestDevice, testOnDevice } from "../cuda/testing.ts";
import { findLibrary } from "./library.ts";
import { ABI_VERSION, type Argument, type Arguments, Op, parseAbi, type Scalar, STATUS } from "./abi.ts";
import { bytesOf, changed, context, good, library, misaligned, pathsOf } from "./abi_testing.ts";

const { symbols, ops } = library;

/** Buffers that these do not need. */
const UNREAD: { readonly [op: string]: readonly string[] } = {
  tkf_linear_apply: ["kept", "kept_count"],
  tkf_rms_norm_apply: ["delta", "keep"],
  tkf_rows_copy: ["x2", "indices", "out2"],
  tkf_rope_apply: ["kept", "kept_count"],
  tkf_attention_filtered: ["key_ends", "windows", "kv_places", "shares", "changes", "head_weights"],
  tkf_filter_scan: ["states.signs"],
  tkf_filter_observe: ["states.anchor_k", "states.anchor_v", "states.signs"],
};
/** All but the one whose good call takes a second. */
const NAMES = [...ops.keys()].filter((name) => name !== "tkf_machine_measure");

/** Calls each op with each field of a type changed; fails unless the status is one of `allowed`. */
function refuseEach(
  types: readonly Scalar[],
  change: (value: Argument) => Argument,
  allowed: (value: Argument) => readonly number[],
  wanted = (_path: string) => true,
): number {
  let runs = 0;
  for (const name of NAMES) {
    for (const path of pathsOf(ops.get(name)!.layout, types)) {
      if (UNREAD[name]?.includes(path) || !wanted(path)) continue;
      let value: Argument = null;
      const status = context.invoke(name, changed(good(name), path, (old) => change(value = old)));
      assert(
        allowed(value).includes(status),
        `${name} with ${path} changed: status ${status}, ${context.message}`,
      );
      if (status !== STATUS.ok) assertMatch(context.message, /^found .+/);
      runs++;
    }
  }
  return runs;
}

Deno.test("parseAbi() lays fields out as C does, and refuses what it does not know", () => {
  const ops = parseAbi(
    "struct tkf_pair int32_t a; double b;\nop tkf_x int32_t n, m; tkf_pair p; tkf_buffer out; int32_t z;\n",
  );
  const { fields, bytes } = ops.get("tkf_x")!;
  assertEquals(fields.map(({ name, at }) => [name, at]), [["n", 0], ["m", 4], ["p", 8], ["out", 24], [
    "z",
    40,
  ]]);
  assertEquals(bytes, 48);
  assertThrows(() => parseAbi("op tkf_x float a;"), TypeError, 'found type "float" in "tkf_x"');
});

testOnDevice("the libraries name the same ops and structs, the CUDA library more ops", async () => {
  assertEquals(symbols.tkf_abi_version(), ABI_VERSION);
  const device = (await openTestDevice()).context.library.ops;
  assertEquals([ops.size, device.size], [16, 24]);
  for (const [name, { layout }] of ops) assertEquals(device.get(name)?.layout, layout, name);
});

Deno.test("the C ABI takes a good call of every op", () => {
  const context = new NativeContext(library, { threads: 1 });
  for (const name of NAMES) assertEquals(context.invoke(name, good(name)), STATUS.ok, name);
});

Deno.test("Op.call() writes a frozen struct once, unless its memory may grow", () => {
  const abi = "struct tkf_pair tkf_buffer x; int32_t n;\nop tkf_x tkf_pair p; int32_t n;";
  const seen: number[] = [], fixed = new Float64Array(2);
  let asked = 0;
  const see = (
    _: unknown,
    bytes: Uint8Array,
  ) => (seen.push(...new Uint32Array(bytes.buffer, 0, 6)), STATUS.ok);
  const op = new Op(parseAbi(abi).get("tkf_x")!, see, () => (asked++, 80));
  const grown = new Float64Array(new ArrayBuffer(16, { maxByteLength: 32 }));
  for (const [x, isFrozen, times] of [[fixed, false, 3], [fixed, true, 1], [grown, true, 3]] as const) {
    const p = isFrozen ? Object.freeze({ x, n: 5 }) : { x, n: 5 };
    asked = 0;
    for (let i = 0; i < 3; i++) {
      seen.length = 0;
      op.call(null, { p, n: 6 }, hostData);
      assertEquals(seen.slice(0, 5), [80, 0, 16, 0, 5]);
    }
    assertEquals(asked, times);
  }
  seen.length = 0;
  op.call(null, { p: { x: null, n: 7 }, n: 6 }, hostData);
  assertEquals(seen.slice(0, 5), [0, 0, 0, 0, 7], "NULL has no bytes");
});

Deno.test("Op.call() refuses fields that are missing, unknown, or no whole numbers", () => {
  const { x, ...rest } = good("tkf_rms_norm_apply");
  for (const args of [rest, { x, ...rest, y: 1 }, { y: x, ...rest }] as Arguments[]) {
    assertThrows(
      () => context.invoke("tkf_rms_norm_apply", args),
      TypeError,
      "expected x,delta,keep,weight,out,rows,cols,eps",
    );
  }
  for (const rows of [0.5, NaN, Infinity, 2 ** 53]) {
    const args = { x, ...rest, rows } as Arguments;
    assertThrows(
      () => context.invoke("tkf_rms_norm_apply", args),
      RangeError,
      `found ${rows}, expected a whole`,
    );
  }
  const attention = { ...good("tkf_attention_filtered"), heads: 2 ** 31 };
  assertThrows(
    () => context.invoke("tkf_attention_filtered", attention),
    RangeError,
    "whole number of 32 bits",
  );
  assertThrows(() => context.invoke("tkf_none", {}), RangeError, "no such op");
});

Deno.test("the C ABI refuses NULL buffers, short ones and misaligned ones", () => {
  assertGreaterOrEqual(refuseEach(["tkf_buffer"], () => null, () => [STATUS.null]), 65);
  assertGreaterOrEqual(refuseEach(["tkf_buffer"], (old) => bytesOf(old).slice(1), () => [STATUS.buffer]), 65);
  assertGreaterOrEqual(
    refuseEach(["tkf_buffer"], () => ({ address: 64, bytes: 0 }), () => [STATUS.buffer]),
    65,
  );
  // Single bytes and blocks need no alignment.
  const allowed = (old: Argument) => [old instanceof Uint8Array ? STATUS.ok : STATUS.buffer];
  assertGreaterOrEqual(refuseEach(["tkf_buffer"], misaligned, allowed), 65);
});

Deno.test("the C ABI refuses negative sizes, and sizes whose product overflows", () => {
  for (const size of [-1, -(2n ** 63n)]) {
    assertGreaterOrEqual(refuseEach(["int64_t"], () => size, () => [STATUS.shape]), 35);
  }
  for (const size of [2n ** 63n - 1n, 2n ** 62n, 2n ** 31n]) {
    assertGreaterOrEqual(refuseEach(["int64_t"], () => size, () => [STATUS.shape, STATUS.buffer]), 35);
  }
});

Deno.test("the C ABI refuses unknown element types, and rows that are no whole number of blocks", () => {
  for (const code of [-1, 4, 99, 102, 2 ** 31 - 1]) {
    assertGreaterOrEqual(
      refuseEach(["int32_t"], () => code, () => [STATUS.dtype], (path) => path.endsWith("dtype")),
      9,
    );
  }
  const args = changed({ ...good("tkf_linear_apply"), k: 33 }, "second.dtype", () => "q8_0");
  assertEquals(context.invoke("tkf_linear_apply", args), STATUS.shape);
  assertMatch(context.message, /multiple of the block of 32/);
});

Deno.test("the C ABI takes NULL for buffers of no bytes", () => {
  const none = { address: 0, bytes: 0 };
  assertEquals(
    context.invoke("tkf_gate_apply", { gate: none, up: null, out: none, count: 0, kind: 1 }),
    STATUS.ok,
  );
  const first = { weight: none, out: null, n: 4, dtype: "f32" } as const,
    others = { second: null, third: null };
  const rest = { x: null, kept: null, kept_count: null, rows: 0, k: 0, same_x: 0, gate: 0 };
  assertEquals(context.invoke("tkf_linear_apply", { first, ...others, ...rest }), STATUS.ok);
});

Deno.test("the C ABI refuses a NULL context, and arguments that are NULL, short or misaligned", async () => {
  const signature = { parameters: ["pointer", "buffer", "u64"], result: "i32" } as const;
  const { path } = await findLibrary("cpu");
  const raw = Deno.dlopen(path, Object.fromEntries(NAMES.map((name) => [name, signature]))).symbols;
  const { pointer } = context;
  for (const name of NAMES) {
    const op = ops.get(name)!, { bytes } = op.layout, call = raw[name]!;
    assertEquals(op.call(null, good(name), context.locate), STATUS.null, name);
    assertEquals(call(pointer, null, BigInt(bytes)), STATUS.null, name);
    assertEquals(call(pointer, new Uint8Array(bytes), BigInt(bytes - 1)), STATUS.buffer, name);
    assertEquals(
      call(pointer, new Uint8Array(new ArrayBuffer(bytes + 8), 4), BigInt(bytes)),
      STATUS.buffer,
      name,
    );
  }
  assertEquals(symbols.tkf_context_destroy(null), STATUS.null);
  assertEquals(symbols.tkf_blas_load(null, new Uint8Array([47, 0])), STATUS.null);
  assertEquals(symbols.tkf_blas_load(context.pointer, null), STATUS.null);
  assertEquals(symbols.tkf_context_create(1, -1, null), STATUS.null);
});
