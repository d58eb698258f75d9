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
    return Task<Type>(job, plan, call.sight, memory + static_cast<size_t>(kv_head) * call.floats, 0, kv_head, nullptr);
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
                  static_cast<int>(index % job.kv_heads), call.noted);
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

// The cache's rows before this one may have shares of the query at a place of the order.
inline int64_t share_end(const Call& call, int64_t row) {
  const tkf_attention_filtered_args& job = *call.job;
  if (job.share_distance == 0) return call.sight.keys[row];
  return count_until(as<int32_t>(job.key_positions), job.num_keys, int64_t{call.sight.position[row]} - job.share_distance);
}

// Calls see(c) for each of the cache's rows [j, j + count), none of them behind share_end, that the query at a place of the
// order sees.
template <class See>
inline void each_seen(const Call& call, int64_t row, int64_t j, int64_t count, const See& see) {
  const tkf_attention_filtered_args& job = *call.job;
  const int32_t position = call.sight.position[row], seen_from = call.sight.from[row];
  const int32_t *const key_positions = as<int32_t>(job.key_positions), *const ends = as<int32_t>(job.key_ends);
  for (int c = 0; c < count; c++) {
    if (ends != nullptr && ends[j + c] <= position) continue;
    if (key_positions[j + c] < seen_from && key_positions[j + c] >= job.sinks) continue;
    see(c);
  }
}

// out [count, W] = what `Of` sums over the columns of each of `count` rows [.., d] of row stride `stride` and of lanes [d, W].
// Computes whole blocks of rows.
template <class Of>
inline void score_lanes(const float* rows, int stride, int count, const float* lanes, int d, float* out) {
  for (int j = 0; j < count; j += kKeyBlock) {
    const float* const at = rows + j * stride;
    vf sum[kKeyBlock] = {};
    for (int c = 0; c < d; c++) {
      const vf lane = load(lanes + c * W);
#pragma GCC unroll 8
      for (int i = 0; i < kKeyBlock; i++) sum[i] = Of::add(sum[i], set1(at[i * stride + c]), lane);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kKeyBlock; i++) store(out + (j + i) * W, sum[i]);
  }
}

// out [rows, padded] = x [rows, d] times a factor, padded with zeros.
inline void pad_rows(const float* x, int rows, int d, int padded, float factor, float* out) {
  for (int r = 0; r < rows; r++) {
    for (int c = 0; c < d; c++) out[r * padded + c] = x[r * d + c] * factor;
    for (int c = d; c < padded; c++) out[r * padded + c] = 0.0f;
  }
}

// What W queries gave to the last keys, as run_shares has it. A lane is a query, so that sums over heads stay in their lanes.
template <class Type>
void run_many_shares(void* argument, int64_t block, int thread) {
  using Value = typename Type::Value;
  const Call& call = *static_cast<const Call*>(argument);
  const tkf_attention_filtered_args& job = *call.job;
  const Plan& plan = call.plan;
  const int d = job.head_dim, padded = plan.padded, columns = plan.columns, group = plan.group, heads = heads_of_keys(job);
  const int64_t first_row = block * W, left = job.num_queries - share_queries(job);
  const int queries = static_cast<int>(smaller<int64_t>(job.num_queries - first_row, W));
  int64_t query[W], ends[W], end = 0;
  bool asked = false;
  for (int r = 0; r < W; r++) {
    const int64_t row = first_row + smaller(r, queries - 1);
    query[r] = call.sight.order[row];
    asked |= query[r] >= left;
    ends[r] = share_end(call, row);
    end = larger(end, ends[r]);
  }
  if (!asked) return;
  const float factor = static_cast<float>(job.scale) * 1.44269504088896341f;  // as in Task::start
  const float* const head_weights = as<float>(job.head_weights);
  float* const lanes = static_cast<float*>(context_scratch(call.context, thread));  // of queries, then of outputs
  float *const keys = lanes + padded * W, *const values = keys + columns * padded;
  float *const computed = values + columns * padded, *const distances = computed + columns * W;
  float *const sums = distances + columns * W, *const changes = sums + columns * W;
  const int64_t stride = int64_t{job.kv_heads} * d, first = job.num_keys - job.num_shares;
  for (int64_t j = first; j < end; j += columns) {
    const int count = static_cast<int>(smaller<int64_t>(end - j, columns));
    memset(sums, 0, sizeof(float) * 2 * static_cast<size_t>(columns) * W);  // and changes, which stand behind them
    for (int head = 0; head < heads; head++) {
      const int place = head_place(job, head);
      const auto pack = [&](const tkf_buffer& rows, float by) {
        pack_queries<W>([&](int r) { return as<float>(rows) + (query[r] * job.heads + place) * d; }, d, by, lanes);
      };
      if (head % group == 0) {
        const int64_t offset = j * stride + int64_t{head / group} * d;
        const auto rows_of = [&](const tkf_buffer& cache) {
          return [at = static_cast<const Value*>(cache.data) + offset, stride](int i) { return at + i * stride; };
        };
        if (call.noted == nullptr) pack_rows<Type>(rows_of(job.keys), count, d, keys, padded);
        if (head_weights != nullptr) pack_rows<Type>(rows_of(job.values), count, d, values, padded);
      }
      const float* scores = computed;
      if (call.noted != nullptr) {
        scores = call.noted + ((head * (job.num_queries / W) + block) * job.num_shares + j - first) * W;
      } else {
        pack(job.queries, factor);
        score_lanes<Products>(keys, padded, count, lanes, d, computed);
      }
      if (head_weights != nullptr) {
        pack(job.out, 1.0f);
        score_lanes<SquaredDistances>(values, padded, count, lanes, d, distances);
      }
      float log_sums[W];
      for (int r = 0; r < W; r++) log_sums[r] = call.log_sums[query[r] * job.heads + place];
      const vf log_sum = load(log_sums), head_weight = set1(head_weights == nullptr ? 0.0f : head_weights[place]);
      for (int c = 0; c < count * W; c += W) {
        const vf weight = exp2_vector(minimum(set1(0.0f), load(scores + c) - log_sum));
        store(sums + c, load(sums + c) + weight);
        if (head_weights == nullptr) continue;
        const vf moved = weight / maximum(set1(kLeastOthers), 1.0f - weight);
        store(changes + c, load(changes + c) + head_weight * moved * moved * load(distances + c));
      }
    }
    for (int r = 0; r < queries; r++) {
      if (query[r] < left) continue;
      const int64_t at = (query[r] - left) * job.num_shares + j - first;
      each_seen(call, first_row + r, j, smaller<int64_t>(count, ends[r] - j), [&](int c) {
        as<double>(job.shares)[at + c] = static_cast<double>(sums[c * W + r]) / heads;
        if (head_weights != nullptr) as<double>(job.changes)[at + c] = changes[c * W + r];
      });
    }
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
  const int d = job.head_dim, padded = plan.padded, columns = plan.columns, heads = heads_of_keys(job), group = plan.group;
  const float factor = static_cast<float>(job.scale) * 1.44269504088896341f;  // as in Task::start
  double* const shares = as<double>(job.shares) + share_row * job.num_shares;
  float* const rows_of = static_cast<float*>(context_scratch(call.context, thread));  // queries, then outputs
  float *const scores = rows_of + kFewBlock * padded, *const distances = scores + kFewBlock * columns;
  float *const sums = distances + kFewBlock * columns, *const changes = sums + columns;
  const float* const head_weights = as<float>(job.head_weights);
  const int64_t stride = int64_t{job.kv_heads} * d, end = share_end(call, row);
  for (int64_t j = first; j < end; j += columns) {
    const int count = static_cast<int>(smaller<int64_t>(end - j, columns));
    memset(sums, 0, sizeof(float) * 2 * static_cast<size_t>(columns));  // and changes, which stand behind them
    for (int head = 0; head < heads;) {
      const int kv_head = head / group, rows = smaller(kFewBlock, (kv_head + 1) * group - head);
      const int place = head_place(job, head);
      const int64_t own = (query * job.heads + place) * d, offset = j * stride + int64_t{kv_head} * d;
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
        const vf log_sum = set1(call.log_sums[query * job.heads + place + r]);
        const vf head_weight = set1(head_weights == nullptr ? 0.0f : head_weights[place + r]);
        for (int c = 0; c < count; c += W) {
          const vf weight = exp2_vector(minimum(set1(0.0f), load(scores + r * columns + c) - log_sum));
          store(sums + c, load(sums + c) + weight);
          if (head_weights == nullptr) continue;
          const vf moved = weight / maximum(set1(kLeastOthers), 1.0f - weight);
          store(changes + c, load(changes + c) + head_weight * moved * moved * load(distances + r * columns + c));
        }
      }
      head += rows;
    }
    each_seen(call, row, j, count, [&](int c) {
      shares[j - first + c] = static_cast<double>(sums[c]) / heads;
      if (head_weights != nullptr) as<double>(job.changes)[share_row * job.num_shares + j - first + c] = changes[c];
    });
  }
}

#define TKF_ATTENTION_TASKS(Type)                                                       \
  template void run_together<Type>(void* argument, int64_t stretch, int thread);        \
  template void run_task<Type>(void* argument, int64_t index, int thread);              \
  template void run_shares<Type>(void* argument, int64_t row, int thread);               \
  template void run_many_shares<Type>(void* argument, int64_t block, int thread);

}  // namespace tkf::TKF_NAMESPACE::attention
