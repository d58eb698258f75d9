/* tokenfilter: what only libtokenfilter_cuda exports, C99, beside the functions of tokenfilter.h (which there take
 * tensors in device memory, and structs in host memory).
 *
 * Rules as in tokenfilter.h. A call enqueues work on the context's stream and returns: none of them waits, allocates,
 * or reads device memory, so that a whole decode step can be captured in a graph. Contents of device buffers (ids,
 * positions, counts) are guarded by the kernels, which do not touch memory outside a buffer; what they find wrong is
 * reported by the next tkf_cuda_synchronize.
 *
 * A batch has `batch` sequences, each in a slot of its own; a sequence whose position is negative is idle: nothing of
 * it is read or written. "f32" unless said otherwise. */
#ifndef TOKENFILTER_CUDA_H
#define TOKENFILTER_CUDA_H
#include "tokenfilter.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Device memory: address and bytes. Bytes 0 and NULL: not given. */
typedef struct tkf_buffer {
  void* data;
  uint64_t bytes;
} tkf_buffer;

/* ---- context ---- */

/* A context on the CUDA context that the calling thread has current, for a stream (CUstream) that the caller owns and
 * keeps. TKF_STATUS_UNSUPPORTED where the driver or the device is none or too old; the message of such a failure:
 * tkf_cuda_create_message. `threads` and `level` of tkf_context_create have no meaning here; that call is refused. */
TKF_API int32_t tkf_cuda_context_create(void* stream, tkf_context** out);
TKF_API const char* tkf_cuda_create_message(void);
/* Device memory for results in between (split attention, matrix products): at least `bytes`. Waits for the stream.
 * Graphs recorded before go on with the memory they were recorded with, which is freed with the context. */
TKF_API int32_t tkf_cuda_workspace_reserve(tkf_context* context, uint64_t bytes);
/* Bytes that the last call lacked, where it failed for want of workspace with TKF_STATUS_STATE; 0 otherwise. */
TKF_API uint64_t tkf_cuda_workspace_wanted(tkf_context* context);
/* Prefill of 16-bit keys with heads of at most 128 by wgmma and TMA on sm_90 (1), or by mma.sync as on every device
 * (0, as at first). The former has run on the emulator alone: `deno task test:gpu` tests it on the device at hand.
 * TKF_STATUS_UNSUPPORTED where the device or the build has it not. */
TKF_API int32_t tkf_cuda_wgmma_use(tkf_context* context, int32_t use);
/* Waits for the stream and reports what kernels found wrong since the last call. */
TKF_API int32_t tkf_cuda_synchronize(tkf_context* context);

/* ---- one layer's cache of a batch ---- */

typedef struct tkf_kv_cache {
  /* Contiguous (pages not given): [batch, capacity, kv_heads, head_dim]. Paged: [num_pages, page_rows, kv_heads,
   * head_dim], row r of sequence b lies in page pages[b, r / page_rows] at row r % page_rows. Of `dtype`. */
  tkf_buffer keys, values;
  tkf_buffer positions;        /* i32, original positions of the rows, ascending; shape as keys' first two */
  tkf_buffer counts;           /* i32 [batch]: rows in use */
  tkf_buffer pages;            /* i32 [batch, ceil(capacity / page_rows)], or not given */
  tkf_buffer recent_keys;      /* [batch, recent, kv_heads, head_dim] of `dtype`: skipped token t lies at t % recent */
  tkf_buffer recent_values;    /* the same */
  tkf_buffer recent_positions; /* i32 [batch, recent]: original position, -1 = empty */
  int64_t capacity;            /* rows that a sequence can hold */
  int32_t batch, page_rows, kv_heads, head_dim, dtype, recent;
} tkf_kv_cache;

/* ---- one filtered layer's state of a batch: arrays of lib/filter/layer.ts, one sequence after the other ---- */

typedef struct tkf_filter_states {
  tkf_buffer anchor_k, anchor_v; /* [batch, kv_heads, head_dim] */
  tkf_buffer numbers;            /* f64 [batch, TKF_NUM_SLOTS] */
  tkf_buffer scores;             /* f64 [batch, capacity of the policy's ring] */
  tkf_buffer learned;            /* f64 [batch, length of the packed regression]; `learned` alone */
  tkf_buffer signs;              /* [projections, hidden_size], -1 or 1: tkf_filter_signs; `learned` with projections */
} tkf_filter_states;

/* Who goes on in this layer. Written by tkf_filter_step, read by everything after it. */
typedef struct tkf_decisions {
  tkf_buffer keep;       /* u8 [batch]: 1 = compute its attention; 0 where skipped or idle */
  tkf_buffer kept;       /* i32 [batch]: slots of the kept sequences, ascending */
  tkf_buffer kept_count; /* i32 [2]: how many; and a counter of the step's own, 0 before the first */
  tkf_buffer columns;    /* f64 [7, batch] as of tkf_filter_scan, or not given */
} tkf_decisions;

/* ---- the filter ---- */

/* Fills signs [projections, hidden_size] of a spec (its seed, layer and projections). */
TKF_API int32_t tkf_filter_signs(tkf_context* context, const tkf_filter_spec* spec, uint64_t spec_bytes, float* signs,
                                 uint64_t signs_bytes);

/* One token of every sequence. */
typedef struct tkf_step_rows {
  tkf_buffer filter_keys; /* [batch, kv_heads, head_dim] of kv_dtype: keys that the filter looks at */
  tkf_buffer keys;        /* keys that the cache takes (after rotary embedding); may be filter_keys */
  tkf_buffer values;
  tkf_buffer residual, normed; /* [batch, hidden_size]; `learned` alone */
  tkf_buffer queries;          /* [batch, queries_size]; `learned` with the query feature */
  tkf_buffer positions;        /* i32 [batch]; negative = idle */
  tkf_buffer chunks;           /* i32 [batch] in place of the spec's chunk, or not given */
  int32_t kv_dtype, cache_skipped;
} tkf_step_rows;
/* Decides one token of every sequence of a layer and appends it to the cache, or to the recent ring: one launch.
 * `spec` NULL: a layer without filter, all are kept (states unused). All policies but topk.
 * With a fault, a token that is not finite, or whose state does not allow the step, is kept and leaves its state as it
 * is; a token that finds no room in the cache is not written to it. */
TKF_API int32_t tkf_filter_step(tkf_context* context, const tkf_filter_spec* spec, uint64_t spec_bytes,
                                const tkf_filter_states* states, uint64_t states_bytes, const tkf_kv_cache* cache,
                                uint64_t cache_bytes, const tkf_step_rows* rows, uint64_t rows_bytes,
                                const tkf_decisions* decisions, uint64_t decisions_bytes);
/* `learned`, after every step's output projection, also where none was kept: takes the kept sequences' outcomes, from
 * output and residual [batch, hidden_size], into the regression of each, and solves it where a block ends. An outcome
 * that is not finite is a fault, and teaches nothing. */
TKF_API int32_t tkf_filter_observe_batch(tkf_context* context, const tkf_filter_spec* spec, uint64_t spec_bytes,
                                         const tkf_filter_states* states, uint64_t states_bytes, int32_t batch,
                                         const tkf_decisions* decisions, uint64_t decisions_bytes, const float* output,
                                         uint64_t output_bytes, const float* residual, uint64_t residual_bytes);

/* A chunk of prefill of every sequence: rows of sequence b are [starts[b], starts[b + 1]) of all tensors. `learned`
 * takes rows to the end of its block alone. Before a row that is not finite a sequence stops, with a fault. */
typedef struct tkf_scan_rows {
  tkf_buffer keys, values;              /* [rows, kv_heads, head_dim] of kv_dtype */
  tkf_buffer residual, normed, queries; /* as in tkf_step_rows, [rows, …] */
  tkf_buffer starts;                    /* i32 [batch + 1], ascending */
  tkf_buffer chunks;                    /* i32 [batch], or not given */
  tkf_buffer keep;                      /* out: u8 [rows] */
  tkf_buffer columns;                   /* out: f64 [7, rows] */
  tkf_buffer taken;                     /* out: i64 [batch], rows decided of each */
  int64_t num_rows;
  int32_t batch, kv_dtype, longest; /* longest: rows of the longest sequence */
  int32_t tile;                     /* tokens that the anchors' scan takes in one piece; 0 = chosen */
} tkf_scan_rows;
TKF_API int32_t tkf_filter_scan_batch(tkf_context* context, const tkf_filter_spec* spec, uint64_t spec_bytes,
                                      const tkf_filter_states* states, uint64_t states_bytes,
                                      const tkf_scan_rows* rows, uint64_t rows_bytes);

/* ---- filtered attention ---- */

/* Decode: queries, out [batch, heads, head_dim]; rows of skipped and idle sequences are neither read nor written. */
typedef struct tkf_decode_rows {
  tkf_buffer queries, out;
  tkf_buffer positions; /* i32 [batch] */
  tkf_buffer keep;      /* u8 [batch] */
  int32_t heads, window; /* window: a query at i sees keys j > i - window, kept or recent; 0 = all */
  double scale;
} tkf_decode_rows;
TKF_API int32_t tkf_attention_decode(tkf_context* context, const tkf_kv_cache* cache, uint64_t cache_bytes,
                                     const tkf_decode_rows* rows, uint64_t rows_bytes);
/* Workspace that this decode needs. */
TKF_API uint64_t tkf_attention_decode_workspace(tkf_context* context, const tkf_kv_cache* cache, uint64_t cache_bytes,
                                                int32_t heads);

/* Prefill: kept queries of sequence b are rows [query_starts[b], query_starts[b + 1]), its kept keys rows
 * [key_starts[b], …), skipped keys that stay near rows [recent_starts[b], …); positions ascending in each. Few queries
 * over many keys need workspace: their keys are split among blocks. */
typedef struct tkf_prefill_rows {
  tkf_buffer queries, out;                                         /* [num_queries, heads, head_dim] f32 or `dtype` */
  tkf_buffer query_positions;                                      /* i32 [num_queries] */
  tkf_buffer keys, values, key_positions;                          /* [num_keys, kv_heads, head_dim] of dtype; i32 */
  tkf_buffer recent_keys, recent_values, recent_positions;         /* [num_recent, …]; i32 */
  tkf_buffer query_starts, key_starts, recent_starts;              /* i32 [batch + 1] */
  int64_t num_queries, num_keys, num_recent, longest_queries;
  int32_t batch, heads, kv_heads, head_dim, dtype, query_dtype, recent, window; /* window as in decode */
  double scale;
} tkf_prefill_rows;
TKF_API int32_t tkf_attention_prefill(tkf_context* context, const tkf_prefill_rows* rows, uint64_t rows_bytes);

/* ---- the rest of a layer, for the kept sequences of a decode step ---- */

/* out [batch, n] = x [batch, k] times the transpose of weight [n, k] (any dtype), for the slots kept [kept_count] alone
 * (both NULL: for all). */
TKF_API int32_t tkf_linear_rows(tkf_context* context, const float* x, uint64_t x_bytes, int32_t dtype,
                                const void* weight, uint64_t weight_bytes, int32_t batch, int64_t n, int64_t k,
                                const int32_t* kept, uint64_t kept_bytes, const int32_t* kept_count,
                                uint64_t kept_count_bytes, float* out, uint64_t out_bytes);
/* x [batch, cols] += delta [batch, cols] at the kept slots. */
TKF_API int32_t tkf_rows_add_kept(tkf_context* context, float* x, uint64_t x_bytes, const float* delta,
                                  uint64_t delta_bytes, int32_t batch, int64_t cols, const int32_t* kept,
                                  uint64_t kept_bytes, const int32_t* kept_count, uint64_t kept_count_bytes);
/* tkf_rope_apply for the kept slots of x [batch, heads, head_dim] alone, by positions [batch]. */
TKF_API int32_t tkf_rope_kept(tkf_context* context, float* x, uint64_t x_bytes, const int32_t* positions,
                              uint64_t positions_bytes, double theta, int32_t batch, int64_t heads, int64_t head_dim,
                              const int32_t* kept, uint64_t kept_bytes, const int32_t* kept_count,
                              uint64_t kept_count_bytes);
/* positions [batch] += 1 where not negative. */
TKF_API int32_t tkf_positions_advance(tkf_context* context, int32_t* positions, uint64_t positions_bytes,
                                      int32_t batch);
/* ids [rows] i32 = index of the largest of logits [rows, vocab], the lowest on ties. */
TKF_API int32_t tkf_logits_argmax(tkf_context* context, const float* logits, uint64_t logits_bytes, int64_t rows,
                                  int64_t vocab, int32_t* ids, uint64_t ids_bytes);

#ifdef __cplusplus
}
#endif
#endif
