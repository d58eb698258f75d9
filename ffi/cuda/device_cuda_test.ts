/** Tests of the driver's wrapper that need a real driver: figures, copies, events, graphs, cuBLASLt. Needs a GPU. */
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { prepare } from "../../kernels/linear/tests/testing.ts";
import { inChild } from "../../kernels/testing/child.ts";
import { KernelError } from "../../lib/errors.ts";
import { f32Data, hostTensor } from "../../lib/tensor.ts";
import { CudaContext } from "./context.ts";
import { loadCublasLt } from "./cublaslt.ts";
import { CudaBackend } from "./backend.ts";
import type { CudaMemory } from "./device_memory.ts";
import { openDriver } from "./driver/driver.ts";
import { openCuda } from "./open.ts";
import { INTERPRETS_PTX, NO_DEVICE, type OpenDevice, openTestDevice } from "./testing.ts";
import { unless } from "../../lib/testing.ts";

/** Registers a test that only a GPU can pass. */
function testOnGpu(
  name: string,
  work: (device: OpenDevice & { memory: CudaMemory }) => void | Promise<void>,
  why?: string | false,
): void {
  Deno.test({
    ...unless(NO_DEVICE || why, name),
    fn: async () => await work(await openTestDevice() as OpenDevice & { memory: CudaMemory }),
  });
}

testOnGpu("the driver gives figures of a device, and names its errors", () => {
  const driver = openDriver();
  assert(driver.version >= 12000 && driver.version < 30000, `${driver.version}`);
  const { name, arch, numSms, memoryBytes, l2Bytes, clockMHz } = driver.device(0);
  const figures = JSON.stringify({ name, arch, numSms, memoryBytes, l2Bytes, clockMHz });
  assert(name.length > 3 && arch >= 80 && arch < 200 && numSms > 0 && numSms < 1000, figures);
  assert(memoryBytes > 2 ** 29 && l2Bytes >= 2 ** 19 && clockMHz > 300 && clockMHz < 10_000, figures);
  assertMatch(driver.describe(700), /^CUDA_ERROR_ILLEGAL_ADDRESS, ./);
  assertEquals(driver.describe(123456), "unknown result 123456");
});

testOnGpu("device memory is zeroed, and keeps what is written to any place of it", ({ memory }) => {
  for (const bytes of [1, 511, 65536, 65537, 5_000_001]) {
    using a = memory.alloc(bytes);
    using b = memory.alloc(bytes + 3);
    assert(memory.read(a).every((x) => x === 0), `${bytes}`);
    const data = Uint8Array.from({ length: bytes }, (_, i) => i * 31 % 251 + 1), sent = data.slice();
    memory.write(a, sent);
    sent.fill(0); // it is the caller's again
    memory.copy(a, b, bytes, { from: 0, to: 3 });
    const [first, second] = [memory.read(a), memory.read(b)];
    assert(data.every((x, i) => first[i] === x && second[i + 3] === x), `${bytes}`);
    assertEquals([...second.subarray(0, 3), ...memory.read(b, 1, bytes + 2)], [0, 0, 0, data.at(-1)]);
  }
});

testOnGpu("an allocation that does not fit says what there is, and the device goes on", ({ memory }) => {
  const { memoryBytes, name } = openDriver().device(0);
  const error = assertThrows(() => memory.alloc(4 * memoryBytes), RangeError);
  assert(error.message.includes(` GiB on ${name}: found `), error.message);
  assertMatch(error.message, /found \d+\.\d+ GiB free of \d+\.\d GiB/);
  using a = memory.alloc(1000);
  assertEquals(memory.read(a).length, 1000);
});

testOnGpu("events time the device: nothing takes little, and more work takes longer", ({ memory }) => {
  using a = memory.alloc(2 ** 28);
  using b = memory.alloc(2 ** 28);
  const copies = (count: number) => {
    for (let i = 0; i < count; i++) memory.copy(a, b, a.bytes);
  };
  const best = (count: number) =>
    Math.min(...Array.from({ length: 5 }, () => memory.time(() => copies(count))));
  const [none, four, sixteen] = [best(0), best(4), best(16)];
  assert(none >= 0 && none < 0.2, `${none} ms for nothing`);
  // 2 GiB are read and written by four copies: at 20 TB/s they take 0.1 ms, at 20 GB/s 100 ms.
  assert(four! > 0.1 && four! < 110, `${four} ms for four copies`);
  assert(sixteen! > 3 * four! && sixteen! < 5 * four!, `${four} and ${sixteen} ms for 4 and 16 copies`);
}, INTERPRETS_PTX && "the interpreter has no times");

testOnGpu("a graph runs when it is launched, and a failed recording leaves the stream usable", (device) => {
  const { memory, context, backend } = device;
  using a = memory.alloc(256);
  using b = memory.alloc(256);
  const data = new Uint8Array(256).fill(7);
  memory.write(a, data);
  const dropped = memory.alloc(256);
  using graph = memory.capture(() => {
    memory.copy(a, b, 256);
    dropped[Symbol.dispose]();
  });
  assertEquals(memory.read(b)[0], 0);
  graph.launch();
  assertEquals(memory.read(b), data);
  for (let round = 0; round < 2; round++) {
    assertThrows(() => memory.capture(() => memory.synchronize()), Error, "cuStreamSynchronize");
    assertThrows(() => memory.capture(() => context.synchronize()), KernelError, "found a failed kernel");
    assertThrows(() => memory.capture(() => context.reserve(2 ** (31 + round))), KernelError);
    memory.synchronize();
    context.synchronize();
    const gate = backend.upload(hostTensor("f32", [1, 2], Float32Array.of(0, 1))),
      out = backend.alloc("f32", [1, 2]);
    backend.swiglu(gate, gate, out); // a launch after a failure is not taken for failed
    assert(Math.abs(f32Data(backend.read(out))[1]! - 0.7310586) < 1e-6);
    graph.launch();
    assertEquals(memory.read(b), data);
  }
});

testOnGpu(
  "a kernel's first launch can be recorded, and graphs by the hundred",
  ({ memory, context: { library } }) => {
    // Kernels are loaded when they are first launched: here within a recording, in a context of its own.
    const context = new CudaContext(library, memory), backend = new CudaBackend(context, memory);
    const ids = backend.upload(hostTensor("i32", [1], new Int32Array(1))),
      logits = backend.alloc("f32", [1, 5]);
    for (let i = 0; i < 100; i++) {
      using graph = memory.capture(() => backend.argmax(logits, ids));
      graph.launch();
    }
    assertEquals([...backend.read(ids).data], [0]);
  },
);

testOnGpu(
  "cuBLASLt and the library's own products agree, and both can be recorded",
  ({ memory, context: { library } }) => {
    const own = new CudaContext(library, memory), lt = new CudaContext(library, memory);
    const path = Deno.env.get("TOKENFILTER_CUBLASLT") === "none" ? undefined : loadCublasLt(lt);
    for (const context of path === undefined ? [own] : [own, lt]) {
      const backend = new CudaBackend(context, memory);
      assertMatch(
        backend.description,
        context === lt ? /cuBLASLt 1\d\.\d+\.\d+$/ : /built-in matrix products$/,
      );
      for (const dtype of ["f32", "f16", "bf16", "q8_0"] as const) {
        // Rows, columns and depths that no tile divides, and a depth at which sums lose something.
        for (const [rows, n, k] of [[40, 72, 96], [129, 257, 1056], [33, 40, 8192]] as const) {
          const { x, weight, expected, sizes } = prepare({ dtype, rows, n, k }, rows);
          const xOn = backend.upload(x),
            weightOn = backend.upload(weight),
            out = backend.alloc("f32", [rows, n]);
          const expectRight = (words: string) => {
            const found = f32Data(backend.read(out));
            for (const [i, want] of expected.entries()) {
              const off = Math.abs(found[i]! - want);
              assert(
                off <= 1e-5 * sizes[i]! + 1e-30,
                `${words} of ${dtype}, ${rows} x ${k} by ${n}: off by ${off}`,
              );
            }
          };
          backend.linear(xOn, weightOn, out);
          expectRight(`${context.description}, launched,`);
          using graph = memory.capture(() => backend.linear(xOn, weightOn, out));
          memory.write(out.buffer, new Float32Array(rows * n).fill(NaN));
          graph.launch();
          expectRight(`${context.description}, recorded,`);
        }
      }
    }
  },
);

testOnGpu("a process closes its only backend, and opens the device again", async () => {
  // The tests' own process keeps a backend, so that the device may refuse another process.
  if (openDriver().device(0).exclusive) return;
  const found = await inChild(
    {},
    `const { openCuda } = await load("ffi/cuda/open.ts"), { hostTensor } = await load("lib/tensor.ts");
    const found = [];
    for (let turn = 0; turn < 3; turn++) {
      using backend = await openCuda({ build: true });
      const x = backend.upload(hostTensor("f32", [1, 2], Float32Array.of(0, 1)));
      backend.swiglu(x, x, x);
      found.push(backend.read(x).data[1].toFixed(5));
    }
    return found;`,
  );
  assertEquals(found, ["0.73106", "0.73106", "0.73106"]);
});

testOnGpu("openCuda() gives back what it took, and can be called again", async ({ backend }) => {
  const { symbols } = openDriver(), x = hostTensor("f32", [1, 2], Float32Array.of(0, 1));
  const free = () => {
    const left = new BigUint64Array(1), all = new BigUint64Array(1);
    assertEquals(symbols.cuMemGetInfo_v2(left, all), 0);
    return Number(left[0]);
  };
  const taken: number[] = [];
  for (let turn = 0; turn < 4; turn++) {
    const before = free();
    {
      using other = await openCuda();
      const on = other.upload(x), big = other.alloc("u8", [2 ** 30]);
      other.swiglu(on, on, on);
      assert(Math.abs(f32Data(other.read(on))[1]! - 0.7310586) < 1e-6);
      assert(before - free() >= 2 ** 30);
      assertEquals(big.shape, [2 ** 30]);
    }
    taken.push(before - free());
  }
  // The first turn loads kernels and cuBLASLt, which stay with the context that others hold. The free memory is
  // the whole device's: another process changes it in one turn, a leak in each turn.
  assert(Math.min(...taken.slice(1)) < 2 ** 20, `${taken} bytes were not given back`);
  const on = backend.upload(x);
  backend.swiglu(on, on, on);
  assert(Math.abs(f32Data(backend.read(on))[1]! - 0.7310586) < 1e-6);
});
