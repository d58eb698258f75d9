// Products in bf16 by AMX: every factor is rounded to one bf16 number, or (bf16x2) is a sum of two, and of their four
// products all but that of the smaller ones are summed, in f32. A tile unit multiplies 32 values of 16 rows with those of 16
// others at once. Weights lie in a tile row by row, as in memory; rows of x are transposed, once for all weights.
// N is how many numbers a factor has.
#pragma once
#include "../common/blocks.h"
#include "../common/lanes.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("amx-tile,amx-bf16,amx-int8,avx512bf16,avx512vnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("amx-tile,amx-bf16,amx-int8,avx512bf16,avx512vnni")
#endif

namespace tkf::TKF_NAMESPACE::bf16 {

constexpr int kTile = 16, kTileBytes = 1024;  // rows of each side; 16 * 32 bf16, or 16 * 16 floats
template <int N>
constexpr int64_t kSection = 512 / N;  // values of a row that are made bf16 at once: a multiple of every block
constexpr int64_t kMostRows = 512;  // rows of x whose sums are held at once

// 32 floats as bf16 numbers: rounded; or what a float's upper half says, and the rest of it.
template <int N>
TKF_INLINE void split(vf low, vf high, __m512i* numbers) {
  if constexpr (N == 1) {
    numbers[0] = (__m512i)_mm512_cvtne2ps_pbh(high, low);
    return;
  }
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xFFFF0000));
  const vf low_top = (vf)_mm512_and_si512((__m512i)low, upper), high_top = (vf)_mm512_and_si512((__m512i)high, upper);
  numbers[0] = (__m512i)_mm512_cvtne2ps_pbh(high_top, low_top);
  numbers[1] = (__m512i)_mm512_cvtne2ps_pbh(high - high_top, low - low_top);
}

// 32 values as the same row of N tiles.
template <int N>
TKF_INLINE void put(vf low, vf high, uint8_t* to) {
  __m512i numbers[2];
  split<N>(low, high, numbers);
  for (int i = 0; i < N; i++) _mm512_store_si512(to + i * kTileBytes, numbers[i]);
}

// Up to 16 rows of x, others 0, in tiles of pairs of values: [k / 32, N, 16 pairs, 16 rows, 2].
template <int N>
static void turn_rows(const float* x, int rows, int64_t k, uint8_t* to) {
  for (int64_t at = 0; at < k; at += 32) {
    const int some = static_cast<int>(smaller(k - at, int64_t{32}));
    vf turned[N][kTile] = {};
    for (int row = 0; row < rows; row++) {
      const float* const from = x + row * k + at;
      __m512i numbers[2];
      if (some == 32) split<N>(load(from), load(from + W), numbers);
      else split<N>(load_part(from, smaller(some, W)), load_part(from + W, larger(some - W, 0)), numbers);
      for (int i = 0; i < N; i++) turned[i][row] = (vf)numbers[i];
    }
    for (int i = 0; i < N; i++, to += kTileBytes) {
      transpose(turned[i]);
      for (int pair = 0; pair < kTile; pair++) _mm512_store_ps(to + 64 * pair, turned[i][pair]);
    }
  }
}

// Values [first, first + kSection) of 16 rows of weights, of which `valid` are there: [kSection / 32, N, 16, 32].
template <class Format, int N>
static void unpack_rows(const uint8_t* weight, int valid, int64_t k, int64_t first, uint8_t* to) {
  constexpr int parts = Format::VALUES / 32;
  const int64_t blocks = smaller(kSection<N>, k - first) / Format::VALUES;
  for (int r = 0; r < kTile; r++) {
    const uint8_t* const row = weight + (r < valid ? r : 0) * row_bytes<Format>(k) + row_bytes<Format>(first);
    uint8_t* out = to + 64 * r;
    float scales[kChunkScales<Format>];
    Format::prepare(row, static_cast<int>(blocks), scales);
    for (int64_t b = 0; b < blocks; b++) {
#pragma GCC unroll 8
      for (int part = 0; part < parts; part++) {
        vf w[2];
        Format::decode(row + b * Format::BYTES, scales + b * Format::SCALES, part, w);
        put<N>(w[0], w[1], out);
        out += N * kTileBytes;
      }
    }
    if constexpr (Format::DENSE) {
      if (first + kSection<N> > k && k % 32 != 0) {
        float rest[32] = {};
        for (int64_t i = 0; i < k % 32; i++) rest[i] = Format::scalar(row + (32 * blocks + i) * (Format::BYTES / 32));
        put<N>(load(rest), load(rest + W), out);
      }
    }
  }
}

// Tiles 0 to 3 hold sums, 4 and 5 weights, 6 and 7 rows of x.
template <int NT>
TKF_INLINE void load_weights(const uint8_t* at, int64_t stride) {
  _tile_loadd(4, at, 64);
  if (NT > 1) _tile_loadd(5, at + stride, 64);
}
template <int MT>
TKF_INLINE void load_x(const uint8_t* at, int64_t stride) {
  _tile_loadd(6, at, 64);
  if (MT > 1) _tile_loadd(7, at + stride, 64);
}
template <int NT, int MT>
TKF_INLINE void multiply_tiles() {
  _tile_dpbf16ps(0, 4, 6);
  if (NT > 1) _tile_dpbf16ps(1, 5, 6);
  if (MT > 1) _tile_dpbf16ps(2, 4, 7);
  if (NT > 1 && MT > 1) _tile_dpbf16ps(3, 5, 7);
}

// Adds to NT x MT tiles of sums, [16 columns, 16 rows] each, the products of `count` tiles of both; `fresh` sums
// begin at 0. Strides are in bytes, from one tile row of weights, of x and of sums to the next.
template <int N, int NT, int MT>
static void multiply(const uint8_t* weight, int64_t weight_stride, const uint8_t* x, int64_t x_stride, int count,
                     bool fresh, uint8_t* sums, int64_t sum_stride) {
  if (fresh) {
    _tile_zero(0);
    if (NT > 1) _tile_zero(1);
    if (MT > 1) _tile_zero(2);
    if (NT > 1 && MT > 1) _tile_zero(3);
  } else {
    _tile_loadd(0, sums, 64);
    if (NT > 1) _tile_loadd(1, sums + sum_stride, 64);
    if (MT > 1) _tile_loadd(2, sums + kTileBytes, 64);
    if (NT > 1 && MT > 1) _tile_loadd(3, sums + sum_stride + kTileBytes, 64);
  }
  for (int i = 0; i < count; i++, weight += N * kTileBytes, x += N * kTileBytes) {
    load_x<MT>(x, x_stride);
    if constexpr (N == 1) {
      load_weights<NT>(weight, weight_stride);
      multiply_tiles<NT, MT>();
      continue;
    }
    load_weights<NT>(weight + kTileBytes, weight_stride);
    multiply_tiles<NT, MT>();
    load_weights<NT>(weight, weight_stride);
    multiply_tiles<NT, MT>();
    load_x<MT>(x + kTileBytes, x_stride);
    multiply_tiles<NT, MT>();
  }
  _tile_stored(0, sums, 64);
  if (NT > 1) _tile_stored(1, sums + sum_stride, 64);
  if (MT > 1) _tile_stored(2, sums + kTileBytes, 64);
  if (NT > 1 && MT > 1) _tile_stored(3, sums + sum_stride + kTileBytes, 64);
}

template <int N>
constexpr decltype(&multiply<N, 1, 1>) kMultiply[2][2] = {{multiply<N, 1, 1>, multiply<N, 1, 2>},
                                                          {multiply<N, 2, 1>, multiply<N, 2, 2>}};

struct alignas(64) TileShape {
  uint8_t palette = 1, start = 0, unused[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
// A constant: up to g++ 13.2 _tile_loadconfig() names only 8 bytes as read, and stores to others may be left out.
constexpr TileShape kTileShape;

// Tiles of 16 rows of 64 bytes on this thread, until end_tiles().
static void begin_tiles() { _tile_loadconfig(&kTileShape); }
static void end_tiles() { _tile_release(); }

template <int N, class Format>
static int products(tkf_context* context, const float* x, const uint8_t* weight, int64_t rows, int64_t n, int64_t k,
                    float* out) {
  const int64_t depth = larger((k + 31) / 32, int64_t{1}), x_stride = depth * N * kTileBytes;
  const int64_t row_tiles = (rows + kTile - 1) / kTile, columns = (n + 2 * kTile - 1) / (2 * kTile);
  // Pairs of tiles of weights that are unpacked together: x is read once for them. Few rows: what stays near.
  const int64_t together = rows > 2 * kTile ? 8 : 1, held_rows = smaller(row_tiles, kMostRows / kTile);
  constexpr int64_t weight_stride = kSection<N> / 32 * N * kTileBytes;
  const int64_t sum_stride = held_rows * kTileBytes;
  const size_t own = static_cast<size_t>(2 * together * (weight_stride + sum_stride));
  if (!context_reserve(context, own, static_cast<size_t>(row_tiles * x_stride))) return TKF_STATUS_MEMORY;
  uint8_t* const turned = static_cast<uint8_t*>(context_shared(context));
  parallel_ranges(context, row_tiles, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) {
      const int some = static_cast<int>(smaller(rows - i * kTile, int64_t{kTile}));
      turn_rows<N>(x + i * kTile * k, some, k, turned + i * x_stride);
    }
  });
  const int64_t bytes = row_bytes<Format>(k);
  const int64_t grain = 65536 / larger(2 * kTile * k, int64_t{1});
  parallel_ranges(context, columns, grain, [&](int64_t begin, int64_t end, int thread) {
    begin_tiles();
    uint8_t* const panel = static_cast<uint8_t*>(context_scratch(context, thread));
    uint8_t* const sums = panel + 2 * together * weight_stride;
    for (int64_t column = begin; column < end; column += together) {
      const int64_t first = 2 * kTile * column, last = smaller(n, 2 * kTile * smaller(end, column + together));
      const int64_t some = (last - first + kTile - 1) / kTile;  // tiles of weights
      for (int64_t row = 0; row < row_tiles; row += held_rows) {
        const int64_t held = smaller(held_rows, row_tiles - row);
        for (int64_t at = 0; at == 0 || at < k; at += kSection<N>) {
          for (int64_t i = 0; i < some; i++) {
            const int64_t j = first + i * kTile;
            const int valid = static_cast<int>(smaller(n - j, int64_t{kTile}));
            unpack_rows<Format, N>(weight + j * bytes, valid, k, at, panel + i * weight_stride);
          }
          const int count = static_cast<int>((smaller(kSection<N>, k - at) + 31) / 32);
          for (int64_t m = 0; m < held; m += 2) {
            const uint8_t* const tiles = turned + (row + m) * x_stride + at / 32 * N * kTileBytes;
            for (int64_t i = 0; i < some; i += 2) {
              kMultiply<N>[i + 1 < some][m + 1 < held](panel + i * weight_stride, weight_stride, tiles, x_stride, count, at == 0,
                                                    sums + i * sum_stride + m * kTileBytes, sum_stride);
            }
          }
        }
        for (int64_t i = 0; i < some; i++) {
          const int cols = static_cast<int>(smaller(n - first - i * kTile, int64_t{kTile}));
          for (int64_t m = 0; m < held; m++) {
            const float* const from = reinterpret_cast<float*>(sums + i * sum_stride + m * kTileBytes);
            vf tile[kTile];
            for (int r = 0; r < kTile; r++) tile[r] = load(from + r * W);
            transpose(tile);
            const int64_t top = (row + m) * kTile, valid = smaller(rows - top, int64_t{kTile});
            float* const to = out + top * n + first + i * kTile;
            for (int64_t r = 0; r < valid; r++) {
              if (cols == W) store(to + r * n, tile[r]);
              else store_part(to + r * n, tile[r], cols);
            }
          }
        }
      }
    }
    end_tiles();
  });
  return TKF_STATUS_OK;
}

}  // namespace tkf::TKF_NAMESPACE::bf16

#include "int16_amx.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
