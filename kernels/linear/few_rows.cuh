// What kernels of few rows of x share: the sums of a block's warps, added and written.
#pragma once
#include "../swiglu/gate.cuh"
#include "linear.h"

namespace tkf {

// The same number, without the compiler knowing so: what follows from it is found anew, and not held in registers
// through the loop before.
__device__ __forceinline__ int64_t forgotten(int64_t value) {
#if defined(__CUDA_ARCH__)
  asm volatile("" : "+l"(value));
#endif
  return value;
}

// Where a block's sums go. `sums`: [WARPS], `stride` values apart, each [X rows of x][ROWS rows of weights]; all are there.
// The rows of x are [top, count) of the list, each times its factor, where there are `scales`.
template <int WARPS, int X, int ROWS>
__device__ __forceinline__ void write_sums(const float* sums, int stride, const ProductSet& products, int64_t tile,
                                           const RowList& list, int32_t top, int32_t count, const float* scales,
                                           int* fault) {
  const WeightTile of = tile_of<ROWS>(products, forgotten(tile));
  const bool gated = products.gate != TKF_GATE_NONE;
  for (int at = static_cast<int>(threadIdx.x); at < X * ROWS; at += 32 * WARPS) {
    const int number = top + at / ROWS, r = at % ROWS;
    if (number >= count || of.first + r >= of.n || (gated && r >= ROWS / 2)) continue;
    const int64_t row = list.row(number, fault);
    if (row < 0) continue;
    const float scale = scales == nullptr ? 1 : scales[number];
    const auto total = [&](int entry) {
      float sum = sums[entry];
#pragma unroll
      for (int warp = 1; warp < WARPS; warp++) sum += sums[warp * stride + entry];
      return scale * sum;
    };
    float value = total(at);
    if (gated) {
      const float up = total(at + ROWS / 2);
      value = products.gate == TKF_GATE_SWIGLU ? swiglu_of(value, up) : geglu_of(value, up);
    }
    of.out[row * of.n + of.first + r] = value;
  }
}

}  // namespace tkf
