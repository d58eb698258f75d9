import { assertEquals } from "@std/assert";
import { NativeContext } from "../../ffi/context.ts";
import { openCpuLibrary } from "../../ffi/library.ts";
import { STATUS } from "../../ffi/symbols.ts";

const symbols = await openCpuLibrary();
const context = new NativeContext(symbols, { threads: 1 });

type Argument = number | bigint | BufferSource | Deno.PointerObject | null;

/** `tkf_attention_shape`: 2 queries, 3 keys, 1 recent row; 4 heads over 2, of 8; f32; a window of 4. */
const SIZES = { numQueries: 2, numKeys: 3, numRecent: 1 };
function shapeBytes(): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(56));
  Object.values(SIZES).forEach((x, i) => view.setBigInt64(8 * i, BigInt(x), true));
  [4, 2, 8, 0, 4, 0].forEach((x, i) => view.setInt32(24 + 4 * i, x, true));
  view.setFloat64(48, 0.35, true);
  return view;
}

function goodCall(shape = shapeBytes()): Argument[] {
  const floats = (count: number) => new Float32Array(count);
  const { numQueries, numKeys, numRecent } = SIZES;
  const buffers = [
    shape,
    floats(numQueries * 32),
    new Int32Array(numQueries),
    floats(numKeys * 16),
    floats(numKeys * 16),
    new Int32Array(numKeys),
    floats(numRecent * 16),
    floats(numRecent * 16),
    new Int32Array(numRecent),
    floats(numQueries * 32),
  ];
  return [context.pointer, ...buffers.flatMap((buffer) => [buffer, buffer.byteLength])];
}

function call(args: readonly Argument[]): number {
  return (symbols.tkf_attention_filtered as unknown as (...args: readonly Argument[]) => number)(...args);
}

Deno.test("tkf_attention_filtered() refuses NULL, short and misaligned buffers", () => {
  assertEquals(call(goodCall()), STATUS.ok);
  assertEquals(call([null, ...goodCall().slice(1)]), STATUS.null);
  let runs = 0;
  for (let i = 1; i < goodCall().length; i += 2) {
    const change = (value: Argument, at = i) => goodCall().map((arg, j) => j === at ? value : arg);
    assertEquals(call(change(null)), STATUS.null, `argument ${i}`);
    assertEquals(call(change(Number(goodCall()[i + 1]) - 1, i + 1)), STATUS.buffer, `argument ${i}`);
    const { byteLength } = goodCall()[i] as ArrayBufferView;
    const shifted = new Uint8Array(new ArrayBuffer(byteLength + 8), 1, byteLength);
    assertEquals(call(change(shifted)), STATUS.buffer, `argument ${i}`);
    runs += 3;
  }
  assertEquals(runs, 30);
});

Deno.test("tkf_attention_filtered() refuses sizes and numbers out of their ranges", () => {
  const refuse = (status: number, change: (view: DataView) => void) => {
    const shape = shapeBytes();
    change(shape);
    assertEquals(call(goodCall(shape)), status);
  };
  for (let i = 0; i < 3; i++) {
    for (const value of [-1n, 2n ** 62n, 2n ** 63n - 1n]) {
      refuse(STATUS.shape, (view) => view.setBigInt64(8 * i, value, true));
    }
    refuse(STATUS.buffer, (view) => view.setBigInt64(8 * i, 4n, true));
  }
  for (const value of [-1, 0, 3, 2 ** 31 - 1]) refuse(STATUS.shape, (view) => view.setInt32(24, value, true));
  for (const value of [-1, 0, 3, 2 ** 31 - 1]) refuse(STATUS.shape, (view) => view.setInt32(28, value, true));
  for (const value of [-1, 0, 257, 2 ** 31 - 1]) {
    refuse(STATUS.shape, (view) => view.setInt32(32, value, true));
  }
  for (const value of [-1, 2, 99]) refuse(STATUS.dtype, (view) => view.setInt32(36, value, true));
  refuse(STATUS.shape, (view) => view.setInt32(40, -1, true));
  for (const value of [NaN, Infinity]) refuse(STATUS.value, (view) => view.setFloat64(48, value, true));
});
