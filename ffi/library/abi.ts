/**
 * The C ABI of the native libraries: statuses, and ops that are called with the fields of their arguments by name. The
 * library itself describes its ops and the memory layout of their arguments (`tkf_abi_describe`).
 */
import { type DType, DTYPES } from "../../lib/dtype.ts";
import type { Tensor } from "../../lib/tensor.ts";

/** ABI version that this code is of, `TKF_ABI_VERSION`. */
export const ABI_VERSION = 9;

/** Statuses of the C ABI, `TKF_STATUS_…`. */
export const STATUS = {
  ok: 0,
  null: 1,
  dtype: 2,
  shape: 3,
  buffer: 4,
  value: 5,
  state: 6,
  memory: 7,
  unsupported: 8,
} as const;

/** The address and size of memory that is no array of this process. */
export interface Place {
  /** Its address; 0: none. */
  readonly address: number;
  readonly bytes: number;
}

/**
 * A field of an op's arguments. A number is itself, an element type its name, and a struct its fields, or null for
 * zeros. A buffer is a tensor, an array or a place, or null where it is not given.
 */
export type Argument =
  | number
  | bigint
  | boolean
  | DType
  | Tensor
  | ArrayBufferView
  | Place
  | null
  | Arguments;

/** The fields of a struct by name. All must be there, and no others. */
export interface Arguments {
  readonly [field: string]: Argument;
}

type Memory = Tensor | ArrayBufferView | Place | null;

/** Finds a tensor's memory. @throws {TypeError} If it is of another backend. */
export type Locate = (tensor: Tensor) => ArrayBufferView | Place;

export interface Field {
  readonly name: string;
  /** Its C type, or the struct that it is. */
  readonly type: Scalar | Layout;
  /** Where it begins, in bytes. */
  readonly at: number;
}
export interface Layout {
  /** Its name, or that of the op whose arguments it is. */
  readonly name: string;
  readonly fields: readonly Field[];
  readonly bytes: number;
  /** Bytes that it begins at a multiple of. */
  readonly alignment: number;
}
export type Scalar = "tkf_buffer" | "int64_t" | "uint64_t" | "double" | "int32_t";
const SIZES: Readonly<Record<Scalar, number>> = {
  tkf_buffer: 16,
  int64_t: 8,
  uint64_t: 8,
  double: 8,
  int32_t: 4,
};

/** Reads a library's description of its ops' arguments. @throws {TypeError} If it names an unknown type. */
export function parseAbi(text: string): Map<string, Layout> {
  const structs = new Map<string, Layout>(), ops = new Map<string, Layout>();
  for (const [, kind, name, body] of text.matchAll(/^(struct|op) (\w+) (.*)$/gm)) {
    const fields: Field[] = [];
    let bytes = 0, most = 1;
    for (const [, typeName, names] of body!.matchAll(/(\w+) ([\w, ]+);/g)) {
      const scalar = SIZES[typeName as Scalar] as number | undefined, struct = structs.get(typeName!);
      if (scalar === undefined && struct === undefined) {
        throw new TypeError(
          `Cannot read the ABI: found type "${typeName}" in "${name}", expected a known one`,
        );
      }
      const size = scalar ?? struct!.bytes, alignment = struct?.alignment ?? Math.min(size, 8);
      for (const field of names!.split(",")) {
        bytes = Math.ceil(bytes / alignment) * alignment;
        fields.push({ name: field.trim(), type: struct ?? typeName as Scalar, at: bytes });
        bytes += size;
      }
      most = Math.max(most, alignment);
    }
    const layout = { name: name!, fields, bytes: Math.ceil(bytes / most) * most, alignment: most };
    (kind === "op" ? ops : structs).set(name!, layout);
  }
  return ops;
}

/** Arguments of the call under way: their arrays must live as long. */
const underWay: { args: Arguments | undefined } = { args: undefined };

/** `tkf_abi_address`: the address of an array. The runtime's own function takes twenty times as long. */
type AddressOf = (array: ArrayBufferView<ArrayBuffer>) => number;
export type OpFunction = (context: Deno.PointerValue, args: Uint8Array<ArrayBuffer>, bytes: number) => number;

/** An op of an opened library. Each call writes its struct again, and the library reads it before the call returns. */
export class Op {
  readonly layout: Layout;
  readonly #function: OpFunction;
  readonly #addressOf: AddressOf;
  readonly #arraysStay: boolean;
  /**
   * Written bytes of frozen structs: a filter's spec is the same at every call, and the arrays of its state do not move.
   * A frozen struct keeps its arrays alive; their memory must not be given away.
   */
  readonly #written = new WeakMap<Arguments, Uint8Array>();
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #words: Uint32Array<ArrayBuffer>;
  readonly #doubles: Float64Array<ArrayBuffer>;

  /**
   * @param call The library's function.
   * @param addressOf The library's too.
   * @param arraysStay Whether an array of fixed size has the same address at every call.
   */
  constructor(layout: Layout, call: OpFunction, addressOf: AddressOf, arraysStay = true) {
    const memory = new ArrayBuffer(Math.ceil(layout.bytes / 8) * 8);
    this.layout = layout;
    this.#function = call;
    this.#addressOf = addressOf;
    this.#arraysStay = arraysStay;
    this.#bytes = new Uint8Array(memory);
    this.#words = new Uint32Array(memory);
    this.#doubles = new Float64Array(memory);
  }

  /**
   * Makes a call.
   *
   * @returns Its status.
   * @throws {TypeError} If a field is missing, unknown, or of another type.
   * @throws {RangeError} If a whole number is none, or has more bits than its field.
   */
  call(context: Deno.PointerValue, args: Arguments, locate: Locate): number {
    underWay.args = args;
    this.#write(this.layout, args, 0, locate);
    const status = this.#function(context, this.#bytes, this.layout.bytes);
    underWay.args = undefined;
    return status;
  }

  #write(layout: Layout, args: Arguments, base: number, locate: Locate): void {
    const known = this.#written.get(args);
    if (known !== undefined) return this.#bytes.set(known, base);
    const { fields } = layout;
    let given = 0;
    for (const _ in args) given++;
    if (given !== fields.length) this.#refuse(layout, args);
    for (let i = 0; i < fields.length; i++) {
      const { name, type, at } = fields[i]!, value = args[name], word = (base + at) >> 2;
      if (value === undefined) this.#refuse(layout, args);
      if (type === "tkf_buffer") this.#writeBuffer(word, value as Memory, locate);
      else if (type === "double") this.#doubles[word >> 1] = value as number;
      else if (typeof type === "string") this.#writeInteger(word, value as number, name, type);
      else if (value !== null) this.#write(type, value as Arguments, base + at, locate);
      else this.#bytes.fill(0, base + at, base + at + type.bytes);
    }
    if (Object.isFrozen(args) && fields.every(({ name, type }) => this.#staysPut(type, args[name]!))) {
      this.#written.set(args, this.#bytes.slice(base, base + layout.bytes));
    }
  }

  /** Whether a field's bytes are the same at every call: a number's, those of an array of fixed size or of none. */
  #staysPut(type: Field["type"], value: Argument): boolean {
    if (type !== "tkf_buffer") return typeof type === "string";
    if (value === null) return true;
    return this.#arraysStay && ArrayBuffer.isView(value) && (value.buffer as ArrayBuffer).resizable === false;
  }

  #writeBuffer(word: number, memory: Memory, locate: Locate): void {
    if (memory !== null && "shape" in memory) memory = locate(memory);
    let address = 0, bytes = 0;
    if (ArrayBuffer.isView(memory)) {
      bytes = memory.byteLength;
      // A small array is in the runtime's own heap until its buffer is asked for, and moves then.
      if (memory.buffer.byteLength > 0) address = this.#addressOf(memory as ArrayBufferView<ArrayBuffer>);
    } else if (memory !== null) {
      ({ address, bytes } = memory);
    }
    const words = this.#words;
    words[word] = address;
    words[word + 1] = address / 2 ** 32;
    words[word + 2] = bytes;
    words[word + 3] = bytes / 2 ** 32;
  }

  #writeInteger(word: number, value: number | bigint | boolean | DType, name: string, type: Scalar): void {
    const words = this.#words;
    if (typeof value === "bigint") {
      words[word] = Number(BigInt.asUintN(32, value));
      words[word + 1] = Number(BigInt.asUintN(32, value >> 32n));
      return;
    }
    const number = typeof value === "string" ? DTYPES[value].code : Number(value), wide = type !== "int32_t";
    if (wide ? !Number.isSafeInteger(number) : (number | 0) !== number) {
      throw new RangeError(
        `Cannot pass ${name} to ${this.layout.name}: found ${value}, ` +
          `expected a whole number of ${wide ? 64 : 32} bits`,
      );
    }
    words[word] = number;
    if (wide) words[word + 1] = Math.floor(number / 2 ** 32);
  }

  #refuse(layout: Layout, args: Arguments): never {
    const names = layout.fields.map(({ name }) => name);
    throw new TypeError(
      `Cannot call ${this.layout.name}: found fields ${Object.keys(args)}, expected ${names}`,
    );
  }
}
