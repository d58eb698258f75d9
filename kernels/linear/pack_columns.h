// Dequantizes and transposes weights for a GEMM of many rows: a panel holds kPanel rows of weights side by side.
#pragma once
#include "../common/blocks.h"
#include "../common/lanes.h"
#include "panel.h"

namespace tkf::TKF_NAMESPACE {

#if TKF_LEVEL == TKF_LEVEL_AVX512
// Transposes 16 bytes of each of 16 rows: word j of row r in lane r of words[j], of the first WORDS words.
template <int WORDS = 4>
TKF_INLINE void transpose_words(const uint8_t* const* row, int64_t at, __m512i* words) {
  __m512i v[4];  // rows r, r + 4, r + 8 and r + 12
#pragma GCC unroll 4
  for (int r = 0; r < 4; r++) {
    const auto lane = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row[4 * i + r] + at)); };
    v[r] = _mm512_castsi128_si512(lane(0));
    v[r] = _mm512_mask_broadcast_i32x4(v[r], 0x00F0, lane(1));
    v[r] = _mm512_mask_broadcast_i32x4(v[r], 0x0F00, lane(2));
    v[r] = _mm512_mask_broadcast_i32x4(v[r], 0xF000, lane(3));
  }
  const __m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpacklo_epi32(v[2], v[3]);
  words[0] = _mm512_unpacklo_epi64(a, b);
  if constexpr (WORDS == 4) {
    const __m512i c = _mm512_unpackhi_epi32(v[0], v[1]), d = _mm512_unpackhi_epi32(v[2], v[3]);
    words[1] = _mm512_unpackhi_epi64(a, b);
    words[2] = _mm512_unpacklo_epi64(c, d);
    words[3] = _mm512_unpackhi_epi64(c, d);
  }
}

TKF_INLINE vf low_halves(__m512i words) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)); }

// The words that the blocks of 16 rows begin with.
TKF_INLINE __m512i leading_words(const uint8_t* const* row, int64_t at) {
  __m512i words;
  transpose_words<1>(row, at, &words);
  return words;
}

// The low or the high nibbles of 16 bytes of each of 16 rows, each d*nibble + m of its row.
template <bool HIGH>
TKF_INLINE void transpose_nibbles(const __m512i* words, vf d, vf m, float* to) {
  const vf numbers = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) {  // a lookup reads the lowest four bits of each lane
    const __m512i nibbles = _mm512_srli_epi32(words[i / 4], 8 * (i % 4) + 4 * HIGH);
    store(to + i * kPanel, fma(_mm512_permutexvar_ps(nibbles, numbers), d, m));
  }
}

// Both nibbles of 16 bytes of each of 16 rows, in the order of decode_nibbles().
TKF_INLINE void transpose_pairs(const uint8_t* const* row, int64_t at, vf d, vf m, float* to) {
  __m512i words[4];
  transpose_words(row, at, words);
  transpose_nibbles<false>(words, d, m, to);
  transpose_nibbles<true>(words, d, m, to + 16 * kPanel);
}

// Dequantizes a block of each of 16 rows, at byte `at`, in the order and with the roundings of decode(): value i of row
// r at to[i * kPanel + r]. For formats whose values are quick to take out of a transposed word.
template <class Format>
constexpr bool kTransposesWords = false;

template <>
inline constexpr bool kTransposesWords<FormatQ4_0> = true;
TKF_INLINE void transpose_block(FormatQ4_0, const uint8_t* const* row, int64_t at, float* to) {
  const vf d = low_halves(leading_words(row, at));
  transpose_pairs(row, at + 2, d, -8 * d, to);
}

template <>
inline constexpr bool kTransposesWords<FormatQ4_1> = true;
TKF_INLINE void transpose_block(FormatQ4_1, const uint8_t* const* row, int64_t at, float* to) {
  const __m512i leading = leading_words(row, at);
  transpose_pairs(row, at + 4, low_halves(leading), low_halves(_mm512_srli_epi32(leading, 16)), to);
}

template <>
inline constexpr bool kTransposesWords<FormatQ8_0> = true;
TKF_INLINE void transpose_block(FormatQ8_0, const uint8_t* const* row, int64_t at, float* to) {
  const vf d = low_halves(leading_words(row, at));
  __m512i words[4];
  for (int half = 0; half < 2; half++, to += 16 * kPanel) {
    transpose_words(row, at + 2 + 16 * half, words);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
      const __m512i q = _mm512_srai_epi32(_mm512_slli_epi32(words[i / 4], 24 - 8 * (i % 4)), 24);
      store(to + i * kPanel, _mm512_cvtepi32_ps(q) * d);
    }
  }
}

template <>
inline constexpr bool kTransposesWords<FormatQ4_K> = true;
TKF_INLINE void transpose_block(FormatQ4_K, const uint8_t* const* row, int64_t at, float* to) {
  static_assert(FormatQ4_K::SCALES == W);
  vf scales[W];  // d of each part, then m of each
  for (int r = 0; r < W; r++) {
    float own[W];
    FormatQ4_K::prepare_one(row[r] + at, own);
    scales[r] = load(own);
  }
  transpose(scales);
  for (int half = 0; half < 8; half++) {
    __m512i words[4];
    transpose_words(row, at + 16 + 16 * half, words);
    const int part = half / 2 * 2;
    float* const first = to + (32 * part + 16 * (half % 2)) * kPanel;
    transpose_nibbles<false>(words, scales[part], scales[8 + part], first);
    transpose_nibbles<true>(words, scales[part + 1], scales[9 + part], first + 32 * kPanel);
  }
}
#else
template <class Format>
constexpr bool kTransposesWords = false;
#endif

// Transposes W rows of weights, of which `valid` exist: value i of row r at packed[i * kPanel + r].
template <class Format>
static void pack_columns(const uint8_t* weight, int64_t valid, int64_t k, float* packed) {
  const int64_t bytes = row_bytes<Format>(k), blocks = k / Format::VALUES;
  const uint8_t* row[W];
  for (int r = 0; r < W; r++) row[r] = r < valid ? weight + r * bytes : weight;  // the first one again, to no effect
#if TKF_LEVEL == TKF_LEVEL_AVX512
  if constexpr (kTransposesWords<Format>) {
    for (int64_t b = 0; b < blocks; b++) {
      transpose_block(Format(), row, b * Format::BYTES, packed + b * Format::VALUES * kPanel);
    }
    return;
  }
#endif
  for (int64_t chunk = 0; chunk < blocks; chunk += kChunk<Format>) {
    const int count = static_cast<int>(smaller(blocks - chunk, int64_t{kChunk<Format>}));
    float scales[W][kChunkScales<Format>];
    for (int r = 0; r < W; r++) Format::prepare(row[r] + chunk * Format::BYTES, count, scales[r]);
    for (int b = 0; b < count; b++) {
      for (int part = 0; part < Format::VALUES / 32; part++) {
        vf values[kVectors][W];
        for (int r = 0; r < W; r++) {
          vf w[kVectors];
          Format::decode(row[r] + (chunk + b) * Format::BYTES, scales[r] + b * Format::SCALES, part, w);
          for (int i = 0; i < kVectors; i++) values[i][r] = w[i];
        }
        float* to = packed + ((chunk + b) * Format::VALUES + 32 * part) * kPanel;
        for (int i = 0; i < kVectors; i++) {
          transpose(values[i]);
          for (int r = 0; r < W; r++) store(to + (i * W + r) * kPanel, values[i][r]);
        }
      }
    }
  }
  if constexpr (Format::DENSE) {
    for (int64_t i = blocks * 32; i < k; i++) {
      for (int r = 0; r < W; r++) packed[i * kPanel + r] = Format::scalar(row[r] + i * (Format::BYTES / 32));
    }
  }
}

}  // namespace tkf::TKF_NAMESPACE
