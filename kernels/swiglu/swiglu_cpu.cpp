// out = gate / (1 + e^-gate) * up.
#include "../common/simd.h"

namespace tkf {
namespace TKF_NAMESPACE {

// e^-gate overflows to infinity for gate < -88.7: the quotient is then -0, and the true value below 1e-36.
static TKF_INLINE vf swiglu_lanes(vf gate, vf up) {
  return gate / (set1(1) + exponential(set1(0) - gate)) * up;
}

static void swiglu(tkf_context* context, const float* gate, const float* up, int64_t count, float* out) {
  parallel_ranges(context, count, 4096, [&](int64_t begin, int64_t end, int) {
    int64_t i = begin;
    for (; i + W <= end; i += W) store(out + i, swiglu_lanes(load(gate + i), load(up + i)));
    if (i < end) {
      const int rest = static_cast<int>(end - i);
      store_part(out + i, swiglu_lanes(load_part(gate + i, rest), load_part(up + i, rest)), rest);
    }
  });
}

}  // namespace TKF_NAMESPACE
}  // namespace tkf
