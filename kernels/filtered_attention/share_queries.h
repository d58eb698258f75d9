// Sizes of a call that follow from its arguments: the last queries that have shares, and the heads of its keys.
#pragma once
#include "../include/tokenfilter.h"

namespace tkf {

// The least that 1 - w counts as, of the weight w of a key that is left out: LEAST_OTHERS of lib/backend.ts.
constexpr float kLeastOthers = 0.02f;

inline int64_t share_queries(const tkf_attention_filtered_args& a) {
  const uint64_t row = static_cast<uint64_t>(a.num_shares) * sizeof(double);
  return row == 0 ? 0 : static_cast<int64_t>(a.shares.bytes / row);
}

// Query heads of a KV head.
inline int32_t group_of(const tkf_attention_filtered_args& a) {
  return a.heads / (a.kv_places.data == nullptr ? a.kv_heads : a.query_kv_heads);
}

// Query heads of the keys' KV heads.
inline int32_t heads_of_keys(const tkf_attention_filtered_args& a) { return a.kv_heads * group_of(a); }

}  // namespace tkf
