// Prefill on tensor cores with mma.sync (sm_80 and up): f16 and bf16.
//
// A block takes a tile of rows, as m16n8k16 fragments in the registers of its warps, and walks over the key tiles that
// it sees: scores, softmax kept running in f32 (weights are powers of 2, the scale is folded in), weighted values.
// Keys and values are copied by cp.async: values while scores are computed, the next keys while values are summed.
#pragma once
#include "fragments.cuh"

namespace tkf::attention {

constexpr int kMmaWarps = 4, kMmaThreads = kMmaWarps * 32;

// D: head_dim rounded up. Rows of shared memory are 16 bytes longer than a head: 8 rows then lie in different banks.
template <int D>
struct MmaShape {
  static constexpr int kRows = D > 128 ? 64 : 128;  // BM
  static constexpr int kKeys = D > 64 ? 32 : 64;
  static constexpr int kTiles = kRows / (16 * kMmaWarps);  // of 16 rows, of a warp
  static constexpr int kStride = D + 8;
  static constexpr size_t kShared = size_t{2} * kStride * (kRows + 2 * kKeys);
};

// Starts the copy of `count` rows of one head into shared rows; rows and columns past the end become 0.
template <class T, int D, int ROWS>
__device__ __forceinline__ void copy_rows(T* shared, const T* rows, int64_t stride, int count, int head_dim) {
  constexpr int kPieces = D / 8;
  static_assert(ROWS * kPieces % kMmaThreads == 0, "every thread copies as many pieces");
#pragma unroll
  for (int i = 0; i < ROWS * kPieces / kMmaThreads; i++) {
    const int at = static_cast<int>(threadIdx.x) + i * kMmaThreads, r = at / kPieces, c = at % kPieces * 8;
    const bool full = r < count && c < head_dim;
    cp_async_16(shared + r * MmaShape<D>::kStride + c, full ? rows + (r * stride + c) : rows, full);
  }
}

// Block (tile and split, KV head).
template <class T, int D>
__global__ void __launch_bounds__(kMmaThreads) prefill_mma_kernel(const PrefillJob job) {
  wait_for_earlier_kernels();
  using Shape = MmaShape<D>;
  constexpr int kRows = Shape::kRows, kKeys = Shape::kKeys, kTiles = Shape::kTiles, kStride = Shape::kStride;
  TKF_DYNAMIC_SHARED(T, queries);  // [kRows, kStride]
  T* const keys = queries + kRows * kStride;
  T* const values = keys + kKeys * kStride;
  TKF_SHARED(Tile, tile);

  const int kv_head = static_cast<int>(blockIdx.y);
  if (kv_head == 0) check_positions(job);
  find_tile<kRows>(job, BlockShare(job, kRows).first_row, &tile);
  if (tile.num_rows <= 0) return;
  const KeyTiles<kKeys> tiles(job, tile, BlockShare(job, kRows).split);
  const int head_dim = job.head_dim;
  const int64_t row_width = int64_t{job.kv_heads} * head_dim, offset = int64_t{kv_head} * head_dim;
  const int lane = lane_index(), warp = warp_index();

  const auto copy_tile = [&](T* to, const void* const from[2], int name) {
    if (name >= 0) {
      const KeyTile at = tiles.at(name);
      copy_rows<T, D, kKeys>(to, static_cast<const T*>(from[at.which]) + (at.begin * row_width + offset), row_width,
                             at.count, head_dim);
    }
    cp_async_commit();
  };
  load_queries<T, D, kRows, kMmaThreads>(job, tile, kv_head, [&](int r, int c) { return queries + r * kStride + c; });

  Softmax16 softmax[kTiles];
  float sums[kTiles][D / 8][4];
  const T* const query_rows = queries + (warp * kTiles * 16 + lane % 16) * kStride + lane / 16 * 8;
  const T* const key_rows = keys + (lane % 8 + lane / 16 * 8) * kStride + lane / 8 % 2 * 8;
  const T* const value_rows = values + lane % 16 * kStride + lane / 16 * 8;

  const RowSight* const rows = tile.rows + warp * kTiles * 16;

  bool guarded = false;
  do {
#pragma unroll
    for (int m = 0; m < kTiles; m++) softmax[m].start(sums[m]);
    int now = tiles.first();
    copy_tile(keys, job.keys, now);
    while (now >= 0) {
      const KeyTile at = tiles.at(now);
      cp_async_wait<0>();
      __syncthreads();  // the keys have come, and the last values are no longer read
      copy_tile(values, job.values, now);

      float scores[kTiles][kKeys / 8][4] = {};
#pragma unroll
      for (int k = 0; k < D / 16; k++) {
        uint32_t a[kTiles][4];
#pragma unroll
        for (int m = 0; m < kTiles; m++) ldmatrix_x4(a[m], query_rows + m * 16 * kStride + k * 16);
#pragma unroll
        for (int n = 0; n < kKeys / 16; n++) {
          uint32_t two[4];
          ldmatrix_x4(two, key_rows + n * 16 * kStride + k * 16);
#pragma unroll
          for (int m = 0; m < kTiles; m++) {
            Element<T>::multiply(scores[m][2 * n], a[m], two);
            Element<T>::multiply(scores[m][2 * n + 1], a[m], two + 2);
          }
        }
      }
      cp_async_wait<0>();
      __syncthreads();  // the values have come, and these keys are no longer read
      now = tiles.after(now);
      copy_tile(keys, job.keys, now);

      if (!at.full) {
#pragma unroll
        for (int m = 0; m < kTiles; m++) mask_scores(scores[m], tiles.sight(at), rows + m * 16);
      }
#pragma unroll
      for (int m = 0; m < kTiles; m++) {
        softmax[m].update(scores[m], job.factor, sums[m]);
      }
      if (guarded && !at.full) {
        const auto pairs = [&](int r, int c) { return reinterpret_cast<uint32_t*>(values + r * kStride + c); };
        guard_values<T, D, kKeys, kMmaThreads>(pairs, [] { __syncthreads(); }, tiles.sight(at), at.count, rows, sums);
      }
#pragma unroll
      for (int k = 0; k < kKeys / 16; k++) {
        uint32_t a[kTiles][4];
#pragma unroll
        for (int m = 0; m < kTiles; m++) {
          pack_weights<T>(scores[m], k, a[m]);
        }
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
          uint32_t two[4];
          ldmatrix_x4_trans(two, value_rows + k * 16 * kStride + n * 16);
#pragma unroll
          for (int m = 0; m < kTiles; m++) {
            Element<T>::multiply(sums[m][2 * n], a[m], two);
            Element<T>::multiply(sums[m][2 * n + 1], a[m], two + 2);
          }
        }
      }
    }
    cp_async_wait<0>();
    guarded = !guarded && __syncthreads_and(all_finite(sums)) == 0;
  } while (guarded);

#pragma unroll
  for (int m = 0; m < kTiles; m++) {
    store_sums<D>(job, tile, kv_head, BlockShare(job, kRows).split, (warp * kTiles + m) * 16, softmax[m], sums[m]);
  }
}

}  // namespace tkf::attention
