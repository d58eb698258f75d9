// Checks of tkf_rms_norm_apply.
#include "../common/check.h"

namespace tkf {

bool check_args(Check& check, const tkf_rms_norm_apply_args& a) {
  check.size("rows", a.rows);
  check.size("cols", a.cols);
  check.require(a.eps >= 0, TKF_STATUS_VALUE, "found a negative or undefined eps, expected 0 or more");
  check.array<float>("x", a.x, {a.rows, a.cols});
  if (a.delta.data != nullptr) check.array<float>("delta", a.delta, {a.rows, a.cols});
  if (a.keep.data != nullptr) check.array<uint8_t>("keep", a.keep, {a.rows});
  check.array<float>("weight", a.weight, {a.cols});
  check.array<float>("out", a.out, {a.rows, a.cols});
  return a.rows > 0 && a.cols > 0;
}

}  // namespace tkf
