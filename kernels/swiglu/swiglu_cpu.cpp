// out = gate / (1 + e^-slope) * up, with slope = gate for SwiGLU, and for GeGLU 2 sqrt(2 / pi) (gate + 0.044715 gate^3),
// since (1 + tanh(x)) / 2 = 1 / (1 + e^-2x).
#include "../common/simd.h"

namespace tkf::TKF_NAMESPACE {

// e^-slope overflows to infinity for slope < -88.7: the quotient is then -0, and the true value below 1e-36.
static TKF_INLINE vf gated(vf gate, vf slope, vf up) { return gate / (set1(1) + exponential(set1(0) - slope)) * up; }

static TKF_INLINE vf swiglu_lanes(vf gate, vf up) { return gated(gate, gate, up); }

static TKF_INLINE vf geglu_lanes(vf gate, vf up) {
  return gated(gate, set1(1.5957691216f) * gate * (set1(1) + set1(0.044715f) * gate * gate), up);
}

template <class Args, class Lanes>
static int32_t apply_gate(tkf_context* context, const Args& a, Lanes lanes) {
  const float *gate = as<float>(a.gate), *up = as<float>(a.up);
  float* out = as<float>(a.out);
  parallel_ranges(context, a.count, 4096, [&](int64_t begin, int64_t end, int) {
    int64_t i = begin;
    for (; i + W <= end; i += W) store(out + i, lanes(load(gate + i), load(up + i)));
    if (i < end) {
      const int rest = static_cast<int>(end - i);
      store_part(out + i, lanes(load_part(gate + i, rest), load_part(up + i, rest)), rest);
    }
  });
  return TKF_STATUS_OK;
}

static int32_t swiglu_apply(tkf_context* context, const tkf_swiglu_apply_args& a) {
  return apply_gate(context, a, [](vf gate, vf up) { return swiglu_lanes(gate, up); });
}

static int32_t geglu_apply(tkf_context* context, const tkf_geglu_apply_args& a) {
  return apply_gate(context, a, [](vf gate, vf up) { return geglu_lanes(gate, up); });
}

}  // namespace tkf::TKF_NAMESPACE
