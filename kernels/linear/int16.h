// Products in int16: each 32 values of a row of x are rounded to 16 bits with a factor of their own, and multiplied
// with the weights' own integers. In two bytes: where a processor has it, VNNI does 64 products of bytes at once.
#pragma once
#include "../common/blocks.h"
#include "product_list.h"

namespace tkf::TKF_NAMESPACE::int16 {

// Weights as d * u + m, u in 0 .. 255, where 32 share d and m. `unpack` fills u [32] of a part of a block; `factors`
// gives d and m, from what Format::prepare has made.
template <class Format>
struct Integers {
  static constexpr bool KNOWN = false;
};
// Nibbles as decode_nibbles has them, and a fifth bit where there are `high` ones.
template <int AT, bool FIVE>
struct Nibbles {
  static constexpr bool KNOWN = true;
  static TKF_INLINE void unpack(const uint8_t* block, int, uint8_t* u) {
    typedef uint8_t half __attribute__((vector_size(16)));
    half pairs;
    memcpy(&pairs, block + AT, 16);
    const half low = pairs & 15, high_ones = pairs >> 4;
    memcpy(u, &low, 16);
    memcpy(u + 16, &high_ones, 16);
    if constexpr (FIVE) {
      uint32_t high;
      memcpy(&high, block + AT - 4, 4);
      for (int i = 0; i < 32; i++) u[i] = static_cast<uint8_t>(u[i] | (high >> i & 1) << 4);
    }
  }
};
// m is a number of its own, or -OFFSET * d.
template <int OFFSET_>
struct Offset {
  static constexpr int OFFSET = OFFSET_;
  static TKF_INLINE void factors(const float* scales, int, float* d, float* m) {
    *d = scales[0];
    *m = OFFSET == 0 ? scales[1] : -OFFSET * scales[0];
  }
};
template <>
struct Integers<FormatQ4_0> : Nibbles<2, false>, Offset<8> {};
template <>
struct Integers<FormatQ4_1> : Nibbles<4, false>, Offset<0> {};
template <>
struct Integers<FormatQ5_0> : Nibbles<6, true>, Offset<16> {};
template <>
struct Integers<FormatQ5_1> : Nibbles<8, true>, Offset<0> {};
template <>
struct Integers<FormatQ8_0> : Offset<128> {
  static constexpr bool KNOWN = true;
  static TKF_INLINE void unpack(const uint8_t* block, int, uint8_t* u) {
    vbytes q;
    load_bytes(block + 2, &q);
    q ^= 0x80;
    memcpy(u, &q, 32);
  }
};
template <>
struct Integers<FormatQ4_K> {
  static constexpr bool KNOWN = true;
  static TKF_INLINE void unpack(const uint8_t* block, int part, uint8_t* u) {
    vbytes pairs;
    load_bytes(block + 16 + 32 * (part / 2), &pairs);
    pairs = part & 1 ? pairs >> 4 : pairs & 15;
    memcpy(u, &pairs, 32);
  }
  static TKF_INLINE void factors(const float* scales, int part, float* d, float* m) {
    *d = scales[part];
    *m = scales[8 + part];
  }
};

// Rows of x in int16, in blocks of 32.
struct Rounded {
  int64_t k;
  int8_t *high, *low;  // [rows, k]: q = 256 * high + low
  float *d, *sum;      // [rows, k / 32]: x = d * q; d times the sum of q
};
constexpr float kMost = 127 * 256;  // the largest of a block's values

// The lowest byte of each lane.
TKF_INLINE void store_bytes(int8_t* out, vi v) {
#if TKF_LEVEL == TKF_LEVEL_AVX512
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8((__m512i)v));
#else
  for (int lane = 0; lane < W; lane++) out[lane] = static_cast<int8_t>(v[lane]);
#endif
}

// A block that holds a number that is not finite is NaN.
inline void round_row(const float* x, const Rounded& to, int64_t row) {
  for (int64_t b = 0; b < to.k / 32; b++) {
    vf v[kVectors], most = {}, poison = {};
    for (int i = 0; i < kVectors; i++) {
      v[i] = load(x + 32 * b + i * W);
      most = maximum(most, (vf)((vi)v[i] & 0x7FFFFFFF));
      poison = poison + v[i] * set1(0);  // NaN where a number is not finite, else 0
    }
    const float size = largest(most), wrong = sum(poison);
    // A factor below a float's normal range would not be exact, nor its inverse finite: such values count as 0.
    const bool none = wrong != 0.0f || size < 1e-33f;
    const float inverse = none ? 0.0f : kMost / size;
    const int64_t at = row * to.k + 32 * b;
    vi sums = {};
    for (int i = 0; i < kVectors; i++) {
      const vf magic = set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, ties to even
      // Unfused: every level rounds x to the same integers.
      const vi whole = none ? vi{} : (vi)(unfused(v[i] * set1(inverse)) + magic) - (vi)magic;
      sums += whole;
      const vi high = (whole + 128) >> 8;
      store_bytes(to.high + at + i * W, high);
      store_bytes(to.low + at + i * W, whole - (high << 8));
    }
    const float total = sum(to_float(sums));  // below 2^24: exact
    const float d = wrong != 0.0f ? __builtin_nanf("") : none ? 0.0f : size / kMost;
    to.d[row * (to.k / 32) + b] = d;
    to.sum[row * (to.k / 32) + b] = d * total;
  }
}

// Rows of weights that are multiplied together, turned about: of a block, bytes [8, kRows, 4] and factors [kRows].
constexpr int kRows = 16, kRowVectors = kRows / W, kPanelBytes = 32 * kRows;
struct Panel {
  uint8_t* u;    // [blocks, 8, kRows, 4]
  float *d, *m;  // [blocks, kRows]
};

#if TKF_LEVEL == TKF_LEVEL_AVX512
// Four dwords of each of 16 rows, in place of rows: out[i] holds dword i of all.
TKF_INLINE void turn_dwords(const uint8_t* const* rows, __m512i* out) {
  __m512i v[4];
  for (int i = 0; i < 4; i++) {
    const auto part = [&](int row) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[row])); };
    v[i] = _mm512_castsi128_si512(part(i));
    v[i] = _mm512_inserti32x4(v[i], part(i + 4), 1);
    v[i] = _mm512_inserti32x4(v[i], part(i + 8), 2);
    v[i] = _mm512_inserti32x4(v[i], part(i + 12), 3);
  }
  const __m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpacklo_epi32(v[2], v[3]);
  const __m512i c = _mm512_unpackhi_epi32(v[0], v[1]), d = _mm512_unpackhi_epi32(v[2], v[3]);
  out[0] = _mm512_unpacklo_epi64(a, b);
  out[1] = _mm512_unpackhi_epi64(a, b);
  out[2] = _mm512_unpacklo_epi64(c, d);
  out[3] = _mm512_unpackhi_epi64(c, d);
}
#endif

#if TKF_LEVEL == TKF_LEVEL_AVX512
// A dword of each of 16 rows.
TKF_INLINE __m512i load_dwords(const uint8_t* const* rows, int at) {
  int32_t v[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; r++) memcpy(&v[r], rows[r] + at, 4);
  return _mm512_setr_epi32(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11], v[12], v[13], v[14],
                           v[15]);
}

// Factors of kRows blocks that begin with them, where d is an f16, and m another or -OFFSET * d.
template <class Format>
TKF_INLINE void turn_factors(const uint8_t* const* rows, float* d, float* m) {
  const __m512i both = load_dwords(rows, 0);
  const __m512 first = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(both));
  _mm512_storeu_ps(d, first);
  constexpr int offset = Integers<Format>::OFFSET;
  if constexpr (offset == 0) _mm512_storeu_ps(m, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(both, 16))));
  else _mm512_storeu_ps(m, first * set1(-offset));
}
#endif

// Turns part `part` of the blocks at `rows` about.
template <class Format>
TKF_INLINE void turn_part(const uint8_t* const* rows, int part, uint8_t* u) {
#if TKF_LEVEL == TKF_LEVEL_AVX512
  constexpr bool nibbles = Format::VALUES == 32 && Format::BYTES <= FormatQ5_1::BYTES;  // split when turned about
  __m512i turned[8];
  if constexpr (nibbles) {
    const uint8_t* at[kRows];
    for (int r = 0; r < kRows; r++) at[r] = rows[r] + Format::BYTES - 16;
    turn_dwords(at, turned);
    const __m512i low = _mm512_set1_epi8(15);
    for (int i = 0; i < 4; i++) {
      turned[4 + i] = _mm512_and_si512(_mm512_srli_epi32(turned[i], 4), low);
      turned[i] = _mm512_and_si512(turned[i], low);
    }
    if constexpr (Format::BYTES > FormatQ4_1::BYTES) {  // a fifth bit: of each four bytes, one of 16 dwords
      __m512i bits = load_dwords(rows, Format::BYTES - 20);
      const __m512i at = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
      const __m512i spread = _mm512_mullo_epi32(at, _mm512_set1_epi32(0x00204081));
      const __m512i fifth = _mm512_slli_epi32(_mm512_and_si512(spread, _mm512_set1_epi32(0x01010101)), 4);
      for (int i = 0; i < 8; i++, bits = _mm512_srli_epi32(bits, 4)) {
        turned[i] = _mm512_or_si512(turned[i], _mm512_permutexvar_epi32(bits, fifth));
      }
    }
  } else {
    uint8_t bytes[kRows][32];
    const uint8_t *first[kRows], *second[kRows];
    for (int r = 0; r < kRows; r++) {
      Integers<Format>::unpack(rows[r], part, bytes[r]);
      first[r] = bytes[r];
      second[r] = bytes[r] + 16;
    }
    turn_dwords(first, turned);
    turn_dwords(second, turned + 4);
  }
  for (int i = 0; i < 8; i++) _mm512_store_si512(u + 64 * i, turned[i]);
#else
  for (int r = 0; r < kRows; r++) {
    uint32_t dwords[8];
    Integers<Format>::unpack(rows[r], part, reinterpret_cast<uint8_t*>(dwords));
    for (int i = 0; i < 8; i++) memcpy(u + (i * kRows + r) * 4, &dwords[i], 4);
  }
#endif
}

// Values of rows of weights that are turned about at once, whole blocks of every format, and parts of blocks of them.
constexpr int kPiece = 512, kPieceParts = kPiece / 32;

// kRows rows of weights, of which `valid` are there, turned about piece by piece: body(part, parts, panel) for some parts
// of blocks from `part` on, which lie at place(part). A row that is not there is the first one again, to no effect.
template <class Format, class Place, class Body>
static TKF_INLINE void turn_rows(const uint8_t* weight, int valid, int64_t k, Place&& place, Body&& body) {
  constexpr int parts = Format::VALUES / 32, most = kPiece / Format::VALUES;
  const int64_t bytes = row_bytes<Format>(k), blocks = k / Format::VALUES;
  const uint8_t* row[kRows];
  for (int r = 0; r < kRows; r++) row[r] = r < valid ? weight + r * bytes : weight;
  const uintptr_t later = ahead_of(weight, kRows * bytes);
  for (int64_t first = 0; first < blocks; first += most) {
    const int count = static_cast<int>(smaller(blocks - first, int64_t{most}));
    const Panel to = place(first * parts);
    constexpr bool leading = TKF_LEVEL == TKF_LEVEL_AVX512 && parts == 1;  // factors are turned about with the rest
    for (int r = 0; r < (leading ? 0 : kRows); r++) {
      float scales[most * larger(Format::SCALES, 1)];
      Format::prepare(row[r] + first * Format::BYTES, count, scales);
      for (int i = 0; i < count * parts; i++) {
        const int at = i * kRows + r;
        Integers<Format>::factors(scales + i / parts * Format::SCALES, i % parts, to.d + at, to.m + at);
      }
    }
    for (int b = 0; b < count; b++) {
      const uint8_t* block[kRows];
      for (int r = 0; r < kRows; r++) block[r] = row[r] + (first + b) * Format::BYTES;
      prefetch_lines<kRows * Format::BYTES>(later + static_cast<uintptr_t>((first + b) * kRows * Format::BYTES));
#if TKF_LEVEL == TKF_LEVEL_AVX512
      if constexpr (leading) turn_factors<Format>(block, to.d + b * kRows, to.m + b * kRows);
#endif
      for (int part = 0; part < parts; part++) {
        turn_part<Format>(block, part, to.u + (b * parts + part) * kPanelBytes);
      }
    }
    body(first * parts, count * parts, to);
  }
}

}  // namespace tkf::TKF_NAMESPACE::int16

// The products themselves, without VNNI and with it.
#define TKF_PRODUCTS plain
#include "int16_tile.h"
#undef TKF_PRODUCTS
#if TKF_LEVEL == TKF_LEVEL_AVX512
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512vnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512vnni")
#endif
#define TKF_PRODUCTS vnni
#define TKF_VNNI
#include "int16_tile.h"
#undef TKF_VNNI
#undef TKF_PRODUCTS
#include "int16_few.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
