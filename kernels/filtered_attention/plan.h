// How an attention call is cut into tasks, tiles of queries of one KV head over stretches of the keys; a task's memory.
#pragma once
#include "few_rows.h"
#include "share_queries.h"
#include "tile.h"

namespace tkf::TKF_NAMESPACE::attention {

// Rows of a register block where there are many rows, vectors of its other side, keys of a tile.
#if defined(__wasm__)
constexpr int kManyBlock = 4;
#else
constexpr int kManyBlock = W == 16 ? 14 : 6;
#endif
constexpr int kManyVectors = 2;
constexpr int kFewRows = 8;  // up to so many rows of a KV head, keys are read once, where they lie
// Up to so many rows of a tile, what all of them see is not packed: a lane is a row then, and a block as many as lanes.
constexpr int kLaneBlock = W > 4 ? W : 0, kUnpackedRows = 6 * kLaneBlock;
constexpr int kTogether = 3;        // blocks of such rows that share a pass over the keys
constexpr int kTileRows = 672;      // rows that share a packed tile
constexpr int kLeastStretch = 256;  // keys that are worth a task of their own

TKF_INLINE int round_up(int x, int to) { return (x + to - 1) / to * to; }

// In how many parts of `each` tasks to cut, where `parts` are wanted and `most` possible: so many more, or else fewer, that
// all threads have as many tasks, if there is such a number.
inline int64_t even_share(int64_t parts, int64_t most, int64_t each, int threads) {
  for (int64_t n = parts; n <= most; n++) {
    if (n * each % threads == 0) return n;
  }
  for (int64_t n = parts; n > 0; n--) {
    if (n * each % threads == 0) return n;
  }
  return parts;
}

// The place in queries and out of a query head of the keys' KV heads.
inline int head_place(const tkf_attention_filtered_args& job, int head) {
  if (job.kv_places.data == nullptr) return head;
  const int group = group_of(job);
  return as<int32_t>(job.kv_places)[head / group] * group + head % group;
}

// Scores of the last keys, which shares follow from, [heads of keys, num_queries / W, num_shares, W]; and how many stay near.
inline int64_t scores_to_note(const tkf_attention_filtered_args& job) {
  return heads_of_keys(job) * job.num_queries * job.num_shares;
}
constexpr int64_t kMostNoted = int64_t{1} << 18;

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
  bool in_order;       // and asks for the next tile in the order of its addresses
  bool by_head;        // rows stand head by head, a block of them is W queries of a head, and scores are noted
  int block;           // rows of a register block
  int rows;            // rows of a tile, rounded up to whole blocks
  int block_stride;    // block, rounded up to W
  int columns;         // keys of a tile
  int padded;          // head_dim, rounded up to W
};

// `keys`: cache rows up to the last query's position.
inline Plan plan_attention(const tkf_attention_filtered_args& job, int64_t keys, int threads, bool in_order) {
  Plan plan;
  plan.local = count_local(job);
  plan.group = group_of(job);
  plan.padded = round_up(job.head_dim, W);
  const int64_t all_rows = job.num_queries * plan.group;
  plan.few = all_rows <= kFewRows;
  plan.block = plan.few ? kFewBlock : kManyBlock;
  plan.columns = job.head_dim <= 128 ? 128 : 64;
  // As many rows as share a packed tile; fewer where there would be too few tasks to balance, or as many more tasks as
  // threads share evenly.
  const int64_t wanted = int64_t{4} * threads, most = threads == 1 ? 1 : larger<int64_t>(keys / kLeastStretch, 1);
  int64_t queries = smaller<int64_t>(larger(kTileRows / plan.group, 1), job.num_queries);
  const auto tiles_of = [&](int64_t some) { return (some + queries - 1) / queries; };
  const auto tasks = [&] { return (tiles_of(plan.local) + tiles_of(job.num_queries - plan.local)) * job.kv_heads; };
  // Parts of the keys make tasks too, but must be put together: tiles of few rows do not pay instead, of many they do.
  const auto pays = [&](int blocks, int64_t parts) {
    return queries * plan.group > blocks * plan.block && tasks() * parts < wanted;
  };
  while (queries > 1 && (pays(8, 1) || pays(4, most))) queries = (queries + 1) / 2;
  plan.together = plan.few && tasks() == job.kv_heads && !has_gaps(job) && (threads == 1 || most > 1);
  plan.in_order = plan.together && in_order;
  const int64_t per_stretch = plan.together ? 1 : tasks();
  int64_t stretches = smaller((wanted + per_stretch - 1) / per_stretch, most);
  if (stretches > 1) {
    stretches = even_share(stretches, most, per_stretch, threads);
  } else if (!plan.few) {
    const int64_t tiles = tiles_of(job.num_queries);
    const int64_t fit = larger(job.num_queries * plan.group / plan.block, tiles);
    queries = (job.num_queries - 1) / even_share(tiles, smaller(tiles + threads, fit), job.kv_heads, threads) + 1;
  }
  plan.stretches = static_cast<int>(stretches);
  plan.queries = static_cast<int>(queries);
  plan.local_tiles = tiles_of(plan.local);
  plan.tiles = tasks() / job.kv_heads;
  if (!plan.few && plan.queries * plan.group <= kUnpackedRows) plan.block = kLaneBlock;
  plan.by_head = plan.block == W && !plan.few && !has_gaps(job) && plan.queries % W == 0 &&
                 job.num_queries % plan.queries == 0 && job.num_shares > 0 && scores_to_note(job) <= kMostNoted;
  plan.block_stride = round_up(plan.block, W);
  plan.rows = round_up(plan.queries * plan.group, plan.block);
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
  w->keys = part(plan.few ? 0 : padded * columns);
  w->values = part(plan.few ? 0 : columns * padded);
  w->scores = part(static_cast<size_t>(plan.few ? plan.block : kTogether * plan.block_stride) * columns);
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

}  // namespace tkf::TKF_NAMESPACE::attention
