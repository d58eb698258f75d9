// How many of the last queries have shares.
#pragma once
#include "../include/tokenfilter.h"

namespace tkf {

// The least that 1 - w counts as, of the weight w of a key that is left out: LEAST_OTHERS of lib/backend.ts.
constexpr float kLeastOthers = 0.02f;

inline int64_t share_queries(const tkf_attention_filtered_args& a) {
  const uint64_t row = static_cast<uint64_t>(a.num_shares) * sizeof(double);
  return row == 0 ? 0 : static_cast<int64_t>(a.shares.bytes / row);
}

}  // namespace tkf
