/** Element types of tensors: how they are named, numbered across the C ABI, and how many bytes they take. */
import { expectName } from "./errors.ts";

/** Dense element types: one number per slot. */
type DenseDType = "f32" | "f16" | "bf16" | "f64" | "i32" | "u8";

/** Element types that a KV cache may store. */
export const CACHE_DTYPES = ["f32", "f16", "bf16"] as const;
/** @internal One of {@linkcode CACHE_DTYPES}. */
export type CacheDType = typeof CACHE_DTYPES[number];

/** @internal Element types that weights may be turned into when they are loaded. */
export type WeightDType = "f32" | "bf16" | "f16" | "q8_0" | "q4_0";

export const WEIGHT_DTYPES: readonly WeightDType[] = ["f32", "bf16", "f16", "q8_0", "q4_0"];

/** Block of an element type: its number of values, and its bytes. */
export interface DTypeInfo {
  /** Number of the type in the C ABI (`TKF_DTYPE_…` in tokenfilter.h). */
  readonly code: number;
  /** Values in one block; 1 for dense types. */
  readonly blockSize: number;
  readonly blockBytes: number;
}

/** The table of element types. Codes below 100 equal GGUF's own type numbers. */
export const DTYPES = {
  f32: { code: 0, blockSize: 1, blockBytes: 4 },
  f16: { code: 1, blockSize: 1, blockBytes: 2 },
  q4_0: { code: 2, blockSize: 32, blockBytes: 18 },
  q4_1: { code: 3, blockSize: 32, blockBytes: 20 },
  q5_0: { code: 6, blockSize: 32, blockBytes: 22 },
  q5_1: { code: 7, blockSize: 32, blockBytes: 24 },
  q8_0: { code: 8, blockSize: 32, blockBytes: 34 },
  q2_k: { code: 10, blockSize: 256, blockBytes: 84 },
  q3_k: { code: 11, blockSize: 256, blockBytes: 110 },
  q4_k: { code: 12, blockSize: 256, blockBytes: 144 },
  q5_k: { code: 13, blockSize: 256, blockBytes: 176 },
  q6_k: { code: 14, blockSize: 256, blockBytes: 210 },
  iq4_nl: { code: 20, blockSize: 32, blockBytes: 18 },
  iq4_xs: { code: 23, blockSize: 256, blockBytes: 136 },
  bf16: { code: 30, blockSize: 1, blockBytes: 2 },
  mxfp4: { code: 39, blockSize: 32, blockBytes: 17 },
  i32: { code: 100, blockSize: 1, blockBytes: 4 },
  u8: { code: 101, blockSize: 1, blockBytes: 1 },
  f64: { code: 102, blockSize: 1, blockBytes: 8 },
} as const satisfies { readonly [dtype: string]: DTypeInfo };

/** @internal Every element type a tensor may have. */
export type DType = keyof typeof DTYPES;
/** Block-quantised element types, named and laid out as in GGUF. */
export type QuantDType = Exclude<DType, DenseDType>;

/**
 * Bytes that `count` consecutive values of a type take.
 *
 * @throws {RangeError} If there is no such type, or `count` is not a whole number of blocks.
 */
export function byteSize(dtype: DType, count: number): number {
  if (!Object.hasOwn(DTYPES, dtype)) expectName("dtype", dtype, Object.keys(DTYPES));
  const { blockSize, blockBytes } = DTYPES[dtype];
  if (!Number.isSafeInteger(count) || count < 0 || count % blockSize !== 0) {
    throw new RangeError(
      `Cannot size ${count} values of ${dtype}: expected a multiple of its block of ${blockSize}`,
    );
  }
  return (count / blockSize) * blockBytes;
}
