// A call of filtered attention, and its tasks. Those that read the cache are compiled by the type of its elements:
// cache_f32_cpu.cpp, cache_f16_cpu.cpp, cache_bf16_cpu.cpp.
#pragma once
#include "engine.h"
#include "share_queries.h"

namespace tkf::TKF_NAMESPACE::attention {

struct Call {
  tkf_context* context;
  const tkf_attention_filtered_args* job;
  Plan plan;
  Sight sight;
  float* partial;  // [stretches, num_queries * heads, 2 + head_dim] where there are several stretches
  float* log_sums;  // [num_queries * heads]: log2 of each softmax's sum, where shares are asked for
  size_t floats;    // of one task's workspace
};

// Floats of a thread in run_shares.
inline size_t share_floats(const Plan& plan) {
  return static_cast<size_t>(kFewBlock) * static_cast<size_t>(plan.padded + 2 * plan.columns) +
         2 * static_cast<size_t>(plan.columns);
}

// All KV heads of a stretch of the keys; a tile of queries and a stretch for one KV head; what one query gave to the last
// keys. `argument` is a Call.
template <class Type>
void run_together(void* argument, int64_t stretch, int thread);
template <class Type>
void run_task(void* argument, int64_t index, int thread);
template <class Type>
void run_shares(void* argument, int64_t row, int thread);

}  // namespace tkf::TKF_NAMESPACE::attention
