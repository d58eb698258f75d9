// Decode: whose key and value stay, decided by a block for each sequence, and the rows that end taken out of its cache.
#include "../common/check_cache.h"
#include "../common/cuda/launch.h"
#include "../kv_filter_scan/check_filter.h"
#include "../kv_filter_scan/decide.cuh"

namespace tkf {
namespace filter {

struct KeyStepArguments : tkf_key_step_args {
  int64_t row_bytes;  // of keys; of values as many
  bool wide;          // rows are whole pieces of 16 bytes, aligned
  int* fault;

  __device__ int64_t row(int64_t b, int64_t r) const { return b * cache.capacity + r; }
};

// Where a token that goes ends: the first block start beyond its recent window.
__device__ inline int32_t end_of(const KeyStepArguments& a, int32_t position) {
  const int64_t from = int64_t{position} + a.recent, end = from + block_length(a.spec, from);
  return static_cast<int32_t>(end < INT32_MAX ? end : INT32_MAX);
}

// The start of the block before the one that begins with a token; -1 where none does, or the first.
__device__ inline int64_t block_before(const tkf_filter_spec& spec, int32_t position) {
  if (position <= 0 || position < spec.warmup) return -1;
  if (position == spec.warmup) return 0;
  if (position % spec.block != 0) return -1;
  return position - spec.block > spec.warmup ? position - spec.block : spec.warmup;
}

// Rows of sequence b that stay move up: rows from[0 .. num) to rows to, to + 1, ...; from ascends, and from[i] >= to + i.
// Every thread moves its own pieces of all rows, so none waits for another.
template <class Piece>
__device__ void move_rows(const KeyStepArguments& a, int64_t b, const int* from, int num, int to) {
  constexpr int kAtOnce = 8;
  const int pieces = static_cast<int>(a.row_bytes / static_cast<int64_t>(sizeof(Piece)));
  for (int p = static_cast<int>(threadIdx.x); p < 2 * pieces; p += kThreads) {
    Piece* const column = static_cast<Piece*>(p < pieces ? a.cache.keys.data : a.cache.values.data) + p % pieces;
    for (int i = 0; i < num; i += kAtOnce) {
      const int here = min(num - i, kAtOnce);
      if (from[i + here - 1] == to + i + here - 1) continue;  // they are where they belong
      Piece held[kAtOnce];
#pragma unroll
      for (int u = 0; u < kAtOnce; u++) {
        if (u < here) held[u] = column[a.row(b, from[i + u]) * pieces];
      }
#pragma unroll
      for (int u = 0; u < kAtOnce; u++) {
        if (u < here) column[a.row(b, to + i + u) * pieces] = held[u];
      }
    }
  }
}

// Takes the rows [first, count) of sequence b that end at `position` out of its cache.
__device__ inline void drop_rows(const KeyStepArguments& a, int64_t b, int32_t position, int first, int count,
                                 int* from, int* scratch) {
  int32_t *const ends = as<int32_t>(a.ends), *const positions = as<int32_t>(a.cache.positions);
  int to = first;
  for (int start = first; start < count; start += kThreads) {
    const int r = start + static_cast<int>(threadIdx.x);
    const int64_t row = a.row(b, r);
    const int32_t end = r < count ? ends[row] : 0, own = r < count ? positions[row] : 0;
    const bool stays = r < count && end > position;
    int num;
    const int rank = block_rank(stays, scratch, &num);  // all have read theirs before one is overwritten
    if (stays) {
      const int64_t target = a.row(b, to + rank);
      from[rank] = r;
      ends[target] = end;
      positions[target] = own;
    }
    __syncthreads();  // the list is there; it is read until all are at the next rank
    if (a.wide) {
      move_rows<uint4>(a, b, from, num, to);
    } else {
      move_rows<uint16_t>(a, b, from, num, to);
    }
    to += num;
  }
  if (threadIdx.x == 0) as<int32_t>(a.cache.counts)[b] = to;
}

template <Rule RULE, Policy POLICY>
__global__ void __launch_bounds__(kThreads, 2) key_step_kernel(const KeyStepArguments a) {
  wait_for_earlier_kernels();
  assume<RULE, POLICY>(a.spec);
  TKF_DYNAMIC_SHARED(double, shared);
  TKF_SHARED(DecideShared, s);
  TKF_SHARED(int[kThreads / 32], scratch);
  TKF_SHARED(int[kThreads], from);
  const int64_t b = blockIdx.x;
  const int32_t position = as<int32_t>(a.positions)[b], count = as<int32_t>(a.cache.counts)[b];
  uint8_t* const keep = as<uint8_t>(a.keep) + b;
  if (position < 0) {
    if (threadIdx.x == 0) *keep = 0;
    return;
  }
  const int64_t newest = count > 0 && count <= a.cache.capacity ? a.row(b, count - 1) : -1;
  if (newest < 0 || as<int32_t>(a.cache.positions)[newest] != position) {
    if (threadIdx.x == 0) {
      tkf_fault(a.fault, kFaultState);
      *keep = 1;
    }
    return;
  }
  double* const columns = as<double>(a.columns);
  const int64_t size = int64_t{a.spec.kv_heads} * a.spec.head_dim;
  const FeatureRows rows = {row_of(a.filter_keys, b, size), row_of(a.values, b, size), nullptr, nullptr, nullptr,
                            nullptr};
  const Token token = {rows, columns == nullptr ? nullptr : columns + b, a.cache.batch};
  bool goes = false;
  decide<float>(a.spec, state_of(a.spec, a.states, b), token, a.fault, shared, s, [&] { goes = s.skip; });
  if (threadIdx.x == 0) {
    *keep = !goes;
    as<int32_t>(a.ends)[newest] = goes ? end_of(a, position) : INT32_MAX;
  }
  const int64_t before = block_before(a.spec, position);
  if (before < 0) return;
  __syncthreads();  // the newest row has its end
  // All tokens that are judged now came at before - recent or later, and all since then are cached.
  const int64_t recent_rows = position - before + a.recent + 1;
  drop_rows(a, b, position, static_cast<int>(count > recent_rows ? count - recent_rows : 0), count, from, scratch);
}

}  // namespace filter

bool check_args(Check& check, const tkf_key_step_args& a) {
  const tkf_kv_cache& cache = a.cache;
  const int64_t batch = cache.batch;
  check_spec(check, a.spec);
  filter::check_limits(check, a.spec);
  check.require(a.spec.threshold != TKF_THRESHOLD_TOPK, TKF_STATUS_STATE,
                "found the policy \"topk\", which looks at a whole sequence, expected another");
  check.require(!learns(a.spec), TKF_STATUS_STATE, "found the rule \"learned\", expected one of keys and values alone");
  check.size("kv_heads of the cache", cache.kv_heads, 1, a.spec.kv_heads);
  check.size("head_dim of the cache", cache.head_dim, a.spec.head_dim, a.spec.head_dim);
  check_cache(check, cache);
  check.size("recent", a.recent, 0, 65536);
  check.array<float>("filter_keys", a.filter_keys, {batch, a.spec.kv_heads, cache.head_dim});
  check.array<float>("values", a.values, {batch, a.spec.kv_heads, cache.head_dim});
  check_states(check, a.spec, a.states, batch, false);
  check.array<int32_t>("positions", a.positions, {batch});
  check.array<uint8_t>("keep", a.keep, {batch});
  if (a.columns.data != nullptr) check.array<double>("columns", a.columns, {7, batch});
  check.array<int32_t>("ends", a.ends, {batch, cache.capacity});
  return batch > 0;
}

int32_t on_cuda::key_step(tkf_context* context, const tkf_key_step_args& args) {
  const tkf_kv_cache& cache = args.cache;
  const int64_t bytes = int64_t{cache.kv_heads} * cache.head_dim * (cache.dtype == TKF_DTYPE_F32 ? 4 : 2);
  const bool wide = bytes % 16 == 0 && is_aligned(cache.keys.data, 16) && is_aligned(cache.values.data, 16);
  const filter::KeyStepArguments a = {args, bytes, wide, cuda_fault(context)};
  filter::with_kind(a.spec, [&](auto rule, auto policy) {
    if constexpr (decltype(rule)::value != filter::Rule::kLearned) {  // see check_args
      TKF_LAUNCH(cuda_stream(context), (filter::key_step_kernel<decltype(rule)::value, decltype(policy)::value>),
                 static_cast<unsigned>(cache.batch), filter::kThreads, filter::decide_shared_bytes(a.spec), a);
    }
  });
  return cuda_launched(context, "tkf_key_step");
}

}  // namespace tkf
