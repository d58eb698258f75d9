// Element types of weights, 32 values at a time: how each is laid out (as in GGUF) and made float.
// A `Format` has VALUES and BYTES of one block; prepare(blocks, count, scales) makes the scales of up to CHUNK blocks,
// SCALES floats each; and decode(block, scales, part, w) the values 32*part .. 32*part+31 of one, into w[32 / W].
// A dense format counts as blocks of 32; what is left at the end of a row goes through `scalar`.
#pragma once
#include "simd.h"

namespace tkf::TKF_NAMESPACE {

constexpr int kVectors = 32 / W;  // vectors of one part

typedef uint8_t vbytes __attribute__((vector_size(32), may_alias));  // 32 bytes
TKF_INLINE void load_bytes(const void* p, vbytes* v) { memcpy(v, p, sizeof *v); }

// Dense formats have no scales.
struct NoScales {
  static constexpr int SCALES = 0;
  static TKF_INLINE void prepare(const uint8_t*, int, float*) {}
};

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

template <class Type>
struct DenseFormat : NoScales {
  using Value = typename Type::Value;
  static constexpr int VALUES = 32, BYTES = 32 * sizeof(Value);
  static constexpr bool DENSE = true;
  static TKF_INLINE void decode(const uint8_t* block, const float*, int, vf* w) {
    for (int i = 0; i < kVectors; i++) w[i] = Type::load(reinterpret_cast<const Value*>(block) + i * W);
  }
  static TKF_INLINE float scalar(const uint8_t* p) { return Type::one(reinterpret_cast<const Value*>(p)); }
};
using FormatF32 = DenseFormat<F32>;

// d*q: d f16, q i8[32].
struct FormatQ8_0 : LeadingScales<34> {
  static TKF_INLINE void decode(const uint8_t* block, const float* scales, int, vf* w) {
    const vf d = set1(scales[0]);
    for (int i = 0; i < kVectors; i++) w[i] = to_float(load_i8(block + 2 + W * i)) * d;
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

// d*(scale - 32)*number(q): d f16, high pairs of bits of 8 scales u16, their low nibbles, nibbles.
struct FormatIQ4_XS {
  static constexpr int VALUES = 256, BYTES = 136, SCALES = W > 8 ? W : 8;
  static constexpr bool DENSE = false;
  static TKF_INLINE void prepare(const uint8_t* blocks, int count, float* scales) {
    for (int i = 0; i < count; i++) {
      const uint8_t* block = blocks + BYTES * i;
      int32_t low;
      memcpy(&low, block + 4, sizeof low);
      const vf d = set1(f16_to_float(read_u16(block)));
      const vi high = set1_int(read_u16(block + 2));
      for (int first = 0; first < 8; first += W) {
        const vi part = (lane_numbers() + first) & 7;
        const vi scale = ((set1_int(low) >> (4 * part)) & 15) | (((high >> (2 * part)) & 3) << 4);
        store(scales + SCALES * i + first, to_float(scale - 32) * d);
      }
    }
  }
  static TKF_INLINE void decode(const uint8_t* block, const float* scales, int part, vf* w) {
    decode_numbers(kIq4, block + 8 + 16 * part, scales[part], w);
  }
};

// One bit of each lane, at another place.
TKF_INLINE vi moved_bit(vi v, int from, int to) {
  return (from < to ? v << (to - from) : v >> (from - to)) & (1 << to);
}

// 16 bytes as floats, the first 8 times d and the others times m.
TKF_INLINE void store_bytes(const uint32_t (&bytes)[4], float d, float m, float* to) {
#if TKF_LEVEL > TKF_LEVEL_BASE
  // Straight from registers: a vector load right after narrow stores would wait for them.
  const __m128i packed = _mm_setr_epi32(static_cast<int>(bytes[0]), static_cast<int>(bytes[1]),
                                        static_cast<int>(bytes[2]), static_cast<int>(bytes[3]));
  const __m256 first = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(packed));
  const __m256 second = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(packed, packed)));
  _mm256_storeu_ps(to, first * _mm256_set1_ps(d));
  _mm256_storeu_ps(to + 8, second * _mm256_set1_ps(m));
#else
  uint8_t packed[16];
  memcpy(packed, bytes, sizeof packed);
  for (int i = 0; i < 16; i += W) store(to + i, to_float(load_u8(packed + i)) * set1(i < 8 ? d : m));
#endif
}

// d*scale*q - dmin*min: 16 scales and minima of 4 bits side by side, pairs of bits u8[64], d, dmin f16.
struct FormatQ2_K {
  static constexpr int VALUES = 256, BYTES = 84, SCALES = 32;
  static constexpr bool DENSE = false;
  static TKF_INLINE void prepare(const uint8_t* blocks, int count, float* scales) {
    for (int i = 0; i < count; i++, scales += SCALES) {
      const uint8_t* block = blocks + BYTES * i;
      const vf d = set1(f16_to_float(read_u16(block + 80))), m = set1(-f16_to_float(read_u16(block + 82)));
      for (int at = 0; at < 16; at += W) {
        const vi both = load_u8(block + at);
        store(scales + at, to_float(both & 15) * d);
        store(scales + 16 + at, to_float(both >> 4) * m);
      }
    }
  }
  static TKF_INLINE void decode(const uint8_t* block, const float* scales, int part, vf* w) {
    const uint8_t* bytes = block + 16 + 32 * (part / 4);
    for (int i = 0; i < kVectors; i++) {
      const int at = 2 * part + i / (kVectors / 2);
      w[i] = fma(to_float((load_u8(bytes + W * i) >> (2 * (part % 4))) & 3), set1(scales[at]), set1(scales[16 + at]));
    }
  }
};

// d*(scale - 32)*(q - 4): third bits u8[32], pairs of bits u8[64], 16 scales of 6 bits in 12 bytes, d f16.
struct FormatQ3_K {
  static constexpr int VALUES = 256, BYTES = 110, SCALES = 16;
  static constexpr bool DENSE = false;
  static TKF_INLINE void prepare(const uint8_t* blocks, int count, float* scales) {
    for (int i = 0; i < count; i++, scales += SCALES) {
      // Low nibbles of scales 0-7 and 8-15 in bytes 0-7; four pairs of high bits in each of bytes 8-11.
      uint32_t s[3];
      memcpy(s, blocks + BYTES * i + 96, sizeof s);
      const uint32_t bytes[4] = {
          (s[0] & 0x0F0F0F0Fu) | ((s[2] << 4) & 0x30303030u), (s[1] & 0x0F0F0F0Fu) | ((s[2] << 2) & 0x30303030u),
          ((s[0] >> 4) & 0x0F0F0F0Fu) | (s[2] & 0x30303030u), ((s[1] >> 4) & 0x0F0F0F0Fu) | ((s[2] >> 2) & 0x30303030u)};
      const float d = f16_to_float(read_u16(blocks + BYTES * i + 108));
      store_bytes(bytes, d, d, scales);
      for (int at = 0; at < 16; at += W) store(scales + at, load(scales + at) - set1(32 * d));
    }
  }
  static TKF_INLINE void decode(const uint8_t* block, const float* scales, int part, vf* w) {
    const uint8_t* bytes = block + 32 + 32 * (part / 4);
    for (int i = 0; i < kVectors; i++) {
      const vf d = set1(scales[2 * part + i / (kVectors / 2)]);
      const vi low = load_u8(bytes + W * i) >> (2 * (part % 4));
      w[i] = to_float(((low & 3) | moved_bit(load_u8(block + W * i), part, 2)) - 4) * d;
    }
  }
};

// Two f16 numbers, and 8 scales and 8 minima of 6 bits in 12 bytes.
template <int BLOCK_BYTES>
struct SixBitScales {
  static constexpr int VALUES = 256, BYTES = BLOCK_BYTES, SCALES = 16;
  static constexpr bool DENSE = false;
  // Scales first, then minima. Bytes 0-3 and 4-7 hold scales and minima 0-3 in their low six bits, and above those the
  // high two bits of 4-7, whose low four bits are the nibbles of bytes 8-11.
  static TKF_INLINE void prepare_one(const uint8_t* block, float* scales) {
    uint32_t s[3];
    memcpy(s, block + 4, sizeof s);
    const uint32_t bytes[4] = {s[0] & 0x3F3F3F3Fu, (s[2] & 0x0F0F0F0Fu) | ((s[0] >> 2) & 0x30303030u),
                               s[1] & 0x3F3F3F3Fu, ((s[2] >> 4) & 0x0F0F0F0Fu) | ((s[1] >> 2) & 0x30303030u)};
    store_bytes(bytes, f16_to_float(read_u16(block)), -f16_to_float(read_u16(block + 2)), scales);
  }
  static TKF_INLINE void prepare(const uint8_t* blocks, int count, float* scales) {
    for (int i = 0; i < count; i++) prepare_one(blocks + BYTES * i, scales + SCALES * i);
  }
};

// d*scale*q - dmin*min: d, dmin f16; scales and minima; nibbles, where 32 bytes hold a part in their low halves and the
// next part in their high halves.
struct FormatQ4_K : SixBitScales<144> {
  static TKF_INLINE void decode(const uint8_t* block, const float* scales, int part, vf* w) {
    const uint8_t* bytes = block + 16 + 32 * (part / 2);
    const vf d = set1(scales[part]), m = set1(scales[8 + part]);
    for (int i = 0; i < kVectors; i++) {
#if TKF_LEVEL == TKF_LEVEL_AVX512
      const __m512 numbers = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
      const vi pairs = load_u8(bytes + W * i);
      w[i] = _mm512_permutexvar_ps((__m512i)(part & 1 ? pairs >> 4 : pairs), fma(numbers, d, m));
#else
      w[i] = fma(to_float((load_u8(bytes + W * i) >> (4 * (part & 1))) & 15), d, m);
#endif
    }
  }
};

// The same with fifth bits u8[32] before the nibbles: bit `part` of a byte belongs to that part.
struct FormatQ5_K : SixBitScales<176> {
  static TKF_INLINE void decode(const uint8_t* block, const float* scales, int part, vf* w) {
    const uint8_t* bytes = block + 48 + 32 * (part / 2);
    for (int i = 0; i < kVectors; i++) {
      const vi low = load_u8(bytes + W * i) >> (4 * (part & 1));
      const vi q = (low & 15) | moved_bit(load_u8(block + 16 + W * i), part, 4);
      w[i] = fma(to_float(q), set1(scales[part]), set1(scales[8 + part]));
    }
  }
};

// d*scale*(q - 32): low nibbles u8[128], two high bits u8[64], 16 scales i8, d f16.
struct FormatQ6_K {
  static constexpr int VALUES = 256, BYTES = 210, SCALES = 16;
  static constexpr bool DENSE = false;
  static TKF_INLINE void prepare_one(const uint8_t* block, float* scales) {
    const vf d = set1(f16_to_float(read_u16(block + 208)));
    for (int i = 0; i < 16; i += W) store(scales + i, to_float(load_i8(block + 192 + i)) * d);
  }
  static TKF_INLINE void prepare(const uint8_t* blocks, int count, float* scales) {
    for (int i = 0; i < count; i++) prepare_one(blocks + BYTES * i, scales + SCALES * i);
  }
  static TKF_INLINE void decode(const uint8_t* block, const float* scales, int part, vf* w) {
    const int half = part / 4, quarter = part % 4;
    vbytes low, high;
    load_bytes(block + 64 * half + 32 * (quarter & 1), &low);
    load_bytes(block + 128 + 32 * half, &high);
    low = quarter < 2 ? low & 15 : low >> 4;
    const vbytes top = quarter == 0 ? high << 4 : quarter == 1 ? high << 2 : quarter == 2 ? high : high >> 2;
    const vbytes all = (low | (top & 48)) - 32;
    for (int i = 0; i < kVectors; i++) {
      w[i] = to_float(load_i8(reinterpret_cast<const uint8_t*>(&all) + W * i)) *
             set1(scales[2 * part + i / (kVectors / 2)]);
    }
  }
};

// Calls body(Format()) with the format of an element type that was checked before.
template <class F>
TKF_INLINE void with_format(int dtype, F&& body) {
  switch (dtype) {
    case TKF_DTYPE_F32: body(FormatF32()); break;
    case TKF_DTYPE_F16: body(DenseFormat<F16>()); break;
    case TKF_DTYPE_BF16: body(DenseFormat<Bf16>()); break;
#define TKF_CASE(name, values, bytes)                                                                             \
  case TKF_DTYPE_##name:                                                                                        \
    static_assert(Format##name::VALUES == values && Format##name::BYTES == bytes, "as the list of types says"); \
    body(Format##name());                                                                                       \
    break;
    TKF_BLOCK_TYPES(TKF_CASE)
#undef TKF_CASE
    default: break;
  }
}

// Blocks whose scales are made at once: 2048 values; and room for those scales.
template <class Format>
constexpr int kChunk = 2048 / Format::VALUES;
template <class Format>
constexpr int kChunkScales = Format::SCALES == 0 ? 1 : kChunk<Format> * Format::SCALES;

// Bytes of one row of k values.
template <class Format>
TKF_INLINE int64_t row_bytes(int64_t k) {
  return Format::DENSE ? k * (Format::BYTES / 32) : k / Format::VALUES * Format::BYTES;
}

// One row of k values as floats.
template <class Format>
static void decode_row(const uint8_t* row, int64_t k, float* out) {
  constexpr int parts = Format::VALUES / 32;
  const int64_t blocks = k / Format::VALUES;
  for (int64_t chunk = 0; chunk < blocks; chunk += kChunk<Format>) {
    const int count = static_cast<int>(smaller(blocks - chunk, int64_t{kChunk<Format>}));
    float scales[kChunkScales<Format>];
    Format::prepare(row + chunk * Format::BYTES, count, scales);
    for (int b = 0; b < count; b++) {
      for (int part = 0; part < parts; part++) {
        vf w[kVectors];
        Format::decode(row + (chunk + b) * Format::BYTES, scales + b * Format::SCALES, part, w);
        for (int i = 0; i < kVectors; i++) store(out + (chunk + b) * Format::VALUES + 32 * part + W * i, w[i]);
      }
    }
  }
  if constexpr (Format::DENSE) {
    for (int64_t i = blocks * 32; i < k; i++) out[i] = Format::scalar(row + i * (Format::BYTES / 32));
  }
}

}  // namespace tkf::TKF_NAMESPACE
