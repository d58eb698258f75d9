/**
 * Where the tests of the CUDA kernels run: on the emulator, or with `TOKENFILTER_TEST_DEVICE=cuda` (which
 * `deno task test:gpu` sets) on the first GPU, or with `ptx` on an interpreter of what nvcc makes of them: the same tests,
 * with the same cases.
 */
import { buildEmulated } from "../build/emulated_testing.ts";
import { ptxVariables } from "../build/ptx_testing.ts";
import type { CudaBackend } from "./backend.ts";
import type { CudaContext } from "./context.ts";
import { type Emulated, openEmulatedLibrary, type ThreadOrder } from "./emulated_testing.ts";
import type { DeviceMemory } from "./memory.ts";
import type { NativeLibrary } from "../library/symbols.ts";
import { openCuda } from "./open.ts";
import { unless } from "../../lib/testing.ts";

export { type Emulated, THREAD_ORDERS, type ThreadOrder } from "./emulated_testing.ts";

/** A device under test. */
export interface OpenDevice {
  /** The device's memory. */
  readonly memory: DeviceMemory;
  /** A context. */
  readonly context: CudaContext;
  /** A backend on it. */
  readonly backend: CudaBackend;
}

/** The build that this process uses: one, also where a source changes meanwhile. */
let built: ReturnType<typeof buildEmulated> | undefined;
/** The GPU, opened once: a process needs no second stream. */
let gpu: Promise<OpenDevice> | undefined;

/** What tests of native code run on. */
export type TestedDevice = "cpu" | "wasm" | "emulated" | "cuda" | "ptx";

/**
 * What `TOKENFILTER_TEST_DEVICE` names; undefined: the CPU and the emulator.
 *
 * @throws {RangeError} If it names something else.
 */
export function testedDevice(): TestedDevice | undefined {
  const name = Deno.env.get("TOKENFILTER_TEST_DEVICE") || undefined,
    known = ["cpu", "wasm", "emulated", "cuda", "ptx"];
  if (name === undefined || known.includes(name)) return name as TestedDevice | undefined;
  throw new RangeError(
    `Cannot test on TOKENFILTER_TEST_DEVICE "${name}": expected one of ${known.join(", ")}`,
  );
}

/** Why nothing runs on the emulator, if so. */
export const NO_EMULATOR = ["cpu", "wasm"].includes(testedDevice()!) &&
  `TOKENFILTER_TEST_DEVICE is ${testedDevice()}`;

/** Registers a test that needs the emulated library. @param why it cannot run for another reason, if so */
export function testEmulated(name: string, fn: () => void | Promise<void>, why?: string | false): void {
  Deno.test({ ...unless(NO_EMULATOR || why, name), fn });
}

/** Whether the tests of the CUDA library run on a GPU, or on the interpreter of PTX instead of one. */
export function testsOnGpu(): boolean {
  return testedDevice() === "cuda" || INTERPRETS_PTX;
}

/** Whether they run on the interpreter: it has no times, and long runs take too long. */
export const INTERPRETS_PTX = testedDevice() === "ptx";

/** Orders of warps and blocks on the interpreter, as `TKF_PTX_ORDER` numbers them. */
const PTX_ORDERS: { readonly [order: string]: number } = { ascending: 0, descending: 1 };
const RANDOM_ORDER = 2;

// This process and those that it starts open the library over the interpreter.
if (INTERPRETS_PTX && !Deno.env.get("TOKENFILTER_CUDA_LIBRARY")) {
  for (const [name, value] of Object.entries(await ptxVariables())) Deno.env.set(name, value);
}

/** Opens the emulated library with threads in the given order, ascending by default. */
export async function openEmulated(options: { readonly order?: ThreadOrder } = {}): Promise<Emulated> {
  if (NO_EMULATOR) throw new Error(`Cannot open the emulated library: ${NO_EMULATOR}; see testEmulated()`);
  const emulated = openEmulatedLibrary((await (built ??= buildEmulated())).path);
  emulated.setOrder(options.order ?? "ascending");
  return emulated;
}

/**
 * Opens the device that tests run on. A GPU takes threads in an order of its own, whatever is asked.
 *
 * @throws {NativeLibraryError} If tests are to run on a GPU and there is none.
 */
export async function openTestDevice(options: { readonly order?: ThreadOrder } = {}): Promise<OpenDevice> {
  if (!testsOnGpu()) return await openEmulated(options);
  const device = await (gpu ??= openGpu());
  if (INTERPRETS_PTX) orderPtx(options.order ?? "ascending");
  return device;
}

/** Sets the interpreter's order of warps and blocks from now on. */
function orderPtx(order: ThreadOrder): void {
  const { symbols } = Deno.dlopen(Deno.env.get("TOKENFILTER_CUDA_LIBRARY")!, {
    tkf_ptx_order: { parameters: ["i32"], result: "void" },
  });
  symbols.tkf_ptx_order(PTX_ORDERS[order] ?? RANDOM_ORDER);
}

async function openGpu(): Promise<OpenDevice> {
  const backend = await openCuda({ reuse: false, build: true, wgmma: false, dependentLaunch: false });
  const context = backend["context"] as CudaContext; // private; tests may use it
  return { memory: backend.memory, context, backend };
}

/** Registers a test that gets a backend on the device of {@linkcode openTestDevice}. */
export function testOnDevice(name: string, work: (backend: CudaBackend) => void | Promise<void>): void {
  testEmulated(name, async () => await work((await openTestDevice()).backend));
}

/** Kernels that the emulator has launched so far; undefined on a GPU. */
export function kernelLaunches(library: NativeLibrary): bigint | undefined {
  const { symbols } = library as unknown as { readonly symbols: Partial<Emulated["symbols"]> };
  return symbols.tkf_emulator_num_launches?.();
}

/** Products by wgmma that the emulator has made so far; undefined on a GPU. */
export function wgmmaProducts(library: NativeLibrary): bigint | undefined {
  const { symbols } = library as unknown as { readonly symbols: Partial<Emulated["symbols"]> };
  return symbols.tkf_emulator_num_products?.();
}
