/**
 * Where the tests of the CUDA kernels run: with `TOKENFILTER_TEST_DEVICE=cuda` (which `deno task test:gpu` sets) on the
 * first GPU, or with `ptx` on an interpreter of what nvcc makes of them: the same tests, with the same cases.
 */
import { ptxVariables } from "../build/ptx_testing.ts";
import type { CudaBackend } from "./backend.ts";
import type { CudaContext } from "./context.ts";
import type { DeviceMemory } from "./memory.ts";
import { openCuda } from "./open.ts";
import { unless } from "../../lib/testing.ts";

/** A device under test. */
export interface OpenDevice {
  /** The device's memory. */
  readonly memory: DeviceMemory;
  /** A context. */
  readonly context: CudaContext;
  /** A backend on it. */
  readonly backend: CudaBackend;
}

/** The device, opened once: a process needs no second stream. */
let device: Promise<OpenDevice> | undefined;

/** What tests of native code run on. */
export type TestedDevice = "cpu" | "wasm" | "cuda" | "ptx";

/**
 * What `TOKENFILTER_TEST_DEVICE` names; undefined: the CPU.
 *
 * @throws {RangeError} If it names something else.
 */
export function testedDevice(): TestedDevice | undefined {
  const name = Deno.env.get("TOKENFILTER_TEST_DEVICE") || undefined, known = ["cpu", "wasm", "cuda", "ptx"];
  if (name === undefined || known.includes(name)) return name as TestedDevice | undefined;
  throw new RangeError(
    `Cannot test on TOKENFILTER_TEST_DEVICE "${name}": expected one of ${known.join(", ")}`,
  );
}

/** Whether tests run on the interpreter: it has no times, and long runs take too long. */
export const INTERPRETS_PTX = testedDevice() === "ptx";

/** Whether the tests of the CUDA library run: on a GPU, or on the interpreter of PTX instead of one. */
export const ON_DEVICE = testedDevice() === "cuda" || INTERPRETS_PTX;

/** Why tests of a device are not run, if so. */
export const NO_DEVICE = !ON_DEVICE &&
  "needs a GPU, or nvcc: TOKENFILTER_TEST_DEVICE is neither cuda nor ptx";

/** Why tests that look into the interpreter are not run, if so. */
export const NO_PTX = !INTERPRETS_PTX && "needs the interpreter of PTX: TOKENFILTER_TEST_DEVICE is not ptx";

// This process and those that it starts open the library over the interpreter.
if (INTERPRETS_PTX && !Deno.env.get("TOKENFILTER_CUDA_LIBRARY")) {
  for (const [name, value] of Object.entries(await ptxVariables())) Deno.env.set(name, value);
}

/** The library over the interpreter, which is its driver too. */
export const ptxLibrary = (): string => Deno.env.get("TOKENFILTER_CUDA_LIBRARY")!;

const PTX_SYMBOLS = {
  tkf_ptx_order: { parameters: ["i32"], result: "void" },
  tkf_ptx_counts: { parameters: ["buffer"], result: "void" },
  tkf_ptx_held: { parameters: ["buffer"], result: "void" },
  tkf_ptx_fail_graphs: { parameters: ["i32"], result: "void" },
} as const satisfies Deno.ForeignLibraryInterface;
/** Functions of the interpreter itself. */
export const PTX = INTERPRETS_PTX ? Deno.dlopen(ptxLibrary(), PTX_SYMBOLS).symbols : undefined;

/** Orders of warps and blocks on the interpreter; the index is what `tkf_ptx_order` takes. */
const ORDERS = ["ascending", "descending", "shuffled"] as const;
/** An order of warps and blocks. */
export type ThreadOrder = typeof ORDERS[number];

/** Launches of kernels and products by wgmma of this thread so far; undefined on a GPU. */
export function ptxCounts(): { launches: number; products: number } | undefined {
  if (PTX === undefined) return undefined;
  const out = new BigUint64Array(2);
  PTX.tkf_ptx_counts(out);
  return { launches: Number(out[0]), products: Number(out[1]) };
}

/** Numbers of memory buffers and graphs, events, streams and contexts that this thread has not given back. */
export function ptxHeld(): number[] {
  const out = new Int32Array(4);
  PTX!.tkf_ptx_held(out);
  return [...out];
}

/**
 * Opens the device that tests run on.
 *
 * @param order Of warps and blocks from now on, on the interpreter; a GPU has its own.
 * @throws {NativeLibraryError} If there is none.
 */
export async function openTestDevice(order?: ThreadOrder): Promise<OpenDevice> {
  if (order !== undefined) PTX?.tkf_ptx_order(ORDERS.indexOf(order));
  return await (device ??= openDevice());
}

async function openDevice(): Promise<OpenDevice> {
  if (NO_DEVICE) throw new Error(`Cannot open a device: ${NO_DEVICE}; see testOnDevice()`);
  const backend = await openCuda({ reuse: false, build: true, wgmma: false, dependentLaunch: false });
  const context = backend["context"] as CudaContext; // private; tests may use it
  return { memory: backend.memory, context, backend };
}

/** Registers a test that gets a backend on the device of {@linkcode openTestDevice}. */
export function testOnDevice(name: string, work: (backend: CudaBackend) => void | Promise<void>): void {
  Deno.test({ ...unless(NO_DEVICE, name), fn: async () => await work((await openTestDevice()).backend) });
}

/** Registers a test that looks into the interpreter of PTX. @param why it cannot run for another reason, if so */
export function testOnPtx(name: string, fn: () => void | Promise<void>, why?: string | false): void {
  Deno.test({ ...unless(NO_PTX || why, name), fn });
}
