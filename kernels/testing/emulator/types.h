// CUDA's keywords, vector types, 16-bit floats and intrinsics for a C++ compiler.
#pragma once
#include <math.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __grid_constant__

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct alignas(8) float2 {
  float x, y;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

// ---- 16-bit floats: bits, and conversions that round to nearest even ----

namespace tkf::simt {

template <class To, class From>
inline To bits_of(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

inline float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t rest = (half & 0x7fffu) << 13;  // the exponent is too small by 112, of numbers below 2^-14 too
  const uint32_t finite = bits_of<uint32_t>(bits_of<float>(rest) * 0x1p112f);
  return bits_of<float>(sign | (rest >= 0x0f800000u ? rest | 0x7f800000u : finite));
}

inline uint16_t float_to_half(float value) {
  const uint32_t bits = bits_of<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t rest = bits & 0x7fffffffu;
  if (rest > 0x7f800000u) return 0x7fffu;           // the device's NaN
  if (rest >= 0x477ff000u) return sign | 0x7c00u;   // 65520 and more
  if (rest < 0x38800000u) {                         // below 2^-14: the sum rounds at 2^-24
    const uint32_t sum = bits_of<uint32_t>(bits_of<float>(rest) + 0.5f);
    return static_cast<uint16_t>(sign | (sum - 0x3f000000u));
  }
  return static_cast<uint16_t>(sign | (rest - 0x38000000u + 0xfffu + (rest >> 13 & 1u)) >> 13);
}

inline float bfloat16_to_float(uint16_t bits) { return bits_of<float>(static_cast<uint32_t>(bits) << 16); }

inline uint16_t float_to_bfloat16(float value) {
  const uint32_t bits = bits_of<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffu;
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

}  // namespace tkf::simt

#define TKF_FLOAT16(T, T2, from, to)                                                                       \
  struct T {                                                                                               \
    uint16_t bits;                                                                                         \
    T() = default;                                                                                         \
    T(float value) : bits(tkf::simt::from(value)) {}                                                       \
    operator float() const { return tkf::simt::to(bits); }                                                 \
  };                                                                                                       \
  struct alignas(4) T2 {                                                                                   \
    T x, y;                                                                                                \
    T2() = default;                                                                                        \
    T2(T x, T y) : x(x), y(y) {}                                                                           \
  };
TKF_FLOAT16(__half, __half2, float_to_half, half_to_float)
TKF_FLOAT16(__nv_bfloat16, __nv_bfloat162, float_to_bfloat16, bfloat16_to_float)
#undef TKF_FLOAT16

inline float __half2float(__half a) { return float(a); }
inline __half __float2half_rn(float a) { return __half(a); }
inline __half2 __floats2half2_rn(float a, float b) { return {__half(a), __half(b)}; }
inline float __low2float(__half2 a) { return float(a.x); }
inline float __high2float(__half2 a) { return float(a.y); }
inline __half2 __hsub2(__half2 a, __half2 b) { return {__half(float(a.x) - float(b.x)), __half(float(a.y) - float(b.y))}; }
inline uint16_t __half_as_ushort(__half a) { return a.bits; }
inline __half __ushort_as_half(uint16_t a) { return tkf::simt::bits_of<__half>(a); }
inline float __bfloat162float(__nv_bfloat16 a) { return float(a); }
inline __nv_bfloat16 __float2bfloat16_rn(float a) { return __nv_bfloat16(a); }
inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) { return {__nv_bfloat16(a), __nv_bfloat16(b)}; }

// ---- intrinsics ----

template <class A, class B>
constexpr std::common_type_t<A, B> min(A a, B b) {
  using C = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<C>) return static_cast<C>(std::fmin(a, b));
  else return static_cast<C>(a) < static_cast<C>(b) ? static_cast<C>(a) : static_cast<C>(b);
}
template <class A, class B>
constexpr std::common_type_t<A, B> max(A a, B b) {
  using C = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<C>) return static_cast<C>(std::fmax(a, b));
  else return static_cast<C>(a) > static_cast<C>(b) ? static_cast<C>(a) : static_cast<C>(b);
}

// Never fused with another operation, whatever the compiler's flags.
inline double __dadd_rn(double a, double b) {
  const volatile double sum = a + b;
  return sum;
}
inline double __dmul_rn(double a, double b) {
  const volatile double product = a * b;
  return product;
}

inline unsigned __float_as_uint(float x) { return tkf::simt::bits_of<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return tkf::simt::bits_of<float>(x); }
inline long long __double_as_longlong(double x) { return tkf::simt::bits_of<long long>(x); }
inline double __longlong_as_double(long long x) { return tkf::simt::bits_of<double>(x); }

// Byte i of the result: of the eight bytes, y's above x's, that which nibble i of the selector names.
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t bytes = uint64_t{y} << 32 | x;
  unsigned out = 0;
  for (int i = 0; i < 4; i++) out |= static_cast<unsigned>(bytes >> (8 * (selector >> (4 * i) & 7)) & 255) << (8 * i);
  return out;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x)); }

template <class T>
inline T __ldg(const T* at) {
  return *at;
}
template <class T>
inline T __ldcg(const T* at) {
  return *at;
}
