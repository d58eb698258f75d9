// Checks of tkf_gate_apply.
#include "../common/check.h"

namespace tkf {

bool check_args(Check& check, const tkf_gate_apply_args& a) {
  check.size("count", a.count);
  check.array<float>("gate", a.gate, {a.count});
  check.array<float>("up", a.up, {a.count});
  check.array<float>("out", a.out, {a.count});
  check.size("kind", a.kind, TKF_GATE_SWIGLU, TKF_GATE_GEGLU);
  return a.count > 0;
}

}  // namespace tkf
