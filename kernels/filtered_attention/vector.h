// What the attention kernels need of vectors beyond common/: rows asked for, sums of lanes, and powers of two.
#pragma once
#include "../common/lanes.h"

namespace tkf::TKF_NAMESPACE::attention {

// Asks for d values, a row of keys or values that is used later: rows lie too far apart for the processor to foresee.
template <class Value>
TKF_INLINE void prefetch_row(const Value* row, int d) {
  for (int c = 0; c < d; c += static_cast<int>(64 / sizeof(Value))) prefetch(reinterpret_cast<uintptr_t>(row + c));
}

// Adds lanes l and l ^ H of `a` into the lanes without bit H, those of `b` into the lanes with it.
template <int H>
TKF_INLINE vf fold(vf a, vf b) {
  return lanes_without<H>(a, b, Lanes{}) + lanes_with<H>(a, b, Lanes{});
}

// Finishes the sums of W vectors that came in as W / 4, each with 4 of them folded: lane l = sum l.
template <int H = W / 8>
TKF_INLINE vf fold_quads(vf* r) {
  if constexpr (H == 0) {
    return r[0];
  } else {
#pragma GCC unroll 4
    for (int i = 0; i < H; i++) r[i] = fold<H>(r[i], r[i + H]);
    return fold_quads<H / 2>(r);
  }
}

// Lane l = the largest lane of r[l]; overwrites r.
template <int H = W / 2>
TKF_INLINE vf largest_of_each(vf* r) {
#pragma GCC unroll 16
  for (int i = 0; i < H; i++) {
    r[i] = maximum(lanes_without<H>(r[i], r[i + H], Lanes{}), lanes_with<H>(r[i], r[i + H], Lanes{}));
  }
  if constexpr (H > 1) {
    return largest_of_each<H / 2>(r);
  } else {
    return r[0];
  }
}

// 2^x for x <= 0, relative error below 3e-7; anything under -126 gives 2^-126, NaN gives NaN.
// x = n + f with n whole and f in [-1/2, 1/2]; 2^f by a minimax polynomial that is exact at 0.
TKF_INLINE vf exp2_vector(vf x) {
  x = maximum(set1(-126.0f), x);
  const vf shifted = x + 12583039.0f;  // 1.5 * 2^23 + 127: the sum's low bits are n + 127, the exponent bits of 2^n
  const vf f = x - (shifted - 12583039.0f);
  vf p = f * 1.3264727e-3f + 9.6715130e-3f;
  p = p * f + 5.5507336e-2f;
  p = p * f + 2.4022242e-1f;
  p = p * f + 6.9314700e-1f;
  p = p * f + 1.0f;
  return p * reinterpret_cast<vf>(reinterpret_cast<vi>(shifted) << 23);
}

}  // namespace tkf::TKF_NAMESPACE::attention
