/* tokenfilter: what only libtokenfilter_emulated exports, C99. It is the CUDA library compiled for the CPU: "device"
 * memory is host memory, launches run at once on the calling thread. Order, counts and capture are each thread's own.
 * For tests. */
#ifndef TOKENFILTER_EMULATOR_H
#define TOKENFILTER_EMULATOR_H
#include "../../include/tokenfilter_cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Order in which threads of a block, and blocks, take their turns. */
#define TKF_ORDER_ASCENDING 0
#define TKF_ORDER_DESCENDING 1  /* threads */
#define TKF_ORDER_SHUFFLED 2    /* threads, anew in each block */
#define TKF_ORDER_INTERLEAVED 3 /* lane 0 of all warps, then lane 1, ... in turns; otherwise a warp runs ahead */
#define TKF_ORDER_REVERSED 4    /* blocks from last to first, threads shuffled */
#define TKF_NUM_ORDERS 5

/* Sets the order for all launches of this thread from now on, with a seed for those that shuffle. */
TKF_API int32_t tkf_emulator_order(int32_t order, uint64_t seed);

/* Kernels and threads that this thread has launched. */
TKF_API uint64_t tkf_emulator_num_launches(void);
TKF_API uint64_t tkf_emulator_num_threads(void);
/* Products by wgmma (of a warpgroup each) in them. */
TKF_API uint64_t tkf_emulator_num_products(void);

/* The device that contexts of this thread find from now on: compute capability 10 * major + minor; 0, as at first, is
 * one that has all that is emulated. TKF_STATUS_VALUE where it is negative. */
TKF_API int32_t tkf_emulator_arch(int32_t arch);

/* Captures launches, copies and fills into a graph instead of running them. Calls that wait, allocate or free fail
 * meanwhile, and the capture with them, as on a device. One capture at a time. */
typedef struct tkf_emulator_graph tkf_emulator_graph;
TKF_API int32_t tkf_emulator_capture_begin(void);
/* TKF_STATUS_STATE where nothing was captured, or where a forbidden call broke the capture. */
TKF_API int32_t tkf_emulator_capture_end(tkf_emulator_graph** out);
TKF_API int32_t tkf_emulator_graph_launch(tkf_emulator_graph* graph);
TKF_API int32_t tkf_emulator_graph_destroy(tkf_emulator_graph* graph);

#ifdef __cplusplus
}
#endif
#endif
