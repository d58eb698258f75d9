// How many of the last queries have shares.
#pragma once
#include "../include/tokenfilter.h"

namespace tkf {

inline int64_t share_queries(const tkf_attention_filtered_args& a) {
  const uint64_t row = static_cast<uint64_t>(a.num_shares) * sizeof(double);
  return row == 0 ? 0 : static_cast<int64_t>(a.shares.bytes / row);
}

}  // namespace tkf
