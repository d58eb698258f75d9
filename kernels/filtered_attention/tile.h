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

// Values of a tile [count, d] -> packed [count, padded], zero past d.
template <class Type, class Keys>
void pack_values(const Keys& tile, int d, float* packed, int padded) {
  for (int j = 0; j < tile.count; j++) {
    const auto* row = tile.value(j);
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

// sum [MR, NR * W] += a [MR, depth] (entry (i, c) at a[i * row + c * step]) times b [depth, NR * W] of row stride
// `stride`, into out [MR, NR * W] of row stride `out_stride`.
template <int MR, int NR>
TKF_INLINE void multiply_block(vf (&sum)[MR][NR], const float* a, int row, int step, const float* b, int stride,
                               int depth, float* out, int out_stride) {
  for (int c = 0; c < depth; c++) {
    vf v[NR];
#pragma GCC unroll 4
    for (int j = 0; j < NR; j++) v[j] = load(b + c * stride + j * W);
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) {
      const vf p = set1(a[i * row + c * step]);
#pragma GCC unroll 4
      for (int j = 0; j < NR; j++) sum[i][j] += p * v[j];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++) {
#pragma GCC unroll 4
    for (int j = 0; j < NR; j++) store(out + i * out_stride + j * W, sum[i][j]);
  }
}

// scores [MR, stride] = queries [d, MR] (transposed) times NR * W columns of keys [d, columns].
template <int MR, int NR>
inline void score_block(const float* queries, const float* keys, int d, int columns, float* scores, int stride) {
  vf sum[MR][NR] = {};
  multiply_block(sum, queries, 1, MR, keys, columns, d, scores, stride);
}

// out [MR, padded], NR * W columns of it: out = out * factor + weights [MR, stride] times values [count, padded].
template <int MR, int NR>
inline void value_block(const float* weights, int stride, const float* values, int count, int padded,
                        const float* factor, float* out) {
  vf sum[MR][NR];
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++) {
    const vf f = set1(factor[i]);
#pragma GCC unroll 4
    for (int j = 0; j < NR; j++) sum[i][j] = load(out + i * padded + j * W) * f;
  }
  multiply_block(sum, weights, stride, 1, values, padded, count, out, padded);
}

}  // namespace tkf::TKF_NAMESPACE::attention
