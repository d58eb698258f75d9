// Types of weights whose blocks hold 256 values, in 8 parts; `blocks.h` says what a format is.
#pragma once
#include "blocks_of_32.h"

namespace tkf::TKF_NAMESPACE {

typedef uint8_t vbytes __attribute__((vector_size(32), may_alias));  // 32 bytes
TKF_INLINE void load_bytes(const void* p, vbytes* v) { memcpy(v, p, sizeof *v); }

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

// 8 scales and 8 minima of 6 bits, from three words to the bytes of four: scales first. Bytes 0-3 and 4-7 hold scales and
// minima 0-3 in their low six bits, and above those the high two bits of 4-7, whose low four bits are the nibbles of
// bytes 8-11. A word is an integer, or a vector of those of several rows.
template <class Word>
TKF_INLINE void spread_six_bits(const Word* s, Word* bytes) {
  bytes[0] = s[0] & 0x3F3F3F3F;
  bytes[1] = (s[2] & 0x0F0F0F0F) | ((s[0] >> 2) & 0x30303030);
  bytes[2] = s[1] & 0x3F3F3F3F;
  bytes[3] = ((s[2] >> 4) & 0x0F0F0F0F) | ((s[1] >> 2) & 0x30303030);
}

// Two f16 numbers, and 8 scales and 8 minima of 6 bits in 12 bytes.
template <int BLOCK_BYTES>
struct SixBitScales {
  static constexpr int VALUES = 256, BYTES = BLOCK_BYTES, SCALES = 16;
  static constexpr bool DENSE = false;
  static TKF_INLINE void prepare_one(const uint8_t* block, float* scales) {
    uint32_t s[3], bytes[4];
    memcpy(s, block + 4, sizeof s);
    spread_six_bits(s, bytes);
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

}  // namespace tkf::TKF_NAMESPACE
