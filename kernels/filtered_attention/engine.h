// One task of an attention call: a tile of queries of one KV head over a stretch of the keys.
#pragma once
#include <type_traits>

#include "plan.h"

namespace tkf::TKF_NAMESPACE::attention {

// The block of rows that begins at row `first`: what its rows see of a tile of keys; returns their union.
template <class Keys>
inline Columns block_columns(const Plan& plan, const Keys& tile, int rows, int first, typename Keys::Seen* seen) {
  Columns all = {tile.count, 0};
  if (plan.by_head) {
    for (int r = 0; r < plan.block; r++) {
      seen[r] = tile.seen((first + r) % plan.queries);
      const Columns run = seen[r].run;
      if (run.begin < run.end) all = {smaller(all.begin, run.begin), larger(all.end, run.end)};
    }
    return all;
  }
  int query = first / plan.group, end = (query + 1) * plan.group;  // of its rows
  for (int r = 0; r < plan.block; r++) {
    const bool next = smaller(first + r, rows - 1) == end;
    query += next;
    end += next ? plan.group : 0;
    seen[r] = r == 0 || next ? tile.seen(query) : seen[r - 1];
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
  // `noted`: see Call.
  Task(const tkf_attention_filtered_args& job, const Plan& plan, const Sight& sight, float* memory, int64_t tile,
       int kv_head, float* noted)
      : job_(job), plan_(plan), sight_(sight), noted_(noted), kv_head_(kv_head),
        first_head_(head_place(job, kv_head * plan.group)) {
    workspace_floats(job, plan, &w_, memory);
    const bool local = tile < plan.local_tiles;
    first_query_ = local ? tile * plan.queries : plan.local + (tile - plan.local_tiles) * plan.queries;
    queries_ = static_cast<int>(smaller<int64_t>((local ? plan.local : job.num_queries) - first_query_, plan.queries));
    gaps_ = local || job.key_ends.data != nullptr;
    rows_ = queries_ * plan.group;
  }

  void start() {
    const float factor = static_cast<float>(job_.scale) * 1.44269504088896341f;  // log2(e)
    const int d = job_.head_dim;
    memset(w_.out, 0, sizeof(float) * static_cast<size_t>(plan_.rows * plan_.padded));
    memset(w_.sum, 0, sizeof(float) * static_cast<size_t>(plan_.rows * W));
    for (int i = 0; i < plan_.rows / plan_.block * plan_.block_stride; i++) w_.maximum[i] = -INFINITY;
    const auto row_at = [&](int r) { return r < rows_ ? as<float>(job_.queries) + row_offset(r) : nullptr; };
    for (int r = 0; plan_.few && r < plan_.rows; r++) {
      float* const to = w_.queries + r * plan_.padded;
      const float* const from = row_at(r);
      for (int c = 0; c < plan_.padded; c++) to[c] = from == nullptr || c >= d ? 0.0f : from[c] * factor;
    }
    for (int first = 0; !plan_.few && first < plan_.rows; first += plan_.block) {
      const auto row = [&](int r) { return row_at(first + r); };
      float* const to = w_.queries + first * d;
      plan_.block == kLaneBlock ? pack_queries<W>(row, d, factor, to) : pack_queries<kManyBlock>(row, d, factor, to);
    }
  }

  // A share of the cache: part `share` of `shares`.
  void attend_cache(int64_t share, int64_t shares) {
    const int64_t first = first_query_, last = first + queries_ - 1;
    const int64_t seen = gaps_ ? pick() : sight_.keys[last];
    const int64_t begin = seen * share / shares, end = seen * (share + 1) / shares;
    if (!gaps_) return attend_keys(begin, end, end);
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
  // Row r of the tile is that of its query r / group, head r % group of the KV head's group; or else rows stand by head.
  int64_t row_offset(int r) const {
    const int query = plan_.by_head ? r % queries_ : r / plan_.group;
    const int head = plan_.by_head ? r / queries_ : r % plan_.group;
    return (int64_t{sight_.order[first_query_ + query]} * job_.heads + first_head_ + head) * job_.head_dim;
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
      RunOfKeys<Value> tile = {k, v, stride, j, from, to, count, next, nullptr, nullptr};
      if (plan_.in_order && next > 0) {
        const int64_t at = (j + count) * stride + int64_t{kv_head_} * next * job_.head_dim;
        tile.next_keys = static_cast<const Value*>(keys) + at;
        tile.next_values = static_cast<const Value*>(values) + at;
      }
      attend(tile);
    }
  }

  template <class Keys>
  void attend(const Keys& tile) {
    if (plan_.few) {
      for (int r = 0; r < rows_; r += kFewBlock) few_block<kFewBlock>(tile, r);
      return;
    }
    if constexpr (kLaneBlock > 0) {
      if (plan_.block == kLaneBlock) {
        if constexpr (std::is_same<Keys, RunOfKeys<Value>>::value) {
          if (unpacked(tile)) return unpacked_blocks(tile);
        }
        return many_blocks<kLaneBlock>(tile);
      }
    }
    many_blocks<kManyBlock>(tile);
  }

  // Blocks of B rows. A key that a row does not see has weight 0, but 0 times NaN or infinity is NaN: where a tile holds
  // such a value and not every row sees all of it, rows are summed one by one, each over what it sees.
  template <int B, class Keys>
  void many_blocks(const Keys& tile) {
    constexpr int MR = kSums<B>, NR = kManyVectors;
    const int d = job_.head_dim, columns = plan_.columns, padded = plan_.padded;
    typename Keys::Seen* const seen = static_cast<typename Keys::Seen*>(w_.seen);
    bool packed = false, finite = true;
    const bool whole = tile.whole();  // then each block sees what the first one does
    Columns all = {};
    for (int first = 0; first < rows_; first += B) {
      ask_ahead(tile, first, first + B);
      if (!whole || first == 0) all = block_columns(plan_, tile, rows_, first, seen);
      if (all.begin >= all.end) continue;
      if (!packed) {
        pack_keys<Type>(tile, d, w_.keys, columns);
        pack_rows<Type>([&](int j) { return tile.value(j); }, tile.count, d, w_.values, padded);
        packed = true;
        finite = whole || all_finite(w_.values, tile.count * padded);
      }
      const float* queries = w_.queries + first * d;
      const int left = all.begin / W * W, right = round_up(all.end, W);
      for (int r = 0; r < B && first + r < rows_; r += MR) {
        const float *const own = queries + r, *const keys = w_.keys;
        float* const scores = w_.scores + r * columns;
        int c = left;
        for (; c + NR * W <= right; c += NR * W) score_block<MR, NR>(own, B, keys + c, d, columns, scores + c, columns);
        if (c < right) score_block<MR, 1>(own, B, keys + c, d, columns, scores + c, columns);
      }
      if constexpr (B == W && std::is_same<Keys, RunOfKeys<Value>>::value) {
        note(tile, first, [&](int begin, float* to) {
          for (int c = begin / W * W; c < all.end; c += W) {
            vf scores[W];
            for (int r = 0; r < W; r++) scores[r] = load(w_.scores + r * columns + c);
            transpose(scores);
            for (int i = larger(begin - c, 0); i < smaller(all.end - c, W); i++) store(to + (c + i) * W, scores[i]);
          }
        });
      }
      softmax_rows(w_.scores, columns, B, seen, left, right, softmax_at(first), w_.factor);
      if (!finite) {
        for (int r = 0; r < B && first + r < rows_; r++) {
          each_run(seen[r], all, w_.factor[r], [&](Columns run, const float* factor) {
            for (int i = 0; i < padded; i += W) {
              const float* const values = w_.values + run.begin * padded + i;
              value_block<1, 1>(w_.scores + r * columns + run.begin, columns, 1, values, padded, run.end - run.begin,
                                padded, factor, w_.out + (first + r) * padded + i);
            }
          });
        }
        continue;
      }
      const float *const weights = w_.scores + all.begin, *const values = w_.values + all.begin * padded;
      add_values<B>(weights, columns, 1, values, padded, all.end - all.begin, first);
    }
  }

  // Rows of a block of B whose sums registers hold.
  template <int B>
  static constexpr int kSums = B == kManyBlock ? B : B / 2;

  // Adds to the block of rows that begins at `first`; see value_block.
  template <int B>
  void add_values(const float* weights, int row, int step, const float* values, int stride, int count, int first,
                  const Soon& soon = {}) {
    constexpr int MR = kSums<B>, NR = kManyVectors;
    const int padded = plan_.padded;
    for (int r = 0; r < B && first + r < rows_; r += MR) {
      const float *const own = weights + r * row, *const factor = w_.factor + r;
      float* const out = w_.out + (first + r) * padded;
      int i = 0;
      for (; i + NR * W <= padded; i += NR * W) {
        const Soon& next = r == 0 && i == 0 ? soon : Soon();
        value_block<MR, NR>(own, row, step, values + i, stride, count, padded, factor, out + i, next);
      }
      if (i < padded) value_block<MR, 1>(own, row, step, values + i, stride, count, padded, factor, out + i);
    }
  }

  // Asks for the next tile's keys and values: the share of them that rows [first, end) of this one's have.
  template <class Keys>
  void ask_ahead(const Keys& tile, int first, int end) const {
    for (int j = tile.next * first / rows_; j < tile.next * smaller(end, rows_) / rows_; j++) {
      prefetch_row(tile.key(tile.count + j), job_.head_dim);
      prefetch_row(tile.value(tile.count + j), job_.head_dim);
    }
  }

  // Whether each row sees all of a tile of whole vectors, so that it need not be packed for few blocks.
  template <class Keys>
  bool unpacked(const Keys& tile) const {
    return plan_.padded == job_.head_dim && tile.count >= kKeyBlock && tile.whole();
  }

  // Rows of the cache to ask for.
  Soon soon(const Value* row, int count) const {
    constexpr int kBytes = sizeof(Value);
    return {reinterpret_cast<const char*>(row), row_width() * kBytes, job_.head_dim * kBytes, count};
  }

  // many_blocks, for `unpacked` tiles; the same bits.
  void unpacked_blocks(const RunOfKeys<Value>& tile) {
    const int d = job_.head_dim;
    const float *keys = w_.keys, *values = w_.values;
    int stride = d;
    if constexpr (sizeof(Value) == sizeof(float)) {
      keys = tile.key(0);
      values = tile.value(0);
      stride = static_cast<int>(row_width());
    } else {
      pack_rows<Type>([&](int j) { return tile.key(j); }, tile.count, d, w_.keys, d);
      pack_rows<Type>([&](int j) { return tile.value(j); }, tile.count, d, w_.values, d);
    }
    for (int first = 0; first < rows_; first += kTogether * W) {
      const int blocks = smaller((rows_ - first + W - 1) / W, kTogether);
      if (blocks == 3) score_tile<3>(tile, keys, stride, first);
      else if (blocks == 2) score_tile<2>(tile, keys, stride, first);
      else score_tile<1>(tile, keys, stride, first);
      for (int block = 0; block < blocks; block++) {
        const int row = first + block * W;
        float* const scores = w_.scores + block * plan_.columns * W;
        note(tile, row, [&](int begin, float* to) {
          memcpy(to + begin * W, scores + begin * W, sizeof(float) * static_cast<size_t>((tile.count - begin) * W));
        });
        softmax_keys<W>(scores, tile.count, softmax_at(row), w_.factor);
        const int begin = tile.next * row / rows_, end = tile.next * smaller(row + W, rows_) / rows_;
        add_values<W>(scores, 1, W, values, stride, tile.count, row, soon(tile.key(tile.count + begin), end - begin));
      }
    }
  }

  // Where scores are noted: calls copy(begin, to) for the block of rows that begins at row `first`, whose scores of the tile's
  // columns c from `begin` on belong at to + c * W.
  template <class Copy>
  void note(const RunOfKeys<Value>& tile, int first, const Copy& copy) const {
    const int64_t begin = job_.num_keys - job_.num_shares - tile.begin;
    if (noted_ == nullptr || begin >= tile.count || tile.from != nullptr) return;
    const int64_t block = (int64_t{kv_head_} * plan_.group + first / queries_) * (job_.num_queries / W) +
                          (first_query_ + first % queries_) / W;
    copy(static_cast<int>(larger<int64_t>(begin, 0)), noted_ + (block * job_.num_shares - begin) * W);
  }

  // Scores of N blocks of rows, from row `first` on. Asks for the tile's values.
  template <int N>
  void score_tile(const RunOfKeys<Value>& tile, const float* keys, int stride, int first) {
    const int d = job_.head_dim;
    for (int j = 0; j < tile.count; j += kKeyBlock) {
      const int c = smaller(j, tile.count - kKeyBlock);  // the last ones overlap those before
      const Soon next = first == 0 ? soon(tile.value(c), kKeyBlock) : Soon();
      score_keys<kKeyBlock, N>(keys + c * stride, stride, w_.queries + first * d, W, d, plan_.columns, w_.scores + c * W,
                               next);
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
  float* const noted_;
  int kv_head_, first_head_, queries_, rows_;  // first_head_: of queries and out
  int64_t first_query_;  // of the order in which queries stand
  bool gaps_;            // whether what they see of the cache may have gaps
};

}  // namespace tkf::TKF_NAMESPACE::attention
