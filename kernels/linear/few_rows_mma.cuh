// out = x W' for few rows of x on tensor cores, where weights are read and decoded once for up to 16 of them. Quantised
// weights, 9 to 32 rows: both factors are sums of three parts of bf16 (split.cuh), 24 bits of each. Weights of 16 bits,
// 5 to 16 rows: they serve as they are, with x in parts of their type.
#pragma once
#include "../common/reduce.cuh"
#include "few_rows.cuh"
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
    few_rows_mma_kernel(const uint16_t* x, int64_t stride, ProductSet products, RowList list, int64_t k, int* fault) {
  wait_for_earlier_kernels();
  constexpr int N = kMmaRows / 8, VALUES = Weight::RUNS * Weight::RUN, STEP = 4 * kMmaWarps;  // parts of a row at once
  static_assert(Weight::RUN == 4 && STEP % Weight::LANES == 0);
  TKF_SHARED(float[kMmaWarps][8 * N][kMmaRows], partial);
  const int32_t count = list.count();
  const int64_t groups = (list.rows + kMmaRows - 1) / kMmaRows, jobs = products.tiles * groups;
  const int64_t blocks = k / Weight::VALUES;
  const int lane = lane_index(), warp = warp_index(), row = lane / 4;
  const int start = 4 * warp + lane % 4, part = start % Weight::LANES;

  for (int64_t job = blockIdx.x; job < jobs; job += gridDim.x) {
    const int64_t tile = job / groups;
    const int32_t top = static_cast<int32_t>(job - tile * groups) * kMmaRows;
    if (top >= count) continue;  // the same for all threads of the block
    const uint8_t* rows[2];
    {
      const WeightTile of = tile_of<kMmaRows>(products, tile);
      rows[0] = of.lower + min(of.first + row, of.n - 1) * blocks * Weight::BYTES;
      rows[1] = of.upper + min(of.second + row, of.n - 1) * blocks * Weight::BYTES;
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
            const uint2 v = *reinterpret_cast<const uint2*>(from + p * stride);
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
    write_sums<kMmaWarps, 8 * N, kMmaRows>(partial[0][0], 8 * N * kMmaRows, products, tile, list, top, count, nullptr,
                                           fault);
    __syncthreads();
  }
}

constexpr int kMma16Warps = 8, kMma16Threads = 32 * kMma16Warps, kMma16Rows = 32;  // rows of weights of a block

// A block takes 32 rows of weights and 8 N of x; its warps share k. Of k a lane has eight neighbours at a time, which are
// its columns of two products of 16 x 16, of weights and of x alike. x: parts as in split.cuh, three of bf16, or two of
// f16 and a factor for each row.
template <bool BF16, int N>
__global__ void __launch_bounds__(kMma16Threads, 1)
    few_rows_mma16_kernel(const uint16_t* x, int64_t stride, const float* scales, ProductSet products, RowList list,
                          int64_t k, int* fault) {
  wait_for_earlier_kernels();
  constexpr int PARTS = BF16 ? 3 : 2, STEP = 4 * kMma16Warps, EACH = 4;  // 128 products of k in one, as above
  TKF_SHARED(float[kMma16Warps][8 * N][kMma16Rows], partial);
  const int32_t count = list.count();
  const int64_t groups = (list.rows + 8 * N - 1) / (8 * N), jobs = products.tiles * groups;
  const int64_t pieces = k / 8;
  const int lane = lane_index(), warp = warp_index(), row = lane / 4;

  for (int64_t job = blockIdx.x; job < jobs; job += gridDim.x) {
    const int64_t tile = job / groups;
    const int32_t top = static_cast<int32_t>(job - tile * groups) * 8 * N;
    if (top >= count) continue;  // the same for all threads of the block
    const uint4 *w[4], *v[N][PARTS];
    {
      const WeightTile of = tile_of<kMma16Rows>(products, tile);
#pragma unroll
      for (int r = 0; r < 4; r++) {
        const int64_t first = r < 2 ? of.first : of.second;
        w[r] = reinterpret_cast<const uint4*>(r < 2 ? of.lower : of.upper) +
               min(first + row + 8 * (r % 2), of.n - 1) * pieces + 4 * warp + lane % 4;
      }
    }
#pragma unroll
    for (int m = 0; m < N; m++) {
#pragma unroll
      for (int p = 0; p < PARTS; p++) {
        v[m][p] = reinterpret_cast<const uint4*>(x + p * stride) +
                  static_cast<int64_t>(min(top + 8 * m + row, count - 1)) * pieces + 4 * warp + lane % 4;
      }
    }
    float totals[2][N][4] = {};
    // The lanes of a warp go on together.
    for (int64_t first = 4 * warp; first < pieces; first += EACH * STEP) {
      float sums[2][N][4] = {};
#pragma unroll
      for (int e = 0; e < EACH; e++) {
        const bool inside = first + lane % 4 + e * STEP < pieces;
        uint4 a[4], b[N][PARTS];
#pragma unroll
        for (int r = 0; r < 4; r++) a[r] = inside ? __ldg(w[r] + e * STEP) : uint4{0, 0, 0, 0};
#pragma unroll
        for (int m = 0; m < N; m++) {
#pragma unroll
          for (int p = 0; p < PARTS; p++) b[m][p] = inside ? v[m][p][e * STEP] : uint4{0, 0, 0, 0};
        }
#pragma unroll
        for (int m = 0; m < N; m++) {
#pragma unroll
          for (int t = 0; t < 2; t++) {
            const uint4 low = a[2 * t], high = a[2 * t + 1];
            const uint32_t left[4] = {low.x, high.x, low.y, high.y}, right[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
            for (int p = PARTS - 1; p >= 0; p--) {  // the smallest first
              const uint32_t one[2] = {b[m][p].x, b[m][p].y}, other[2] = {b[m][p].z, b[m][p].w};
              if constexpr (BF16) {
                mma_m16n8k16_bf16(sums[t][m], left, one, sums[t][m]);
                mma_m16n8k16_bf16(sums[t][m], right, other, sums[t][m]);
              } else {
                mma_m16n8k16_f16(sums[t][m], left, one, sums[t][m]);
                mma_m16n8k16_f16(sums[t][m], right, other, sums[t][m]);
              }
            }
          }
        }
      }
#pragma unroll
      for (int r = 0; r < 4; r++) w[r] += EACH * STEP;
#pragma unroll
      for (int m = 0; m < N; m++) {
#pragma unroll
        for (int p = 0; p < PARTS; p++) v[m][p] += EACH * STEP;
#pragma unroll
        for (int i = 0; i < 8; i++) totals[i / 4][m][i % 4] += sums[i / 4][m][i % 4];
      }
    }

#pragma unroll
    for (int m = 0; m < N; m++) {
#pragma unroll
      for (int i = 0; i < 8; i++) {
        partial[warp][8 * m + lane % 4 * 2 + i % 2][row + i / 2 * 8] = totals[i / 4][m][i % 4];
      }
    }
    __syncthreads();
    write_sums<kMma16Warps, 8 * N, kMma16Rows>(partial[0][0], 8 * N * kMma16Rows, products, tile, list, top, count,
                                               scales, fault);
    __syncthreads();
  }
}

}  // namespace tkf
