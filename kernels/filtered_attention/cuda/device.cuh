// What the attention kernels share: the job, element types, the exponential, and searches in ascending positions.
#pragma once
#include <algorithm>
#include <cstring>

#include "../../common/cuda/context.h"
#include "../../common/cuda/reduce.cuh"
#include "../share_queries.h"

namespace tkf::attention {

constexpr float kLog2E = 1.44269504088896341f;
// Scores are scaled by `scale` times log2(e), so that weights are powers of 2.
constexpr float kSmallestFactor = 1e-30f;  // in place of 0: -infinity times 0 is NaN, and all weights come out as 1

// Arguments that all attention kernels have. Of two: kept rows (0) and recent ones (1).
struct AttentionJob {
  const float* queries;
  float* out;
  const int32_t* query_positions;
  const void *keys[2], *values[2];  // [rows, kv_heads, head_dim]
  const int32_t* positions[2];      // of those rows
  unsigned reach[2];
  const int32_t *key_ends, *windows;  // of kept rows, and of queries; NULL: none
  const int32_t* kv_places;           // of KV heads, among those of queries and out; NULL: as they are
  int sinks;
  int num_rows[2];
  int heads, kv_heads, head_dim, group;  // heads: of queries and out
  int splits;      // blocks that share the keys of a row
  float* partial;  // what they find; see Merged
  float* log_sums;  // log2 of the sum of each row's softmax, [rows], where shares are asked for; NULL: not
  int64_t log_room;  // floats before `partial` that log_sums takes
  float factor;    // scale * log2(e)
  int* fault;
};

// The place in queries and out of query head `head` of the keys' KV heads.
__device__ __forceinline__ int head_place(const AttentionJob& job, int head) {
  if (job.kv_places == nullptr) return head;
  const int kv_head = head / job.group, place = job.kv_places[kv_head];
  const bool fits = place >= 0 && place < job.heads / job.group;
  if (!fits) tkf_fault(job.fault, kFaultIndex);
  return head + ((fits ? place : kv_head) - kv_head) * job.group;
}

constexpr unsigned kNoLimit = 0xffffffffu;

// Host: the job of an op. `rows`: what holds its keys and values. `window`, `recent`: tokens that a query sees of the
// kept and of the recent ones, 0: all of the kept ones.
template <class Job, class Args, class Rows>
Job job_of(tkf_context* context, const Args& a, const Rows& rows, const tkf_buffer& query_positions,
           const tkf_buffer& key_positions, int32_t window, int32_t recent) {
  Job job = {};
  job.queries = as<float>(a.queries);
  job.out = as<float>(a.out);
  job.query_positions = as<int32_t>(query_positions);
  job.keys[0] = rows.keys.data;
  job.keys[1] = rows.recent_keys.data;
  job.values[0] = rows.values.data;
  job.values[1] = rows.recent_values.data;
  job.positions[0] = as<int32_t>(key_positions);
  job.positions[1] = as<int32_t>(rows.recent_positions);
  job.reach[0] = window > 0 ? static_cast<unsigned>(window - 1) : kNoLimit;
  job.reach[1] = std::min(static_cast<unsigned>(recent), job.reach[0]);
  job.heads = a.heads;
  job.kv_heads = rows.kv_heads;
  job.head_dim = rows.head_dim;
  job.group = a.heads / rows.kv_heads;
  job.factor = static_cast<float>(a.scale) * kLog2E;
  job.fault = cuda_fault(context);
  return job;
}
// That of tkf_attention_filtered.
template <class Job>
Job job_of(tkf_context* context, const tkf_attention_filtered_args& a) {
  Job job = job_of<Job>(context, a, a, a.query_positions, a.key_positions, 0, a.recent_window);
  job.key_ends = as<int32_t>(a.key_ends);
  job.windows = as<int32_t>(a.windows);
  job.kv_places = as<int32_t>(a.kv_places);
  job.group = group_of(a);
  job.sinks = a.sinks;
  job.num_rows[0] = static_cast<int>(a.num_keys);
  job.num_rows[1] = static_cast<int>(a.num_recent);
  return job;
}

// 2^x, within 2 units of the last place; 0 for -infinity.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// A pair of 16-bit floats as one number, the first in the low half.
template <class Pair>
__device__ __forceinline__ uint32_t bits(const Pair& pair) {
  static_assert(sizeof(Pair) == sizeof(uint32_t));
  uint32_t number;
  memcpy(&number, &pair, sizeof number);
  return number;
}

// Element types: 16 bytes of them as floats, and pairs for the tensor cores.
template <class T>
struct Element;
template <>
struct Element<float> {
  static __device__ __forceinline__ void expand(const uint4& piece, float x[4]) {
    x[0] = __uint_as_float(piece.x);
    x[1] = __uint_as_float(piece.y);
    x[2] = __uint_as_float(piece.z);
    x[3] = __uint_as_float(piece.w);
  }
};
template <class T>
struct Pairs {
  static __device__ __forceinline__ void expand(const uint4& piece, float x[8]) {
    Element<T>::expand2(piece.x, x);
    Element<T>::expand2(piece.y, x + 2);
    Element<T>::expand2(piece.z, x + 4);
    Element<T>::expand2(piece.w, x + 6);
  }
};
template <>
struct Element<__half> : Pairs<__half> {
  static constexpr uint32_t kExponents = 0x7c007c00u;  // of a pair
  static __device__ __forceinline__ void expand2(uint32_t pair, float x[2]) {
    x[0] = __half2float(__ushort_as_half(static_cast<unsigned short>(pair)));
    x[1] = __half2float(__ushort_as_half(static_cast<unsigned short>(pair >> 16)));
  }
  static __device__ __forceinline__ uint32_t pack(float a, float b) { return bits(__floats2half2_rn(a, b)); }
  static __device__ __forceinline__ void multiply(float d[4], const uint32_t a[4], const uint32_t b[2]) {
    mma_m16n8k16_f16(d, a, b, d);
  }
};
template <>
struct Element<__nv_bfloat16> : Pairs<__nv_bfloat16> {
  static constexpr uint32_t kExponents = 0x7f807f80u;
  static __device__ __forceinline__ void expand2(uint32_t pair, float x[2]) {
    x[0] = __uint_as_float(pair << 16);
    x[1] = __uint_as_float(pair & 0xffff0000u);
  }
  static __device__ __forceinline__ uint32_t pack(float a, float b) { return bits(__floats2bfloat162_rn(a, b)); }
  static __device__ __forceinline__ void multiply(float d[4], const uint32_t a[4], const uint32_t b[2]) {
    mma_m16n8k16_bf16(d, a, b, d);
  }
};

// Elements of 16 bytes.
template <class T>
constexpr int kPiece = 16 / static_cast<int>(sizeof(T));

// Warp-wide: the first row in [begin, end) whose position is greater than `value`, else `end`. `at(row)` gives the
// position of a row; they ascend. Each round looks at 32 rows at once.
template <class At>
__device__ __forceinline__ int first_after(const At& at, int begin, int end, int64_t value) {
  const int lane = lane_index();
  while (begin < end) {
    const int64_t step = (int64_t{end} - begin + 31) / 32, row = begin + (lane + 1) * step - 1;
    const unsigned after = __ballot_sync(kAllLanes, row >= end || at(static_cast<int>(row)) > value);
    if (after == 0) return end;
    const int64_t first = begin + (__ffs(static_cast<int>(after)) - 1) * step;
    end = static_cast<int>(min(int64_t{end}, first + step - 1));
    begin = static_cast<int>(min(int64_t{end}, first));
  }
  return begin;
}

// A query at position i sees a key at position j where j <= i and i - j <= reach.
__device__ __forceinline__ bool sees(int i, int j, unsigned reach) {
  return j <= i && static_cast<unsigned>(i) - static_cast<unsigned>(j) <= reach;
}

// The first position that the window of a query at `position` holds; a full query's (window < 0) has no first.
__device__ __forceinline__ int window_begin(int position, int window) {
  const int64_t begin = int64_t{position} - window;
  return window < 0 || begin < INT32_MIN ? INT32_MIN : static_cast<int>(begin);
}
// Faults where positions do not ascend; each block of a grid's first dimension does its part of the rows.
__device__ inline void check_ascending(const int32_t* positions, int count, int* fault) {
  const int64_t threads = static_cast<int64_t>(blockDim.x);
  for (int64_t r = 1 + blockIdx.x * threads + threadIdx.x; r < count; r += gridDim.x * threads) {
    if (positions[r] < positions[r - 1]) tkf_fault(fault, kFaultPositions);
  }
}

// ---- what blocks find that share the keys of a row ----
//
// A split leaves [2 + head_dim] numbers for each row: the largest score, times log2(e); the sum of weights, 2 to the
// power of a score less the largest; the weighted sums of values. A row that sees none of a split's keys: sum 0.

constexpr unsigned kMergeThreads = 128;

// Largest score, sum of weights and weighted sum of column c of `splits` parts that lie `stride` numbers apart.
struct Merged {
  float top = -INFINITY, sum = 0.0f, x = 0.0f;

  __device__ __forceinline__ Merged(const float* parts, int64_t stride, int splits, int c) {
    for (int s = 0; s < splits; s++) top = fmaxf(top, parts[s * stride]);
    const float base = top == -INFINITY ? 0.0f : top;
    for (int s = 0; s < splits; s++) {
      const float* part = parts + s * stride;
      const float factor = exp2_fast(part[0] - base);
      sum = fmaf(part[1], factor, sum);
      x = fmaf(part[2 + c], factor, x);
    }
  }
  __device__ __forceinline__ float result() const { return sum == 0.0f ? 0.0f : x / sum; }
  __device__ __forceinline__ float log_sum() const { return top + log2f(sum); }
};

// Block-wide: writes the output of a row, which is row `row` of log_sums.
__device__ __forceinline__ void merge_splits(const AttentionJob& job, int64_t row, const float* parts, int64_t stride,
                                             int splits, float* out) {
  for (int c = static_cast<int>(threadIdx.x); c < job.head_dim; c += static_cast<int>(blockDim.x)) {
    const Merged all(parts, stride, splits, c);
    out[c] = all.result();
    if (c == 0 && job.log_sums != nullptr) job.log_sums[row] = all.log_sum();
  }
}

}  // namespace tkf::attention
