// out = act(gate) * up; out may be gate.
#include "../common/cuda/launch.h"
#include "gate.cuh"

namespace tkf {

template <int KIND>
__global__ void __launch_bounds__(256) gate_kernel(const float* gate, const float* up, int64_t count, float* out) {
  wait_for_earlier_kernels();
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    out[i] = KIND == TKF_GATE_SWIGLU ? swiglu_of(gate[i], up[i]) : geglu_of(gate[i], up[i]);
  }
}

int32_t on_cuda::gate_apply(tkf_context* context, const tkf_gate_apply_args& a) {
  with_size<TKF_GATE_SWIGLU, TKF_GATE_GEGLU>(a.kind, [&](auto kind) {
    TKF_LAUNCH(cuda_stream(context), (gate_kernel<decltype(kind)::value>), grid_of(a.count, 256), 256, 0,
               as<float>(a.gate), as<float>(a.up), a.count, as<float>(a.out));
  });
  return cuda_launched(context, "gate");
}

}  // namespace tkf
