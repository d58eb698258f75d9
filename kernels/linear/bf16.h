// GEMM in bf16: both operands are rounded to bf16, products are summed in f32. AMX multiplies tiles of 16 rows of 32
// values; without AMX, AVX512-BF16 multiplies single vectors from the same packed operands. Tiles of x are row-major.
// Weights are transposed when they are dequantized, so that the sums are rows of out.
#pragma once
#include "../common/lanes.h"
#include "../swiglu/gate.h"
#include "by_format.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("amx-tile,amx-bf16,avx512bf16"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("amx-tile,amx-bf16,avx512bf16")
#endif

namespace tkf::TKF_NAMESPACE::bf16 {

constexpr int kTile = 16, kTileBytes = 1024;  // rows of each side; 16 * 32 bf16, or 16 * 16 floats
// A row of more than kWhole values is dequantized in sections of kSection, a multiple of every block. kHeldBytes: size of
// the dequantized weights that x is read once for.
constexpr int64_t kSection = 512, kWhole = 1536, kHeldBytes = 384 * 1024;
constexpr int64_t kMostRows = 512;  // rows of x whose sums are held at once

// 32 floats, rounded to bf16.
TKF_INLINE __m512i round(vf low, vf high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

// Packs up to 16 rows of x, the others 0, as tiles: [k / 32, 16 rows, 32].
static void lay_rows(const float* x, int rows, int64_t k, uint8_t* to) {
  for (int64_t at = 0; at < k; at += 32, to += kTileBytes) {
    const int some = static_cast<int>(smaller(k - at, int64_t{32}));
    for (int row = 0; row < kTile; row++) {
      const float* const from = x + row * k + at;
      __m512i numbers = _mm512_setzero_si512();
      if (row < rows) {
        if (some == 32) numbers = round(load(from), load(from + W));
        else numbers = round(load_part(from, smaller(some, W)), load_part(from + W, larger(some - W, 0)));
      }
      _mm512_store_si512(to + 64 * row, numbers);
    }
  }
}

// Stores 32 values of each of 16 rows of weights, bf16 numbers in `rows`, as a tile of pairs: [16 pairs, 16 rows, 2].
TKF_INLINE void store_transposed(vf (&rows)[kTile], uint8_t* to) {
  transpose(rows);
  for (int pair = 0; pair < kTile; pair++) _mm512_store_ps(to + 64 * pair, rows[pair]);
}

// Dequantizes values [first, first + count) of 16 rows of weights, `valid` of which exist: [count / 32, 16 pairs, 16, 2].
template <class Format>
static void unpack_rows(const uint8_t* weight, int valid, int64_t k, int64_t first, int64_t count, uint8_t* to) {
  constexpr int parts = Format::VALUES / 32;
  const int64_t blocks = count / Format::VALUES;
  const uint8_t* row[kTile];
  for (int r = 0; r < kTile; r++) {
    row[r] = weight + (r < valid ? r : 0) * row_bytes<Format>(k) + row_bytes<Format>(first);
  }
  vf turned[kTile];
  for (int64_t chunk = 0; chunk < blocks; chunk += kChunk<Format>) {
    const int some = static_cast<int>(smaller(blocks - chunk, int64_t{kChunk<Format>}));
    float scales[kTile][kChunkScales<Format>];
    for (int r = 0; r < kTile; r++) Format::prepare(row[r] + chunk * Format::BYTES, some, scales[r]);
    for (int b = 0; b < some; b++) {
      for (int part = 0; part < parts; part++, to += kTileBytes) {
        for (int r = 0; r < kTile; r++) {
          vf w[2];
          Format::decode(row[r] + (chunk + b) * Format::BYTES, scales[r] + b * Format::SCALES, part, w);
          turned[r] = (vf)round(w[0], w[1]);
        }
        store_transposed(turned, to);
      }
    }
  }
  if constexpr (Format::DENSE) {
    if (count % 32 == 0) return;
    for (int r = 0; r < kTile; r++) {
      float rest[32] = {};
      for (int64_t i = 0; i < count % 32; i++) {
        rest[i] = Format::scalar(row[r] + (32 * blocks + i) * (Format::BYTES / 32));
      }
      turned[r] = (vf)round(load(rest), load(rest + W));
    }
    store_transposed(turned, to);
  }
}

// Sums of two tiles of rows by two tiles of columns; strides in bytes, of a row, a tile of rows, a tile of columns.
struct Sums {
  uint8_t* at;
  int64_t row, rows, columns;
};

// to = from + the products of `count` tiles of both operands, NT x MT tiles of sums; without `from`, sums begin at 0.
// Strides are in bytes, between tile rows. Tile registers 0 to 3 hold sums, 4 and 5 weights, 6 and 7 rows of x.
template <int NT, int MT>
static void multiply(const uint8_t* weight, int64_t weight_stride, const uint8_t* x, int64_t x_stride, int count,
                     const Sums& from, const Sums& to) {
  if (from.at == nullptr) {
    _tile_zero(0);
    if (NT > 1) _tile_zero(1);
    if (MT > 1) _tile_zero(2);
    if (NT > 1 && MT > 1) _tile_zero(3);
  } else {
    _tile_loadd(0, from.at, from.row);
    if (NT > 1) _tile_loadd(1, from.at + from.columns, from.row);
    if (MT > 1) _tile_loadd(2, from.at + from.rows, from.row);
    if (NT > 1 && MT > 1) _tile_loadd(3, from.at + from.rows + from.columns, from.row);
  }
  for (int i = 0; i < count; i++, weight += kTileBytes, x += kTileBytes) {
    _tile_loadd(6, x, 64);
    if (MT > 1) _tile_loadd(7, x + x_stride, 64);
    _tile_loadd(4, weight, 64);
    if (NT > 1) _tile_loadd(5, weight + weight_stride, 64);
    _tile_dpbf16ps(0, 6, 4);
    if (NT > 1) _tile_dpbf16ps(1, 6, 5);
    if (MT > 1) _tile_dpbf16ps(2, 7, 4);
    if (NT > 1 && MT > 1) _tile_dpbf16ps(3, 7, 5);
  }
  _tile_stored(0, to.at, to.row);
  if (NT > 1) _tile_stored(1, to.at + to.columns, to.row);
  if (MT > 1) _tile_stored(2, to.at + to.rows, to.row);
  if (NT > 1 && MT > 1) _tile_stored(3, to.at + to.rows + to.columns, to.row);
}

#include "bf16_dots.h"

struct alignas(64) TileShape {
  uint8_t palette = 1, start = 0, unused[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
// A constant: up to g++ 13.2 _tile_loadconfig() names only 8 bytes as read, and stores to others may be left out.
constexpr TileShape kTileShape;

// Who multiplies.
struct Tiles {
  // Tiles of 16 rows of 64 bytes on this thread, until end().
  static void begin() { _tile_loadconfig(&kTileShape); }
  static void end() { _tile_release(); }
  static constexpr decltype(&multiply<1, 1>) MULTIPLY[2][2] = {{multiply<1, 1>, multiply<1, 2>},
                                                               {multiply<2, 1>, multiply<2, 2>}};
};
struct Dots {
  static void begin() {}
  static void end() {}
  static constexpr decltype(&dots::multiply<1, 1>) MULTIPLY[2][2] = {{dots::multiply<1, 1>, dots::multiply<1, 2>},
                                                                     {dots::multiply<2, 1>, dots::multiply<2, 2>}};
};

// Stores sums of tiles beyond the last row or column of out: those inside it.
static void store_edges(const Sums& from, int64_t rows, int64_t columns, int mt, int nt, float* out, int64_t n) {
  for (int64_t row = 0; row < smaller(rows, int64_t{kTile} * (1 + mt)); row++) {
    for (int i = 0; i <= nt; i++) {
      const int some = static_cast<int>(smaller(columns - i * kTile, int64_t{kTile}));
      const uint8_t* const at = from.at + row / kTile * from.rows + row % kTile * from.row + i * from.columns;
      if (some > 0) store_part(out + row * n + i * kTile, load(reinterpret_cast<const float*>(at)), some);
    }
  }
}

// Values of a row that are dequantized together.
static int64_t section_of(int64_t k) {
  return k <= kWhole ? larger((k + 31) / 32 * 32, int64_t{32}) : kSection;
}

// Pairs of sums of a gate and of what it goes with, [rows, kTile] each, to out [rows, columns].
template <class Lanes>
static void store_gated(const Sums& from, int64_t rows, int64_t columns, int mt, Lanes lanes, float* out, int64_t n) {
  const int some = static_cast<int>(smaller(columns, int64_t{kTile}));
  for (int64_t row = 0; row < smaller(rows, int64_t{kTile} * (1 + mt)); row++) {
    const uint8_t* const at = from.at + row / kTile * from.rows + row % kTile * from.row;
    const auto values = [&](const uint8_t* sums) { return load(reinterpret_cast<const float*>(sums)); };
    const vf value = lanes(values(at), values(at + from.columns));
    if (some == W) store(out + row * n, value);
    else store_part(out + row * n, value, some);
  }
}

// All products of a list; or, where `gate` is not none, what it makes of two of them.
template <class Unit, class Format>
static int products(tkf_context* context, const float* x, const ProductList& list, int64_t rows, int64_t k, int gate) {
  const int64_t depth = larger((k + 31) / 32, int64_t{1}), x_stride = depth * kTileBytes;
  const int64_t row_tiles = (rows + kTile - 1) / kTile;
  const int64_t section = section_of(k), weight_stride = section / 32 * kTileBytes;
  // Pairs of tiles of weights that are dequantized together, since x is read once for them.
  const int64_t together = rows > 2 * kTile ? larger(kHeldBytes / (2 * weight_stride), int64_t{1}) : 1;
  const int64_t held_rows = smaller(row_tiles, kMostRows / kTile), sum_stride = held_rows * kTileBytes;
  const size_t own = static_cast<size_t>(2 * together * (weight_stride + sum_stride));
  if (!context_reserve(context, own, static_cast<size_t>(row_tiles * x_stride))) return TKF_STATUS_MEMORY;
  uint8_t* const laid = static_cast<uint8_t*>(context_shared(context));
  parallel_ranges(context, row_tiles, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) {
      const int some = static_cast<int>(smaller(rows - i * kTile, int64_t{kTile}));
      lay_rows(x + i * kTile * k, some, k, laid + i * x_stride);
    }
  });
  const int64_t bytes = row_bytes<Format>(k);
  // Pairs [begin, end) of tiles: of one product, or of a gate and the product that it goes with.
  const auto multiply_pairs = [&](const tkf_product* const* pair, int64_t begin, int64_t end, int thread) {
    const bool gated = pair[0] != pair[1];
    const int64_t n = pair[0]->n, tiles = (n + kTile - 1) / kTile;
    float* const out = as<float>(pair[0]->out);
    Unit::begin();
    uint8_t* const panel = static_cast<uint8_t*>(context_scratch(context, thread));
    uint8_t* const sums = panel + 2 * together * weight_stride;
    for (int64_t first = begin; first < end; first += together) {
      const int64_t last = smaller(end, first + together);
      const int64_t some = gated ? 2 * (last - first) : smaller(2 * last, tiles) - 2 * first;  // tiles of weights
      const auto column_of = [&](int64_t i) { return kTile * (gated ? first + i / 2 : 2 * first + i); };
      for (int64_t row = 0; row < row_tiles; row += held_rows) {
        const int64_t held = smaller(held_rows, row_tiles - row);
        for (int64_t at = 0; at == 0 || at < k; at += section) {
          const int64_t values = smaller(section, k - at);
          for (int64_t i = 0; i < some; i++) {
            const int64_t j = column_of(i);
            const int valid = static_cast<int>(smaller(n - j, int64_t{kTile}));
            unpack_rows<Format>(as<uint8_t>(pair[i % 2]->weight) + j * bytes, valid, k, at, values,
                                   panel + i * weight_stride);
          }
          const int count = static_cast<int>((values + 31) / 32);
          const bool done = at + section >= k;
          for (int64_t m = 0; m < held; m += 2) {
            const uint8_t* const tiles_of_x = laid + (row + m) * x_stride + at / 32 * kTileBytes;
            for (int64_t i = 0; i < some; i += 2) {
              const int64_t top = (row + m) * kTile, left = column_of(i);
              const int nt = i + 1 < some, mt = m + 1 < held;
              const bool whole = !gated && top + (1 + mt) * kTile <= rows && left + (1 + nt) * kTile <= n;
              float* const to = out + top * n + left;
              const Sums own_sums = {sums + i * sum_stride + m * kTileBytes, 64, kTileBytes, sum_stride};
              const Sums outs = {reinterpret_cast<uint8_t*>(to), n * 4, n * 4 * kTile, 64};
              const Sums none = {};
              Unit::MULTIPLY[nt][mt](panel + i * weight_stride, weight_stride, tiles_of_x, x_stride, count,
                                   at == 0 ? none : own_sums, done && whole ? outs : own_sums);
              if (!done || whole) continue;
              if (!gated) store_edges(own_sums, rows - top, n - left, mt, nt, to, n);
              else if (gate == TKF_GATE_SWIGLU) store_gated(own_sums, rows - top, n - left, mt, swiglu_lanes, to, n);
              else store_gated(own_sums, rows - top, n - left, mt, geglu_lanes, to, n);
            }
          }
        }
      }
    }
    Unit::end();
  };
  const int64_t grain = 65536 / larger(2 * kTile * k, int64_t{1});
  if (gate != TKF_GATE_NONE) {
    parallel_ranges(context, (list.at[0]->n + kTile - 1) / kTile, grain, [&](int64_t begin, int64_t end, int thread) {
      multiply_pairs(list.at, begin, end, thread);
    });
    return TKF_STATUS_OK;
  }
  parallel_products(context, list, 2 * kTile, grain, [&](const tkf_product& p, int64_t begin, int64_t end, int thread) {
    const tkf_product* const pair[] = {&p, &p};
    multiply_pairs(pair, begin, end, thread);
  });
  return TKF_STATUS_OK;
}

}  // namespace tkf::TKF_NAMESPACE::bf16

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
