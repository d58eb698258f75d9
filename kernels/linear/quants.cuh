// Quantised weights as tensor cores take them: whole numbers, which f16 holds as they are, and the factors of a group.
// Four neighbouring lanes share a row of weights and take a step of it at once: 128 values in GROUPS groups, whose values
// are d (q - ZERO) + m, eight words of four q for each lane. Word w of a group is its values EACH t + NEXT w .. + 3 for lane
// t of the four. `step(block, half, t, q, d, m)` reads a step, which is half of a block of 256 values; of types with blocks
// of 32, `group(block, t, q, d, m)` reads one of its four groups. `m` has ZERO d in it; without LEAST it is not written.
#pragma once
#include "../common/cuda/weights.cuh"

namespace tkf {

template <class Weight>
struct Quants;

constexpr uint32_t kLowNibbles = 0x0f0f0f0fu;
constexpr int kStepValues = 128;

// A word of four bytes, less ZERO each, as two pairs of f16: all that is left of a byte's 1024 below is exact.
template <int ZERO>
__device__ __forceinline__ void bytes_to_halves(uint32_t word, uint32_t* first, uint32_t* second) {
  const __half2 zero = bits_as<__half2>(0x64006400u + 0x10001u * ZERO);
  *first = bits_as<uint32_t>(__hsub2(bits_as<__half2>(__byte_perm(word, 0x64646464u, 0x4140u)), zero));
  *second = bits_as<uint32_t>(__hsub2(bits_as<__half2>(__byte_perm(word, 0x64646464u, 0x4342u)), zero));
}

// Dense weights serve as they are, 32 at a time.
template <bool BF16>
struct Quants<Weight16<BF16>> {
  static constexpr int GROUPS = 4, EACH = 8, NEXT = 4, ZERO = 0;
  static constexpr bool LEAST = false;
};

// Nibbles of 16 bytes: the low ones are values 0 .. 15, the high ones 16 .. 31.
struct NibbleGroups {
  static constexpr int GROUPS = 4, EACH = 4, NEXT = 16;
};
template <bool FIVE, bool LEAST_>
struct Quants<NibblesOf32<FIVE, LEAST_>> : NibbleGroups {
  using Weight = NibblesOf32<FIVE, LEAST_>;
  static constexpr bool LEAST = LEAST_;
  static constexpr int ZERO = FIVE ? 16 : 8;
  static __device__ __forceinline__ void group(const uint8_t* block, int t, uint32_t* q, float* d, float* m) {
    uint32_t word, fifths;
    load_words<Weight::ALIGN, 1>(block + Weight::HEAD + 4 * t, &word);
    float least;
    Weight::head(block, d, &least, &fifths);
    if constexpr (LEAST) *m = fmaf(ZERO, *d, least);
#pragma unroll
    for (int w = 0; w < 2; w++) {
      q[w] = word >> (4 * w) & kLowNibbles;
      if constexpr (FIVE) q[w] |= Weight::fifth_bits(fifths, 4 * t + 16 * w);
    }
  }
};

template <>
struct Quants<WeightQ8_0> {
  static constexpr int GROUPS = 4, EACH = 8, NEXT = 4, ZERO = 128;
  static constexpr bool LEAST = false;
  static __device__ __forceinline__ void group(const uint8_t* block, int t, uint32_t* q, float* d, float*) {
    load_words<2, 2>(block + 2 + 8 * t, q);
#pragma unroll
    for (int w = 0; w < 2; w++) q[w] ^= 0x80808080u;
    *d = load_half(block);
  }
};

// Numbers that nibbles stand for.
struct NumberGroups : NibbleGroups {
  static constexpr int ZERO = 128;
  static constexpr bool LEAST = false;
};
template <>
struct Quants<WeightIQ4_NL> : NumberGroups {
  static __device__ __forceinline__ void group(const uint8_t* block, int t, uint32_t* q, float* d, float*) {
    uint32_t word;
    load_words<2, 1>(block + 2 + 4 * t, &word);
    select_numbers<kIq4Low, kIq4High>(word, q);
    *d = load_half(block);
  }
};
template <>
struct Quants<WeightMXFP4> : NumberGroups {
  static __device__ __forceinline__ void group(const uint8_t* block, int t, uint32_t* q, float* d, float*) {
    uint32_t word;
    load_words<1, 1>(block + 1 + 4 * t, &word);
    select_numbers<kFp4Low, kFp4High>(word, q);
    *d = WeightMXFP4::factor(block);
  }
};
template <>
struct Quants<WeightIQ4_XS> : NumberGroups {
  static __device__ __forceinline__ void step(const uint8_t* block, int half, int t, uint32_t* q, float* d, float*) {
    uint32_t head[2];
    load_words<8, 2>(block, head);
    const float factor = half_bits_to_float(head[0] & 0xffffu);
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
      uint32_t word;
      load_words<4, 1>(block + 8 + 16 * (4 * half + g) + 4 * t, &word);
      select_numbers<kIq4Low, kIq4High>(word, q + 2 * g);
      d[g] = factor * WeightIQ4_XS::scale(head, 4 * half + g);
    }
  }
};

// 32 bytes hold a group in their low halves and the next group in their high halves.
template <bool FIVE>
struct Quants<NibblesOf256<FIVE>> {
  static constexpr int GROUPS = 4, EACH = 8, NEXT = 4, ZERO = FIVE ? 16 : 8;
  static constexpr bool LEAST = true;
  static __device__ __forceinline__ void step(const uint8_t* block, int half, int t, uint32_t* q, float* d, float* m) {
    uint32_t head[4], fifths[2];
    load_words<16, 4>(block, head);
    if constexpr (FIVE) load_words<8, 2>(block + 16 + 8 * t, fifths);
#pragma unroll
    for (int pair = 0; pair < 2; pair++) {
      uint32_t words[2];
      load_words<8, 2>(block + (FIVE ? 48 : 16) + 64 * half + 32 * pair + 8 * t, words);
#pragma unroll
      for (int w = 0; w < 4; w++) {
        q[4 * pair + w] = words[w % 2] >> (w / 2 * 4) & kLowNibbles;
        if constexpr (FIVE) {
          q[4 * pair + w] |= (fifths[w % 2] >> (4 * half + 2 * pair + w / 2) & 0x01010101u) << 4;
        }
      }
    }
    // See NibblesOf256: four scales and four minima of 6 bits at once.
    constexpr uint32_t kSix = 0x3f3f3f3fu, kHigh = 0x30303030u;
    const uint32_t scales = half ? (head[3] & kLowNibbles) | (head[1] >> 2 & kHigh) : head[1] & kSix;
    const uint32_t least = half ? (head[3] >> 4 & kLowNibbles) | (head[2] >> 2 & kHigh) : head[2] & kSix;
    bytes_to_floats<0>(scales, d);
    bytes_to_floats<0>(least, m);
    const float factor = half_bits_to_float(head[0] & 0xffffu), minimum = half_bits_to_float(head[0] >> 16);
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
      d[g] *= factor;
      m[g] = fmaf(ZERO, d[g], -(minimum * m[g]));
    }
  }
};

// Groups of 16 values, of which a lane has a word; those of a quarter of the step, two groups, have their bits in the
// same places of 32 bytes.
struct BitGroups {
  static constexpr int GROUPS = 8, EACH = 4, NEXT = 0;
};
template <>
struct Quants<WeightQ2_K> : BitGroups {
  static constexpr int ZERO = 0;
  static constexpr bool LEAST = true;
  static __device__ __forceinline__ void step(const uint8_t* block, int half, int t, uint32_t* q, float* d, float* m) {
    uint32_t bits[2], both[2], factors;
    for (int i = 0; i < 2; i++) load_words<4, 1>(block + 16 + 32 * half + 16 * i + 4 * t, bits + i);
    load_words<4, 2>(block + 8 * half, both);
    load_words<4, 1>(block + 80, &factors);
    const float factor = half_bits_to_float(factors & 0xffffu), minimum = -half_bits_to_float(factors >> 16);
#pragma unroll
    for (int i = 0; i < 2; i++) {
      bytes_to_floats<0>(both[i] & kLowNibbles, d + 4 * i);
      bytes_to_floats<0>(both[i] >> 4 & kLowNibbles, m + 4 * i);
    }
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
      q[g] = bits[g % 2] >> (g / 2 * 2) & 0x03030303u;
      d[g] *= factor;
      m[g] *= minimum;
    }
  }
};
template <>
struct Quants<WeightQ3_K> : BitGroups {
  static constexpr int ZERO = 4;
  static constexpr bool LEAST = false;
  static __device__ __forceinline__ void step(const uint8_t* block, int half, int t, uint32_t* q, float* d, float*) {
    uint32_t low[2], high[2], scales[3];
    for (int i = 0; i < 2; i++) {
      load_words<2, 1>(block + 32 + 32 * half + 16 * i + 4 * t, low + i);
      load_words<2, 1>(block + 16 * i + 4 * t, high + i);
    }
    load_words<2, 3>(block + 96, scales);
    const float factor = load_half(block + 108);
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const uint32_t top = scales[2] >> (4 * half + 2 * i) & 0x03030303u;
      bytes_to_floats<32>((scales[i] >> (4 * half) & kLowNibbles) | top << 4, d + 4 * i);
    }
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
      const uint32_t third = high[g % 2] >> (4 * half + g / 2) & 0x01010101u;
      q[g] = (low[g % 2] >> (g / 2 * 2) & 0x03030303u) | third << 2;
      d[g] *= factor;
    }
  }
};
template <>
struct Quants<WeightQ6_K> : BitGroups {
  static constexpr int ZERO = 32;
  static constexpr bool LEAST = false;
  static __device__ __forceinline__ void step(const uint8_t* block, int half, int t, uint32_t* q, float* d, float*) {
    uint32_t low[4], high[2], scales[2];
    for (int i = 0; i < 4; i++) load_words<2, 1>(block + 64 * half + 16 * i + 4 * t, low + i);
    for (int i = 0; i < 2; i++) load_words<2, 1>(block + 128 + 32 * half + 16 * i + 4 * t, high + i);
    load_words<2, 2>(block + 192 + 8 * half, scales);
    const float factor = load_half(block + 208);
#pragma unroll
    for (int i = 0; i < 2; i++) bytes_to_floats<128>(scales[i] ^ 0x80808080u, d + 4 * i);
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
      const uint32_t nibbles = low[g % 4] >> (g / 4 * 4) & kLowNibbles;
      q[g] = nibbles | (high[g % 2] >> (g / 2 * 2) & 0x03030303u) << 4;
      d[g] *= factor;
    }
  }
};

}  // namespace tkf
