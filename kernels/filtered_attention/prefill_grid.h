// The grid of a prefill kernel: blocks for tiles of rows and, where these are few, for splits of the keys.
#pragma once
#include <algorithm>

#include "prefill.cuh"

namespace tkf {
namespace attention {

constexpr int64_t kMostPrefillSplits = 32;
constexpr int64_t kKeysOfPrefillSplit = 256;  // fewer are not worth a block
constexpr int64_t kPrefillBlocksOfSm = 2;     // that run at a time

inline int64_t tiles_of(const PrefillJob& job, int rows) {
  return (int64_t{job.longest_queries} * job.group + rows - 1) / rows;
}

// Plans splits for tiles of `rows` rows and takes the workspace that they need. A function of shapes alone, so that
// calls of the same shapes round alike. False, and splits 0, where there is too little workspace (cuda_short).
inline bool plan_splits(tkf_context* context, PrefillJob& job, int rows) {
  const int64_t blocks = tiles_of(job, rows) * job.kv_heads * job.batch;
  const int64_t room = cuda_num_sms(context) * kPrefillBlocksOfSm / blocks;
  const int64_t keys = (int64_t{job.num_rows[0]} + job.num_rows[1]) / job.batch;  // of a sequence, on average
  const int64_t splits = std::min({room, keys / kKeysOfPrefillSplit, kMostPrefillSplits});
  job.splits = 1;
  if (splits < 2) return true;
  const int64_t numbers = splits * job.num_queries * job.heads * (2 + job.head_dim);
  const size_t bytes = sizeof(float) * static_cast<size_t>(numbers);
  job.partial = static_cast<float*>(cuda_workspace(context, bytes));
  job.splits = job.partial == nullptr ? 0 : static_cast<int>(splits);
  if (job.splits == 0) cuda_short(context, bytes);
  return job.splits > 0;
}

inline dim3 prefill_grid(const PrefillJob& job, int rows) {
  return dim3(static_cast<unsigned>(tiles_of(job, rows) * job.splits), static_cast<unsigned>(job.kv_heads),
              static_cast<unsigned>(job.batch));
}

}  // namespace attention
}  // namespace tkf
