// tkf_filter_observe of the CPU library.
#include "../kv_filter_scan/check_filter.h"
#include "../kv_filter_scan/fit.h"

namespace tkf {

bool check_args(Check& check, const tkf_filter_observe_args& a) {
  check_spec(check, a.spec);
  check_learns(check, a.spec);
  check_memory(check, a.spec, a.states, 1);
  check.size("count", a.count);
  check.array<double>("y", a.y, {a.count});
  check_contents(check, a.spec, a.states);
  if (!check.ok()) return false;
  const Learner learner(a.spec, as<double>(a.states.numbers), as<double>(a.states.learned));
  if (a.count > learner.open()) {
    check.fail(TKF_STATUS_STATE, "found %" PRId64 " outcomes, expected at most %" PRId64, a.count, learner.open());
  }
  for (int64_t i = 0; check.ok() && i < a.count; i++) {
    check.require(std::isfinite(as<double>(a.y)[i]), TKF_STATUS_VALUE,
                  "found an outcome that is not finite, expected finite numbers");
  }
  return true;
}

int32_t filter_observe(tkf_context* context, const tkf_filter_observe_args& a) {
  Check check(context);
  Learner learner(a.spec, as<double>(a.states.numbers), as<double>(a.states.learned));
  try {
    learner.observe(as<double>(a.y), a.count);
    const bool fitted = learner.fit_if_complete(as<double>(a.states.scores), fits_on(context));
    return fitted ? TKF_STATUS_OK : fail_fit(check);
  } catch (...) {  // of memory alone, but nothing may cross the ABI
    return TKF_STATUS_MEMORY;
  }
}

}  // namespace tkf
