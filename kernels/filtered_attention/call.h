// A call of filtered attention, and its tasks. Those that read the cache are compiled by the type of its elements:
// cache_f32_cpu.cpp, cache_f16_cpu.cpp, cache_bf16_cpu.cpp.
#pragma once
#include "engine.h"

namespace tkf::TKF_NAMESPACE::attention {

struct Call {
  tkf_context* context;
  const tkf_attention_filtered_args* job;
  Plan plan;
  Sight sight;
  float* partial;  // [stretches, num_queries * heads, 2 + head_dim] where there are several stretches
  float* log_sums;  // [num_queries * heads]: log2 of each softmax's sum, where shares are asked for
  float* noted;     // see scores_to_note; NULL where they are computed again
  size_t floats;    // of one task's workspace
};

// Whether run_many_shares takes the queries of a call: it computes as much for fewer.
inline bool shares_many(const tkf_attention_filtered_args& job) { return job.num_queries >= W; }

// Floats of a thread in run_shares or run_many_shares.
inline size_t share_floats(const tkf_attention_filtered_args& job, const Plan& plan) {
  const size_t padded = static_cast<size_t>(plan.padded), columns = static_cast<size_t>(plan.columns);
  if (shares_many(job)) return padded * W + 2 * columns * padded + 4 * columns * W;
  return kFewBlock * (padded + 2 * columns) + 2 * columns;
}

// All KV heads of a stretch of the keys; a tile of queries and a stretch for one KV head; what one query, or W of them, gave to
// the last keys. `argument` is a Call.
template <class Type>
void run_together(void* argument, int64_t stretch, int thread);
template <class Type>
void run_task(void* argument, int64_t index, int thread);
template <class Type>
void run_shares(void* argument, int64_t row, int thread);
template <class Type>
void run_many_shares(void* argument, int64_t block, int thread);

}  // namespace tkf::TKF_NAMESPACE::attention
