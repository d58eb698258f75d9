// The part of the CUDA runtime that the library uses: memory on the heap (so that the address sanitizer sees what goes
// outside), streams that run at once, and capture, during which waiting, allocating and freeing fail.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

enum cudaError_t : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorStreamCaptureUnsupported = 900,
};
enum cudaMemcpyKind { cudaMemcpyDeviceToHost = 2 };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive,
                               cudaStreamCaptureStatusInvalidated };
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
};
using cudaStream_t = struct CUstream_st*;
struct cudaFuncAttributes {
  int ptxVersion;  // no more of it is emulated
};

const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();  // and forgets it
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDriverGetVersion(int* version);  // 13.0
// An emulated device has 2 multiprocessors, and the compute capability of tkf_emulator_arch, 0.0 by default.
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
// Of a kernel: PTX of 9.0, as if compiled for sm_90.
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel);
// As many as shared memory holds, 1 KB of it a block's own; registers are not counted.
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel, int threads, size_t shared);

cudaError_t cudaMalloc(void** out, size_t bytes);  // filled with NaN (all bits set)
cudaError_t cudaFree(void* memory);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream = nullptr);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
// `id`: of the capture, no two alike; 0 where there is none.
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id);

template <class... P>
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*kernel)(P...)) {
  return cudaFuncGetAttributes(attributes, reinterpret_cast<const void*>(kernel));
}
template <class... P>
inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void (*kernel)(P...), int threads,
                                                                 size_t shared) {
  const void* const address = reinterpret_cast<const void*>(kernel);
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, address, threads, shared);
}

namespace tkf::simt {
// Lets a kernel be launched with so much dynamic shared memory.
cudaError_t allow_shared(const void* kernel, size_t bytes);
// Remembers the first error until cudaGetLastError; returns it.
cudaError_t note_error(cudaError_t error);
// Runs the work, or records it while a capture is going on.
cudaError_t perform(const std::function<void()>& work);
}  // namespace tkf::simt
