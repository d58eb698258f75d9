// Checks of tkf_swiglu_apply and tkf_geglu_apply.
#include "../common/check.h"

namespace tkf {
namespace {

template <class Args>
bool check_gate(Check& check, const Args& a) {
  check.size("count", a.count);
  check.array<float>("gate", a.gate, {a.count});
  check.array<float>("up", a.up, {a.count});
  check.array<float>("out", a.out, {a.count});
  return a.count > 0;
}

}  // namespace

bool check_args(Check& check, const tkf_swiglu_apply_args& a) { return check_gate(check, a); }
bool check_args(Check& check, const tkf_geglu_apply_args& a) { return check_gate(check, a); }

}  // namespace tkf
