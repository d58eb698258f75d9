// Entry point of tkf_rope_apply.
#include <cmath>

#include "../common/check.h"

int32_t tkf_rope_apply(tkf_context* context, float* x, uint64_t x_bytes, const int32_t* positions,
                       uint64_t positions_bytes, double theta, int64_t rows, int64_t heads, int64_t head_dim) {
  tkf::Check check(context);
  check.size("rows", rows);
  check.size("heads", heads);
  check.size("head_dim", head_dim, 0, 65536);
  check.require(head_dim % 2 == 0, TKF_STATUS_SHAPE, "found an odd head_dim, expected an even one");
  check.require(theta > 0 && std::isfinite(theta), TKF_STATUS_VALUE, "found theta not above 0, expected a number > 0");
  const int64_t bytes = check.product({rows, heads, head_dim, 4});
  check.buffer("x", x, x_bytes, bytes);
  check.buffer("positions", positions, positions_bytes, check.product({rows, 4}));
  if (!check.ok() || bytes == 0) return check.status();
  const int status = context->kernels->rope(context, x, positions, theta, rows, heads, head_dim);
  return check.done(status);
}
