// The emulated CUDA runtime: memory, copies, errors, capture.
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <vector>

#include "block.h"
#include "runtime.h"

#include "tokenfilter_emulator.h"

struct tkf_emulator_graph {
  std::vector<std::function<void()>> work;
};

namespace tkf::simt {
namespace {

// Of each thread its own, as a capture in mode "thread local" is on a device.
thread_local tkf_emulator_graph* t_capture = nullptr;  // under way
thread_local uint64_t t_captures = 0;
thread_local bool t_broken = false;                    // a forbidden call came in between
thread_local cudaError_t t_error = cudaSuccess;
thread_local int32_t t_arch = 0;

// Breaks a capture that is going on.
cudaError_t forbid_in_capture() {
  if (t_capture == nullptr) return cudaSuccess;
  t_broken = true;
  return note_error(cudaErrorStreamCaptureUnsupported);
}

}  // namespace

cudaError_t note_error(cudaError_t error) {
  if (t_error == cudaSuccess) t_error = error;
  return error;
}

cudaError_t perform(const std::function<void()>& work) {
  if (t_capture != nullptr) t_capture->work.push_back(work);
  else work();
  return cudaSuccess;
}

}  // namespace tkf::simt

using namespace tkf::simt;

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
  }
  return "unknown error";
}
cudaError_t cudaGetLastError() {
  const cudaError_t error = t_error;
  t_error = cudaSuccess;
  return error;
}
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  return *attributes = {90}, cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, size_t shared) {
  return *blocks = static_cast<int>(std::min<size_t>(32, tkf::simt::kMaxShared / (shared + 1024))), cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = 2; break;
    case cudaDevAttrComputeCapabilityMajor: *value = t_arch / 10; break;
    case cudaDevAttrComputeCapabilityMinor: *value = t_arch % 10; break;
  }
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** out, size_t bytes) {
  if (const cudaError_t error = forbid_in_capture()) return error;
  *out = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (bytes >> 40 != 0) return note_error(cudaErrorMemoryAllocation);  // no machine has so much
  if (posix_memalign(out, 256, bytes) != 0) return note_error(cudaErrorMemoryAllocation);
  memset(*out, 0xff, bytes);
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  if (const cudaError_t error = forbid_in_capture()) return error;
  free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  return perform([=] { if (bytes != 0) memmove(to, from, bytes); });
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  return perform([=] { if (bytes != 0) memset(to, value, bytes); });
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return forbid_in_capture(); }
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus* status, unsigned long long* id) {
  *id = t_capture == nullptr ? 0 : t_captures;
  *status = t_capture == nullptr ? cudaStreamCaptureStatusNone
            : t_broken           ? cudaStreamCaptureStatusInvalidated
                                 : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

int32_t tkf_emulator_arch(int32_t arch) {
  if (arch < 0) return TKF_STATUS_VALUE;
  t_arch = arch;
  return TKF_STATUS_OK;
}

int32_t tkf_emulator_capture_begin(void) {
  if (t_capture != nullptr) return TKF_STATUS_STATE;
  t_capture = new tkf_emulator_graph;
  t_captures++;
  t_broken = false;
  return TKF_STATUS_OK;
}
int32_t tkf_emulator_capture_end(tkf_emulator_graph** out) {
  if (out == nullptr) return TKF_STATUS_NULL;
  *out = nullptr;
  if (t_capture == nullptr) return TKF_STATUS_STATE;
  tkf_emulator_graph* const graph = t_capture;
  t_capture = nullptr;
  if (t_broken) {
    delete graph;
    return TKF_STATUS_STATE;
  }
  *out = graph;
  return TKF_STATUS_OK;
}
int32_t tkf_emulator_graph_launch(tkf_emulator_graph* graph) {
  if (graph == nullptr) return TKF_STATUS_NULL;
  for (const auto& work : graph->work) work();
  return TKF_STATUS_OK;
}
int32_t tkf_emulator_graph_destroy(tkf_emulator_graph* graph) {
  delete graph;
  return TKF_STATUS_OK;
}
