// Checks of tkf_rope_apply.
#include <cmath>

#include "../common/check.h"

namespace tkf {

bool check_args(Check& check, const tkf_rope_apply_args& a) {
  check.size("rows", a.rows);
  check.size("heads", a.heads);
  check.size("head_dim", a.head_dim, 0, 65536);
  check.require(a.head_dim % 2 == 0, TKF_STATUS_SHAPE, "found an odd head_dim, expected an even one");
  check.require(a.theta > 0 && std::isfinite(a.theta), TKF_STATUS_VALUE,
                "found theta not above 0, expected a number > 0");
  check.array<float>("x", a.x, {a.rows, a.heads, a.head_dim});
  check.array<int32_t>("positions", a.positions, {a.rows});
  check.kept(a.kept, a.kept_count, a.rows);
  return a.rows > 0 && a.heads > 0 && a.head_dim > 0;
}

}  // namespace tkf
