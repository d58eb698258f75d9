// How the entry points of the CPU library fit.
#pragma once
#include "../common/cpu_context.h"
#include "kv_filter_scan.h"

namespace tkf {

// What Learner::fit_if_complete fits with: the body of the context's level.
inline auto fits_on(tkf_context* context) {
  return [context](const FilterFit& job) { return cpu(context)->kernels->filter_fit(context, job) == TKF_STATUS_OK; };
}

}  // namespace tkf
