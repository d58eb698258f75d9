// Products of rows of x in int16 with a panel of weights; included once for each way to multiply bytes (int16.h).
namespace tkf::TKF_NAMESPACE::int16::TKF_PRODUCTS {

// acc plus, in each 32-bit lane, its four bytes u times the four of x, which are signed.
static TKF_INLINE vi dot_bytes(vi acc, vi u, const int8_t* x) {
  int32_t four;
  memcpy(&four, x, 4);
#if defined(TKF_VNNI)
  return (vi)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)u, _mm512_set1_epi32(four));
#elif defined(__x86_64__)
  // Even bytes, then odd ones, as 16-bit numbers: no sum of two products leaves 32 bits.
  const vi v = set1_int(four), even = u & 0x00FF00FF, odd = (u >> 8) & 0x00FF00FF;
#if TKF_LEVEL == TKF_LEVEL_AVX512
  const __m512i low = _mm512_srai_epi16(_mm512_slli_epi16((__m512i)v, 8), 8), high = _mm512_srai_epi16((__m512i)v, 8);
  return acc + (vi)_mm512_madd_epi16((__m512i)even, low) + (vi)_mm512_madd_epi16((__m512i)odd, high);
#elif TKF_LEVEL == TKF_LEVEL_AVX2
  const __m256i low = _mm256_srai_epi16(_mm256_slli_epi16((__m256i)v, 8), 8), high = _mm256_srai_epi16((__m256i)v, 8);
  return acc + (vi)_mm256_madd_epi16((__m256i)even, low) + (vi)_mm256_madd_epi16((__m256i)odd, high);
#else
  const __m128i low = _mm_srai_epi16(_mm_slli_epi16((__m128i)v, 8), 8), high = _mm_srai_epi16((__m128i)v, 8);
  return acc + (vi)_mm_madd_epi16((__m128i)even, low) + (vi)_mm_madd_epi16((__m128i)odd, high);
#endif
#else
  const vi v = set1_int(four), byte = set1_int(255);
  for (int i = 0; i < 4; i++) acc += (u >> (8 * i) & byte) * (v << (24 - 8 * i) >> 24);
  return acc;
#endif
}

// `rows` <= MR rows of x from `first` on: out[m * n + r], of which `valid` columns are there.
template <int MR>
static void tile(const Panel& panel, const Rounded& x, int64_t first, int rows, int valid, float* out, int64_t n) {
  if constexpr (MR > 1) {
    if (rows < MR) return tile<MR - 1>(panel, x, first, rows, valid, out, n);
  }
  const int64_t blocks = x.k / 32;
  const int8_t *const x_high = x.high + first * x.k, *const x_low = x.low + first * x.k;
  const float *const dx = x.d + first * blocks, *const sx = x.sum + first * blocks;
  for (int v = 0; v < kRowVectors; v++) {
    vf sums[MR] = {};
    for (int64_t b = 0; b < blocks; b++) {
      const float *const d_at = panel.d + b * kRows + v * W, *const m_at = panel.m + b * kRows + v * W;
      const vf d = load(d_at), m = load(m_at);
      vi u[8];
#pragma GCC unroll 8
      for (int i = 0; i < 8; i++) memcpy(&u[i], panel.u + b * kPanelBytes + (i * kRows + v * W) * 4, sizeof(vi));
#pragma GCC unroll 8
      for (int row = 0; row < MR; row++) {
        vi high = {}, low = {};
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
          const int64_t at = row * x.k + 32 * b + 4 * i;
          high = dot_bytes(high, u[i], x_high + at);
          low = dot_bytes(low, u[i], x_low + at);
        }
        sums[row] = fma(to_float((high << 8) + low), d * set1(dx[row * blocks + b]), sums[row]);
        sums[row] = fma(m, set1(sx[row * blocks + b]), sums[row]);
      }
    }
    const int some = smaller(valid - v * W, W);
    if (some <= 0) return;
    for (int row = 0; row < MR; row++) {
      float* const to = out + row * n + v * W;
      if (some == W) store(to, sums[row]);
      else store_part(to, sums[row], some);
    }
  }
}

}  // namespace tkf::TKF_NAMESPACE::int16::TKF_PRODUCTS
