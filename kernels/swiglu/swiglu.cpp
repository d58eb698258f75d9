// Entry point of tkf_swiglu_apply.
#include "../common/check.h"

int32_t tkf_swiglu_apply(tkf_context* context, const float* gate, uint64_t gate_bytes, const float* up,
                         uint64_t up_bytes, int64_t count, float* out, uint64_t out_bytes) {
  tkf::Check check(context);
  check.size("count", count);
  const int64_t bytes = check.product({count, 4});
  check.buffer("gate", gate, gate_bytes, bytes);
  check.buffer("up", up, up_bytes, bytes);
  check.buffer("out", out, out_bytes, bytes);
  if (!check.ok() || bytes == 0) return check.status();
  context->kernels->swiglu(context, gate, up, count, out);
  return check.done();
}
