// Checks of tkf_rope_apply.
#include "../common/check.h"

namespace tkf {

bool check_args(Check& check, const tkf_rope_apply_args& a) {
  check.size("rows", a.rows);
  check.size("heads", a.heads);
  check.size("head_dim", a.head_dim, 0, 65536);
  check.require(a.head_dim % 2 == 0, TKF_STATUS_SHAPE, "found an odd head_dim, expected an even one");
  check.array<float>("x", a.x, {a.rows, a.heads, a.head_dim});
  check.array<int32_t>("positions", a.positions, {a.rows});
  check.array<double>("turns", a.turns, {a.head_dim / 2, 2});
  check.kept(a.kept, a.kept_count, a.rows);
  return a.rows > 0 && a.heads > 0 && a.head_dim > 0;
}

}  // namespace tkf
