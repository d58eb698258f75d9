// 16-bit numbers, and the sums of tensor cores.
#include <cmath>
#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "ptx.h"

namespace ptx {

float from_half(u16 bits) {
#if defined(__F16C__)
  return _cvtsh_ss(bits);
#else
  const u32 sign = u32{bits & 0x8000u} << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent == 0) {
    const float size = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -size : size;
  }
  return value_of<float>(sign | (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13);
#endif
}
u16 to_half(float value) {
  if (value != value) return 0x7fff;
#if defined(__F16C__)
  return static_cast<u16>(_cvtss_sh(value, 0));
#else
  const u16 sign = std::signbit(value) ? 0x8000 : 0;
  const float size = std::fabs(value);
  if (size >= 65520) return sign | 0x7c00;
  // Of numbers below 2^-14 the steps are 2^-24; above, adding and taking away rounds to 11 bits.
  if (size < 0x1p-14f) return sign | static_cast<u16>(std::nearbyint(size * 0x1p24f));
  const u32 bits = bits_of(size), rounded = bits + 0xfff + (bits >> 13 & 1);
  return sign | static_cast<u16>((rounded - (112u << 23)) >> 13);
#endif
}
u16 to_bf16(float value) {
  if (value != value) return 0x7fff;
  const u32 bits = bits_of(value);
  return static_cast<u16>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

namespace {

// COUNT products and c: aligned to the largest, with one bit more than a float has, cut there, added, and cut to a float.
template <int COUNT>
float cut_sum(float c, const float* a, const float* b) {
  double terms[COUNT], most = std::fabs(static_cast<double>(c)), exact = c;
  for (int k = 0; k < COUNT; k++) terms[k] = static_cast<double>(a[k]) * static_cast<double>(b[k]);
  for (int k = 0; k < COUNT; k++) most = std::fabs(terms[k]) > most || terms[k] != terms[k] ? std::fabs(terms[k]) : most;
  if (most == 0 || !(most < INFINITY)) {
    for (int k = 0; k < COUNT; k++) exact += terms[k];
    return static_cast<float>(exact);
  }
  u64 bits;
  memcpy(&bits, &most, 8);
  const u64 exponent = (bits >> 52) - 1022;  // most < 2^exponent
  const double scale = value_of<double>((25 - exponent + 1023) << 52), back = value_of<double>((exponent - 25 + 1023) << 52);
  double sum = std::trunc(c * scale);
  for (int k = 0; k < COUNT; k++) sum += std::trunc(terms[k] * scale);
  const double cut = sum * back;
  const float out = static_cast<float>(cut);
  return std::fabs(static_cast<double>(out)) > std::fabs(cut) ? std::nextafter(out, 0.0f) : out;
}

}  // namespace

float tensor_sum(float c, const float* a, const float* b) {
  if (options().sums == 16) return cut_sum<16>(c, a, b);
  if (options().sums == 8) return cut_sum<8>(cut_sum<8>(c, a, b), a + 8, b + 8);
  double exact = c;
  for (int k = 0; k < 16; k++) exact += static_cast<double>(a[k]) * b[k];
  return static_cast<float>(exact);
}

}  // namespace ptx
