// Element types of weights on the device (layouts as in GGUF): how a lane makes some values of a block float.
// A `Weight` has VALUES in BYTES of one block, which LANES lanes share; each makes RUNS runs of RUN consecutive values.
// decode(block, part, w) gives those of lane `part`; run r starts at value offset(part, r) of the block.
// Blocks must lie at addresses divisible by ALIGN. Dense types come in whole 16 bytes, or value by value.
#pragma once
#include "cuda.h"
#include "kernels.h"

namespace tkf {

template <class To, class From>
__device__ __forceinline__ To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "sizes differ");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
__device__ __forceinline__ float half_bits_to_float(uint32_t bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}
__device__ __forceinline__ float bfloat16_bits_to_float(uint32_t bits) { return bits_as<float>(bits << 16); }
// Round to nearest even; a NaN keeps its sign and the top of its payload, as on the CPU.
__device__ __forceinline__ uint16_t float_to_half_bits(float value) {
  const uint32_t bits = bits_as<uint32_t>(value);
  if (value != value) return static_cast<uint16_t>((bits >> 16 & 0x8000u) | 0x7e00u | (bits >> 13 & 0x1ffu));
  return __half_as_ushort(__float2half_rn(value));
}
__device__ __forceinline__ uint16_t float_to_bfloat16_bits(float value) {
  const uint32_t bits = bits_as<uint32_t>(value);
  if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// WORDS 32-bit words at an address divisible by ALIGN, in the widest loads that this allows.
template <int ALIGN, int WORDS>
__device__ __forceinline__ void load_words(const uint8_t* at, uint32_t* words) {
  if constexpr (ALIGN >= 16 && WORDS % 4 == 0) {
    for (int i = 0; i < WORDS; i += 4) {
      const uint4 v = __ldg(reinterpret_cast<const uint4*>(at + 4 * i));
      words[i] = v.x, words[i + 1] = v.y, words[i + 2] = v.z, words[i + 3] = v.w;
    }
  } else if constexpr (ALIGN >= 8 && WORDS % 2 == 0) {
    for (int i = 0; i < WORDS; i += 2) {
      const uint2 v = __ldg(reinterpret_cast<const uint2*>(at + 4 * i));
      words[i] = v.x, words[i + 1] = v.y;
    }
  } else if constexpr (ALIGN >= 4) {
    for (int i = 0; i < WORDS; i++) words[i] = __ldg(reinterpret_cast<const uint32_t*>(at + 4 * i));
  } else if constexpr (ALIGN == 1) {
    for (int i = 0; i < WORDS; i++) {
      words[i] = 0;
      for (int j = 0; j < 4; j++) words[i] |= static_cast<uint32_t>(__ldg(at + 4 * i + j)) << (8 * j);
    }
  } else {
    for (int i = 0; i < WORDS; i++) {
      const uint16_t* half = reinterpret_cast<const uint16_t*>(at + 4 * i);
      words[i] = __ldg(half) | static_cast<uint32_t>(__ldg(half + 1)) << 16;
    }
  }
}
__device__ __forceinline__ float load_half(const uint8_t* at) {
  return half_bits_to_float(__ldg(reinterpret_cast<const uint16_t*>(at)));
}
// Byte i of packed words, as a float.
__device__ __forceinline__ float byte_of(const uint32_t* words, int i) {
  return static_cast<float>(words[i / 4] >> (8 * (i % 4)) & 0xffu);
}
__device__ __forceinline__ float nibble_of(const uint32_t* words, int i, int high) {
  return static_cast<float>(words[i / 4] >> (8 * (i % 4) + 4 * high) & 15u);
}

// ---- dense types ----

struct WeightF32 {
  static constexpr int VALUES = 4, BYTES = 16, LANES = 1, RUNS = 1, RUN = 4, ALIGN = 16;
  static __device__ __forceinline__ int offset(int, int) { return 0; }
  static __device__ __forceinline__ void decode(const uint8_t* block, int, float* w) {
    const float4 v = __ldg(reinterpret_cast<const float4*>(block));
    w[0] = v.x, w[1] = v.y, w[2] = v.z, w[3] = v.w;
  }
};
template <bool BF16>
struct Weight16 {
  static constexpr int VALUES = 8, BYTES = 16, LANES = 1, RUNS = 2, RUN = 4, ALIGN = 16;
  static __device__ __forceinline__ int offset(int, int run) { return 4 * run; }
  static __device__ __forceinline__ void decode(const uint8_t* block, int, float* w) {
    uint32_t words[4];
    load_words<16, 4>(block, words);
    for (int i = 0; i < 8; i++) {
      const uint32_t bits = words[i / 2] >> (16 * (i % 2)) & 0xffffu;
      w[i] = BF16 ? bfloat16_bits_to_float(bits) : half_bits_to_float(bits);
    }
  }
};
using WeightF16 = Weight16<false>;
using WeightBf16 = Weight16<true>;

// One value at a time, for rows that do not begin at 16-byte addresses.
struct SingleF32 {
  static constexpr int VALUES = 1, BYTES = 4, LANES = 1, RUNS = 1, RUN = 1, ALIGN = 4;
  static __device__ __forceinline__ int offset(int, int) { return 0; }
  static __device__ __forceinline__ void decode(const uint8_t* block, int, float* w) {
    w[0] = __ldg(reinterpret_cast<const float*>(block));
  }
};
template <bool BF16>
struct Single16 {
  static constexpr int VALUES = 1, BYTES = 2, LANES = 1, RUNS = 1, RUN = 1, ALIGN = 2;
  static __device__ __forceinline__ int offset(int, int) { return 0; }
  static __device__ __forceinline__ void decode(const uint8_t* block, int, float* w) {
    const uint32_t bits = __ldg(reinterpret_cast<const uint16_t*>(block));
    w[0] = BF16 ? bfloat16_bits_to_float(bits) : half_bits_to_float(bits);
  }
};
using SingleF16 = Single16<false>;
using SingleBf16 = Single16<true>;

// ---- blocks of 32 values, two lanes each ----

// Nibbles of 16 bytes: lane p takes bytes 8p .. 8p+7, whose low halves are values 8p .. and high halves 16 + 8p ...
struct NibblePairs {
  static constexpr int VALUES = 32, LANES = 2, RUNS = 4, RUN = 4;
  static __device__ __forceinline__ int offset(int part, int run) {
    return 8 * part + 4 * (run & 1) + 16 * (run >> 1);
  }
};

// d*(q - 8): d f16, nibbles.
struct WeightQ4_0 : NibblePairs {
  static constexpr int BYTES = 18, ALIGN = 2;
  static __device__ __forceinline__ void decode(const uint8_t* block, int part, float* w) {
    uint32_t words[2];
    load_words<2, 2>(block + 2 + 8 * part, words);
    const float d = load_half(block);
    for (int i = 0; i < 16; i++) w[i] = d * (nibble_of(words, i % 8, i / 8) - 8);
  }
};

// d*q + m: d, m f16, nibbles.
struct WeightQ4_1 : NibblePairs {
  static constexpr int BYTES = 20, ALIGN = 4;
  static __device__ __forceinline__ void decode(const uint8_t* block, int part, float* w) {
    uint32_t words[2], scales;
    load_words<4, 2>(block + 4 + 8 * part, words);
    load_words<4, 1>(block, &scales);
    const float d = half_bits_to_float(scales & 0xffffu), m = half_bits_to_float(scales >> 16);
    for (int i = 0; i < 16; i++) w[i] = fmaf(d, nibble_of(words, i % 8, i / 8), m);
  }
};

// Value i of a lane as a number of five bits: bit v of `high` is the fifth of value v of the block.
__device__ __forceinline__ float five_bits_of(const uint32_t* words, uint32_t high, int part, int i) {
  const uint32_t low = words[i % 8 / 4] >> (8 * (i % 4) + 4 * (i / 8)) & 15u;
  const uint32_t top = high >> (8 * part + i % 8 + 16 * (i / 8)) & 1u;
  return static_cast<float>(low | top << 4);
}

// d*(q - 16): d f16, high bits u32, nibbles.
struct WeightQ5_0 : NibblePairs {
  static constexpr int BYTES = 22, ALIGN = 2;
  static __device__ __forceinline__ void decode(const uint8_t* block, int part, float* w) {
    uint32_t words[2], high;
    load_words<2, 2>(block + 6 + 8 * part, words);
    load_words<2, 1>(block + 2, &high);
    const float d = load_half(block);
    for (int i = 0; i < 16; i++) w[i] = d * (five_bits_of(words, high, part, i) - 16);
  }
};

// d*q + m: d, m f16, high bits u32, nibbles.
struct WeightQ5_1 : NibblePairs {
  static constexpr int BYTES = 24, ALIGN = 8;
  static __device__ __forceinline__ void decode(const uint8_t* block, int part, float* w) {
    uint32_t words[2], head[2];
    load_words<8, 2>(block + 8 + 8 * part, words);
    load_words<8, 2>(block, head);
    const float d = half_bits_to_float(head[0] & 0xffffu), m = half_bits_to_float(head[0] >> 16);
    for (int i = 0; i < 16; i++) w[i] = fmaf(d, five_bits_of(words, head[1], part, i), m);
  }
};

// d*q: d f16, q i8[32].
struct WeightQ8_0 {
  static constexpr int VALUES = 32, BYTES = 34, LANES = 2, RUNS = 4, RUN = 4, ALIGN = 2;
  static __device__ __forceinline__ int offset(int part, int run) { return 16 * part + 4 * run; }
  static __device__ __forceinline__ void decode(const uint8_t* block, int part, float* w) {
    uint32_t words[4];
    load_words<2, 4>(block + 2 + 16 * part, words);
    const float d = load_half(block);
    for (int i = 0; i < 16; i++) w[i] = d * static_cast<float>(static_cast<int8_t>(words[i / 4] >> (8 * (i % 4))));
  }
};

// What nibbles stand for in the IQ4 types and in MXFP4 (there twice the value), a byte each, from 0 and from 8 on.
constexpr uint64_t kIq4Low = 0xf6eaddcfbfad9881, kIq4High = 0x7159453526190d01;
constexpr uint64_t kFp4Low = 0x0c08060403020100, kFp4High = 0xf4f8fafcfdfeff00;

// 16 values of a lane of NibblePairs: d times what their nibbles stand for.
template <uint64_t LOW, uint64_t HIGH>
__device__ __forceinline__ void decode_numbers(const uint32_t* words, float d, float* w) {
#pragma unroll
  for (int i = 0; i < 16; i++) {
    const uint32_t q = words[i % 8 / 4] >> (8 * (i % 4) + 4 * (i / 8)) & 15u;
    w[i] = d * static_cast<float>(static_cast<int8_t>((q < 8 ? LOW : HIGH) >> (8 * (q & 7u))));
  }
}

// d*number(q): d f16, nibbles.
struct WeightIQ4_NL : NibblePairs {
  static constexpr int BYTES = 18, ALIGN = 2;
  static __device__ __forceinline__ void decode(const uint8_t* block, int part, float* w) {
    uint32_t words[2];
    load_words<2, 2>(block + 2 + 8 * part, words);
    decode_numbers<kIq4Low, kIq4High>(words, load_half(block), w);
  }
};

// 2^(e - 127)*number(q): e u8, nibbles.
struct WeightMXFP4 : NibblePairs {
  static constexpr int BYTES = 17, ALIGN = 1;
  static __device__ __forceinline__ void decode(const uint8_t* block, int part, float* w) {
    uint32_t words[2];
    load_words<1, 2>(block + 1 + 8 * part, words);
    const uint32_t e = __ldg(block), half = e < 2 ? 0x200000u << e : (e - 1) << 23;  // the numbers are doubled
    decode_numbers<kFp4Low, kFp4High>(words, bits_as<float>(half), w);
  }
};

// ---- blocks of 256 values ----

// d*(scale - 32)*number(q): d f16, high pairs of bits of 8 scales u16, their low nibbles, nibbles. A lane takes half of
// the 32 values of a scale.
struct WeightIQ4_XS {
  static constexpr int VALUES = 256, BYTES = 136, LANES = 16, RUNS = 4, RUN = 4, ALIGN = 8;
  static __device__ __forceinline__ int offset(int part, int run) {
    return 32 * (part >> 1) + NibblePairs::offset(part & 1, run);
  }
  static __device__ __forceinline__ void decode(const uint8_t* block, int part, float* w) {
    uint32_t head[2], words[2];
    load_words<8, 2>(block, head);
    load_words<8, 2>(block + 8 + 8 * part, words);
    const int group = part >> 1;
    const uint32_t scale = (head[1] >> (4 * group) & 15u) | (head[0] >> (16 + 2 * group) & 3u) << 4;
    const float d = half_bits_to_float(head[0] & 0xffffu);
    decode_numbers<kIq4Low, kIq4High>(words, d * static_cast<float>(static_cast<int>(scale) - 32), w);
  }
};

// Pairs of bits: within a half of 128 values, a lane takes 4 bytes of them, which belong to 4 values of each quarter.
struct BitPairs {
  static constexpr int VALUES = 256, LANES = 16, RUNS = 4, RUN = 4;
  static __device__ __forceinline__ int offset(int part, int run) {
    return 128 * (part >> 3) + 32 * run + 4 * (part & 7);
  }
};

// d*scale*q - dmin*min: 16 scales and minima of 4 bits side by side, pairs of bits u8[64], d, dmin f16.
struct WeightQ2_K : BitPairs {
  static constexpr int BYTES = 84, ALIGN = 4;
  static __device__ __forceinline__ void decode(const uint8_t* block, int part, float* w) {
    uint32_t bits, scales;
    load_words<4, 1>(block + 16 + 4 * part, &bits);
    load_words<4, 1>(block + 80, &scales);
    const float d = half_bits_to_float(scales & 0xffffu), dmin = half_bits_to_float(scales >> 16);
    for (int run = 0; run < 4; run++) {
      const uint32_t both = __ldg(block + offset(part, run) / 16);
      const float factor = d * static_cast<float>(both & 15u), minimum = dmin * static_cast<float>(both >> 4);
      for (int i = 0; i < 4; i++) {
        w[4 * run + i] = fmaf(factor, static_cast<float>(bits >> (8 * i + 2 * run) & 3u), -minimum);
      }
    }
  }
};

// d*(scale - 32)*(q - 4): third bits u8[32], pairs of bits u8[64], 16 scales of 6 bits in 12 bytes, d f16. Low nibbles
// of scales 0-7 and 8-15 are in bytes 0-7, four pairs of high bits in each of bytes 8-11.
struct WeightQ3_K : BitPairs {
  static constexpr int BYTES = 110, ALIGN = 2;
  static __device__ __forceinline__ void decode(const uint8_t* block, int part, float* w) {
    uint32_t low, high;
    load_words<2, 1>(block + 32 + 4 * part, &low);
    load_words<2, 1>(block + 4 * (part & 7), &high);
    const float d = load_half(block + 108);
    for (int run = 0; run < 4; run++) {
      const int j = offset(part, run) / 16;
      const uint32_t nibble = __ldg(block + 96 + (j & 7)) >> (4 * (j >> 3)) & 15u;
      const uint32_t scale = nibble | (__ldg(block + 104 + (j & 3)) >> (2 * (j >> 2)) & 3u) << 4;
      const float factor = d * static_cast<float>(static_cast<int>(scale) - 32);
      for (int i = 0; i < 4; i++) {
        const uint32_t q = (low >> (8 * i + 2 * run) & 3u) | (high >> (8 * i + 4 * (part >> 3) + run) & 1u) << 2;
        w[4 * run + i] = factor * static_cast<float>(static_cast<int>(q) - 4);
      }
    }
  }
};

// d*scale*q - dmin*min: d, dmin f16; 8 scales and 8 minima of 6 bits in 12 bytes; of FIVE bits their fifth u8[32];
// nibbles, where 32 bytes hold a part of 32 values in their low halves and the next part in their high halves. A lane
// takes 16 bytes of them.
template <bool FIVE>
struct NibblesOf256 {
  static constexpr int VALUES = 256, BYTES = FIVE ? 176 : 144, LANES = 8, RUNS = 8, RUN = 4, ALIGN = 16;
  static __device__ __forceinline__ int offset(int part, int run) {
    return 64 * (part >> 1) + 16 * (part & 1) + 32 * (run >> 2) + 4 * (run & 3);
  }
  // Bytes 0-3 and 4-7 hold scales and minima 0-3 in their low six bits, and above those the high two bits of 4-7,
  // whose low four bits are the nibbles of bytes 8-11.
  static __device__ __forceinline__ void decode(const uint8_t* block, int part, float* w) {
    uint32_t head[4], words[4], fifths[4];
    load_words<16, 4>(block, head);
    load_words<16, 4>(block + (FIVE ? 48 : 16) + 16 * part, words);
    if constexpr (FIVE) load_words<16, 4>(block + 16 + 16 * (part & 1), fifths);
    const float d = half_bits_to_float(head[0] & 0xffffu), dmin = half_bits_to_float(head[0] >> 16);
    for (int high = 0; high < 2; high++) {
      const int j = 2 * (part >> 1) + high, shift = 8 * (j & 3);
      const uint32_t first = head[1] >> shift & 0xffu, second = head[2] >> shift & 0xffu;
      const uint32_t rest = head[3] >> shift & 0xffu;
      const uint32_t scale = j < 4 ? first & 63u : (rest & 15u) | (first >> 6) << 4;
      const uint32_t least = j < 4 ? second & 63u : rest >> 4 | (second >> 6) << 4;
      const float factor = d * static_cast<float>(scale), minimum = dmin * static_cast<float>(least);
      for (int i = 0; i < 16; i++) {
        float q = nibble_of(words, i, high);
        if constexpr (FIVE) q += static_cast<float>((fifths[i / 4] >> (8 * (i % 4) + j) & 1u) << 4);
        w[16 * high + i] = fmaf(factor, q, -minimum);
      }
    }
  }
};
using WeightQ4_K = NibblesOf256<false>;
using WeightQ5_K = NibblesOf256<true>;

// d*scale*(q - 32): low nibbles u8[128], two high bits u8[64], 16 scales i8, d f16. Within a half of 128 values, a lane
// takes 4 bytes of high bits, which belong to 4 values of each of its four quarters.
struct WeightQ6_K : BitPairs {
  static constexpr int BYTES = 210, ALIGN = 2;
  static __device__ __forceinline__ void decode(const uint8_t* block, int part, float* w) {
    const int half = part >> 3, at = 4 * (part & 7);
    uint32_t low[2], high;
    load_words<2, 1>(block + 64 * half + at, low);
    load_words<2, 1>(block + 64 * half + 32 + at, low + 1);
    load_words<2, 1>(block + 128 + 32 * half + at, &high);
    const float d = load_half(block + 208);
    for (int run = 0; run < 4; run++) {
      const int scale = static_cast<int8_t>(__ldg(block + 192 + 8 * half + 2 * run + at / 16));
      const float factor = d * static_cast<float>(scale);
      for (int i = 0; i < 4; i++) {
        const uint32_t bits = (low[run & 1] >> (8 * i + 4 * (run >> 1)) & 15u) | (high >> (8 * i + 2 * run) & 3u) << 4;
        w[4 * run + i] = factor * static_cast<float>(static_cast<int>(bits) - 32);
      }
    }
  }
};

// Host: calls body(Weight()) with the format of a quantised type.
template <class F>
void with_blocks(int dtype, F&& body) {
  switch (dtype) {
#define TKF_CASE(name, values, bytes)                                                                             \
  case TKF_DTYPE_##name:                                                                                        \
    static_assert(Weight##name::VALUES == values && Weight##name::BYTES == bytes, "as the list of types says"); \
    body(Weight##name());                                                                                       \
    break;
    TKF_BLOCK_TYPES(TKF_CASE)
#undef TKF_CASE
    default: break;
  }
}

// Host: the same for any type that was checked before; dense types value by value unless `whole`.
template <class F>
void with_weight(int dtype, bool whole, F&& body) {
  switch (dtype) {
    case TKF_DTYPE_F32: whole ? body(WeightF32()) : body(SingleF32()); break;
    case TKF_DTYPE_F16: whole ? body(WeightF16()) : body(SingleF16()); break;
    case TKF_DTYPE_BF16: whole ? body(WeightBf16()) : body(SingleBf16()); break;
    default: with_blocks(dtype, body); break;
  }
}

// Host: what an address must be divisible by, so that the blocks of an element type can be loaded; dense types can
// always be loaded value by value.
inline uintptr_t weight_alignment(int dtype) {
  uintptr_t alignment = 1;
  with_weight(dtype, false, [&](auto weight) { alignment = decltype(weight)::ALIGN; });
  return alignment;
}

}  // namespace tkf
