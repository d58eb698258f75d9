// out = x W' for many rows of x, without cuBLASLt: float32 tiles, and tensor-core tiles of 16-bit parts (split.cuh).
#pragma once
#include "../common/reduce.cuh"
#include "linear.h"
#include "split.cuh"

namespace tkf {

// ---- float32 ----

constexpr int kF32Tile = 64, kF32Depth = 16, kF32Threads = 256;

// A block a tile of 64 rows of x and 64 of weights; a thread 4 x 4 results, 16 apart.
__global__ void __launch_bounds__(kF32Threads)
    f32_product_kernel(const float* x, const float* weight, RowList list, int64_t n, int64_t k, float* out,
                       int* fault) {
  wait_for_earlier_kernels();
  TKF_SHARED(float[kF32Depth][kF32Tile + 4], xs);
  TKF_SHARED(float[kF32Depth][kF32Tile + 4], ws);
  const int32_t count = list.count();
  const int64_t tiles_n = (n + kF32Tile - 1) / kF32Tile, tiles = tiles_n * ((list.rows + kF32Tile - 1) / kF32Tile);
  const int thread = static_cast<int>(threadIdx.x), tx = thread % 16, ty = thread / 16;

  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int32_t top = static_cast<int32_t>(tile / tiles_n) * kF32Tile;
    const int64_t left = tile % tiles_n * kF32Tile;
    if (top >= count) continue;  // the same for all threads of the block
    // A thread loads column tx of rows ty, ty + 16, ... of both.
    const float* x_rows[4];
    const float* w_rows[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int64_t row = list.row(min(top + ty + 16 * i, count - 1), fault);
      x_rows[i] = x + max(row, static_cast<int64_t>(0)) * k;
      w_rows[i] = weight + min(left + ty + 16 * i, n - 1) * k;
    }
    float sums[4][4] = {};
    for (int64_t at = 0; at < k; at += kF32Depth) {
      const bool inside = at + tx < k;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        xs[tx][ty + 16 * i] = inside ? x_rows[i][at + tx] : 0.0f;
        ws[tx][ty + 16 * i] = inside ? __ldg(w_rows[i] + at + tx) : 0.0f;
      }
      __syncthreads();
#pragma unroll
      for (int d = 0; d < kF32Depth; d++) {
        float a[4], b[4];
#pragma unroll
        for (int i = 0; i < 4; i++) a[i] = xs[d][ty + 16 * i], b[i] = ws[d][tx + 16 * i];
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
          for (int j = 0; j < 4; j++) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
        }
      }
      __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int32_t number = top + ty + 16 * i;
      const int64_t row = number < count ? list.row(number, fault) : -1;
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const int64_t column = left + tx + 16 * j;
        if (row >= 0 && column < n) out[row * n + column] = sums[i][j];
      }
    }
  }
}

// ---- 16-bit parts on tensor cores ----

constexpr int kPartTile = 64, kPartDepth = 32, kPartThreads = 128;
// Tensor cores round a running sum down: after this many values of k it is added to another in float32.
constexpr int kPartStretch = 128;

struct PartProduct {
  const uint16_t* x;       // parts [XP][rows][padded_k], `x_stride` values apart
  const uint16_t* weight;  // parts [WP][n][padded_k], `w_stride` values apart
  const float* x_scales;   // [rows], or NULL
  const float* w_scales;   // [n], or NULL
  float* out;              // at the first of these n columns
  int64_t x_stride, w_stride, n, padded_k, out_stride;
};

// Shared memory of two stages of all parts' tiles.
template <int XP, int WP>
constexpr int kPartSharedBytes = 2 * (XP + WP) * kPartTile * kPartDepth * 2;

// Where 16 bytes (`piece` 0..3) of a tile's row lie: shuffled, so that eight rows' pieces are in eight places of the
// banks, and ldmatrix reads them at once.
__device__ __forceinline__ int piece_at(int row, int piece) {
  return row * kPartDepth + ((piece ^ (row >> 1 & 3)) * 8);
}

// One tile of 64 rows, depth values [at, at + 32), from a matrix of `rows` rows; zeros below them.
__device__ __forceinline__ void load_part_tile(uint16_t* shared, const uint16_t* from, int64_t first, int64_t rows,
                                               int64_t stride, int64_t at) {
#pragma unroll
  for (int i = 0; i < kPartTile * kPartDepth / 8 / kPartThreads; i++) {
    const int piece = static_cast<int>(threadIdx.x) + i * kPartThreads, row = piece / 4;
    const bool inside = first + row < rows;
    cp_async_16(shared + piece_at(row, piece % 4), from + (inside ? first + row : 0) * stride + at + piece % 4 * 8,
                inside);
  }
}

// A block a tile of 64 rows of x and 64 of weights; a warp 32 x 32 of it. Products of parts x and w where x + w < XP:
// what is left out is below the last bit kept.
template <bool BF16, int XP, int WP>
__global__ void __launch_bounds__(kPartThreads) part_product_kernel(PartProduct p, RowList list, int* fault) {
  wait_for_earlier_kernels();
  TKF_DYNAMIC_SHARED(uint16_t, shared);
  constexpr int tile_values = kPartTile * kPartDepth, stage_values = (XP + WP) * tile_values;
  const int32_t count = list.count();
  const int64_t tiles_n = (p.n + kPartTile - 1) / kPartTile;
  const int64_t tiles = tiles_n * ((list.rows + kPartTile - 1) / kPartTile);
  const int lane = lane_index(), warp_row = warp_index() / 2 * 32, warp_column = warp_index() % 2 * 32;
  // Rows and pieces that this lane names to ldmatrix: matrices are (rows 0-7, 8-15) x (first, second half of 16) of x,
  // and of weights (first, second half) x (rows 0-7, 8-15).
  const int x_row = warp_row + lane % 16, x_piece = lane / 16;
  const int w_row = warp_column + lane % 8 + lane / 16 * 8, w_piece = lane / 8 % 2;

  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int32_t top = static_cast<int32_t>(tile / tiles_n) * kPartTile;
    const int64_t left = tile % tiles_n * kPartTile;
    if (top >= count) continue;  // the same for all threads of the block
    const auto load_stage = [&](int stage, int64_t at) {
      uint16_t* to = shared + stage * stage_values;
#pragma unroll
      for (int i = 0; i < XP; i++) {
        load_part_tile(to + i * tile_values, p.x + i * p.x_stride, top, count, p.padded_k, at);
      }
#pragma unroll
      for (int i = 0; i < WP; i++) {
        load_part_tile(to + (XP + i) * tile_values, p.weight + i * p.w_stride, left, p.n, p.padded_k, at);
      }
    };

    float totals[2][4][4] = {}, sums[2][4][4] = {};
    load_stage(0, 0);
    cp_async_commit();
    int stage = 0;
    for (int64_t at = 0; at < p.padded_k; at += kPartDepth, stage ^= 1) {
      if (at + kPartDepth < p.padded_k) load_stage(stage ^ 1, at + kPartDepth);
      cp_async_commit();
      cp_async_wait<1>();
      __syncthreads();
      const uint16_t* from = shared + stage * stage_values;
#pragma unroll
      for (int half = 0; half < kPartDepth / 16; half++) {
        uint32_t a[XP][2][4], b[WP][4][2];
#pragma unroll
        for (int i = 0; i < XP; i++) {
#pragma unroll
          for (int m = 0; m < 2; m++) {
            ldmatrix_x4(a[i][m], from + i * tile_values + piece_at(x_row + 16 * m, 2 * half + x_piece));
          }
        }
#pragma unroll
        for (int i = 0; i < WP; i++) {
#pragma unroll
          for (int j = 0; j < 4; j += 2) {
            uint32_t r[4];
            ldmatrix_x4(r, from + (XP + i) * tile_values + piece_at(w_row + 8 * j, 2 * half + w_piece));
            b[i][j][0] = r[0], b[i][j][1] = r[1], b[i][j + 1][0] = r[2], b[i][j + 1][1] = r[3];
          }
        }
#pragma unroll
        for (int i = 0; i < XP; i++) {
#pragma unroll
          for (int w = 0; w < WP && i + w < XP; w++) {
#pragma unroll
            for (int m = 0; m < 2; m++) {
#pragma unroll
              for (int j = 0; j < 4; j++) {
                BF16 ? mma_m16n8k16_bf16(sums[m][j], a[i][m], b[w][j], sums[m][j])
                     : mma_m16n8k16_f16(sums[m][j], a[i][m], b[w][j], sums[m][j]);
              }
            }
          }
        }
      }
      if ((at + kPartDepth) % kPartStretch == 0 || at + kPartDepth >= p.padded_k) {
#pragma unroll
        for (int i = 0; i < 32; i++) {
          float& sum = sums[i / 16][i / 4 % 4][i % 4];
          totals[i / 16][i / 4 % 4][i % 4] += sum;
          sum = 0;
        }
      }
      __syncthreads();
    }
    cp_async_wait<0>();

    // Of a 16 x 8 product a lane holds columns 2 (lane % 4) and the next of rows lane / 4 and 8 below it.
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
      for (int below = 0; below < 2; below++) {
        const int32_t number = top + warp_row + 16 * m + 8 * below + lane / 4;
        const int64_t row = number < count ? list.row(number, fault) : -1;
        if (row < 0) continue;
        const float scale = p.x_scales == nullptr ? 1.0f : p.x_scales[number];
#pragma unroll
        for (int j = 0; j < 4; j++) {
#pragma unroll
          for (int next = 0; next < 2; next++) {
            const int64_t column = left + warp_column + 8 * j + 2 * (lane % 4) + next;
            if (column >= p.n) continue;
            const float total = totals[m][j][2 * below + next];
            p.out[row * p.out_stride + column] =
                (p.w_scales == nullptr ? total : total * p.w_scales[column]) * scale;
          }
        }
      }
    }
  }
}

// ---- before and after cuBLASLt ----

// Rows of 16-bit weights into rows of padded length.
__global__ void __launch_bounds__(kSplitThreads)
    pad_weights_kernel(const uint16_t* weight, int64_t rows, int64_t k, int64_t padded_k, uint16_t* out) {
  wait_for_earlier_kernels();
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    for (int64_t j = threadIdx.x; j < padded_k; j += blockDim.x) {
      out[row * padded_k + j] = j < k ? weight[row * k + j] : static_cast<uint16_t>(0);
    }
  }
}

// Rows of out = the sum of `parts` products, [parts, rows, n], times the scales of a row and of a column, where given.
// A block takes 1024 columns of one of the list's rows, which are numbered in `products` as they are in out.
constexpr int kSumColumns = 4 * static_cast<int>(kSplitThreads);
__global__ void __launch_bounds__(kSplitThreads)
    sum_parts_kernel(const float* products, int parts, RowList list, int64_t n, int64_t stride,
                     const float* row_scales, const float* column_scales, float* out, int* fault) {
  wait_for_earlier_kernels();
  if (static_cast<int32_t>(blockIdx.y) >= list.count()) return;
  const int64_t row = list.row(static_cast<int32_t>(blockIdx.y), fault);
  if (row < 0) return;
  const float scale = row_scales == nullptr ? 1.0f : row_scales[row];
#pragma unroll
  for (int e = 0; e < 4; e++) {
    const int64_t j = int64_t{blockIdx.x} * kSumColumns + e * kSplitThreads + threadIdx.x;
    if (j >= n) continue;
    const float* from = products + row * n + j;
    float sum = from[0];
    for (int i = 1; i < parts; i++) sum += from[i * list.rows * n];
    // The column's first, as below.
    out[row * stride + j] = (column_scales == nullptr ? sum : sum * column_scales[j]) * scale;
  }
}

// out [rows, n] of row stride `stride` *= the scales of its rows and, where given, of its columns.
__global__ void __launch_bounds__(kSplitThreads)
    unscale_kernel(float* out, int64_t rows, int64_t n, int64_t stride, const float* row_scales,
                   const float* column_scales) {
  wait_for_earlier_kernels();
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float scale = row_scales[row];
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) {
      // The column's first: its scale is moderate, so that only a result that is too large itself overflows.
      float* at = out + row * stride + j;
      *at = (column_scales == nullptr ? *at : *at * column_scales[j]) * scale;
    }
  }
}

}  // namespace tkf
