// How an attention call is cut into tasks, and one task: a tile of queries of one KV head over a stretch of the keys.
#pragma once
#include "few_rows.h"
#include "tile.h"

namespace tkf::TKF_NAMESPACE::attention {

// Rows of a register block where there are many rows, vectors of its other side, keys of a tile.
constexpr int kManyBlock = W == 16 ? 14 : 6;
constexpr int kManyVectors = 2;
constexpr int kFewRows = 8;       // up to so many rows of a KV head, keys are not worth packing
constexpr int kTileRows = 224;    // rows that share a packed tile
constexpr int kLeastStretch = 256;  // keys that are worth a task of their own

TKF_INLINE int round_up(int x, int to) { return (x + to - 1) / to * to; }

// Plan of a call; see plan_attention.
struct Plan {
  int group;           // query heads of a KV head
  int queries;         // of a tile
  int64_t local;       // local queries
  int64_t local_tiles; // of them
  int64_t tiles;       // of a KV head: those of local queries, then those of full ones
  int stretches;       // pieces that a tile's keys are cut into
  bool few;            // few rows: read keys in place
  bool together;       // a task takes all KV heads, tile by tile, so that the cache is read from end to end
  int block;           // rows of a register block
  int rows;            // rows of a tile, rounded up to whole blocks
  int block_stride;    // block, rounded up to W
  int columns;         // keys of a tile
  int padded;          // head_dim, rounded up to W
};

// `keys`: cache rows up to the last query's position.
inline Plan plan_attention(const tkf_attention_filtered_args& job, int64_t keys, int threads) {
  Plan plan;
  plan.local = count_local(job);
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
  const auto tiles_of = [&](int64_t some) { return (some + queries - 1) / queries; };
  const auto tiles = [&] { return tiles_of(plan.local) + tiles_of(job.num_queries - plan.local); };
  while (queries > 1 && queries * plan.group > 4 * plan.block && tiles() * job.kv_heads < wanted) {
    queries = (queries + 1) / 2;
  }
  int step = 1;  // queries that make whole blocks
  while (step * plan.group % plan.block != 0) step++;
  if (queries > step) queries = queries / step * step;
  if (queries > job.num_queries) queries = job.num_queries;
  plan.queries = static_cast<int>(queries);
  plan.local_tiles = tiles_of(plan.local);
  plan.tiles = tiles();
  plan.rows = round_up(plan.queries * plan.group, plan.block);
  const int64_t most = keys / kLeastStretch;
  plan.together = plan.few && plan.tiles == 1 && !has_gaps(job) && (threads == 1 || most > 1);
  const int64_t per_stretch = plan.together ? 1 : plan.tiles * job.kv_heads;
  int64_t stretches = (wanted + per_stretch - 1) / per_stretch;
  if (threads == 1 || stretches > most) stretches = threads == 1 ? 1 : most;
  plan.stretches = stretches < 1 ? 1 : static_cast<int>(stretches);
  return plan;
}

// Scratch of one thread, in floats, each part a multiple of W.
struct Workspace {
  float *queries, *out, *keys, *values, *scores, *maximum, *sum, *factor;
  void* seen;                            // a block's rows' Seen
  int32_t *picked, *positions, *last;   // see PickedKeys: all rows of the cache, and columns of a tile
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
  const size_t seen = larger(sizeof(RunOfKeys<float>::Seen), sizeof(PickedKeys<float>::Seen));
  w->seen = part(static_cast<size_t>(plan.block) * seen / sizeof(float));
  const bool gaps = has_gaps(job);
  w->picked = reinterpret_cast<int32_t*>(part(gaps ? static_cast<size_t>(job.num_keys) : 0));
  w->positions = reinterpret_cast<int32_t*>(part(gaps ? columns : 0));
  w->last = reinterpret_cast<int32_t*>(part(gaps ? columns : 0));
  return used;
}

// The block of rows that begins at row `first`: what its rows see of a tile of keys; returns their union.
template <class Keys>
inline Columns block_columns(const Plan& plan, const Keys& tile, int rows, int first, typename Keys::Seen* seen) {
  Columns all = {tile.count, 0};
  int last = -1;  // query of the row before
  for (int r = 0; r < plan.block; r++) {
    const int query = smaller(first + r, rows - 1) / plan.group;
    seen[r] = query == last ? seen[r - 1] : tile.seen(query);
    last = query;
    const Columns run = seen[r].run;
    if (run.begin < run.end) all = {smaller(all.begin, run.begin), larger(all.end, run.end)};
  }
  return all;
}

// Calls add(run of columns, factor) for each run that a row sees, but at least once: with its factor for what was summed
// before, then with 1.
template <class Seen, class Add>
inline void each_run(const Seen& seen, Columns all, float factor, const Add& add) {
  Columns run = seen.next(all.begin, all.end);
  do {
    add(run, &factor);
    factor = 1.0f;
    run = seen.next(run.end, all.end);
  } while (run.begin < run.end);
}

// Work of one task.
template <class Type>
class Task {
  using Value = typename Type::Value;

 public:
  Task(const tkf_attention_filtered_args& job, const Plan& plan, const Sight& sight, float* memory, int64_t tile,
       int kv_head)
      : job_(job), plan_(plan), sight_(sight), kv_head_(kv_head) {
    workspace_floats(job, plan, &w_, memory);
    const bool local = tile < plan.local_tiles;
    first_query_ = local ? tile * plan.queries : plan.local + (tile - plan.local_tiles) * plan.queries;
    queries_ = static_cast<int>(smaller<int64_t>((local ? plan.local : job.num_queries) - first_query_, plan.queries));
    rows_ = queries_ * plan.group;
  }

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

  // A share of the cache: part `share` of `shares`.
  void attend_cache(int64_t share, int64_t shares) {
    const int64_t first = first_query_, last = first + queries_ - 1;
    const bool gaps = has_gaps(job_);
    const int64_t seen = gaps ? pick() : sight_.keys[last];
    const int64_t begin = seen * share / shares, end = seen * (share + 1) / shares;
    if (!gaps) return attend_keys(begin, end, end);
    PickedKeys<Value> tile = {};
    tile.keys = static_cast<const Value*>(job_.keys.data) + head_offset();
    tile.values = static_cast<const Value*>(job_.values.data) + head_offset();
    tile.stride = row_width();
    tile.positions = w_.positions;
    tile.last = w_.last;
    tile.queries = sight_.position + first;
    tile.reach = sight_.from + first;
    tile.sinks = job_.sinks;
    for (int64_t j = begin; j < end; j += plan_.columns) {
      tile.picked = w_.picked + j;
      tile.count = static_cast<int>(smaller<int64_t>(end - j, plan_.columns));
      tile.next = static_cast<int>(smaller<int64_t>(end - j - tile.count, plan_.columns));
      tile.least_last = INT32_MAX;
      for (int c = 0; c < round_up(tile.count, W); c++) {
        const bool none = c >= tile.count;
        tile.positions[c] = none ? INT32_MAX : as<int32_t>(job_.key_positions)[tile.picked[c]];
        tile.last[c] = none ? INT32_MIN : last_to_see(tile.picked[c]);
        if (!none) tile.least_last = smaller(tile.least_last, tile.last[c]);
      }
      attend(tile);
    }
  }

  // Rows [begin, end) of a cache without gaps; those up to `last` come next.
  void attend_keys(int64_t begin, int64_t end, int64_t last) {
    attend_run(job_.keys.data, job_.values.data, begin, end, last, nullptr, sight_.keys + first_query_);
  }

  void attend_recent() {
    const int64_t end = sight_.recent_end[first_query_ + queries_ - 1];
    attend_run(job_.recent_keys.data, job_.recent_values.data, sight_.recent_begin[first_query_], end, end,
               sight_.recent_begin + first_query_, sight_.recent_end + first_query_);
  }

  // Where the whole row was done in one task: its output, and where asked for log2 of its softmax's sum.
  void finish(float* log_sums) const {
    for (int r = 0; r < rows_; r++) {
      const float total = sum(load(w_.sum + r * W)), factor = total == 0.0f ? 0.0f : 1.0f / total;
      const float* from = w_.out + r * plan_.padded;
      float* to = as<float>(job_.out) + row_offset(r);
      for (int c = 0; c < job_.head_dim; c++) to[c] = from[c] * factor;
      if (log_sums != nullptr) log_sums[row_offset(r) / job_.head_dim] = maximum_of(r) + log2f(total);
    }
  }

  // Where it was not: maximum, sum, and sums of values of each row, at partial [num_queries * heads, 2 + head_dim].
  void leave(float* partial) const {
    for (int r = 0; r < rows_; r++) {
      float* to = partial + row_offset(r) / job_.head_dim * (2 + job_.head_dim);
      to[0] = maximum_of(r);
      to[1] = sum(load(w_.sum + r * W));
      memcpy(to + 2, w_.out + r * plan_.padded, sizeof(float) * static_cast<size_t>(job_.head_dim));
    }
  }

 private:
  // Row r of the tile is that of its query r / group, head r % group of the KV head's group.
  int64_t row_offset(int r) const {
    return (int64_t{sight_.order[first_query_ + r / plan_.group]} * job_.heads + kv_head_ * plan_.group +
            r % plan_.group) * job_.head_dim;
  }
  int64_t row_width() const { return int64_t{job_.kv_heads} * job_.head_dim; }
  int64_t head_offset() const { return int64_t{kv_head_} * job_.head_dim; }
  float maximum_of(int r) const { return w_.maximum[r / plan_.block * plan_.block_stride + r % plan_.block]; }
  Softmax softmax_at(int first) const {
    return {w_.maximum + first / plan_.block * plan_.block_stride, w_.sum + first * W};
  }

  // The last position whose query sees a row of the cache.
  int32_t last_to_see(int64_t row) const {
    return job_.key_ends.data == nullptr ? INT32_MAX : as<int32_t>(job_.key_ends)[row] - 1;
  }

  // Picks the rows of the cache that some query of the tile may see; returns their number.
  int64_t pick() {
    const int32_t* positions = as<int32_t>(job_.key_positions);
    const int64_t seen = sight_.keys[first_query_ + queries_ - 1];
    int32_t from = INT32_MAX;
    for (int q = 0; q < queries_; q++) from = smaller(from, sight_.from[first_query_ + q]);
    const int64_t sinks = count_until(positions, seen, int64_t{job_.sinks} - 1);
    const int64_t near = larger(sinks, count_until(positions, seen, int64_t{from} - 1));
    int64_t picked = 0;
    for (int64_t row = sinks > 0 ? 0 : near; row < seen; row = row + 1 == sinks ? near : row + 1) {
      w_.picked[picked] = static_cast<int32_t>(row);
      picked += job_.key_ends.data == nullptr || as<int32_t>(job_.key_ends)[row] > sight_.position[first_query_];
    }
    return picked;
  }

  // Rows [begin, end) of a store; query q of the tile sees [from[q], to[q]) of them (from: NULL for 0). Those up to
  // `last` come next.
  void attend_run(const void* keys, const void* values, int64_t begin, int64_t end, int64_t last, const int32_t* from,
                  const int32_t* to) {
    const int64_t stride = row_width();
    for (int64_t j = begin; j < end; j += plan_.columns) {
      const Value* k = static_cast<const Value*>(keys) + j * stride + head_offset();
      const Value* v = static_cast<const Value*>(values) + j * stride + head_offset();
      const int count = static_cast<int>(smaller<int64_t>(end - j, plan_.columns));
      const int next = static_cast<int>(smaller<int64_t>(last - j - count, plan_.columns));
      attend(RunOfKeys<Value>{k, v, stride, j, from, to, count, next});
    }
  }

  template <class Keys>
  void attend(const Keys& tile) {
    if (plan_.few) {
      for (int r = 0; r < rows_; r += kFewBlock) few_block<kFewBlock>(tile, r);
    } else {
      many_blocks(tile);
    }
  }

  // A key that a row does not see has weight 0, but 0 times NaN or infinity is NaN: where a tile holds such a value and
  // not every row sees all of it, rows are summed one by one, each over what it sees.
  template <class Keys>
  void many_blocks(const Keys& tile) {
    constexpr int MR = kManyBlock, NR = kManyVectors;
    const int d = job_.head_dim, columns = plan_.columns, padded = plan_.padded;
    typename Keys::Seen* const seen = static_cast<typename Keys::Seen*>(w_.seen);
    bool packed = false, finite = true;
    for (int first = 0; first < rows_; first += MR) {
      const Columns all = block_columns(plan_, tile, rows_, first, seen);
      if (all.begin >= all.end) continue;
      if (!packed) {
        pack_keys<Type>(tile, d, w_.keys, columns);
        pack_values<Type>(tile, d, w_.values, padded);
        packed = true;
        finite = tile.whole() || all_finite(w_.values, tile.count * padded);
      }
      const float* queries = w_.queries + first * d;
      const int left = all.begin / W * W, right = round_up(all.end, W);
      int c = left;
      for (; c + NR * W <= right; c += NR * W) {
        score_block<MR, NR>(queries, w_.keys + c, d, columns, w_.scores + c, columns);
      }
      if (c < right) score_block<MR, 1>(queries, w_.keys + c, d, columns, w_.scores + c, columns);
      softmax_rows(w_.scores, columns, MR, seen, left, right, softmax_at(first), w_.factor);
      if (!finite) {
        for (int r = 0; r < MR && first + r < rows_; r++) {
          each_run(seen[r], all, w_.factor[r], [&](Columns run, const float* factor) {
            for (int i = 0; i < padded; i += W) {
              value_block<1, 1>(w_.scores + r * columns + run.begin, columns, w_.values + run.begin * padded + i,
                                run.end - run.begin, padded, factor, w_.out + (first + r) * padded + i);
            }
          });
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

  template <int RB, class Keys>
  void few_block(const Keys& tile, int first) {
    if constexpr (RB > 1) {
      if (rows_ - first < RB) return few_block<RB - 1>(tile, first);
    }
    typename Keys::Seen* const seen = static_cast<typename Keys::Seen*>(w_.seen);
    const Columns all = block_columns(plan_, tile, rows_, first, seen);
    if (all.begin >= all.end) return;
    const int d = job_.head_dim, padded = plan_.padded, columns = plan_.columns, left = all.begin / W * W;
    score_few<Type, RB>(w_.queries + first * padded, padded, tile, left, all.end, d, w_.scores, columns);
    softmax_rows(w_.scores, columns, RB, seen, left, round_up(all.end, W), softmax_at(first), w_.factor);
    float* out = w_.out + first * padded;
    bool same = true;  // all rows see the same keys, as in a decode step
    for (int r = 0; r < RB; r++) same &= seen[r].all(all.begin, all.end);
    if (same) return value_few<Type, RB>(w_.scores, columns, tile, all.begin, all.end, d, padded, w_.factor, out);
    for (int r = 0; r < RB; r++) {  // one by one: see many_blocks
      each_run(seen[r], all, w_.factor[r], [&](Columns run, const float* factor) {
        value_few<Type, 1>(w_.scores + r * columns, columns, tile, run.begin, run.end, d, padded, factor,
                           out + r * padded);
      });
    }
  }

  const tkf_attention_filtered_args& job_;
  const Plan& plan_;
  const Sight& sight_;
  Workspace w_;
  int kv_head_, queries_, rows_;
  int64_t first_query_;  // of the order in which queries stand
};

}  // namespace tkf::TKF_NAMESPACE::attention
