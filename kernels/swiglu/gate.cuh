// What a gate makes of two products: gate / (1 + e^-slope) * up, see gate.h.
#pragma once
#include "../common/kernels.h"
#include "../common/cuda/cuda.h"

namespace tkf {

// e^-slope overflows to infinity for slope < -88.7: the quotient is then -0, and the true value below 1e-36.
__device__ __forceinline__ float swiglu_of(float gate, float up) { return gate / (1 + expf(-gate)) * up; }

__device__ __forceinline__ float geglu_of(float gate, float up) {
  const float slope = 1.5957691216f * gate * (1 + 0.044715f * gate * gate);
  return gate / (1 + expf(-slope)) * up;
}

}  // namespace tkf
