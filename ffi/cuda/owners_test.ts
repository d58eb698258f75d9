/** Everything that the driver gives out is given back, in an order that it allows, and not used afterwards. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { scoreSequence } from "../../lib/eval/sequence_score.ts";
import { NativeLibraryError } from "../../lib/errors.ts";
import { f32Data, hostTensor } from "../../lib/tensor.ts";
import { collectUntil } from "../collector_testing.ts";
import type { CudaBackend } from "./backend.ts";
import { CudaMemory } from "./device_memory.ts";
import { driverWith, fake, leftOvers, memoryWith } from "./driver/fake_driver_testing.ts";
import { loadCudaLibrary, openCuda } from "./open.ts";
import { filtering, ids, modelOn } from "./small_model/testing.ts";
import { PTX, ptxHeld, ptxLibrary, testOnPtx } from "./testing.ts";

const NOTHING = { left: [0, 0, 0, 0], misuses: 0 };
/** What an earlier file may have left in this thread. */
const NONE = PTX === undefined ? [] : ptxHeld();
const numbers = hostTensor("f32", [1, 4], Float32Array.of(0, 1, 2, 3));

Deno.test("CudaMemory gives back graphs, events, kept and used buffers, stream and context when disposed", () => {
  const driver = driverWith();
  const memory = new CudaMemory(driver, driver.device(0), { reuse: true });
  const buffer = memory.alloc(16), none = memory.alloc(0), event = memory.event();
  const fill = () =>
    fake.cuMemsetD8Async(BigInt(Deno.UnsafePointer.value(buffer.address)), 7, 4n, memory.stream);
  const graph = memory.capture(() => void fill());
  memory.alloc(4000)[Symbol.dispose](); // kept
  assertEquals(leftOvers().left, [3, 1, 1, 1]);
  const waits = fake.fake_waits();
  memory[Symbol.dispose]();
  memory[Symbol.dispose]();
  assertEquals([leftOvers(), fake.fake_waits() - waits], [NOTHING, 1]);
  for (const owned of [graph, event, buffer, none]) owned[Symbol.dispose]();
  assertEquals(leftOvers(), NOTHING);
});

Deno.test("CudaMemory refuses any use once it was disposed", () => {
  const memory = memoryWith();
  const buffer = memory.alloc(16), event = memory.event(), graph = memory.capture(() => {});
  memory[Symbol.dispose]();
  const gone = "Cannot use CUDA device 0 (Stand-in 0): its memory and stream were disposed";
  for (
    const work of [
      () => memory.alloc(4),
      () => memory.alloc(0),
      () => memory.synchronize(),
      () => memory.capture(() => {}),
      () => memory.event(),
      () => memory.time(() => {}),
      () => memory.stream,
    ]
  ) assertThrows(work, Error, gone);
  for (
    const work of [
      () => memory.read(buffer),
      () => memory.write(buffer, new Uint8Array(4)),
      () => memory.copy(buffer, buffer, 4),
      () => buffer.address,
    ]
  ) assertThrows(work, Error, "Cannot use device memory: it was freed");
  assertThrows(() => graph.launch(), Error, "Cannot run recorded work: it was freed");
  assertThrows(() => event.record(), Error, "Cannot use an event: it was freed");
  memory.trim();
  assertEquals(leftOvers(), NOTHING);
});

Deno.test("CudaMemory leaves what others in the thread hold, and another device can follow", () => {
  const driver = driverWith({ FAKE_DEVICES: 2 });
  const first = new CudaMemory(driver, driver.device(0)), second = new CudaMemory(driver, driver.device(0));
  first[Symbol.dispose]();
  assertEquals(leftOvers().left, [0, 0, 1, 1]);
  const other = () => new CudaMemory(driver, driver.device(1));
  assertThrows(other, NativeLibraryError, "found device 0 open in this thread, expected one a thread");
  assertEquals(second.read(second.alloc(4)).length, 4);
  second[Symbol.dispose]();
  other()[Symbol.dispose]();
  assertEquals(leftOvers(), NOTHING);
});

Deno.test("CudaMemory releases the context where the driver makes no stream", () => {
  assertThrows(() => memoryWith({ FAKE_STREAM: 999 }), Error, "Cannot run cuStreamCreate");
  assertEquals(leftOvers(), NOTHING);
});

Deno.test("CudaMemory cannot be disposed while work is recorded", () => {
  using memory = memoryWith();
  const dispose = () => memory[Symbol.dispose]();
  assertThrows(() => memory.capture(dispose), Error, "Cannot dispose device memory while work is recorded");
  memory.synchronize();
});

Deno.test("CudaEvent gives the milliseconds since another", () => {
  using memory = memoryWith();
  using begun = memory.event();
  using ended = memory.event();
  begun.record();
  ended.record();
  ended.synchronize();
  assertEquals(ended.since(begun), 2.5);
  begun[Symbol.dispose]();
  assertThrows(() => ended.since(begun), Error, "Cannot use an event: it was freed");
});

Deno.test("CudaMemory gives everything back, the stream last, where there is no reference to it any more", async () => {
  const make = () => {
    const memory = memoryWith();
    const kept = memory.alloc(16);
    memory.alloc(16);
    memory.event();
    const owner: { graph?: Disposable } = {}; // as a decoder that records its own work
    owner.graph = memory.capture(() => void owner.graph);
    return kept;
  };
  let kept: Disposable | undefined = make();
  await collectUntil(() => leftOvers().left.join() === "1,0,1,1");
  assertEquals(leftOvers(), { left: [1, 0, 1, 1], misuses: 0 }); // the stream of the buffer that is held
  assert(kept !== undefined);
  kept = undefined;
  await collectUntil(() => leftOvers().left.join() === "0,0,0,0");
  assertEquals(leftOvers(), NOTHING);
});

/** Uses a backend in all ways that make something. */
function use(backend: CudaBackend): void {
  const x = backend.upload(numbers), out = backend.alloc("f32", [1, 4]);
  backend.swiglu(x, x, out);
  assert(Math.abs(f32Data(backend.read(out))[1]! - 0.7310586) < 1e-6);
  backend.free(x);
}

testOnPtx("openCuda() leaves nothing behind after `using`, and opens the device again", async () => {
  for (const reuse of [true, false]) {
    {
      using backend = await openCuda({ reuse });
      use(backend);
      assert(ptxHeld().every((count, i) => i === 1 || count > NONE[i]!), `${ptxHeld()}`);
    }
    assertEquals(ptxHeld(), NONE);
  }
});

testOnPtx("openCuda() refuses what the device has not, and leaves nothing behind", async () => {
  const refused = async (options: Parameters<typeof openCuda>[0], message: string) => {
    await assertRejects(() => openCuda(options), NativeLibraryError, message);
    assertEquals(ptxHeld(), NONE);
  };
  if (Deno.env.get("TKF_PTX_ARCH") === "80") {
    await refused({ wgmma: true }, "Cannot use wgmma on PTX interpreter");
    await refused({ dependentLaunch: true }, "Cannot use dependent launches on PTX interpreter");
    return;
  }
  {
    using wide = await openCuda({ wgmma: true, dependentLaunch: true });
    assertEquals([wide.useWgmma(true), wide.useDependentLaunch(true)], [true, true]);
  }
  try {
    PTX!.tkf_ptx_fail_graphs(700);
    await refused({ dependentLaunch: true }, "two recorded kernels do not run (Cannot run cuGraphLaunch: ");
    using backend = await openCuda();
    assertThrows(() => backend.useDependentLaunch(true), NativeLibraryError, "set dependentLaunch to false");
  } finally {
    PTX!.tkf_ptx_fail_graphs(0);
  }
});

testOnPtx(
  "openCuda() leaves nothing behind where there is no reference to the backend any more",
  async () => {
    await (async () => use(await openCuda()))();
    await collectUntil(() => ptxHeld().join() === NONE.join());
  },
);

testOnPtx("CudaBackend refuses any use once it was disposed", async () => {
  const backend = await openCuda();
  const x = backend.upload(numbers), none = backend.alloc("f32", [0, 4]);
  const positions = backend.alloc("i32", [1]);
  const graph = backend.memory.capture(() => backend.advance(positions));
  backend[Symbol.dispose]();
  backend[Symbol.dispose]();
  for (const work of [() => backend.alloc("f32", [1]), () => backend.upload(numbers)]) {
    assertThrows(work, Error, "disposed");
  }
  for (const work of [() => backend.read(x), () => backend.swiglu(x, x, x), () => backend.argmax(x, x)]) {
    assertThrows(work, Error);
  }
  assertThrows(() => backend.read(x), Error, "Cannot use device memory: it was freed");
  for (const work of [() => backend.synchronize(), () => backend.swiglu(none, none, none)]) {
    assertThrows(work, Error, "Cannot use this backend: it was disposed");
  }
  assertThrows(() => backend.measureMachine(), Error, "Cannot use this backend: it was disposed");
  assertThrows(() => graph.launch(), Error, "Cannot run recorded work: it was freed");
  backend.free(x); // as before: once more does nothing
  assertEquals(ptxHeld(), NONE);
  assertEquals(loadCudaLibrary(ptxLibrary()).symbols.tkf_abi_version() > 0, true); // the library itself stays
});

testOnPtx("BatchDecoder and scoreSequence() give back at once what they took", async () => {
  {
    using backend = await openCuda({ reuse: false });
    const model = modelOn(backend), before = ptxHeld();
    for (const rule of ["mean", "learned"] as const) {
      const pruner = filtering({ fusion: rule, recent: 3 }, backend);
      {
        using decoder = model.startBatch(pruner, { batch: 2, capacity: 8 });
        for (const slot of [0, 1]) decoder.begin(slot);
        for (const id of [1, 2, 3]) decoder.step(Int32Array.of(id, id)); // recorded from the second on
        assert(ptxHeld()[0]! > before[0]! + 20);
      }
      assertEquals(ptxHeld(), before, rule);
      scoreSequence(model, ids(12), pruner, { phase: "decode" });
      assertEquals(ptxHeld(), before, rule);
    }
  }
  assertEquals(ptxHeld(), NONE);
});
