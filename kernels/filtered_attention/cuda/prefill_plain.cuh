// Prefill of f32 data with plain multiply-adds, never through TF32.
//
// Thread (ty, tx) of 16 x 16 has rows ty + 16 i of the tile; for scores it has keys tx + 16 j, for sums columns
// 4 tx + 64 j .. + 3. Keys, then values, of a key tile take turns in one buffer.
#pragma once
#include "prefill.cuh"

namespace tkf::attention {

constexpr int kPlainThreads = 256;

template <int D>
struct PlainShape {
  static constexpr int kRows = D > 128 ? 32 : 64;
  static constexpr int kKeys = D > 128 ? 32 : 64;
  static constexpr int kStride = D + 4, kWeightStride = kKeys + 4;  // 16-byte rows that start in different banks
  static constexpr size_t kShared = sizeof(float) * (size_t{kStride} * (kRows + kKeys) + kRows * kWeightStride);
};

// The weight of a key that a row does not see: 0, marked by its sign.
constexpr float kUnseen = -0.0f;
__device__ __forceinline__ bool is_unseen(float weight) { return __float_as_uint(weight) == 0x80000000u; }

// `count` rows of one head; rows and columns past the end become 0. Tells whether all were finite.
template <int D, int ROWS>
__device__ __forceinline__ bool load_rows(float* shared, const float* rows, int64_t stride, int count, int head_dim) {
  bool finite = true;
  for (int i = static_cast<int>(threadIdx.x); i < ROWS * D; i += kPlainThreads) {
    const int r = i / D, c = i % D;
    const float x = r < count && c < head_dim ? rows[r * stride + c] : 0.0f;
    finite &= x - x == 0.0f;
    shared[r * PlainShape<D>::kStride + c] = x;
  }
  return finite;
}

// sums += weights [rows, keys] times values [keys, D]. `checked`: a key that a row does not see adds nothing, even
// where its value is NaN or infinite.
template <int D, bool checked>
__device__ __forceinline__ void add_values(const float* weights, const float* values, int ty, int tx,
                                           float sums[][D / 16]) {
  using Shape = PlainShape<D>;
  constexpr int kMine = Shape::kRows / 16;
#pragma unroll 2
  for (int k = 0; k < Shape::kKeys; k += 4) {
    float4 w[kMine];
#pragma unroll
    for (int i = 0; i < kMine; i++) {
      w[i] = *reinterpret_cast<const float4*>(weights + (ty + 16 * i) * Shape::kWeightStride + k);
    }
#pragma unroll
    for (int kk = 0; kk < 4; kk++) {
#pragma unroll
      for (int j = 0; j < D / 64; j++) {
        const float4 v = *reinterpret_cast<const float4*>(values + (k + kk) * Shape::kStride + 4 * tx + 64 * j);
#pragma unroll
        for (int i = 0; i < kMine; i++) {
          const float p = kk == 0 ? w[i].x : kk == 1 ? w[i].y : kk == 2 ? w[i].z : w[i].w;
          if (checked && is_unseen(p)) continue;
          sums[i][4 * j] = fmaf(p, v.x, sums[i][4 * j]);
          sums[i][4 * j + 1] = fmaf(p, v.y, sums[i][4 * j + 1]);
          sums[i][4 * j + 2] = fmaf(p, v.z, sums[i][4 * j + 2]);
          sums[i][4 * j + 3] = fmaf(p, v.w, sums[i][4 * j + 3]);
        }
      }
    }
  }
}

// Block (tile and split, KV head).
template <int D>
__global__ void __launch_bounds__(kPlainThreads, D == 128 ? 1 : 2) prefill_plain_kernel(const PrefillJob job) {
  wait_for_earlier_kernels();
  using Shape = PlainShape<D>;
  constexpr int kRows = Shape::kRows, kKeys = Shape::kKeys, kStride = Shape::kStride, kMine = kRows / 16;
  TKF_DYNAMIC_SHARED(float, queries);          // [kRows, kStride]
  float* const others = queries + kRows * kStride;   // [kKeys, kStride]: keys, then values
  float* const weights = others + kKeys * kStride;   // [kRows, kWeightStride]
  TKF_SHARED(Tile, tile);
  TKF_SHARED(int, special);

  const int kv_head = static_cast<int>(blockIdx.y);
  if (kv_head == 0) check_positions(job);
  find_tile<kRows>(job, BlockShare(job, kRows).first_row, &tile);
  if (tile.num_rows <= 0) return;
  const KeyTiles<kKeys> tiles(job, tile, BlockShare(job, kRows).split);
  const int num_rows = tile.num_rows, head_dim = job.head_dim;
  const int64_t row_width = int64_t{job.kv_heads} * head_dim, offset = int64_t{kv_head} * head_dim;
  const int tx = static_cast<int>(threadIdx.x % 16), ty = static_cast<int>(threadIdx.x / 16);
  const RowPlaces places(job, tile, kv_head);

  const float factor = job.negative ? -job.factor : job.factor;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * D; i += kPlainThreads) {
    const int r = i / D, c = i % D;
    const float x = r < num_rows && c < head_dim ? job.queries[places.offset(r) + c] : 0.0f;
    queries[r * kStride + c] = x * factor;
  }

  float maximum[kMine], total[kMine] = {}, sums[kMine][D / 16] = {};
#pragma unroll
  for (int i = 0; i < kMine; i++) maximum[i] = -INFINITY;

  for (int now = tiles.first(); now >= 0; now = tiles.after(now)) {
    const KeyTile at = tiles.at(now);
    const int64_t from = at.begin * row_width + offset;
    __syncthreads();  // the last values are no longer read
    load_rows<D, kKeys>(others, static_cast<const float*>(job.keys[at.which]) + from, row_width, at.count, head_dim);
    if (threadIdx.x == 0) special = 0;
    __syncthreads();

    float scores[kMine][kKeys / 16] = {};
#pragma unroll 4
    for (int c = 0; c < D; c += 4) {
      float4 k[kKeys / 16];
#pragma unroll
      for (int j = 0; j < kKeys / 16; j++) {
        k[j] = *reinterpret_cast<const float4*>(others + (tx + 16 * j) * kStride + c);
      }
#pragma unroll
      for (int i = 0; i < kMine; i++) {
        const float4 q = *reinterpret_cast<const float4*>(queries + (ty + 16 * i) * kStride + c);
#pragma unroll
        for (int j = 0; j < kKeys / 16; j++) {
          scores[i][j] = fmaf(q.x, k[j].x, scores[i][j]);
          scores[i][j] = fmaf(q.y, k[j].y, scores[i][j]);
          scores[i][j] = fmaf(q.z, k[j].z, scores[i][j]);
          scores[i][j] = fmaf(q.w, k[j].w, scores[i][j]);
        }
      }
    }
    __syncthreads();  // these keys are no longer read
    if (!load_rows<D, kKeys>(others, static_cast<const float*>(job.values[at.which]) + from, row_width, at.count,
                             head_dim)) {
      atomicExch(&special, 1);
    }

#pragma unroll
    for (int i = 0; i < kMine; i++) {
      bool seen[kKeys / 16];
      float top = maximum[i];
#pragma unroll
      for (int j = 0; j < kKeys / 16; j++) {
        seen[j] = at.full || tiles.sight(at).seen(tile.rows[ty + 16 * i], tx + 16 * j);
        top = seen[j] ? fmaxf(top, scores[i][j]) : top;
      }
#pragma unroll
      for (int o = 1; o < 16; o *= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, o));
      const float base = top == -INFINITY ? 0.0f : top;  // nothing seen yet: no -inf - -inf
      const float older = exp2_fast(maximum[i] - base);
      maximum[i] = top;
      total[i] *= older;
#pragma unroll
      for (int j = 0; j < kKeys / 16; j++) {
        const float weight = seen[j] ? exp2_fast(scores[i][j] - base) : kUnseen;
        total[i] += weight;
        weights[(ty + 16 * i) * Shape::kWeightStride + tx + 16 * j] = weight;
      }
#pragma unroll
      for (int c = 0; c < D / 16; c++) sums[i][c] *= older;
    }
    __syncthreads();  // values and weights are there
    if (special == 0) {
      add_values<D, false>(weights, others, ty, tx, sums);
    } else {
      add_values<D, true>(weights, others, ty, tx, sums);
    }
  }

#pragma unroll
  for (int i = 0; i < kMine; i++) {
    float sum = total[i];
#pragma unroll
    for (int o = 1; o < 16; o *= 2) sum += __shfl_xor_sync(kAllLanes, sum, o);
    const int r = ty + 16 * i;
    if (r >= num_rows) continue;
    const int64_t row = places.number(r);
    const bool whole = job.splits == 1;
    const float factor = !whole ? 1.0f : sum == 0.0f ? 0.0f : 1.0f / sum;
    float* out = job.out + row * head_dim;
    if (whole && tx == 0 && job.log_sums != nullptr) job.log_sums[row] = maximum[i] + log2f(sum);
    if (!whole) {
      out = partial_row(job, BlockShare(job, kRows).split, row);
      if (tx == 0) {
        out[0] = maximum[i];
        out[1] = sum;
      }
      out += 2;
    }
#pragma unroll
    for (int c = 0; c < D / 16; c++) {
      const int column = 4 * tx + 64 * (c / 4) + c % 4;
      if (column < head_dim) out[column] = sums[i][c] * factor;
    }
  }
}

}  // namespace tkf::attention
