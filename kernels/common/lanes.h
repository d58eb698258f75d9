// Shuffles of lanes, and the transposition of a square of them.
#pragma once
#include "simd.h"

namespace tkf::TKF_NAMESPACE {

// Lanes of two vectors by number, from template arguments.
#if defined(__clang__)
#define TKF_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define TKF_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, vi{__VA_ARGS__})
#endif
// Lane numbers as template arguments, at compile time alone.
template <int... L>
struct LaneList {};
template <int N, int... L>
struct MakeLanes : MakeLanes<N - 1, N - 1, L...> {};
template <int... L>
struct MakeLanes<0, L...> {
  using List = LaneList<L...>;
};
using Lanes = MakeLanes<W>::List;

// One step of a W x W transposition: lanes of `a` and `b` without bit h, then those with it.
template <int H, int... L>
TKF_INLINE vf lanes_without(vf a, vf b, LaneList<L...>) {
  return TKF_SHUFFLE(a, b, ((L & H) ? W + L - H : L)...);
}
template <int H, int... L>
TKF_INLINE vf lanes_with(vf a, vf b, LaneList<L...>) {
  return TKF_SHUFFLE(a, b, ((L & H) ? W + L : L + H)...);
}
#undef TKF_SHUFFLE
// Transposes the W x W floats in `r`.
template <int H = W / 2>
TKF_INLINE void transpose(vf* r) {
#pragma GCC unroll 16
  for (int i = 0; i < W; i++) {
    if (i & H) continue;
    const vf a = r[i], b = r[i + H];
    r[i] = lanes_without<H>(a, b, Lanes{});
    r[i + H] = lanes_with<H>(a, b, Lanes{});
  }
  if constexpr (H > 1) transpose<H / 2>(r);
}

}  // namespace tkf::TKF_NAMESPACE
