/* tokenfilter's filter and filtered attention for other engines. C99 and C++; this one file is all that is needed.
 *
 * An engine calls tkf_filter_scan with the keys and values of new tokens, per layer, and gets one byte per token: 1 = its
 * attention is computed, 0 = it is skipped. tkf_attention_filtered computes attention over what stays. filter.c shows a
 * whole loop, docs/guides/use-in-your-engine.md explains it.
 *
 * Rules. The caller owns all memory. Every function returns a status, 0 is success; the message of a failure belongs to
 * the context. A buffer is checked against its shape before anything is computed; one of 0 bytes may be NULL. Tensors are
 * row-major and contiguous, f32 unless said otherwise. Nothing here exits, prints or throws. A buffer may be longer than
 * its shape; the library cannot see its element type.
 *
 * Threads. A context serves one call at a time; threads need one each. tkf_filter_scan and tkf_attention_filtered return
 * TKF_STATUS_STATE where another thread's call is in the context; they do nothing then, and the message stays the other's.
 * After tkf_context_destroy a context must not be used. fork(): the child has none of a context's threads and would wait for
 * them without end, so it must make contexts of its own. This holds for Python's multiprocessing by fork too.
 *
 * Versions. TKF_FILTER_VERSION is the version of this file, in semantic versioning. Major: a struct, a number or a meaning
 * has changed. Minor: something was added. Patch: comments. tkf_filter_compatible() says whether a library has the structs
 * of this file. The rule `learned` is not part of it: see tokenfilter.h, which has the whole ABI, and not both. */
#ifndef TOKENFILTER_FILTER_H
#define TOKENFILTER_FILTER_H
#ifdef TOKENFILTER_H
#error "tokenfilter.h declares all of tokenfilter_filter.h: include one of them"
#endif
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TKF_FILTER_VERSION "3.0.0"

/* Statuses. */
#define TKF_STATUS_OK 0
#define TKF_STATUS_NULL 1        /* a pointer is NULL */
#define TKF_STATUS_DTYPE 2       /* an element type is unknown, or not allowed here */
#define TKF_STATUS_SHAPE 3       /* a size is negative, does not divide, or overflows */
#define TKF_STATUS_BUFFER 4      /* a buffer is shorter than its shape says, or misaligned */
#define TKF_STATUS_VALUE 5       /* a number is outside its range */
#define TKF_STATUS_STATE 6       /* a filter state does not allow this call now, or another thread uses the context */
#define TKF_STATUS_MEMORY 7      /* an allocation failed */
#define TKF_STATUS_UNSUPPORTED 8 /* this machine or build lacks what was asked for */

/* Element types of keys and values. */
#define TKF_DTYPE_F32 0
#define TKF_DTYPE_F16 1
#define TKF_DTYPE_BF16 30

/* tkf_filter_spec.fusion: the rule that scores a token. docs/reference/methods.md has the formulas. */
#define TKF_FUSION_VARIANCE 0
#define TKF_FUSION_MEAN 1
#define TKF_FUSION_STATIC 2
#define TKF_FUSION_KEY 3
#define TKF_FUSION_VALUE 4
#define TKF_FUSION_MIN 5
#define TKF_FUSION_MAX 6
#define TKF_FUSION_PRODUCT 7
#define TKF_FUSION_RANDOM 8
/* tkf_filter_spec.threshold: the score above which a token is skipped. topk decides all tokens of one call together. */
#define TKF_THRESHOLD_BUDGET 0
#define TKF_THRESHOLD_WINDOW 1
#define TKF_THRESHOLD_ROBBINS_MONRO 2
#define TKF_THRESHOLD_FIXED 3
#define TKF_THRESHOLD_TOPK 4
/* tkf_filter_spec.anchor and .absorb: how the anchors follow the past, and which tokens move them. */
#define TKF_ANCHOR_EMA 0
#define TKF_ANCHOR_MEAN 1
#define TKF_ABSORB_ALL 0
#define TKF_ABSORB_KEPT 1

/* Length of tkf_filter_states.numbers. */
#define TKF_NUM_SLOTS 16

typedef struct tkf_context tkf_context;

/* Memory: its address and bytes. Bytes 0 and NULL: not given. */
typedef struct tkf_buffer {
  void* data;
  uint64_t bytes;
} tkf_buffer;

/* One filtered layer; docs/reference/options.md explains each number. Start with tkf_filter_defaults(). kv_heads and
 * head_dim are the layer's; only `random` reads layer and seed. recent, sinks and block are the engine's to keep.
 * heads, hidden_size, first_outcome, projections, features, queries_size and ridge are for `learned`. */
#define TKF_FILTER_SPEC_FIELDS                                                            \
  int32_t layer, heads, kv_heads, head_dim, hidden_size, recent, sinks, first_outcome;    \
  int32_t fusion, invert, anchor, absorb, warmup, threshold, window, chunk;               \
  int32_t block, projections, features, queries_size;                                     \
  double skip_ratio, tau, lambda, eps, alpha, gamma, theta, eta, ridge;                   \
  uint64_t seed;
typedef struct tkf_filter_spec {
  TKF_FILTER_SPEC_FIELDS
} tkf_filter_spec;

/* What a layer remembers of one sequence, all zeros at its start: anchor_k, anchor_v [kv_heads, head_dim], numbers f64
 * [TKF_NUM_SLOTS], scores f64 [tkf_filter_scores(spec)]. To fork a sequence, copy them. learned and signs are not given. */
#define TKF_FILTER_STATES_FIELDS tkf_buffer anchor_k, anchor_v, numbers, scores, learned, signs;
typedef struct tkf_filter_states {
  TKF_FILTER_STATES_FIELDS
} tkf_filter_states;

/* Decides `count` new tokens and updates the state. Reads keys (after rotary embedding) and values [count, kv_heads,
 * head_dim] of kv_dtype. Writes keep u8 [count]; columns f64 [7, count]: redundancy, threshold, muK, varK, muV, varV, wK,
 * NaN where undefined; taken i64 [1] = count. residual, normed and queries are not given. */
#define TKF_FILTER_SCAN_FIELDS                                                     \
  tkf_filter_spec spec;                                                            \
  tkf_filter_states states;                                                        \
  tkf_buffer keys, values, residual, normed, queries, keep, columns, taken;        \
  int64_t count;                                                                   \
  int32_t kv_dtype;
typedef struct tkf_filter_scan_args {
  TKF_FILTER_SCAN_FIELDS
} tkf_filter_scan_args;

/* Grouped-query causal attention over kept tokens and a recent window of skipped ones. queries, out [num_queries, heads,
 * head_dim]; keys, values [num_keys, kv_heads, head_dim] of kv_dtype, recent ones [num_recent, ...]; positions i32,
 * ascending. A query at position i sees key j where position[j] <= i, and recent row j where 0 <= i - recent_position[j] <=
 * recent_window. It gets 0 where it sees nothing. scale: usually 1 / sqrt(head_dim). Optional, or not given: key_ends i32
 * [num_keys]: key j is seen where i < key_ends[j], for eviction; windows i32 [num_queries]: a query whose window is not
 * negative sees only keys below position `sinks` or at i - window or later; shares f64 [num_queries, num_shares]: mean over
 * heads of the weights of the last num_shares keys; changes, head_weights, share_distance, and kv_places with
 * query_kv_heads, for KV heads with rows of their own: see kernels/filtered_attention. */
#define TKF_ATTENTION_FILTERED_FIELDS                                                                                   \
  tkf_buffer queries, query_positions, keys, values, key_positions, recent_keys, recent_values, recent_positions, out;  \
  tkf_buffer key_ends, windows, kv_places, shares, changes, head_weights;                                               \
  int64_t num_queries, num_keys, num_recent, num_shares;                                                                \
  int32_t heads, kv_heads, query_kv_heads, head_dim, kv_dtype, recent_window, sinks, share_distance;                    \
  double scale;
typedef struct tkf_attention_filtered_args {
  TKF_ATTENTION_FILTERED_FIELDS
} tkf_attention_filtered_args;

/* The library's structs and ops, one line each: "struct <name> <fields>", "op <name> <fields>"; fields as in C. */
const char* tkf_abi_describe(void);
/* Makes a context with `threads` threads (the caller's included) at an instruction-set level; -1: the machine's best. */
int32_t tkf_context_create(int32_t threads, int32_t level, tkf_context** out);
int32_t tkf_context_destroy(tkf_context* context);
/* The last failure of this context. UTF-8, owned by the context, valid until its next call. */
const char* tkf_context_message(tkf_context* context);
int32_t tkf_filter_scan(tkf_context* context, const tkf_filter_scan_args* args, uint64_t args_bytes);
int32_t tkf_attention_filtered(tkf_context* context, const tkf_attention_filtered_args* args, uint64_t args_bytes);

/* The defaults of every option, half of the tokens to be skipped. */
static inline tkf_filter_spec tkf_filter_defaults(int32_t layer, int32_t kv_heads, int32_t head_dim) {
  tkf_filter_spec spec;
  memset(&spec, 0, sizeof spec);
  spec.layer = layer, spec.heads = spec.kv_heads = kv_heads, spec.head_dim = head_dim;
  spec.recent = 16, spec.sinks = 4, spec.warmup = 32, spec.window = 256, spec.block = 32;
  spec.projections = 16, spec.features = 7;
  spec.skip_ratio = 0.5, spec.tau = 1, spec.eps = 1e-6, spec.alpha = 0.5, spec.gamma = 0.9, spec.eta = 0.1, spec.ridge = 1;
  return spec;
}

/* Length of tkf_filter_states.scores: what the threshold looks back on. */
static inline int32_t tkf_filter_scores(const tkf_filter_spec* spec) {
  if (spec->threshold == TKF_THRESHOLD_BUDGET || spec->threshold == TKF_THRESHOLD_WINDOW) return spec->window;
  return spec->threshold == TKF_THRESHOLD_ROBBINS_MONRO ? (spec->warmup > 2 ? spec->warmup : 2) : 0;
}

#define TKF_FILTER_TEXT_(...) #__VA_ARGS__
#define TKF_FILTER_TEXT(...) TKF_FILTER_TEXT_(__VA_ARGS__)
/* Whether the library has the structs of this file: 1 or 0. Call it first. */
static inline int tkf_filter_compatible(void) {
  const char* library = tkf_abi_describe();
  return strstr(library, "struct tkf_filter_spec " TKF_FILTER_TEXT(TKF_FILTER_SPEC_FIELDS) "\n") != NULL &&
         strstr(library, "struct tkf_filter_states " TKF_FILTER_TEXT(TKF_FILTER_STATES_FIELDS) "\n") != NULL &&
         strstr(library, "op tkf_filter_scan " TKF_FILTER_TEXT(TKF_FILTER_SCAN_FIELDS) "\n") != NULL &&
         strstr(library, "op tkf_attention_filtered " TKF_FILTER_TEXT(TKF_ATTENTION_FILTERED_FIELDS) "\n") != NULL;
}

#ifdef __cplusplus
}
#endif
#endif
