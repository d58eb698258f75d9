// Checks of tkf_linear_apply.
#include "../common/check.h"

namespace tkf {

bool check_args(Check& check, const tkf_linear_apply_args& a) {
  constexpr int64_t most = INT32_MAX;  // a BLAS counts in 32 bits
  check.size("rows", a.rows, 0, most);
  check.size("n", a.n, 0, most);
  check.size("k", a.k, 0, most);
  check.blocks("weight", a.dtype, a.k);
  check.array<float>("x", a.x, {a.rows, a.k});
  check.values("weight", a.weight, a.dtype, {a.n, a.k});
  check.array<float>("out", a.out, {a.rows, a.n});
  check.require(a.same_x == 0 || a.same_x == 1, TKF_STATUS_VALUE, "found neither 0 nor 1 for \"same_x\"");
  check.kept(a.kept, a.kept_count, a.rows);
  return a.rows > 0 && a.n > 0;
}

}  // namespace tkf
