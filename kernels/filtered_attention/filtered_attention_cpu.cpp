// Filtered attention, the body that is compiled once per instruction-set level.
#include <cmath>

#include "engine.h"

namespace tkf::TKF_NAMESPACE {
namespace attention {

struct Call {
  tkf_context* context;
  const tkf_attention_filtered_args* job;
  Plan plan;
  Sight sight;
  float* partial;  // [stretches, num_queries * heads, 2 + head_dim] where there are several stretches
};

template <class Type>
void run_task(void* argument, int64_t index, int thread) {
  const Call& call = *static_cast<const Call*>(argument);
  const tkf_attention_filtered_args& job = *call.job;
  const Plan& plan = call.plan;
  // The longest tiles, those of the last full queries, go first.
  const int64_t per_tile = int64_t{plan.stretches} * job.kv_heads;
  const int64_t tile = plan.tiles - 1 - index / per_tile;
  const int64_t stretch = index % per_tile / job.kv_heads;
  Task<Type> task(job, plan, call.sight, static_cast<float*>(context_scratch(call.context, thread)), tile,
                  static_cast<int>(index % job.kv_heads));
  task.start();
  task.attend_cache(stretch, plan.stretches);
  if (stretch == plan.stretches - 1) task.attend_recent();
  if (plan.stretches == 1) {
    task.finish();
  } else {
    task.leave(call.partial + stretch * job.num_queries * job.heads * (2 + job.head_dim));
  }
}

// Puts the stretches of one query's rows together.
inline void run_merge(void* argument, int64_t query, int) {
  const Call& call = *static_cast<const Call*>(argument);
  const tkf_attention_filtered_args& job = *call.job;
  const int d = job.head_dim;
  const int64_t step = job.num_queries * job.heads * (2 + d);
  for (int64_t row = query * job.heads; row < (query + 1) * job.heads; row++) {
    const float* parts = call.partial + row * (2 + d);
    float top = -INFINITY, total = 0.0f;
    for (int s = 0; s < call.plan.stretches; s++) top = larger(top, parts[s * step]);
    float* out = as<float>(job.out) + row * d;
    memset(out, 0, sizeof(float) * static_cast<size_t>(d));
    for (int s = 0; s < call.plan.stretches; s++) {
      const float* part = parts + s * step;
      if (part[1] == 0.0f) continue;
      const float factor = exp2f(part[0] - top);
      total += part[1] * factor;
      for (int c = 0; c < d; c++) out[c] += part[2 + c] * factor;
    }
    const float factor = total == 0.0f ? 0.0f : 1.0f / total;
    for (int c = 0; c < d; c++) out[c] *= factor;
  }
}

}  // namespace attention

static int32_t attention_filtered(tkf_context* context, const tkf_attention_filtered_args& job) {
  using namespace attention;
  const int32_t last = as<int32_t>(job.query_positions)[job.num_queries - 1];
  const int64_t keys = count_until(as<int32_t>(job.key_positions), job.num_keys, last);
  Call call = {context, &job, plan_attention(job, keys, context_threads(context)), {}, nullptr};
  const Plan& plan = call.plan;
  Workspace unused;
  const size_t queries = static_cast<size_t>(job.num_queries), rows = queries * static_cast<size_t>(job.heads);
  const size_t partial = plan.stretches == 1 ? 0
                                             : static_cast<size_t>(plan.stretches) * rows *
                                                   static_cast<size_t>(2 + job.head_dim) * sizeof(float);
  if (!context_reserve(context, workspace_floats(job, plan, &unused, nullptr) * sizeof(float),
                       partial + Sight::kNumbers * queries * sizeof(int32_t))) {
    return TKF_STATUS_MEMORY;
  }
  call.partial = static_cast<float*>(context_shared(context));
  call.sight = find_sight(job, plan.local, reinterpret_cast<int32_t*>(static_cast<char*>(context_shared(context)) + partial));
  with_type(job.kv_dtype, [&](auto type) {
    context_run(context, plan.tiles * plan.stretches * job.kv_heads, run_task<decltype(type)>, &call);
  });
  if (plan.stretches > 1) context_run(context, job.num_queries, run_merge, &call);
  return TKF_STATUS_OK;
}

}  // namespace tkf::TKF_NAMESPACE
