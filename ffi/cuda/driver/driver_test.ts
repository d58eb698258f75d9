/** The driver's wrapper on a stand-in for libcuda, compiled here: figures, ownership, and every way to fail. */
import { assert, assertEquals, assertMatch, assertStrictEquals, assertThrows } from "@std/assert";
import { NativeLibraryError } from "../../../lib/errors.ts";
import { CudaMemory } from "../device_memory.ts";
import { openDriver } from "./driver.ts";
import { compiler, driverWith, fake, folder, memoryWith, path } from "./fake_driver_testing.ts";
import { pieceBytes } from "../free_list.ts";

const { fake_live: live } = fake;

Deno.test("openDriver() names the library it lacks and the way on", () => {
  const error = assertThrows(() => openDriver("libcuda-that-is-not-there.so.1"), NativeLibraryError);
  assertMatch(
    error.message,
    /^Cannot use CUDA: found no driver .*libcuda-that-is-not-there\.so\.1.*--backend cpu$/,
  );
});

Deno.test("openDriver() gives the version of a driver that lacks functions of later ones", async () => {
  for (const [version, says] of [[11020, "found a driver for CUDA 11.2, expected 12.0"], [0, "no driver"]]) {
    const source = `${folder}/old${version}.c`, old = `${folder}/libold${version}.so`;
    const name = version === 0 ? "other" : "cuDriverGetVersion";
    await Deno.writeTextFile(source, `int ${name}(int* out) { *out = ${version}; return 0; }\n`);
    const { success } = await new Deno.Command(compiler, { args: ["-shared", "-fPIC", source, "-o", old] })
      .output();
    assert(success);
    assertThrows(() => openDriver(old), NativeLibraryError, `${says}`);
  }
});

Deno.test("openDriver() opens a library once", async () => {
  driverWith(); // with its defaults
  const copy = `${folder}/libonce.so`;
  await Deno.copyFile(path, copy);
  assertStrictEquals(openDriver(copy), openDriver(copy));
});

Deno.test("CudaDriver gives version and devices with their figures", () => {
  const driver = driverWith({ FAKE_VERSION: 13010, FAKE_DEVICES: 2 }), { version, devices } = driver;
  assertEquals(driver.busId(1), "0000:01:00.0");
  assertEquals(version, 13010);
  assertEquals(devices.map(({ ordinal, name }) => [ordinal, name]), [[0, "Stand-in 0"], [1, "Stand-in 1"]]);
  const { arch, numSms, memoryBytes, l2Bytes, clockMHz } = devices[1]!;
  assertEquals([arch, numSms, memoryBytes, l2Bytes, clockMHz], [90, 132, 2 ** 30, 50 * 2 ** 20, 1980]);
  assertEquals([0, 1, 2, 3].map((FAKE_MODE) => driverWith({ FAKE_MODE }).device(0).exclusive), [
    ...[false, false, false],
    true,
  ]);
});

Deno.test("CudaDriver says of a driver that is too old, or has no device, what it found", () => {
  assertThrows(
    () => driverWith({ FAKE_VERSION: 11080 }),
    NativeLibraryError,
    "found a driver for CUDA 11.8, expected 12.0 or later",
  );
  const driver = driverWith({ FAKE_VERSION: 12040 });
  driver.expectVersion(12000);
  assertThrows(
    () => driver.expectVersion(13000),
    NativeLibraryError,
    "found a driver for CUDA 12.4, expected 13.0",
  );
  assertThrows(() => driverWith({ FAKE_DEVICES: 0 }), NativeLibraryError, "found a driver and no device");
  assertThrows(() => driverWith({ FAKE_INIT: 100 }), NativeLibraryError, "found a driver and no device");
  assertThrows(() => driverWith({ FAKE_INIT: 999 }), NativeLibraryError, "CUDA_ERROR_UNKNOWN, so says");
});

Deno.test("CudaDriver.device() refuses a device that is not there or too old", () => {
  assertThrows(() => driverWith().device(3), NativeLibraryError, "Cannot use CUDA device 3: found 1");
  assertThrows(
    () => driverWith({ FAKE_ARCH: 75 }).device(0),
    NativeLibraryError,
    "(Stand-in 0): found sm_75, expected sm_80",
  );
});

Deno.test("CudaMemory gives zeroed memory and copies pieces both ways and on the device", () => {
  const memory = memoryWith();
  assertEquals(memory.description, "Stand-in 0, sm_90, 132 SMs, 1.0 GiB");
  using a = memory.alloc(16);
  using b = memory.alloc(8);
  assertEquals([...memory.read(a)], new Array(16).fill(0));
  memory.write(a, Uint8Array.of(1, 2, 3, 4), 6);
  memory.write(a, new Float32Array([1]).subarray(0, 1), 12);
  assertEquals([...memory.read(a, 10, 6)], [1, 2, 3, 4, 0, 0, 0, 0, 128, 63]);
  memory.copy(a, b, 3, { from: 7, to: 5 });
  assertEquals([...memory.read(b)], [0, 0, 0, 0, 0, 2, 3, 4]);
  memory.copy(b, a, 8);
  assertEquals([...memory.read(a, 8)], [0, 0, 0, 0, 0, 2, 3, 4]);
  using none = memory.alloc(0);
  assertEquals([none.address, memory.read(none).length], [null, 0]);
});

Deno.test("CudaMemory refuses pieces outside a buffer", () => {
  const memory = memoryWith();
  using a = memory.alloc(16), b = memory.alloc(4);
  for (
    const work of [
      () => memory.write(a, new Uint8Array(17)),
      () => memory.write(a, new Uint8Array(1), 16),
      () => memory.write(a, new Uint8Array(1), -1),
      () => memory.read(a, 4, 13),
      () => memory.read(a, NaN),
      () => memory.copy(a, b, 5),
      () => memory.copy(a, b, 4, { from: 13, to: 0 }),
    ]
  ) assertThrows(work, RangeError, "Cannot use bytes");
  assertThrows(() => memory.alloc(-1), RangeError, "Cannot allocate -1 bytes");
});

Deno.test("CudaMemory frees once, and refuses what was freed", () => {
  const before = live();
  const memory = memoryWith();
  const a = memory.alloc(16);
  assertEquals(live(), before + 1);
  a[Symbol.dispose]();
  a[Symbol.dispose]();
  assertEquals(live(), before);
  assertThrows(() => memory.read(a), Error, "Cannot use device memory: it was freed");
  assertThrows(() => memory.write(a, new Uint8Array(4)), Error, "it was freed");
});

Deno.test("pieceBytes() rounds up by at most a sixteenth, and large sizes not at all", () => {
  assertEquals([1, 512, 513, 1024, 1025, 3000].map(pieceBytes), [512, 512, 544, 1024, 1088, 3072]);
  for (let bytes = 512; bytes < 2 ** 28; bytes = Math.ceil(1.37 * bytes)) {
    assert(
      pieceBytes(bytes) >= bytes && pieceBytes(bytes) <= bytes * 17 / 16 && pieceBytes(bytes) % 32 === 0,
    );
  }
  assertEquals([2 ** 28, 2 ** 28 + 1].map(pieceBytes), [2 ** 28, 2 ** 28 + 1]);
});

Deno.test("CudaMemory keeps what was freed for later allocations, and gives it back before it runs out", () => {
  const driver = driverWith({ FAKE_MEMORY: 16 * 2 ** 20 }), before = live();
  const memory = new CudaMemory(driver, driver.device(0), { reuse: true });
  const first = memory.alloc(1000);
  memory.write(first, new Uint8Array(1000).fill(7));
  const place = Deno.UnsafePointer.value(first.address);
  first[Symbol.dispose]();
  assertEquals(live(), before + 1); // kept
  {
    using again = memory.alloc(1010); // of the same piece, and zeroed
    using other = memory.alloc(1010);
    assertEquals(Deno.UnsafePointer.value(again.address), place);
    assert(Deno.UnsafePointer.value(other.address) !== place);
    assertEquals([...memory.read(again)], new Array(1010).fill(0));
  }
  assertEquals(live(), before + 2);
  memory.alloc(2 ** 20 + 2 ** 19)[Symbol.dispose](); // more than a sixteenth of the device: not kept
  assertEquals(live(), before + 2);
  using all = memory.alloc(16 * 2 ** 20); // there is room once nothing is kept
  assertEquals([all.bytes, live()], [16 * 2 ** 20, before + 1]);
});

Deno.test("CudaMemory says how much memory was asked for and how much there is", () => {
  const memory = memoryWith({ FAKE_MEMORY: 3 * 2 ** 30 });
  using _ = memory.alloc(2 ** 20);
  const error = assertThrows(() => memory.alloc(5 * 2 ** 30), RangeError);
  assertEquals(
    error.message,
    "Cannot allocate 5.0 GiB on Stand-in 0: found 3.0 GiB free of 3.0 GiB; use a smaller model, batch or context",
  );
});

Deno.test("CudaMemory.capture() records work that runs when the graph is launched", () => {
  const memory = memoryWith();
  const driver = fake;
  using a = memory.alloc(4);
  const before = live();
  {
    using graph = memory.capture(() => {
      driver.cuMemsetD8Async(BigInt(Deno.UnsafePointer.value(a.address)), 7, 4n, memory.stream);
    });
    assertEquals([...memory.read(a)], [0, 0, 0, 0]);
    graph.launch();
    assertEquals([...memory.read(a)], [7, 7, 7, 7]);
  }
  assertEquals(live(), before);
});

Deno.test("CudaMemory.capture() fails where the work waits or allocates, and leaves the stream usable", () => {
  const memory = memoryWith();
  assertThrows(() => memory.capture(() => memory.synchronize()), Error, "cuStreamSynchronize");
  assertThrows(() => memory.capture(() => memory.alloc(4)), Error, "while work is recorded");
  using a = memory.alloc(4);
  assertThrows(
    () => memory.capture(() => memory.write(a, new Uint8Array(4))),
    Error,
    "Cannot write device memory",
  );
  assertThrows(() => memory.capture(() => memory.read(a)), Error, "Cannot read device memory");
  memory.synchronize();
});

Deno.test("CudaMemory.capture() frees afterwards what the work frees", () => {
  const memory = memoryWith(), before = live();
  const a = memory.alloc(4);
  {
    using _ = memory.capture(() => a[Symbol.dispose]());
  }
  assertEquals(live(), before);
});

Deno.test("CudaMemory.capture() gives everything back where the work throws", () => {
  const memory = memoryWith(), before = live();
  const failing = () => {
    throw new Error("no such work");
  };
  assertThrows(() => memory.capture(failing), Error, "no such work");
  assertEquals(live(), before);
  memory.synchronize();
});

Deno.test("CudaMemory.alloc() gives memory back that it cannot clear", () => {
  const memory = memoryWith({ FAKE_CLEAR: 700 }), before = live();
  assertThrows(() => memory.alloc(16), Error, "cuMemsetD8Async");
  assertEquals(live(), before);
});

Deno.test("CudaMemory.alloc() names a failure that is no lack of memory", () => {
  assertThrows(() => memoryWith({ FAKE_ALLOC: 700 }).alloc(16), Error, "cuMemAlloc");
});

Deno.test("CudaMemory.write() waits where the driver may read the data later", () => {
  const memory = memoryWith();
  using to = memory.alloc(2 ** 20);
  const waits = (bytes: number) => {
    const before = fake.fake_waits();
    memory.write(to, new Uint8Array(bytes));
    return fake.fake_waits() - before;
  };
  assertEquals([waits(65536), waits(65537)], [0, 1]);
  const shared = memoryWith({ FAKE_TABLES: 1 }), before = fake.fake_waits();
  using there = shared.alloc(16);
  shared.write(there, new Uint8Array(16));
  assertEquals(fake.fake_waits() - before, 1, "a device that reads the host's memory itself");
});

Deno.test("CudaMemory.readInto() enqueues a copy and does not wait", () => {
  const memory = memoryWith();
  using from = memory.alloc(8);
  memory.write(from, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
  const to = new Uint8Array(6), before = fake.fake_waits();
  memory.readInto(from, to.subarray(1, 4), 2);
  assertEquals([fake.fake_waits() - before, ...to], [0, 0, 3, 4, 5, 0, 0]);
  assertThrows(() => memory.readInto(from, to, 3), RangeError, "Cannot use bytes 3 to 9");
});

Deno.test("CudaMemory.time() gives the milliseconds between two events", () => {
  let ran = 0;
  assertEquals(memoryWith().time(() => ran++), 2.5);
  assertEquals(ran, 1);
});
