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

// Adds what part b of blocks gives for MR rows of x from `first` on, to W rows of weights, whose bytes lie at `u`.
template <int MR>
static TKF_INLINE void add_part(const uint8_t* u, vf d, vf m, const Rounded& x, int64_t first, int64_t b, vf* sums) {
  const int64_t blocks = x.k / 32;
  const int8_t *const x_high = x.high + first * x.k + 32 * b, *const x_low = x.low + first * x.k + 32 * b;
  const float *const dx = x.d + first * blocks + b, *const sx = x.sum + first * blocks + b;
  vi bytes[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) memcpy(&bytes[i], u + i * kRows * 4, sizeof(vi));
#pragma GCC unroll 8
  for (int row = 0; row < MR; row++) {
    vi high = {}, low = {};
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
      high = dot_bytes(high, bytes[i], x_high + row * x.k + 4 * i);
      low = dot_bytes(low, bytes[i], x_low + row * x.k + 4 * i);
    }
    sums[row] = fma(to_float((high << 8) + low), d * set1(dx[row * blocks]), sums[row]);
    sums[row] = fma(m, set1(sx[row * blocks]), sums[row]);
  }
}

// The sums of MR rows of x with W rows of weights, of which `some` are there: out[m * n + r].
template <int MR>
static TKF_INLINE void store_sums(const vf* sums, int some, float* out, int64_t n) {
  for (int row = 0; row < MR; row++) {
    if (some >= W) store(out + row * n, sums[row]);
    else store_part(out + row * n, sums[row], some);
  }
}

// `rows` <= MR rows of x from `first` on: out[m * n + r], of which `valid` columns are there.
template <int MR>
static void tile(const Panel& panel, const Rounded& x, int64_t first, int rows, int valid, float* out, int64_t n) {
  if constexpr (MR > 1) {
    if (rows < MR) return tile<MR - 1>(panel, x, first, rows, valid, out, n);
  }
  for (int v = 0; v < kRowVectors && v * W < valid; v++) {
    vf sums[MR] = {};
    for (int64_t b = 0; b < x.k / 32; b++) {
      const int64_t at = b * kRows + v * W;
      add_part<MR>(panel.u + b * kPanelBytes + v * W * 4, load(panel.d + at), load(panel.m + at), x, first, b, sums);
    }
    store_sums<MR>(sums, valid - v * W, out + v * W, n);
  }
}

#if defined(TKF_VNNI)
// The same with all of the few rows of x there are, of weights that are used as soon as they are turned about.
template <class Format, int MR>
static void turn_and_multiply(const uint8_t* weight, int valid, const Rounded& x, int rows, float* out, int64_t n) {
  if constexpr (MR > 1) {
    if (rows < MR) return turn_and_multiply<Format, MR - 1>(weight, valid, x, rows, out, n);
  }
  alignas(64) uint8_t u[kPieceParts * kPanelBytes];
  alignas(64) float d[kPieceParts * kRows], m[kPieceParts * kRows];
  vf sums[MR] = {};
  const auto place = [&](int64_t) { return Panel{u, d, m}; };
  turn_rows<Format>(weight, valid, x.k, place, [&](int64_t first, int count, const Panel&) {
    for (int i = 0; i < count; i++) {
      add_part<MR>(u + i * kPanelBytes, load(d + i * kRows), load(m + i * kRows), x, 0, first + i, sums);
    }
  });
  store_sums<MR>(sums, valid, out, n);
}
#endif

}  // namespace tkf::TKF_NAMESPACE::int16::TKF_PRODUCTS
