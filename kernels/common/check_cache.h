// Checks of a tkf_kv_cache: shapes, and buffers long enough for them.
#pragma once
#include "check.h"

namespace tkf {

// Pages of a paged cache; both 0 where it is contiguous.
struct Pages {
  int64_t in_pool, of_sequence;
};
inline Pages pages_of(const tkf_kv_cache& c) {
  if (c.pages.data == nullptr) return {0, 0};
  const int64_t page = int64_t{c.page_rows} * c.kv_heads * c.head_dim * (c.dtype == TKF_DTYPE_F32 ? 4 : 2);
  return {static_cast<int64_t>(c.keys.bytes / static_cast<uint64_t>(page)),
          (c.capacity + c.page_rows - 1) / c.page_rows};
}

inline void check_cache(Check& check, const tkf_kv_cache& c) {
  check.dtype("cache", c.dtype);
  check.size("batch", c.batch, 0, 65535);  // CUDA's limit of a grid's second and third dimension
  check.size("capacity", c.capacity, 0, INT32_MAX);
  check.size("kv_heads", c.kv_heads, 1, 65536);
  check.size("head_dim", c.head_dim, 1, 256);
  check.size("recent", c.recent, 0, INT32_MAX);
  if (c.pages.data != nullptr) check.size("page_rows", c.page_rows, 1, INT32_MAX);
  check.product({c.page_rows, c.kv_heads, c.head_dim, 4});  // a page, of 32-bit values at most
  if (!check.ok()) return;
  const Pages pages = pages_of(c);
  if (c.pages.data != nullptr) check.array<int32_t>("pages", c.pages, {c.batch, pages.of_sequence});
  const int64_t rows = c.pages.data != nullptr ? check.product({pages.in_pool, c.page_rows})
                                               : check.product({c.batch, c.capacity});
  check.values("cache.keys", c.keys, c.dtype, {rows, c.kv_heads, c.head_dim});
  check.values("cache.values", c.values, c.dtype, {rows, c.kv_heads, c.head_dim});
  check.array<int32_t>("cache.positions", c.positions, {rows});
  check.array<int32_t>("cache.counts", c.counts, {c.batch});
  check.values("cache.recent_keys", c.recent_keys, c.dtype, {c.batch, c.recent, c.kv_heads, c.head_dim});
  check.values("cache.recent_values", c.recent_values, c.dtype, {c.batch, c.recent, c.kv_heads, c.head_dim});
  check.array<int32_t>("cache.recent_positions", c.recent_positions, {c.batch, c.recent});
}

}  // namespace tkf
