// Flash decoding: one query of each sequence over its own cache and recent rows, the rows split among blocks.
//
// A row of one head is read by as many lanes as it has pieces of 16 bytes, rounded up to a power of 2 (a segment); a
// warp reads several rows at once. Every lane copies its own pieces ahead into shared memory, in its own slots, and
// reads them back when they have come: copies are under way all the time, and no barrier stands in the loop. Each
// segment keeps a softmax of its own over its rows, for up to G query heads of the KV head's group at once (so that
// keys and values are read once for them). Segments, then warps, are put together at the end, splits by a second
// kernel.
#pragma once
#include "device.cuh"

namespace tkf::attention {

// queries, out: [batch, heads, head_dim] f32, one query of a sequence, whose position is negative where it is idle;
// num_rows: that a sequence can hold; partial: [splits, batch * heads, 2 + head_dim].
struct DecodeJob : AttentionJob {
  int batch;
  const uint8_t* keep;    // [batch]; NULL: all
  const int32_t* counts;  // [batch]; NULL: num_rows[0] rows
  int64_t stride[2];      // rows from one sequence to the next; 0: all share them
  bool wide;              // rows are whole pieces of 16 bytes, aligned
  bool recent_ascends;    // else a ring: any order, negative positions are empty
  int32_t* active;        // [batch]: splits that have rows
};

constexpr int kDecodeWarps = 4, kDecodeThreads = kDecodeWarps * 32, kDecodeStages = 3, kDecodePieces = 4;
// Slots [warp, stage, keys or values, piece, lane] of 16 bytes.
constexpr size_t kDecodeShared = size_t{kDecodeThreads} * kDecodeStages * 2 * kDecodePieces * 16;

// The rows that one sequence's query may see: cached rows [0, sinks) and [first + sinks, first + cached), then recent
// rows [near, near + recent).
struct DecodeRows {
  int position, sinks, first, cached, near, recent, chunk;
  int64_t key_base, recent_base;

  __device__ int total() const { return cached + recent; }
  __device__ int num_active() const { return total() == 0 ? 1 : (total() + chunk - 1) / chunk; }
};

// Warp-wide, the same in all warps of the grid's blocks of this sequence. `step`: rows that the block takes at once.
__device__ inline DecodeRows decode_rows(const DecodeJob& job, int b, int step) {
  DecodeRows rows;
  rows.position = job.query_positions[b];
  rows.key_base = b * job.stride[0];
  rows.recent_base = b * job.stride[1];
  int count = job.counts == nullptr ? job.num_rows[0] : job.counts[b];
  if (count < 0 || count > job.num_rows[0]) {
    tkf_fault(job.fault, kFaultIndex);
    count = count < 0 ? 0 : job.num_rows[0];
  }
  const auto key_position = [&](int r) { return job.positions[0][rows.key_base + r]; };
  int end = count;
  if (count > 0 && key_position(count - 1) > rows.position) end = first_after(key_position, 0, count, rows.position);
  rows.sinks = rows.first = 0;
  if (job.reach[0] != kNoLimit) {
    rows.first = first_after(key_position, 0, end, int64_t{rows.position} - job.reach[0] - 1);
  }
  if (job.windows != nullptr && job.windows[b] >= 0) {
    const int near = first_after(key_position, rows.first, end, int64_t{rows.position} - job.windows[b] - 1);
    rows.sinks = first_after(key_position, 0, near, int64_t{job.sinks} - 1);
    rows.first = near - rows.sinks;
  }
  rows.cached = end - rows.first;
  rows.near = 0;
  rows.recent = job.num_rows[1];
  if (job.recent_ascends) {
    const auto recent_position = [&](int r) { return job.positions[1][rows.recent_base + r]; };
    end = first_after(recent_position, 0, job.num_rows[1], rows.position);
    rows.near = first_after(recent_position, 0, end, int64_t{rows.position} - job.reach[1] - 1);
    rows.recent = end - rows.near;
  }
  const int64_t share = (int64_t{rows.total()} + job.splits - 1) / job.splits;
  rows.chunk = static_cast<int>((share + step - 1) / step * step);
  return rows;
}

// Where row v of `rows`, which is below `cached`, lies, if the query sees it; -1 where it does not.
__device__ __forceinline__ int64_t seen_row(const DecodeJob& job, const DecodeRows& rows, int v) {
  const int64_t row = rows.key_base + (v < rows.sinks ? v : rows.first + v);
  return job.key_ends == nullptr || rows.position < job.key_ends[row] ? row : -1;
}

// Whether the query sees row v of `rows`, which is below total().
__device__ __forceinline__ bool sees_row(const DecodeJob& job, const DecodeRows& rows, int v) {
  if (v < rows.cached) return job.key_ends == nullptr || seen_row(job, rows, v) >= 0;
  const int j = job.positions[1][rows.recent_base + rows.near + v - rows.cached];
  return j >= 0 && sees(rows.position, j, job.reach[1]);
}

// Starts the copy of this lane's piece, columns [c, c + kPiece) of a row, or writes zeros where there is none.
template <class T>
__device__ __forceinline__ void copy_piece(uint4* slot, const T* row, int c, int head_dim, bool wide) {
  const bool full = row != nullptr && c < head_dim;
  if (wide) {
    cp_async_16(slot, full ? row + c : static_cast<const T*>(nullptr), full);
    return;
  }
  T* to = reinterpret_cast<T*>(slot);
  for (int e = 0; e < kPiece<T>; e++) to[e] = full && c + e < head_dim ? row[c + e] : T(0.0f);
}

// D: head_dim rounded up to 64, 128 or 256. G: query heads that a block serves.
template <class T, int D, int G>
__global__ void __launch_bounds__(kDecodeThreads, G == 1 ? 4 : G == 4 ? 3 : 2) decode_kernel(const DecodeJob job) {
  wait_for_earlier_kernels();
  constexpr int kPieces = D / kPiece<T>, kLanes = kPieces < 32 ? kPieces : 32, kPer = kPieces / kLanes;
  constexpr int kSegments = 32 / kLanes, kDepth = kDecodePieces / kPer;  // rows at once, and in turn, of a stage
  constexpr int kStep = kSegments * kDepth, kWidth = kPer * kPiece<T>;   // rows of a stage; columns of a lane
  TKF_DYNAMIC_SHARED(uint4, shared);

  const int b = static_cast<int>(blockIdx.z), split = static_cast<int>(blockIdx.y);
  if (job.query_positions[b] < 0 || (job.keep != nullptr && job.keep[b] == 0)) return;
  const int lane = lane_index(), warp = warp_index();
  const int segment = lane / kLanes, column = lane % kLanes * kPiece<T>;
  const int head_chunks = (job.group + G - 1) / G;
  const int kv_head = static_cast<int>(blockIdx.x) / head_chunks;
  const int first_head = static_cast<int>(blockIdx.x) % head_chunks * G;  // within the group
  const int num_heads = min(G, job.group - first_head);
  const int place = head_place(job, kv_head * job.group + first_head);
  const DecodeRows rows = decode_rows(job, b, kDecodeWarps * kStep);
  if (blockIdx.x == 0 && split == 0 && threadIdx.x == 0 && job.splits > 1) job.active[b] = rows.num_active();
  if (split >= rows.num_active()) return;
  const int64_t limit = min(int64_t{rows.total()}, (split + int64_t{1}) * rows.chunk);
  const int end = static_cast<int>(limit);

  // Queries, scaled: columns column + 32 * kPiece * part + e of head first_head + g.
  float q[G][kWidth], sums[G][kWidth], maximum[G], total[G];
  const float* query = job.queries + (int64_t{b} * job.heads + place) * job.head_dim;
#pragma unroll
  for (int g = 0; g < G; g++) {
    maximum[g] = -INFINITY;
    total[g] = 0.0f;
#pragma unroll
    for (int e = 0; e < kWidth; e++) {
      const int c = column + e / kPiece<T> * 32 * kPiece<T> + e % kPiece<T>;
      q[g][e] = g < num_heads && c < job.head_dim ? query[g * job.head_dim + c] * job.factor : 0.0f;
      sums[g][e] = 0.0f;
    }
  }

  const int64_t row_width = int64_t{job.kv_heads} * job.head_dim, offset = int64_t{kv_head} * job.head_dim;
  uint4* const slots = shared + warp * (kDecodeStages * 2 * kDecodePieces * 32) + lane;
  const int begin = split * rows.chunk + warp * kStep;
  constexpr int kStride = kDecodeWarps * kStep;

  // Rows of the cache that lie one after another, in whole pieces, and are seen: `ahead` is this lane's piece of the
  // first of a stage, and moves on with each.
  const bool in_order = job.wide && job.key_ends == nullptr;
  const int order_end = in_order ? min(end, rows.cached) : 0;
  const int64_t next_row = kSegments * row_width, next_stage = kStride * row_width;
  const int64_t ahead = (rows.key_base + rows.first + begin + segment) * row_width + offset + column;
  const T* ahead_k = static_cast<const T*>(job.keys[0]) + ahead;
  const T* ahead_v = static_cast<const T*>(job.values[0]) + ahead;

  const auto copy = [&](int v0, int stage) {
    if (v0 >= rows.sinks && v0 + kStep <= order_end) {
#pragma unroll
      for (int u = 0; u < kDepth; u++) {
#pragma unroll
        for (int part = 0; part < kPer; part++) {
          uint4* slot = slots + (stage * 2 * kDecodePieces + u * kPer + part) * 32;
          const bool full = column + part * 32 * kPiece<T> < job.head_dim;
          cp_async_16(slot, ahead_k + u * next_row + part * 32 * kPiece<T>, full);
          cp_async_16(slot + kDecodePieces * 32, ahead_v + u * next_row + part * 32 * kPiece<T>, full);
        }
      }
    } else if (v0 < end) {
#pragma unroll
      for (int u = 0; u < kDepth; u++) {
        const int v = v0 + u * kSegments + segment;
        const T *k = nullptr, *value = nullptr;
        if (v < end && v < rows.cached) {
          const int64_t row = seen_row(job, rows, v);
          if (row >= 0) {
            k = static_cast<const T*>(job.keys[0]) + (row * row_width + offset);
            value = static_cast<const T*>(job.values[0]) + (row * row_width + offset);
          }
        } else if (v < end && sees_row(job, rows, v)) {
          const int64_t row = rows.recent_base + rows.near + v - rows.cached;
          k = static_cast<const T*>(job.keys[1]) + (row * row_width + offset);
          value = static_cast<const T*>(job.values[1]) + (row * row_width + offset);
        }
#pragma unroll
        for (int part = 0; part < kPer; part++) {
          uint4* slot = slots + (stage * 2 * kDecodePieces + u * kPer + part) * 32;
          const int c = column + part * 32 * kPiece<T>;
          copy_piece(slot, k, c, job.head_dim, job.wide);
          copy_piece(slot + kDecodePieces * 32, value, c, job.head_dim, job.wide);
        }
      }
    }
    cp_async_commit();
    ahead_k += next_stage;
    ahead_v += next_stage;
  };

  for (int s = 0; s < kDecodeStages - 1; s++) copy(begin + s * kStride, s);
  int stage = 0;
  for (int v0 = begin; v0 < end; v0 += kStride) {
    copy(v0 + (kDecodeStages - 1) * kStride, (stage + kDecodeStages - 1) % kDecodeStages);
    cp_async_wait<kDecodeStages - 1>();
    const uint4* from = slots + stage * 2 * kDecodePieces * 32;
    stage = (stage + 1) % kDecodeStages;

    float weight[kDepth][G];
#pragma unroll
    for (int u = 0; u < kDepth; u++) {
      float k[kWidth];
#pragma unroll
      for (int part = 0; part < kPer; part++) {
        Element<T>::expand(from[(u * kPer + part) * 32], k + part * kPiece<T>);
      }
#pragma unroll
      for (int g = 0; g < G; g++) {
        float dot = 0.0f;
#pragma unroll
        for (int e = 0; e < kWidth; e++) dot = fmaf(q[g][e], k[e], dot);
        weight[u][g] = dot;
      }
    }
#pragma unroll
    for (int o = kLanes / 2; o > 0; o /= 2) {
#pragma unroll
      for (int u = 0; u < kDepth; u++) {
#pragma unroll
        for (int g = 0; g < G; g++) weight[u][g] += __shfl_xor_sync(kAllLanes, weight[u][g], o);
      }
    }
    if (job.key_ends != nullptr || v0 + kStep > min(end, rows.cached)) {  // some rows may not be seen
#pragma unroll
      for (int u = 0; u < kDepth; u++) {
        const int v = v0 + u * kSegments + segment;
        const bool seen = v < end && sees_row(job, rows, v);
#pragma unroll
        for (int g = 0; g < G; g++) weight[u][g] = seen ? weight[u][g] : -INFINITY;
      }
    }
#pragma unroll
    for (int g = 0; g < G; g++) {
      float top = maximum[g];
#pragma unroll
      for (int u = 0; u < kDepth; u++) top = fmaxf(top, weight[u][g]);
      const float base = top == -INFINITY ? 0.0f : top;  // nothing seen yet: no -inf - -inf
      const float older = exp2_fast(maximum[g] - base);
      maximum[g] = top;
      total[g] *= older;
#pragma unroll
      for (int u = 0; u < kDepth; u++) {
        weight[u][g] = exp2_fast(weight[u][g] - base);
        total[g] += weight[u][g];
      }
#pragma unroll
      for (int e = 0; e < kWidth; e++) sums[g][e] *= older;
    }
#pragma unroll
    for (int u = 0; u < kDepth; u++) {
      float v[kWidth];
#pragma unroll
      for (int part = 0; part < kPer; part++) {
        Element<T>::expand(from[(kDecodePieces + u * kPer + part) * 32], v + part * kPiece<T>);
      }
#pragma unroll
      for (int g = 0; g < G; g++) {
#pragma unroll
        for (int e = 0; e < kWidth; e++) sums[g][e] = fmaf(weight[u][g], v[e], sums[g][e]);
      }
    }
  }
  cp_async_wait<0>();
  __syncthreads();  // the slots are free: they take what the warps found, [warp, G, 2 + D]

  float* found = reinterpret_cast<float*>(shared) + warp * (G * (2 + D));
#pragma unroll
  for (int g = 0; g < G; g++) {
    float top = maximum[g];
#pragma unroll
    for (int o = kLanes; o < 32; o *= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, o));
    const float factor = exp2_fast(maximum[g] - (top == -INFINITY ? 0.0f : top));
    float sum = total[g] * factor;
#pragma unroll
    for (int o = kLanes; o < 32; o *= 2) sum += __shfl_xor_sync(kAllLanes, sum, o);
#pragma unroll
    for (int e = 0; e < kWidth; e++) {
      float x = sums[g][e] * factor;
#pragma unroll
      for (int o = kLanes; o < 32; o *= 2) x += __shfl_xor_sync(kAllLanes, x, o);
      const int c = column + e / kPiece<T> * 32 * kPiece<T> + e % kPiece<T>;
      if (segment == 0) found[g * (2 + D) + 2 + c] = x;
    }
    if (lane == 0) {
      found[g * (2 + D)] = top;
      found[g * (2 + D) + 1] = sum;
    }
  }
  __syncthreads();

  const bool alone = rows.num_active() == 1;
  const int64_t first_row = int64_t{b} * job.heads + place;
  const float* parts = reinterpret_cast<const float*>(shared);
  for (int i = static_cast<int>(threadIdx.x); i < num_heads * job.head_dim; i += kDecodeThreads) {
    const int g = i / job.head_dim, c = i % job.head_dim;
    const Merged all(parts + g * (2 + D), int64_t{G} * (2 + D), kDecodeWarps, c);
    if (alone) {
      job.out[(first_row + g) * job.head_dim + c] = all.result();
      if (c == 0 && job.log_sums != nullptr) job.log_sums[first_row + g] = all.log_sum();
    } else {
      float* to = job.partial + ((int64_t{split} * job.batch * job.heads) + first_row + g) * (2 + job.head_dim);
      to[2 + c] = all.x;
      if (c == 0) {
        to[0] = all.top;
        to[1] = all.sum;
      }
    }
  }
}

// Puts the splits together: block (head, sequence).
__global__ void __launch_bounds__(kMergeThreads) decode_merge_kernel(const DecodeJob job) {
  wait_for_earlier_kernels();
  const int b = static_cast<int>(blockIdx.y);
  if (job.query_positions[b] < 0 || (job.keep != nullptr && job.keep[b] == 0)) return;
  const int active = job.active[b];
  if (active == 1) return;  // the one split has written the output
  const int64_t row = int64_t{b} * job.heads + head_place(job, static_cast<int>(blockIdx.x)), width = 2 + job.head_dim;
  const int64_t stride = int64_t{job.batch} * job.heads * width;
  merge_splits(job, row, job.partial + row * width, stride, active, job.out + row * job.head_dim);
}

}  // namespace tkf::attention
