// out = act(gate) * up; out may be gate.
#include "../common/launch.h"
#include "gate.cuh"

namespace tkf {

__global__ void __launch_bounds__(256) swiglu_kernel(const float* gate, const float* up, int64_t count, float* out) {
  wait_for_earlier_kernels();
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    out[i] = swiglu_of(gate[i], up[i]);
  }
}

__global__ void __launch_bounds__(256) geglu_kernel(const float* gate, const float* up, int64_t count, float* out) {
  wait_for_earlier_kernels();
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    out[i] = geglu_of(gate[i], up[i]);
  }
}

int32_t on_cuda::swiglu_apply(tkf_context* context, const tkf_swiglu_apply_args& a) {
  TKF_LAUNCH(cuda_stream(context), (swiglu_kernel), grid_of(a.count, 256), 256, 0, as<float>(a.gate), as<float>(a.up),
             a.count, as<float>(a.out));
  return cuda_launched(context, "swiglu");
}

int32_t on_cuda::geglu_apply(tkf_context* context, const tkf_geglu_apply_args& a) {
  TKF_LAUNCH(cuda_stream(context), (geglu_kernel), grid_of(a.count, 256), 256, 0, as<float>(a.gate), as<float>(a.up),
             a.count, as<float>(a.out));
  return cuda_launched(context, "geglu");
}

}  // namespace tkf
