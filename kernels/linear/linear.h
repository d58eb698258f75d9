// What the kernels and launchers of matrix products share.
#pragma once
#include "../common/cuda/context.h"

namespace tkf {

// Which rows of x a product is for: rows [first, first + rows) of all, or of a list of kept slots on the device.
struct RowList {
  const int32_t* kept;        // i32 [batch], or NULL: all
  const int32_t* kept_count;  // i32 [1], or NULL
  int64_t batch, first;
  int32_t rows;

  // How many of them there are.
  __device__ __forceinline__ int32_t count() const {
    if (kept_count == nullptr) return rows;
    const int64_t left = min(static_cast<int64_t>(*kept_count), batch) - first;
    return static_cast<int32_t>(max(min(left, static_cast<int64_t>(rows)), static_cast<int64_t>(0)));
  }
  // The row of x and of the result of number i < count(); -1 and a fault where the list names none.
  __device__ __forceinline__ int64_t row(int32_t i, int* fault) const {
    if (kept == nullptr) return first + i;
    const int32_t slot = kept[first + i];
    if (slot >= 0 && slot < batch) return slot;
    tkf_fault(fault, kFaultIndex);
    return -1;
  }
};

// Products of one x by weights of one type, in one launch: tiles of rows of weights, those of one product after those
// of the other. With a gate they are two of as many columns, which share tiles: of a tile's rows the first half is of
// one and the second of the other, and out[0] gets what becomes of both.
constexpr int kMostProducts = 3;
struct ProductSet {
  const uint8_t* weight[kMostProducts];
  float* out[kMostProducts];
  int64_t n[kMostProducts];  // 0: no such product
  int32_t gate;              // TKF_GATE_…
  // Number of tiles, and the first tile of the second product and of the third. Computed by the host to save registers.
  int64_t tiles, second, third;

  ProductSet in_tiles(int rows) const {
    ProductSet set = *this;
    if (gate != TKF_GATE_NONE) {
      set.tiles = (n[0] + rows / 2 - 1) / (rows / 2);
    } else {
      set.second = (n[0] + rows - 1) / rows;
      set.third = set.second + (n[1] + rows - 1) / rows;
      set.tiles = set.third + (n[2] + rows - 1) / rows;
    }
    return set;
  }
};

// A tile of weights: its first half are rows [first, ..) of `lower`, its second half rows [second, ..) of `upper`; both
// have n.
struct WeightTile {
  const uint8_t *lower, *upper;
  float* out;
  int64_t n, first, second;

  // Row r of ROWS, or the last one where there are fewer.
  template <int ROWS>
  __device__ __forceinline__ const uint8_t* row(int r, int64_t row_bytes) const {
    return r < ROWS / 2 ? lower + min(first + r, n - 1) * row_bytes
                        : upper + min(second + r - ROWS / 2, n - 1) * row_bytes;
  }
};
template <int ROWS>
__device__ __forceinline__ WeightTile tile_of(const ProductSet& p, int64_t tile) {
  if (p.gate != TKF_GATE_NONE) {
    const int64_t first = tile * (ROWS / 2);
    return {p.weight[0], p.weight[1], p.out[0], p.n[0], first, first};
  }
  const bool is0 = tile < p.second, is1 = tile < p.third;
  const uint8_t* const weight = is0 ? p.weight[0] : is1 ? p.weight[1] : p.weight[2];
  const int64_t first = (tile - (is0 ? 0 : is1 ? p.second : p.third)) * ROWS;
  return {weight, weight, is0 ? p.out[0] : is1 ? p.out[1] : p.out[2], is0 ? p.n[0] : is1 ? p.n[1] : p.n[2], first,
          first + ROWS / 2};
}

// Sums of groups of `size` values, 16 or 32, of rows in parts: [rows, padded k / size]. NULL: none.
struct GroupSums {
  float* sums;
  int size;
};

// Rows of x as parts: three of bf16, or two of f16 with scales [rows] (split.cuh).
void split_rows(tkf_context* context, const float* x, const RowList& list, int64_t k, int64_t padded_k, int num_parts,
                uint16_t* parts, float* scales, const GroupSums& groups);

// Products of few rows of x (few_rows.cu). x and dense weights lie at addresses divisible by 16, and k is a multiple of 8.
int32_t linear_few_rows(tkf_context* context, const float* x, int dtype, const ProductSet& products,
                        const RowList& list, int64_t k);

}  // namespace tkf
