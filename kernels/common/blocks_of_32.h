// Types of weights whose blocks hold 32 values; `blocks.h` says what a format is.
#pragma once
#include "simd.h"

namespace tkf::TKF_NAMESPACE {

constexpr int kVectors = 32 / W;  // vectors of one part

// Formats whose blocks of 32 begin with one or two f16 numbers. Of the four floats made, the last two mean nothing.
template <int BLOCK_BYTES>
struct LeadingScales {
  static constexpr int VALUES = 32, BYTES = BLOCK_BYTES, SCALES = 4;
  static constexpr bool DENSE = false;
  static TKF_INLINE void prepare(const uint8_t* blocks, int count, float* scales) {
#pragma GCC unroll 4
    for (int i = 0; i < count; i++) {
#if TKF_LEVEL > TKF_LEVEL_BASE
      const __m128i halves = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(blocks + BYTES * i));
      _mm_storeu_ps(scales + 4 * i, _mm_cvtph_ps(halves));
#else
      scales[4 * i] = f16_to_float(read_u16(blocks + BYTES * i));
      scales[4 * i + 1] = f16_to_float(read_u16(blocks + BYTES * i + 2));
#endif
    }
  }
};

// d*q: d f16, q i8[32].
struct FormatQ8_0 : LeadingScales<34> {
  static TKF_INLINE void decode(const uint8_t* block, const float* scales, int, vf* w) {
    const vf d = set1(scales[0]);
#if defined(__wasm__)
    for (int i = 0; i < kVectors; i += 2) {
      const v128_t q = wasm_i16x8_load8x8(block + 2 + W * i);
      w[i] = to_float((vi)wasm_i32x4_extend_low_i16x8(q)) * d;
      w[i + 1] = to_float((vi)wasm_i32x4_extend_high_i16x8(q)) * d;
    }
#else
    for (int i = 0; i < kVectors; i++) w[i] = to_float(load_i8(block + 2 + W * i)) * d;
#endif
  }
};

// 16 bytes of two nibbles: the low ones are values 0 .. 15, the high ones 16 .. 31; each value is d*nibble + m.
TKF_INLINE void decode_nibbles(const uint8_t* bytes, float d, float m, vf* w) {
#if TKF_LEVEL == TKF_LEVEL_AVX512
  // All 16 possible values as a table; a lookup reads the lowest four bits of each lane.
  const __m512 numbers = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512 table = fma(numbers, set1(d), set1(m));
  const vi pairs = load_u8(bytes);
  w[0] = _mm512_permutexvar_ps((__m512i)pairs, table);
  w[1] = _mm512_permutexvar_ps((__m512i)(pairs >> 4), table);
#elif defined(__wasm__)
  // A swizzle makes four bytes integers that clang knows nothing of: it would convert positive ones as unsigned, for which
  // processors have no instruction.
  const v128_t pairs = wasm_v128_load(bytes);
  const v128_t halves[] = {wasm_v128_and(pairs, wasm_i8x16_splat(15)), wasm_u8x16_shr(pairs, 4)};
  v128_t four = wasm_u32x4_const(0x80808000, 0x80808001, 0x80808002, 0x80808003);
#pragma GCC unroll 4
  for (int i = 0; i < kVectors / 2; i++) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      w[i + half * kVectors / 2] = fma(to_float((vi)wasm_i8x16_swizzle(halves[half], four)), set1(d), set1(m));
    }
    four = wasm_i32x4_add(four, wasm_i32x4_splat(4));
  }
#else
  for (int i = 0; i < kVectors / 2; i++) {
    const vi pairs = load_u8(bytes + W * i);
    w[i] = fma(to_float(pairs & 15), set1(d), set1(m));
    w[i + kVectors / 2] = fma(to_float(pairs >> 4), set1(d), set1(m));
  }
#endif
}

// d*(q - 8): d f16, nibbles.
struct FormatQ4_0 : LeadingScales<18> {
  static TKF_INLINE void decode(const uint8_t* block, const float* scales, int, vf* w) {
    decode_nibbles(block + 2, scales[0], -8 * scales[0], w);
  }
};

// d*q + m: d, m f16, nibbles.
struct FormatQ4_1 : LeadingScales<20> {
  static TKF_INLINE void decode(const uint8_t* block, const float* scales, int, vf* w) {
    decode_nibbles(block + 4, scales[0], scales[1], w);
  }
};

// Nibbles with a fifth bit: bit i of `high` belongs to value i.
TKF_INLINE void decode_five_bits(const uint8_t* high_bytes, const uint8_t* bytes, float d, float m, vf* w) {
  uint32_t high;
  memcpy(&high, high_bytes, 4);
#if TKF_LEVEL == TKF_LEVEL_AVX512
  const __m512 numbers = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512 table = fma(numbers, set1(d), set1(m)), table16 = fma(numbers + set1(16), set1(d), set1(m));
  const __m512i low = (__m512i)load_u8(bytes), top = (__m512i)((vi)low >> 4);
  const auto mask0 = static_cast<__mmask16>(high), mask1 = static_cast<__mmask16>(high >> 16);
  w[0] = _mm512_mask_permutexvar_ps(_mm512_permutexvar_ps(low, table), mask0, low, table16);
  w[1] = _mm512_mask_permutexvar_ps(_mm512_permutexvar_ps(top, table), mask1, top, table16);
#else
  const vi lane_bit = set1_int(1) << lane_numbers();
  for (int i = 0; i < kVectors / 2; i++) {
    const vi pairs = load_u8(bytes + W * i);
    const vi low_bits = set1_int(static_cast<int32_t>(high >> (W * i)));
    const vi high_bits = set1_int(static_cast<int32_t>(high >> (16 + W * i)));
    const vi first = (pairs & 15) | ((vi)((low_bits & lane_bit) != 0) & 16);
    const vi second = (pairs >> 4) | ((vi)((high_bits & lane_bit) != 0) & 16);
    w[i] = fma(to_float(first), set1(d), set1(m));
    w[i + kVectors / 2] = fma(to_float(second), set1(d), set1(m));
  }
#endif
}

// d*(q - 16): d f16, high bits u32, nibbles.
struct FormatQ5_0 : LeadingScales<22> {
  static TKF_INLINE void decode(const uint8_t* block, const float* scales, int, vf* w) {
    decode_five_bits(block + 2, block + 6, scales[0], -16 * scales[0], w);
  }
};

// d*q + m: d, m f16, high bits u32, nibbles.
struct FormatQ5_1 : LeadingScales<24> {
  static TKF_INLINE void decode(const uint8_t* block, const float* scales, int, vf* w) {
    decode_five_bits(block + 4, block + 8, scales[0], scales[1], w);
  }
};

// What nibbles stand for in the IQ4 types and in MXFP4 (there twice the value).
constexpr int8_t kIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int8_t kFp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// 16 bytes of two nibbles as above; each value is d times what its nibble stands for.
TKF_INLINE void decode_numbers(const int8_t (&numbers)[16], const uint8_t* bytes, float d, vf* w) {
#if TKF_LEVEL == TKF_LEVEL_AVX512
  const vf table = to_float(load_i8(numbers)) * set1(d);
  const vi pairs = load_u8(bytes);
  w[0] = _mm512_permutexvar_ps((__m512i)pairs, table);
  w[1] = _mm512_permutexvar_ps((__m512i)(pairs >> 4), table);
#else
  int8_t q[32];
#if defined(__x86_64__)
  const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(numbers)), nibble = _mm_set1_epi8(15);
  const __m128i pairs = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  const __m128i low = _mm_and_si128(pairs, nibble), high = _mm_and_si128(_mm_srli_epi16(pairs, 4), nibble);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(q), _mm_shuffle_epi8(table, low));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(q + 16), _mm_shuffle_epi8(table, high));
#elif defined(__wasm__)
  const v128_t table = wasm_v128_load(numbers), pairs = wasm_v128_load(bytes);
  wasm_v128_store(q, wasm_i8x16_swizzle(table, wasm_v128_and(pairs, wasm_i8x16_splat(15))));
  wasm_v128_store(q + 16, wasm_i8x16_swizzle(table, wasm_u8x16_shr(pairs, 4)));
#else
  for (int i = 0; i < 16; i++) q[i] = numbers[bytes[i] & 15], q[16 + i] = numbers[bytes[i] >> 4];
#endif
  for (int i = 0; i < kVectors; i++) w[i] = to_float(load_i8(q + W * i)) * set1(d);
#endif
}

// d*number(q): d f16, nibbles.
struct FormatIQ4_NL : LeadingScales<18> {
  static TKF_INLINE void decode(const uint8_t* block, const float* scales, int, vf* w) {
    decode_numbers(kIq4, block + 2, scales[0], w);
  }
};

// 2^(e - 127)*number(q): e u8, nibbles.
struct FormatMXFP4 {
  static constexpr int VALUES = 32, BYTES = 17, SCALES = 1;
  static constexpr bool DENSE = false;
  static TKF_INLINE void prepare(const uint8_t* blocks, int count, float* scales) {
    for (int i = 0; i < count; i++) {
      const uint32_t e = blocks[BYTES * i];
      scales[i] = bits_to_float(e < 2 ? 0x200000u << e : (e - 1) << 23);  // half of it: the numbers are doubled
    }
  }
  static TKF_INLINE void decode(const uint8_t* block, const float* scales, int, vf* w) {
    decode_numbers(kFp4, block + 1, scales[0], w);
  }
};

}  // namespace tkf::TKF_NAMESPACE
