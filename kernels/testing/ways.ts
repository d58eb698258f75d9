/**
 * The ways to run an op: at levels of the CPU library, by the emulated CUDA library in every order of threads, and
 * on a GPU or the interpreter of PTX; and tests that go through them. `TOKENFILTER_TEST_DEVICE` selects only one: cpu,
 * emulated, cuda or ptx; or wasm, where the tests of the CPU library run on the same kernels as WebAssembly.
 */
import { assertEquals } from "@std/assert";
import {
  INTERPRETS_PTX,
  NO_EMULATOR,
  type OpenDevice,
  openTestDevice,
  testedDevice,
  testsOnGpu,
  THREAD_ORDERS,
  type ThreadOrder,
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

/** A device, and the order of threads that its launches follow; a GPU has its own. */
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
export function deviceWay(device: OpenDevice, order: ThreadOrder = "ascending"): DeviceWay {
  return { ...device, ...wayOf(`${device.backend.description}, threads ${order}`, device.backend) };
}

/** The device that tests run on, with threads in an order. */
async function openDevice(order?: ThreadOrder): Promise<DeviceWay> {
  return deviceWay(await openTestDevice(order === undefined ? {} : { order }), order);
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
const CHOSEN = `TOKENFILTER_TEST_DEVICE is ${MODE}`;
const NO_CPU = (MODE === "emulated" || testsOnGpu()) && CHOSEN;
/** Why tests of several threads are not run, if so. */
export const ONE_THREAD = MODE === "wasm" && "WebAssembly has one thread";
/** Why tests of a device are not run, if so. */
export const NO_DEVICE = NO_EMULATOR;
const NO_GPU = !testsOnGpu() && "needs a GPU: deno task test:gpu";

/** Registers a test of the CPU library. @param why it cannot run, if so */
export function testOnCpu(name: string, fn: () => void | Promise<void>, why?: string | false): void {
  Deno.test({ ...unless(NO_CPU || why, name), fn });
}

/** Registers a test of the CUDA library: on the emulator, or on a GPU. */
export function testOnDevice(name: string, work: (device: DeviceWay) => void | Promise<void>): void {
  Deno.test({ ...unless(NO_DEVICE, name), fn: async () => await work(await openDevice()) });
}

/** Each of two threads that race comes first in one of these. A GPU takes its own order, as many times. */
const FAST_ORDERS: readonly ThreadOrder[] = ["ascending", "descending"];
/** The interpreter of PTX finds races in any order: one does, and a random one in the slow tier. */
const PTX_ORDERS: readonly ThreadOrder[] = RUNS_SLOW ? ["ascending", "shuffled"] : ["ascending"];

/** Orders of threads that tests go through: those that `TOKENFILTER_TEST_ORDERS` names, as sanitizers do. */
export const ORDERS = INTERPRETS_PTX ? PTX_ORDERS : readOrders(Deno.env.get("TOKENFILTER_TEST_ORDERS"));

/**
 * Orders of threads by name; by default two of them, and all in the slow tier.
 *
 * @throws {RangeError} If a name is no order of threads.
 */
export function readOrders(names: string | undefined, slow = RUNS_SLOW): readonly ThreadOrder[] {
  if (!names) return slow ? THREAD_ORDERS : FAST_ORDERS;
  return names.split(",").map((name) => {
    const order = THREAD_ORDERS.find((known) => known === name);
    if (order !== undefined) return order;
    throw new RangeError(
      `Cannot test in TOKENFILTER_TEST_ORDERS "${names}": expected some of ${THREAD_ORDERS.join(", ")}`,
    );
  });
}

/** The same once for every one of {@linkcode ORDERS} (a GPU: as many times). @param count Times that `work` counts, of all. */
export function testInEveryOrder(name: string, count: number, work: (device: DeviceWay) => number): void {
  Deno.test({
    ...unless(NO_DEVICE, name),
    fn: async () => {
      let runs = 0;
      for (const order of ORDERS) runs += work(await openDevice(order));
      assertEquals(runs, count / THREAD_ORDERS.length * ORDERS.length);
    },
  });
}

/** The same for work whose outputs, lists of `count` cases, are to be equal in all of them. */
export function testSameInEveryOrder(
  name: string,
  count: number,
  outputs: (device: DeviceWay) => Float32Array[][],
): void {
  let first: Float32Array[][] | undefined;
  testInEveryOrder(name, THREAD_ORDERS.length * count, (device) => {
    const found = outputs(device);
    assertEquals(found, first ??= found, device.name);
    return found.length;
  });
}

/** Registers a test for the levels of the CPU library, for the emulator, and for a GPU. */
export function testInEveryWay(name: string, work: (ways: readonly Way[]) => void): void {
  testOnCpu(`${name}, on the CPU`, async () => work(await cpuWays()));
  const onDevice = async () => work([await openDevice()]);
  Deno.test({ ...unless(testsOnGpu() ? CHOSEN : NO_DEVICE, `${name}, emulated`), fn: onDevice });
  Deno.test({ ...unless(NO_GPU, `${name}, on a GPU`), fn: onDevice });
}

/** Whether the fast tier runs a case where it takes a third of them: the golden ratio spreads them evenly. */
export const isSampled = (i: number) => RUNS_SLOW || (i + 1) * 0.6180339887498949 % 1 < 1 / 3;

/**
 * Registers tests of all cases in every way, and of the small ones in every order of threads. In the fast tier the
 * emulator runs a third of the large ones, and each small one in one order, neighbours in different ones.
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
    // The emulator runs the small ones in the test below.
    const largeAlone = ways[0]!.backend.name === "cuda" && MODE !== "cuda";
    const chosen = [...cases.entries()].filter(([, c]) => !(largeAlone && isSmall(c)));
    assertEquals(chosen.length, counts[0] - (largeAlone ? counts[1] : 0));
    for (const [i, c] of largeAlone ? chosen.filter(([i]) => isSampled(i)) : chosen) {
      const check = checkOf(c, i);
      for (const way of ways) check(way);
    }
  });
  Deno.test({
    ...unless(NO_DEVICE, `${name}, in every order of threads`),
    fn: async () => {
      const small = [...cases.entries()].filter(([, c]) => isSmall(c));
      let runs = 0;
      for (const [turn, order] of ORDERS.entries()) {
        const device = await openDevice(order);
        for (const [n, [i, c]] of small.entries()) {
          if (!RUNS_SLOW && n % ORDERS.length !== turn) continue;
          checkOf(c, i)(device);
          runs++;
        }
      }
      assertEquals(runs, counts[1] * (RUNS_SLOW ? ORDERS.length : 1));
    },
  });
}
