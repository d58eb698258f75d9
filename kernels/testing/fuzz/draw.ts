/** Random arguments of ops: good ones, which each op's `cases.ts` draws, and what spoils them. */
import type { Arguments, Layout } from "../../../ffi/library/abi.ts";
import { byteSize, type DType, DTYPES } from "../../../lib/dtype.ts";

/** Good arguments of ops by name, drawn anew by each call. */
export type Calls = { readonly [op: string]: (d: Draw) => Arguments };

export const FLOATS: readonly DType[] = ["f32", "f16", "bf16"];
export const WEIGHTS = (Object.keys(DTYPES) as DType[]).filter((dtype) => DTYPES[dtype].code < 100);

/** Sizes that no buffer holds. */
const HOSTILE_SIZES = [-1n, -(2n ** 63n), 2n ** 31n - 1n, 2n ** 31n, 2n ** 32n, 2n ** 62n, 2n ** 63n - 1n];
/** Whole numbers of 32 bits that few fields take. */
const HOSTILE_INTS = [-1, -(2 ** 31), 2 ** 31 - 1, 65537, 99, 0, 1];
/** Numbers that few options take. */
const HOSTILE_NUMBERS = [NaN, Infinity, -Infinity, -1, 0.5, 1e300, 2 ** 53];
/** Bytes before and behind a buffer. */
const GUARD = 64;

/** What one call is drawn from: numbers that follow from a seed, and buffers that remember their guards. */
export class Draw {
  readonly #guarded: { bytes: Uint8Array; length: number }[] = [];
  /** Sizes are at least so large, so that no buffer is empty. */
  readonly #least: number;
  /** Whether contents may be odd: indices out of range, numbers that are not finite. */
  readonly #odd: boolean;
  #state: number;

  constructor(seed: number, { least = 0, odd = true }: { least?: number; odd?: boolean } = {}) {
    this.#state = Math.imul(seed, 0x9E3779B1) >>> 0;
    this.#least = least;
    this.#odd = odd;
  }

  /** In [0, end). */
  below(end: number): number {
    this.#state = (this.#state + 0x6D2B79F5) >>> 0;
    let z = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return Math.floor(((z ^ (z >>> 14)) >>> 0) / 2 ** 32 * end);
  }
  /** In [least, most]. */
  from(least: number, most: number): number {
    return least + this.below(most - least + 1);
  }
  once(times: number): boolean {
    return this.below(times) === 0;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
  /** A size below `end`. */
  size(end: number, least = this.#least): number {
    return least + this.below(Math.max(end - least, 1));
  }
  /** A number of columns in whole blocks of an element type. */
  columns(dtype: DType): number {
    const { blockSize } = DTYPES[dtype];
    return blockSize === 1 ? this.size(70) : blockSize * this.size(4, Math.min(this.#least, 1));
  }

  #strange(times: number): boolean {
    return this.#odd && this.once(times);
  }
  floats(count: number): Float32Array<ArrayBuffer> {
    const scale = this.pick([1, 1, 1e-30, 1e30]), odd = this.#strange(6);
    return Float32Array.from({ length: count }, () => {
      if (odd && this.once(8)) return this.pick([NaN, Infinity, -Infinity, 0, 1e-45]);
      return (this.below(2001) / 1000 - 1) * scale;
    });
  }
  doubles(count: number): Float64Array<ArrayBuffer> {
    const odd = this.#strange(20);
    return Float64Array.from(
      { length: count },
      () => odd && this.once(8) ? this.pick(HOSTILE_NUMBERS) : this.below(2001) / 1000 - 1,
    );
  }
  /** Values of any weight type: random bits, but for f32; halves are finite as a rule. */
  values(dtype: DType, count: number): Float32Array | Uint16Array | Uint8Array {
    if (dtype === "f32") return this.floats(count);
    if (DTYPES[dtype].blockSize === 1) {
      const finite = this.#strange(6) ? 0xFFFF : 0xBFFF;
      return Uint16Array.from({ length: count }, () => this.below(65536) & finite);
    }
    return Uint8Array.from({ length: byteSize(dtype, count) }, () => this.below(256));
  }
  /** Room for values. */
  room(dtype: DType, count: number): Float32Array | Uint16Array {
    return dtype === "f32" ? new Float32Array(count) : new Uint16Array(count);
  }
  /** Whole numbers in [least, end), or 0 where there are none. */
  indices(count: number, end: number, least = 0): Int32Array<ArrayBuffer> {
    const odd = this.#strange(12);
    return Int32Array.from({ length: count }, () => {
      return odd && this.once(4) ? this.pick(HOSTILE_INTS) : least + this.below(Math.max(end - least, 1));
    });
  }
  /** Different whole numbers in [0, end), mostly. */
  places(count: number, end: number): Int32Array<ArrayBuffer> {
    if (this.#strange(12)) return this.indices(count, end);
    const all = Array.from({ length: end }, (_, i) => i);
    return Int32Array.from({ length: count }, () => all.splice(this.below(all.length), 1)[0] ?? end);
  }
  /** Positions that ascend, mostly. */
  positions(count: number): Int32Array<ArrayBuffer> {
    const list = this.indices(count, 2 * count + 4);
    return this.#strange(20) ? list : list.toSorted();
  }
  /** A list of kept rows and its length, or neither. */
  kept(rows: number): { kept: Int32Array | null; kept_count: Int32Array | null } {
    if (!this.#odd || this.once(2)) return { kept: null, kept_count: null };
    return { kept: this.places(rows, rows), kept_count: this.indices(1, rows + 1) };
  }
  /** 0 or 1. */
  flags(count: number): Uint8Array<ArrayBuffer> {
    return Uint8Array.from({ length: count }, () => this.below(2));
  }
  /** A number, seldom one that few options take. */
  odd(value: number): number {
    return this.#strange(60) ? this.pick(HOSTILE_NUMBERS) : value;
  }

  /** Puts every array of the arguments into memory whose surroundings are watched. */
  guard(args: Arguments, known: Map<ArrayBufferView, ArrayBufferView> = new Map()): Arguments {
    const guarded = Object.entries(args).map(([name, value]) => {
      if (value === null || typeof value !== "object") return [name, value];
      if (!ArrayBuffer.isView(value)) return [name, this.guard(value as Arguments, known)];
      const found = known.get(value) ?? this.#watch(value, 0);
      known.set(value, found);
      return [name, found];
    });
    return Object.fromEntries(guarded);
  }
  #watch(view: ArrayBufferView, shift: number): Uint8Array {
    const source = new Uint8Array(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength);
    if (shift === 0 && this.once(2)) return source.slice(); // its own memory, for a sanitizer to watch
    const length = source.length, bytes = new Uint8Array(2 * GUARD + length + shift).fill(0xA5);
    bytes.set(source, GUARD + shift);
    this.#guarded.push({ bytes, length: length + shift });
    return bytes.subarray(GUARD + shift, GUARD + shift + length);
  }
  /** Whether all writes were inside the buffers. */
  guardsHold(): boolean {
    return this.#guarded.every(({ bytes, length }) =>
      [...bytes.subarray(0, GUARD), ...bytes.subarray(GUARD + length)].every((byte) => byte === 0xA5)
    );
  }

  /** The arguments with one field spoiled. */
  spoil(layout: Layout, args: Arguments): Arguments {
    const { name, type } = this.pick(layout.fields), value = args[name]!;
    if (typeof type === "object") return { ...args, [name]: this.spoil(type, value as Arguments) };
    if (type !== "tkf_buffer") {
      const hostile = type === "double" ? HOSTILE_NUMBERS : type === "int32_t" ? HOSTILE_INTS : HOSTILE_SIZES;
      return { ...args, [name]: this.pick<number | bigint>(hostile) };
    }
    const bytes = ArrayBuffer.isView(value) ? value : new Uint8Array(0);
    const short = new Uint8Array(bytes.buffer, bytes.byteOffset, this.below(bytes.byteLength));
    return { ...args, [name]: this.pick([null, short.slice(), this.#watch(bytes, 1)]) };
  }
}
