// Which keys a tile's queries see.
#pragma once
#include "vector.h"

namespace tkf::TKF_NAMESPACE::attention {

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

// What the call's queries see: cache rows [0, keys), of these the sinks' and those at positions of `from` and above, and
// recent rows [recent_begin, recent_end). Queries stand in the order in which tiles take them: local ones, then full
// ones, so that no tile of local queries goes over the keys of full ones.
struct Sight {
  int32_t *order, *position, *from, *keys, *recent_begin, *recent_end;  // [num_queries] each
  static constexpr int64_t kNumbers = 6;
};

inline bool is_local(const tkf_attention_filtered_args& job, int64_t query) {
  return job.windows.data != nullptr && as<int32_t>(job.windows)[query] >= 0;
}

inline int64_t count_local(const tkf_attention_filtered_args& job) {
  int64_t count = 0;
  for (int64_t i = 0; job.windows.data != nullptr && i < job.num_queries; i++) count += is_local(job, i);
  return count;
}

// Whether what some query sees of the cache may have gaps.
inline bool has_gaps(const tkf_attention_filtered_args& job) {
  return job.key_ends.data != nullptr || job.windows.data != nullptr;
}

inline Sight find_sight(const tkf_attention_filtered_args& job, int64_t num_local, int32_t* memory) {
  const int64_t n = job.num_queries;
  const Sight sight = {memory, memory + n, memory + 2 * n, memory + 3 * n, memory + 4 * n, memory + 5 * n};
  int64_t local = 0, full = num_local;
  for (int64_t i = 0; i < n; i++) {
    const int64_t position = as<int32_t>(job.query_positions)[i];
    const int64_t from = is_local(job, i) ? position - as<int32_t>(job.windows)[i] : INT32_MIN;
    const int64_t at = is_local(job, i) ? local++ : full++;
    sight.order[at] = static_cast<int32_t>(i);
    sight.position[at] = static_cast<int32_t>(position);
    sight.from[at] = static_cast<int32_t>(larger<int64_t>(from, INT32_MIN));
    sight.keys[at] = static_cast<int32_t>(count_until(as<int32_t>(job.key_positions), job.num_keys, position));
    sight.recent_begin[at] = static_cast<int32_t>(
        count_until(as<int32_t>(job.recent_positions), job.num_recent, position - job.recent_window - 1));
    sight.recent_end[at] = static_cast<int32_t>(count_until(as<int32_t>(job.recent_positions), job.num_recent, position));
  }
  return sight;
}

// Columns of a tile of keys.
struct Columns {
  int begin, end;
};

// A tile of keys that are neighbours in their store, of which a row sees a run of columns.
template <class Value>
struct RunOfKeys {
  struct Seen {
    Columns run;
    bool all(int begin, int end) const { return run.begin <= begin && run.end >= end; }
    vi lanes(int c) const {
      const vi column = lane_numbers() + c;
      return (column >= run.begin) & (column < run.end);
    }
    Columns next(int at, int end) const { return at < run.end ? run : Columns{end, end}; }
  };

  const Value *keys, *values;
  int64_t stride, begin;     // number of its first key
  const int32_t *from, *to;  // query q of the tile sees [from[q], to[q]) of the store (from: NULL for 0)
  int count, next;           // keys of this tile, and of the next one
  const Value *next_keys, *next_values;  // a head's share of the next tile's, in the order of addresses; or NULL

  const Value* key(int64_t j) const { return keys + j * stride; }
  const Value* value(int64_t j) const { return values + j * stride; }
  // What to ask for, d values each, while scores of key j are made and while value j is added.
  const Value* while_scored(int64_t j, int d) const { return next_values == nullptr ? value(j) : next_values + j * d; }
  const Value* while_added(int64_t j, int d) const { return next_keys == nullptr ? key(count + j) : next_keys + j * d; }
  // Whether the first query, and so each, sees all of it.
  bool whole() const { return from == nullptr && to[0] - begin >= count; }
  // What query q sees; its run is empty where that is nothing.
  Seen seen(int q) const {
    const int64_t low = from == nullptr ? 0 : from[q] - begin, high = to[q] - begin;
    const Columns run = {static_cast<int>(low < 0 ? 0 : low > count ? count : low),
                         static_cast<int>(high < 0 ? 0 : high > count ? count : high)};
    return {run.begin < run.end ? run : Columns{0, 0}};
  }
};

// A tile of keys that were picked from the cache, of which a row sees those within its reach that have not ended yet.
template <class Value>
struct PickedKeys {
  struct Seen {
    Columns run;  // beyond it nothing is seen, within it not everything, unless `every`
    bool every;
    const PickedKeys* of;
    int32_t position, from;
    bool all(int begin, int end) const { return every && run.begin <= begin && run.end >= end; }
    vi lanes(int c) const {
      vi at, last;
      memcpy(&at, of->positions + c, sizeof at);
      memcpy(&last, of->last + c, sizeof last);
      return (at <= position) & (last >= position) & ((at >= from) | (at < of->sinks));
    }
    bool one(int c) const {
      const int32_t at = of->positions[c];
      return at <= position && of->last[c] >= position && (at >= from || at < of->sinks);
    }
    Columns next(int at, int end) const {
      while (at < end && !one(at)) at++;
      int to = at;
      while (to < end && one(to)) to++;
      return {at, to};
    }
  };

  const Value *keys, *values;
  int64_t stride;
  const int32_t* picked;           // [count]: rows of the cache
  int32_t *positions, *last;       // their own, and the last that sees them; up to a multiple of W no query sees more
  const int32_t *queries, *reach;  // position of each query of the tile, and of the first key in its window
  int32_t sinks, least_last;
  int count, next;  // keys of this tile, and of the next one

  const Value* key(int64_t j) const { return keys + picked[j] * stride; }
  const Value* value(int64_t j) const { return values + picked[j] * stride; }
  const Value* while_scored(int64_t j, int) const { return value(j); }
  const Value* while_added(int64_t j, int) const { return key(count + j); }
  bool whole() const { return false; }
  Seen seen(int q) const {
    const int32_t position = queries[q], from = reach[q];
    const bool has_sinks = positions[0] < sinks;
    Columns run = {has_sinks ? 0 : static_cast<int>(count_until(positions, count, int64_t{from} - 1)),
                   static_cast<int>(count_until(positions, count, position))};
    if (run.begin >= run.end) run = {0, 0};
    return {run, !has_sinks && least_last >= position, this, position, from};
  }
};

}  // namespace tkf::TKF_NAMESPACE::attention
