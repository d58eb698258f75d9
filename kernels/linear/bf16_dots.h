// Products in bf16 by AVX512-BF16, which adds a product of two pairs of numbers to each of 16 sums: what AMX's tile unit
// does, with the same operands. Included by bf16.h.
namespace dots {

constexpr int kRows = 8;  // rows of x whose sums lie in registers at once

// As bf16::multiply().
template <int NT, int MT>
static void multiply(const uint8_t* weight, int64_t weight_stride, const uint8_t* x, int64_t x_stride, int count,
                     const Sums& from, const Sums& to) {
  for (int first = 0; first < MT * kTile; first += kRows) {
    const int64_t tile = first / kTile, row = first % kTile;
    const uint8_t* const own = x + tile * x_stride + row * 64;
    const auto at = [&](const Sums& sums, int r, int i) {
      return reinterpret_cast<float*>(sums.at + tile * sums.rows + (row + r) * sums.row + i * sums.columns);
    };
    vf sums[kRows][NT];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++) {
      for (int i = 0; i < NT; i++) sums[r][i] = from.at == nullptr ? set1(0) : load(at(from, r, i));
    }
    for (int step = 0; step < count; step++) {
#pragma GCC unroll 16
      for (int pair = 0; pair < kTile; pair++) {
        __m512bh w[NT];
        for (int i = 0; i < NT; i++) {
          w[i] = (__m512bh)_mm512_load_si512(weight + i * weight_stride + step * kTileBytes + pair * 64);
        }
#pragma GCC unroll 8
        for (int r = 0; r < kRows; r++) {
          int32_t numbers;
          memcpy(&numbers, own + step * kTileBytes + r * 64 + pair * 4, 4);
          for (int i = 0; i < NT; i++) {
            sums[r][i] = _mm512_dpbf16_ps(sums[r][i], (__m512bh)_mm512_set1_epi32(numbers), w[i]);
          }
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++) {
      for (int i = 0; i < NT; i++) store(at(to, r, i), sums[r][i]);
    }
  }
}

}  // namespace dots
