// Decode: one token of every sequence of a batch, decided and appended to the cache by a block each.
#pragma once
#include "../kv_filter_scan/decide.cuh"

namespace tkf {
namespace filter {

// tkf_kv_cache as the kernel uses it; `num_pages` 0: contiguous.
struct CacheView {
  void *keys, *values, *recent_keys, *recent_values;
  int32_t *positions, *counts, *recent_positions;
  const int32_t* pages;
  int64_t capacity, num_pages;
  int32_t page_rows, dtype, recent;
};

struct StepArguments {
  tkf_filter_spec spec;
  bool filtered;
  State states;  // of sequence 0; the others follow
  const float* signs;
  const void *filter_keys, *keys, *values;  // [batch, size]
  const float *residual, *normed, *queries;
  const int32_t *positions, *chunks;
  CacheView cache;
  uint8_t* keep;
  int32_t *kept, *kept_count;  // kept_count[1]: blocks that are done, 0 between launches
  double* columns;
  int* fault;
  int32_t batch, size;  // size: kv_heads * head_dim
  bool cache_skipped;
};

template <class T, class Real, class Tell>
__device__ bool decide_step(const StepArguments& a, int64_t b, double* shared, DecideShared& s, const Tell& tell) {
  const tkf_filter_spec& spec = a.spec;
  const int64_t hidden = b * spec.hidden_size;
  Token<T> token;
  token.rows.keys = static_cast<const T*>(a.filter_keys) + b * a.size;
  token.rows.values = static_cast<const T*>(a.values) + b * a.size;
  token.rows.residual = a.residual == nullptr ? nullptr : a.residual + hidden;
  token.rows.normed = a.normed == nullptr ? nullptr : a.normed + hidden;
  token.rows.queries = a.queries == nullptr ? nullptr : a.queries + b * spec.queries_size;
  token.rows.signs = a.signs;
  token.chunk = a.chunks == nullptr ? spec.chunk : a.chunks[b];
  token.columns = a.columns == nullptr ? nullptr : a.columns + b;
  token.stride = a.batch;
  return decide<T, Real>(spec, state_of(spec, a.states, b), token, a.fault, shared, s, tell);
}

template <class To, class From>
__device__ inline void copy_row(void* to, int64_t at, const From* from, int size) {
  To* row = static_cast<To*>(to) + at * size;
  for (int i = static_cast<int>(threadIdx.x); i < size; i += kThreads) row[i] = To(to_float(from[i]));
}

template <class T>
__device__ void copy_rows(const StepArguments& a, void* keys, void* values, int64_t at, int64_t b) {
  const T *k = static_cast<const T*>(a.keys) + b * a.size, *v = static_cast<const T*>(a.values) + b * a.size;
  if (a.cache.dtype == TKF_DTYPE_F32) {
    copy_row<float>(keys, at, k, a.size);
    copy_row<float>(values, at, v, a.size);
  } else if (a.cache.dtype == TKF_DTYPE_F16) {
    copy_row<__half>(keys, at, k, a.size);
    copy_row<__half>(values, at, v, a.size);
  } else {
    copy_row<__nv_bfloat16>(keys, at, k, a.size);
    copy_row<__nv_bfloat16>(values, at, v, a.size);
  }
}

// Row of the cache that the next token of sequence b, which holds `count`, takes; -1, with a fault, where there is
// none.
__device__ inline int64_t free_row(const StepArguments& a, int64_t b, int64_t count) {
  const CacheView& cache = a.cache;
  if (count < 0 || count >= cache.capacity) {
    if (threadIdx.x == 0) tkf_fault(a.fault, kFaultCacheFull);
    return -1;
  }
  if (cache.pages == nullptr) return b * cache.capacity + count;
  const int64_t per_sequence = (cache.capacity + cache.page_rows - 1) / cache.page_rows;
  const int64_t page = cache.pages[b * per_sequence + count / cache.page_rows];
  if (page < 0 || page >= cache.num_pages) {
    if (threadIdx.x == 0) tkf_fault(a.fault, kFaultPage);
    return -1;
  }
  return page * cache.page_rows + count % cache.page_rows;
}

// The cache takes a kept token. A skipped one goes to slot `position % recent` of the ring, in place of the token
// `recent` before it, which no later query sees; a kept one leaves that slot as it is: its own query still sees it.
template <class T>
__device__ void append(const StepArguments& a, int64_t b, int32_t position, int32_t count, bool skip) {
  const CacheView& cache = a.cache;
  if (!skip || a.cache_skipped) {
    const int64_t row = free_row(a, b, count);
    if (row < 0) return;
    copy_rows<T>(a, cache.keys, cache.values, row, b);
    if (threadIdx.x == 0) {
      cache.positions[row] = position;
      cache.counts[b] = count + 1;
    }
  } else if (cache.recent > 0) {
    const int64_t row = b * cache.recent + position % cache.recent;
    copy_rows<T>(a, cache.recent_keys, cache.recent_values, row, b);
    if (threadIdx.x == 0) cache.recent_positions[row] = position;
  }
}

// A thread that has nothing else under way, so that its fence does not wait for it.
__device__ inline bool is_teller() { return threadIdx.x == 32; }

// By the teller: the decision, for the block that lists them all. Returns the decisions told before.
__device__ inline int tell_kept(const StepArguments& a, bool keep) {
  a.keep[blockIdx.x] = keep;
  __threadfence();
  return atomicAdd(a.kept_count + 1, 1);
}

// The last block to have told its decision lists the kept sequences. `before`: what the teller got.
__device__ inline void list_kept(const StepArguments& a, int before, int* scratch) {
  TKF_SHARED(bool, last);
  if (is_teller()) last = before == a.batch - 1;
  __syncthreads();
  if (!last) return;
  __threadfence();
  int total = 0;
  for (int first = 0; first < a.batch; first += static_cast<int>(blockDim.x)) {
    const int b = first + static_cast<int>(threadIdx.x);
    const bool kept = b < a.batch && __ldcg(a.keep + b) != 0;
    int count;
    const int rank = block_rank(kept, scratch, &count);
    if (kept) a.kept[total + rank] = b;
    total += count;
  }
  if (threadIdx.x == 0) {
    a.kept_count[0] = total;
    a.kept_count[1] = 0;
  }
}

template <class T, class Real>
__global__ void __launch_bounds__(kThreads, 2) filter_step_kernel(StepArguments a) {
  TKF_DYNAMIC_SHARED(double, shared);
  TKF_SHARED(DecideShared, s);
  TKF_SHARED(int[kThreads / 32], counts);
  const int64_t b = blockIdx.x;
  const int32_t position = a.positions[b], count = a.cache.counts[b];
  int before = 0;  // of the teller; it comes while the cache is written
  bool skip = false, told = false;
  const auto tell = [&] {
    told = true;
    if (is_teller()) before = tell_kept(a, !s.skip);
  };
  if (position >= 0 && a.filtered && decide_step<T, Real>(a, b, shared, s, tell)) skip = s.skip;
  if (!told && is_teller()) before = tell_kept(a, position >= 0);
  __syncthreads();  // all have read the count
  if (position >= 0) append<T>(a, b, position, count, skip);
  list_kept(a, before, counts);
}

}  // namespace filter
}  // namespace tkf
