// Entry point of tkf_linear_apply.
#include "../common/check.h"

int32_t tkf_linear_apply(tkf_context* context, const float* x, uint64_t x_bytes, int32_t dtype, const void* weight,
                         uint64_t weight_bytes, int64_t rows, int64_t n, int64_t k, float* out, uint64_t out_bytes) {
  tkf::Check check(context);
  constexpr int64_t most = INT32_MAX;  // a BLAS counts in 32 bits
  check.size("rows", rows, 0, most);
  check.size("n", n, 0, most);
  check.size("k", k, 0, most);
  check.blocks("weight", dtype, k);
  const int64_t bytes = check.product({rows, n, 4});
  check.buffer("x", x, x_bytes, check.product({rows, k, 4}));
  check.buffer("weight", weight, weight_bytes, check.bytes_of(dtype, check.product({n, k})), tkf::alignment_of(dtype));
  check.buffer("out", out, out_bytes, bytes);
  if (!check.ok() || bytes == 0) return check.status();
  const int status = context->kernels->linear(context, x, dtype, static_cast<const uint8_t*>(weight), rows, n, k, out);
  return check.done(status);
}
