// Checks that all calls of attention share.
#pragma once
#include <cfloat>
#include <cmath>

#include "../common/check.h"

namespace tkf {

inline void check_heads(Check& check, int32_t heads, int32_t kv_heads, double scale) {
  check.size("kv_heads", kv_heads, 1, 65536);
  check.size("heads", heads, 1, 65536);
  if (check.ok() && heads % kv_heads != 0) {
    check.fail(TKF_STATUS_SHAPE, "found %d query heads over %d KV heads, expected a multiple", heads, kv_heads);
  }
  check.require(std::fabs(scale) <= FLT_MAX, TKF_STATUS_VALUE,
                "found a scale that is not finite in f32, expected a number");
}

// Kept queries, and kept and recent keys and values, of tkf_attention_filtered and tkf_attention_prefill.
template <class Args>
inline void check_rows(Check& check, const Args& a, int32_t query_dtype, int32_t dtype) {
  check.dtype("keys", dtype);
  check.dtype("queries", query_dtype, {TKF_DTYPE_F32, dtype});
  check.size("num_queries", a.num_queries, 0, INT32_MAX);
  check.size("num_keys", a.num_keys, 0, INT32_MAX);
  check.size("num_recent", a.num_recent, 0, INT32_MAX);
  check.size("head_dim", a.head_dim, 1, 256);
  check_heads(check, a.heads, a.kv_heads, a.scale);
  // nvcc takes a list in braces for an expression where its members' types depend on a template.
  const int64_t queries = a.num_queries, keys = a.num_keys, recent = a.num_recent;
  const int64_t heads = a.heads, kv_heads = a.kv_heads, head_dim = a.head_dim;
  check.values("queries", a.queries, query_dtype, {queries, heads, head_dim});
  check.values("out", a.out, query_dtype, {queries, heads, head_dim});
  check.array<int32_t>("query_positions", a.query_positions, {queries});
  check.values("keys", a.keys, dtype, {keys, kv_heads, head_dim});
  check.values("values", a.values, dtype, {keys, kv_heads, head_dim});
  check.array<int32_t>("key_positions", a.key_positions, {keys});
  check.values("recent_keys", a.recent_keys, dtype, {recent, kv_heads, head_dim});
  check.values("recent_values", a.recent_values, dtype, {recent, kv_heads, head_dim});
  check.array<int32_t>("recent_positions", a.recent_positions, {recent});
}

}  // namespace tkf
