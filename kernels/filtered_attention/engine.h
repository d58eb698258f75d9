// How an attention call is cut into tasks, and one task: a tile of queries of one KV head over a stretch of the keys.
#pragma once
#include "few_rows.h"
#include "tile.h"

namespace tkf {
namespace TKF_NAMESPACE {
namespace attention {

// Rows of a register block where there are many rows, vectors of its other side, keys of a tile.
constexpr int kManyBlock = W == 16 ? 14 : 6;
constexpr int kManyVectors = 2;
constexpr int kFewRows = 8;       // up to so many rows of a KV head, keys are not worth packing
constexpr int kTileRows = 224;    // rows that share a packed tile
constexpr int kLeastStretch = 256;  // keys that are worth a task of their own

TKF_INLINE int round_up(int x, int to) { return (x + to - 1) / to * to; }

// Number of ascending positions that are at most `limit`.
inline int64_t count_until(const int32_t* positions, int64_t count, int64_t limit) {
  int64_t low = 0;
  while (count > 0) {
    const int64_t half = count / 2;
    if (positions[low + half] <= limit) {
      low += half + 1;
      count -= half + 1;
    } else {
      count = half;
    }
  }
  return low;
}

// What each query sees: cache rows [0, keys) and recent rows [recent_begin, recent_end).
struct Sight {
  const int32_t *keys, *recent_begin, *recent_end;  // [num_queries] each
};

inline Sight find_sight(const tkf_attention_filtered_args& job, int32_t* memory) {
  int32_t *keys = memory, *begin = keys + job.num_queries, *end = begin + job.num_queries;
  for (int64_t i = 0; i < job.num_queries; i++) {
    const int64_t position = as<int32_t>(job.query_positions)[i];
    keys[i] = static_cast<int32_t>(count_until(as<int32_t>(job.key_positions), job.num_keys, position));
    begin[i] = static_cast<int32_t>(
        count_until(as<int32_t>(job.recent_positions), job.num_recent, position - job.recent_window - 1));
    end[i] = static_cast<int32_t>(count_until(as<int32_t>(job.recent_positions), job.num_recent, position));
  }
  return {keys, begin, end};
}

// Plan of a call; see plan_attention.
struct Plan {
  int group;           // query heads of a KV head
  int queries;         // of a tile
  int64_t tiles;       // of a KV head
  int stretches;       // pieces that a tile's keys are cut into
  bool few;            // few rows: read keys in place
  int block;           // rows of a register block
  int rows;            // rows of a tile, rounded up to whole blocks
  int block_stride;    // block, rounded up to W
  int columns;         // keys of a tile
  int padded;          // head_dim, rounded up to W
};

// `keys`: cache rows that the last query sees.
inline Plan plan_attention(const tkf_attention_filtered_args& job, int64_t keys, int threads) {
  Plan plan;
  plan.group = job.heads / job.kv_heads;
  plan.padded = round_up(job.head_dim, W);
  const int64_t all_rows = job.num_queries * plan.group;
  plan.few = all_rows <= kFewRows;
  plan.block = plan.few ? kFewBlock : kManyBlock;
  plan.block_stride = round_up(plan.block, W);
  plan.columns = job.head_dim <= 128 ? 128 : 64;
  // Whole blocks where the group allows; fewer rows where there would be too few tasks to balance.
  const int64_t wanted = int64_t{4} * threads;
  int64_t queries = kTileRows / plan.group < 1 ? 1 : kTileRows / plan.group;
  const auto tiles = [&] { return (job.num_queries + queries - 1) / queries; };
  while (queries > 1 && queries * plan.group > 4 * plan.block && tiles() * job.kv_heads < wanted) {
    queries = (queries + 1) / 2;
  }
  int step = 1;  // queries that make whole blocks
  while (step * plan.group % plan.block != 0) step++;
  if (queries > step) queries = queries / step * step;
  if (queries > job.num_queries) queries = job.num_queries;
  plan.queries = static_cast<int>(queries);
  plan.tiles = tiles();
  plan.rows = round_up(plan.queries * plan.group, plan.block);
  const int64_t most = keys / kLeastStretch;
  int64_t stretches = (wanted + plan.tiles * job.kv_heads - 1) / (plan.tiles * job.kv_heads);
  if (threads == 1 || stretches > most) stretches = threads == 1 ? 1 : most;
  plan.stretches = stretches < 1 ? 1 : static_cast<int>(stretches);
  return plan;
}

// Scratch of one thread, in floats, each part a multiple of W.
struct Workspace {
  float *queries, *out, *keys, *values, *scores, *maximum, *sum, *factor;
  Span* seen;
};

inline size_t workspace_floats(const tkf_attention_filtered_args& job, const Plan& plan, Workspace* w, float* memory) {
  size_t used = 0;
  auto part = [&](size_t floats) {
    float* at = memory == nullptr ? nullptr : memory + used;
    used += (floats + 31) / 32 * 32;
    return at;
  };
  const size_t rows = static_cast<size_t>(plan.rows), padded = static_cast<size_t>(plan.padded);
  const size_t columns = static_cast<size_t>(plan.columns);
  w->queries = part(rows * padded);
  w->out = part(rows * padded);
  w->keys = part(plan.few ? 0 : static_cast<size_t>(job.head_dim) * columns);
  w->values = part(plan.few ? 0 : columns * padded);
  w->scores = part(static_cast<size_t>(plan.block) * columns);
  w->maximum = part(rows / static_cast<size_t>(plan.block) * static_cast<size_t>(plan.block_stride));
  w->sum = part(rows * W);
  w->factor = part(static_cast<size_t>(plan.block_stride));
  w->seen = reinterpret_cast<Span*>(part(static_cast<size_t>(plan.block) * 2));
  return used;
}

// The block of rows that begins at row `first`: its rows' spans in the tile of `count` keys that begins at `begin`;
// returns their union.
inline Span block_spans(const Plan& plan, const int32_t* from, const int32_t* to, int rows, int first, int64_t begin,
                        int count, Span* seen) {
  Span all = {count, 0};
  for (int r = 0; r < plan.block; r++) {
    seen[r] = {0, 0};
    if (first + r >= rows) continue;
    const int query = (first + r) / plan.group;
    const int64_t low = from == nullptr ? 0 : from[query] - begin, high = to[query] - begin;
    seen[r].begin = static_cast<int>(low < 0 ? 0 : low > count ? count : low);
    seen[r].end = static_cast<int>(high < 0 ? 0 : high > count ? count : high);
    if (seen[r].begin >= seen[r].end) {
      seen[r] = {0, 0};
      continue;
    }
    if (seen[r].begin < all.begin) all.begin = seen[r].begin;
    if (seen[r].end > all.end) all.end = seen[r].end;
  }
  return all;
}

// Work of one task.
template <class Type>
class Task {
  using Value = typename Type::Value;

 public:
  Task(const tkf_attention_filtered_args& job, const Plan& plan, float* memory, int64_t tile, int kv_head)
      : job_(job), plan_(plan), kv_head_(kv_head), first_query_(tile * plan.queries) {
    workspace_floats(job, plan, &w_, memory);
    const int64_t left = job.num_queries - first_query_;
    rows_ = static_cast<int>(left < plan.queries ? left : plan.queries) * plan.group;
  }

  int rows() const { return rows_; }
  int64_t last_query() const { return first_query_ + rows_ / plan_.group - 1; }

  void start() {
    const float factor = static_cast<float>(job_.scale) * 1.44269504088896341f;  // log2(e)
    const int d = job_.head_dim;
    memset(w_.out, 0, sizeof(float) * static_cast<size_t>(plan_.rows * plan_.padded));
    memset(w_.sum, 0, sizeof(float) * static_cast<size_t>(plan_.rows * W));
    for (int i = 0; i < plan_.rows / plan_.block * plan_.block_stride; i++) w_.maximum[i] = -INFINITY;
    for (int r = 0; r < plan_.rows; r++) {
      // Few rows: [rows, padded]; many: [rows / block, d, block].
      const int block = r / plan_.block;
      float* to = plan_.few ? w_.queries + r * plan_.padded : w_.queries + block * d * plan_.block + r % plan_.block;
      const int step = plan_.few ? 1 : plan_.block;
      const float* from = r < rows_ ? as<float>(job_.queries) + row_offset(r) : nullptr;
      for (int c = 0; c < d; c++) to[c * step] = from == nullptr ? 0.0f : from[c] * factor;
      if (plan_.few) {
        for (int c = d; c < plan_.padded; c++) to[c] = 0.0f;
      }
    }
  }

  // Rows [begin, end) of a store of keys and values; query q sees [from[q], to[q]) of them (from: NULL for 0).
  void attend(const void* keys, const void* values, int64_t begin, int64_t end, const int32_t* from,
              const int32_t* to) {
    from = from == nullptr ? nullptr : from + first_query_;
    to += first_query_;
    const int64_t stride = int64_t{job_.kv_heads} * job_.head_dim, head = int64_t{kv_head_} * job_.head_dim;
    for (int64_t j = begin; j < end; j += plan_.columns) {
      const int count = static_cast<int>(end - j < plan_.columns ? end - j : plan_.columns);
      const Value* k = static_cast<const Value*>(keys) + j * stride + head;
      const Value* v = static_cast<const Value*>(values) + j * stride + head;
      if (plan_.few) {
        for (int r = 0; r < rows_; r += kFewBlock) few_block<kFewBlock>(k, v, stride, count, from, to, j, r);
      } else {
        many_blocks(k, v, stride, count, from, to, j);
      }
    }
  }

  // Where the whole row was done in one task: its output.
  void finish() const {
    for (int r = 0; r < rows_; r++) {
      const float total = sum(load(w_.sum + r * W)), factor = total == 0.0f ? 0.0f : 1.0f / total;
      const float* from = w_.out + r * plan_.padded;
      float* to = as<float>(job_.out) + row_offset(r);
      for (int c = 0; c < job_.head_dim; c++) to[c] = from[c] * factor;
    }
  }

  // Where it was not: maximum, sum, and sums of values of each row, at partial [num_queries * heads, 2 + head_dim].
  void leave(float* partial) const {
    for (int r = 0; r < rows_; r++) {
      float* to = partial + row_offset(r) / job_.head_dim * (2 + job_.head_dim);
      to[0] = w_.maximum[r / plan_.block * plan_.block_stride + r % plan_.block];
      to[1] = sum(load(w_.sum + r * W));
      memcpy(to + 2, w_.out + r * plan_.padded, sizeof(float) * static_cast<size_t>(job_.head_dim));
    }
  }

 private:
  // Row r of the tile is query first_query_ + r / group, head r % group of the KV head's group.
  int64_t row_offset(int r) const {
    return ((first_query_ + r / plan_.group) * job_.heads + kv_head_ * plan_.group + r % plan_.group) *
           job_.head_dim;
  }
  Softmax softmax_at(int first) const {
    return {w_.maximum + first / plan_.block * plan_.block_stride, w_.sum + first * W};
  }

  // A key that a row does not see has weight 0, but 0 times NaN or infinity is NaN: where a tile holds such a value and
  // not every row sees all of it, rows are summed one by one, each over what it sees.
  void many_blocks(const Value* keys, const Value* values, int64_t stride, int count, const int32_t* from,
                   const int32_t* to, int64_t begin) {
    constexpr int MR = kManyBlock, NR = kManyVectors;
    const int d = job_.head_dim, columns = plan_.columns, padded = plan_.padded;
    bool packed = false, finite = true;
    for (int first = 0; first < rows_; first += MR) {
      const Span all = block_spans(plan_, from, to, rows_, first, begin, count, w_.seen);
      if (all.begin >= all.end) continue;
      if (!packed) {
        pack_keys<Type>(keys, stride, count, d, w_.keys, columns);
        pack_values<Type>(values, stride, count, d, w_.values, padded);
        packed = true;
        const bool all_seen = from == nullptr && to[0] - begin >= count;
        finite = all_seen || all_finite(w_.values, count * padded);
      }
      const float* queries = w_.queries + first * d;
      const int left = all.begin / W * W, right = round_up(all.end, W);
      int c = left;
      for (; c + NR * W <= right; c += NR * W) {
        score_block<MR, NR>(queries, w_.keys + c, d, columns, w_.scores + c, columns);
      }
      if (c < right) score_block<MR, 1>(queries, w_.keys + c, d, columns, w_.scores + c, columns);
      softmax_rows(w_.scores, columns, MR, w_.seen, left, right, softmax_at(first), w_.factor);
      if (!finite) {
        for (int r = 0; r < MR && first + r < rows_; r++) {
          const Span span = w_.seen[r];
          for (int i = 0; i < padded; i += W) {
            value_block<1, 1>(w_.scores + r * columns + span.begin, columns, w_.values + span.begin * padded + i,
                              span.end - span.begin, padded, w_.factor + r, w_.out + (first + r) * padded + i);
          }
        }
        continue;
      }
      const float* weights = w_.scores + all.begin;
      const float* v = w_.values + all.begin * padded;
      float* out = w_.out + first * padded;
      const int n = all.end - all.begin;
      int i = 0;
      for (; i + NR * W <= padded; i += NR * W) {
        value_block<MR, NR>(weights, columns, v + i, n, padded, w_.factor, out + i);
      }
      if (i < padded) value_block<MR, 1>(weights, columns, v + i, n, padded, w_.factor, out + i);
    }
  }

  template <int RB>
  void few_block(const Value* keys, const Value* values, int64_t stride, int count, const int32_t* from,
                 const int32_t* to, int64_t begin, int first) {
    if constexpr (RB > 1) {
      if (rows_ - first < RB) return few_block<RB - 1>(keys, values, stride, count, from, to, begin, first);
    }
    const Span all = block_spans(plan_, from, to, rows_, first, begin, count, w_.seen);
    if (all.begin >= all.end) return;
    const int d = job_.head_dim, left = all.begin / W * W;
    score_few<Type, RB>(w_.queries + first * plan_.padded, plan_.padded, keys + left * stride, stride,
                        all.end - left, d, w_.scores + left, plan_.columns);
    softmax_rows(w_.scores, plan_.columns, RB, w_.seen, left, round_up(all.end, W), softmax_at(first), w_.factor);
    bool same = true;  // all rows see the same keys, as in a decode step
    for (int r = 0; r < RB; r++) same &= w_.seen[r].begin == all.begin && w_.seen[r].end == all.end;
    if (!same) {  // one by one: see many_blocks
      for (int r = 0; r < RB; r++) {
        const Span span = w_.seen[r];
        value_few<Type, 1>(w_.scores + r * plan_.columns + span.begin, plan_.columns, values + span.begin * stride,
                           stride, span.end - span.begin, d, plan_.padded, w_.factor + r,
                           w_.out + (first + r) * plan_.padded);
      }
      return;
    }
    value_few<Type, RB>(w_.scores + all.begin, plan_.columns, values + all.begin * stride, stride,
                        all.end - all.begin, d, plan_.padded, w_.factor, w_.out + first * plan_.padded);
  }

  const tkf_attention_filtered_args& job_;
  const Plan& plan_;
  Workspace w_;
  int kv_head_;
  int64_t first_query_;
  int rows_;
};

}  // namespace attention
}  // namespace TKF_NAMESPACE
}  // namespace tkf
