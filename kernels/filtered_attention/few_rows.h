// Attention of few rows (a decode step): keys and values are read where they lie, each once.
#pragma once
#include "sight.h"

namespace tkf::TKF_NAMESPACE::attention {

// Most rows that share one pass over the keys.
#if defined(__AVX512F__)
constexpr int kFewBlock = 4;
#else
constexpr int kFewBlock = 3;
#endif

// Asks for d values, a row of keys or values that is used later: rows lie too far apart for the processor to foresee.
template <class Value>
TKF_INLINE void prefetch_row(const Value* row, int d) {
  constexpr uintptr_t line = 64;
  const uintptr_t end = reinterpret_cast<uintptr_t>(row + d);
  for (uintptr_t at = reinterpret_cast<uintptr_t>(row) / line * line; at < end; at += line) prefetch(at);
}

// scores [RB, stride], columns [begin, end rounded up to W) = queries [RB, padded] times keys of a tile [.., d]; `begin`
// is a multiple of W. Columns past `end` repeat the last key. Asks for the tile's values.
template <class Type, int RB, class Keys>
inline void score_few(const float* queries, int padded, const Keys& tile, int begin, int end, int d, float* scores,
                      int stride) {
  constexpr int kQuads = W / 4;
  const int whole = d / W * W;
  for (int j = begin; j < end; j += W) {
    vf folded[RB][kQuads];
#pragma GCC unroll 4
    for (int quad = 0; quad < kQuads; quad++) {
      // Keys quad + kQuads * {0, 1, 2, 3}: after folding by W/2 and W/4, lane group g holds the sums of the g-th.
      const typename Type::Value* at[4];
      for (int g = 0; g < 4; g++) {
        const int key = j + quad + kQuads * g;
        const int row = key < end ? key : end - 1;
        at[g] = tile.key(row);
        prefetch_row(tile.value(row), d);
      }
      vf sum[RB][4] = {};
      for (int c = 0; c < whole; c += W) {
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++) {
          const vf k = Type::load(at[g] + c);
#pragma GCC unroll 4
          for (int r = 0; r < RB; r++) sum[r][g] += k * load(queries + r * padded + c);
        }
      }
      if (whole < d) {
        for (int g = 0; g < 4; g++) {
          const vf k = Type::load_part(at[g] + whole, d - whole);
          for (int r = 0; r < RB; r++) sum[r][g] += k * load(queries + r * padded + whole);
        }
      }
#pragma GCC unroll 4
      for (int r = 0; r < RB; r++) {
        folded[r][quad] = fold<W / 4>(fold<W / 2>(sum[r][0], sum[r][2]), fold<W / 2>(sum[r][1], sum[r][3]));
      }
    }
    for (int r = 0; r < RB; r++) store(scores + r * stride + j, fold_quads(folded[r]));
  }
}

// out [RB, padded] = out * factor + weights [RB, stride] times values of a tile [.., d], columns [begin, end). Asks for
// the keys of the next tile.
template <class Type, int RB, class Keys>
inline void value_few(const float* weights, int stride, const Keys& tile, int begin, int end, int d, int padded,
                      const float* factor, float* out) {
  constexpr int NV = W == 16 ? 4 : 3;
  int c = 0;
  for (; c + NV * W <= d; c += NV * W) {
    vf sum[RB][NV];
#pragma GCC unroll 4
    for (int r = 0; r < RB; r++) {
#pragma GCC unroll 4
      for (int i = 0; i < NV; i++) sum[r][i] = load(out + r * padded + c + i * W) * factor[r];
    }
    for (int j = begin; j < end; j++) {
      vf v[NV];
      if (c == 0 && j < tile.next) prefetch_row(tile.key(tile.count + j), d);
#pragma GCC unroll 4
      for (int i = 0; i < NV; i++) v[i] = Type::load(tile.value(j) + c + i * W);
#pragma GCC unroll 4
      for (int r = 0; r < RB; r++) {
        const vf p = set1(weights[r * stride + j]);
#pragma GCC unroll 4
        for (int i = 0; i < NV; i++) sum[r][i] += p * v[i];
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < RB; r++) {
#pragma GCC unroll 4
      for (int i = 0; i < NV; i++) store(out + r * padded + c + i * W, sum[r][i]);
    }
  }
  for (; c < d; c += W) {
    vf sum[RB];
    for (int r = 0; r < RB; r++) sum[r] = load(out + r * padded + c) * factor[r];
    for (int j = begin; j < end; j++) {
      const auto* at = tile.value(j) + c;
      const vf v = c + W <= d ? Type::load(at) : Type::load_part(at, d - c);
      for (int r = 0; r < RB; r++) sum[r] += v * weights[r * stride + j];
    }
    for (int r = 0; r < RB; r++) store(out + r * padded + c, sum[r]);
  }
}

}  // namespace tkf::TKF_NAMESPACE::attention
