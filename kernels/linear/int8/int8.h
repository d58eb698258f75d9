// Products in int8: x is rounded to bytes, once per row and block of 32 values; bytes of weights are as they are stored.
// A lane is a row of weights, and what blocks give is added in the order of the blocks, each product and each sum of floats
// rounded by itself: whatever the vectors, threads and rows, a result has the same bits.
//
// A unit defines TKF_INT8, the namespace of what it compiles, and TKF_INT8_DOTS: whether the processor adds the four
// products of two words of bytes to a sum by one instruction (VNNI; dot products of arm64).
#pragma once
#include "../../common/lanes.h"
#include "../by_format.h"
#include "dots.h"
#include "../pack_columns.h"

namespace tkf::TKF_NAMESPACE::TKF_INT8 {

// Weights of a format: their bytes minus OFFSET, times d, plus m with LEAST; d and m belong to GROUP values. STEPS: words
// whose sums of pairs of products fit 16 bits.
template <int OFFSET_, int STEPS_, bool LEAST_ = false, int GROUP_ = 32, bool SIGNED_ = false>
struct Bytes {
  static constexpr bool KNOWN = true, LEAST = LEAST_, SIGNED = SIGNED_;
  static constexpr int OFFSET = OFFSET_, STEPS = STEPS_, GROUP = GROUP_, WORDS = GROUP / 4;
  // Vectors of a group of a panel: its words, d, and m.
  static constexpr int VECTORS = WORDS * kPieces + 1 + LEAST;
};
struct Unknown {
  static constexpr bool KNOWN = false;
};
template <class Format>
struct Of : Unknown {};
template <>
struct Of<FormatQ4_0> : Bytes<8, 8> {};
template <>
struct Of<FormatQ4_1> : Bytes<0, 8, true> {};
template <>
struct Of<FormatQ8_0> : Bytes<kSignedBytes ? 0 : 128, 1, false, 32, kSignedBytes> {};
template <>
struct Of<FormatQ4_K> : Bytes<0, 8, true> {};
template <>
struct Of<FormatQ5_K> : Bytes<0, 4, true> {};
template <>
struct Of<FormatQ6_K> : Bytes<32, 2, false, 16> {};

// Rounded activations ---------------------------------------------------------------------------------------------------

// 32 values of a row of x, as bytes q; values are d*q. `least`: d times their sum; `bias`: the sums of both halves, or of all
// and 0, times what the bytes of weights have too much.
struct Block {
  int32_t words[8 * kPieces];
  float d, least;
  int32_t bias[2];
};

// Rounds to nearest, ties to even. A block with a value that is not finite is NaN.
template <class Own>
static TKF_INLINE void round_block(const float* x, Block* to) {
  constexpr int half = kVectors / 2;
  vf v[kVectors];
  vi most = {};
  for (int i = 0; i < kVectors; i++) {
    v[i] = load(x + i * W);
    const vi size = (vi)v[i] & 0x7FFFFFFF;
    most = size > most ? size : most;
  }
  int32_t lanes[W], bits = 0;
  memcpy(lanes, &most, sizeof lanes);
  for (int i = 0; i < W; i++) bits = larger(bits, lanes[i]);
  if (bits < 0x0D800000 || bits >= 0x7F800000) {  // below 2^-100
    *to = {};
    if (bits >= 0x7F800000) to->d = to->least = bits_to_float(0x7FC00000u);
    return;
  }
  const float size = bits_to_float(static_cast<uint32_t>(bits));
  const vf magic = set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  vi sums[2] = {};
  for (int i = 0; i < kVectors; i++) {
    const vi q = (vi)(v[i] * set1(127 / size) + magic) - (vi)magic;
    sums[i / half] += q;
    store_rounded(q, i, to->words);
  }
  int32_t sum[2] = {};
  for (int i = 0; i < 2; i++) {
    memcpy(lanes, &sums[i], sizeof lanes);
    for (int lane = 0; lane < W; lane++) sum[i] += lanes[lane];
  }
  to->d = size / 127;
  to->least = to->d * static_cast<float>(sum[0] + sum[1]);
  const bool whole = Own::GROUP == 32;
  to->bias[0] = -Own::OFFSET * (whole ? sum[0] + sum[1] : sum[0]);
  to->bias[1] = whole ? 0 : -Own::OFFSET * sum[1];
}

// Weights --------------------------------------------------------------------------------------------------------------

// 16 bytes of each of W rows: word j of row r in lane r of words[j].
TKF_INLINE void load_words(const uint8_t* const* row, int64_t at, vi* words) {
#if TKF_LEVEL == TKF_LEVEL_AVX512
  transpose_words(row, at, reinterpret_cast<__m512i*>(words));
#elif TKF_LEVEL == TKF_LEVEL_AVX2
  __m256i v[4];
#pragma GCC unroll 4
  for (int r = 0; r < 4; r++) {
    const auto half = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row[i] + at)); };
    v[r] = _mm256_inserti128_si256(_mm256_castsi128_si256(half(r)), half(r + 4), 1);
  }
  const __m256i a = _mm256_unpacklo_epi32(v[0], v[1]), b = _mm256_unpacklo_epi32(v[2], v[3]);
  const __m256i c = _mm256_unpackhi_epi32(v[0], v[1]), d = _mm256_unpackhi_epi32(v[2], v[3]);
  words[0] = (vi)_mm256_unpacklo_epi64(a, b);
  words[1] = (vi)_mm256_unpackhi_epi64(a, b);
  words[2] = (vi)_mm256_unpacklo_epi64(c, d);
  words[3] = (vi)_mm256_unpackhi_epi64(c, d);
#else
  vf v[W];
  for (int r = 0; r < W; r++) memcpy(&v[r], row[r] + at, 16);
  transpose(v);
  for (int j = 0; j < 4; j++) words[j] = (vi)v[j];
#endif
}

// The words at `at` of W rows, and the f16 numbers in their low halves.
TKF_INLINE vi leading(const uint8_t* const* row, int64_t at) {
#if TKF_LEVEL == TKF_LEVEL_AVX512
  return (vi)leading_words(row, at);
#else
  vi v;
#pragma GCC unroll 8
  for (int r = 0; r < W; r++) {
    int32_t word;
    memcpy(&word, row[r] + at, 4);
    v[r] = word;
  }
  return v;
#endif
}
TKF_INLINE vf halves(vi words) {
#if TKF_LEVEL == TKF_LEVEL_AVX512
  return low_halves((__m512i)words);
#elif TKF_LEVEL == TKF_LEVEL_AVX2
  const __m256i low = (__m256i)(words & 0xFFFF), packed = _mm256_packus_epi32(low, low);
  return _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
#else
  const vi bits = ((words << 16) >> 3) & static_cast<int32_t>(0x8FFFE000);
  return (vf)((vi)((vf)bits * 0x1p112f) | (((bits & 0x0F800000) == 0x0F800000) & 0x7F800000));
#endif
}

constexpr int32_t kNibbles = 0x0F0F0F0F;

// unpack(): a block of each of W rows, at byte `at`. emit(group, words, d, m) gets its groups in their order.
template <class Emit>
TKF_INLINE void emit_nibbles(const uint8_t* const* row, int64_t at, vf d, vf m, Emit&& emit) {
  vi pairs[4], words[8];
  load_words(row, at, pairs);
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) words[j] = pairs[j] & kNibbles, words[4 + j] = (pairs[j] >> 4) & kNibbles;
  emit(0, words, d, m);
}
template <class Emit>
TKF_INLINE void unpack(FormatQ4_0, const uint8_t* const* row, int64_t at, Emit&& emit) {
  emit_nibbles(row, at + 2, halves(leading(row, at)), set1(0), emit);
}
template <class Emit>
TKF_INLINE void unpack(FormatQ4_1, const uint8_t* const* row, int64_t at, Emit&& emit) {
  const vi heads = leading(row, at);
  emit_nibbles(row, at + 4, halves(heads), halves(heads >> 16), emit);
}
template <class Emit>
TKF_INLINE void unpack(FormatQ8_0, const uint8_t* const* row, int64_t at, Emit&& emit) {
  vi words[8];
  load_words(row, at + 2, words);
  load_words(row, at + 18, words + 4);
  if constexpr (!kSignedBytes) {
    for (int j = 0; j < 8; j++) words[j] ^= static_cast<int32_t>(0x80808080);
  }
  emit(0, words, halves(leading(row, at)), set1(0));
}

// The 16 scales of a block of 256, or its 8 scales and 8 minima, each in a vector.
template <int BYTES>
TKF_INLINE void load_scales(SixBitScales<BYTES>, const uint8_t* const* row, int64_t at, vf* scales) {
  vi words[4], bytes[4];
  load_words(row, at, words);
  spread_six_bits(words + 1, bytes);
  const vf d = halves(words[0]), m = -halves(words[0] >> 16);
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) scales[i] = to_float((bytes[i / 4] >> (8 * (i % 4))) & 0xFF) * (i < 8 ? d : m);
}
TKF_INLINE void load_scales(FormatQ6_K, const uint8_t* const* row, int64_t at, vf* scales) {
  vi words[4], last[4];
  load_words(row, at + 192, words);
  load_words(row, at + 194, last);
  const vf d = halves(last[3] >> 16);
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) scales[i] = to_float((words[i / 4] << (24 - 8 * (i % 4))) >> 24) * d;
}
// Nibbles of which 32 bytes hold a part, then the next one; fifth bits, where `high` >= 0 is their place.
template <class Format, class Emit>
TKF_INLINE void emit_parts(const uint8_t* const* row, int64_t at, int64_t nibbles, int64_t high, Emit&& emit) {
  vf scales[16];
  vi fifth[8] = {};
  load_scales(Format(), row, at, scales);
  if (high >= 0) load_words(row, at + high, fifth), load_words(row, at + high + 16, fifth + 4);
  for (int part = 0; part < 8; part += 2) {
    vi pairs[8], words[8];
    load_words(row, at + nibbles + 16 * part, pairs);
    load_words(row, at + nibbles + 16 * part + 16, pairs + 4);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
#pragma GCC unroll 8
      for (int j = 0; j < 8; j++) {
        words[j] = (pairs[j] >> (4 * i)) & kNibbles;
        if (high >= 0) words[j] |= ((fifth[j] >> (part + i)) & 0x01010101) << 4;
      }
      emit(part + i, words, scales[part + i], scales[8 + part + i]);
    }
  }
}
template <class Emit>
TKF_INLINE void unpack(FormatQ4_K, const uint8_t* const* row, int64_t at, Emit&& emit) {
  emit_parts<FormatQ4_K>(row, at, 16, -1, emit);
}
template <class Emit>
TKF_INLINE void unpack(FormatQ5_K, const uint8_t* const* row, int64_t at, Emit&& emit) {
  emit_parts<FormatQ5_K>(row, at, 48, 16, emit);
}
template <class Emit>
TKF_INLINE void unpack(FormatQ6_K, const uint8_t* const* row, int64_t at, Emit&& emit) {
  vf scales[16];
  load_scales(FormatQ6_K(), row, at, scales);
  for (int half = 0; half < 2; half++) {
    vi low[4][4], high[2][4];  // 16 bytes each
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) load_words(row, at + 64 * half + 16 * i, low[i]);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) load_words(row, at + 128 + 32 * half + 16 * i, high[i]);
#ifdef __wasm__  // a file that browsers fetch stays small
#pragma GCC unroll 1
#else
#pragma GCC unroll 8
#endif
    for (int part = 0; part < 8; part++) {
      const int quarter = part / 2, side = part % 2;
      vi words[4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; j++) {
        const vi four = low[quarter % 2 * 2 + side][j] >> (quarter < 2 ? 0 : 4), two = high[side][j] >> (2 * quarter);
        words[j] = (four & kNibbles) | ((two & 0x03030303) << 4);
      }
      emit(8 * half + part, words, scales[8 * half + part], set1(0));
    }
  }
}

// Products -------------------------------------------------------------------------------------------------------------

// M rows of x, blocks of which lie side by side, times N vectors of rows of weights: adds what a group gives to sums.
// word(j, i): word j of vector i; d and m are theirs.
template <class Own, int M, int N, class Word>
TKF_INLINE void add_group(const Block* x, int group, Word&& word, const vf* d, const vf* m, vf (&sums)[M][N]) {
  vi dots[M][N];
  dots_of<Own>(x, Own::GROUP == 16 ? group % 2 : 0, word, dots);
#pragma GCC unroll 16
  for (int r = 0; r < M; r++) {
#pragma GCC unroll 2
    for (int i = 0; i < N; i++) {
      sums[r][i] = sums[r][i] + to_float(dots[r][i]) * (d[i] * set1(x[r].d));
      if (Own::LEAST) sums[r][i] = sums[r][i] + m[i] * set1(x[r].least);
    }
  }
}

template <int M, int N>
TKF_INLINE void store_sums(const vf (&sums)[M][N], int columns, float* out, int64_t n) {
#pragma GCC unroll 16
  for (int r = 0; r < M; r++) {
#pragma GCC unroll 2
    for (int i = 0; i < N; i++) {
      if (columns >= (i + 1) * W) store(out + r * n + i * W, sums[r][i]);
      else if (columns > i * W) store_part(out + r * n + i * W, sums[r][i], columns - i * W);
    }
  }
}

// The rows of weights of a vector; a missing one is the first one again, to no effect.
TKF_INLINE void find_rows(const uint8_t* weight, int64_t bytes, int valid, const uint8_t** row) {
  for (int r = 0; r < W; r++) row[r] = weight + (r < valid ? r : 0) * bytes;
}

// Few rows of x: weights are unpacked in registers.
constexpr int kFew = 4;
template <class Format, int M>
static void multiply_few(int rows, const Block* x, const uint8_t* weight, int valid, int64_t k, float* out, int64_t n) {
  if constexpr (M > 1) {
    if (rows < M) return multiply_few<Format, M - 1>(rows, x, weight, valid, k, out, n);
  }
  using Own = Of<Format>;
  const int64_t bytes = row_bytes<Format>(k), blocks = k / Format::VALUES;
  const uint8_t* row[W];
  find_rows(weight, bytes, valid, row);
  vf sums[M][1] = {};
  const uintptr_t later = ahead_of(weight, W * bytes);
  for (int64_t block = 0; block < blocks; block++) {
    prefetch_lines<W * Format::BYTES>(later + static_cast<uintptr_t>(block * W * Format::BYTES));
    const Block* const own = x + block * (Format::VALUES / 32) * M;
    unpack(Format(), row, block * Format::BYTES, [&](int group, const vi* words, vf d, vf m) TKF_LAMBDA {
      vi pieces[Own::WORDS * kPieces];
      cut_words<Own::WORDS>(words, pieces);
      add_group<Own, M, 1>(own + group * Own::GROUP / 32 * M, group, [&](int j, int) { return pieces[j]; }, &d, &m, sums);
    });
  }
  store_sums(sums, valid, out, n);
}

// Many rows: kTogether vectors of rows of weights are unpacked, a panel after the other.
constexpr int kTogether = 2;
template <class Format>
static void pack(const uint8_t* const* row, int64_t k, vi* to) {
  using Own = Of<Format>;
  for (int64_t block = 0; block < k / Format::VALUES; block++) {
    unpack(Format(), row, block * Format::BYTES, [&](int, const vi* words, vf d, vf m) TKF_LAMBDA {
      cut_words<Own::WORDS>(words, to);
      to[Own::WORDS * kPieces] = (vi)d;
      if (Own::LEAST) to[Own::VECTORS - 1] = (vi)m;
      to += Own::VECTORS;
    });
  }
}

template <class Format, int M>
static void multiply_panel(int rows, const Block* x, const vi* panel, int64_t size, int columns, int64_t k, float* out,
                           int64_t n) {
  if constexpr (M > 1) {
    if (rows < M) return multiply_panel<Format, M - 1>(rows, x, panel, size, columns, k, out, n);
  }
  using Own = Of<Format>;
  constexpr int N = kTogether;
  vf sums[M][N] = {};
  for (int64_t block = 0; block < k / 32; block++, x += M) {
#pragma GCC unroll 2
    for (int group = 0; group < 32 / Own::GROUP; group++, panel += Own::VECTORS) {
      vf d[N], m[N];
      for (int i = 0; i < N; i++) {
        d[i] = (vf)panel[i * size + Own::WORDS * kPieces];
        m[i] = (vf)panel[i * size + Own::VECTORS - 1];
      }
      add_group<Own, M, N>(x, group, [&](int j, int i) { return panel[i * size + j]; }, d, m, sums);
    }
  }
  store_sums(sums, columns, out, n);
}

template <class Format>
static int32_t products(tkf_context* context, const float* x, const ProductList& list, int64_t rows, int64_t k) {
  using Own = Of<Format>;
  const bool few = rows <= kFew;
  const int64_t blocks = k / 32, size = k / Own::GROUP * Own::VECTORS, bytes = row_bytes<Format>(k);
  const size_t panel = few ? 0 : static_cast<size_t>(kTogether * size) * sizeof(vi);
  if (!context_reserve(context, panel, static_cast<size_t>(rows * blocks) * sizeof(Block))) return TKF_STATUS_MEMORY;
  // Tiles of about as many rows, at most kTileRows; a tile has its rows' blocks side by side.
  Block* const rounded = static_cast<Block*>(context_shared(context));
  const int64_t most = few ? kFew : kTileRows, tiles = (rows + most - 1) / most;
  const auto first_of = [&](int64_t tile) { return rows * tile / tiles; };
  parallel_ranges(context, tiles, 65536 / larger(k * most, int64_t{1}), [&](int64_t begin, int64_t end, int) {
    for (int64_t tile = begin; tile < end; tile++) {
      const int64_t first = first_of(tile), count = first_of(tile + 1) - first;
      for (int64_t at = 0; at < blocks * count; at++) {
        round_block<Own>(x + (first + at % count) * k + at / count * 32, rounded + first * blocks + at);
      }
    }
  });
  if (few) {
    const int64_t grain = 65536 / larger(W * k * rows, int64_t{1});
    parallel_products(context, list, W, grain, [&](const tkf_product& p, int64_t begin, int64_t end, int) {
      for (int64_t j = begin * W; j < smaller(end * W, p.n); j += W) {
        multiply_few<Format, kFew>(static_cast<int>(rows), rounded, as<uint8_t>(p.weight) + j * bytes,
                                   static_cast<int>(smaller(p.n - j, int64_t{W})), k, as<float>(p.out) + j, p.n);
      }
    });
    return TKF_STATUS_OK;
  }
  constexpr int wide = kTogether * W;
  parallel_products(context, list, wide, 1, [&](const tkf_product& p, int64_t begin, int64_t end, int thread) {
    vi* const packed = static_cast<vi*>(context_scratch(context, thread));
    for (int64_t j = begin * wide; j < smaller(end * wide, p.n); j += wide) {
      const int columns = static_cast<int>(smaller(p.n - j, int64_t{wide}));
      for (int i = 0; i < kTogether; i++) {
        const uint8_t* row[W];
        const int valid = columns - i * W;
        find_rows(as<uint8_t>(p.weight) + (valid > 0 ? j + i * W : j) * bytes, bytes, valid, row);
        pack<Format>(row, k, packed + i * size);
      }
      for (int64_t tile = 0; tile < tiles; tile++) {
        const int64_t first = first_of(tile);
        multiply_panel<Format, kTileRows>(static_cast<int>(first_of(tile + 1) - first), rounded + first * blocks, packed,
                                          size, columns, k, as<float>(p.out) + first * p.n + j, p.n);
      }
    }
  });
  return TKF_STATUS_OK;
}

int32_t multiply(tkf_context* context, const float* x, const ProductList& list, int64_t rows, int64_t k) {
  int32_t status = TKF_STATUS_UNSUPPORTED;
  with_format(list.at[0]->dtype, [&](auto format) {
    using Format = decltype(format);
    if constexpr (Of<Format>::KNOWN) status = products<Format>(context, x, list, rows, k);
  });
  return status;
}

}  // namespace tkf::TKF_NAMESPACE::TKF_INT8
