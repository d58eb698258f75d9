/** Memory of host tensors: such as grows where it is, and such as was given back and serves again. */
import { byteSize } from "../../lib/dtype.ts";
import { countOf, emptyTensor, type HostTensor } from "../../lib/tensor.ts";

/** Addresses kept free behind a tensor, as a multiple of its size: they cost no memory until they are used. */
const ROOM = 4;

/** Bytes from which on memory is kept for later tensors: below, the system has it at hand. */
const LEAST_SPARE = 2 ** 15;

/** Unused bytes that are kept at most. */
const MOST_SPARE = 2 ** 26;

/**
 * Memory of freed tensors, kept for the next ones: the system takes longer to find and clear fresh pages than most ops
 * take to fill them. The freed tensors cannot reach it any more.
 */
export class TensorMemory {
  /** By size. In the map and in each of its lists, the most recently freed memory is last. */
  readonly #fixed = new Map<number, ArrayBuffer[]>();
  /** The longest unused first. */
  readonly #growable: ArrayBuffer[] = [];
  #bytes = 0;

  get spareBytes(): number {
    return this.#bytes;
  }

  /** A tensor: zero, unless it is filled later. */
  make(dtype: HostTensor["dtype"], shape: readonly number[], filledLater = false): HostTensor {
    const bytes = byteSize(dtype, countOf(shape)),
      spare = bytes < LEAST_SPARE ? undefined : this.#takeFixed(bytes);
    if (spare !== undefined && !filledLater) new Uint8Array(spare).fill(0);
    return emptyTensor(dtype, shape, spare);
  }

  /** A tensor of `rows` rows in the memory of `tensor`, where there is room, else in other memory; new rows hold anything. */
  regrow({ dtype, shape, data }: HostTensor, rows: number): HostTensor {
    const grown = [rows, ...shape.slice(1)], bytes = byteSize(dtype, countOf(grown));
    const own = data.buffer as ArrayBuffer;
    if (own.resizable && bytes <= own.maxByteLength) {
      own.resize(bytes);
      return emptyTensor(dtype, grown, own);
    }
    const out = emptyTensor(dtype, grown, this.#takeGrowable(bytes));
    out.data.set(data.subarray(0, out.data.length) as never);
    if (own.resizable) this.giveBack(own);
    return out;
  }

  /** Takes memory back; a second time it does nothing. */
  giveBack(buffer: ArrayBuffer): void {
    const { byteLength, resizable } = buffer;
    if (buffer.detached) return;
    if (byteLength < LEAST_SPARE || byteLength > MOST_SPARE) {
      if (resizable) buffer.resize(0);
      else buffer.transfer(0);
      return;
    }
    // Both ways move it without a copy; transfer() would copy a resizable buffer.
    if (resizable) this.#growable.push(structuredClone(buffer, { transfer: [buffer] }));
    else {
      const alike = this.#fixed.get(byteLength) ?? [];
      alike.push(buffer.transfer());
      this.#fixed.delete(byteLength);
      this.#fixed.set(byteLength, alike);
    }
    this.#bytes += byteLength;
    while (this.#bytes > MOST_SPARE) this.#forget();
  }

  #takeFixed(bytes: number): ArrayBuffer | undefined {
    const alike = this.#fixed.get(bytes), buffer = alike?.pop();
    if (alike?.length === 0) this.#fixed.delete(bytes);
    if (buffer !== undefined) this.#bytes -= bytes;
    return buffer;
  }

  #takeGrowable(bytes: number): ArrayBuffer {
    const at = this.#growable.findLastIndex((buffer) =>
      buffer.maxByteLength >= bytes && 2 * buffer.byteLength >= bytes
    );
    if (at < 0) return new ArrayBuffer(bytes, { maxByteLength: ROOM * bytes });
    const [buffer] = this.#growable.splice(at, 1) as [ArrayBuffer];
    this.#bytes -= buffer.byteLength;
    buffer.resize(bytes);
    return buffer;
  }

  /** Leaves the longest unused memory to the runtime: fixed before growable, which costs more to make. */
  #forget(): void {
    const [bytes] = this.#fixed.keys();
    if (bytes !== undefined) this.#takeFixed(bytes);
    else this.#bytes -= this.#growable.shift()!.byteLength;
  }
}
