// Order statistics: by a block, of a few scores (sorted runs) or of many (radix); by a warp (bit by bit).
#pragma once
#include "device.cuh"

namespace tkf::filter {

constexpr int kMaxRuns = 32;               // sorted runs of 32 in shared memory
constexpr int kFewScores = 32 * kMaxRuns;  // windows up to here are sorted there

// Where quantile q of n > 0 sorted numbers lies, linear between two neighbours (numpy's default): between order statistics
// `below` and `above`, at `part` of the way.
struct Place {
  int64_t below, above;
  double part;
};
__device__ inline Place quantile_position(double q, int64_t n) {
  const double position = q * static_cast<double>(n - 1);
  const int64_t below = static_cast<int64_t>(position);
  return {below, below + 1 < n ? below + 1 : below, position - static_cast<double>(below)};
}

// Unsigned numbers in the order of the doubles; -0 counts as 0.
__device__ inline unsigned long long ordered(double x) {
  const unsigned long long bits = static_cast<unsigned long long>(__double_as_longlong(x + 0.0));
  return bits >> 63 ? ~bits : bits | 1ull << 63;
}
__device__ inline double from_ordered(unsigned long long key) {
  return __longlong_as_double(static_cast<long long>(key >> 63 ? key & ~(1ull << 63) : ~key));
}

// ---- few numbers: each warp sorts runs of 32, then every number finds its rank among all runs ----

__device__ inline double sort_warp(double x) {
  const int lane = lane_index();
  for (int size = 2; size <= 32; size *= 2) {
    for (int stride = size / 2; stride > 0; stride /= 2) {
      const double other = __shfl_xor_sync(kAllLanes, x, stride);
      const bool low = (lane & stride) == 0, ascending = (lane & size) == 0;
      x = low == ascending ? (other < x ? other : x) : (x < other ? other : x);
    }
  }
  return x;
}

// Copies scores [n <= kFewScores] into runs, each sorted; the last is filled up with infinity. `own`: score
// `threadIdx.x`, which was loaded before. Returns whether this thread saw finite numbers alone. A barrier must follow.
__device__ inline bool sort_runs(const double* scores, double own, int n, double* runs) {
  bool finite = true;
  for (int run = warp_index(); 32 * run < n; run += num_warps()) {
    const int i = 32 * run + lane_index();
    double x = HUGE_VAL;
    if (i < n) {
      x = run == warp_index() ? own : scores[i];
      finite = finite && isfinite(x);
    }
    runs[i] = sort_warp(x);
  }
  return finite;
}

// Numbers of a sorted run below x, or not above it.
__device__ __forceinline__ int count_below(const double* run, double x, bool or_equal) {
  int count = 0;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    const double at = run[count + step - 1];
    count += at < x || (or_equal && at == x) ? step : 0;
  }
  const double at = run[count];
  return count + (at < x || (or_equal && at == x));
}

// out[0] and out[1] = order statistics of a place, by all warps but the first. A barrier must follow.
__device__ inline void pick_from_runs(const double* runs, int n, const Place& place, double* out) {
  const int threads = static_cast<int>(blockDim.x) - 32;
  for (int i = static_cast<int>(threadIdx.x) - 32; i >= 0 && i < n; i += threads) {
    const double x = runs[i];
    const int own = i / 32, num_runs = (n + 31) / 32;
    int rank = i % 32;
#pragma unroll 4
    for (int run = 0; run < num_runs; run++) {  // independent searches, several at once
      const int count = count_below(runs + 32 * run, x, run < own);
      rank += run == own ? 0 : count;
    }
    if (rank == place.below) out[0] = x;
    if (rank == place.above) out[1] = x;
  }
}

// ---- many numbers, by a block of at least 32 threads ----

struct RadixShared {
  int bins[256];
  int bin;
  long long rank, up_to;
  unsigned long long next;
};

// Key of rank `rank` (from 0) of n > rank keys; key_at(i) gives one. Barriers inside: call with the whole block.
template <class KeyAt>
__device__ unsigned long long radix_select(int64_t n, int64_t rank, RadixShared& s, const KeyAt& key_at) {
  unsigned long long prefix = 0;
  for (int shift = 56; shift >= 0; shift -= 8) {
    for (int i = static_cast<int>(threadIdx.x); i < 256; i += static_cast<int>(blockDim.x)) s.bins[i] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      const unsigned long long key = key_at(i);
      if (shift == 56 || key >> (shift + 8) == prefix >> (shift + 8)) {
        atomicAdd(&s.bins[key >> shift & 255], 1);
      }
    }
    __syncthreads();
    if (warp_index() == 0) {  // lane l has bins 8l .. 8l + 7
      int own[8], sum = 0;
      for (int i = 0; i < 8; i++) sum += own[i] = s.bins[8 * lane_index() + i];
      int up_to = sum;
      for (int lanes = 1; lanes < 32; lanes *= 2) {
        const int other = __shfl_up_sync(kAllLanes, up_to, lanes);
        if (lane_index() >= lanes) up_to += other;
      }
      int64_t before = up_to - sum;
      for (int i = 0; i < 8; i++) {
        if (before <= rank && rank < before + own[i]) {
          s.bin = 8 * lane_index() + i;
          s.rank = rank - before;
        }
        before += own[i];
      }
    }
    __syncthreads();
    prefix |= static_cast<unsigned long long>(s.bin) << shift;
    rank = s.rank;
    __syncthreads();
  }
  return prefix;
}

// out[0] and out[1] = order statistics of a place among n numbers; number_at(i) gives one. For the whole block.
template <class NumberAt>
__device__ void pick_by_radix(int64_t n, const Place& place, RadixShared& s, double* out, const NumberAt& number_at) {
  const unsigned long long below =
      radix_select(n, place.below, s, [&](int64_t i) { return ordered(number_at(i)); });
  if (threadIdx.x == 0) {
    s.up_to = 0;
    s.next = ~0ull;
  }
  __syncthreads();
  int count = 0;
  unsigned long long next = ~0ull;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    const unsigned long long key = ordered(number_at(i));
    if (key <= below) count++;
    else if (key < next) next = key;
  }
  atomicAdd(reinterpret_cast<unsigned long long*>(&s.up_to), static_cast<unsigned long long>(count));
  atomicMin(&s.next, next);
  __syncthreads();
  if (threadIdx.x == 0) {
    out[0] = from_ordered(below);
    out[1] = place.above < s.up_to ? out[0] : from_ordered(s.next);
  }
  __syncthreads();
}

// ---- by a warp; for_each(f) calls f(number) for this lane's share of n numbers ----

template <class ForEach>
__device__ double warp_quantile(double q, int64_t n, const ForEach& for_each) {
  const Place place = quantile_position(q, n);
  unsigned long long least = ~0ull, most = 0;
  for_each([&](double x) {
    const unsigned long long key = ordered(x);
    least = key < least ? key : least;
    most = key > most ? key : most;
  });
  least = warp_reduce<Min>(least);
  most = warp_reduce<Max>(most);
  // The key of rank `below`: the largest that at most `below` keys lie under. Bits that all share are known.
  unsigned long long below = least;
  if (least != most) {
    int bit = 63 - __clzll(static_cast<long long>(least ^ most));
    below = bit == 63 ? 0 : least >> (bit + 1) << (bit + 1);
    for (; bit >= 0; bit--) {
      const unsigned long long candidate = below | 1ull << bit;
      int under = 0;
      for_each([&](double x) { under += ordered(x) < candidate; });
      if (warp_sum(under) <= place.below) below = candidate;
    }
  }
  int up_to = 0;
  unsigned long long next = ~0ull;
  for_each([&](double x) {
    const unsigned long long key = ordered(x);
    if (key <= below) up_to++;
    else if (key < next) next = key;
  });
  up_to = warp_sum(up_to);
  next = warp_reduce<Min>(next);
  const double a = from_ordered(below);
  return interpolate(a, place.above < up_to ? a : from_ordered(next), place.part);
}

}  // namespace tkf::filter
