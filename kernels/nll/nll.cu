// Losses, divergence and agreement straight from logits: a block of threads a row, read once. And the largest of them.
#include <cstring>

#include "../common/cuda/launch.h"
#include "../common/cuda/reduce.cuh"

namespace tkf {

constexpr unsigned kLogitsThreads = 512;

// A number that is larger for larger values, and for lower indices of equal ones; `nan` for NaN, 0 or the largest.
__device__ __forceinline__ unsigned long long rank_of(float value, int64_t index, unsigned long long nan = 0) {
  if (value != value) return nan;
  const float known = value + 0.0f;  // -0 is 0
  uint32_t bits;
  memcpy(&bits, &known, sizeof bits);
  bits = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<unsigned long long>(bits) << 32 | (0xffffffffu - static_cast<uint32_t>(index));
}
__device__ __forceinline__ int32_t index_of(unsigned long long rank) {
  return rank == 0 ? 0 : static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(rank));
}

// A thread's, then a block's, sum of e^(x - shift), and if COMPARES of e^(x - shift) * (x - other); terms of e^... = 0
// are 0.
template <bool COMPARES>
struct LogSum {
  float shift;
  double sum, weighted;

  __device__ __forceinline__ void add(float value, float other) {
    if (value == -INFINITY) return;
    if (!(value <= shift)) {
      const double factor = sum == 0 ? 0.0 : exp(static_cast<double>(shift) - static_cast<double>(value));
      sum *= factor;
      if (COMPARES) weighted *= factor;
      shift = value;
    }
    const float e = expf(value - shift);
    sum += static_cast<double>(e);
    if (COMPARES && e != 0) {
      weighted += static_cast<double>(e) * (static_cast<double>(value) - static_cast<double>(other));
    }
  }
  __device__ __forceinline__ double value() const { return static_cast<double>(shift) + log(sum); }
};

struct LogitsShared {
  double sums[kLogitsThreads / 32];
  float values[kLogitsThreads / 32];
  unsigned long long ranks[kLogitsThreads / 32];
};

template <bool COMPARES>
__device__ __forceinline__ LogSum<COMPARES> block_log_sum(LogSum<COMPARES> mine, LogitsShared& shared) {
  const float shift = block_max(mine.shift, shared.values);
  const double factor = mine.sum == 0 ? 0.0 : exp(static_cast<double>(mine.shift) - static_cast<double>(shift));
  LogSum<COMPARES> all = {shift, block_sum(mine.sum * factor, shared.sums), 0};
  if (COMPARES) all.weighted = block_sum(mine.weighted * factor, shared.sums);
  return all;
}

// The loss of a target, or NaN and a fault where it is outside the row.
__device__ __forceinline__ double loss_of(const float* x, int32_t target, int64_t vocab, double log_sum, int* fault) {
  if (target < 0 || target >= vocab) {
    tkf_fault(fault, kFaultIndex);
    return NAN;
  }
  return log_sum - static_cast<double>(x[target]);
}

__global__ void __launch_bounds__(kLogitsThreads) nll_kernel(const float* logits, const int32_t* targets, int64_t rows,
                                                             int64_t vocab, double* nll, int* fault) {
  wait_for_earlier_kernels();
  TKF_SHARED(LogitsShared, shared);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float* x = logits + row * vocab;
    LogSum<false> mine = {-INFINITY, 0, 0};
    for (int64_t first = threadIdx.x; first < vocab; first += 4 * int64_t{blockDim.x}) {
      float values[4];  // all under way at once
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int64_t i = first + e * int64_t{blockDim.x};
        values[e] = i < vocab ? x[i] : -INFINITY;
      }
#pragma unroll
      for (int e = 0; e < 4; e++) mine.add(values[e], 0);
    }
    const LogSum<false> all = block_log_sum(mine, shared);
    if (threadIdx.x == 0) nll[row] = loss_of(x, targets[row], vocab, all.value(), fault);
  }
}

constexpr unsigned long long kNanRank = ~0ull;  // where a value is NaN, there is no largest

__global__ void __launch_bounds__(kLogitsThreads)
    logits_compare_kernel(const float* base, const float* other, const int32_t* targets, int64_t rows, int64_t vocab,
                          double* nll, double* base_nll, double* kl, uint8_t* agree, int* fault) {
  wait_for_earlier_kernels();
  TKF_SHARED(LogitsShared, shared);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float *p = base + row * vocab, *q = other + row * vocab;
    LogSum<true> of_base = {-INFINITY, 0, 0}, of_other = {-INFINITY, 0, 0};
    unsigned long long top = 0, other_top = 0;
    for (int64_t i = threadIdx.x; i < vocab; i += blockDim.x) {
      const float a = p[i], b = q[i];
      of_base.add(a, b);
      of_other.add(b, b);
      top = Max::of(top, rank_of(a, i, kNanRank));
      other_top = Max::of(other_top, rank_of(b, i, kNanRank));
    }
    of_base = block_log_sum(of_base, shared);
    of_other = block_log_sum(of_other, shared);
    top = block_max(top, shared.ranks);
    other_top = block_max(other_top, shared.ranks);
    if (threadIdx.x == 0) {
      const double log_p = of_base.value(), log_q = of_other.value();
      base_nll[row] = loss_of(p, targets[row], vocab, log_p, fault);
      nll[row] = loss_of(q, targets[row], vocab, log_q, fault);
      // sum of P*(ln P - ln Q) = E_P[p - q] - ln Z_p + ln Z_q, never below 0 but for rounding.
      // The quotient by way of the logarithm, which does without a division's slow path.
      const double mean = of_base.weighted * exp(-log(of_base.sum));
      const double divergence = mean - log_p + log_q;
      kl[row] = divergence < 0 ? 0.0 : divergence;
      agree[row] = top != kNanRank && other_top != kNanRank && index_of(top) == index_of(other_top);
    }
  }
}

// ---- the likeliest token: blocks share a row ----

constexpr int kArgmaxEach = 16;  // values of a thread, all under way at once
constexpr int64_t kArgmaxBlock = int64_t{kArgmaxEach} * kLogitsThreads;

// Block (part of a row, row): the largest of kArgmaxBlock values. ids [rows] where the row has one part, else ranks
// [rows, parts].
__global__ void __launch_bounds__(kLogitsThreads)
    argmax_kernel(const float* logits, int64_t vocab, int32_t* ids, unsigned long long* ranks) {
  wait_for_earlier_kernels();
  TKF_SHARED(unsigned long long[kLogitsThreads / 32], shared);
  const int64_t row = blockIdx.y, first = blockIdx.x * kArgmaxBlock + threadIdx.x;
  const float* x = logits + row * vocab;
  float values[kArgmaxEach];
#pragma unroll
  for (int e = 0; e < kArgmaxEach; e++) {
    const int64_t i = first + e * static_cast<int64_t>(blockDim.x);
    values[e] = i < vocab ? x[i] : NAN;
  }
  unsigned long long best = 0;
#pragma unroll
  for (int e = 0; e < kArgmaxEach; e++) {
    const unsigned long long rank = rank_of(values[e], first + e * static_cast<int64_t>(blockDim.x));
    best = best < rank ? rank : best;
  }
  best = block_max(best, shared);
  if (threadIdx.x != 0) return;
  if (gridDim.x == 1) {
    ids[row] = index_of(best);
  } else {
    ranks[row * gridDim.x + blockIdx.x] = best;
  }
}

// A warp a row: ids [rows] of ranks [rows, parts].
__global__ void __launch_bounds__(32) argmax_merge_kernel(const unsigned long long* ranks, int parts, int32_t* ids) {
  wait_for_earlier_kernels();
  unsigned long long best = 0;
  for (int i = lane_index(); i < parts; i += 32) {
    const unsigned long long rank = ranks[int64_t{blockIdx.x} * parts + i];
    best = best < rank ? rank : best;
  }
  best = warp_reduce<Max>(best);
  if (threadIdx.x == 0) ids[blockIdx.x] = index_of(best);
}

int32_t on_cuda::nll_compute(tkf_context* context, const tkf_nll_compute_args& a) {
  TKF_LAUNCH(cuda_stream(context), (nll_kernel), grid_of(a.rows, 1), row_threads(a.vocab, kLogitsThreads), 0,
             as<float>(a.logits), as<int32_t>(a.targets), a.rows, a.vocab, as<double>(a.nll), cuda_fault(context));
  return cuda_launched(context, "nll");
}

int32_t on_cuda::logits_compare(tkf_context* context, const tkf_logits_compare_args& a) {
  TKF_LAUNCH(cuda_stream(context), (logits_compare_kernel), grid_of(a.rows, 1), row_threads(a.vocab, kLogitsThreads), 0,
             as<float>(a.base), as<float>(a.other), as<int32_t>(a.targets), a.rows, a.vocab, as<double>(a.nll),
             as<double>(a.base_nll), as<double>(a.kl), as<uint8_t>(a.agree), cuda_fault(context));
  return cuda_launched(context, "logits_compare");
}

bool check_args(Check& check, const tkf_logits_argmax_args& a) {
  check.size("rows", a.rows, 0, 65535);  // CUDA's limit of a grid's second dimension
  check.size("vocab", a.vocab, 1, INT32_MAX);
  check.array<float>("logits", a.logits, {a.rows, a.vocab});
  check.array<int32_t>("ids", a.ids, {a.rows});
  return a.rows > 0;
}
int32_t on_cuda::logits_argmax(tkf_context* context, const tkf_logits_argmax_args& a) {
  const Stream stream = cuda_stream(context);
  const int64_t parts = (a.vocab + kArgmaxBlock - 1) / kArgmaxBlock;
  unsigned long long* ranks = nullptr;
  if (parts > 1) {
    const size_t bytes = sizeof *ranks * static_cast<size_t>(a.rows * parts);
    ranks = static_cast<unsigned long long*>(cuda_workspace(context, bytes));
    if (ranks == nullptr) return cuda_short(context, bytes);
  }
  const dim3 grid(static_cast<unsigned>(parts), static_cast<unsigned>(a.rows));
  const unsigned threads = row_threads((a.vocab + 3) / 4, kLogitsThreads);
  TKF_LAUNCH(stream, (argmax_kernel), grid, threads, 0, as<float>(a.logits), a.vocab, as<int32_t>(a.ids), ranks);
  if (parts > 1) {
    TKF_LAUNCH(stream, (argmax_merge_kernel), static_cast<unsigned>(a.rows), 32, 0, ranks, static_cast<int>(parts),
               as<int32_t>(a.ids));
  }
  return cuda_launched(context, "logits_argmax");
}

}  // namespace tkf
