// out = x W' for few rows of x on tensor cores, where weights are read and decoded once for up to 32 of them. x comes in
// parts of 16 bits (split.cuh), two of f16 with a factor for each row, or for weights of bf16 three of theirs. Quantised
// weights, 5 to 64 rows: whole numbers, exact in f16, are multiplied, and sums of a group take its factors. Weights of
// 16 bits, 5 to 16 rows: they serve as they are.
#pragma once
#include "../common/cuda/reduce.cuh"
#include "few_rows.cuh"
#include "quants.cuh"

namespace tkf {

// Warps of a block, which share k; rows of weights of a block, and of x.
constexpr int kMmaWarps = 6, kMmaThreads = 32 * kMmaWarps, kMmaRows = 16, kMmaRowsOfX = 32;

template <class Weight>
constexpr int kPartsOfX = std::is_same<Weight, WeightBf16>::value ? 3 : 2;

// Blocks that a multiprocessor is to hold, which bounds a thread's registers: as many as do without spilling.
template <class Weight>
constexpr int kMmaBlocks = std::is_same<Weight, WeightQ5_1>::value || std::is_same<Weight, WeightQ2_K>::value ? 1 : 2;

// x: parts [kPartsOfX, rows of the list, k in whole steps], `stride` values apart; sums: those of its groups [rows, groups], for
// types with LEAST. Of a row of weights, four lanes take a step; of the 16 x 16 values of a product each has four in
// places 2t, 2t + 1, 2t + 8 and 2t + 9 of k, where its lanes of x put the same columns.
template <class Weight>
__global__ void __launch_bounds__(kMmaThreads, kMmaBlocks<Weight>)
    few_rows_mma_kernel(const uint16_t* x, int64_t stride, const float* scales, const float* x_sums,
                        ProductSet products, RowList list, int64_t k, int* fault) {
  wait_for_earlier_kernels();
  using Q = Quants<Weight>;
  constexpr int N = kMmaRowsOfX / 8, GROUPS = Q::GROUPS, WORDS = 8 / GROUPS, GROUP = kStepValues / GROUPS;
  constexpr bool DENSE = Weight::VALUES < 32, BF16 = kPartsOfX<Weight> == 3;
  TKF_SHARED(float[kMmaWarps][kMmaRowsOfX][kMmaRows], partial);
  const int32_t count = list.count();
  const int64_t per_tile = (list.rows + kMmaRowsOfX - 1) / kMmaRowsOfX, jobs = products.tiles * per_tile;
  const int blocks = static_cast<int>(k / Weight::VALUES), steps = static_cast<int>((k + kStepValues - 1) / kStepValues);
  const int lane = lane_index(), warp = warp_index(), row = lane / 4, t = lane % 4;

  for (int64_t job = blockIdx.x; job < jobs; job += gridDim.x) {
    const int64_t tile = job / per_tile;
    const int32_t top = static_cast<int32_t>(job - tile * per_tile) * kMmaRowsOfX;
    if (top >= count) continue;  // the same for all threads of the block
    const int tiles = (min(count - top, kMmaRowsOfX) + 7) / 8;
    const uint8_t* w_rows[2];
    {
      const WeightTile of = tile_of<kMmaRows>(products, tile);
      w_rows[0] = of.lower + min(of.first + row, of.n - 1) * blocks * Weight::BYTES;
      w_rows[1] = of.upper + min(of.second + row, of.n - 1) * blocks * Weight::BYTES;
    }
    float totals[N][4] = {};
    // The lanes of a warp go on together.
    for (int step = warp; step < steps; step += kMmaWarps) {
      uint32_t q[2][8], a[8][4];
      float d[2][GROUPS], m[2][GROUPS];
#pragma unroll
      for (int r = 0; r < 2; r++) {
        if constexpr (DENSE) {
#pragma unroll
          for (int g = 0; g < GROUPS; g++) {
            const int piece = min((step * GROUPS + g) * 4 + t, blocks - 1);  // past the last x is 0
            const uint4 v = __ldg(reinterpret_cast<const uint4*>(w_rows[r]) + piece);
            a[2 * g][r] = v.x, a[2 * g][2 + r] = v.y, a[2 * g + 1][r] = v.z, a[2 * g + 1][2 + r] = v.w;
          }
        } else if constexpr (Weight::VALUES < kStepValues) {
#pragma unroll
          for (int g = 0; g < GROUPS; g++) {
            const int block = min(step * GROUPS + g, blocks - 1);
            Q::group(w_rows[r] + int64_t{block} * Weight::BYTES, t, q[r] + WORDS * g, d[r] + g, m[r] + g);
          }
        } else {
          Q::step(w_rows[r] + int64_t{step / 2} * Weight::BYTES, step % 2, t, q[r], d[r], m[r]);
        }
      }
#pragma unroll
      for (int i = 0; !DENSE && i < 16; i++) {
        bytes_to_halves<Q::ZERO>(q[i % 2][i / 2], &a[i / 2][i % 2], &a[i / 2][2 + i % 2]);
      }
#pragma unroll
      for (int n = 0; n < N; n++) {
        if (n >= tiles) break;
        const int64_t x_step = int64_t{min(top + 8 * n + row, count - 1)} * steps + step;
        const uint16_t* const from = x + x_step * kStepValues + Q::EACH * t;
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {
          float sums[4] = {};
#pragma unroll
          for (int p = kPartsOfX<Weight> - 1; p >= 0; p--) {  // the small parts first
#pragma unroll
            for (int w = 0; w < WORDS; w++) {
              const uint2 v = *reinterpret_cast<const uint2*>(from + p * stride + g * GROUP + Q::NEXT * w);
              const uint32_t b[2] = {v.x, v.y};
              BF16 ? mma_m16n8k16_bf16(sums, a[WORDS * g + w], b, sums)
                   : mma_m16n8k16_f16(sums, a[WORDS * g + w], b, sums);
            }
          }
#pragma unroll
          for (int i = 0; i < 4; i++) totals[n][i] = fmaf(DENSE ? 1.0f : d[i / 2][g], sums[i], totals[n][i]);
        }
        if constexpr (Q::LEAST) {
#pragma unroll
          for (int j = 0; j < 2; j++) {
            const int64_t sums_step = int64_t{min(top + 8 * n + 2 * t + j, count - 1)} * steps + step;
            const float4* const of = reinterpret_cast<const float4*>(x_sums + sums_step * GROUPS);
#pragma unroll
            for (int g = 0; g < GROUPS; g += 4) {
              const float4 four = of[g / 4];
              const float sums[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
              for (int i = 0; i < 8; i++) {
                float& total = totals[n][i / 4 * 2 + j];
                total = fmaf(m[i / 4][g + i % 4], sums[i % 4], total);
              }
            }
          }
        }
      }
    }

#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) partial[warp][8 * n + t * 2 + i % 2][row + i / 2 * 8] = totals[n][i];
    }
    __syncthreads();
    write_sums<kMmaWarps, kMmaRowsOfX, kMmaRows>(partial[0][0], kMmaRowsOfX * kMmaRows, products, tile, list, top,
                                                 count, scales, fault);
    __syncthreads();
  }
}

}  // namespace tkf
