// What gates make of lanes: out = gate / (1 + e^-slope) * up, with slope = gate for SwiGLU, and for GeGLU
// 2 sqrt(2 / pi) (gate + 0.044715 gate^3), since (1 + tanh(x)) / 2 = 1 / (1 + e^-2x).
#pragma once
#include "../common/simd.h"

namespace tkf::TKF_NAMESPACE {

// e^-slope overflows to infinity for slope < -88.7: the quotient is then -0, and the true value below 1e-36.
static TKF_INLINE vf gated(vf gate, vf slope, vf up) { return gate / (set1(1) + exponential(set1(0) - slope)) * up; }

static TKF_INLINE vf swiglu_lanes(vf gate, vf up) { return gated(gate, gate, up); }

static TKF_INLINE vf geglu_lanes(vf gate, vf up) {
  return gated(gate, set1(1.5957691216f) * gate * (set1(1) + set1(0.044715f) * gate * gate), up);
}

}  // namespace tkf::TKF_NAMESPACE
