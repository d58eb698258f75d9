/* tokenfilter: what only libtokenfilter_cuda exports, C99, beside the functions of tokenfilter.h (whose tensors lie in
 * device memory there).
 *
 * Rules as in tokenfilter.h. A call enqueues work on the context's stream and returns: none of them waits, allocates,
 * or reads device memory, so that a whole decode step can be captured in a graph. Contents of device buffers (ids,
 * positions, counts) are guarded by the kernels, which do not touch memory outside a buffer; what they find wrong is
 * reported by the next tkf_cuda_synchronize.
 *
 * A batch has `batch` sequences, each in a slot of its own; a sequence whose position is negative is idle: nothing of
 * it is read or written. `kept` i32 [rows] and `kept_count` i32 [1] of an op, as tkf_filter_step leaves them, name the
 * rows that it is for; neither given: all. */
#ifndef TOKENFILTER_CUDA_H
#define TOKENFILTER_CUDA_H
#include "tokenfilter.h"

#ifdef __cplusplus
extern "C" {
#endif

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
 * (0, as at first). The former has never run on a card: `deno task test:gpu` tests it on the device at hand.
 * TKF_STATUS_UNSUPPORTED where the device or the build has it not. */
TKF_API int32_t tkf_cuda_wgmma_use(tkf_context* context, int32_t use);
/* Whether kernels are launched to begin before the one ahead of them has ended (programmatic dependent launch), for
 * which they wait themselves: 1, or 0, as at first. A graph keeps what it was recorded with. No card has
 * run it so far. TKF_STATUS_UNSUPPORTED before sm_90, with a driver of before CUDA 12.3, and where the build has no code
 * of the device's own. */
TKF_API int32_t tkf_cuda_dependent_launch_use(tkf_context* context, int32_t use);
/* Waits for the stream and reports what kernels found wrong since the last call. */
TKF_API int32_t tkf_cuda_synchronize(tkf_context* context);

/* The ops of batches. */
#define TKF_CUDA_OP TKF_DECLARE_OP
#include "../ops.def"

#ifdef __cplusplus
}
#endif
#endif
