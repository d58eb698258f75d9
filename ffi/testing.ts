/** What tests of the ABI share: the headers' declarations, and what random calls draw their arguments from. */
import { byteSize, type DType, DTYPES } from "../lib/dtype.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** C declarations of all functions that a header exports: result and parameters by name, single-spaced. */
export function prototypes(header: string): Map<string, { result: string; parameters: string[] }> {
  const plain = header.replaceAll(/\/\*[^]*?\*\//g, "");
  const found = new Map<string, { result: string; parameters: string[] }>();
  for (const [, result, name, list] of plain.matchAll(/TKF_API\s+([\w\s*]+?)\s*(tkf_\w+)\(([^)]*)\);/g)) {
    const parameters = list!.trim() === "void"
      ? []
      : list!.split(",").map((p) => p.trim().replaceAll(/\s+/g, " "));
    found.set(name!, { result: result!.trim(), parameters });
  }
  return found;
}

/** Sizes that nobody should believe. */
export const HOSTILE_SIZES = [
  -1n,
  -(2n ** 63n),
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n,
  2n ** 62n,
  2n ** 63n - 1n,
];
/** Whole numbers of 32 bits that nobody should believe. */
export const HOSTILE_INTS = [-1, -(2 ** 31), 2 ** 31 - 1, 65537, 0];
/** Numbers that few options take. */
export const HOSTILE_NUMBERS = [NaN, Infinity, -Infinity, -1, 0.5, 1e300, 2 ** 53];
const GUARD = 64;

/** What one call is drawn from: numbers that follow from a seed, and buffers that remember their guards. */
export class Draw {
  readonly #guarded: { bytes: Bytes; length: number }[] = [];
  #state: number;

  constructor(seed: number) {
    this.#state = Math.imul(seed, 0x9E3779B1) >>> 0;
  }

  /** In [0, end). */
  below(end: number): number {
    this.#state = (this.#state + 0x6D2B79F5) >>> 0;
    let z = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return Math.floor(((z ^ (z >>> 14)) >>> 0) / 2 ** 32 * end);
  }
  once(times: number): boolean {
    return this.below(times) === 0;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  /** A size below `end`, mostly; `real` is what buffers are made for, `told` what the call says. */
  size(end: number, least = 0): { real: number; told: number | bigint } {
    const real = least + this.below(end - least);
    return { real, told: this.once(60) ? this.pick(HOSTILE_SIZES) : real };
  }
  dtype(list: readonly DType[]): { dtype: DType; code: number } {
    const dtype = this.pick(list);
    return { dtype, code: this.once(60) ? this.pick([-1, 4, 99, 102, 2 ** 31 - 1]) : DTYPES[dtype].code };
  }
  /** A number of an option, mostly the given one. */
  option(good: number): number {
    return this.once(60) ? this.pick(HOSTILE_NUMBERS) : good;
  }

  /** A buffer that holds `content`, mostly, and its length in bytes; NULL, short or misaligned else. */
  buffer(content: ArrayBufferView): [BufferSource | null, number] {
    const source = new Uint8Array(content.buffer as ArrayBuffer, content.byteOffset, content.byteLength);
    if (this.once(90)) return [null, source.length];
    if (source.length === 0) return this.once(2) ? [null, 0] : [new Uint8Array(0), 0];
    const length = this.once(90) ? this.below(source.length) : source.length;
    const shift = this.once(90) ? 1 : 0;
    if (shift === 0 && this.once(2)) { // its own memory, so that a sanitizer sees a step outside
      const own = new Uint8Array(new ArrayBuffer(length));
      own.set(source.subarray(0, length));
      return [own, length];
    }
    const bytes = new Uint8Array(2 * GUARD + length + shift).fill(0xA5);
    bytes.set(source.subarray(0, length), GUARD + shift);
    this.#guarded.push({ bytes, length: length + shift });
    return [bytes.subarray(GUARD + shift, GUARD + shift + length), length];
  }
  /** Whether nobody wrote outside the buffers. */
  guardsHold(): boolean {
    return this.#guarded.every(({ bytes, length }) =>
      [...bytes.subarray(0, GUARD), ...bytes.subarray(GUARD + length)].every((byte) => byte === 0xA5)
    );
  }

  floats(count: number): Float32Array<ArrayBuffer> {
    const scale = this.pick([1, 1, 1e-30, 1e30]), odd = this.once(6);
    return Float32Array.from({ length: count }, () => {
      if (odd && this.once(8)) return this.pick([NaN, Infinity, -Infinity, 0, 1e-45]);
      return (this.below(2001) / 1000 - 1) * scale;
    });
  }
  doubles(count: number, odd = this.once(20)): Float64Array<ArrayBuffer> {
    return Float64Array.from(
      { length: count },
      () => odd && this.once(8) ? this.pick(HOSTILE_NUMBERS) : this.below(2001) / 1000 - 1,
    );
  }
  bytes(count: number): Bytes {
    return Uint8Array.from({ length: count }, () => this.below(256));
  }
  /** Values of any weight type: random bits, but for f32; halves are finite as a rule. */
  values(dtype: DType, count: number): ArrayBufferView {
    const { blockSize } = DTYPES[dtype];
    if (dtype === "f32") return this.floats(count);
    const bytes = this.bytes(byteSize(dtype, Math.floor(count / blockSize) * blockSize));
    if (blockSize === 1 && !this.once(6)) { for (let i = 1; i < bytes.length; i += 2) bytes[i]! &= 0xBF; }
    return bytes;
  }
  /** Whole numbers in [0, end), mostly. */
  indices(count: number, end: number): Int32Array<ArrayBuffer> {
    const odd = this.once(12);
    return Int32Array.from(
      { length: count },
      () => odd && this.once(4) ? this.pick(HOSTILE_INTS) : this.below(end),
    );
  }
  /** Different whole numbers in [0, end). */
  places(count: number, end: number): Int32Array<ArrayBuffer> {
    const all = Array.from({ length: end }, (_, i) => i);
    return Int32Array.from({ length: count }, () => all.splice(this.below(all.length), 1)[0] ?? end);
  }
  positions(count: number): Int32Array<ArrayBuffer> {
    const list = this.indices(count, 2 * count + 4);
    return this.once(20) ? list : list.toSorted();
  }
}
