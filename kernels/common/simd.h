// Vectors of floats at the level being compiled (TKF_LEVEL), for the bodies of kernels. Everything lies in the
// level's own namespace: use `namespace tkf { namespace TKF_NAMESPACE { ... } }`.
// `vf` has arithmetic operators; a*b + c in one expression becomes a fused multiply-add where the level has one.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // g++'s own AVX-512 header sets these off
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__wasm__)
#include <wasm_simd128.h>
#endif

#include "kernels.h"

#if TKF_LEVEL == TKF_LEVEL_AVX512
#define TKF_NAMESPACE avx512
#elif TKF_LEVEL == TKF_LEVEL_AVX2
#define TKF_NAMESPACE avx2
#else
#define TKF_NAMESPACE base
#endif

#define TKF_INLINE inline __attribute__((always_inline))

namespace tkf::TKF_NAMESPACE {

// Scalars -----------------------------------------------------------------------------------------------------------

template <class T>
TKF_INLINE T smaller(T a, T b) {
  return b < a ? b : a;
}
template <class T>
TKF_INLINE T larger(T a, T b) {
  return a < b ? b : a;
}
TKF_INLINE float bits_to_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
TKF_INLINE uint32_t float_to_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}
TKF_INLINE uint16_t read_u16(const void* p) {
  uint16_t value;
  memcpy(&value, p, 2);
  return value;
}

TKF_INLINE float f16_to_float(uint16_t half) {
#if TKF_LEVEL > TKF_LEVEL_BASE
  return _cvtsh_ss(half);
#else
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16, magnitude = half & 0x7FFFu;
  const float value = bits_to_float(magnitude << 13) * 0x1p112f;  // exact, subnormals too
  const uint32_t special = magnitude >= 0x7C00u ? 0x7F800000u : 0u;
  return bits_to_float(float_to_bits(value) | special | sign);
#endif
}
// Rounds to nearest, ties to even; NaN stays NaN.
TKF_INLINE uint16_t float_to_f16(float value) {
#if TKF_LEVEL > TKF_LEVEL_BASE
  return static_cast<uint16_t>(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT));
#else
  const uint32_t bits = float_to_bits(value), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return static_cast<uint16_t>(sign | 0x7E00u | ((magnitude >> 13) & 0x3FFu));
  if (magnitude >= 0x477FF000u) return static_cast<uint16_t>(sign | 0x7C00u);  // 65520 and more
  if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 rounds to multiples of 2^-24
    return static_cast<uint16_t>(sign | (float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3F000000u));
  }
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xFFFu + ((magnitude >> 13) & 1u)) >> 13));
#endif
}
TKF_INLINE float bf16_to_float(uint16_t half) { return bits_to_float(static_cast<uint32_t>(half) << 16); }
TKF_INLINE uint16_t float_to_bf16(float value) {
  const uint32_t bits = float_to_bits(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

// Vectors -----------------------------------------------------------------------------------------------------------
// W lanes. Loads and stores need no alignment. load_part and store_part touch the first `count` <= W lanes only; the
// other lanes of a loaded vector are 0. maximum(a, b) and minimum(a, b) give b where one of them is NaN.

#if TKF_LEVEL == TKF_LEVEL_AVX512

constexpr int W = 16;
typedef __m512 vf;
typedef int32_t vi __attribute__((vector_size(64), may_alias));
TKF_INLINE vf load(const float* p) { return _mm512_loadu_ps(p); }
TKF_INLINE void store(float* p, vf v) { _mm512_storeu_ps(p, v); }
TKF_INLINE vf set1(float value) { return _mm512_set1_ps(value); }
TKF_INLINE vf maximum(vf a, vf b) { return _mm512_max_ps(a, b); }
TKF_INLINE vf minimum(vf a, vf b) { return _mm512_min_ps(a, b); }
TKF_INLINE float sum(vf v) { return _mm512_reduce_add_ps(v); }
TKF_INLINE float largest(vf v) { return _mm512_reduce_max_ps(v); }
TKF_INLINE __mmask16 first_lanes(int count) { return static_cast<__mmask16>((1u << count) - 1u); }
TKF_INLINE vf load_part(const float* p, int count) { return _mm512_maskz_loadu_ps(first_lanes(count), p); }
TKF_INLINE void store_part(float* p, vf v, int count) { _mm512_mask_storeu_ps(p, first_lanes(count), v); }
TKF_INLINE vf load_f16(const void* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
TKF_INLINE void store_f16(void* p, vf v) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
TKF_INLINE vf load_bf16(const void* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
// W bytes, signed or unsigned, as 32-bit integers.
TKF_INLINE vi load_i8(const void* p) {
  return (vi)_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
TKF_INLINE vi load_u8(const void* p) {
  return (vi)_mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}

#elif TKF_LEVEL == TKF_LEVEL_AVX2

constexpr int W = 8;
typedef __m256 vf;
typedef int32_t vi __attribute__((vector_size(32), may_alias));
TKF_INLINE vf load(const float* p) { return _mm256_loadu_ps(p); }
TKF_INLINE void store(float* p, vf v) { _mm256_storeu_ps(p, v); }
TKF_INLINE vf set1(float value) { return _mm256_set1_ps(value); }
TKF_INLINE vf maximum(vf a, vf b) { return _mm256_max_ps(a, b); }
TKF_INLINE vf minimum(vf a, vf b) { return _mm256_min_ps(a, b); }
TKF_INLINE float sum(vf v) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
TKF_INLINE float largest(vf v) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}
TKF_INLINE __m256i first_lanes(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
TKF_INLINE vf load_part(const float* p, int count) { return _mm256_maskload_ps(p, first_lanes(count)); }
TKF_INLINE void store_part(float* p, vf v, int count) { _mm256_maskstore_ps(p, first_lanes(count), v); }
TKF_INLINE vf load_f16(const void* p) { return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p))); }
TKF_INLINE void store_f16(void* p, vf v) {
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
TKF_INLINE vf load_bf16(const void* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
TKF_INLINE vi load_i8(const void* p) {
  return (vi)_mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
}
TKF_INLINE vi load_u8(const void* p) {
  return (vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
}

#else  // base: four lanes of portable vectors

constexpr int W = 4;
typedef float vf __attribute__((vector_size(16), may_alias));
typedef int32_t vi __attribute__((vector_size(16), may_alias));
TKF_INLINE vf load(const float* p) {
  vf v;
  memcpy(&v, p, sizeof v);
  return v;
}
TKF_INLINE void store(float* p, vf v) { memcpy(p, &v, sizeof v); }
TKF_INLINE vf set1(float value) { return vf{value, value, value, value}; }
TKF_INLINE vf maximum(vf a, vf b) { return a > b ? a : b; }
TKF_INLINE vf minimum(vf a, vf b) { return a < b ? a : b; }
TKF_INLINE float sum(vf v) { return (v[0] + v[2]) + (v[1] + v[3]); }
TKF_INLINE float largest(vf v) { return larger(larger(v[0], v[2]), larger(v[1], v[3])); }
TKF_INLINE vf load_part(const float* p, int count) {
  vf v = set1(0);
  memcpy(&v, p, static_cast<size_t>(count) * 4);
  return v;
}
TKF_INLINE void store_part(float* p, vf v, int count) { memcpy(p, &v, static_cast<size_t>(count) * 4); }
// Four integers of another type.
template <class Integer>
TKF_INLINE vi widen(const void* p) {
  Integer q __attribute__((vector_size(4 * sizeof(Integer))));
  memcpy(&q, p, sizeof q);
  return __builtin_convertvector(q, vi);
}
// The bits of f16 numbers where floats have theirs: times 2^112 it is the number, if that is finite.
TKF_INLINE vi spread_f16(const void* p) { return (widen<int16_t>(p) << 13) & static_cast<int32_t>(0x8FFFE000); }
TKF_INLINE vf load_f16(const void* p) {
  const vi bits = spread_f16(p);
  return (vf)((vi)((vf)bits * 0x1p112f) | (((bits & 0x0F800000) == 0x0F800000) & 0x7F800000));
}
TKF_INLINE void store_f16(void* p, vf v) {
  const uint16_t h[4] = {float_to_f16(v[0]), float_to_f16(v[1]), float_to_f16(v[2]), float_to_f16(v[3])};
  memcpy(p, h, sizeof h);
}
TKF_INLINE vf load_bf16(const void* p) { return (vf)(widen<uint16_t>(p) << 16); }
TKF_INLINE vi load_i8(const void* p) {
#if defined(__x86_64__)
  int32_t bytes;
  memcpy(&bytes, p, 4);
  return (vi)_mm_cvtepi8_epi32(_mm_cvtsi32_si128(bytes));
#else
  return widen<int8_t>(p);
#endif
}
TKF_INLINE vi load_u8(const void* p) {
#if defined(__x86_64__)
  int32_t bytes;
  memcpy(&bytes, p, 4);
  return (vi)_mm_cvtepu8_epi32(_mm_cvtsi32_si128(bytes));
#else
  return widen<uint8_t>(p);
#endif
}

#endif

TKF_INLINE vf fma(vf a, vf b, vf c) { return a * b + c; }

// A product as it is, not fused with the addition that follows.
template <class Vector>
TKF_INLINE Vector unfused(Vector x) {
#if defined(__x86_64__)
  asm("" : "+x"(x));
#elif defined(__aarch64__)
  asm("" : "+w"(x));
#endif
  return x;
}

// Prefetches the 64 bytes around an address, which need not be valid, into L2, which takes more requests than L1.
// WebAssembly has no such instruction; without the call, the loops around it go too.
TKF_INLINE void prefetch([[maybe_unused]] uintptr_t address) {
#if !defined(__wasm__)
  __builtin_prefetch(reinterpret_cast<const void*>(address), 0, 2);
#endif
}
// Prefetches BYTES from an address on.
template <int BYTES>
TKF_INLINE void prefetch_lines(uintptr_t address) {
#pragma GCC unroll 64
  for (int line = 0; line < BYTES; line += 64) prefetch(address + line);
}
// Where to prefetch weights while those of a tile are used: the next tile, at least 4096 bytes ahead, since memory takes
// as long as a few small tiles.
TKF_INLINE uintptr_t ahead_of(const uint8_t* tile, int64_t bytes) {
  constexpr int64_t least = 4096;
  return reinterpret_cast<uintptr_t>(tile) + static_cast<uintptr_t>(larger(bytes, least));
}

// Element types of tensors: W of them, widened to float; the first `count` <= W, the other lanes 0; or one.
struct F32 {
  using Value = float;
  static TKF_INLINE vf load(const float* p) { return TKF_NAMESPACE::load(p); }
  static TKF_INLINE vf load_part(const float* p, int count) { return TKF_NAMESPACE::load_part(p, count); }
  static TKF_INLINE float one(const float* p) { return *p; }
};
template <vf (*load_halves)(const void*), float (*to_float)(uint16_t)>
struct Half {
  using Value = uint16_t;
  static TKF_INLINE vf load(const uint16_t* p) { return load_halves(p); }
  static TKF_INLINE vf load_part(const uint16_t* p, int count) {
    uint16_t values[W] = {};
    memcpy(values, p, sizeof(uint16_t) * static_cast<size_t>(count));
    return load_halves(values);
  }
  static TKF_INLINE float one(const uint16_t* p) { return to_float(read_u16(p)); }
};
using F16 = Half<load_f16, f16_to_float>;
using Bf16 = Half<load_bf16, bf16_to_float>;
// Calls body(Type()) with the element type of a code that was checked before.
template <class F>
TKF_INLINE void with_type(int dtype, F&& body) {
  if (dtype == TKF_DTYPE_F32) body(F32());
  else if (dtype == TKF_DTYPE_F16) body(F16());
  else body(Bf16());
}

// Integer lanes. `vi` has arithmetic, shift and comparison operators; a cast between vf and vi keeps the bits.
TKF_INLINE vi set1_int(int32_t value) { return vi{} + value; }
TKF_INLINE vf to_float(vi v) { return __builtin_convertvector(v, vf); }
// Lane numbers 0 .. W-1.
TKF_INLINE vi lane_numbers() {
  vi v;
  for (int i = 0; i < W; i++) v[i] = i;
  return v;
}

// The sums of four vectors, for less than four times the price of one.
TKF_INLINE void sum4(const vf* v, float* sums) {
#if TKF_LEVEL > TKF_LEVEL_BASE
  __m128 quarter[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
#if TKF_LEVEL == TKF_LEVEL_AVX512
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v[i]), _mm512_extractf32x8_ps(v[i], 1));
#else
    const __m256 half = v[i];
#endif
    quarter[i] = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  }
  const __m128 low = _mm_hadd_ps(quarter[0], quarter[1]), high = _mm_hadd_ps(quarter[2], quarter[3]);
  _mm_storeu_ps(sums, _mm_hadd_ps(low, high));
#else
  for (int i = 0; i < 4; i++) sums[i] = sum(v[i]);
#endif
}

// Sum of squares in double: rows of huge or tiny values neither overflow nor vanish.
TKF_INLINE double sum_of_squares(const float* x, int64_t count) {
  double sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int j = 0; j < 8; j++) sums[j] += static_cast<double>(x[i + j]) * static_cast<double>(x[i + j]);
  }
  for (; i < count; i++) sums[0] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

// e^x, relative error below 2e-7 where the result is a normal number; 0 from about x = -87.3 (avx512: -104) down,
// infinity above 88.73, NaN for NaN. Cody and Waite's reduction, then the polynomial of Cephes' expf.
TKF_INLINE vf exponential(vf x) {
  const vf log2e = set1(1.44269504088896341f), ln2_high = set1(0.693359375f), ln2_low = set1(-2.12194440e-4f);
#if TKF_LEVEL == TKF_LEVEL_AVX512
  const vf clamped = minimum(set1(89.0f), maximum(set1(-104.0f), x));
  const vf n = _mm512_roundscale_ps(clamped * log2e, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  const vf clamped = minimum(set1(89.0f), maximum(set1(-88.0f), x));
  const vf magic = set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const vf shifted = fma(clamped, log2e, magic);
  const vf n = shifted - magic;
#endif
  const vf r = clamped - n * ln2_high - n * ln2_low;
  vf y = set1(1.9875691500e-4f);
  y = fma(y, r, set1(1.3981999507e-3f));
  y = fma(y, r, set1(8.3334519073e-3f));
  y = fma(y, r, set1(4.1665795894e-2f));
  y = fma(y, r, set1(1.6666665459e-1f));
  y = fma(y, r, set1(5.0000001201e-1f));
  y = fma(y, r * r, r) + set1(1.0f);
#if TKF_LEVEL == TKF_LEVEL_AVX512
  return _mm512_scalef_ps(y, n);
#else
  // 2^n in two factors, since n reaches 128.
  const vi whole = (vi)shifted - (vi)magic, half = whole >> 1;
  const vf scale1 = (vf)((half + 127) << 23), scale2 = (vf)((whole - half + 127) << 23);
  const vi tiny = (vi)(x < set1(-87.33f));
  return (vf)((vi)(y * scale1 * scale2) & ~tiny);
#endif
}

// Work on the pool --------------------------------------------------------------------------------------------------

// body(task, thread) for every task, on all threads.
template <class F>
TKF_INLINE void parallel(tkf_context* context, int64_t tasks, F&& body) {
  auto* argument = &body;
  using Body = decltype(argument);
  context_run(
      context, tasks,
      [](void* pointer, int64_t task, int thread) { (*static_cast<Body>(pointer))(task, thread); },
      const_cast<void*>(static_cast<const void*>(argument)));
}

// body(begin, end, thread) over `tasks` ranges that cover [0, count). The longer ones come first: were long and short ones to
// take turns, one of two threads would get all the long ones.
template <class F>
TKF_INLINE void parallel_parts(tkf_context* context, int64_t count, int64_t tasks, F&& body) {
  const int64_t each = count / tasks, longer = count % tasks;
  parallel(context, tasks, [&](int64_t task, int thread) {
    const int64_t begin = each * task + smaller(task, longer);
    body(begin, begin + each + (task < longer), thread);
  });
}

// body(begin, end, thread) over ranges that cover [0, count), each of at least `grain` where there is more than one.
template <class F>
TKF_INLINE void parallel_ranges(tkf_context* context, int64_t count, int64_t grain, F&& body) {
  const int64_t most = context_threads(context) * int64_t{4};
  const int64_t tasks = smaller(most, larger(count / larger(grain, int64_t{1}), int64_t{1}));
  if (count > 0) parallel_parts(context, count, tasks, body);
}

}  // namespace tkf::TKF_NAMESPACE
