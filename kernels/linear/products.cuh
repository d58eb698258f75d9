// out = x W' in float32, for dense weights of any shape and address; and what comes after products by cuBLASLt.
#pragma once
#include "../common/cuda/weights.cuh"
#include "linear.h"
#include "split.cuh"

namespace tkf {

constexpr int kPlainTile = 64, kPlainDepth = 16, kPlainThreads = 256;

// A block a tile of 64 rows of x and 64 of weights; a thread 4 x 4 results, 16 apart.
template <class T>
__global__ void __launch_bounds__(kPlainThreads)
    plain_product_kernel(const float* x, const T* weight, RowList list, int64_t n, int64_t k, float* out, int* fault) {
  wait_for_earlier_kernels();
  TKF_SHARED(float[kPlainDepth][kPlainTile + 4], xs);
  TKF_SHARED(float[kPlainDepth][kPlainTile + 4], ws);
  const int32_t count = list.count();
  const int64_t tiles_n = (n + kPlainTile - 1) / kPlainTile;
  const int64_t tiles = tiles_n * ((list.rows + kPlainTile - 1) / kPlainTile);
  const int thread = static_cast<int>(threadIdx.x), tx = thread % 16, ty = thread / 16;

  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int32_t top = static_cast<int32_t>(tile / tiles_n) * kPlainTile;
    const int64_t left = tile % tiles_n * kPlainTile;
    if (top >= count) continue;  // the same for all threads of the block
    // A thread loads column tx of rows ty, ty + 16, ... of both.
    const float* x_rows[4];
    const T* w_rows[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int64_t row = list.row(min(top + ty + 16 * i, count - 1), fault);
      x_rows[i] = x + max(row, static_cast<int64_t>(0)) * k;
      w_rows[i] = weight + min(left + ty + 16 * i, n - 1) * k;
    }
    float sums[4][4] = {};
    for (int64_t at = 0; at < k; at += kPlainDepth) {
      const bool inside = at + tx < k;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        xs[tx][ty + 16 * i] = inside ? x_rows[i][at + tx] : 0.0f;
        ws[tx][ty + 16 * i] = inside ? static_cast<float>(__ldg(w_rows[i] + at + tx)) : 0.0f;
      }
      __syncthreads();
#pragma unroll
      for (int d = 0; d < kPlainDepth; d++) {
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

// Rows of out = the sum of `parts` products, [parts, rows, n], of rows [first, first + rows), times the scales of a row
// and of a column, where given. A block takes 1024 columns of one of the list's rows.
constexpr int kSumColumns = 4 * static_cast<int>(kSplitThreads);
__global__ void __launch_bounds__(kSplitThreads)
    sum_parts_kernel(const float* products, int parts, int64_t first, int64_t rows, RowList list, int64_t n,
                     int64_t stride, const float* row_scales, const float* column_scales, float* out, int* fault) {
  wait_for_earlier_kernels();
  if (static_cast<int32_t>(blockIdx.x) >= list.count()) return;
  const int64_t row = list.row(static_cast<int32_t>(blockIdx.x), fault), at = row - first;
  if (row < 0 || at < 0 || at >= rows) return;
  const float scale = row_scales == nullptr ? 1.0f : row_scales[at];
#pragma unroll
  for (int e = 0; e < 4; e++) {
    const int64_t j = int64_t{blockIdx.y} * kSumColumns + e * kSplitThreads + threadIdx.x;
    if (j >= n) continue;
    const float* from = products + at * n + j;
    float sum = from[0];
    for (int i = 1; i < parts; i++) sum += from[i * rows * n];
    // The column's first: its scale is moderate, so that only a result that is too large itself overflows.
    out[row * stride + j] = (column_scales == nullptr ? sum : sum * column_scales[j]) * scale;
  }
}

}  // namespace tkf
