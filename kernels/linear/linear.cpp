// Checks of tkf_linear_apply.
#include "../common/check.h"

namespace tkf {

bool check_args(Check& check, const tkf_linear_apply_args& a) {
  constexpr int64_t most = INT32_MAX;  // a BLAS counts in 32 bits
  check.size("rows", a.rows, 0, most);
  check.size("k", a.k, 0, most);
  check.array<float>("x", a.x, {a.rows, a.k});
  for (const tkf_product& p : {a.first, a.second, a.third}) {
    check.size("n", p.n, 0, most);
    check.blocks("weight", p.dtype, a.k);
    check.values("weight", p.weight, p.dtype, {p.n, a.k});
    check.array<float>("out", p.out, {a.rows, p.n});
  }
  check.require(a.same_x == 0 || a.same_x == 1, TKF_STATUS_VALUE, "found neither 0 nor 1 for \"same_x\"");
  check.size("gate", a.gate, TKF_GATE_NONE, TKF_GATE_GEGLU);
  check.kept(a.kept, a.kept_count, a.rows);
  if (a.gate != TKF_GATE_NONE) {
    check.require(a.first.n == a.second.n && a.third.n == 0, TKF_STATUS_SHAPE,
                  "found products that a gate does not go with, expected two of as many columns");
    check.require(a.kept.data == nullptr, TKF_STATUS_UNSUPPORTED, "found a gate and a list of kept rows");
  }
  return a.rows > 0 && (a.first.n > 0 || a.second.n > 0 || a.third.n > 0);
}

}  // namespace tkf
