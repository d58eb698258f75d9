// The CUDA runtime and the driver, as far as the library and Deno's wrapper call them: one device, one stream that is done
// with each call before it returns, graphs as lists of what to do.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>
#include <ctime>
#include <memory>
#include <mutex>
#include <stdexcept>

#include "ptx.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))
#undef cudaStreamGetCaptureInfo

using namespace ptx;

namespace ptx {
bool write_map(void* to, int type, u32 rank, void* address, const u64* sizes, const u64* strides, const u32* box,
               const u32* steps, int interleave, int swizzle, int fill);
}

namespace {

using Lock = std::lock_guard<std::recursive_mutex>;
std::recursive_mutex& mutex() {
  static std::recursive_mutex all;
  return all;
}
struct Registered {
  std::string name;
  size_t module;
  Kernel* kernel = nullptr;
  u32 most_dynamic = 48 * 1024;
};
std::vector<Module*>& modules() {
  static std::vector<Module*> all;
  return all;
}
std::unordered_map<const void*, Registered>& functions() {
  static std::unordered_map<const void*, Registered> all;
  return all;
}
struct Graph {
  std::vector<std::function<void()>> work;
};
thread_local std::unique_ptr<Graph> recorded;
std::atomic<u64> recordings{0};
thread_local int graph_error = 0;  // what a launch of a graph gives
// What was given out and not given back, of a thread: memory and graphs, events, streams, contexts.
enum Held { kMemory, kEvents, kStreams, kContexts };
thread_local int held[4];
int hold(Held what, int count) { return held[what] += count, 0; }
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t fail(int error) { return last_error = static_cast<cudaError_t>(error); }
int most_shared() { return (options().arch >= 90 ? 227 : 163) * 1024; }

// A kernel, parsed; nullptr where there is none, or it is not known whole, which is told.
Registered* find(const void* function) {
  const auto found = functions().find(function);
  if (found == functions().end()) return nullptr;
  Registered& f = found->second;
  try {
    f.kernel = &modules()[f.module]->kernels.at(f.name);
    parse_kernel(*f.kernel);
    return &f;
  } catch (const std::exception& error) {
    fault("unsupported", error.what());
    return nullptr;
  }
}
// Does it now, or where a graph is recorded, whenever that is launched.
void act(std::function<void()> work) {
  if (recorded != nullptr) {
    recorded->work.push_back(std::move(work));
  } else {
    work();
  }
}
cudaError_t start(const void* function, dim3 grid, dim3 block, void** arguments, size_t shared) {
  const Lock lock(mutex());
  Registered* const f = find(function);
  if (f == nullptr) return fail(cudaErrorInvalidDeviceFunction);
  Kernel* const k = f->kernel;
  const u64 threads = u64{block.x} * block.y * block.z;
  const size_t most = f->most_dynamic > 48 * 1024 ? static_cast<size_t>(most_shared()) : 48 * 1024;
  if (threads == 0 || threads > k->max_threads || block.z > 64 || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 ||
      grid.z > 65535 || grid.x > 0x7fffffff || shared > f->most_dynamic || shared + k->static_shared > most) {
    return fail(cudaErrorInvalidConfiguration);
  }
  std::vector<u8> params(k->param_bytes);
  for (size_t j = 0; j < k->params.size(); j++) memcpy(&params[k->params[j].at], arguments[j], k->params[j].bytes);
  act([=] { launch(*k, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, params, static_cast<u32>(shared)); });
  return cudaSuccess;
}
int reserve(u64* out, u64 bytes) {
  const Lock lock(mutex());
  if (recorded != nullptr) return cudaErrorStreamCaptureUnsupported;
  if (bytes == 0) return cudaErrorInvalidValue;
  if (bytes > options().memory - allocated(0)) return cudaErrorMemoryAllocation;
  *out = allocate(bytes);
  return *out == 0 ? cudaErrorMemoryAllocation : hold(kMemory, 1);
}
int free_buffer(u64 address) {
  const Lock lock(mutex());
  if (address == 0) return cudaSuccess;
  if (recorded != nullptr) return cudaErrorStreamCaptureUnsupported;
  return release(address) ? hold(kMemory, -1) : cudaErrorInvalidValue;
}
int fill(u64 address, u8 value, u64 bytes) {
  const Lock lock(mutex());
  if (bytes == 0) return cudaSuccess;
  act([=] {
    if (host_access(address, bytes, true)) memset(reinterpret_cast<void*>(address), value, bytes);
  });
  return cudaSuccess;
}
int copy(u64 to, u64 from, u64 bytes, bool to_device, bool from_device) {
  const Lock lock(mutex());
  if (recorded != nullptr && !(to_device && from_device)) return cudaErrorStreamCaptureUnsupported;
  if (error_code() != 0) return error_code();
  if (bytes == 0) return cudaSuccess;
  act([=] {
    if ((!from_device || host_access(from, bytes, false)) && (!to_device || host_access(to, bytes, true))) {
      memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
    }
  });
  return error_code();
}
int synchronize() {
  if (recorded != nullptr) return cudaErrorStreamCaptureUnsupported;
  const Lock lock(mutex());
  return error_code();
}
int attribute(int name) {
  switch (name) {
    case cudaDevAttrClockRate: return 1400000;
    case cudaDevAttrMultiProcessorCount: return options().sms;
    case cudaDevAttrL2CacheSize: return 50 << 20;
    case cudaDevAttrComputeCapabilityMajor: return options().arch / 10;
    case cudaDevAttrComputeCapabilityMinor: return options().arch % 10;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: return most_shared();
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: return most_shared() + 1024;
    case cudaDevAttrMaxThreadsPerMultiProcessor: return 2048;
    default: return 0;
  }
}
struct AtEnd {
  ~AtEnd() { write_coverage(); }
} at_end;

}  // namespace

// ---- what nvcc's host code calls ----

EXPORTED void** __cudaRegisterFatBinary(void* wrapper) {
  struct Wrapper {
    u32 magic, version;
    const u8* data;
  };
  struct Header {
    u32 magic;
    u16 version, bytes;
    u64 size;
  };
  struct Entry {
    u16 kind, version;
    u32 header;
    u64 size;
  };
  constexpr u16 kPtx = 1;
  const u8* const data = static_cast<Wrapper*>(wrapper)->data;
  Header header;
  memcpy(&header, data, sizeof header);
  Module* module = nullptr;
  for (const u8 *at = data + header.bytes, *end = at + header.size; at < end;) {
    Entry entry;
    memcpy(&entry, at, sizeof entry);
    const char* const text = reinterpret_cast<const char*>(at + entry.header);
    if (entry.kind == kPtx && module == nullptr) module = load_module(text, strnlen(text, entry.size));
    at += entry.header + entry.size;
  }
  if (module == nullptr) fault("unsupported", "an object without PTX");
  modules().push_back(module != nullptr ? module : new Module);
  for (auto& [name, kernel] : modules().back()->kernels) know(kernel);
  return reinterpret_cast<void**>(modules().size());
}
EXPORTED void __cudaRegisterFatBinaryEnd(void**) {}
EXPORTED void __cudaUnregisterFatBinary(void**) {}
EXPORTED void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
EXPORTED void __cudaRegisterFunction(void** handle, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*,
                                     dim3*, int*) {
  functions()[host] = {name, reinterpret_cast<size_t>(handle) - 1};
}
EXPORTED cudaError_t __cudaGetKernel(cudaKernel_t* out, const void* function) {
  *out = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
EXPORTED cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared,
                                        cudaStream_t) {
  return start(kernel, grid, block, arguments, shared);
}
EXPORTED cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) { return cudaErrorNotSupported; }
EXPORTED unsigned __cudaPushCallConfiguration(dim3, dim3, size_t, CUstream_st*) { return cudaErrorNotSupported; }

// ---- the runtime ----

EXPORTED cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** arguments) {
  return start(function, config->gridDim, config->blockDim, arguments, config->dynamicSmemBytes);
}
EXPORTED cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute name, int value) {
  const Lock lock(mutex());
  Registered* const f = find(function);
  if (f == nullptr) return fail(cudaErrorInvalidDeviceFunction);
  if (name != cudaFuncAttributeMaxDynamicSharedMemorySize) return fail(cudaErrorNotSupported);
  if (value < 0 || value > most_shared()) return fail(cudaErrorInvalidValue);
  f->most_dynamic = static_cast<u32>(value);
  return cudaSuccess;
}
EXPORTED cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* out, const void* function) {
  const Lock lock(mutex());
  const Registered* const f = find(function);
  *out = {};
  if (f == nullptr) return fail(cudaErrorInvalidDeviceFunction);
  out->binaryVersion = out->ptxVersion = atoi(f->kernel->module->target.c_str() + 3);
  out->maxThreadsPerBlock = static_cast<int>(f->kernel->max_threads);
  out->numRegs = 64;
  out->sharedSizeBytes = f->kernel->static_shared;
  out->maxDynamicSharedSizeBytes = static_cast<int>(f->most_dynamic);
  return cudaSuccess;
}
EXPORTED cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* out, const void* function, int threads,
                                                                            size_t shared, unsigned) {
  const Lock lock(mutex());
  const Registered* const f = find(function);
  if (f == nullptr || threads <= 0) return fail(cudaErrorInvalidDeviceFunction);
  const int by_registers = 65536 / 64 / threads;
  const int by_shared = (most_shared() + 1024) / static_cast<int>(shared + f->kernel->static_shared + 1024);
  *out = std::max(1, std::min({32, by_registers, by_shared}));
  return cudaSuccess;
}
EXPORTED cudaError_t cudaGetDevice(int* out) { return *out = 0, cudaSuccess; }
EXPORTED cudaError_t cudaDriverGetVersion(int* out) { return *out = 13000, cudaSuccess; }
EXPORTED cudaError_t cudaDeviceGetAttribute(int* out, cudaDeviceAttr name, int) {
  return *out = attribute(name), cudaSuccess;
}
EXPORTED const char* cudaGetErrorString(cudaError_t error) {
  if (error != cudaSuccess && static_cast<int>(error) == error_code()) return error_text();
  switch (static_cast<int>(error)) {
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInvalidDeviceFunction: return "invalid device function";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    default: return "an error";
  }
}
EXPORTED cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error != cudaSuccess ? error : static_cast<cudaError_t>(error_code());
}
EXPORTED cudaError_t cudaMalloc(void** out, size_t bytes) {
  const int error = reserve(reinterpret_cast<u64*>(out), bytes);
  return error == 0 ? cudaSuccess : fail(error);
}
EXPORTED cudaError_t cudaFree(void* at) {
  const int error = free_buffer(reinterpret_cast<u64>(at));
  return error == 0 ? cudaSuccess : fail(error);
}
EXPORTED cudaError_t cudaMemsetAsync(void* at, int value, size_t bytes, cudaStream_t) {
  return static_cast<cudaError_t>(fill(reinterpret_cast<u64>(at), static_cast<u8>(value), bytes));
}
EXPORTED cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  const int error = copy(reinterpret_cast<u64>(to), reinterpret_cast<u64>(from), bytes, kind != cudaMemcpyDeviceToHost,
                         kind != cudaMemcpyHostToDevice);
  return error == 0 ? cudaSuccess : fail(error);
}
EXPORTED cudaError_t cudaStreamSynchronize(cudaStream_t) {
  const int error = synchronize();
  return error == 0 ? cudaSuccess : fail(error);
}
EXPORTED cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus* status, unsigned long long* id,
                                              cudaGraph_t*, const cudaGraphNode_t**, const cudaGraphEdgeData**, size_t*) {
  *status = recorded != nullptr ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  if (id != nullptr) *id = recordings;
  return cudaSuccess;
}

// ---- the driver ----

EXPORTED int cuInit(unsigned) { return 0; }
EXPORTED int cuDriverGetVersion(int* out) { return *out = 13000, 0; }
EXPORTED int cuGetErrorName(int error, const char** out) {
  static const std::map<int, const char*> names = {
      {0, "CUDA_SUCCESS"}, {1, "CUDA_ERROR_INVALID_VALUE"}, {2, "CUDA_ERROR_OUT_OF_MEMORY"}, {100, "CUDA_ERROR_NO_DEVICE"},
      {101, "CUDA_ERROR_INVALID_DEVICE"}, {700, "CUDA_ERROR_ILLEGAL_ADDRESS"}, {716, "CUDA_ERROR_MISALIGNED_ADDRESS"},
      {719, "CUDA_ERROR_LAUNCH_FAILED"}, {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
      {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"}, {904, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED"}};
  const auto found = names.find(error);
  *out = found == names.end() ? nullptr : found->second;
  return found == names.end() ? 1 : 0;
}
EXPORTED int cuGetErrorString(int error, const char** out) {
  *out = cudaGetErrorString(static_cast<cudaError_t>(error));
  return 0;
}
EXPORTED int cuDeviceGetCount(int* out) { return *out = 1, 0; }
EXPORTED int cuDeviceGet(int* out, int ordinal) { return *out = 0, ordinal == 0 ? 0 : 101; }
EXPORTED int cuDeviceGetName(char* out, int bytes, int) {
  snprintf(out, static_cast<size_t>(bytes), "PTX interpreter");
  return 0;
}
EXPORTED int cuDeviceGetAttribute(int* out, int name, int) { return *out = attribute(name), 0; }
EXPORTED int cuDeviceGetPCIBusId(char* out, int bytes, int) {
  snprintf(out, static_cast<size_t>(bytes), "0000:00:00.0");
  return 0;
}
EXPORTED int cuDeviceTotalMem_v2(size_t* out, int) { return *out = options().memory, 0; }
EXPORTED int cuDevicePrimaryCtxRetain(void** out, int) {
  return *out = reinterpret_cast<void*>(1), hold(kContexts, 1);
}
EXPORTED int cuDevicePrimaryCtxRelease_v2(int) { return hold(kContexts, -1); }
EXPORTED int cuCtxSetCurrent(void*) { return 0; }
EXPORTED int cuMemGetInfo_v2(size_t* left, size_t* total) {
  const Lock lock(mutex());
  *total = options().memory;
  *left = *total - allocated(0);
  return 0;
}
EXPORTED int cuMemAlloc_v2(u64* out, size_t bytes) { return reserve(out, bytes); }
EXPORTED int cuMemFree_v2(u64 at) { return free_buffer(at); }
EXPORTED int cuMemcpyHtoDAsync_v2(u64 to, const void* from, size_t bytes, void*) {
  return copy(to, reinterpret_cast<u64>(from), bytes, true, false);
}
EXPORTED int cuMemcpyDtoHAsync_v2(void* to, u64 from, size_t bytes, void*) {
  return copy(reinterpret_cast<u64>(to), from, bytes, false, true);
}
EXPORTED int cuMemcpyDtoDAsync_v2(u64 to, u64 from, size_t bytes, void*) { return copy(to, from, bytes, true, true); }
EXPORTED int cuMemsetD8Async(u64 at, u8 value, size_t bytes, void*) { return fill(at, value, bytes); }
EXPORTED int cuStreamCreate(void** out, unsigned) {
  return *out = reinterpret_cast<void*>(16), hold(kStreams, 1);
}
EXPORTED int cuStreamDestroy_v2(void*) { return hold(kStreams, -1); }
EXPORTED int cuStreamSynchronize(void*) { return synchronize(); }
EXPORTED int cuStreamBeginCapture_v2(void*, int) {
  if (recorded != nullptr) return 901;
  recorded = std::make_unique<Graph>();
  recordings++;
  return 0;
}
EXPORTED int cuStreamEndCapture(void*, void** out) {
  if (recorded == nullptr) return 904;
  *out = recorded.release();
  return hold(kMemory, 1);
}
EXPORTED int cuGraphInstantiateWithFlags(void** out, void* graph, u64) {
  return *out = new Graph(*static_cast<Graph*>(graph)), hold(kMemory, 1);
}
EXPORTED int cuGraphLaunch(void* graph, void*) {
  const Lock lock(mutex());
  if (graph_error != 0) return graph_error;
  for (const auto& work : static_cast<Graph*>(graph)->work) act(work);
  return 0;
}
EXPORTED int cuGraphExecDestroy(void* graph) { return delete static_cast<Graph*>(graph), hold(kMemory, -1); }
EXPORTED int cuGraphDestroy(void* graph) { return delete static_cast<Graph*>(graph), hold(kMemory, -1); }
EXPORTED int cuEventCreate(void** out, unsigned) { return *out = new timespec{}, hold(kEvents, 1); }
EXPORTED int cuEventRecord(void* event, void*) { return clock_gettime(CLOCK_MONOTONIC, static_cast<timespec*>(event)); }
EXPORTED int cuEventSynchronize(void*) { return error_code(); }
EXPORTED int cuEventElapsedTime(float* out, void* from, void* to) {
  const timespec &a = *static_cast<timespec*>(from), &b = *static_cast<timespec*>(to);
  *out = std::max(1e-3f, static_cast<float>(1e3 * static_cast<double>(b.tv_sec - a.tv_sec) +
                                            1e-6 * static_cast<double>(b.tv_nsec - a.tv_nsec)));
  return 0;
}
EXPORTED int cuEventDestroy_v2(void* event) { return delete static_cast<timespec*>(event), hold(kEvents, -1); }
EXPORTED int cuTensorMapEncodeTiled(void* map, int type, u32 rank, void* address, const u64* sizes, const u64* strides,
                                    const u32* box, const u32* steps, int interleave, int swizzle, int, int fill) {
  return write_map(map, type, rank, address, sizes, strides, box, steps, interleave, swizzle, fill) ? 0 : 1;
}

// ---- of the interpreter ----

// Order of warps and blocks: 0 ascending, 1 descending, 2 random.
EXPORTED void tkf_ptx_order(int order) { options().order = order; }
// Launches of kernels and products by wgmma of this thread so far.
EXPORTED void tkf_ptx_counts(u64* out) { out[0] = num_launches, out[1] = num_products; }
// What was given out to this thread and not given back: memory and graphs, events, streams, contexts.
EXPORTED void tkf_ptx_held(int* out) {
  for (int i = 0; i < 4; i++) out[i] = held[i];
}
// Launches of graphs give this error from now on.
EXPORTED void tkf_ptx_fail_graphs(int error) { graph_error = error; }
