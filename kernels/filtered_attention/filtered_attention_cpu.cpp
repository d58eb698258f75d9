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
  float* log_sums;  // [num_queries * heads]: log2 of each softmax's sum, where shares are asked for
  size_t floats;    // of one task's workspace
};

// Ends a task's stretch.
template <class Type>
void end_stretch(const Call& call, Task<Type>& task, int64_t stretch) {
  const tkf_attention_filtered_args& job = *call.job;
  if (stretch == call.plan.stretches - 1) task.attend_recent();
  if (call.plan.stretches == 1) {
    task.finish(call.log_sums);
  } else {
    task.leave(call.partial + stretch * job.num_queries * job.heads * (2 + job.head_dim));
  }
}

// All KV heads of a stretch, tile by tile. What a task keeps lies in its memory alone.
template <class Type>
void run_together(void* argument, int64_t stretch, int thread) {
  using Value = typename Type::Value;
  const Call& call = *static_cast<const Call*>(argument);
  const tkf_attention_filtered_args& job = *call.job;
  const Plan& plan = call.plan;
  const auto task_of = [&](int kv_head) {
    float* const memory = static_cast<float*>(context_scratch(call.context, thread));
    return Task<Type>(job, plan, call.sight, memory + static_cast<size_t>(kv_head) * call.floats, 0, kv_head);
  };
  const int64_t seen = call.sight.keys[job.num_queries - 1], width = int64_t{job.kv_heads} * job.head_dim;
  const int64_t begin = seen * stretch / plan.stretches, end = seen * (stretch + 1) / plan.stretches;
  for (int64_t j = begin; j < smaller(end, begin + plan.columns); j++) {  // later ones: see few_rows.h
    prefetch_row(static_cast<const Value*>(job.keys.data) + j * width, static_cast<int>(width));
    if (plan.in_order) prefetch_row(static_cast<const Value*>(job.values.data) + j * width, static_cast<int>(width));
  }
  for (int head = 0; head < job.kv_heads; head++) task_of(head).start();
  for (int64_t j = begin; j < end; j += plan.columns) {
    for (int head = 0; head < job.kv_heads; head++) task_of(head).attend_keys(j, smaller(end, j + plan.columns), end);
  }
  for (int head = 0; head < job.kv_heads; head++) {
    Task<Type> task = task_of(head);
    end_stretch(call, task, stretch);
  }
}

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
  end_stretch(call, task, stretch);
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
    if (call.log_sums != nullptr) call.log_sums[row] = top + log2f(total);
  }
}

// Scores of RB rows or fewer; see few_block.
template <class Type, int RB>
void score_rows(const float* queries, int rows, int padded, const RunOfKeys<typename Type::Value>& tile, int d,
                float* scores, int stride) {
  if constexpr (RB > 1) {
    if (rows < RB) return score_rows<Type, RB - 1>(queries, rows, padded, tile, d, scores, stride);
  }
  score_few<Type, RB>(queries, padded, tile, 0, tile.count, d, scores, stride);
}

// Floats of a thread in run_shares.
inline size_t share_floats(const Plan& plan) {
  return static_cast<size_t>(kFewBlock) * static_cast<size_t>(plan.padded + plan.columns) +
         3 * static_cast<size_t>(plan.columns);
}

// Squared distances of values to one output, padded with zeros, [count].
template <class Type>
void measure_distances(const float* output, const typename Type::Value* values, int64_t stride, int count, int d,
                       float* out) {
  const int whole = d / W * W;
  for (int j = 0; j < count; j++) {
    const typename Type::Value* const value = values + j * stride;
    vf sum = {};
    for (int c = 0; c < whole; c += W) {
      const vf apart = Type::load(value + c) - load(output + c);
      sum += apart * apart;
    }
    if (whole < d) {
      const vf apart = Type::load_part(value + whole, d - whole) - load(output + whole);
      sum += apart * apart;
    }
    out[j] = 0.0f;
    for (int lane = 0; lane < W; lane++) out[j] += sum[lane];
  }
}

// What one full query gave to the last keys: its weights, once more, from its scores and the sum of its softmax; and how
// much its output would change without each of them.
template <class Type>
void run_shares(void* argument, int64_t index, int thread) {
  using Value = typename Type::Value;
  const Call& call = *static_cast<const Call*>(argument);
  const tkf_attention_filtered_args& job = *call.job;
  const Plan& plan = call.plan;
  const int64_t row = plan.local + index, query = call.sight.order[row], first = job.num_keys - job.num_shares;
  const int32_t position = call.sight.position[row], *ends = as<int32_t>(job.key_ends);
  const int d = job.head_dim, padded = plan.padded, columns = plan.columns, heads = job.heads, group = plan.group;
  const float factor = static_cast<float>(job.scale) * 1.44269504088896341f;  // as in Task::start
  double* const shares = as<double>(job.shares) + query * job.num_shares;
  float* const queries = static_cast<float*>(context_scratch(call.context, thread));
  float *const scores = queries + kFewBlock * padded, *const sums = scores + kFewBlock * columns;
  float *const changes = sums + columns, *const distances = changes + columns;
  const float* const head_weights = as<float>(job.head_weights);
  const int64_t stride = int64_t{job.kv_heads} * d, end = call.sight.keys[row];
  for (int64_t j = first; j < end; j += columns) {
    const int count = static_cast<int>(smaller<int64_t>(end - j, columns));
    memset(sums, 0, sizeof(float) * 2 * static_cast<size_t>(columns));  // and changes, which stand behind them
    for (int head = 0; head < heads;) {
      const int kv_head = head / group, rows = smaller(kFewBlock, (kv_head + 1) * group - head);
      for (int r = 0; r < rows; r++) {
        const float* from = as<float>(job.queries) + (query * heads + head + r) * d;
        for (int c = 0; c < padded; c++) queries[r * padded + c] = c < d ? from[c] * factor : 0.0f;
      }
      const int64_t offset = j * stride + int64_t{kv_head} * d;
      const Value* keys = static_cast<const Value*>(job.keys.data) + offset;
      const RunOfKeys<Value> tile = {keys, keys, stride, j, nullptr, nullptr, count, 0, nullptr, nullptr};
      score_rows<Type, kFewBlock>(queries, rows, padded, tile, d, scores, columns);
      for (int r = 0; r < rows; r++) {
        const vf log_sum = set1(call.log_sums[query * heads + head + r]);
        for (int c = 0; c < count; c += W) {
          const vf weight = exp2_vector(minimum(set1(0.0f), load(scores + r * columns + c) - log_sum));
          store(sums + c, load(sums + c) + weight);
          store(scores + r * columns + c, weight);
        }
        if (head_weights == nullptr) continue;
        const float* const output = as<float>(job.out) + (query * heads + head + r) * d;
        for (int c = 0; c < padded; c++) queries[c] = c < d ? output[c] : 0.0f;
        const Value* const values = static_cast<const Value*>(job.values.data) + offset;
        measure_distances<Type>(queries, values, stride, count, d, distances);
        for (int c = 0; c < count; c++) {
          const float weight = scores[r * columns + c], moved = weight / larger(1.0f - weight, 0.02f);
          changes[c] += head_weights[head + r] * moved * moved * distances[c];
        }
      }
      head += rows;
    }
    for (int c = 0; c < count; c++) {
      if (ends != nullptr && ends[j + c] <= position) continue;
      shares[j - first + c] = static_cast<double>(sums[c]) / heads;
      if (head_weights != nullptr) as<double>(job.changes)[query * job.num_shares + j - first + c] = changes[c];
    }
  }
}

}  // namespace attention

int32_t attention_filtered(tkf_context* context, const tkf_attention_filtered_args& job) {
  using namespace attention;
  const int32_t last = as<int32_t>(job.query_positions)[job.num_queries - 1];
  const int64_t keys = count_until(as<int32_t>(job.key_positions), job.num_keys, last);
  Call call = {context, &job, {}, {}, nullptr, nullptr, 0};
  call.plan = plan_attention(job, keys, context_threads(context), context_asks_in_order(context));
  const Plan& plan = call.plan;
  Workspace unused;
  const size_t queries = static_cast<size_t>(job.num_queries), rows = queries * static_cast<size_t>(job.heads);
  const size_t partial = plan.stretches == 1 ? 0
                                             : static_cast<size_t>(plan.stretches) * rows *
                                                   static_cast<size_t>(2 + job.head_dim) * sizeof(float);
  const size_t sight = Sight::kNumbers * queries * sizeof(int32_t), log_sums = job.num_shares > 0 ? rows : 0;
  call.floats = workspace_floats(job, plan, &unused, nullptr);
  const size_t heads = plan.together ? static_cast<size_t>(job.kv_heads) : 1;
  const size_t floats = larger(call.floats * heads, share_floats(plan));
  if (!context_reserve(context, floats * sizeof(float), partial + sight + log_sums * sizeof(float))) {
    return TKF_STATUS_MEMORY;
  }
  char* const shared = static_cast<char*>(context_shared(context));
  call.partial = reinterpret_cast<float*>(shared);
  call.sight = find_sight(job, plan.local, reinterpret_cast<int32_t*>(shared + partial));
  if (log_sums > 0) {
    call.log_sums = reinterpret_cast<float*>(shared + partial + sight);
    const size_t bytes = queries * static_cast<size_t>(job.num_shares) * sizeof(double);
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
      context_run(context, job.num_queries - plan.local, run_shares<decltype(type)>, &call);
    });
  }
  return TKF_STATUS_OK;
}

}  // namespace tkf::TKF_NAMESPACE
