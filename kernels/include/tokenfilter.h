/* tokenfilter: the C ABI, C99. libtokenfilter_cpu and libtokenfilter_cuda export the same functions; what only the
 * latter exports beside them is in tokenfilter_cuda.h.
 *
 * An op tkf_<name> takes a context, its arguments and their bytes; ops and arguments are declared in ../<op>/<op>.def.
 * Rules: every function returns a status; 0 is success; the message of a failure belongs to the context.
 * The caller owns all memory. A buffer is checked against the shape before anything is computed; one of length 0 may be
 * NULL. Tensors are row-major and contiguous. Shapes stand in brackets; "f32" unless said otherwise. Nothing here exits,
 * prints or throws. A context serves one call at a time: an op that finds another thread's call in it returns
 * TKF_STATUS_STATE, does nothing and leaves the message as it is. After tkf_context_destroy a context must not be used.
 * fork: the child has none of the threads, so that it must make contexts of its own. */
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

#define TKF_ABI_VERSION 9

/* Statuses. */
#define TKF_STATUS_OK 0
#define TKF_STATUS_NULL 1        /* a pointer is NULL */
#define TKF_STATUS_DTYPE 2       /* an element type is unknown, or not allowed here */
#define TKF_STATUS_SHAPE 3       /* a size is negative, does not divide, or overflows */
#define TKF_STATUS_BUFFER 4      /* a buffer is shorter than its shape says, or misaligned */
#define TKF_STATUS_VALUE 5       /* a number is outside its range: an option, an id, a position, a target */
#define TKF_STATUS_STATE 6       /* a filter state does not allow this call now, or another thread uses the context */
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
#define TKF_DTYPE_Q2_K 10
#define TKF_DTYPE_Q3_K 11
#define TKF_DTYPE_Q4_K 12
#define TKF_DTYPE_Q5_K 13
#define TKF_DTYPE_Q6_K 14
#define TKF_DTYPE_IQ4_NL 20
#define TKF_DTYPE_IQ4_XS 23
#define TKF_DTYPE_BF16 30
#define TKF_DTYPE_MXFP4 39

/* Products with weights: in f32; or so up to 8 rows, and of more rows with every factor rounded to bf16. The CUDA library:
 * of more than 16 rows, and 64 by quantised weights; where rows of k values are not whole pieces of 16 bytes, in f32. */
#define TKF_PRODUCTS_EXACT 0
#define TKF_PRODUCTS_BF16 1
/* On a CPU: every row and block of 32 values of x rounded to bytes by one scale, weights of q4_0, q4_1, q8_0, q4_k, q5_k and
 * q6_k as they are; by other weights in f32. */
#define TKF_PRODUCTS_INT8 2

/* Instruction-set levels of the CPU library; -1 asks for the best that the machine has. */
#define TKF_LEVEL_BASE 0       /* x86-64-v2, or plain arm64 */
#define TKF_LEVEL_AVX2 1       /* AVX2, FMA, F16C */
#define TKF_LEVEL_AVX512 2     /* AVX-512 F, BW, DQ, VL */
#define TKF_NUM_LEVELS 3

/* Numbers of tkf_filter_spec. */
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

/* Gates of tkf_linear_apply and tkf_gate_apply: none; silu(x) and gelu(x) by its tanh formula, each times the second product. */
#define TKF_GATE_NONE 0
#define TKF_GATE_SWIGLU 1
#define TKF_GATE_GEGLU 2

/* Slots of a filter state's numbers. */
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

typedef struct tkf_context tkf_context;

/* Memory: its address (on the device in the CUDA library) and bytes. Bytes 0 and NULL: not given. */
typedef struct tkf_buffer {
  void* data;
  uint64_t bytes;
} tkf_buffer;

/* ABI version of the library: call this first. */
TKF_API int32_t tkf_abi_version(void);
/* The library's structs and ops, a line each: "struct <name> <fields>", "op <name> <fields>"; fields as in C. */
TKF_API const char* tkf_abi_describe(void);
/* The address of memory as a number, for callers that hold no pointers. */
TKF_API double tkf_abi_address(const void* data);

/* Makes a context with a pool of `threads` threads (the caller's included, >= 1) at an instruction-set level. */
TKF_API int32_t tkf_context_create(int32_t threads, int32_t level, tkf_context** out);
TKF_API int32_t tkf_context_destroy(tkf_context* context);
/* Message of the last failure on this context, and one line about it (level, threads, BLAS). UTF-8, owned by the
 * context, valid until the next call on it. */
TKF_API const char* tkf_context_message(tkf_context* context);
TKF_API const char* tkf_context_description(tkf_context* context);
/* Highest level this machine runs, and those that are built in: a sum of 1 << TKF_LEVEL_…. */
TKF_API int32_t tkf_context_best_level(void);
TKF_API int32_t tkf_context_levels(void);
/* How a context multiplies with weights from now on, TKF_PRODUCTS_…; exact at first. Those in bf16 need level avx512, and
 * AMX or AVX512-BF16; on a device, cuBLASLt. Those in int8 need a CPU. */
TKF_API int32_t tkf_products_use(tkf_context* context, int32_t products);
/* Loads a BLAS (a shared library that exports cblas_sgemm, also with OpenBLAS's `scipy_` prefix) for products of
 * many rows; without one the built-in kernel serves. `path` is a NUL-terminated UTF-8 string. The CUDA library takes a
 * cuBLASLt (libcublasLt.so.13 or .12), on the device that is current. */
TKF_API int32_t tkf_blas_load(tkf_context* context, const char* path);

/* The ops. */
#define TKF_DECLARE_STRUCT(name, ...) \
  typedef struct name {               \
    __VA_ARGS__                       \
  } name;
#define TKF_DECLARE_OP(name, ...)                    \
  TKF_DECLARE_STRUCT(tkf_##name##_args, __VA_ARGS__) \
  TKF_API int32_t tkf_##name(tkf_context* context, const tkf_##name##_args* args, uint64_t args_bytes);
#define TKF_STRUCT TKF_DECLARE_STRUCT
#define TKF_OP TKF_DECLARE_OP
#include "../ops.def"

#ifdef __cplusplus
}
#endif
#endif
