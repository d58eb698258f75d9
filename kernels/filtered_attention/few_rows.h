// Attention of few rows (a decode step): keys and values are read where they lie, each once.
#pragma once
#include "sight.h"

namespace tkf::TKF_NAMESPACE::attention {

// Most rows that share one pass over the keys.
#if defined(__AVX512F__)
constexpr int kFewBlock = 4;
#elif defined(__wasm__)
constexpr int kFewBlock = 2;  // engines have registers of their own
#else
constexpr int kFewBlock = 3;
#endif

// What score_few sums over the columns of a query and a key.
struct Products {
  static TKF_INLINE vf add(vf sum, vf key, vf query) { return key * query + sum; }
};
struct SquaredDistances {
  static TKF_INLINE vf add(vf sum, vf key, vf query) {
    const vf apart = key - query;
    return apart * apart + sum;
  }
};

// Adds to the sums of RB queries and 4 keys those of their columns [c, c + count); Whole: `count` is W.
template <class Type, class Of, int RB, bool Whole>
TKF_INLINE void add_scores(vf (&sum)[RB][4], const typename Type::Value* const (&keys)[4], const float* queries,
                           int padded, int c, int count) {
#pragma GCC unroll 4
  for (int g = 0; g < 4; g++) {
    const vf k = Whole ? Type::load(keys[g] + c) : Type::load_part(keys[g] + c, count);
#pragma GCC unroll 4
    for (int r = 0; r < RB; r++) sum[r][g] = Of::add(sum[r][g], k, load(queries + r * padded + c));
  }
}

// scores [RB, stride], columns [begin, end rounded up to W) = queries [RB, padded] times keys of a tile [.., d], or their
// squared distances; `begin` is a multiple of W. Columns past `end` repeat the last key. Asks for values, see
// while_scored().
template <class Type, int RB, class Of = Products, class Keys>
inline void score_few(const float* queries, int padded, const Keys& tile, int begin, int end, int d, float* scores,
                      int stride) {
  constexpr int kQuads = W / 4;
  for (int j = begin; j < end; j += W) {
    vf folded[RB][kQuads];
#pragma GCC unroll 4
    for (int quad = 0; quad < kQuads; quad++) {
      // Keys quad + kQuads * {0, 1, 2, 3}: after folding by W/2 and W/4, lane group g holds the sums of the g-th.
      const typename Type::Value* at[4];
#pragma GCC unroll 4
      for (int g = 0; g < 4; g++) {
        const int key = j + quad + kQuads * g;
        const int row = key < end ? key : end - 1;
        at[g] = tile.key(row);
        prefetch_row(tile.while_scored(row, d), d);
      }
      vf sum[RB][4];
#pragma GCC unroll 4
      for (int r = 0; r < RB; r++) {
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++) sum[r][g] = set1(0.0f);
      }
      int c = 0;
      for (; c + W <= d; c += W) add_scores<Type, Of, RB, true>(sum, at, queries, padded, c, W);
      if (c < d) add_scores<Type, Of, RB, false>(sum, at, queries, padded, c, d - c);
#pragma GCC unroll 4
      for (int r = 0; r < RB; r++) {
        folded[r][quad] = fold<W / 4>(fold<W / 2>(sum[r][0], sum[r][2]), fold<W / 2>(sum[r][1], sum[r][3]));
      }
    }
    for (int r = 0; r < RB; r++) store(scores + r * stride + j, fold_quads(folded[r]));
  }
}

// Adds to RB sums of NV vectors a value times each row's weight for it, at weights[r * stride].
template <class Type, int RB, int NV>
TKF_INLINE void add_value(vf (&sum)[RB][NV], const float* weights, int stride, const typename Type::Value* value) {
  vf v[NV];
#pragma GCC unroll 4
  for (int i = 0; i < NV; i++) v[i] = Type::load(value + i * W);
#pragma GCC unroll 4
  for (int r = 0; r < RB; r++) {
    const vf p = set1(weights[r * stride]);
#pragma GCC unroll 4
    for (int i = 0; i < NV; i++) sum[r][i] += p * v[i];
  }
}

// out [RB, padded] = out * factor + weights [RB, stride] times values of a tile [.., d], columns [begin, end). Asks for
// keys of the next tile, see while_added().
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
    int j = begin;
    for (const int asked = c == 0 ? smaller(end, tile.next) : begin; j < asked; j++) {
      prefetch_row(tile.while_added(j, d), d);
      add_value<Type>(sum, weights + j, stride, tile.value(j) + c);
    }
    for (; j < end; j++) add_value<Type>(sum, weights + j, stride, tile.value(j) + c);
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
