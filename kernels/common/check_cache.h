// Checks that ops of attention and of the cache share: shapes, and buffers long enough for them.
#pragma once
#include "check.h"

namespace tkf {

inline void check_heads(Check& check, int32_t heads, int32_t kv_heads, double scale) {
  check.size("kv_heads", kv_heads, 1, 65535);  // CUDA's limit of a grid's second and third dimension
  check.size("heads", heads, 1, 65536);
  if (check.ok() && heads % kv_heads != 0) {
    check.fail(TKF_STATUS_SHAPE, "found %d query heads over %d KV heads, expected a multiple", heads, kv_heads);
  }
  check.scale(scale);
}

inline void check_cache(Check& check, const tkf_kv_cache& c) {
  check.dtype("cache", c.dtype);
  check.size("batch", c.batch, 0, 65535);  // CUDA's limit of a grid's second and third dimension
  check.size("capacity", c.capacity, 0, INT32_MAX);
  check.size("kv_heads", c.kv_heads, 1, 65535);
  check.size("head_dim", c.head_dim, 1, 256);
  check.size("recent", c.recent, 0, INT32_MAX);
  const int64_t rows = check.product({c.batch, c.capacity});
  check.values("cache.keys", c.keys, c.dtype, {rows, c.kv_heads, c.head_dim});
  check.values("cache.values", c.values, c.dtype, {rows, c.kv_heads, c.head_dim});
  check.array<int32_t>("cache.positions", c.positions, {rows});
  check.array<int32_t>("cache.counts", c.counts, {c.batch});
  check.values("cache.recent_keys", c.recent_keys, c.dtype, {c.batch, c.recent, c.kv_heads, c.head_dim});
  check.values("cache.recent_values", c.recent_values, c.dtype, {c.batch, c.recent, c.kv_heads, c.head_dim});
  check.array<int32_t>("cache.recent_positions", c.recent_positions, {c.batch, c.recent});
}

}  // namespace tkf
