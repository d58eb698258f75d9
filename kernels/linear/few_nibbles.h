// Few rows of x times weights of nibbles, by AVX-512: a permutation looks up one nibble of each of 16 words in a table
// that all blocks share. Scale and minimum of a block are applied to its sums:
// sum((d*u + m) * x) = d * sum((u - 8) * x) + (8*d + m) * sum(x).
#pragma once
#include "by_format.h"

namespace tkf::TKF_NAMESPACE::few_nibbles {

// Blocks of 32 that end with 16 bytes of nibbles as decode_nibbles has them, before which are d and, with LEAST, m.
template <class Format>
struct Layout {
  static constexpr bool KNOWN = false;
};

constexpr int kTogether = 4;              // blocks whose words fill a vector
constexpr int kPlaces = 8;                // nibbles of a word
constexpr int kVectorsOfX = kPlaces + 1;  // of kTogether blocks: values by place, and their sums

template <class Format, bool HAS_LEAST>
struct Blocks {
  static constexpr bool KNOWN = true, LEAST = HAS_LEAST;
  // 16-bit words of a block; what the first 64 bytes of kTogether blocks do not hold lies in their last 64, from word
  // SECOND on.
  static constexpr int WORDS = Format::BYTES / 2, SECOND = kTogether * WORDS - 32;
  alignas(64) int16_t nibbles[32] = {}, heads[32] = {};  // numbers of words: of both vectors, and of the first one
  constexpr Blocks() {
    for (int i = 0; i < 32; i++) {
      const int at = i / 8 * WORDS + WORDS - 8 + i % 8;
      nibbles[i] = static_cast<int16_t>(at < 32 ? at : 32 + at - SECOND);
    }
    for (int i = 0; i < 16; i++) heads[i] = static_cast<int16_t>(i / 4 * WORDS + i % 2);
  }
  // What nibbles stand for, before d and m.
  static TKF_INLINE vf table() { return to_float(lane_numbers() - 8); }
};
template <>
struct Layout<FormatQ4_0> : Blocks<FormatQ4_0, false> {};
template <>
struct Layout<FormatQ4_1> : Blocks<FormatQ4_1, true> {};
template <>
struct Layout<FormatIQ4_NL> : Blocks<FormatIQ4_NL, false> {
  static TKF_INLINE vf table() { return to_float(load_i8(kIq4)); }
};
template <class Format>
constexpr Layout<Format> kLayout = {};

inline int64_t packed_size(int64_t k) { return (k / 32 + kTogether - 1) / kTogether * kVectorsOfX * W; }

// A row of x of a tile of `rows`: its vectors lie `rows` apart. What is behind its end is 0.
static void pack_row(const float* x, int64_t k, int rows, float* packed) {
  const __m512i turn = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  for (int64_t first = 0; first < k; first += 32 * kTogether, packed += kVectorsOfX * rows * W) {
    for (int b = 0; b < kTogether; b++) {
      const bool there = first + 32 * b < k;
      const float* const own = x + (there ? first + 32 * b : 0);
      vf sums = set1(0);
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++) {
        const vf values = there ? load(own + 16 * half) : set1(0), turned = _mm512_permutexvar_ps(turn, values);
        float* const to = packed + half * rows * W + 4 * b;
        _mm_storeu_ps(to, _mm512_castps512_ps128(turned));
        _mm_storeu_ps(to + 2 * rows * W, _mm512_extractf32x4_ps(turned, 1));
        _mm_storeu_ps(to + 4 * rows * W, _mm512_extractf32x4_ps(turned, 2));
        _mm_storeu_ps(to + 6 * rows * W, _mm512_extractf32x4_ps(turned, 3));
        sums = sums + turned;
      }
      const __m256 pairs = _mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps(sums, 1));
      _mm_storeu_ps(packed + kPlaces * rows * W + 4 * b,
                    _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
    }
  }
}

// The words of kTogether blocks, and of each its first two halves as floats, of four.
struct Group {
  __m512i words;
  vf heads;
};
// `count` <= kTogether blocks from `block` on; the others are 0.
template <class Format>
TKF_INLINE Group load_group(const uint8_t* block, int64_t count) {
  constexpr const Layout<Format>& own = kLayout<Format>;
  __m512i a, b;
  if (count >= kTogether) {
    a = _mm512_loadu_si512(block);
    b = _mm512_loadu_si512(block + 2 * own.SECOND);
  } else {
    const uint64_t there = (uint64_t{1} << (own.WORDS * count)) - 1;
    a = _mm512_maskz_loadu_epi16(static_cast<__mmask32>(there), block);
    b = _mm512_maskz_loadu_epi16(static_cast<__mmask32>(there >> own.SECOND), block + 2 * own.SECOND);
  }
  const __m512i heads = _mm512_permutexvar_epi16(_mm512_load_si512(own.heads), a);
  return {_mm512_permutex2var_epi16(a, _mm512_load_si512(own.nibbles), b),
          _mm512_cvtph_ps(_mm512_castsi512_si256(heads))};
}

// R rows of weights, of which `valid` are there, times M rows of x: out[m * n + r].
template <class Format, int R, int M>
static TKF_INLINE void tile(const float* packed, const uint8_t* weight, int valid, int64_t n, int64_t k, float* out) {
  const vf table = Layout<Format>::table();
  const int64_t bytes = row_bytes<Format>(k), blocks = k / 32;
  const uint8_t* row[R];
  vf sums[R][M];
#pragma GCC unroll 4
  for (int r = 0; r < R; r++) {
    row[r] = r < valid ? weight + r * bytes : weight;  // a missing row: the first one again, to no effect
#pragma GCC unroll 4
    for (int m = 0; m < M; m++) sums[r][m] = set1(0);
  }
  const uintptr_t later = ahead_of(weight, R * bytes);
  for (int64_t block = 0; block < blocks; block += kTogether) {
    prefetch_lines<kTogether * R * Format::BYTES>(later + static_cast<uintptr_t>(block * R * Format::BYTES));
    Group group[R];
    vf own[R][M];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) group[r] = load_group<Format>(row[r] + block * Format::BYTES, blocks - block);
#pragma GCC unroll 8
    for (int place = 0; place < kPlaces; place++, packed += M * W) {
      vf u[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) {
        // A lookup reads the lowest four bits of each lane.
        u[r] = _mm512_permutexvar_ps(_mm512_srli_epi32(group[r].words, static_cast<unsigned>(4 * place)), table);
      }
#pragma GCC unroll 4
      for (int m = 0; m < M; m++) {
        const vf v = load(packed + m * W);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) own[r][m] = place == 0 ? u[r] * v : fma(u[r], v, own[r][m]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
      const vf d = _mm512_permute_ps(group[r].heads, 0), least = _mm512_permute_ps(group[r].heads, 0x55);
      const vf middle = fma(d, set1(8), least);
#pragma GCC unroll 4
      for (int m = 0; m < M; m++) {
        if (Layout<Format>::LEAST) sums[r][m] = fma(middle, load(packed + m * W), sums[r][m]);
        sums[r][m] = fma(d, own[r][m], sums[r][m]);
      }
    }
    packed += M * W;
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; m++) {
    float dots[4];
    vf totals[4] = {set1(0), set1(0), set1(0), set1(0)};
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) totals[r] = sums[r][m];
    sum4(totals, dots);
    for (int r = 0; r < smaller(R, valid); r++) out[m * n + r] = dots[r];
  }
}

// Rows of x that share a tile.
TKF_INLINE int tile_rows(int64_t rows) { return rows >= 4 ? 4 : rows >= 2 ? 2 : 1; }

// M rows of x times up to four rows of weights, R at once.
template <class Format, int R, int M>
static TKF_INLINE void tiles(const float* packed, const uint8_t* weight, int valid, int64_t n, int64_t k, float* out) {
  const int64_t bytes = row_bytes<Format>(k);
  for (int r = 0; r < valid; r += R) tile<Format, R, M>(packed, weight + r * bytes, valid - r, n, k, out + r);
}

template <class Format>
static int products(tkf_context* context, const float* x, const ProductList& list, int64_t rows, int64_t k) {
  const int64_t bytes = row_bytes<Format>(k), size = packed_size(k);
  if (!context_reserve(context, 0, static_cast<size_t>(rows * size) * 4)) return TKF_STATUS_MEMORY;
  float* const packed = static_cast<float*>(context_shared(context));
  for (int64_t m = 0; m < rows; m += tile_rows(rows - m)) {
    const int some = tile_rows(rows - m);
    for (int i = 0; i < some; i++) pack_row(x + (m + i) * k, k, some, packed + m * size + i * W);
  }
  const int64_t grain = 8192 / larger(k * rows, int64_t{1});
  parallel_products(context, list, 4, grain, [&](const tkf_product& p, int64_t begin, int64_t end, int) {
    for (int64_t i = 4 * begin; i < 4 * end; i += 4) {
      const uint8_t* const weight = as<uint8_t>(p.weight) + i * bytes;
      const int valid = static_cast<int>(smaller(p.n - i, int64_t{4}));
      for (int64_t m = 0; m < rows; m += tile_rows(rows - m)) {
        const float* const own = packed + m * size;
        float* const out = as<float>(p.out) + m * p.n + i;
        switch (tile_rows(rows - m)) {
          case 4: tiles<Format, 2, 4>(own, weight, valid, p.n, k, out); break;
          case 2: tiles<Format, 4, 2>(own, weight, valid, p.n, k, out); break;
          default: tiles<Format, 4, 1>(own, weight, valid, p.n, k, out);
        }
      }
    }
  });
  return TKF_STATUS_OK;
}

}  // namespace tkf::TKF_NAMESPACE::few_nibbles
