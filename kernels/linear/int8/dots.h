// Sums of products of bytes: what a processor has for them. A word of weights holds four bytes, unsigned but for
// kSignedBytes; one of x four signed bytes.
#pragma once
#include "../../common/blocks_of_32.h"
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

#define TKF_LAMBDA __attribute__((always_inline))

namespace tkf::TKF_NAMESPACE::TKF_INT8 {

// Without instructions for bytes they are widened to 16 bits: a word is cut into its even bytes and its odd ones.
#if defined(__x86_64__) || TKF_INT8_DOTS
constexpr int kPieces = 1;
#else
constexpr int kPieces = 2;
#endif

// Whether weights of eight bits stay signed.
#if defined(__x86_64__)
constexpr bool kSignedBytes = !TKF_INT8_DOTS;
#else
constexpr bool kSignedBytes = TKF_INT8_DOTS;
#endif

// Rows of x that share what is loaded of a panel: as many as registers allow.
#if TKF_LEVEL == TKF_LEVEL_AVX512 || defined(__aarch64__)
constexpr int kTileRows = 6;
#else
constexpr int kTileRows = 4;
#endif

// Words of weights as the factors that add_dots() takes.
template <int WORDS>
TKF_INLINE void cut_words(const vi* words, vi* pieces) {
#pragma GCC unroll 8
  for (int j = 0; j < WORDS; j++) {
    if constexpr (kPieces == 1) {
      pieces[j] = words[j];
    } else {
      pieces[2 * j] = words[j] & 0x00FF00FF;
      pieces[2 * j + 1] = (words[j] >> 8) & 0x00FF00FF;
    }
  }
}

// Stores W rounded values of x, those of vector i of a block, in the order of the words' pieces.
TKF_INLINE void store_rounded(vi q, int i, int32_t* words) {
#if TKF_LEVEL == TKF_LEVEL_AVX512
  _mm_storeu_si128(reinterpret_cast<__m128i*>(words + 4 * i), _mm512_cvtepi32_epi8((__m512i)q));
#else
  if constexpr (kPieces == 1) {
    int8_t bytes[W];
    for (int lane = 0; lane < W; lane++) bytes[lane] = static_cast<int8_t>(q[lane]);
    memcpy(words + i * W / 4, bytes, W);
  } else {
    for (int lane = 0; lane < W; lane += 4) {
      const int16_t cut[4] = {static_cast<int16_t>(q[lane]), static_cast<int16_t>(q[lane + 2]),
                              static_cast<int16_t>(q[lane + 1]), static_cast<int16_t>(q[lane + 3])};
      memcpy(words + (i * W + lane) / 2, cut, sizeof cut);
    }
  }
#endif
}

#if defined(__x86_64__) && !TKF_INT8_DOTS
// Sums of pairs of products in 16 bits: unsigned bytes of weights, or signed ones, whose sign x takes.
template <bool SIGNED>
TKF_INLINE vi pairs_of(vi w, vi x) {
#if TKF_LEVEL == TKF_LEVEL_AVX512
  const __m512i a = (__m512i)w, b = (__m512i)x;
  if (!SIGNED) return (vi)_mm512_maddubs_epi16(a, b);
  return (vi)_mm512_maddubs_epi16(_mm512_abs_epi8(a),
                                  _mm512_mask_sub_epi8(b, _mm512_movepi8_mask(a), _mm512_setzero_si512(), b));
#elif TKF_LEVEL == TKF_LEVEL_AVX2
  const __m256i a = (__m256i)w, b = (__m256i)x;
  return (vi)(SIGNED ? _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(b, a)) : _mm256_maddubs_epi16(a, b));
#else
  const __m128i a = (__m128i)w, b = (__m128i)x;
  return (vi)(SIGNED ? _mm_maddubs_epi16(_mm_abs_epi8(a), _mm_sign_epi8(b, a)) : _mm_maddubs_epi16(a, b));
#endif
}
// A sum as it is, not in another order: g++ would make all products first, and keep them in memory.
TKF_INLINE vi in_order(vi sum) {
  asm("" : "+v"(sum));
  return sum;
}
TKF_INLINE vi add_16(vi a, vi b) {
  typedef int16_t Halves __attribute__((vector_size(4 * W), may_alias));
  return in_order((vi)((Halves)a + (Halves)b));
}
// sum + the sums of both halves of each lane
TKF_INLINE vi add_pairs(vi sum, vi pairs) {
#if TKF_LEVEL == TKF_LEVEL_AVX512
  return in_order(sum + (vi)_mm512_madd_epi16((__m512i)pairs, _mm512_set1_epi16(1)));
#elif TKF_LEVEL == TKF_LEVEL_AVX2
  return in_order(sum + (vi)_mm256_madd_epi16((__m256i)pairs, _mm256_set1_epi16(1)));
#else
  return in_order(sum + (vi)_mm_madd_epi16((__m128i)pairs, _mm_set1_epi16(1)));
#endif
}
#else
// sum + the products of the parts of each lane
TKF_INLINE vi add_dot(vi sum, vi w, vi x) {
#if defined(__wasm__)
  return sum + (vi)wasm_i32x4_dot_i16x8((v128_t)w, (v128_t)x);
#elif defined(__aarch64__) && TKF_INT8_DOTS
  return (vi)vdotq_s32((int32x4_t)sum, (int8x16_t)w, (int8x16_t)x);
#elif defined(__aarch64__)
  const int16x8_t a = (int16x8_t)w, b = (int16x8_t)x;
  return sum + (vi)vpaddq_s32(vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b));
#elif TKF_LEVEL == TKF_LEVEL_AVX512
  return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, (__m512i)x);
#else
  return (vi)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)w, (__m256i)x);
#endif
}
#endif

// dots[r][i] = the products of a group's words, word(j, i), with those of M rows of x, whose half `second` it is, and the bias.
template <class Own, class Block, int M, int N, class Word>
TKF_INLINE void dots_of(const Block* x, int second, Word&& word, vi (&dots)[M][N]) {
  constexpr int words = Own::WORDS * kPieces;
  const int first = second * words;
  const auto begin_of = [&](int r) { return set1_int(Own::OFFSET == 0 ? 0 : x[r].bias[second]); };
#if defined(__x86_64__) && !TKF_INT8_DOTS
  constexpr int steps = Own::STEPS;
#pragma GCC unroll 8
  for (int begin = 0; begin < words; begin += steps) {
    vi pairs[M][N];
#pragma GCC unroll 8
    for (int step = 0; step < steps; step++) {
      vi w[N];
      for (int i = 0; i < N; i++) w[i] = word(begin + step, i);
#pragma GCC unroll 16
      for (int r = 0; r < M; r++) {
        const vi own = set1_int(x[r].words[first + begin + step]);
#pragma GCC unroll 2
        for (int i = 0; i < N; i++) {
          const vi found = pairs_of<Own::SIGNED>(w[i], own);
          pairs[r][i] = step == 0 ? found : add_16(pairs[r][i], found);
        }
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < M; r++) {
#pragma GCC unroll 2
      for (int i = 0; i < N; i++) dots[r][i] = add_pairs(begin == 0 ? begin_of(r) : dots[r][i], pairs[r][i]);
    }
  }
#else
#pragma GCC unroll 16
  for (int r = 0; r < M; r++) {
#pragma GCC unroll 2
    for (int i = 0; i < N; i++) dots[r][i] = begin_of(r);
  }
#if defined(__wasm__)
  // Without a loop, clang would finish one sum after the other: all rows of x would need registers, and engines spill them.
  constexpr int unrolled = N == 1 ? 16 : 2;
#pragma GCC unroll unrolled
#else
#pragma GCC unroll 16
#endif
  for (int j = 0; j < words; j++) {
    vi w[N];
    for (int i = 0; i < N; i++) w[i] = word(j, i);
#pragma GCC unroll 16
    for (int r = 0; r < M; r++) {
      const vi own = set1_int(x[r].words[first + j]);
#pragma GCC unroll 2
      for (int i = 0; i < N; i++) dots[r][i] = add_dot(dots[r][i], w[i], own);
    }
  }
#endif
}

}  // namespace tkf::TKF_NAMESPACE::TKF_INT8
