// Entry point of tkf_attention_filtered.
#include "filtered_attention.h"

#include <cfloat>
#include <cmath>

#include "../common/check.h"

static void check_ascending(tkf::Check& check, const char* name, const int32_t* positions, int64_t count) {
  if (!check.readable()) return;
  int falls = 0;  // without an early exit, so that it is one vector loop
  for (int64_t i = 1; i < count; i++) falls |= positions[i] < positions[i - 1];
  for (int64_t i = 1; falls != 0 && i < count; i++) {
    if (positions[i] < positions[i - 1]) {
      check.fail(TKF_STATUS_VALUE, "found position %d after %d in \"%s\", expected ascending positions", positions[i],
                 positions[i - 1], name);
      return;
    }
  }
}

int32_t tkf_attention_filtered(tkf_context* context, const tkf_attention_shape* shape, uint64_t shape_bytes,
                               const float* queries, uint64_t queries_bytes, const int32_t* query_positions,
                               uint64_t query_positions_bytes, const void* keys, uint64_t keys_bytes,
                               const void* values, uint64_t values_bytes, const int32_t* key_positions,
                               uint64_t key_positions_bytes, const void* recent_keys, uint64_t recent_keys_bytes,
                               const void* recent_values, uint64_t recent_values_bytes,
                               const int32_t* recent_positions, uint64_t recent_positions_bytes, float* out,
                               uint64_t out_bytes) {
  tkf::Check check(context);
  check.buffer("shape", shape, shape_bytes, sizeof(tkf_attention_shape), 8);
  if (!check.ok()) return check.status();
  const tkf_attention_shape& s = *shape;
  check.dtype("keys", s.kv_dtype, {TKF_DTYPE_F32, TKF_DTYPE_F16, TKF_DTYPE_BF16});
  check.size("n_queries", s.n_queries, 0, INT32_MAX);
  check.size("n_keys", s.n_keys, 0, INT32_MAX);
  check.size("n_recent", s.n_recent, 0, INT32_MAX);
  check.size("kv_heads", s.kv_heads, 1, 65536);
  check.size("heads", s.heads, 1, 65536);
  check.size("head_dim", s.head_dim, 1, 256);
  check.size("recent_window", s.recent_window, 0, INT32_MAX);
  if (check.ok() && s.heads % s.kv_heads != 0) {
    check.fail(TKF_STATUS_SHAPE, "found %d query heads over %d KV heads, expected a multiple", s.heads, s.kv_heads);
  }
  check.require(std::fabs(s.scale) <= FLT_MAX, TKF_STATUS_VALUE,
                "found a scale that is not finite in f32, expected a number");
  if (!check.ok()) return check.status();

  const int64_t rows = check.product({s.n_queries, s.heads, s.head_dim, 4});
  const int64_t cached = check.bytes_of(s.kv_dtype, check.product({s.n_keys, s.kv_heads, s.head_dim}));
  const int64_t recent = check.bytes_of(s.kv_dtype, check.product({s.n_recent, s.kv_heads, s.head_dim}));
  const int64_t alignment = tkf::alignment_of(s.kv_dtype);
  check.buffer("queries", queries, queries_bytes, rows);
  check.buffer("query_positions", query_positions, query_positions_bytes, s.n_queries * 4);
  check.buffer("keys", keys, keys_bytes, cached, alignment);
  check.buffer("values", values, values_bytes, cached, alignment);
  check.buffer("key_positions", key_positions, key_positions_bytes, s.n_keys * 4);
  check.buffer("recent_keys", recent_keys, recent_keys_bytes, recent, alignment);
  check.buffer("recent_values", recent_values, recent_values_bytes, recent, alignment);
  check.buffer("recent_positions", recent_positions, recent_positions_bytes, s.n_recent * 4);
  check.buffer("out", out, out_bytes, rows);
  check_ascending(check, "query_positions", query_positions, s.n_queries);
  check_ascending(check, "key_positions", key_positions, s.n_keys);
  check_ascending(check, "recent_positions", recent_positions, s.n_recent);
  if (!check.ok() || s.n_queries == 0) return check.status();

  const tkf::AttentionJob job = {s.n_queries,   s.n_keys,    s.n_recent,      s.heads,
                                 s.kv_heads,    s.head_dim,  s.kv_dtype,      s.recent_window,
                                 static_cast<float>(s.scale), queries, query_positions, keys,
                                 values,        key_positions, recent_keys,   recent_values,
                                 recent_positions, out};
  return check.done(context->kernels->filtered_attention(context, &job));
}
