/* tokenfilter: the whole C ABI, C99. libtokenfilter_cpu and libtokenfilter_cuda export the same functions.
 *
 * Rules: every function returns a status; 0 is success; the message of a failure belongs to the context.
 * The caller owns all memory. A buffer travels as pointer and byte length, and is checked against the shape before
 * anything is computed; a buffer of length 0 may be NULL. Tensors are row-major and contiguous.
 * Shapes stand in brackets; "f32" unless said otherwise. Nothing here exits, prints or throws.
 * A context serves one call at a time. */
#ifndef TOKENFILTER_H
#define TOKENFILTER_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TKF_API __attribute__((visibility("default")))
#else
#define TKF_API
#endif

#define TKF_ABI_VERSION 1

/* Statuses. */
#define TKF_STATUS_OK 0
#define TKF_STATUS_NULL 1        /* a pointer is NULL */
#define TKF_STATUS_DTYPE 2       /* an element type is unknown, or not allowed here */
#define TKF_STATUS_SHAPE 3       /* a size is negative, does not divide, or overflows */
#define TKF_STATUS_BUFFER 4      /* a buffer is shorter than its shape says, or misaligned */
#define TKF_STATUS_VALUE 5       /* a number is outside its range: an option, an id, a position, a target */
#define TKF_STATUS_STATE 6       /* a filter state does not allow this call now */
#define TKF_STATUS_MEMORY 7      /* an allocation failed */
#define TKF_STATUS_UNSUPPORTED 8 /* this machine or build lacks what was asked for */

/* Element types: below 100 they equal GGUF's numbers. */
#define TKF_DTYPE_F32 0
#define TKF_DTYPE_F16 1
#define TKF_DTYPE_Q4_0 2
#define TKF_DTYPE_Q4_1 3
#define TKF_DTYPE_Q5_0 6
#define TKF_DTYPE_Q5_1 7
#define TKF_DTYPE_Q8_0 8
#define TKF_DTYPE_Q4_K 12
#define TKF_DTYPE_Q6_K 14
#define TKF_DTYPE_BF16 30

/* Instruction-set levels of the CPU library; -1 asks for the best that the machine has. */
#define TKF_LEVEL_BASE 0       /* x86-64-v2, or plain arm64 */
#define TKF_LEVEL_AVX2 1       /* AVX2, FMA, F16C */
#define TKF_LEVEL_AVX512 2     /* AVX-512 F, BW, DQ, VL */
#define TKF_NUM_LEVELS 3

typedef struct tkf_context tkf_context;

/* ABI version of the library: call this first. */
TKF_API int32_t tkf_abi_version(void);

/* Makes a context with a pool of `threads` threads (the caller's included, >= 1) at an instruction-set level. */
TKF_API int32_t tkf_context_create(int32_t threads, int32_t level, tkf_context** out);
TKF_API int32_t tkf_context_destroy(tkf_context* context);
/* Message of the last failure on this context, and one line about it (level, threads, BLAS). UTF-8, owned by the
 * context, valid until the next call on it. */
TKF_API const char* tkf_context_message(tkf_context* context);
TKF_API const char* tkf_context_description(tkf_context* context);
/* Highest level this machine runs. */
TKF_API int32_t tkf_context_best_level(void);
/* Loads a BLAS (a shared library that exports cblas_sgemm, also with OpenBLAS's `scipy_` prefix) for products of
 * many rows; without one the built-in kernel serves. `path` is a NUL-terminated UTF-8 string. The CUDA library takes a
 * cuBLASLt (libcublasLt.so.13 or .12), on the device that is current. */
TKF_API int32_t tkf_blas_load(tkf_context* context, const char* path);

/* What the machine can do at this level, for rooflines: out [2] = multiply-adds of f32 on all threads in FLOP/s (each
 * counts as two), and reading memory in bytes/s (the CUDA library: copying it, bytes read and written both counted).
 * Takes about a second. */
TKF_API int32_t tkf_machine_measure(tkf_context* context, double* out, uint64_t out_bytes);

/* values [count] of any dtype -> out [count]. */
TKF_API int32_t tkf_tensor_dequantize(tkf_context* context, int32_t dtype, const void* values, uint64_t values_bytes,
                                      int64_t count, float* out, uint64_t out_bytes);
/* out [rows, cols] = table [vocab, cols] (any dtype) at ids [rows]. */
TKF_API int32_t tkf_embedding_gather(tkf_context* context, int32_t dtype, const void* table, uint64_t table_bytes,
                                     int64_t vocab, int64_t cols, const int32_t* ids, uint64_t ids_bytes, int64_t rows,
                                     float* out, uint64_t out_bytes);
/* out [rows, cols] = x / sqrt(mean(x^2) + eps) * weight [cols]; out may be x. */
TKF_API int32_t tkf_rms_norm_apply(tkf_context* context, const float* x, uint64_t x_bytes, const float* weight,
                                   uint64_t weight_bytes, double eps, int64_t rows, int64_t cols, float* out,
                                   uint64_t out_bytes);
/* out [rows, n] = x [rows, k] times the transpose of weight [n, k] (any dtype). */
TKF_API int32_t tkf_linear_apply(tkf_context* context, const float* x, uint64_t x_bytes, int32_t dtype,
                                 const void* weight, uint64_t weight_bytes, int64_t rows, int64_t n, int64_t k,
                                 float* out, uint64_t out_bytes);
/* Rotary embedding in place on adjacent pairs of x [rows, heads, head_dim], by positions [rows]. */
TKF_API int32_t tkf_rope_apply(tkf_context* context, float* x, uint64_t x_bytes, const int32_t* positions,
                               uint64_t positions_bytes, double theta, int64_t rows, int64_t heads, int64_t head_dim);
/* out = silu(gate) * up, `count` values each; out may be gate. */
TKF_API int32_t tkf_swiglu_apply(tkf_context* context, const float* gate, uint64_t gate_bytes, const float* up,
                                 uint64_t up_bytes, int64_t count, float* out, uint64_t out_bytes);
/* out [rows, cols] (out_dtype: f32, or dtype) = x [x_rows, cols] (f32, f16, bf16) at indices [rows]. */
TKF_API int32_t tkf_rows_gather(tkf_context* context, int32_t dtype, const void* x, uint64_t x_bytes, int64_t x_rows,
                                int64_t cols, const int32_t* indices, uint64_t indices_bytes, int64_t rows,
                                int32_t out_dtype, void* out, uint64_t out_bytes);
/* x [x_rows, cols] at indices [rows] (no repeats) += delta [rows, cols]. */
TKF_API int32_t tkf_rows_scatter_add(tkf_context* context, float* x, uint64_t x_bytes, int64_t x_rows, int64_t cols,
                                     const int32_t* indices, uint64_t indices_bytes, int64_t rows, const float* delta,
                                     uint64_t delta_bytes);
/* Rows [at, at + rows) of out [>= at + rows, cols] (f32, f16, bf16; round to nearest even) = x [rows, cols]. */
TKF_API int32_t tkf_rows_store(tkf_context* context, const float* x, uint64_t x_bytes, int64_t rows, int64_t cols,
                               int32_t out_dtype, void* out, uint64_t out_bytes, int64_t at);
/* out [rows] f64 = Euclidean norms of the rows of x [rows, cols], summed in double. */
TKF_API int32_t tkf_rows_norm(tkf_context* context, const float* x, uint64_t x_bytes, int64_t rows, int64_t cols,
                              double* out, uint64_t out_bytes);
/* nll [rows] f64 = -log softmax(logits [rows, vocab]) at targets [rows]. */
TKF_API int32_t tkf_nll_compute(tkf_context* context, const float* logits, uint64_t logits_bytes,
                                const int32_t* targets, uint64_t targets_bytes, int64_t rows, int64_t vocab,
                                double* nll, uint64_t nll_bytes);
/* Of two rows of logits [rows, vocab]: both losses, KL(base || other), and whether the largest entry is the same
 * (lowest index on ties). nll, base_nll, kl: [rows] f64; agree: [rows] u8. */
TKF_API int32_t tkf_logits_compare(tkf_context* context, const float* base, uint64_t base_bytes, const float* other,
                                   uint64_t other_bytes, const int32_t* targets, uint64_t targets_bytes, int64_t rows,
                                   int64_t vocab, double* nll, uint64_t nll_bytes, double* base_nll,
                                   uint64_t base_nll_bytes, double* kl, uint64_t kl_bytes, uint8_t* agree,
                                   uint64_t agree_bytes);

/* Grouped-query causal attention. queries, out [n_queries, heads, head_dim]; keys, values [>= n_keys, kv_heads,
 * head_dim] of kv_dtype (f32, f16, bf16); positions i32, ascending. A query at position i sees key j where
 * position[j] <= i, and recent row j where 0 <= i - recent_position[j] <= recent_window. It gets 0 where it sees
 * nothing. */
typedef struct tkf_attention_shape {
  int64_t n_queries, n_keys, n_recent;
  int32_t heads, kv_heads, head_dim, kv_dtype, recent_window, reserved;
  double scale;
} tkf_attention_shape;
TKF_API int32_t tkf_attention_filtered(tkf_context* context, const tkf_attention_shape* shape, uint64_t shape_bytes,
                                       const float* queries, uint64_t queries_bytes, const int32_t* query_positions,
                                       uint64_t query_positions_bytes, const void* keys, uint64_t keys_bytes,
                                       const void* values, uint64_t values_bytes, const int32_t* key_positions,
                                       uint64_t key_positions_bytes, const void* recent_keys,
                                       uint64_t recent_keys_bytes, const void* recent_values,
                                       uint64_t recent_values_bytes, const int32_t* recent_positions,
                                       uint64_t recent_positions_bytes, float* out, uint64_t out_bytes);

/* One filtered layer: numbers as in lib/filter/layer.ts (LayerSpec); enums are indices into its lists. */
typedef struct tkf_filter_spec {
  int32_t layer, kv_heads, head_dim, hidden_size;
  int32_t fusion, invert, anchor, absorb, warmup, threshold, window, chunk;
  int32_t block, projections, features, queries_size; /* queries_size: numHeads * d, 0 without queries */
  double skip_ratio, tau, lambda, eps, alpha, gamma, theta, eta, ridge;
  uint64_t seed;
} tkf_filter_spec;
#define TKF_FUSION_VARIANCE 0
#define TKF_FUSION_MEAN 1
#define TKF_FUSION_STATIC 2
#define TKF_FUSION_KEY 3
#define TKF_FUSION_VALUE 4
#define TKF_FUSION_MIN 5
#define TKF_FUSION_MAX 6
#define TKF_FUSION_PRODUCT 7
#define TKF_FUSION_RANDOM 8
#define TKF_FUSION_LEARNED 9
#define TKF_THRESHOLD_BUDGET 0
#define TKF_THRESHOLD_WINDOW 1
#define TKF_THRESHOLD_ROBBINS_MONRO 2
#define TKF_THRESHOLD_FIXED 3
#define TKF_THRESHOLD_TOPK 4
#define TKF_ANCHOR_EMA 0
#define TKF_ANCHOR_MEAN 1
#define TKF_ABSORB_ALL 0
#define TKF_ABSORB_KEPT 1

/* Its memory (LayerState): anchors [kv_heads, head_dim], numbers [TKF_NUM_SLOTS] f64, scores and learned f64, with
 * the lengths and the packing that lib/filter/layer.ts gives. */
#define TKF_NUM_SLOTS 16
#define TKF_SLOT_SEEN 0
#define TKF_SLOT_ABSORBED 1
#define TKF_SLOT_SCORED 2
#define TKF_SLOT_DECIDED 3
#define TKF_SLOT_SKIPPED 4
#define TKF_SLOT_THETA 5
#define TKF_SLOT_SDW 6
#define TKF_SLOT_PENDING 7
#define TKF_SLOT_SETTLED 8
#define TKF_SLOT_FITTED 9

/* Decides rows [0, count) of keys and values [count, kv_heads, head_dim] (kv_dtype: f32, f16, bf16) and updates the
 * state; `learned` also reads residual and normed [count, hidden_size] and, if asked for, queries [count,
 * queries_size], and stops at the end of its block. columns: 7 arrays [count] f64 one after the other: redundancy,
 * threshold, muK, varK, muV, varV, wK (NaN where undefined); keep [count] u8; *taken = rows decided. */
TKF_API int32_t tkf_filter_scan(tkf_context* context, const tkf_filter_spec* spec, uint64_t spec_bytes,
                                float* anchor_k, uint64_t anchor_k_bytes, float* anchor_v, uint64_t anchor_v_bytes,
                                double* numbers, uint64_t numbers_bytes, double* scores, uint64_t scores_bytes,
                                double* learned, uint64_t learned_bytes, int32_t kv_dtype, const void* keys,
                                uint64_t keys_bytes, const void* values, uint64_t values_bytes, const float* residual,
                                uint64_t residual_bytes, const float* normed, uint64_t normed_bytes,
                                const float* queries, uint64_t queries_bytes, int64_t count, uint8_t* keep,
                                uint64_t keep_bytes, double* columns, uint64_t columns_bytes, int64_t* taken,
                                uint64_t taken_bytes);
/* `learned`: y [count] f64, the outcomes of the pending block's next kept tokens; fits when the block is complete. */
TKF_API int32_t tkf_filter_observe(tkf_context* context, const tkf_filter_spec* spec, uint64_t spec_bytes,
                                   double* numbers, uint64_t numbers_bytes, double* scores, uint64_t scores_bytes,
                                   double* learned, uint64_t learned_bytes, const double* y, uint64_t y_bytes,
                                   int64_t count);

#ifdef __cplusplus
}
#endif
#endif
