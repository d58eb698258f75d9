// out = x W' for 9 to 32 rows of x and quantised weights, on tensor cores: a weight is decoded once for all rows, and
// both factors are sums of three parts of bf16 (split.cuh), 24 bits of each.
#pragma once
#include "../common/reduce.cuh"
#include "linear.h"
#include "split.cuh"

namespace tkf {

constexpr int kMmaWarps = 4, kMmaThreads = 32 * kMmaWarps, kMmaRows = 16;  // rows of a block, of both factors

// A finite number as the sum of three parts of bf16, each cut off; what is infinite gets NaN among its parts.
__device__ __forceinline__ void cut_bf16(float v, uint16_t (&parts)[3]) {
#pragma unroll
  for (int p = 0; p < 3; p++) {
    parts[p] = static_cast<uint16_t>(bits_as<uint32_t>(v) >> 16);
    v -= bits_as<float>(bits_as<uint32_t>(v) & 0xffff0000u);
  }
}

__device__ __forceinline__ uint32_t bf16_pair(uint16_t first, uint16_t second) {
  return first | static_cast<uint32_t>(second) << 16;
}

// A block takes 16 rows of weights and 16 of x; its warps share k. `x`: parts [3, rows of the list, k], `stride` values
// apart. What a lane decodes is a part of one block of two rows, 8 apart, and the four lanes of a
// row have four neighbours; in a product of 16 x 16, each gives its next four values, in places 2t, 2t + 1, 2t + 8 and
// 2t + 9 of k, where its own lanes of x put the same columns.
template <class Weight>
__global__ void __launch_bounds__(kMmaThreads, 2)
    few_rows_mma_kernel(const uint16_t* x, int64_t stride, const uint8_t* weight, RowList list, int64_t n, int64_t k,
                        float* out, int* fault) {
  wait_for_earlier_kernels();
  constexpr int N = kMmaRows / 8, VALUES = Weight::RUNS * Weight::RUN, STEP = 4 * kMmaWarps;  // parts of a row that a block takes at once
  static_assert(Weight::RUN == 4 && STEP % Weight::LANES == 0);
  TKF_SHARED(float[kMmaWarps][8 * N][kMmaRows], partial);
  const int32_t count = list.count();
  const int64_t groups = (list.rows + kMmaRows - 1) / kMmaRows, jobs = (n + kMmaRows - 1) / kMmaRows * groups;
  const int64_t blocks = k / Weight::VALUES;
  const int lane = lane_index(), warp = warp_index(), row = lane / 4;
  const int start = 4 * warp + lane % 4, part = start % Weight::LANES;

  for (int64_t job = blockIdx.x; job < jobs; job += gridDim.x) {
    const int64_t tile = job / groups;
    const int32_t top = static_cast<int32_t>(job - tile * groups) * kMmaRows;
    if (top >= count) continue;  // the same for all threads of the block
    const uint8_t* rows[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      rows[r] = weight + min(tile * kMmaRows + row + 8 * r, n - 1) * blocks * Weight::BYTES;
    }
    float totals[N][4] = {};
    // The lanes of a warp go on together.
    for (int64_t first = 4 * warp; first < blocks * Weight::LANES; first += STEP) {
      const int64_t block = (first + lane % 4) / Weight::LANES;
      const bool inside = block < blocks;
      float w[2][VALUES];
#pragma unroll
      for (int r = 0; r < 2; r++) Weight::decode(rows[r] + (inside ? block : 0) * Weight::BYTES, part, w[r]);
      float sums[N][4] = {};
#pragma unroll
      for (int run = 0; run < Weight::RUNS; run++) {
        uint32_t a[3][4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const float* pair = &w[i % 2][run * 4 + i / 2 * 2];
          uint16_t parts[2][3];
#pragma unroll
          for (int j = 0; j < 2; j++) cut_bf16(pair[j], parts[j]);
#pragma unroll
          for (int p = 0; p < 3; p++) a[p][i] = bf16_pair(parts[0][p], parts[1][p]);
        }
        const int64_t column = (inside ? block : 0) * Weight::VALUES + Weight::offset(part, run);
#pragma unroll
        for (int m = 0; m < N; m++) {
          const uint16_t* from = x + static_cast<int64_t>(min(top + 8 * m + row, count - 1)) * k + column;
          uint32_t b[3][2];
#pragma unroll
          for (int p = 0; p < 3; p++) {
            const uint2 v = __ldg(reinterpret_cast<const uint2*>(from + p * stride));
            b[p][0] = inside ? v.x : 0, b[p][1] = inside ? v.y : 0;
          }
          // The smallest first.
          mma_m16n8k16_bf16(sums[m], a[2], b[0], sums[m]);
          mma_m16n8k16_bf16(sums[m], a[1], b[1], sums[m]);
          mma_m16n8k16_bf16(sums[m], a[0], b[2], sums[m]);
          mma_m16n8k16_bf16(sums[m], a[1], b[0], sums[m]);
          mma_m16n8k16_bf16(sums[m], a[0], b[1], sums[m]);
          mma_m16n8k16_bf16(sums[m], a[0], b[0], sums[m]);
        }
      }
      // Tensor cores round a running sum down: no more than 128 products of k in one.
#pragma unroll
      for (int i = 0; i < 4 * N; i++) totals[i / 4][i % 4] += sums[i / 4][i % 4];
    }

#pragma unroll
    for (int m = 0; m < N; m++) {
#pragma unroll
      for (int i = 0; i < 4; i++) partial[warp][8 * m + lane % 4 * 2 + i % 2][row + i / 2 * 8] = totals[m][i];
    }
    __syncthreads();
#pragma unroll
    for (int e = 0; e < N; e++) {
      const int at = static_cast<int>(threadIdx.x) + e * kMmaThreads, number = at / kMmaRows;
      const int64_t column = tile * kMmaRows + at % kMmaRows;
      const int64_t to = top + number < count && column < n ? list.row(top + number, fault) : -1;
      if (to < 0) continue;
      float total = 0;
#pragma unroll
      for (int other = 0; other < kMmaWarps; other++) total += partial[other][number][at % kMmaRows];
      out[to * n + column] = total;
    }
    __syncthreads();
  }
}

}  // namespace tkf
