// Launchers of the ops on logits, and the checks of the one that only the CUDA library has.
#include "nll.cuh"

#include "../common/launch.h"

namespace tkf {

int32_t on_cuda::nll_compute(tkf_context* context, const tkf_nll_compute_args& a) {
  TKF_LAUNCH(cuda_stream(context), (nll_kernel), grid_of(a.rows, 1), row_threads(a.vocab, kLogitsThreads), 0,
             as<float>(a.logits), as<int32_t>(a.targets), a.rows, a.vocab, as<double>(a.nll), cuda_fault(context));
  return cuda_launched(context, "nll");
}

int32_t on_cuda::logits_compare(tkf_context* context, const tkf_logits_compare_args& a) {
  TKF_LAUNCH(cuda_stream(context), (logits_compare_kernel), grid_of(a.rows, 1), row_threads(a.vocab, kLogitsThreads), 0,
             as<float>(a.base), as<float>(a.other), as<int32_t>(a.targets), a.rows, a.vocab, as<double>(a.nll),
             as<double>(a.base_nll), as<double>(a.kl), as<uint8_t>(a.agree), cuda_fault(context));
  return cuda_launched(context, "logits_compare");
}

bool check_args(Check& check, const tkf_logits_argmax_args& a) {
  check.size("rows", a.rows);
  check.size("vocab", a.vocab, 1, INT32_MAX);
  check.array<float>("logits", a.logits, {a.rows, a.vocab});
  check.array<int32_t>("ids", a.ids, {a.rows});
  return a.rows > 0;
}
int32_t on_cuda::logits_argmax(tkf_context* context, const tkf_logits_argmax_args& a) {
  TKF_LAUNCH(cuda_stream(context), (argmax_kernel), grid_of(a.rows, 1), row_threads(a.vocab, kLogitsThreads), 0,
             as<float>(a.logits), a.rows, a.vocab, as<int32_t>(a.ids));
  return cuda_launched(context, "logits_argmax");
}

}  // namespace tkf
