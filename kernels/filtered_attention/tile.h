// One tile of attention: rows of queries over a stretch of keys, with the softmax kept running (online softmax).
// Scores are in units of log2: the queries carry the factor scale * log2(e).
#pragma once
#include "sight.h"

namespace tkf::TKF_NAMESPACE::attention {

// Running softmax of a block of rows.
struct Softmax {
  float* maximum;  // [rows, rounded up to a multiple of W]: largest score so far
  float* sum;      // [rows, W]: sum of weights, W parts of it
};

// Turns scores [rows, stride], columns [begin, end) (multiples of W), into weights in place, given what each row sees;
// updates the running softmax, and gives the factor [rows, rounded up] for each row's older sums. Seen: see sight.h.
template <class Seen>
inline void softmax_rows(float* scores, int stride, int rows, const Seen* seen, int begin, int end, Softmax state,
                         float* factor) {
  const vf none = set1(-INFINITY);
  for (int first = 0; first < rows; first += W) {
    const int last = rows < first + W ? rows : first + W;
    vf tops[W];
    for (int r = first; r < first + W; r++) {
      vf top = none;
      if (r < last) {
        float* row = scores + r * stride;
        if (seen[r].all(begin, end)) {
          vf other = none;
          int c = begin;
          for (; c + 2 * W <= end; c += 2 * W) {
            top = maximum(top, load(row + c));
            other = maximum(other, load(row + c + W));
          }
          if (c < end) top = maximum(top, load(row + c));
          top = maximum(top, other);
        } else {
          for (int c = begin; c < end; c += W) {
            const vf x = seen[r].lanes(c) ? load(row + c) : none;
            store(row + c, x);
            top = maximum(top, x);
          }
        }
      }
      tops[r - first] = top;
    }
    const vf before = load(state.maximum + first);
    const vf now = maximum(largest_of_each(tops), before);
    store(state.maximum + first, now);
    const vf base = now == none ? set1(0.0f) : now;  // a row that has seen nothing yet: no -inf - -inf
    store(factor + first, exp2_vector(before - base));
    for (int r = first; r < last; r++) {
      float* row = scores + r * stride;
      const float maximum = base[r - first];
      vf sum = load(state.sum + r * W) * factor[r];
      if (seen[r].all(begin, end)) {
        for (int c = begin; c < end; c += W) {
          const vf p = exp2_vector(load(row + c) - maximum);
          store(row + c, p);
          sum += p;
        }
      } else {
        for (int c = begin; c < end; c += W) {
          const vf p = seen[r].lanes(c) ? exp2_vector(load(row + c) - maximum) : set1(0.0f);
          store(row + c, p);
          sum += p;
        }
      }
      store(state.sum + r * W, sum);
    }
  }
}

// ---- Many rows: keys and values packed, shared by all rows of the tile.

// `factor` times MR rows of d, each at row(r), zeros where that is NULL -> packed [d, MR], transposed.
template <int MR, class Row>
void pack_queries(const Row& row, int d, float factor, float* packed) {
  for (int first = 0; first < MR; first += W) {
    for (int c = 0; c < d; c += W) {
      const int width = smaller(d - c, W), rows = smaller(MR - first, W);
      vf block[W];
      for (int r = 0; r < W; r++) {
        const float* const from = r < rows ? row(first + r) : nullptr;
        block[r] = from == nullptr ? set1(0.0f) : width == W ? load(from + c) : load_part(from + c, width);
        block[r] = block[r] * factor;
      }
      transpose(block);
      for (int r = 0; r < width; r++) store_part(packed + (c + r) * MR + first, block[r], rows);
    }
  }
}

// Keys of a tile [count, d] -> packed [d, columns] transposed, columns past `count` (up to a multiple of W) zero.
template <class Type, class Keys>
void pack_keys(const Keys& tile, int d, float* packed, int columns) {
  for (int j = 0; j < tile.count; j += W) {
    const int rows = tile.count - j < W ? tile.count - j : W;
    for (int c = 0; c < d; c += W) {
      const int width = d - c < W ? d - c : W;
      vf block[W];
      for (int r = 0; r < W; r++) {
        if (r >= rows) {
          block[r] = set1(0.0f);
          continue;
        }
        const auto* at = tile.key(j + r) + c;
        block[r] = width == W ? Type::load(at) : Type::load_part(at, width);
      }
      transpose(block);
      for (int r = 0; r < width; r++) store(packed + (c + r) * columns + j, block[r]);
    }
  }
}

// Keys or values, each of d at at(row) -> packed [count, padded], zero past d.
template <class Type, class At>
void pack_rows(const At& at, int count, int d, float* packed, int padded) {
  for (int j = 0; j < count; j++) {
    const auto* row = at(j);
    int c = 0;
    for (; c + W <= d; c += W) store(packed + j * padded + c, Type::load(row + c));
    if (c < d) store(packed + j * padded + c, Type::load_part(row + c, d - c));
  }
}

// Whether none of `count` floats, a multiple of W, is NaN or infinite.
inline bool all_finite(const float* x, int count) {
  vf sums[4] = {};  // 0 times a finite number is 0
  int i = 0;
  for (; i + 4 * W <= count; i += 4 * W) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) sums[j] += load(x + i + j * W) * 0.0f;
  }
  for (; i < count; i += W) sums[0] += load(x + i) * 0.0f;
  return sum(sums[0] + sums[1] + sums[2] + sums[3]) == 0.0f;
}

// Rows of memory that are used soon: they are asked for one by one, while something else is computed.
struct Soon {
  const char* rows = nullptr;
  int64_t stride = 0;  // in bytes, as is their width
  int width = 0, count = 0;
};

// sum [MR, NR * W] += a [MR, depth] (entry (i, c) at a[i * row + c * step]) times b [depth, NR * W] of row stride
// `stride`, into out [MR, NR * W] of row stride `out_stride`; vectors of a row stand b_apart and out_apart floats apart.
template <int MR, int NR>
TKF_INLINE void multiply_block(vf (&sum)[MR][NR], const float* a, int row, int step, const float* b, int stride,
                               int depth, float* out, int out_stride, int b_apart = W, int out_apart = W,
                               const Soon& soon = {}) {
  const int part = soon.count == 0 ? depth : (depth + soon.count - 1) / soon.count;
  for (int c = 0, r = 0; c < depth; r++) {
    if (r < soon.count) prefetch_row(soon.rows + r * soon.stride, soon.width);
    for (const int end = smaller(depth, c + part); c < end; c++) {
      vf v[NR];
#pragma GCC unroll 4
      for (int j = 0; j < NR; j++) v[j] = load(b + c * stride + j * b_apart);
#pragma GCC unroll 16
      for (int i = 0; i < MR; i++) {
        const vf p = set1(a[i * row + c * step]);
#pragma GCC unroll 4
        for (int j = 0; j < NR; j++) sum[i][j] += p * v[j];
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++) {
#pragma GCC unroll 4
    for (int j = 0; j < NR; j++) store(out + i * out_stride + j * out_apart, sum[i][j]);
  }
}

// scores [MR, stride] = queries [d, MR] (transposed, `step` apart) times NR * W columns of keys [d, columns].
template <int MR, int NR>
inline void score_block(const float* queries, int step, const float* keys, int d, int columns, float* scores,
                        int stride) {
  vf sum[MR][NR] = {};
  multiply_block(sum, queries, 1, step, keys, columns, d, scores, stride);
}

// out [MR, padded], NR * W columns of it: out = out * factor + weights [MR, count] (entry (i, c) at
// weights[i * row + c * step]) times values [count, NR * W] of row stride `stride`.
template <int MR, int NR>
inline void value_block(const float* weights, int row, int step, const float* values, int stride, int count, int padded,
                        const float* factor, float* out, const Soon& soon = {}) {
  vf sum[MR][NR];
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++) {
    const vf f = set1(factor[i]);
#pragma GCC unroll 4
    for (int j = 0; j < NR; j++) sum[i][j] = load(out + i * padded + j * W) * f;
  }
  multiply_block(sum, weights, row, step, values, stride, count, out, padded, W, W, soon);
}

// ---- Rows too few for packing: keys and values where they lie. Scores stand key by key, a row a lane.

constexpr int kKeyBlock = 8;  // keys at once

// scores [NR, columns, W], MR columns of it = keys [MR, d] of row stride `stride` times NR blocks of queries [d, rows];
// lanes from `rows` on hold nothing of use.
template <int MR, int NR>
inline void score_keys(const float* keys, int stride, const float* queries, int rows, int d, int columns,
                       float* scores, const Soon& soon) {
  vf sum[MR][NR] = {};
  multiply_block(sum, keys, stride, 1, queries, rows, d, scores, W, d * rows, columns * W, soon);
}

// softmax_rows of a block of MR rows whose scores stand key by key, [count, W], where every row sees all keys.
template <int MR>
inline void softmax_keys(float* scores, int count, Softmax state, float* factor) {
  const vf none = set1(-INFINITY);
  vf tops[4] = {none, none, none, none};
  int c = 0;
  for (; c + 4 <= count; c += 4) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) tops[i] = maximum(tops[i], load(scores + (c + i) * W));
  }
  for (; c < count; c++) tops[0] = maximum(tops[0], load(scores + c * W));
  const vf before = load(state.maximum);
  const vf now = maximum(maximum(maximum(tops[0], tops[1]), maximum(tops[2], tops[3])), before);
  store(state.maximum, now);
  const vf base = now == none ? set1(0.0f) : now, change = exp2_vector(before - base);
  store(factor, change);
  vf sums[W];  // of every W-th key, as softmax_rows has them in a row's lanes
#pragma GCC unroll 16
  for (int r = 0; r < W; r++) sums[r] = r < MR ? load(state.sum + r * W) : set1(0.0f);
  transpose(sums);
#pragma GCC unroll 16
  for (int i = 0; i < W; i++) sums[i] = sums[i] * change;
  for (c = 0; c < count; c += W) {
#pragma GCC unroll 16
    for (int i = 0; i < W; i++) {
      if (c + i >= count) continue;
      const vf p = exp2_vector(load(scores + (c + i) * W) - base);
      store(scores + (c + i) * W, p);
      sums[i] += p;
    }
  }
  transpose(sums);
#pragma GCC unroll 16
  for (int r = 0; r < MR; r++) store(state.sum + r * W, sums[r]);
}

}  // namespace tkf::TKF_NAMESPACE::attention
