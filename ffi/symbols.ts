/**
 * The C ABI as `Deno.dlopen` wants it. Every parameter carries its C declaration; `symbols_test.ts` reads
 * `tokenfilter.h` and fails when the two part.
 */

/** ABI version these declarations are of, `TKF_ABI_VERSION`. */
export const ABI_VERSION = 1;

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

/** All exported functions. */
export const SYMBOLS = {
  tkf_abi_version: {
    parameters: [],
    result: "i32", // int32_t
  },
  tkf_context_create: {
    parameters: [
      "i32", // int32_t threads
      "i32", // int32_t level
      "buffer", // tkf_context** out
    ],
    result: "i32", // int32_t
  },
  tkf_context_destroy: {
    parameters: [
      "pointer", // tkf_context* context
    ],
    result: "i32", // int32_t
  },
  tkf_context_message: {
    parameters: [
      "pointer", // tkf_context* context
    ],
    result: "pointer", // const char*
  },
  tkf_context_description: {
    parameters: [
      "pointer", // tkf_context* context
    ],
    result: "pointer", // const char*
  },
  tkf_context_best_level: {
    parameters: [],
    result: "i32", // int32_t
  },
  tkf_blas_load: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // const char* path
    ],
    result: "i32", // int32_t
  },
  tkf_machine_measure: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // double* out
      "u64", // uint64_t out_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_tensor_dequantize: {
    parameters: [
      "pointer", // tkf_context* context
      "i32", // int32_t dtype
      "buffer", // const void* values
      "u64", // uint64_t values_bytes
      "i64", // int64_t count
      "buffer", // float* out
      "u64", // uint64_t out_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_embedding_gather: {
    parameters: [
      "pointer", // tkf_context* context
      "i32", // int32_t dtype
      "buffer", // const void* table
      "u64", // uint64_t table_bytes
      "i64", // int64_t vocab
      "i64", // int64_t cols
      "buffer", // const int32_t* ids
      "u64", // uint64_t ids_bytes
      "i64", // int64_t rows
      "buffer", // float* out
      "u64", // uint64_t out_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_rms_norm_apply: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // const float* x
      "u64", // uint64_t x_bytes
      "buffer", // const float* weight
      "u64", // uint64_t weight_bytes
      "f64", // double eps
      "i64", // int64_t rows
      "i64", // int64_t cols
      "buffer", // float* out
      "u64", // uint64_t out_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_linear_apply: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // const float* x
      "u64", // uint64_t x_bytes
      "i32", // int32_t dtype
      "buffer", // const void* weight
      "u64", // uint64_t weight_bytes
      "i64", // int64_t rows
      "i64", // int64_t n
      "i64", // int64_t k
      "buffer", // float* out
      "u64", // uint64_t out_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_rope_apply: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // float* x
      "u64", // uint64_t x_bytes
      "buffer", // const int32_t* positions
      "u64", // uint64_t positions_bytes
      "f64", // double theta
      "i64", // int64_t rows
      "i64", // int64_t heads
      "i64", // int64_t head_dim
    ],
    result: "i32", // int32_t
  },
  tkf_swiglu_apply: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // const float* gate
      "u64", // uint64_t gate_bytes
      "buffer", // const float* up
      "u64", // uint64_t up_bytes
      "i64", // int64_t count
      "buffer", // float* out
      "u64", // uint64_t out_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_rows_gather: {
    parameters: [
      "pointer", // tkf_context* context
      "i32", // int32_t dtype
      "buffer", // const void* x
      "u64", // uint64_t x_bytes
      "i64", // int64_t x_rows
      "i64", // int64_t cols
      "buffer", // const int32_t* indices
      "u64", // uint64_t indices_bytes
      "i64", // int64_t rows
      "i32", // int32_t out_dtype
      "buffer", // void* out
      "u64", // uint64_t out_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_rows_scatter_add: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // float* x
      "u64", // uint64_t x_bytes
      "i64", // int64_t x_rows
      "i64", // int64_t cols
      "buffer", // const int32_t* indices
      "u64", // uint64_t indices_bytes
      "i64", // int64_t rows
      "buffer", // const float* delta
      "u64", // uint64_t delta_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_rows_store: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // const float* x
      "u64", // uint64_t x_bytes
      "i64", // int64_t rows
      "i64", // int64_t cols
      "i32", // int32_t out_dtype
      "buffer", // void* out
      "u64", // uint64_t out_bytes
      "i64", // int64_t at
    ],
    result: "i32", // int32_t
  },
  tkf_rows_norm: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // const float* x
      "u64", // uint64_t x_bytes
      "i64", // int64_t rows
      "i64", // int64_t cols
      "buffer", // double* out
      "u64", // uint64_t out_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_nll_compute: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // const float* logits
      "u64", // uint64_t logits_bytes
      "buffer", // const int32_t* targets
      "u64", // uint64_t targets_bytes
      "i64", // int64_t rows
      "i64", // int64_t vocab
      "buffer", // double* nll
      "u64", // uint64_t nll_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_logits_compare: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // const float* base
      "u64", // uint64_t base_bytes
      "buffer", // const float* other
      "u64", // uint64_t other_bytes
      "buffer", // const int32_t* targets
      "u64", // uint64_t targets_bytes
      "i64", // int64_t rows
      "i64", // int64_t vocab
      "buffer", // double* nll
      "u64", // uint64_t nll_bytes
      "buffer", // double* base_nll
      "u64", // uint64_t base_nll_bytes
      "buffer", // double* kl
      "u64", // uint64_t kl_bytes
      "buffer", // uint8_t* agree
      "u64", // uint64_t agree_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_attention_filtered: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // const tkf_attention_shape* shape
      "u64", // uint64_t shape_bytes
      "buffer", // const float* queries
      "u64", // uint64_t queries_bytes
      "buffer", // const int32_t* query_positions
      "u64", // uint64_t query_positions_bytes
      "buffer", // const void* keys
      "u64", // uint64_t keys_bytes
      "buffer", // const void* values
      "u64", // uint64_t values_bytes
      "buffer", // const int32_t* key_positions
      "u64", // uint64_t key_positions_bytes
      "buffer", // const void* recent_keys
      "u64", // uint64_t recent_keys_bytes
      "buffer", // const void* recent_values
      "u64", // uint64_t recent_values_bytes
      "buffer", // const int32_t* recent_positions
      "u64", // uint64_t recent_positions_bytes
      "buffer", // float* out
      "u64", // uint64_t out_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_filter_scan: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // const tkf_filter_spec* spec
      "u64", // uint64_t spec_bytes
      "buffer", // float* anchor_k
      "u64", // uint64_t anchor_k_bytes
      "buffer", // float* anchor_v
      "u64", // uint64_t anchor_v_bytes
      "buffer", // double* numbers
      "u64", // uint64_t numbers_bytes
      "buffer", // double* scores
      "u64", // uint64_t scores_bytes
      "buffer", // double* learned
      "u64", // uint64_t learned_bytes
      "i32", // int32_t kv_dtype
      "buffer", // const void* keys
      "u64", // uint64_t keys_bytes
      "buffer", // const void* values
      "u64", // uint64_t values_bytes
      "buffer", // const float* residual
      "u64", // uint64_t residual_bytes
      "buffer", // const float* normed
      "u64", // uint64_t normed_bytes
      "buffer", // const float* queries
      "u64", // uint64_t queries_bytes
      "i64", // int64_t count
      "buffer", // uint8_t* keep
      "u64", // uint64_t keep_bytes
      "buffer", // double* columns
      "u64", // uint64_t columns_bytes
      "buffer", // int64_t* taken
      "u64", // uint64_t taken_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_filter_observe: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // const tkf_filter_spec* spec
      "u64", // uint64_t spec_bytes
      "buffer", // double* numbers
      "u64", // uint64_t numbers_bytes
      "buffer", // double* scores
      "u64", // uint64_t scores_bytes
      "buffer", // double* learned
      "u64", // uint64_t learned_bytes
      "buffer", // const double* y
      "u64", // uint64_t y_bytes
      "i64", // int64_t count
    ],
    result: "i32", // int32_t
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** Where a buffer lies: memory of this process, or an address in a device's memory. */
export type Address = BufferSource | Deno.PointerValue;
/** A buffer as it crosses the ABI: where it lies, and its bytes. */
export type Buffer = readonly [address: Address, bytes: number];

/**
 * A function whose 64-bit parameters also take safe numbers, as `Deno.dlopen` does at run time, and whose buffers may
 * lie on a device (in the CUDA library).
 */
export type Callable<F> = F extends (...args: infer A) => infer R
  ? (...args: { [K in keyof A]: Parameter<A[K]> }) => R
  : never;
/** One parameter of a {@linkcode Callable}. */
export type Parameter<T> = bigint extends T ? number | bigint
  : [BufferSource | null] extends [T] ? Address
  : T;

/** The opened library's functions. */
export type Symbols = {
  [Name in keyof typeof SYMBOLS]: Callable<Deno.DynamicLibrary<typeof SYMBOLS>["symbols"][Name]>;
};

/**
 * Writes whole numbers as consecutive `int32_t` of a struct.
 *
 * @throws {RangeError} If one is no whole number of 32 bits, which would wrap around to another.
 */
export function setInts(view: DataView, offset: number, fields: { readonly [name: string]: number }): void {
  Object.entries(fields).forEach(([name, value], i) => {
    if ((value | 0) !== value) {
      throw new RangeError(
        `Cannot pass ${name} to a kernel: found ${value}, expected a whole number of 32 bits`,
      );
    }
    view.setInt32(offset + 4 * i, value, true);
  });
}
