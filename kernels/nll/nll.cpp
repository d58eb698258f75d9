// Checks of tkf_nll_compute and tkf_logits_compare.
#include "../common/check.h"

namespace tkf {

bool check_args(Check& check, const tkf_nll_compute_args& a) {
  check.size("rows", a.rows);
  check.size("vocab", a.vocab, 1);
  check.array<float>("logits", a.logits, {a.rows, a.vocab});
  check.array<int32_t>("targets", a.targets, {a.rows});
  check.array<double>("nll", a.nll, {a.rows});
  check.indices("targets", a.targets, a.rows, a.vocab);
  return a.rows > 0;
}

bool check_args(Check& check, const tkf_logits_compare_args& a) {
  check.size("rows", a.rows);
  check.size("vocab", a.vocab, 1);
  check.array<float>("base", a.base, {a.rows, a.vocab});
  check.array<float>("other", a.other, {a.rows, a.vocab});
  check.array<int32_t>("targets", a.targets, {a.rows});
  check.array<double>("nll", a.nll, {a.rows});
  check.array<double>("base_nll", a.base_nll, {a.rows});
  check.array<double>("kl", a.kl, {a.rows});
  check.array<uint8_t>("agree", a.agree, {a.rows});
  check.indices("targets", a.targets, a.rows, a.vocab);
  return a.rows > 0;
}

}  // namespace tkf
