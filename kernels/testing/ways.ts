/**
 * The ways to run an op: at levels of the CPU library, and on a GPU or the interpreter of PTX; and tests that go through
 * them. `TOKENFILTER_TEST_DEVICE` selects only one: cpu, cuda or ptx; or wasm, where the tests of the CPU library run on the
 * same kernels as WebAssembly.
 */
import { assertEquals } from "@std/assert";
import {
  INTERPRETS_PTX,
  NO_DEVICE,
  ON_DEVICE,
  type OpenDevice,
  openTestDevice,
  testedDevice,
} from "../../ffi/cuda/testing.ts";
import type { Backend } from "../../lib/backend.ts";
import { buildCpu } from "../../build.ts";
import { type CpuBackend, cpuLevels, type CpuOptions, openCpu } from "../../ffi/mod.ts";
import type { NativeBackend } from "../../ffi/native_backend.ts";
import { openWasm, type WasmBackend } from "../../ffi/wasm/mod.ts";
import type { BatchDecisions } from "../../lib/batch_ops.ts";
import { type HostTensor, hostTensor, type Tensor } from "../../lib/tensor.ts";
import { RUNS_SLOW, unless } from "../../lib/testing.ts";
import { unwritten } from "./inputs.ts";

/** One way to run ops. */
export interface Way<B extends Backend = NativeBackend> {
  /** In a failure. */
  readonly name: string;
  readonly backend: B;
  /** A copy of a host tensor where the backend computes. */
  on<T extends Tensor>(tensor: T): Tensor;
  /** An f32 tensor there that an op is to fill: NaN everywhere. */
  empty(...shape: number[]): Tensor;
  /** Values of a tensor of the backend. */
  values(tensor: Tensor): Float32Array;
}

/** A device as a way. */
export type DeviceWay = OpenDevice & Way<OpenDevice["backend"]>;

/** A backend as a way. */
export function wayOf<B extends Backend>(name: string, backend: B): Way<B> {
  const on = (tensor: Tensor) => {
    const { dtype, shape, data } = tensor as HostTensor;
    return backend.upload({ dtype, shape, data: data.slice() } as HostTensor);
  };
  return {
    name,
    backend,
    on,
    empty: (...shape) => on(unwritten(shape)),
    values: (tensor) => backend.read(tensor).data as Float32Array,
  };
}

/** What tests of the CPU run on: the native library, built where it is not, or the kernels as WebAssembly. */
export async function openTested(options: CpuOptions = {}): Promise<CpuBackend | WasmBackend> {
  if (MODE === "wasm") return await openWasm();
  await buildCpu();
  return await openCpu(options);
}

/** Levels of the CPU library that tests compare with the reference: those of this machine, the best in the fast tier. */
export async function testedLevels(): Promise<string[]> {
  if (MODE === "wasm") return ["base"];
  const levels = await cpuLevels();
  return RUNS_SLOW ? levels : levels.slice(-1);
}

/** {@linkcode testedLevels} on one thread and on three, which no case divides evenly among. */
export async function cpuWays(blas = "none"): Promise<Way[]> {
  const ways: Way[] = [];
  for (const level of await testedLevels()) {
    for (const threads of MODE === "wasm" ? [1] : [1, 3]) {
      const backend = await openTested({ level, threads, blas });
      ways.push(wayOf(backend.description, backend));
    }
  }
  return ways;
}

/** A device as a way. */
export function deviceWay(device: OpenDevice): DeviceWay {
  return { ...device, ...wayOf(device.backend.description, device.backend) };
}

/** A step's decisions to keep some slots of a batch; `count` is what kernels read as their number. */
export function decisionsOf(
  { on }: Way<Backend>,
  batch: number,
  slots: readonly number[],
  count: number = slots.length,
): BatchDecisions {
  return {
    keep: on(
      hostTensor("u8", [batch], Uint8Array.from({ length: batch }, (_, i) => Number(slots.includes(i)))),
    ),
    kept: on(hostTensor("i32", [batch], Int32Array.from({ length: batch }, (_, i) => slots[i] ?? 0))),
    keptCount: on(hostTensor("i32", [1], Int32Array.of(count))),
  };
}

const MODE = testedDevice();
/** Why tests of several threads are not run, if so. */
export const ONE_THREAD = MODE === "wasm" && "WebAssembly has one thread";
const NO_CPU = ON_DEVICE && `TOKENFILTER_TEST_DEVICE is ${MODE}`;

/** Registers a test of the CPU library. @param why it cannot run, if so */
export function testOnCpu(name: string, fn: () => void | Promise<void>, why?: string | false): void {
  Deno.test({ ...unless(NO_CPU || why, name), fn });
}

/** Registers a test of the CUDA library: on a GPU, or on the interpreter. */
export function testOnDevice(name: string, work: (device: DeviceWay) => void | Promise<void>): void {
  Deno.test({ ...unless(NO_DEVICE, name), fn: async () => await work(deviceWay(await openTestDevice())) });
}

/**
 * Registers a test of work whose outputs are to be equal whatever the order of warps and blocks: in two orders on the
 * interpreter, twice on a GPU.
 */
export function testSameInAnyOrder(name: string, outputs: (device: DeviceWay) => Float32Array[][]): void {
  Deno.test({
    ...unless(NO_DEVICE, `${name} whatever the order of warps and blocks, small cases`),
    fn: async () => {
      const [first, second] = [
        outputs(deviceWay(await openTestDevice("ascending"))),
        outputs(deviceWay(await openTestDevice("shuffled"))),
      ];
      assertEquals(second, first);
    },
  });
}

/** Registers a test for the levels of the CPU library, and for a device. */
export function testInEveryWay(name: string, work: (ways: readonly Way[]) => void): void {
  testOnCpu(`${name}, on the CPU`, async () => work(await cpuWays()));
  testOnDevice(`${name}, on a device`, (device) => work([device]));
}

/** Whether the fast tier runs a case where it takes a third of them: the golden ratio spreads them evenly. */
export const isSampled = (i: number) => RUNS_SLOW || (i + 1) * 0.6180339887498949 % 1 < 1 / 3;

/**
 * Registers tests of all cases in every way, and of the small ones on a device: those are for racecheck too. In the fast
 * tier the interpreter runs a third of the large ones.
 *
 * @param counts Numbers of all cases and of the small ones: none may be lost.
 * @param prepare Makes a case's inputs, and the check of a way; of a small one once for all tests.
 */
export function testCases<Case>(
  name: string,
  cases: readonly Case[],
  counts: readonly [all: number, small: number],
  prepare: (c: Case, index: number) => (way: Way) => void,
  isSmall: (c: Case) => boolean,
): void {
  const checks = new Map<number, (way: Way) => void>();
  const checkOf = (c: Case, i: number) => {
    if (!isSmall(c)) return prepare(c, i);
    const check = checks.get(i) ?? prepare(c, i);
    checks.set(i, check);
    return check;
  };
  testInEveryWay(name, (ways) => {
    // The interpreter runs the small ones in the test below.
    const chosen = [...cases.entries()].filter(([, c]) => !(INTERPRETS_PTX && isSmall(c)));
    assertEquals(chosen.length, counts[0] - (INTERPRETS_PTX ? counts[1] : 0));
    for (const [i, c] of INTERPRETS_PTX ? chosen.filter(([i]) => isSampled(i)) : chosen) {
      const check = checkOf(c, i);
      for (const way of ways) check(way);
    }
  });
  testOnDevice(`${name}, small cases`, (device) => {
    const small = [...cases.entries()].filter(([, c]) => isSmall(c));
    for (const [i, c] of small) checkOf(c, i)(device);
    assertEquals(small.length, counts[1]);
  });
}
