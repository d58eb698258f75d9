// The tasks of a call that read the cache. A unit that includes this compiles them for one type of its elements.
#pragma once
#include <cmath>

#include "call.h"

namespace tkf::TKF_NAMESPACE::attention {

// Ends a task's stretch.
template <class Type>
static void end_stretch(const Call& call, Task<Type>& task, int64_t stretch) {
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

// score_few of `rows` rows, RB or fewer.
template <class Type, int RB, class Of>
static void score_rows(const float* queries, int rows, int padded, const RunOfKeys<typename Type::Value>& tile, int d,
                       float* scores, int stride) {
  if constexpr (RB > 1) {
    if (rows < RB) return score_rows<Type, RB - 1, Of>(queries, rows, padded, tile, d, scores, stride);
  }
  score_few<Type, RB, Of>(queries, padded, tile, 0, tile.count, d, scores, stride);
}

// out [rows, padded] = x [rows, d] times a factor, padded with zeros.
inline void pad_rows(const float* x, int rows, int d, int padded, float factor, float* out) {
  for (int r = 0; r < rows; r++) {
    for (int c = 0; c < d; c++) out[r * padded + c] = x[r * d + c] * factor;
    for (int c = d; c < padded; c++) out[r * padded + c] = 0.0f;
  }
}

// What one of the last queries gave to the last keys: its weights, once more, from its scores and the sum of its softmax; and how
// much its output would change without each of them.
template <class Type>
void run_shares(void* argument, int64_t row, int thread) {
  using Value = typename Type::Value;
  const Call& call = *static_cast<const Call*>(argument);
  const tkf_attention_filtered_args& job = *call.job;
  const Plan& plan = call.plan;
  const int64_t query = call.sight.order[row], first = job.num_keys - job.num_shares;
  const int64_t share_row = query - (job.num_queries - share_queries(job));
  if (share_row < 0) return;
  const int32_t position = call.sight.position[row], seen_from = call.sight.from[row];
  const int32_t *const key_positions = as<int32_t>(job.key_positions), *const ends = as<int32_t>(job.key_ends);
  const int d = job.head_dim, padded = plan.padded, columns = plan.columns, heads = job.heads, group = plan.group;
  const float factor = static_cast<float>(job.scale) * 1.44269504088896341f;  // as in Task::start
  double* const shares = as<double>(job.shares) + share_row * job.num_shares;
  float* const rows_of = static_cast<float*>(context_scratch(call.context, thread));  // queries, then outputs
  float *const scores = rows_of + kFewBlock * padded, *const distances = scores + kFewBlock * columns;
  float *const sums = distances + kFewBlock * columns, *const changes = sums + columns;
  const float* const head_weights = as<float>(job.head_weights);
  const int64_t stride = int64_t{job.kv_heads} * d, end = call.sight.keys[row];
  for (int64_t j = first; j < end; j += columns) {
    const int count = static_cast<int>(smaller<int64_t>(end - j, columns));
    memset(sums, 0, sizeof(float) * 2 * static_cast<size_t>(columns));  // and changes, which stand behind them
    for (int head = 0; head < heads;) {
      const int kv_head = head / group, rows = smaller(kFewBlock, (kv_head + 1) * group - head);
      const int64_t own = (query * heads + head) * d, offset = j * stride + int64_t{kv_head} * d;
      const Value *const keys = static_cast<const Value*>(job.keys.data) + offset;
      const Value *const values = static_cast<const Value*>(job.values.data) + offset;
      RunOfKeys<Value> tile = {keys, values, stride, j, nullptr, nullptr, count, 0, nullptr, nullptr};
      pad_rows(as<float>(job.queries) + own, rows, d, padded, factor, rows_of);
      score_rows<Type, kFewBlock, Products>(rows_of, rows, padded, tile, d, scores, columns);
      if (head_weights != nullptr) {
        tile.keys = values;
        pad_rows(as<float>(job.out) + own, rows, d, padded, 1.0f, rows_of);
        score_rows<Type, kFewBlock, SquaredDistances>(rows_of, rows, padded, tile, d, distances, columns);
      }
      for (int r = 0; r < rows; r++) {
        const vf log_sum = set1(call.log_sums[query * heads + head + r]);
        const vf head_weight = set1(head_weights == nullptr ? 0.0f : head_weights[head + r]);
        for (int c = 0; c < count; c += W) {
          const vf weight = exp2_vector(minimum(set1(0.0f), load(scores + r * columns + c) - log_sum));
          store(sums + c, load(sums + c) + weight);
          if (head_weights == nullptr) continue;
          const vf moved = weight / maximum(set1(0.02f), 1.0f - weight);
          store(changes + c, load(changes + c) + head_weight * moved * moved * load(distances + r * columns + c));
        }
      }
      head += rows;
    }
    for (int c = 0; c < count; c++) {
      if (ends != nullptr && ends[j + c] <= position) continue;
      if (key_positions[j + c] < seen_from && key_positions[j + c] >= job.sinks) continue;
      shares[j - first + c] = static_cast<double>(sums[c]) / heads;
      if (head_weights != nullptr) as<double>(job.changes)[share_row * job.num_shares + j - first + c] = changes[c];
    }
  }
}

#define TKF_ATTENTION_TASKS(Type)                                                       \
  template void run_together<Type>(void* argument, int64_t stretch, int thread);        \
  template void run_task<Type>(void* argument, int64_t index, int thread);              \
  template void run_shares<Type>(void* argument, int64_t row, int thread);

}  // namespace tkf::TKF_NAMESPACE::attention
