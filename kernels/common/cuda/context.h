// What launchers know of a context of the CUDA library.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../context.h"
#include "cuda.h"

namespace tkf {

// What kernels find wrong with the contents of buffers. The first one is kept, and reported at the next
// tkf_cuda_synchronize; the kernel goes on without touching memory outside its buffers.
enum Fault : int {
  kFaultNone = 0,
  kFaultIndex,      // an id, a row or a target outside its table
  kFaultPositions,  // positions that do not ascend, or a negative one
  kFaultCacheFull,  // a token to keep, and no row left in the cache
  kFaultNumber,     // a key, value or outcome that is not finite
  kFaultState,      // a filter state that does not allow the call
  kNumFaults,
};

// Device: notes a fault; the first wins.
__device__ inline void tkf_fault(int* fault, int code) { atomicCAS(fault, kFaultNone, code); }

class CublasLt;

// The stream that kernels are launched in, and whether as dependent launches: each may begin before the one ahead of
// it has ended (programmatic dependent launch, sm_90 and later), as kernels wait for that themselves.
struct Stream {
  cudaStream_t stream;
  bool dependent;
  operator cudaStream_t() const { return stream; }
};

// What TKF_LAUNCH calls; cudaGetLastError has its error.
template <class... P, class... A>
void launch_kernel(const Stream& stream, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                   const A&... arguments) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared_bytes, config.stream = stream;
  config.attrs = &attribute, config.numAttrs = stream.dependent ? 1 : 0;
  cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...);
}

// The context's stream, fault word (in device memory) and device.
Stream cuda_stream(const tkf_context* context);
int* cuda_fault(const tkf_context* context);
int cuda_num_sms(const tkf_context* context);
int cuda_arch(const tkf_context* context);  // 10 * major + minor, such as 90

// Whether this build's kernels wait for those before them: code for the device's own generation (rows/rows.cu).
bool cuda_kernels_wait();
bool cuda_wgmma(const tkf_context* context);  // whether tkf_cuda_wgmma_use has asked for wgmma and TMA
bool cuda_bf16(const tkf_context* context);   // whether tkf_products_use has asked for products in bf16

// What serves matrix products of many rows: one word or two for the context's description.
const char* cuda_products(const tkf_context* context);
// cuBLASLt, where tkf_blas_load has loaded it, else NULL (linear/cublaslt.h).
CublasLt* cuda_cublaslt(const tkf_context* context);

// Device memory for results in between, from the start of the workspace (256-byte aligned); nullptr where it is too
// small, which the launcher answers with cuda_short. One call uses it at a time: work of a stream is in order. A graph
// that is recorded meanwhile keeps it: a larger workspace is then another one.
void* cuda_workspace(tkf_context* context, size_t bytes);
// What the last product in parts left in the workspace: rows [first, first + rows) of x [.., k] in parts, and sums of
// groups of their values, where there are any.
struct SplitRows {
  const float* x;
  const uint16_t* parts;  // nullptr: none
  int64_t first, rows, k;
  int num_parts, group_size;
  unsigned long long capture;  // the capture that recorded it, or 0

  bool operator==(const SplitRows& o) const {
    return x == o.x && parts == o.parts && first == o.first && rows == o.rows && k == o.k &&
           num_parts == o.num_parts && group_size == o.group_size &&
           capture == o.capture;
  }
};
// That; whoever takes the workspace makes it none.
SplitRows& cuda_split_rows(tkf_context* context);
// A number of the capture that the stream records now, else 0: what it records does not run before the graph does.
unsigned long long cuda_capture(tkf_context* context);
// Writes the message of a workspace that is too small; TKF_STATUS_STATE.
int32_t cuda_short(tkf_context* context, size_t bytes);

// After the last launch of a call: its error as a status, noted in the context, so that `Check::done` reports it.
int32_t cuda_launched(tkf_context* context, const char* what);

}  // namespace tkf
