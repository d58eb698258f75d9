/**
 * The CUDA library's functions as `Deno.dlopen` wants them: those of `tokenfilter.h`, whose tensors are addresses in
 * device memory here, and those of `tokenfilter_cuda.h`. `symbols_test.ts` holds them against both headers.
 */
import { type Callable, SYMBOLS, type Symbols } from "../symbols.ts";

/** The functions of `tokenfilter_cuda.h`. Structs lie in host memory ("buffer"), tensors on the device ("pointer"). */
export const CUDA_ONLY_SYMBOLS = {
  tkf_cuda_context_create: {
    parameters: [
      "pointer", // void* stream
      "buffer", // tkf_context** out
    ],
    result: "i32", // int32_t
  },
  tkf_cuda_create_message: {
    parameters: [],
    result: "pointer", // const char*
  },
  tkf_cuda_workspace_reserve: {
    parameters: [
      "pointer", // tkf_context* context
      "u64", // uint64_t bytes
    ],
    result: "i32", // int32_t
  },
  tkf_cuda_workspace_wanted: {
    parameters: [
      "pointer", // tkf_context* context
    ],
    result: "u64", // uint64_t
  },
  tkf_cuda_wgmma_use: {
    parameters: [
      "pointer", // tkf_context* context
      "i32", // int32_t use
    ],
    result: "i32", // int32_t
  },
  tkf_cuda_synchronize: {
    parameters: [
      "pointer", // tkf_context* context
    ],
    result: "i32", // int32_t
  },
  tkf_filter_signs: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // const tkf_filter_spec* spec
      "u64", // uint64_t spec_bytes
      "pointer", // float* signs
      "u64", // uint64_t signs_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_filter_step: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // const tkf_filter_spec* spec
      "u64", // uint64_t spec_bytes
      "buffer", // const tkf_filter_states* states
      "u64", // uint64_t states_bytes
      "buffer", // const tkf_kv_cache* cache
      "u64", // uint64_t cache_bytes
      "buffer", // const tkf_step_rows* rows
      "u64", // uint64_t rows_bytes
      "buffer", // const tkf_decisions* decisions
      "u64", // uint64_t decisions_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_filter_observe_batch: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // const tkf_filter_spec* spec
      "u64", // uint64_t spec_bytes
      "buffer", // const tkf_filter_states* states
      "u64", // uint64_t states_bytes
      "i32", // int32_t batch
      "buffer", // const tkf_decisions* decisions
      "u64", // uint64_t decisions_bytes
      "pointer", // const float* output
      "u64", // uint64_t output_bytes
      "pointer", // const float* residual
      "u64", // uint64_t residual_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_filter_scan_batch: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // const tkf_filter_spec* spec
      "u64", // uint64_t spec_bytes
      "buffer", // const tkf_filter_states* states
      "u64", // uint64_t states_bytes
      "buffer", // const tkf_scan_rows* rows
      "u64", // uint64_t rows_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_attention_decode: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // const tkf_kv_cache* cache
      "u64", // uint64_t cache_bytes
      "buffer", // const tkf_decode_rows* rows
      "u64", // uint64_t rows_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_attention_decode_workspace: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // const tkf_kv_cache* cache
      "u64", // uint64_t cache_bytes
      "i32", // int32_t heads
    ],
    result: "u64", // uint64_t
  },
  tkf_attention_prefill: {
    parameters: [
      "pointer", // tkf_context* context
      "buffer", // const tkf_prefill_rows* rows
      "u64", // uint64_t rows_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_linear_rows: {
    parameters: [
      "pointer", // tkf_context* context
      "pointer", // const float* x
      "u64", // uint64_t x_bytes
      "i32", // int32_t dtype
      "pointer", // const void* weight
      "u64", // uint64_t weight_bytes
      "i32", // int32_t batch
      "i64", // int64_t n
      "i64", // int64_t k
      "pointer", // const int32_t* kept
      "u64", // uint64_t kept_bytes
      "pointer", // const int32_t* kept_count
      "u64", // uint64_t kept_count_bytes
      "pointer", // float* out
      "u64", // uint64_t out_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_rows_add_kept: {
    parameters: [
      "pointer", // tkf_context* context
      "pointer", // float* x
      "u64", // uint64_t x_bytes
      "pointer", // const float* delta
      "u64", // uint64_t delta_bytes
      "i32", // int32_t batch
      "i64", // int64_t cols
      "pointer", // const int32_t* kept
      "u64", // uint64_t kept_bytes
      "pointer", // const int32_t* kept_count
      "u64", // uint64_t kept_count_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_rope_kept: {
    parameters: [
      "pointer", // tkf_context* context
      "pointer", // float* x
      "u64", // uint64_t x_bytes
      "pointer", // const int32_t* positions
      "u64", // uint64_t positions_bytes
      "f64", // double theta
      "i32", // int32_t batch
      "i64", // int64_t heads
      "i64", // int64_t head_dim
      "pointer", // const int32_t* kept
      "u64", // uint64_t kept_bytes
      "pointer", // const int32_t* kept_count
      "u64", // uint64_t kept_count_bytes
    ],
    result: "i32", // int32_t
  },
  tkf_positions_advance: {
    parameters: [
      "pointer", // tkf_context* context
      "pointer", // int32_t* positions
      "u64", // uint64_t positions_bytes
      "i32", // int32_t batch
    ],
    result: "i32", // int32_t
  },
  tkf_logits_argmax: {
    parameters: [
      "pointer", // tkf_context* context
      "pointer", // const float* logits
      "u64", // uint64_t logits_bytes
      "i64", // int64_t rows
      "i64", // int64_t vocab
      "pointer", // int32_t* ids
      "u64", // uint64_t ids_bytes
    ],
    result: "i32", // int32_t
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** Parameters of the common functions that lie in host memory in the CUDA library too, by index. */
const HOST_PARAMETERS: { readonly [name: string]: number } = {
  tkf_context_create: 2,
  tkf_blas_load: 1,
  tkf_machine_measure: 1,
  tkf_filter_scan: 1,
  tkf_filter_observe: 1,
  tkf_attention_filtered: 1,
};

/** All functions of the CUDA library. */
export const CUDA_SYMBOLS: Deno.ForeignLibraryInterface = {
  ...Object.fromEntries(
    Object.entries(SYMBOLS).map(([name, { parameters, result }]) => [name, {
      parameters: (parameters as readonly Deno.NativeType[]).map((type, i) =>
        type === "buffer" && HOST_PARAMETERS[name] !== i ? "pointer" : type
      ),
      result,
    }]),
  ),
  ...CUDA_ONLY_SYMBOLS,
};

/** The opened CUDA library's functions. */
export type CudaSymbols =
  & Symbols
  & {
    [Name in keyof typeof CUDA_ONLY_SYMBOLS]: Callable<
      Deno.DynamicLibrary<typeof CUDA_ONLY_SYMBOLS>["symbols"][Name]
    >;
  };
