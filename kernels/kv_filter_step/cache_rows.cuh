// Rows of a batch's cache, contiguous or paged.
#pragma once
#include "../common/cuda_context.h"

namespace tkf::filter {

// Where row r of sequence b, 0 <= r < capacity, lies; -1, with a fault, where its page is not one of the pool's.
__device__ inline int64_t cache_row(const tkf_kv_cache& cache, int64_t pages_in_pool, int64_t b, int64_t r, int* fault) {
  if (cache.pages.data == nullptr) return b * cache.capacity + r;
  const int64_t of_sequence = (cache.capacity + cache.page_rows - 1) / cache.page_rows;
  const int64_t page = as<int32_t>(cache.pages)[b * of_sequence + r / cache.page_rows];
  if (page < 0 || page >= pages_in_pool) {
    tkf_fault(fault, kFaultPage);
    return -1;
  }
  return page * cache.page_rows + r % cache.page_rows;
}

}  // namespace tkf::filter
