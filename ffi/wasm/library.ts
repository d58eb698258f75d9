/** The CPU library as WebAssembly: the functions of the C ABI over linear memory. */
import { KernelError, NativeLibraryError } from "../../lib/errors.ts";
import { readOwnFile } from "../../lib/files.ts";
import { sha256 } from "../../lib/sha256.ts";
import { ABI_VERSION, Op, type OpFunction, parseAbi, STATUS } from "../library/abi.ts";
import { type NativeLibrary, SYMBOLS } from "../library/symbols.ts";
import { BUILT } from "./built.ts";
import { createMemory, LinearMemory } from "./memory.ts";
import { startWorker, type ThreadWorker } from "./threads.ts";

/** An instance of the library, with a memory of its own. */
export interface WasmLibrary extends NativeLibrary {
  readonly memory: LinearMemory;
  /** Starts the threads of a context, of which the calling one is the first. @throws {NativeLibraryError} If one fails. */
  startThreads(context: number, threads: number): Promise<void>;
}

/** Bytes of a thread's stack. */
const STACK_BYTES = 2 ** 18;

/** Functions that only give back what the library holds. */
const RELEASES = ["free", "tkf_context_destroy"];

type Exported = (...args: (number | bigint)[]) => number;

/**
 * Opens an instance.
 *
 * @param source The library's bytes or module; by default the file that belongs to this code.
 * @param limit The most bytes of its memory.
 * @param shared Whether threads share it: then the library is the file for several.
 * @throws {NativeLibraryError} If the file is missing or another one, or the engine cannot run it.
 */
export async function openLibrary(
  source: BufferSource | WebAssembly.Module | undefined,
  limit: number,
  shared = false,
): Promise<WasmLibrary> {
  const name = shared ? "tokenfilter_threads.wasm" : "tokenfilter.wasm", workers: ThreadWorker[] = [];
  const module = source instanceof WebAssembly.Module ? source : await compile(source ?? await readOwn(name));
  const memory = createMemory(limit, shared);
  const stop = () => workers.forEach((worker) => worker.terminate());
  const functions = await instantiate(module, memory, stop);
  functions("_initialize")();
  const found = functions("tkf_abi_version")();
  if (found !== ABI_VERSION) throw unusable(`found ABI version ${found}, expected ${ABI_VERSION}`);
  const allocator = { allocate: functions("aligned_alloc"), free: functions("free") };
  const linear = new LinearMemory(memory, allocator, limit);
  const text = (pointer: unknown) => linear.text(Number(pointer));
  const layouts = [...parseAbi(text(functions("tkf_abi_describe")())).values()];
  const room = linear.take(Math.max(...layouts.map(({ bytes }) => bytes)));
  const ops = new Map(layouts.map((layout) => {
    const own = functions(layout.name);
    const call = (context: unknown, args: Uint8Array, bytes: number) => {
      new Uint8Array(linear.buffer, room, args.length).set(args);
      return own(context as number, room, BigInt(bytes));
    };
    return [layout.name, new Op(layout, call as OpFunction, linear.addressOf, false)];
  }));
  const symbols = Object.keys(SYMBOLS).map((name) => {
    const call = (...args: (number | ArrayBufferView)[]) =>
      linear.visit(() =>
        functions(name)(...args.map((arg) => ArrayBuffer.isView(arg) ? linear.addressOf(arg) : arg))
      );
    return [name, call];
  });
  const startThreads = async (context: number, threads: number) => {
    const starts = Array.from({ length: threads - 1 }, async (_, i) => {
      const stack = linear.take(STACK_BYTES) + STACK_BYTES;
      workers.push(await startWorker({ module, memory, context, thread: i + 1, stack }));
    });
    await Promise.all(starts).catch((error) => {
      stop();
      throw new NativeLibraryError(
        `Cannot start ${threads} threads of WebAssembly: ${error.message}; expected fewer: openWasm({ threads })`,
        { cause: error },
      );
    });
  };
  return { memory: linear, symbols: Object.fromEntries(symbols), ops, text, startThreads };
}

/** The functions of a new instance, by their names. A trap in one of them is the end of all, and calls `onTrap`. */
async function instantiate(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
  onTrap: () => void,
): Promise<(name: string) => Exported> {
  const imports = { env: { memory }, wasi_snapshot_preview1: createSystem(memory) };
  const { exports } = await WebAssembly.instantiate(module, imports).catch((error) => {
    throw unusable(error.message, error);
  });
  let trapped: string | undefined;
  return (name) => {
    const own = exports[name] as Exported | undefined;
    if (own === undefined) throw unusable(`found no function ${name}`);
    return (...args) => {
      if (trapped !== undefined) {
        if (RELEASES.includes(name)) return 0; // what is lost anyway
        throw new Error(
          `Cannot use this backend: ${trapped} has trapped, most likely for lack of memory; open another`,
        );
      }
      try {
        return own(...args);
      } catch (error) {
        if (!(error instanceof WebAssembly.RuntimeError)) throw error;
        trapped = name;
        onTrap();
        const what = `found a trap (${error.message}), most likely for lack of memory`;
        throw new KernelError(
          name,
          STATUS.memory,
          `${what}; open another backend, with more: openWasm({ memory })`,
        );
      }
    };
  };
}

const unusable = (message: string, cause?: Error) =>
  new NativeLibraryError(`Cannot use this WebAssembly: ${message}; expected the file of this release`, {
    cause,
  });

async function compile(bytes: BufferSource): Promise<WebAssembly.Module> {
  try {
    return await WebAssembly.compile(bytes);
  } catch (error) {
    if (!(error instanceof WebAssembly.CompileError)) throw error;
    throw new NativeLibraryError(
      `Cannot compile this WebAssembly: ${error.message}; expected an engine with simd128, such as Node 20, Chrome 91, ` +
        "Firefox 89 or Safari 16.4",
      { cause: error },
    );
  }
}

/** The file next to this code. @throws {NativeLibraryError} If it is not there, or another one. */
async function readOwn(name: keyof typeof BUILT): Promise<Uint8Array<ArrayBuffer>> {
  const url = name === "tokenfilter.wasm"
    ? new URL("./tokenfilter.wasm", import.meta.url)
    : new URL("./tokenfilter_threads.wasm", import.meta.url);
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = await readOwnFile(url);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new NativeLibraryError(
      `Cannot read "${url}": ${error.message}; expected it next to the code, or its bytes: openWasm({ wasm })`,
      { cause: error },
    );
  }
  const found = await sha256(bytes);
  if (found !== BUILT[name]) throw unusable(`found SHA-256 ${found} of "${url}", expected ${BUILT[name]}`);
  return bytes;
}

/** The functions that the library asks of a system: a clock, and a standard output to which nothing is written. */
function createSystem(memory: WebAssembly.Memory): Record<string, (...args: never[]) => number> {
  const BAD_FILE = 8;
  return {
    clock_time_get(_clock: number, _precision: bigint, out: number): number {
      const nanoseconds = BigInt(Math.round(performance.now() * 1e6));
      new DataView(memory.buffer).setBigUint64(out, nanoseconds, true);
      return 0;
    },
    fd_close: () => BAD_FILE,
    fd_seek: () => BAD_FILE,
    fd_write: () => BAD_FILE,
  };
}
