// What blocks find that share the keys of a row, and how it is put together.
//
// A split leaves [2 + head_dim] numbers for each row: the largest score, times log2(e); the sum of weights, 2 to the
// power of a score less the largest; the weighted sums of values. A row that sees none of a split's keys: sum 0.
#pragma once
#include "device.cuh"

namespace tkf {
namespace attention {

constexpr unsigned kMergeThreads = 128;

// Block-wide: writes a row's output, in T, from `splits` parts that lie `stride` numbers apart.
template <class T>
__device__ __forceinline__ void merge_splits(const float* parts, int64_t stride, int splits, int head_dim, T* out) {
  float top = -INFINITY;
  for (int s = 0; s < splits; s++) top = fmaxf(top, parts[s * stride]);
  const float base = top == -INFINITY ? 0.0f : top;
  for (int c = static_cast<int>(threadIdx.x); c < head_dim; c += static_cast<int>(blockDim.x)) {
    float sum = 0.0f, x = 0.0f;
    for (int s = 0; s < splits; s++) {
      const float* part = parts + s * stride;
      const float factor = exp2_fast(part[0] - base);
      sum = fmaf(part[1], factor, sum);
      x = fmaf(part[2 + c], factor, x);
    }
    out[c] = Element<T>::from_float(sum == 0.0f ? 0.0f : x / sum);
  }
}

}  // namespace attention
}  // namespace tkf
