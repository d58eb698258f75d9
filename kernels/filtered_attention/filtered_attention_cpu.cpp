// Filtered attention: how a call is cut into tasks, and how their parts are put together.
#include <cmath>

#include "../common/bodies.h"
#include "call.h"

namespace tkf::TKF_NAMESPACE {
namespace attention {

// Puts the stretches of one query's rows together.
static void run_merge(void* argument, int64_t query, int) {
  const Call& call = *static_cast<const Call*>(argument);
  const tkf_attention_filtered_args& job = *call.job;
  const int d = job.head_dim;
  const int64_t step = job.num_queries * job.heads * (2 + d);
  for (int head = 0; head < heads_of_keys(job); head++) {
    const int64_t row = query * job.heads + head_place(job, head);
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
    if (call.log_sums != nullptr) call.log_sums[row] = top + log2f(total);
  }
}

}  // namespace attention

int32_t attention_filtered(tkf_context* context, const tkf_attention_filtered_args& job) {
  using namespace attention;
  const int32_t last = as<int32_t>(job.query_positions)[job.num_queries - 1];
  const int64_t keys = count_until(as<int32_t>(job.key_positions), job.num_keys, last);
  Call call = {context, &job, {}, {}, nullptr, nullptr, nullptr, 0};
  call.plan = plan_attention(job, keys, context_threads(context), context_asks_in_order(context));
  const Plan& plan = call.plan;
  Workspace unused;
  const size_t queries = static_cast<size_t>(job.num_queries), rows = queries * static_cast<size_t>(job.heads);
  const size_t partial = plan.stretches == 1 ? 0
                                             : static_cast<size_t>(plan.stretches) * rows *
                                                   static_cast<size_t>(2 + job.head_dim) * sizeof(float);
  const size_t sight = Sight::kNumbers * queries * sizeof(int32_t), log_sums = job.num_shares > 0 ? rows : 0;
  const size_t noted = plan.by_head ? static_cast<size_t>(scores_to_note(job)) : 0;
  call.floats = workspace_floats(job, plan, &unused, nullptr);
  const size_t heads = plan.together ? static_cast<size_t>(job.kv_heads) : 1;
  const size_t floats = larger(call.floats * heads, share_floats(job, plan));
  if (!context_reserve(context, floats * sizeof(float), partial + sight + (log_sums + noted) * sizeof(float))) {
    return TKF_STATUS_MEMORY;
  }
  char* const shared = static_cast<char*>(context_shared(context));
  call.partial = reinterpret_cast<float*>(shared);
  call.sight = find_sight(job, plan.local, reinterpret_cast<int32_t*>(shared + partial));
  if (log_sums > 0) {
    call.log_sums = reinterpret_cast<float*>(shared + partial + sight);
    if (noted > 0) call.noted = call.log_sums + log_sums;
    const size_t bytes = static_cast<size_t>(share_queries(job) * job.num_shares) * sizeof(double);
    memset(job.shares.data, 0, bytes);
    if (job.changes.data != nullptr) memset(job.changes.data, 0, bytes);
  }
  with_type(job.kv_dtype, [&](auto type) {
    using Type = decltype(type);
    if (plan.together) return context_run(context, plan.stretches, run_together<Type>, &call);
    context_run(context, plan.tiles * plan.stretches * job.kv_heads, run_task<Type>, &call);
  });
  if (plan.stretches > 1) context_run(context, job.num_queries, run_merge, &call);
  if (log_sums > 0) {
    with_type(job.kv_dtype, [&](auto type) {
      using Type = decltype(type);
      if (!shares_many(job)) return context_run(context, job.num_queries, run_shares<Type>, &call);
      context_run(context, (job.num_queries + W - 1) / W, run_many_shares<Type>, &call);
    });
  }
  return TKF_STATUS_OK;
}

}  // namespace tkf::TKF_NAMESPACE
