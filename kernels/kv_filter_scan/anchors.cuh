// The anchors' recurrence as a scan over tiles of tokens: each tile's own share first, then the anchors before each
// tile, then all tiles at once. Where one tile holds all tokens nothing is taken apart.
#pragma once
#include "scan.cuh"

namespace tkf::filter {

constexpr int kTileRows = 32;     // rows of a tile, unless there were too many tiles
constexpr int kMeasureWarps = 4;  // of a block of measure_kernel: a head's keys or values each

// decay*a + rest*x of the rows [first, end), for element e of [keys, values]. For the whole block, whose
// threads have elements of their own; `decays`: [kThreads] in shared memory.
template <class Real>
__device__ float absorb_rows(const ScanArguments& a, const Plan& plan, int64_t first, int64_t end, int64_t e,
                             float anchor, Real* decays, Real* rests) {
  const bool mine = e < 2 * int64_t{a.size};
  const float* x = as<float>(e < a.size ? a.keys : a.values) + e % a.size;
  for (int64_t base = first; base < end; base += kThreads) {
    const int64_t count = end - base < kThreads ? end - base : kThreads;
    __syncthreads();
    if (threadIdx.x < count) {
      const double decay = decay_of(a.spec, plan.before.absorbed + static_cast<double>(base + threadIdx.x));
      decays[threadIdx.x] = static_cast<Real>(decay);
      rests[threadIdx.x] = static_cast<Real>(1 - decay);
    }
    __syncthreads();
    if (!mine) continue;
#pragma unroll 4
    for (int64_t i = 0; i < count; i++) {
      anchor = absorb(anchor, x[(base + i) * a.size], decays[i], rests[i]);
    }
  }
  return anchor;
}

// What each tile but the last adds to anchors of 0. Grid: elements, tiles.
static __global__ void __launch_bounds__(kThreads) tile_kernel(ScanArguments a) {
  wait_for_earlier_kernels();
  TKF_SHARED(float[kThreads], decays);
  TKF_SHARED(float[kThreads], rests);
  const int64_t j = blockIdx.y;
  const Plan& plan = *a.plan;
  const int64_t first = j * a.tile, end = first + a.tile;
  if (end >= plan.count) return;
  const int64_t e = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const float sum = absorb_rows<float>(a, plan, first, end, e, 0.0f, decays, rests);
  if (e < 2 * int64_t{a.size}) a.tiles[j * 2 * a.size + e] = sum;
}

// Share of the anchors before a tile that is left behind it.
__device__ inline double tile_decay(const ScanArguments& a, const Numbers& before, int64_t j, double power) {
  const double m = before.absorbed + static_cast<double>(j * a.tile);
  if (m == 0) return 0;
  return a.spec.anchor == TKF_ANCHOR_MEAN ? m / (m + a.tile) : power;
}

// Puts the anchors before each tile, but the first, in the place of what it adds. Grid: elements.
static __global__ void __launch_bounds__(kThreads) starts_kernel(ScanArguments a) {
  wait_for_earlier_kernels();
  const int64_t e = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const Plan& plan = *a.plan;
  if (e >= 2 * int64_t{a.size}) return;
  const State state = a.state();
  const double power = pow(a.spec.gamma, static_cast<double>(a.tile));
  float* at = a.tiles + e;
  double anchor = e < a.size ? state.anchor_k[e] : state.anchor_v[e - a.size], added = *at;
  const auto next_anchor = [&](int64_t j) { return tile_decay(a, plan.before, j - 1, power) * anchor + added; };
  int64_t j = 1;
  for (; (j + 1) * a.tile < plan.count; j++) {
    anchor = next_anchor(j);
    float* next = at + j * 2 * a.size;
    added = *next;
    *next = static_cast<float>(anchor);
  }
  if (j * a.tile < plan.count) at[j * 2 * a.size] = static_cast<float>(next_anchor(j));  // nothing follows the last tile
}

// Anchors of one side before tile j.
__device__ inline const float* tile_start(const ScanArguments& a, int64_t j, bool keys) {
  const State state = a.state();
  if (j == 0) return keys ? state.anchor_k : state.anchor_v;
  return a.tiles + j * 2 * a.size + (keys ? 0 : a.size);
}

// Sums of one row of a head by a warp: x and anchor hold `K` numbers a lane.
template <class Real, int K>
__device__ void row_sums(const float (&x)[K], const float (&anchor)[K], double* dot, double* xx, double* aa) {
  Real sums[3] = {0, 0, 0};
#pragma unroll
  for (int k = 0; k < K; k++) {
    const Real v = x[k], w = anchor[k];
    sums[0] += v * w;
    sums[1] += v * v;
    sums[2] += w * w;
  }
  for (Real& sum : sums) sum = warp_sum(sum);
  if constexpr (sizeof(Real) == sizeof(float)) {
    if (!(in_range(sums[1]) && in_range(sums[2]))) return row_sums<double, K>(x, anchor, dot, xx, aa);
  }
  *dot = sums[0];
  *xx = sums[1];
  *aa = sums[2];
}

// Cosines of every row with the anchors before it. K: numbers of a head that a lane holds. Grid: heads of keys and of
// values, tiles.
template <class Real, int K>
__global__ void __launch_bounds__(32 * kMeasureWarps, 4) measure_kernel(ScanArguments a) {
  wait_for_earlier_kernels();
  const int H = a.spec.kv_heads, d = a.spec.head_dim;
  const int head = static_cast<int>(blockIdx.x) * kMeasureWarps + warp_index();
  const int64_t j = blockIdx.y;
  const Plan& plan = *a.plan;
  const int64_t begin = j * a.tile, end = begin + a.tile < plan.count ? begin + a.tile : plan.count;
  if (head >= 2 * H || begin >= end) return;
  const bool keys = head < H;
  const int64_t offset = int64_t{keys ? head : head - H} * d;
  const float* start = tile_start(a, j, keys) + offset;
  const float* rows = as<float>(keys ? a.keys : a.values) + offset;
  const int lane = lane_index();
  float anchor[K], x[K], next[K];
#pragma unroll
  for (int k = 0; k < K; k++) {
    const int i = lane + 32 * k;
    anchor[k] = i < d ? start[i] : 0.0f;
    next[k] = i < d ? rows[begin * a.size + i] : 0.0f;
  }
  for (int64_t first = begin; first < end; first += 32) {
    const int count = static_cast<int>(end - first < 32 ? end - first : 32);
    const double decay = decay_of(a.spec, plan.before.absorbed + static_cast<double>(first + lane));
    const Real decays = static_cast<Real>(decay), rests = static_cast<Real>(1 - decay);  // of row `lane`
    double dot = 0, xx = 0, aa = 0;                                                      // likewise
    for (int row = 0; row < count; row++) {
      const int64_t after = first + row + 1;
#pragma unroll
      for (int k = 0; k < K; k++) {
        const int i = lane + 32 * k;
        x[k] = next[k];
        if (after < end && i < d) next[k] = rows[after * a.size + i];
      }
      double sums[3];
      row_sums<Real, K>(x, anchor, &sums[0], &sums[1], &sums[2]);
      if (row == lane) {
        dot = sums[0];
        xx = sums[1];
        aa = sums[2];
      }
      const Real keep = __shfl_sync(kAllLanes, decays, row), rest = __shfl_sync(kAllLanes, rests, row);
#pragma unroll
      for (int k = 0; k < K; k++) anchor[k] = absorb(anchor[k], x[k], keep, rest);
    }
    if (lane < count) a.cosines[(first + lane) * 2 * H + head] = cosine_of(dot, xx, aa);
  }
}

// The state's anchors after the rows taken. Grid: elements.
template <class Real>
__global__ void __launch_bounds__(kThreads) finish_kernel(ScanArguments a) {
  wait_for_earlier_kernels();
  TKF_SHARED(Real[kThreads], decays);
  TKF_SHARED(Real[kThreads], rests);
  const int64_t e = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const Plan& plan = *a.plan;
  if (plan.taken == 0) return;
  const int64_t j = (plan.taken - 1) / a.tile, size = a.size;
  const State state = a.state();
  float anchor = 0;
  if (e < 2 * size) anchor = tile_start(a, j, e < size)[e < size ? e : e - size];
  anchor = absorb_rows<Real>(a, plan, j * a.tile, plan.taken, e, anchor, decays, rests);
  if (e < 2 * size) (e < size ? state.anchor_k + e : state.anchor_v + e - size)[0] = anchor;
}

}  // namespace tkf::filter
