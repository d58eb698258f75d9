// Checks of tkf_attention_filtered.
#include "../common/check_cache.h"
#include "share_queries.h"

namespace tkf {

static void check_ascending(Check& check, const char* name, const tkf_buffer& checked, int64_t count) {
  if (!check.readable()) return;
  const int32_t* positions = as<int32_t>(checked);
  int falls = 0;  // without an early exit, so that it is one vector loop
  for (int64_t i = 1; i < count; i++) falls |= positions[i] < positions[i - 1];
  for (int64_t i = 1; falls != 0 && check.ok() && i < count; i++) {
    if (positions[i] < positions[i - 1]) {
      check.fail(TKF_STATUS_VALUE, "found position %d after %d in \"%s\", expected ascending positions", positions[i],
                 positions[i - 1], name);
    }
  }
}

static void check_places(Check& check, const tkf_attention_filtered_args& a) {
  const int32_t* places = as<int32_t>(a.kv_places);
  for (int head = 0; check.ok() && check.readable() && head < a.kv_heads; head++) {
    if (places[head] > (head == 0 ? -1 : places[head - 1]) && places[head] < a.query_kv_heads) continue;
    check.fail(TKF_STATUS_VALUE, "found %d in \"kv_places\", expected ascending numbers below %d", places[head],
               a.query_kv_heads);
  }
}

bool check_args(Check& check, const tkf_attention_filtered_args& a) {
  check.dtype("keys", a.kv_dtype);
  check.size("num_queries", a.num_queries, 0, INT32_MAX);
  check.size("num_keys", a.num_keys, 0, INT32_MAX);
  check.size("num_recent", a.num_recent, 0, INT32_MAX);
  check.size("head_dim", a.head_dim, 1, 256);
  const bool some = a.kv_places.data != nullptr;
  if (some) check.size("kv_heads", a.kv_heads, 1, a.query_kv_heads);
  check_heads(check, a.heads, some ? a.query_kv_heads : a.kv_heads, a.scale);
  check.array<float>("queries", a.queries, {a.num_queries, a.heads, a.head_dim});
  check.array<float>("out", a.out, {a.num_queries, a.heads, a.head_dim});
  check.array<int32_t>("query_positions", a.query_positions, {a.num_queries});
  check.values("keys", a.keys, a.kv_dtype, {a.num_keys, a.kv_heads, a.head_dim});
  check.values("values", a.values, a.kv_dtype, {a.num_keys, a.kv_heads, a.head_dim});
  check.array<int32_t>("key_positions", a.key_positions, {a.num_keys});
  check.values("recent_keys", a.recent_keys, a.kv_dtype, {a.num_recent, a.kv_heads, a.head_dim});
  check.values("recent_values", a.recent_values, a.kv_dtype, {a.num_recent, a.kv_heads, a.head_dim});
  check.array<int32_t>("recent_positions", a.recent_positions, {a.num_recent});
  check.size("recent_window", a.recent_window, 0, INT32_MAX);
  check.size("sinks", a.sinks, 0, INT32_MAX);
  if (a.key_ends.data != nullptr) check.array<int32_t>("key_ends", a.key_ends, {a.num_keys});
  if (some) {
    check.array<int32_t>("kv_places", a.kv_places, {a.kv_heads});
    check_places(check, a);
  }
  if (a.windows.data != nullptr) check.array<int32_t>("windows", a.windows, {a.num_queries});
  check.size("num_shares", a.num_shares, 0, a.num_keys);
  check.size("share_distance", a.share_distance, 0, INT32_MAX);
  if (a.shares.data != nullptr || a.num_shares > 0) {
    check.require(a.shares.data != nullptr || a.num_queries == 0, TKF_STATUS_NULL, "found no shares, expected them");
    check.size("queries of shares", share_queries(a), 0, a.num_queries);
    check.array<double>("shares", a.shares, {share_queries(a), a.num_shares});
  }
  if (a.changes.data != nullptr || a.head_weights.data != nullptr) {
    check.require(a.shares.data != nullptr, TKF_STATUS_NULL, "found changes without shares, expected both");
    check.array<double>("changes", a.changes, {share_queries(a), a.num_shares});
    check.array<float>("head_weights", a.head_weights, {a.heads});
  }
  check_ascending(check, "query_positions", a.query_positions, a.num_queries);
  check_ascending(check, "key_positions", a.key_positions, a.num_keys);
  check_ascending(check, "recent_positions", a.recent_positions, a.num_recent);
  return a.num_queries > 0;
}

}  // namespace tkf
