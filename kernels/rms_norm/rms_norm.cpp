// Entry point of tkf_rms_norm_apply.
#include "../common/check.h"

int32_t tkf_rms_norm_apply(tkf_context* context, const float* x, uint64_t x_bytes, const float* weight,
                           uint64_t weight_bytes, double eps, int64_t rows, int64_t cols, float* out,
                           uint64_t out_bytes) {
  tkf::Check check(context);
  check.size("rows", rows);
  check.size("cols", cols);
  check.require(eps >= 0, TKF_STATUS_VALUE, "found a negative or undefined eps, expected 0 or more");
  const int64_t bytes = check.product({rows, cols, 4});
  check.buffer("x", x, x_bytes, bytes);
  check.buffer("weight", weight, weight_bytes, check.product({cols, 4}));
  check.buffer("out", out, out_bytes, bytes);
  if (!check.ok() || bytes == 0) return check.status();
  context->kernels->rms_norm(context, x, weight, eps, rows, cols, out);
  return check.done();
}
