// Checks of a tkf_kv_cache: shapes, and buffers long enough for them.
#pragma once
#include <cstdint>

#include "../include/tokenfilter_cuda.h"
#include "check.h"

namespace tkf {

// What follows from a checked cache.
struct CacheShape {
  int64_t num_pages;           // pages in the pool; 0 where the cache is contiguous
  int64_t pages_per_sequence;  // entries of `pages` of a sequence
};

inline CacheShape check_cache(Check& check, const tkf_kv_cache* cache, uint64_t bytes) {
  CacheShape shape = {0, 0};
  check.buffer("cache", cache, bytes, sizeof(tkf_kv_cache), 8);
  if (!check.ok()) return shape;
  const tkf_kv_cache& c = *cache;
  check.dtype("cache", c.dtype, {TKF_DTYPE_F32, TKF_DTYPE_F16, TKF_DTYPE_BF16});
  check.size("batch", c.batch, 0, 65535);  // CUDA's limit of a grid's second and third dimension
  check.size("capacity", c.capacity, 0, INT32_MAX);
  check.size("kv_heads", c.kv_heads, 1, 65536);
  check.size("head_dim", c.head_dim, 1, 256);
  check.size("recent", c.recent, 0, INT32_MAX);
  if (!check.ok()) return shape;

  const int64_t alignment = alignment_of(c.dtype), width = int64_t{c.kv_heads} * c.head_dim;
  int64_t rows = check.product({c.batch, c.capacity});
  if (c.pages.data != nullptr) {
    check.size("page_rows", c.page_rows, 1, INT32_MAX);
    if (!check.ok()) return shape;
    shape.pages_per_sequence = (c.capacity + c.page_rows - 1) / c.page_rows;
    check.buffer("pages", c.pages.data, c.pages.bytes, check.product({c.batch, shape.pages_per_sequence, 4}));
    const int64_t page_bytes = check.bytes_of(c.dtype, check.product({c.page_rows, width}));
    if (!check.ok()) return shape;
    shape.num_pages = static_cast<int64_t>(c.keys.bytes / static_cast<uint64_t>(page_bytes));
    rows = check.product({shape.num_pages, c.page_rows});
  }
  const int64_t held = check.bytes_of(c.dtype, check.product({rows, width}));
  const int64_t near = check.bytes_of(c.dtype, check.product({c.batch, c.recent, width}));
  check.buffer("cache.keys", c.keys.data, c.keys.bytes, held, alignment);
  check.buffer("cache.values", c.values.data, c.values.bytes, held, alignment);
  check.buffer("cache.positions", c.positions.data, c.positions.bytes, check.product({rows, 4}));
  check.buffer("cache.counts", c.counts.data, c.counts.bytes, check.product({c.batch, 4}));
  check.buffer("cache.recent_keys", c.recent_keys.data, c.recent_keys.bytes, near, alignment);
  check.buffer("cache.recent_values", c.recent_values.data, c.recent_values.bytes, near, alignment);
  check.buffer("cache.recent_positions", c.recent_positions.data, c.recent_positions.bytes,
               check.product({c.batch, c.recent, 4}));
  return shape;
}

}  // namespace tkf
