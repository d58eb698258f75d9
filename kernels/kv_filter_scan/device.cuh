// What the filter's kernels share: reading rows, cosines, the anchors' step, a state's numbers, block-wide helpers.
#pragma once
#include "../common/check.h"
#include "../common/cuda/context.h"
#include "../common/cuda/reduce.cuh"
#include "learned_layout.h"

namespace tkf::filter {

constexpr int kThreads = 256;           // of a block that serves one sequence
constexpr int kMaxHeads = 1024;         // KV heads: their cosines lie in shared memory
constexpr int kMaxHeadDim = 256;        // a lane of the scan holds 8 numbers of a head

__device__ inline int num_warps() { return static_cast<int>(blockDim.x / 32); }

// Of the threads before this one, those that raise `flag`; *total: of all. `scratch`: [num_warps] in shared memory.
__device__ inline int block_rank(bool flag, int* scratch, int* total) {
  const unsigned lanes = __ballot_sync(kAllLanes, flag);
  __syncthreads();
  if (lane_index() == 0) scratch[warp_index()] = __popc(lanes);
  __syncthreads();
  int before = __popc(lanes & ((1u << lane_index()) - 1)), sum = 0;
  for (int i = 0; i < num_warps(); i++) {
    if (i < warp_index()) before += scratch[i];
    sum += scratch[i];
  }
  *total = sum;
  return before;
}

// ---- cosines and anchors ----

// Whether a sum of float32 squares lost nothing that counts to overflow or underflow.
__device__ inline bool in_range(float squares) { return squares > 1e-30f && squares < 1e35f; }

// 0 where a vector is 0; NaN where a number is not finite.
__device__ inline double cosine_of(double dot, double xx, double aa) {
  const double norms = sqrt(xx) * sqrt(aa);
  return norms == 0 ? 0.0 : dot / norms;
}

// Cosines of the keys and of the values of a head with their anchors, by a warp. Four lanes have a root each, so that a
// warp takes one; lanes 0 and 1 of four get the keys' cosine, 2 and 3 the values'. `Real`: what sums are accumulated in;
// where a float32 sum is out of range, both are done again in float64. Both are loaded before one is summed up.
template <class Real>
__device__ double warp_cosines(const float* k, const float* anchor_k, const float* v, const float* anchor_v, int d) {
  Real sums[6] = {};
#pragma unroll 4
  for (int i = lane_index(); i < d; i += 32) {
    const Real x = k[i], a = anchor_k[i], y = v[i], b = anchor_v[i];
    sums[0] += x * a;
    sums[1] += x * x;
    sums[2] += a * a;
    sums[3] += y * b;
    sums[4] += y * y;
    sums[5] += b * b;
  }
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
#pragma unroll
    for (int i = 0; i < 6; i++) sums[i] += __shfl_xor_sync(kAllLanes, sums[i], lanes);
  }
  if constexpr (sizeof(Real) == sizeof(float)) {
    if (!(in_range(sums[1]) && in_range(sums[2]) && in_range(sums[4]) && in_range(sums[5]))) {
      return warp_cosines<double>(k, anchor_k, v, anchor_v, d);
    }
  }
  const bool of_values = lane_index() & 2, of_anchor = lane_index() & 1;
  const Real dot = of_values ? sums[3] : sums[0], xx = of_values ? sums[4] : sums[1], aa = of_values ? sums[5] : sums[2];
  const double root = sqrt(static_cast<double>(of_anchor ? aa : xx));
  const double norms = root * __shfl_xor_sync(kAllLanes, root, 1);
  return norms == 0 ? 0.0 : dot / norms;
}

// decay*a + rest*x, rest = 1 - decay. In float32 by the form whose rounding errors do not pile up from token to token.
__device__ inline float absorb(float a, float x, float decay, float rest) {
  return rest < 0.5f ? fmaf(rest, x - a, a) : fmaf(decay, a, rest * x);
}
// In float64 as the reference does it, bit for bit.
__device__ inline float absorb(float a, float x, double decay, double rest) {
  return static_cast<float>(__dadd_rn(__dmul_rn(decay, a), __dmul_rn(rest, x)));
}

__device__ inline double warp_square_sum(const float* x, int64_t size) {
  double sum = 0;
  for (int64_t i = lane_index(); i < size; i += 32) {
    const double v = x[i];
    sum += v * v;
  }
  return warp_sum(sum);
}

// ---- a state's numbers ----

__device__ inline Numbers read_numbers(const double* numbers) { return *reinterpret_cast<const Numbers*>(numbers); }

// What check_filter.h asks of a state in host memory, but for its scores, which are checked where they are read.
__device__ inline bool valid_numbers(const tkf_filter_spec& spec, const Numbers& n) {
  double most;
  if (wrong_slot(spec, n, &most) >= 0 || !isfinite(n.theta) || !isfinite(n.sdw)) return false;
  return spec.fusion != TKF_FUSION_LEARNED || room_of(spec, n) >= 0;
}

// Scores that a policy holds before the next token.
__device__ inline int64_t held_scores(const tkf_filter_spec& spec, double scored) {
  return static_cast<int64_t>(smaller_of(scored, static_cast<double>(score_capacity(spec))));
}

__device__ inline int64_t ring_slot(double score_number, int64_t capacity) {
  return static_cast<int64_t>(score_number) % capacity;
}

// ---- the features of `learned` that need no anchor ----

// The rows of one token; those that its rule does not read mean nothing.
struct FeatureRows {
  const float *keys, *values;                // [kv_size]
  const float *residual, *normed, *queries;  // [hidden_size], likewise, [queries_size]
  const float* signs;                        // [projections, hidden_size]
};

__device__ inline const float* row_of(const tkf_buffer& rows, int64_t row, int64_t width) {
  return rows.data == nullptr ? nullptr : as<float>(rows) + row * width;
}

// Row `row` of a scan's or a step's tensors.
template <class Args>
__device__ FeatureRows feature_rows(const Args& a, const tkf_buffer& keys, int64_t row) {
  const int64_t size = int64_t{a.spec.kv_heads} * a.spec.head_dim, hidden = a.spec.hidden_size;
  return {row_of(keys, row, size),
          row_of(a.values, row, size),
          row_of(a.residual, row, hidden),
          row_of(a.normed, row, hidden),
          row_of(a.queries, row, a.spec.queries_size),
          as<float>(a.states.signs)};
}

// Writes them to `out`, behind the place of the similarities; a warp a feature. Bias included.
__device__ inline void write_features(const tkf_filter_spec& spec, const FeatureRows& rows, double* features) {
  const int groups = spec.features;
  const int64_t kv_size = int64_t{spec.kv_heads} * spec.head_dim, hidden = spec.hidden_size;
  const int norms = groups & kNorm ? 3 : 0, projections = groups & kProjection ? spec.projections : 0;
  const int query = groups & kQuery ? 1 : 0;
  double* out = features + (groups & kSimilarity ? 4 : 0);
  for (int i = warp_index(); i < norms + projections + query; i += num_warps()) {
    double value;
    if (i >= norms && i < norms + projections) {
      const float* signs = rows.signs + (i - norms) * hidden;
      double even = 0, odd = 0;  // two chains of additions
      for (int64_t a = lane_index(); a < hidden; a += 64) {
        even += static_cast<double>(rows.normed[a]) * signs[a];
        if (a + 32 < hidden) odd += static_cast<double>(rows.normed[a + 32]) * signs[a + 32];
      }
      value = warp_sum(even + odd) / sqrt(static_cast<double>(hidden));
    } else {
      const bool cached = i < 2 && norms > 0, residual = i == 2 && norms > 0;
      const double squares =
          cached ? warp_square_sum(i == 0 ? rows.keys : rows.values, kv_size)
                 : warp_square_sum(residual ? rows.residual : rows.queries, residual ? hidden : spec.queries_size);
      value = log(sqrt(squares) + kNormEps);
    }
    if (lane_index() == 0) out[i] = value;
  }
  if (threadIdx.x == 0) out[norms + projections + query] = 1;
}

// Host: what these kernels can take of a spec.
inline void check_limits(Check& check, const tkf_filter_spec& spec) {
  if (check.ok() && (spec.kv_heads > kMaxHeads || spec.head_dim > kMaxHeadDim)) {
    check.fail(TKF_STATUS_UNSUPPORTED, "found %d KV heads of %d, expected at most %d of %d on a device", spec.kv_heads,
               spec.head_dim, kMaxHeads, kMaxHeadDim);
  }
}

}  // namespace tkf::filter
