// What the device can do at most: multiply-adds in registers, and copying in memory.
#pragma once
#include "../common/cuda.h"

namespace tkf {

constexpr int kMultiplyChains = 8, kMultiplyThreads = 256;

// `rounds` of independent multiply-adds a thread; `sink` keeps the compiler from leaving them out.
__global__ void __launch_bounds__(kMultiplyThreads) multiply_kernel(int rounds, float* sink) {
  float x[kMultiplyChains];
#pragma unroll
  for (int i = 0; i < kMultiplyChains; i++) x[i] = static_cast<float>(threadIdx.x + static_cast<unsigned>(i));
  for (int round = 0; round < rounds; round++) {
#pragma unroll
    for (int i = 0; i < kMultiplyChains; i++) x[i] = fmaf(x[i], 0.999f, 0.001f);
  }
  float total = 0;
#pragma unroll
  for (int i = 0; i < kMultiplyChains; i++) total += x[i];
  if (total == -1) *sink = total;  // never
}

__global__ void __launch_bounds__(256) copy_kernel(const float4* from, float4* to, int64_t count) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) to[i] = from[i];
}

}  // namespace tkf
