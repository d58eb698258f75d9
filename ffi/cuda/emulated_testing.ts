/**
 * The CUDA kernels on the CPU, for tests: the same sources compiled for an emulator, and "device" memory in this
 * process, on the heap, so that the address sanitizer finds accesses outside of it.
 */
import { NativeLibraryError } from "../../lib/errors.ts";
import { Scope } from "../owned.ts";
import { STATUS } from "../library/abi.ts";
import { openOps, text } from "../library/library.ts";
import { CUDA_SYMBOLS, type NativeLibrary } from "../library/symbols.ts";
import { CudaBackend } from "./backend.ts";
import { CudaContext } from "./context.ts";
import { type CopyOffsets, DeviceBuffer, DeviceGraph, type DeviceMemory, expectPiece } from "./memory.ts";

/** Orders in which the emulator gives threads their turns; the index is the number in the C ABI. */
export const THREAD_ORDERS = ["ascending", "descending", "shuffled", "interleaved", "reversed"] as const;
/** An order of {@linkcode THREAD_ORDERS}. */
export type ThreadOrder = typeof THREAD_ORDERS[number];

const EMULATOR_SYMBOLS = {
  ...CUDA_SYMBOLS,
  tkf_emulator_order: { parameters: ["i32", "u64"], result: "i32" },
  tkf_emulator_num_launches: { parameters: [], result: "u64" },
  tkf_emulator_num_threads: { parameters: [], result: "u64" },
  tkf_emulator_num_products: { parameters: [], result: "u64" },
  tkf_emulator_arch: { parameters: ["i32"], result: "i32" },
  tkf_emulator_capture_begin: { parameters: [], result: "i32" },
  tkf_emulator_capture_end: { parameters: ["buffer"], result: "i32" },
  tkf_emulator_graph_launch: { parameters: ["pointer"], result: "i32" },
  tkf_emulator_graph_destroy: { parameters: ["pointer"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;
/** An address `offset` bytes after another. */
function addressAt(address: Deno.PointerValue, offset: number): Deno.PointerValue {
  return offset === 0 || address === null ? address : Deno.UnsafePointer.offset(address, offset);
}

type EmulatorSymbols = Deno.DynamicLibrary<typeof EMULATOR_SYMBOLS>["symbols"];

const HEAP_SYMBOLS = {
  calloc: { parameters: ["usize", "usize"], result: "pointer" },
  free: { parameters: ["pointer"], result: "void" },
  memcpy: { parameters: ["pointer", "buffer", "usize"], result: "pointer" },
  memmove: { parameters: ["pointer", "pointer", "usize"], result: "pointer" },
} as const satisfies Deno.ForeignLibraryInterface;

const opened = new Map<string, NativeLibrary<typeof EMULATOR_SYMBOLS>>();
let heap: Deno.DynamicLibrary<typeof HEAP_SYMBOLS>["symbols"] | undefined;

/** The emulated library at work. */
export interface Emulated {
  /** Its functions. */
  readonly symbols: EmulatorSymbols;
  /** Its memory. */
  readonly memory: DeviceMemory;
  /** One context of it. */
  readonly context: CudaContext;
  /** A backend on it. */
  readonly backend: CudaBackend;
  /** Sets the order of threads for all launches from now on. */
  setOrder(order: ThreadOrder, seed?: bigint): void;
}

/** Opens an emulated library. @param path as `buildEmulated` gives it */
export function openEmulatedLibrary(path: string): Emulated {
  let library = opened.get(path);
  if (library === undefined) {
    const { symbols } = Deno.dlopen(path, EMULATOR_SYMBOLS);
    library = { symbols, ops: openOps(path, symbols), text };
    opened.set(path, library);
  }
  const { symbols } = library;
  heap ??= Deno.dlopen(Deno.build.os === "darwin" ? "libSystem.dylib" : "libc.so.6", HEAP_SYMBOLS).symbols;
  const memory = new HeapMemory(symbols, heap);
  const context = new CudaContext(library, memory);
  return {
    symbols,
    memory,
    context,
    backend: new CudaBackend(context, memory),
    setOrder(order, seed = 0n) {
      symbols.tkf_emulator_order(THREAD_ORDERS.indexOf(order), seed);
    },
  };
}

class HeapMemory implements DeviceMemory {
  readonly description = "emulated device";
  readonly scope = new Scope("Cannot use the emulated device: its memory was disposed", () => {});
  #recording = false;
  readonly #symbols: EmulatorSymbols;
  readonly #heap: Deno.DynamicLibrary<typeof HEAP_SYMBOLS>["symbols"];

  constructor(symbols: EmulatorSymbols, memory: Deno.DynamicLibrary<typeof HEAP_SYMBOLS>["symbols"]) {
    this.#symbols = symbols;
    this.#heap = memory;
  }

  get stream(): null {
    this.scope.expectOpen();
    return null;
  }

  alloc(bytes: number): DeviceBuffer {
    this.#refuseWhileRecording("allocate");
    this.scope.expectOpen();
    const address = bytes === 0 ? null : this.#heap.calloc(BigInt(bytes), 1n);
    if (bytes > 0 && address === null) {
      throw new RangeError(`Cannot allocate ${bytes} bytes: the heap has no more`);
    }
    const { free } = this.#heap;
    return new DeviceBuffer(address, bytes, (own) => own !== null && free(own), this.scope);
  }

  write(to: DeviceBuffer, data: ArrayBufferView, offset = 0): void {
    expectPiece(to, offset, data.byteLength);
    this.#refuseWhileRecording("write");
    const view = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
    if (view.length > 0) this.#heap.memcpy(addressAt(to.address, offset), view, BigInt(view.length));
  }

  read(from: DeviceBuffer, bytes = from.bytes, offset = 0): Uint8Array<ArrayBuffer> {
    expectPiece(from, offset, bytes);
    const out = new Uint8Array(bytes);
    this.readInto(from, out, offset);
    return out;
  }

  readInto(from: DeviceBuffer, to: ArrayBufferView, offset = 0): void {
    expectPiece(from, offset, to.byteLength);
    this.#refuseWhileRecording("read");
    const { address } = from, view = new Uint8Array(to.buffer as ArrayBuffer, to.byteOffset, to.byteLength);
    if (address !== null && view.length > 0) new Deno.UnsafePointerView(address).copyInto(view, offset);
  }

  copy(from: DeviceBuffer, to: DeviceBuffer, bytes: number, at: CopyOffsets = { from: 0, to: 0 }): void {
    expectPiece(from, at.from, bytes);
    expectPiece(to, at.to, bytes);
    if (bytes === 0) return;
    const work = this.#heap.memmove;
    work(addressAt(to.address, at.to), addressAt(from.address, at.from), BigInt(bytes));
  }

  #refuseWhileRecording(what: string): void {
    if (this.#recording) throw new Error(`Cannot ${what} device memory while work is recorded`);
  }

  synchronize(): void { // launches have run when they return
    this.scope.expectOpen();
  }

  trim(): void {} // nothing is kept

  capture(work: () => void): DeviceGraph {
    this.scope.expectOpen();
    const begun = this.#symbols.tkf_emulator_capture_begin();
    if (begun !== STATUS.ok) throw new Error(`Cannot begin a capture: found status ${begun}`);
    const out = new BigUint64Array(1);
    let status = STATUS.ok as number;
    this.#recording = true;
    try {
      work();
    } finally {
      this.#recording = false;
      status = this.#symbols.tkf_emulator_capture_end(out);
    }
    const graph = Deno.UnsafePointer.create(out[0]!);
    if (status !== STATUS.ok || graph === null) {
      throw new NativeLibraryError(
        `Cannot capture this work: found status ${status}, as of a call that waits or allocates`,
      );
    }
    return new DeviceGraph(graph, {
      launch: (handle) => {
        const launched = this.#symbols.tkf_emulator_graph_launch(handle);
        if (launched !== STATUS.ok) throw new Error(`Cannot launch a graph: found status ${launched}`);
      },
      free: (handle) => void this.#symbols.tkf_emulator_graph_destroy(handle),
      work,
    }, this.scope);
  }

  [Symbol.dispose](): void {
    this.#refuseWhileRecording("dispose");
    this.scope[Symbol.dispose]();
  }
}
