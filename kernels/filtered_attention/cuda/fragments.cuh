// What the tensor-core kernels share: 16 rows as fragments. mma.sync and wgmma lay scores and sums out alike: a lane
// has columns 8 n + 2 (lane % 4) + {0, 1} of rows lane / 4 (entries 0, 1) and lane / 4 + 8 (2, 3).
#pragma once
#include "prefill.cuh"

namespace tkf::attention {

// The softmax of 16 rows, of which a lane has columns of rows lane / 4 (0) and lane / 4 + 8 (1).
struct Softmax16 {
  float maximum[2], total[2];

  template <int M>
  __device__ __forceinline__ void start(float (&sums)[M][4]) {
    maximum[0] = maximum[1] = -INFINITY;
    total[0] = total[1] = 0.0f;
#pragma unroll
    for (int i = 0; i < 4 * M; i++) sums[i / 4][i % 4] = 0.0f;
  }
  // Scores [16, 8 * N] -> weights in place; scales what was summed before, [16, 8 * M].
  template <int N, int M>
  __device__ __forceinline__ void update(float (&scores)[N][4], float factor, float (&sums)[M][4]) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float top = maximum[half];
#pragma unroll
      for (int n = 0; n < N; n++) top = fmaxf(top, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
      top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 1));
      top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 2));
      const float base = top == -INFINITY ? 0.0f : top * factor;  // nothing seen yet: no -inf - -inf
      const float older = exp2_fast(fmaf(maximum[half], factor, -base));
      maximum[half] = top;
      float sum = 0.0f;
#pragma unroll
      for (int n = 0; n < N; n++) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; i++) {
          scores[n][i] = exp2_fast(fmaf(scores[n][i], factor, -base));
          sum += scores[n][i];
        }
      }
      total[half] = fmaf(total[half], older, sum);
#pragma unroll
      for (int n = 0; n < M; n++) sums[n][2 * half] *= older, sums[n][2 * half + 1] *= older;
    }
  }
  // The sum of a row's weights, 0 where it saw nothing.
  __device__ __forceinline__ float sum(int half) const {
    float sum = total[half];
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    return sum + __shfl_xor_sync(kAllLanes, sum, 2);
  }
};

// Weights of columns 16 k .. 16 k + 15 as the first factor of a product.
template <class T, int N>
__device__ __forceinline__ void pack_weights(const float (&weights)[N][4], int k, uint32_t a[4]) {
#pragma unroll
  for (int i = 0; i < 4; i++) a[i] = Element<T>::pack(weights[2 * k + i / 2][i % 2 * 2], weights[2 * k + i / 2][i % 2 * 2 + 1]);
}

// A lane's columns of a row as bits: column 8 n + 2 (lane % 4) + {0, 1} is bit 2 n + {0, 1}. Those below `end`, of KEYS.
template <int KEYS>
__device__ __forceinline__ uint32_t columns_below(int end) {
  static_assert(KEYS <= 128);
  const int inside = min(max(end, 0), KEYS), own = static_cast<int>(threadIdx.x % 4) * 2;
  const int count = inside / 8 * 2 + min(max(inside % 8 - own, 0), 2);
  return count < 32 ? (1u << count) - 1 : ~0u;
}

// Scores of keys that a row does not see become -infinity. `rows`: the 16.
template <int N>
__device__ __forceinline__ void mask_scores(float (&scores)[N][4], const KeySight& keys, const RowSight* rows) {
  const RowSight &upper = rows[lane_index() / 4], &lower = rows[lane_index() / 4 + 8];
  const auto columns_of = [&](const RowSight& row) {
    return columns_below<8 * N>(keys.end(row)) &
           (~columns_below<8 * N>(keys.begin(row)) | columns_below<8 * N>(keys.sinks));
  };
  uint32_t seen[2] = {columns_of(upper), columns_of(lower)};
  if (keys.ends != nullptr) {
    const int32_t* const ends = keys.ends + threadIdx.x % 4 * 2;
#pragma unroll 4
    for (int bit = 0; bit < 2 * N; bit++) {
      // Beyond the last key there is none to read, and nothing is seen.
      const int end = (seen[0] | seen[1]) >> bit & 1 ? ends[bit / 2 * 8 + bit % 2] : 0;
      if (upper.position >= end) seen[0] &= ~(1u << bit);
      if (lower.position >= end) seen[1] &= ~(1u << bit);
    }
  }
#pragma unroll
  for (int n = 0; n < N; n++) {
#pragma unroll
    for (int i = 0; i < 4; i++) scores[n][i] = seen[i / 2] >> (2 * n + i % 2) & 1 ? scores[n][i] : -INFINITY;
  }
}

// Numbers of a pair of 16-bit floats that are NaN or infinite become 0.
template <class T>
__device__ __forceinline__ uint32_t without_special(uint32_t pair) {
  constexpr uint32_t both = Element<T>::kExponents, high = both & 0xffff0000u, low = both & 0xffffu;
  if ((pair & high) == high) pair &= 0xffffu;
  if ((pair & low) == low) pair &= 0xffff0000u;
  return pair;
}

// Whether all sums are finite. A NaN or an infinity among values makes all those NaN that it was a factor of.
template <int TILES, int N>
__device__ __forceinline__ bool all_finite(const float (&sums)[TILES][N][4]) {
  float zero = 0;
#pragma unroll
  for (int i = 0; i < TILES * N * 4; i++) zero = fmaf(sums[i / 4 / N][i / 4 % N][i % 4], 0.0f, zero);
  return zero == 0.0f;
}

// A key that a row does not see has weight 0, but 0 times NaN or infinity is NaN. So once sums came out like that, a
// block does its work again, where this adds such numbers of values [KEYS, D] to the sums of the rows that see them,
// and clears them. `pairs(r, c)` gives the address of columns c, c + 1 of row r; `rows`: the TILES times 16 of this
// warp. For all of THREADS threads, which `sync()` brings together.
template <class T, int D, int KEYS, int THREADS, int TILES, class Pairs, class Sync>
__device__ __forceinline__ void guard_values(const Pairs& pairs, const Sync& sync, const KeySight& keys, int count,
                                             const RowSight* rows, float (&sums)[TILES][D / 8][4]) {
#pragma unroll 1
  for (int r = 0; r < count; r++) {
    bool seen[2 * TILES];
#pragma unroll
    for (int m = 0; m < 2 * TILES; m++) seen[m] = keys.seen(rows[8 * m + lane_index() / 4], r);
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
      float x[2];
      Element<T>::expand2(*pairs(r, 8 * n + static_cast<int>(threadIdx.x % 4) * 2), x);
#pragma unroll
      for (int i = 0; i < 4 * TILES; i++) {
        const float value = x[i % 2];
        sums[i / 4][n][i % 4] += seen[i / 2] && !(fabsf(value) < INFINITY) ? value : 0.0f;
      }
    }
  }
  sync();
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x) % THREADS; i < KEYS * D / 2; i += THREADS) {
    uint32_t* pair = pairs(i / (D / 2), i % (D / 2) * 2);
    *pair = without_special<T>(*pair);
  }
  sync();
}

// By THREADS threads: the tile's queries [ROWS, D] in the keys' type, zeros where it has none. `place(r, c)` gives the
// address of columns c .. c + 7 of row r, 16 bytes. Several loads of a thread are under way at once.
template <class T, int D, int ROWS, int THREADS, class Place>
__device__ __forceinline__ void load_queries(const PrefillJob& job, const Tile& tile, int kv_head, const Place& place) {
  constexpr int kPieces = D / 8, kEach = ROWS * kPieces / THREADS, kAtOnce = 4;
  static_assert(ROWS * kPieces % THREADS == 0 && kEach % kAtOnce == 0, "every thread loads as many pieces");
  const RowPlaces places(job, tile, kv_head);
  const uint32_t sign = job.negative ? 0x80008000u : 0u;
#pragma unroll 1
  for (int first = 0; first < kEach; first += kAtOnce) {
    uint4 raw[kAtOnce][2];
#pragma unroll
    for (int u = 0; u < kAtOnce; u++) {
      const int i = static_cast<int>(threadIdx.x) + (first + u) * THREADS, r = i / kPieces, c = i % kPieces * 8;
      const bool inside = r < tile.num_rows && c < job.head_dim;
      const uint4* at = reinterpret_cast<const uint4*>(job.queries + places.offset(inside ? r : 0) + c);
#pragma unroll
      for (int w = 0; w < 2; w++) raw[u][w] = inside ? at[w] : uint4{0, 0, 0, 0};
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; u++) {
      const int i = static_cast<int>(threadIdx.x) + (first + u) * THREADS;
      float x[8];
      Element<float>::expand(raw[u][0], x);
      Element<float>::expand(raw[u][1], x + 4);
      const uint4 piece = {Element<T>::pack(x[0], x[1]) ^ sign, Element<T>::pack(x[2], x[3]) ^ sign,
                           Element<T>::pack(x[4], x[5]) ^ sign, Element<T>::pack(x[6], x[7]) ^ sign};
      *reinterpret_cast<uint4*>(place(i / kPieces, i % kPieces * 8)) = piece;
    }
  }
}

// Writes 16 rows, the first of which is row `first` of the tile: the output, or what this split of the keys found.
template <int D>
__device__ __forceinline__ void store_sums(const PrefillJob& job, const Tile& tile, int kv_head, int split, int first,
                                           const Softmax16& softmax, const float (&sums)[D / 8][4]) {
  const RowPlaces places(job, tile, kv_head);
  const int lane = lane_index();
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const float sum = softmax.sum(half);
    const int r = first + half * 8 + lane / 4;
    if (r >= tile.num_rows) continue;
    const int64_t row = places.number(r);
    const bool whole = job.splits == 1;
    const float factor = !whole ? 1.0f : sum == 0.0f ? 0.0f : 1.0f / sum;
    float* out = job.out + row * job.head_dim;
    if (whole && lane % 4 == 0 && job.log_sums != nullptr) {
      job.log_sums[row] = fmaf(softmax.maximum[half], job.factor, log2f(sum));
    }
    if (!whole) {
      out = partial_row(job, split, row);
      if (lane % 4 == 0) *reinterpret_cast<float2*>(out) = make_float2(softmax.maximum[half] * job.factor, sum);
      out += 2;
    }
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
      const int c = 8 * n + lane % 4 * 2;
      if (c >= job.head_dim) continue;
      *reinterpret_cast<float2*>(out + c) = make_float2(sums[n][2 * half] * factor, sums[n][2 * half + 1] * factor);
    }
  }
}

}  // namespace tkf::attention
