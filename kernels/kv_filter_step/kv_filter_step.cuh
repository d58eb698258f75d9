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

template <class T, class Real>
__device__ bool decide_step(const StepArguments& a, int64_t b, double* shared, DecideShared& s) {
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
  return decide<T, Real>(spec, state_of(spec, a.states, b), token, a.fault, shared, s);
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

// Row of the cache that the next token of sequence b takes; -1, with a fault, where there is none.
__device__ inline int64_t free_row(const StepArguments& a, int64_t b) {
  const CacheView& cache = a.cache;
  const int64_t count = cache.counts[b];
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
__device__ void append(const StepArguments& a, int64_t b, int32_t position, bool skip) {
  const CacheView& cache = a.cache;
  if (!skip || a.cache_skipped) {
    const int64_t row = free_row(a, b);
    __syncthreads();  // all have read the count
    if (row < 0) return;
    copy_rows<T>(a, cache.keys, cache.values, row, b);
    if (threadIdx.x == 0) {
      cache.positions[row] = position;
      cache.counts[b]++;
    }
  } else if (cache.recent > 0) {
    const int64_t row = b * cache.recent + position % cache.recent;
    copy_rows<T>(a, cache.recent_keys, cache.recent_values, row, b);
    if (threadIdx.x == 0) cache.recent_positions[row] = position;
  }
}

// The last block to be done lists the kept sequences.
__device__ inline void list_kept(const StepArguments& a, bool keep, int* scratch) {
  TKF_SHARED(bool, last);
  if (threadIdx.x == 0) {
    a.keep[blockIdx.x] = keep;
    __threadfence();
    last = atomicAdd(a.kept_count + 1, 1) == a.batch - 1;
  }
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
  const int32_t position = a.positions[b];
  bool skip = false;
  if (position >= 0) {
    if (a.filtered && decide_step<T, Real>(a, b, shared, s)) skip = s.skip;
    append<T>(a, b, position, skip);
  }
  list_kept(a, position >= 0 && !skip, counts);
}

}  // namespace filter
}  // namespace tkf
