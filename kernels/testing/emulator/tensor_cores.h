// The arithmetic of tensor cores with f16 or bf16 factors, as measured on cards (Fasi et al., PeerJ CS 7:e330, 2021;
// arXiv 2512.07004): products are exact. Some of them and the sum so far are aligned to the largest exponent and cut off
// two bits below a float's 24, then added, and the sum is cut off to a float. An A100 or Ada takes 8 products at a time, an
// H100 16.
#pragma once
#include "types.h"

namespace tkf::simt {

constexpr int kExtraBits = 2;
typedef double Doubles __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(16)));
typedef int64_t Longs __attribute__((vector_size(32)));
typedef float Floats __attribute__((vector_size(16)));
constexpr int kColumns = 4;  // of a vector

// Powers of two not above numbers; of what is not finite, infinity.
inline Doubles power_of(Doubles x) { return (Doubles)((Longs)x & 0x7ff0000000000000); }

// A factor of 16 rows of k and COLUMNS columns, and its powers of two.
template <int COLUMNS>
struct RightFactor {
  Doubles values[16][COLUMNS / kColumns], powers[16][COLUMNS / kColumns];
  void set(unsigned k, unsigned column, float value) {
    values[k][column / kColumns][column % kColumns] = value;
    powers[k][column / kColumns][column % kColumns] = power_of(Doubles{value})[0];
  }
};

// d[COLUMNS] += a[16] b, TOGETHER products at a time.
template <int TOGETHER, int COLUMNS>
inline void add_products(const float* a, const RightFactor<COLUMNS>& b, float* d) {
  Doubles left[16], left_powers[16];
  for (int k = 0; k < 16; k++) {
    left[k] = Doubles{} + static_cast<double>(a[k]);
    left_powers[k] = power_of(left[k]);
  }
  for (int c = 0; c < COLUMNS / kColumns; c++) {
    Floats sum;
    memcpy(&sum, d + kColumns * c, sizeof sum);
    for (int first = 0; first < 16; first += TOGETHER) {
      const Doubles before = __builtin_convertvector(sum, Doubles);
      Doubles most = power_of(before), plain = before;
      for (int k = first; k < first + TOGETHER; k++) {
        const Doubles power = left_powers[k] * b.powers[k][c];
        most = power > most ? power : most;
        plain += left[k] * b.values[k][c];
      }
      const Doubles unit = (most > 1e-280 ? most : Doubles{} + 1e-280) * 0x1p-23 * (1.0 / (1 << kExtraBits));
      const Doubles scale = 1 / unit;
      const auto cut = [&](Doubles x) {
        return __builtin_convertvector(__builtin_convertvector(x * scale, Ints), Doubles);
      };
      Doubles total = cut(before);
      for (int k = first; k < first + TOGETHER; k++) total += cut(left[k] * b.values[k][c]);
      total *= unit;
      // Towards zero: without the bits that a float has no room for.
      total = (Doubles)((Longs)total & ~int64_t{0x1fffffff});
      const auto finite = plain - plain == 0;
      sum = __builtin_convertvector(finite ? total : plain, Floats);
    }
    memcpy(d + kColumns * c, &sum, sizeof sum);
  }
}

}  // namespace tkf::simt
