/** Linear memory of a WebAssembly instance: tensors in it, and arrays of the caller's that visit it for a call. */
import { byteSize, type DType } from "../../lib/dtype.ts";
import { NativeLibraryError } from "../../lib/errors.ts";
import {
  countOf,
  emptyTensor,
  hostData,
  type HostTensor,
  type Tensor,
  type TensorData,
} from "../../lib/tensor.ts";

const PAGE = 2 ** 16, ALIGNMENT = 64;

/** Pages that the library has at once, for its data and its stack: the module asks for as many. */
const FIRST_PAGES = 32;

/** Least and most bytes of a memory: 32-bit addresses reach a page less than 4 GiB. */
export const LEAST_BYTES = FIRST_PAGES * PAGE, MOST_BYTES = 2 ** 32 - PAGE;

type Memory = WebAssembly.Memory & { toResizableBuffer?(): ArrayBuffer };

/**
 * Most bytes of a memory by default. Where views are lost as it grows it has its final size at once, which takes no
 * memory of the machine before it is used, but on some systems counts as taken.
 */
export const DEFAULT_BYTES = "toResizableBuffer" in WebAssembly.Memory.prototype ? MOST_BYTES : 2 ** 30;

/** Memory of at most so many bytes, which threads may share. @throws {NativeLibraryError} If the engine refuses. */
export function createMemory(bytes: number, shared: boolean): Memory {
  try {
    return new WebAssembly.Memory({ initial: FIRST_PAGES, maximum: Math.floor(bytes / PAGE), shared });
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new NativeLibraryError(
      `Cannot take ${bytes} bytes for WebAssembly: ${error.message}; expected less: openWasm({ memory })`,
      { cause: error },
    );
  }
}

/** The allocator of the library. */
interface Allocator {
  /** Memory, as `aligned_alloc` gives it. */
  allocate(alignment: number, bytes: number): number;
  free(address: number): void;
}

/** Where a tensor lies; its address is 0 once it was freed. */
interface Place {
  address: number;
  readonly bytes: number;
}

/** A tensor in linear memory. Views of it carry `owner` on: the memory is freed with the last of them. */
interface LinearTensor extends HostTensor {
  readonly owner: { readonly place: Place };
}

export class LinearMemory {
  readonly buffer: ArrayBuffer;
  readonly #allocator: Allocator;
  readonly #limit: number;
  /** Copies of the caller's buffers, by those, while a call is under way. */
  readonly #guests = new Map<ArrayBufferLike, number>();
  readonly #abandoned = new FinalizationRegistry<Place>((place) => this.#release(place));
  #bytesInUse = 0;

  /** @param limit Its most bytes. */
  constructor(memory: Memory, allocator: Allocator, limit: number) {
    this.#allocator = allocator;
    this.#limit = limit;
    if (memory.toResizableBuffer === undefined) takeAll(memory, allocator);
    this.buffer = memory.toResizableBuffer?.() ?? memory.buffer as ArrayBuffer;
  }

  /** Bytes of the tensors. */
  get bytesInUse(): number {
    return this.#bytesInUse;
  }

  /** The text at an address; empty at 0. */
  text(address: number): string {
    if (address === 0) return "";
    const bytes = new Uint8Array(this.buffer, address);
    return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)));
  }

  /** An address with room for so many bytes. @throws {RangeError} If there is none. */
  take(bytes: number): number {
    const rounded = Math.max(1, Math.ceil(bytes / ALIGNMENT)) * ALIGNMENT;
    const address = rounded > this.#limit ? 0 : this.#allocator.allocate(ALIGNMENT, rounded) >>> 0;
    if (address !== 0) return address;
    throw new RangeError(
      `Cannot allocate ${bytes} bytes in WebAssembly: found ${this.#bytesInUse} in use of ${this.#limit}; expected room: ` +
        "a smaller model, or openWasm({ memory }) with up to 4 GiB",
    );
  }

  /** A tensor: zero, unless it is filled later. @throws {RangeError} If there is no room. */
  alloc(dtype: DType, shape: readonly number[], filledLater = false): LinearTensor {
    const bytes = byteSize(dtype, countOf(shape)), address = this.take(bytes);
    const place = { address, bytes }, owner = { place };
    this.#bytesInUse += bytes;
    this.#abandoned.register(owner, place, owner);
    const Values = emptyTensor(dtype, [0]).data.constructor as {
      readonly BYTES_PER_ELEMENT: number;
      new (buffer: ArrayBuffer, at: number, length: number): TensorData;
    };
    const data = new Values(this.buffer, address, bytes / Values.BYTES_PER_ELEMENT);
    if (!filledLater) data.fill(0);
    return { dtype, shape, data, owner };
  }

  /** A tensor in linear memory: the one given, or a copy. */
  upload(tensor: HostTensor): HostTensor {
    if (tensor.data.buffer === this.buffer) return tensor;
    const out = this.alloc(tensor.dtype, tensor.shape, true);
    out.data.set(tensor.data);
    return out;
  }

  /** The values in memory of the caller's. */
  read(tensor: Tensor): HostTensor {
    const { dtype, shape } = tensor, data = hostData(tensor);
    if ((tensor as Partial<LinearTensor>).owner?.place.address === 0) {
      throw new Error(`Cannot read a tensor of shape [${shape}]: it was freed`);
    }
    return { dtype, shape, data: data.buffer === this.buffer ? data.slice() : data };
  }

  /** Frees a tensor, and with it all views of it. Once more does nothing, nor does a tensor that lies elsewhere. */
  free(tensor: Tensor): void {
    const { owner } = tensor as Partial<LinearTensor>;
    if (owner === undefined) return;
    this.#abandoned.unregister(owner);
    this.#release(owner.place);
  }

  #release(place: Place): void {
    if (place.address === 0) return;
    this.#allocator.free(place.address);
    this.#bytesInUse -= place.bytes;
    place.address = 0;
  }

  /** The address of an array during {@linkcode visit}: where it lies, or that of a copy. */
  readonly addressOf = ({ buffer, byteOffset }: ArrayBufferView): number => {
    if (buffer === this.buffer) return byteOffset;
    let guest = this.#guests.get(buffer);
    if (guest === undefined) {
      guest = this.take(buffer.byteLength);
      this.#guests.set(buffer, guest);
      new Uint8Array(this.buffer, guest).set(new Uint8Array(buffer));
    }
    return guest + byteOffset;
  };

  /** Makes a call; at its end, arrays of the caller's get what is in their copies. */
  visit<T>(call: () => T): T {
    try {
      return call();
    } finally {
      for (const [buffer, guest] of this.#guests) {
        new Uint8Array(buffer).set(new Uint8Array(this.buffer, guest, buffer.byteLength));
        this.#allocator.free(guest);
      }
      this.#guests.clear();
    }
  }
}

/** Gives a memory its final size: the allocator takes all that there is, in parts that its system gives, and frees it. */
function takeAll(memory: Memory, allocator: Allocator): void {
  const taken: number[] = [];
  for (let part = 2 ** 30; part >= PAGE;) {
    const address = allocator.allocate(ALIGNMENT, part);
    if (address === 0) part /= 2;
    else taken.push(address);
  }
  for (const address of taken) allocator.free(address);
  try {
    for (;;) memory.grow(1); // the pages that were too few for it
  } catch {
    // it has its final size
  }
}
