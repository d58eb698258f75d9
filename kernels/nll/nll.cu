// Launchers of tkf_nll_compute, tkf_logits_compare and tkf_logits_argmax.
#include "nll.cuh"

#include "../common/check.h"
#include "../common/cuda_table.h"
#include "../common/launch.h"
#include "../include/tokenfilter_cuda.h"

namespace tkf {
namespace on_cuda {

void nll(tkf_context* context, const float* logits, const int32_t* targets, int64_t rows, int64_t vocab, double* nll) {
  TKF_LAUNCH(cuda_stream(context), (nll_kernel), grid_of(rows, 1), row_threads(vocab, kLogitsThreads), 0, logits,
             targets, rows, vocab, nll, cuda_fault(context));
  cuda_launched(context, "nll");
}

void logits_compare(tkf_context* context, const float* base, const float* other, const int32_t* targets, int64_t rows,
                    int64_t vocab, double* nll, double* base_nll, double* kl, uint8_t* agree) {
  TKF_LAUNCH(cuda_stream(context), (logits_compare_kernel), grid_of(rows, 1), row_threads(vocab, kLogitsThreads), 0,
             base, other, targets, rows, vocab, nll, base_nll, kl, agree, cuda_fault(context));
  cuda_launched(context, "logits_compare");
}

}  // namespace on_cuda
}  // namespace tkf

int32_t tkf_logits_argmax(tkf_context* context, const float* logits, uint64_t logits_bytes, int64_t rows,
                          int64_t vocab, int32_t* ids, uint64_t ids_bytes) {
  tkf::Check check(context);
  check.size("rows", rows);
  check.size("vocab", vocab, 1, INT32_MAX);
  check.buffer("logits", logits, logits_bytes, check.product({rows, vocab, 4}));
  check.buffer("ids", ids, ids_bytes, check.product({rows, 4}));
  if (!check.ok() || rows == 0) return check.status();
  TKF_LAUNCH(tkf::cuda_stream(context), (tkf::argmax_kernel), tkf::grid_of(rows, 1),
             tkf::row_threads(vocab, tkf::kLogitsThreads), 0, logits, rows, vocab, ids);
  tkf::cuda_launched(context, "logits_argmax");
  return check.done();
}
