// Entry points of tkf_nll_compute and tkf_logits_compare.
#include "../common/check.h"

int32_t tkf_nll_compute(tkf_context* context, const float* logits, uint64_t logits_bytes, const int32_t* targets,
                        uint64_t targets_bytes, int64_t rows, int64_t vocab, double* nll, uint64_t nll_bytes) {
  tkf::Check check(context);
  check.size("rows", rows);
  check.size("vocab", vocab, 1);
  check.buffer("logits", logits, logits_bytes, check.product({rows, vocab, 4}));
  check.buffer("targets", targets, targets_bytes, check.product({rows, 4}));
  check.buffer("nll", nll, nll_bytes, check.product({rows, 8}), 8);
  check.indices("targets", targets, rows, vocab);
  if (!check.ok() || rows == 0) return check.status();
  context->kernels->nll(context, logits, targets, rows, vocab, nll);
  return check.done();
}

int32_t tkf_logits_compare(tkf_context* context, const float* base, uint64_t base_bytes, const float* other,
                           uint64_t other_bytes, const int32_t* targets, uint64_t targets_bytes, int64_t rows,
                           int64_t vocab, double* nll, uint64_t nll_bytes, double* base_nll, uint64_t base_nll_bytes,
                           double* kl, uint64_t kl_bytes, uint8_t* agree, uint64_t agree_bytes) {
  tkf::Check check(context);
  check.size("rows", rows);
  check.size("vocab", vocab, 1);
  const int64_t bytes = check.product({rows, vocab, 4}), column = check.product({rows, 8});
  check.buffer("base", base, base_bytes, bytes);
  check.buffer("other", other, other_bytes, bytes);
  check.buffer("targets", targets, targets_bytes, check.product({rows, 4}));
  check.buffer("nll", nll, nll_bytes, column, 8);
  check.buffer("base_nll", base_nll, base_nll_bytes, column, 8);
  check.buffer("kl", kl, kl_bytes, column, 8);
  check.buffer("agree", agree, agree_bytes, rows, 1);
  check.indices("targets", targets, rows, vocab);
  if (!check.ok() || rows == 0) return check.status();
  context->kernels->logits_compare(context, base, other, targets, rows, vocab, nll, base_nll, kl, agree);
  return check.done();
}
