// out = gate / (1 + e^-gate) * up.
#include "../common/simd.h"

namespace tkf {
namespace TKF_NAMESPACE {

// e^-gate overflows to infinity for gate < -88.7: the quotient is then -0, and the true value below 1e-36.
static TKF_INLINE vf swiglu_lanes(vf gate, vf up) {
  return gate / (set1(1) + exponential(set1(0) - gate)) * up;
}

static int32_t swiglu_apply(tkf_context* context, const tkf_swiglu_apply_args& a) {
  const float *gate = as<float>(a.gate), *up = as<float>(a.up);
  float* out = as<float>(a.out);
  parallel_ranges(context, a.count, 4096, [&](int64_t begin, int64_t end, int) {
    int64_t i = begin;
    for (; i + W <= end; i += W) store(out + i, swiglu_lanes(load(gate + i), load(up + i)));
    if (i < end) {
      const int rest = static_cast<int>(end - i);
      store_part(out + i, swiglu_lanes(load_part(gate + i, rest), load_part(up + i, rest)), rest);
    }
  });
  return TKF_STATUS_OK;
}

}  // namespace TKF_NAMESPACE
}  // namespace tkf
