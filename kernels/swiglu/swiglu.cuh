// out = gate / (1 + e^-slope) * up, see swiglu_cpu.cpp; out may be gate.
#pragma once
#include "../common/cuda.h"

namespace tkf {

// e^-gate overflows to infinity for gate < -88.7: the quotient is then -0, and the true value below 1e-36.
__global__ void __launch_bounds__(256) swiglu_kernel(const float* gate, const float* up, int64_t count, float* out) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    const float g = gate[i];
    out[i] = g / (1 + expf(-g)) * up[i];
  }
}

__global__ void __launch_bounds__(256) geglu_kernel(const float* gate, const float* up, int64_t count, float* out) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    const float g = gate[i], slope = 1.5957691216f * g * (1 + 0.044715f * g * g);
    out[i] = g / (1 + expf(-slope)) * up[i];
  }
}

}  // namespace tkf
