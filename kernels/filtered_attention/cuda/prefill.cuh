// What the prefill kernels share: the job, and which keys a tile of queries sees.
//
// A tile is a run of rows (query, head of a KV head's group): keys and values are loaded once for all heads of a group.
// Queries and keys ascend by original position, so what a tile sees of the kept keys, and of the recent ones (a band),
// is a stretch each; key tiles inside the part that every row sees need no mask.
//
// Where tiles are few and keys are many, the keys of each tile are split among blocks, and what these find is put
// together by a second kernel (device.cuh).
#pragma once
#include "device.cuh"

namespace tkf::attention {

// queries, out: [num_queries, heads, head_dim]; partial: [splits, num_queries * heads, 2 + head_dim], where there are
// several splits.
struct PrefillJob : AttentionJob {
  int num_queries;
  bool negative;  // `factor` is the absolute value of a negative one
};

// A query: its position, and the rows [begin, end) of kept (0) and of recent (1) keys that lie in its window. Kept keys
// before that are seen where they are sinks.
struct RowSight {
  int position, begin[2], end[2];
};
constexpr int kMostRows = 128;  // of a tile

// Rows [begin, end) of kept (0) or recent (1) keys lie in some row's window; [full_begin, full_end) in all of them.
struct Stretch {
  int begin, end, full_begin, full_end;
};

// A tile's rows: (query, head in group) from (first_query, first_head) on.
struct Tile {
  int first_query, first_head, num_rows;
  int lowest, highest;       // of all its rows
  int sinks;                 // number of kept rows that are sinks
  RowSight rows[kMostRows];  // past num_rows: the last one's
  Stretch stretch[2];
};

// Keys of a key tile as rows see them. Positions ascend, so what lies in a row's window is a run of columns.
struct KeySight {
  const int32_t* ends;      // of its columns; NULL: none
  int which, first, sinks;  // kept or recent; the row in column 0; number of columns that are sinks
  // Takes rows where they lie: the index is not known to the compiler.
  __device__ __forceinline__ int begin(const RowSight& row) const { return row.begin[which] - first; }
  __device__ __forceinline__ int end(const RowSight& row) const { return row.end[which] - first; }
  __device__ __forceinline__ bool seen(const RowSight& row, int c) const {
    return c < end(row) && (c >= begin(row) || c < sinks) && (ends == nullptr || row.position < ends[c]);
  }
};

// Where rows of a tile lie in queries and out. Numbers within a tile are small: 32 bits divide them quickly.
struct RowPlaces {
  unsigned row, group;  // of the tile's first row
  int first_query, heads, head, head_dim;

  __device__ __forceinline__ RowPlaces(const PrefillJob& job, const Tile& tile, int kv_head)
      : row(static_cast<unsigned>(tile.first_head)),
        group(static_cast<unsigned>(job.group)),
        first_query(tile.first_query),
        heads(job.heads),
        head(head_place(job, kv_head * job.group)),
        head_dim(job.head_dim) {}
  __device__ __forceinline__ int query(int r) const {
    return first_query + static_cast<int>((row + static_cast<unsigned>(r)) / group);
  }
  // Of all rows (query, head) of the job.
  __device__ __forceinline__ int64_t number(int r) const {
    const unsigned at = row + static_cast<unsigned>(r), query = at / group;
    return (int64_t{first_query} + query) * heads + head + (at - query * group);
  }
  __device__ __forceinline__ int64_t offset(int r) const { return number(r) * head_dim; }
};

// Where a split leaves what it found for row `row` of all rows.
__device__ __forceinline__ float* partial_row(const PrefillJob& job, int split, int64_t row) {
  return job.partial + (int64_t{split} * job.num_queries * job.heads + row) * (2 + job.head_dim);
}

// The first row in [begin, end) whose position is greater than `value`, else `end`; by one thread.
__device__ __forceinline__ int row_after(const int32_t* positions, int begin, int end, int64_t value) {
  while (begin < end) {
    const int middle = begin + (end - begin) / 2;
    if (positions[middle] > value) {
      end = middle;
    } else {
      begin = middle + 1;
    }
  }
  return begin;
}

// Block-wide: what rows [first, first + SIZE) see. `shared` is the block's; ends with a barrier. num_rows <= 0: nothing
// to do. Searches, each a chain of loads, are shared among the warps; then each row has few rows left to search.
template <int SIZE>
__device__ inline void find_tile(const PrefillJob& job, int64_t first, Tile* shared) {
  static_assert(SIZE % 32 == 0 && SIZE <= kMostRows);
  const int warp = warp_index(), warps = static_cast<int>(blockDim.x / 32);
  const int64_t left = int64_t{job.num_queries} * job.group - first, reach = job.reach[1];
  const int rows = static_cast<int>(max(int64_t{0}, min(left, int64_t{SIZE})));
  const int first_query = static_cast<int>(first / job.group);
  const int first_head = static_cast<int>(first - int64_t{first_query} * job.group);
  const auto query_of = [&](int r) {
    return first_query + static_cast<int>(static_cast<unsigned>(first_head + r) / static_cast<unsigned>(job.group));
  };
  const auto window_of = [&](int query) {
    return job.windows == nullptr ? INT32_MIN : window_begin(job.query_positions[query], job.windows[query]);
  };
  if (rows > 0) {
    const int lowest = job.query_positions[first_query], highest = job.query_positions[query_of(rows - 1)];
    int least = INT32_MAX, most = INT32_MIN;  // first positions of windows
    for (int r = lane_index(); r < rows; r += 32) {
      const int from = window_of(query_of(r));
      least = min(least, from);
      most = max(most, from);
    }
    least = warp_reduce<Min>(least);
    most = warp_reduce<Max>(most);
    // Of the kept and of the recent keys: the end of what some row sees, and of what all see; the begins; the sinks.
    for (int search = warp; search < 9; search += warps) {
      const int what = search / 2, which = search % 2;
      Stretch* const found = &shared->stretch[which];
      // Not an array of places: its index is not known to the compiler, which would lay it into local memory.
      int* const place = what < 2 ? (what == 0 ? &found->end : &found->full_end)
                         : what == 4 ? &shared->sinks
                                     : (what == 2 ? &found->begin : &found->full_begin);
      const int64_t in_band = (what == 2 ? int64_t{lowest} : int64_t{highest}) - reach;
      const int64_t in_window = what == 4 ? job.sinks : what == 2 ? least : most;
      const int64_t value = what < 2 ? (what == 0 ? highest : lowest) : (which == 1 ? in_band : in_window) - 1;
      const int32_t* positions = job.positions[which];
      const bool none = value < INT32_MIN || (what == 4 && job.windows == nullptr);
      const int row = none ? 0 : first_after([&](int r) { return positions[r]; }, 0, job.num_rows[which], value);
      if (lane_index() == 0) *place = row;
    }
    if (threadIdx.x == 0) {
      shared->lowest = lowest;
      shared->highest = highest;
    }
  }
  if (threadIdx.x == 0) {
    shared->first_query = first_query;
    shared->first_head = first_head;
    shared->num_rows = rows;
  }
  __syncthreads();
  for (int r = static_cast<int>(threadIdx.x); rows > 0 && r < SIZE; r += static_cast<int>(blockDim.x)) {
    const int query = query_of(min(r, rows - 1)), position = job.query_positions[query];
    RowSight* const row = &shared->rows[r];
    row->position = position;
#pragma unroll 1
    for (int which = 0; which < 2; which++) {
      const Stretch& s = shared->stretch[which];
      const int64_t from = which == 1 ? position - reach : int64_t{window_of(query)};
      row->begin[which] = row_after(job.positions[which], s.begin, s.full_begin, from - 1);
      row->end[which] = row_after(job.positions[which], s.full_end, s.end, position);
    }
  }
  __syncthreads();
}

// The blocks of the first KV head share the check that positions ascend.
__device__ inline void check_positions(const PrefillJob& job) {
  check_ascending(job.query_positions, job.num_queries, job.fault);
  for (int which = 0; which < 2; which++) check_ascending(job.positions[which], job.num_rows[which], job.fault);
}

// What a block takes: a tile's first row, and a split of its keys. The last tiles, which see the most, go first.
struct BlockShare {
  int64_t first_row;
  int split;

  __device__ __forceinline__ BlockShare(const PrefillJob& job, int rows) {
    const unsigned splits = static_cast<unsigned>(job.splits), tile = (gridDim.x - 1 - blockIdx.x) / splits;
    first_row = int64_t{tile} * rows;
    split = static_cast<int>((gridDim.x - 1 - blockIdx.x) - tile * splits);
  }
};

// Tiles of SIZE keys: those of sinks, then those of both stretches. A split takes [begin, end), but those that no row
// sees. Such a tile is named by a number, 2 * index + whether every row of the query tile sees all of it; -1: none is
// left.
struct KeyTile {
  int which, begin, count;
  bool full;
};
template <int SIZE>
struct KeyTiles {
  const PrefillJob& job;
  const Tile& tile;  // in shared memory
  int num_kept, begin, end;

  __device__ KeyTiles(const PrefillJob& job, const Tile& tile, int split) : job(job), tile(tile) {
    num_kept = (tile.stretch[0].end + SIZE - 1) / SIZE - left_out();
    const int all = num_kept + (tile.stretch[1].end - tile.stretch[1].begin + SIZE - 1) / SIZE;
    const int each = (all + job.splits - 1) / job.splits;
    begin = min(split * each, all);
    end = min(begin + each, all);
  }
  __device__ __forceinline__ KeyTile at(int name) const {
    KeyTile found;
    const int t = name / 2;
    found.which = t >= num_kept;
    const Stretch& s = tile.stretch[found.which];
    found.begin = found.which ? s.begin + (t - num_kept) * SIZE : (t + (t >= sink_tiles() ? left_out() : 0)) * SIZE;
    found.count = min(SIZE, s.end - found.begin);
    found.full = name % 2 == 1;
    return found;
  }
  // Warp-wide, the same in all warps of the block: the first tile, and the one after a tile.
  __device__ __forceinline__ int first() const { return from(begin); }
  __device__ __forceinline__ int after(int name) const { return from(name / 2 + 1); }

  __device__ __forceinline__ KeySight sight(const KeyTile& at) const {
    const int32_t* ends = at.which || job.key_ends == nullptr ? nullptr : job.key_ends + at.begin;
    return {ends, at.which, at.begin, at.which ? 0 : tile.sinks - at.begin};
  }

 private:
  // Tiles that hold sinks, and those between them and the first window.
  __device__ __forceinline__ int sink_tiles() const { return (tile.sinks + SIZE - 1) / SIZE; }
  __device__ __forceinline__ int left_out() const { return max(tile.stretch[0].begin / SIZE - sink_tiles(), 0); }
  __device__ __forceinline__ int from(int t) const {
    for (; t < end; t++) {
      const KeyTile found = at(2 * t);
      const Stretch& s = tile.stretch[found.which];
      const int last = found.begin + SIZE;
      const bool in_windows = found.begin >= s.full_begin || (!found.which && last <= tile.sinks);
      bool full = in_windows && last <= s.full_end;
      if (job.key_ends != nullptr && !found.which && !some_seen(found, &full)) continue;
      return 2 * t + (full ? 1 : 0);
    }
    return -1;
  }
  // Whether some row may see some of a tile of kept keys, by their ends; clears `full` where one does not see all of it.
  __device__ __forceinline__ bool some_seen(const KeyTile& at, bool* full) const {
    bool some = false, all = true;
#pragma unroll 1
    for (int c = lane_index(); c < at.count; c += 32) {
      const int end = job.key_ends[at.begin + c];
      some |= end > tile.lowest;
      all &= end > tile.highest;
    }
    *full &= __all_sync(kAllLanes, all) != 0;
    return __ballot_sync(kAllLanes, some) != 0;
  }
};

}  // namespace tkf::attention
