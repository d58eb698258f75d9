// Bits of floats, and words of packed weights: how they are loaded and become floats.
#pragma once
#include "cuda.h"

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
  } else if constexpr (WORDS == 1) {
    const uint16_t* half = reinterpret_cast<const uint16_t*>(at);
    words[0] = __ldg(half) | static_cast<uint32_t>(__ldg(half + 1)) << 16;
  } else {
    // Whole words from the one that `at` lies in, which begins with the block or in it, and the last half of a word.
    const uintptr_t odd = reinterpret_cast<uintptr_t>(at) & 2u;
    const uint32_t* whole = reinterpret_cast<const uint32_t*>(at - odd);
    uint32_t low = __ldg(whole);
    for (int i = 0; i < WORDS; i++) {
      const uint32_t high = i + 1 < WORDS ? __ldg(whole + i + 1)
                                          : __ldg(reinterpret_cast<const uint16_t*>(at + 4 * WORDS - 2));
      words[i] = static_cast<uint32_t>((uint64_t{high} << 32 | low) >> (8 * odd));
      low = high;
    }
  }
}
__device__ __forceinline__ float load_half(const uint8_t* at) {
  return half_bits_to_float(__ldg(reinterpret_cast<const uint16_t*>(at)));
}
// The four bytes of a word, less ZERO, as floats. By way of f16, in which bits 0x6400 and a byte's are 1024 and the byte:
// that takes fewer instructions than conversions of integers, which are slow too.
template <int ZERO>
__device__ __forceinline__ void bytes_to_floats(uint32_t word, float* out) {
  const __half2 zero = bits_as<__half2>(0x64006400u + 0x10001u * ZERO);
  for (int i = 0; i < 2; i++) {
    const uint32_t pair = __byte_perm(word, 0x64646464u, i == 0 ? 0x4240u : 0x4341u);  // bytes i and i + 2
    const __half2 numbers = __hsub2(bits_as<__half2>(pair), zero);
    out[i] = __low2float(numbers);
    out[i + 2] = __high2float(numbers);
  }
}

}  // namespace tkf
