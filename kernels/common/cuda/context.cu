// Contexts of the CUDA library. This file alone allocates, waits and reads back: the launchers of ops only launch.
#include "context.h"

#include <cinttypes>
#include <cstdio>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "../../filtered_attention/cuda/launchers.h"
#include "../../linear/cublaslt.h"
#include "../check.h"

namespace tkf {
namespace {

const char* const kFaultMessages[kNumFaults] = {
    "nothing",
    "found an index outside its table, expected ids, rows and targets that exist",
    "found positions that do not ascend, or a negative one",
    "found a cache without a free row, expected a larger capacity",
    "found a number that is not finite, expected finite inputs",
    "found a filter state that does not allow this call",
};

struct CudaContext final : tkf_context {
  cudaStream_t stream = nullptr;
  int* fault = nullptr;
  void* workspace = nullptr;
  size_t workspace_bytes = 0, workspace_wanted = 0;
  bool recorded = false;  // a graph was recorded that uses `workspace`
  std::vector<void*> old_workspaces;  // that graphs may still use
  SplitRows split = {};
  int num_sms = 0, arch = 0;
  bool wgmma = false, dependent = false, bf16 = false;
  std::unique_ptr<CublasLt> cublaslt;

  ~CudaContext() override {
    cublaslt.reset();
    cudaFree(fault);
    cudaFree(workspace);
    for (void* old : old_workspaces) cudaFree(old);
    cudaGetLastError();  // not reported: the next launch of another context did not fail
  }
};

CudaContext* cuda(tkf_context* context) { return static_cast<CudaContext*>(context); }
const CudaContext* cuda(const tkf_context* context) { return static_cast<const CudaContext*>(context); }

char create_message[512] = "";

int32_t fail_create(CudaContext* context, int32_t status, const char* what, cudaError_t error) {
  snprintf(create_message, sizeof create_message, "%s: %s (CUDA error %d)", what, cudaGetErrorString(error),
           static_cast<int>(error));
  delete context;
  return status;
}

// A failure of the CUDA runtime as a status, with its message. It is reported here, so the runtime is to forget it: the
// next launch would be taken for failed.
int32_t fail_runtime(tkf_context* context, const char* what, cudaError_t error) {
  cudaGetLastError();
  snprintf(context->message, sizeof context->message, "%s: %s (CUDA error %d)", what, cudaGetErrorString(error),
           static_cast<int>(error));
  return error == cudaErrorMemoryAllocation ? TKF_STATUS_MEMORY : TKF_STATUS_UNSUPPORTED;
}

}  // namespace

Stream cuda_stream(const tkf_context* context) { return {cuda(context)->stream, cuda(context)->dependent}; }
int* cuda_fault(const tkf_context* context) { return cuda(context)->fault; }
int cuda_num_sms(const tkf_context* context) { return cuda(context)->num_sms; }
int cuda_arch(const tkf_context* context) { return cuda(context)->arch; }
CublasLt* cuda_cublaslt(const tkf_context* context) { return cuda(context)->cublaslt.get(); }

bool cuda_wgmma(const tkf_context* context) { return cuda(context)->wgmma; }
bool cuda_bf16(const tkf_context* context) { return cuda(context)->bf16; }

void* cuda_workspace(tkf_context* context, size_t bytes) {
  CudaContext* const own = cuda(context);
  own->split = {};
  if (bytes > own->workspace_bytes) return nullptr;
  own->recorded = own->recorded || cuda_capture(context) != 0;
  return own->workspace;
}

SplitRows& cuda_split_rows(tkf_context* context) { return cuda(context)->split; }

unsigned long long cuda_capture(tkf_context* context) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  const cudaError_t error = cudaStreamGetCaptureInfo(cuda_stream(context), &status, &id);
  if (error == cudaSuccess && status != cudaStreamCaptureStatusActive) return 0;
  if (error == cudaSuccess) return id;
  cudaGetLastError();
  return ~0ull;
}

int32_t cuda_short(tkf_context* context, size_t bytes) {
  cuda(context)->workspace_wanted = bytes;
  snprintf(context->message, sizeof context->message,
           "found a workspace of %zu bytes, expected %zu: call tkf_cuda_workspace_reserve first",
           cuda(context)->workspace_bytes, bytes);
  context->launch_status = TKF_STATUS_STATE;
  return TKF_STATUS_STATE;
}

int32_t cuda_launched(tkf_context* context, const char* what) {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return TKF_STATUS_OK;
  context->launch_status = fail_runtime(context, what, error);
  return context->launch_status;
}

}  // namespace tkf

int32_t tkf_context_create(int32_t, int32_t, tkf_context** out) {
  if (out == nullptr) return TKF_STATUS_NULL;
  *out = nullptr;
  return TKF_STATUS_UNSUPPORTED;
}

int32_t tkf_context_best_level(void) { return -1; }
int32_t tkf_context_levels(void) { return 0; }

int32_t tkf_products_use(tkf_context* context, int32_t products) {
  tkf::Check check(context);
  const bool bf16 = products == TKF_PRODUCTS_BF16;
  check.require(bf16 || products == TKF_PRODUCTS_EXACT, TKF_STATUS_UNSUPPORTED,
                "found other products than exact ones (0) and those in bf16 (1)");
  check.require(!bf16 || tkf::cuda_cublaslt(context) != nullptr, TKF_STATUS_UNSUPPORTED, "found no cuBLASLt");
  if (check.ok()) tkf::cuda(context)->bf16 = bf16;
  return check.status();
}

int32_t tkf_blas_load(tkf_context* context, const char* path) {
  tkf::Check check(context);
  check.require(path != nullptr, TKF_STATUS_NULL, "found NULL for \"path\", expected the path of a cuBLASLt");
  if (!check.ok()) return check.status();
  char why[400] = "";
  std::unique_ptr<tkf::CublasLt> loaded = tkf::cublaslt_load(path, why, sizeof why);
  if (loaded == nullptr) return check.fail(TKF_STATUS_UNSUPPORTED, "%s", why);
  tkf::cuda(context)->cublaslt = std::move(loaded);
  return TKF_STATUS_OK;
}

const char* tkf_context_description(tkf_context* context) {
  if (context == nullptr) return "";
  snprintf(context->description, sizeof context->description, "sm_%d, %d SMs, %s", tkf::cuda_arch(context),
           tkf::cuda_num_sms(context), tkf::cuda_products(context));
  return context->description;
}

const char* tkf_cuda_create_message(void) { return tkf::create_message; }

int32_t tkf_cuda_context_create(void* stream, tkf_context** out) {
  if (out == nullptr) return TKF_STATUS_NULL;
  *out = nullptr;
  tkf::CudaContext* context = new (std::nothrow) tkf::CudaContext();
  if (context == nullptr) return TKF_STATUS_MEMORY;
  int device = 0, major = 0, minor = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&context->num_sms, cudaDevAttrMultiProcessorCount, device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  if (error != cudaSuccess) return tkf::fail_create(context, TKF_STATUS_UNSUPPORTED, "found no usable device", error);
  context->arch = 10 * major + minor;
  if (context->arch < 80) {
    snprintf(tkf::create_message, sizeof tkf::create_message, "found a device of sm_%d, expected sm_80 or later",
             context->arch);
    delete context;
    return TKF_STATUS_UNSUPPORTED;
  }
  context->on_device = true;
  context->stream = static_cast<cudaStream_t>(stream);
  error = cudaMalloc(reinterpret_cast<void**>(&context->fault), sizeof(int));
  if (error == cudaSuccess) error = cudaMemsetAsync(context->fault, 0, sizeof(int), context->stream);
  if (error == cudaSuccess) error = cudaStreamSynchronize(context->stream);
  if (error != cudaSuccess) return tkf::fail_create(context, TKF_STATUS_MEMORY, "found no device memory", error);
  *out = context;
  return TKF_STATUS_OK;
}

int32_t tkf_cuda_workspace_reserve(tkf_context* context, uint64_t bytes) {
  if (context == nullptr) return TKF_STATUS_NULL;
  tkf::CudaContext* own = tkf::cuda(context);
  if (bytes <= own->workspace_bytes) return TKF_STATUS_OK;
  cudaError_t error = cudaStreamSynchronize(own->stream);  // what runs may still use the old one
  if (error != cudaSuccess) return tkf::fail_runtime(context, "found a failed kernel", error);
  void* fresh = nullptr;
  const uint64_t rounded = bytes > UINT64_MAX - 4095 ? bytes : (bytes + 4095) / 4096 * 4096;
  error = cudaMalloc(&fresh, rounded);
  if (error != cudaSuccess) {
    cudaGetLastError();  // as in fail_runtime
    snprintf(context->message, sizeof context->message, "found no %" PRIu64 " bytes of device memory for a workspace",
             rounded);
    return TKF_STATUS_MEMORY;
  }
  if (own->recorded) {
    try {
      own->old_workspaces.push_back(own->workspace);
    } catch (...) {  // of memory alone, but nothing may cross the ABI
      cudaFree(fresh);
      return tkf::Check(context).fail_memory();
    }
  } else {
    cudaFree(own->workspace);
  }
  own->workspace = fresh;
  own->workspace_bytes = rounded;
  own->recorded = false;
  return TKF_STATUS_OK;
}

int32_t tkf_cuda_wgmma_use(tkf_context* context, int32_t use) {
  tkf::Check check(context);
  check.require(use == 0 || use == 1, TKF_STATUS_VALUE, "found neither 0 nor 1 for \"use\"");
  if (!check.ok()) return check.status();
  if (use == 1 && !tkf::attention::has_wgmma(context)) {
    return check.fail(TKF_STATUS_UNSUPPORTED, "found sm_%d, or a build without its code, expected a build for sm_90a",
                      tkf::cuda_arch(context));
  }
  tkf::cuda(context)->wgmma = use == 1;
  return TKF_STATUS_OK;
}

int32_t tkf_cuda_dependent_launch_use(tkf_context* context, int32_t use) {
  tkf::Check check(context);
  check.require(use == 0 || use == 1, TKF_STATUS_VALUE, "found neither 0 nor 1 for \"use\"");
  if (!check.ok()) return check.status();
  const int arch = tkf::cuda_arch(context);
  constexpr int kDriver = 12030;  // graphs have such edges since
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess) cudaGetLastError();
  if (use == 1 && (arch < 90 || driver < kDriver || !tkf::cuda_kernels_wait())) {
    return check.fail(TKF_STATUS_UNSUPPORTED,
                      "found sm_%d, a driver of CUDA %d.%d, or a build for earlier devices, expected sm_90 or later, a "
                      "driver of CUDA 12.3 or later, and a build for the device",
                      arch, driver / 1000, driver % 1000 / 10);
  }
  tkf::cuda(context)->dependent = use == 1;
  return TKF_STATUS_OK;
}

uint64_t tkf_cuda_workspace_wanted(tkf_context* context) {
  if (context == nullptr) return 0;
  const uint64_t wanted = tkf::cuda(context)->workspace_wanted;
  tkf::cuda(context)->workspace_wanted = 0;
  return wanted;
}

int32_t tkf_cuda_synchronize(tkf_context* context) {
  if (context == nullptr) return TKF_STATUS_NULL;
  tkf::CudaContext* own = tkf::cuda(context);
  int fault = 0;
  cudaError_t error =
      cudaMemcpyAsync(&fault, own->fault, sizeof fault, cudaMemcpyDeviceToHost, own->stream);
  if (error == cudaSuccess) error = cudaMemsetAsync(own->fault, 0, sizeof fault, own->stream);
  if (error == cudaSuccess) error = cudaStreamSynchronize(own->stream);
  if (error != cudaSuccess) return tkf::fail_runtime(context, "found a failed kernel", error);
  if (fault <= tkf::kFaultNone || fault >= tkf::kNumFaults) return TKF_STATUS_OK;
  snprintf(context->message, sizeof context->message, "%s", tkf::kFaultMessages[fault]);
  return fault == tkf::kFaultState ? TKF_STATUS_STATE : TKF_STATUS_VALUE;
}
