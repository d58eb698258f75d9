// Checks of tkf_swiglu_apply.
#include "../common/check.h"

namespace tkf {

bool check_args(Check& check, const tkf_swiglu_apply_args& a) {
  check.size("count", a.count);
  check.array<float>("gate", a.gate, {a.count});
  check.array<float>("up", a.up, {a.count});
  check.array<float>("out", a.out, {a.count});
  return a.count > 0;
}

}  // namespace tkf
