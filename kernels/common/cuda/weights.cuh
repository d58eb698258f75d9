// Element types of weights on the device (layouts as in GGUF): how a lane makes some values of a block float.
// A `Weight` has VALUES in BYTES of one block, which LANES lanes share; each makes RUNS runs of RUN consecutive values.
// decode(block, part, w) gives those of lane `part`; run r starts at value offset(part, r) of the block, which is
// offset(part, 0) + offset(0, r).
// Blocks must lie at addresses divisible by ALIGN. Dense types come in whole 16 bytes, or value by value.
#pragma once
#include "../kernels.h"
#include "words.cuh"

namespace tkf {

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

// One value at a time, for rows at any address.
template <class T>
struct Single {
  static constexpr int VALUES = 1, BYTES = sizeof(T), LANES = 1, RUNS = 1, RUN = 1;
  static __device__ __forceinline__ int offset(int, int) { return 0; }
  static __device__ __forceinline__ void decode(const uint8_t* block, int, float* w) {
    w[0] = static_cast<float>(__ldg(reinterpret_cast<const T*>(block)));
  }
};

// ---- blocks of 32 values, two lanes each ----

// Nibbles of 16 bytes: lane p takes bytes 8p .. 8p+7, whose low halves are values 8p .. and high halves 16 + 8p ...
struct NibblePairs {
  static constexpr int VALUES = 32, LANES = 2, RUNS = 4, RUN = 4;
  static __device__ __forceinline__ int offset(int part, int run) {
    return 8 * part + 4 * (run & 1) + 16 * (run >> 1);
  }
};

// d*(q - ZERO), with LEAST d*q + m: d f16, with LEAST m f16, of FIVE bits their fifth u32 (bit v is of value v), nibbles.
template <bool FIVE, bool LEAST>
struct NibblesOf32 : NibblePairs {
  static constexpr int HEAD = (LEAST ? 4 : 2) + (FIVE ? 4 : 0), BYTES = HEAD + 16, ALIGN = !LEAST ? 2 : FIVE ? 8 : 4;
  static constexpr int ZERO = LEAST ? 0 : FIVE ? 16 : 8;
  // What is before the nibbles.
  static __device__ __forceinline__ void head(const uint8_t* block, float* d, float* m, uint32_t* fifths) {
    if constexpr (LEAST) {
      uint32_t words[HEAD / 4];
      load_words<ALIGN, HEAD / 4>(block, words);
      *d = half_bits_to_float(words[0] & 0xffffu), *m = half_bits_to_float(words[0] >> 16);
      if constexpr (FIVE) *fifths = words[1];
    } else {
      if constexpr (FIVE) load_words<2, 1>(block + 2, fifths);
      *d = load_half(block), *m = 0;
    }
  }
  // Of four values from `first` on, in their bytes: the product puts four bits there, each seven further than the last.
  static __device__ __forceinline__ uint32_t fifth_bits(uint32_t fifths, int first) {
    return (fifths >> first & 15u) * 0x02040810u & 0x10101010u;
  }
  static __device__ __forceinline__ void decode(const uint8_t* block, int part, float* w) {
    uint32_t words[2], fifths;
    float d, m;
    load_words<ALIGN, 2>(block + HEAD + 8 * part, words);
    head(block, &d, &m, &fifths);
    for (int run = 0; run < RUNS; run++) {
      uint32_t q = words[run % 2] >> (4 * (run / 2)) & 0x0f0f0f0fu;
      if constexpr (FIVE) q |= fifth_bits(fifths, offset(part, run));
      bytes_to_floats<ZERO>(q, w + 4 * run);
    }
    for (int i = 0; i < 16; i++) w[i] = LEAST ? fmaf(d, w[i], m) : d * w[i];
  }
};
using WeightQ4_0 = NibblesOf32<false, false>;
using WeightQ4_1 = NibblesOf32<false, true>;
using WeightQ5_0 = NibblesOf32<true, false>;
using WeightQ5_1 = NibblesOf32<true, true>;

// d*q: d f16, q i8[32].
struct WeightQ8_0 {
  static constexpr int VALUES = 32, BYTES = 34, LANES = 2, RUNS = 4, RUN = 4, ALIGN = 2;
  static __device__ __forceinline__ int offset(int part, int run) { return 16 * part + 4 * run; }
  static __device__ __forceinline__ void decode(const uint8_t* block, int part, float* w) {
    uint32_t words[4];
    load_words<2, 4>(block + 2 + 16 * part, words);
    const float d = load_half(block);
    for (int i = 0; i < 4; i++) bytes_to_floats<128>(words[i] ^ 0x80808080u, w + 4 * i);
    for (int i = 0; i < 16; i++) w[i] *= d;
  }
};

// What nibbles stand for in the IQ4 types and in MXFP4 (there twice the value), a byte each, from 0 and from 8 on.
constexpr uint64_t kIq4Low = 0xf6eaddcfbfad9881, kIq4High = 0x7159453526190d01;
constexpr uint64_t kFp4Low = 0x0c08060403020100, kFp4High = 0xf4f8fafcfdfeff00;

// What the nibbles of four bytes stand for, plus 128: the low ones, and the high ones. The nibbles of two bytes select
// four numbers at once from each half of the table, their top bits which of the two serve.
template <uint64_t LOW, uint64_t HIGH>
__device__ __forceinline__ void select_numbers(uint32_t word, uint32_t numbers[2]) {
  constexpr uint64_t kUnsigned = 0x8080808080808080;
  const auto select = [](uint64_t table, uint32_t nibbles) {
    const uint64_t from = table ^ kUnsigned;
    return __byte_perm(static_cast<uint32_t>(from), static_cast<uint32_t>(from >> 32), nibbles & 0x7777u);
  };
  uint32_t both[2];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const uint32_t nibbles = word >> (16 * i), which = 0x3210u | (nibbles >> 1 & 0x4444u);
    both[i] = __byte_perm(select(LOW, nibbles), select(HIGH, nibbles), which);
  }
  numbers[0] = __byte_perm(both[0], both[1], 0x6420u);
  numbers[1] = __byte_perm(both[0], both[1], 0x7531u);
}

// 16 values of a lane of NibblePairs: d times what their nibbles stand for.
template <uint64_t LOW, uint64_t HIGH>
__device__ __forceinline__ void decode_numbers(const uint32_t* words, float d, float* w) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    uint32_t numbers[2];
    select_numbers<LOW, HIGH>(words[i], numbers);
    bytes_to_floats<128>(numbers[0], w + 4 * i);
    bytes_to_floats<128>(numbers[1], w + 8 + 4 * i);
  }
  for (int i = 0; i < 16; i++) w[i] *= d;
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
  static __device__ __forceinline__ float factor(const uint8_t* block) {  // half of it: the numbers are doubled
    const uint32_t e = __ldg(block);
    return bits_as<float>(e < 2 ? 0x200000u << e : (e - 1) << 23);
  }
  static __device__ __forceinline__ void decode(const uint8_t* block, int part, float* w) {
    uint32_t words[2];
    load_words<1, 2>(block + 1 + 8 * part, words);
    decode_numbers<kFp4Low, kFp4High>(words, factor(block), w);
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
  // Of a group of 32 values; `head`: the first two words.
  static __device__ __forceinline__ float scale(const uint32_t* head, int group) {
    const uint32_t scale = (head[1] >> (4 * group) & 15u) | (head[0] >> (16 + 2 * group) & 3u) << 4;
    return static_cast<float>(static_cast<int>(scale) - 32);
  }
  static __device__ __forceinline__ void decode(const uint8_t* block, int part, float* w) {
    uint32_t head[2], words[2];
    load_words<8, 2>(block, head);
    load_words<8, 2>(block + 8 + 8 * part, words);
    const float d = half_bits_to_float(head[0] & 0xffffu);
    decode_numbers<kIq4Low, kIq4High>(words, d * scale(head, part >> 1), w);
  }
};

// Pairs of bits: 256 values are two halves of 128, a half is 4 runs of 32, and a part is 4 values of each run of its half.
struct BitPairs {
  static constexpr int VALUES = 256, LANES = 16, RUNS = 4, RUN = 4;
  static constexpr int kHalf = 128, kRun = 32, kParts = 8;  // values of a half and of a run, parts of a half
  // First of the four values of a part in a run.
  static __device__ __forceinline__ int offset(int part, int run) {
    return kHalf * (part / kParts) + kRun * run + RUN * (part % kParts);
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
      bytes_to_floats<0>(bits >> (2 * run) & 0x03030303u, w + 4 * run);
      for (int i = 0; i < 4; i++) w[4 * run + i] = fmaf(factor, w[4 * run + i], -minimum);
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
      const uint32_t third = high >> (4 * (part >> 3) + run) & 0x01010101u;
      bytes_to_floats<4>((low >> (2 * run) & 0x03030303u) | third << 2, w + 4 * run);
      for (int i = 0; i < 4; i++) w[4 * run + i] *= factor;
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
      float* const to = w + 16 * high;
      for (int i = 0; i < 4; i++) {
        uint32_t q = words[i] >> (4 * high) & 0x0f0f0f0fu;
        if constexpr (FIVE) q |= (fifths[i] >> j & 0x01010101u) << 4;
        bytes_to_floats<0>(q, to + 4 * i);
      }
      for (int i = 0; i < 16; i++) to[i] = fmaf(factor, to[i], -minimum);
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
      const uint32_t nibbles = low[run & 1] >> (4 * (run >> 1)) & 0x0f0f0f0fu;
      bytes_to_floats<32>(nibbles | (high >> (2 * run) & 0x03030303u) << 4, w + 4 * run);
      for (int i = 0; i < 4; i++) w[4 * run + i] *= factor;
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

// Host: the same for any type that was checked before.
template <class F>
void with_weight(int dtype, F&& body) {
  switch (dtype) {
    case TKF_DTYPE_F32: body(WeightF32()); break;
    case TKF_DTYPE_F16: body(WeightF16()); break;
    case TKF_DTYPE_BF16: body(WeightBf16()); break;
    default: with_blocks(dtype, body); break;
  }
}

inline bool is_dense(int dtype) {
  return dtype == TKF_DTYPE_F32 || dtype == TKF_DTYPE_F16 || dtype == TKF_DTYPE_BF16;
}

// Host: what an address must be divisible by, so that the blocks of an element type can be loaded; dense types can
// always be loaded value by value.
inline uintptr_t weight_alignment(int dtype) {
  uintptr_t alignment = dtype == TKF_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
  with_blocks(dtype, [&](auto weight) { alignment = decltype(weight)::ALIGN; });
  return alignment;
}

}  // namespace tkf
