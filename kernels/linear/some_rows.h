// GEMM of n rows of x, n between few and many: transposing the weights would not pay. x is transposed instead, one lane
// per row, and each weight is broadcast to all lanes. Sums are added in the order of many rows.
#pragma once
#include "../common/lanes.h"
#include "by_format.h"
#include "panel.h"

namespace tkf::TKF_NAMESPACE::some_rows {

// Most rows of x for which this pays, unless a quarter of the last vector's lanes are idle. For formats that
// pack_columns.h transposes by words, the limits are lower.
constexpr int64_t kMost = 128, kMostOfWords = 48;
static bool serves(int64_t rows, bool words) {
  const int64_t idle = (rows + W - 1) / W * W - rows;
  return rows <= (words ? kMostOfWords : kMost) && idle < (words ? 2 : W / 4);
}

constexpr int kGroup = 16;       // rows of weights that are dequantized together
constexpr int64_t kPiece = 256;  // values of a row dequantized at once: whole blocks of any format
constexpr int64_t kStride = kPiece + 16;  // of rows, which then lie in different sets of the cache

// Transposes x [rows, k]: value c of rows v * W .. at out[(v * padded + c) * W]; missing rows are 0.
static void transpose_rows(tkf_context* context, const float* x, int64_t rows, int64_t k, int64_t padded, float* out) {
  const int64_t vectors = (rows + W - 1) / W, steps = padded / W;
  parallel_ranges(context, vectors * steps, 128, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t first = i / steps * W, at = i % steps * W, count = smaller(k - at, int64_t{W});
      vf lanes[W];
      for (int64_t r = 0; r < W; r++) {
        const float* const row = x + (first + r) * k + at;
        if (first + r >= rows) lanes[r] = set1(0);
        else lanes[r] = count == W ? load(row) : load_part(row, static_cast<int>(count));
      }
      transpose(lanes);
      for (int64_t c = 0; c < W; c++) store(out + (i / steps * padded + at + c) * W, lanes[c]);
    }
  });
}

// R rows of weights, kStride apart, times V vectors of x, `step` apart: sums at out[(v * kGroup + r) * W], added to
// where `add`.
template <int R, int V>
static TKF_INLINE void multiply(const float* weights, const float* x, int64_t step, int64_t count, bool add,
                                float* out) {
  vf sums[R][V] = {};
  for (int64_t c = 0; c < count; c++) {
    vf v[V];
#pragma GCC unroll 2
    for (int j = 0; j < V; j++) v[j] = load(x + j * step + c * W);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
      const vf w = set1(weights[r * kStride + c]);
#pragma GCC unroll 2
      for (int j = 0; j < V; j++) sums[r][j] = fma(v[j], w, sums[r][j]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; r++) {
#pragma GCC unroll 2
    for (int j = 0; j < V; j++) {
      float* const to = out + (j * kGroup + r) * W;
      store(to, add ? load(to) + sums[r][j] : sums[r][j]);
    }
  }
}

// All rows of x for `valid` rows of weights: out[row * n + i].
template <class Format>
static void group(const float* transposed, int64_t padded, const uint8_t* weight, int valid, int64_t rows, int64_t n,
                  int64_t k, float* out) {
  constexpr int alone = kManyRegisters ? kGroup : kGroup / 2, paired = alone / 2;  // rows whose sums registers hold
  alignas(64) float weights[kGroup * kStride];
  alignas(64) float sums[(kMost + W) * kGroup];
  const int64_t bytes = row_bytes<Format>(k), vectors = (rows + W - 1) / W;
  for (int64_t at = 0; at == 0 || at < k; at += kPiece) {
    const int64_t some = smaller(kPiece, k - at);
    for (int r = 0; r < kGroup; r++) {  // a missing row: the first one again, to no effect
      decode_row<Format>(weight + (r < valid ? r : 0) * bytes + row_bytes<Format>(at), some, weights + r * kStride);
    }
    for (int64_t v = 0; v < vectors; v += 2) {
      for (int64_t c = 0; c == 0 || c < some; c += kDepth) {
        const float* const own = transposed + (v * padded + at + c) * W;
        float* const to = sums + v * kGroup * W;
        const int64_t count = smaller(kDepth, some - c), step = padded * W;
        const bool add = at + c > 0;
        if (v + 1 < vectors) {
          for (int r = 0; r < kGroup; r += paired) {
            multiply<paired, 2>(weights + r * kStride + c, own, step, count, add, to + r * W);
          }
        } else {
          for (int r = 0; r < kGroup; r += alone) {
            multiply<alone, 1>(weights + r * kStride + c, own, step, count, add, to + r * W);
          }
        }
      }
    }
  }
  for (int64_t row = 0; row < rows; row += W) {
    for (int r = 0; r < valid; r += W) {
      vf lanes[W];
      for (int i = 0; i < W; i++) lanes[i] = load(sums + (row * kGroup + (r + i) * W));
      transpose(lanes);
      const int cols = smaller(valid - r, W);
      for (int64_t i = 0; i < smaller(rows - row, int64_t{W}); i++) {
        float* const to = out + (row + i) * n + r;
        if (cols == W) store(to, lanes[i]);
        else store_part(to, lanes[i], cols);
      }
    }
  }
}

// All products of the rows of x.
template <class Format>
static int products(tkf_context* context, const float* x, const ProductList& list, int64_t rows, int64_t k) {
  const int64_t padded = (k + W - 1) / W * W, bytes = row_bytes<Format>(k);
  if (!context_reserve(context, 0, static_cast<size_t>((rows + W - 1) / W * W * padded) * 4)) return TKF_STATUS_MEMORY;
  float* const transposed = static_cast<float*>(context_shared(context));
  transpose_rows(context, x, rows, k, padded, transposed);
  const int64_t grain = 65536 / larger(kGroup * k * rows, int64_t{1});
  parallel_products(context, list, kGroup, grain, [&](const tkf_product& p, int64_t begin, int64_t end, int) {
    for (int64_t i = begin * kGroup; i < end * kGroup; i += kGroup) {
      const int valid = static_cast<int>(smaller(p.n - i, int64_t{kGroup}));
      group<Format>(transposed, padded, as<uint8_t>(p.weight) + i * bytes, valid, rows, p.n, k, as<float>(p.out) + i);
    }
  });
  return TKF_STATUS_OK;
}

}  // namespace tkf::TKF_NAMESPACE::some_rows
