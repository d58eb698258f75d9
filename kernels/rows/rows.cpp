// Entry points of tkf_rows_gather, tkf_rows_scatter_add, tkf_rows_store and tkf_rows_norm.
#include "../common/check.h"

int32_t tkf_rows_gather(tkf_context* context, int32_t dtype, const void* x, uint64_t x_bytes, int64_t x_rows,
                        int64_t cols, const int32_t* indices, uint64_t indices_bytes, int64_t rows, int32_t out_dtype,
                        void* out, uint64_t out_bytes) {
  tkf::Check check(context);
  check.dtype("x", dtype, {TKF_DTYPE_F32, TKF_DTYPE_F16, TKF_DTYPE_BF16});
  check.dtype("out", out_dtype, {TKF_DTYPE_F32, dtype});
  check.size("x_rows", x_rows);
  check.size("cols", cols);
  check.size("rows", rows);
  check.buffer("x", x, x_bytes, check.bytes_of(dtype, check.product({x_rows, cols})), tkf::alignment_of(dtype));
  check.buffer("indices", indices, indices_bytes, check.product({rows, 4}));
  const int64_t bytes = check.bytes_of(out_dtype, check.product({rows, cols}));
  check.buffer("out", out, out_bytes, bytes, tkf::alignment_of(out_dtype));
  check.indices("indices", indices, rows, x_rows);
  if (!check.ok() || bytes == 0) return check.status();
  context->kernels->rows_gather(context, dtype, static_cast<const uint8_t*>(x), x_rows, cols, indices, rows, out_dtype,
                                static_cast<uint8_t*>(out));
  return check.done();
}

int32_t tkf_rows_scatter_add(tkf_context* context, float* x, uint64_t x_bytes, int64_t x_rows, int64_t cols,
                             const int32_t* indices, uint64_t indices_bytes, int64_t rows, const float* delta,
                             uint64_t delta_bytes) {
  tkf::Check check(context);
  check.size("x_rows", x_rows);
  check.size("cols", cols);
  check.size("rows", rows);
  const int64_t bytes = check.product({rows, cols, 4});
  check.buffer("x", x, x_bytes, check.product({x_rows, cols, 4}));
  check.buffer("indices", indices, indices_bytes, check.product({rows, 4}));
  check.buffer("delta", delta, delta_bytes, bytes);
  check.indices("indices", indices, rows, x_rows);
  if (!check.ok() || bytes == 0) return check.status();
  context->kernels->rows_scatter_add(context, x, x_rows, cols, indices, rows, delta);
  return check.done();
}

int32_t tkf_rows_store(tkf_context* context, const float* x, uint64_t x_bytes, int64_t rows, int64_t cols,
                       int32_t out_dtype, void* out, uint64_t out_bytes, int64_t at) {
  tkf::Check check(context);
  check.dtype("out", out_dtype, {TKF_DTYPE_F32, TKF_DTYPE_F16, TKF_DTYPE_BF16});
  check.size("rows", rows);
  check.size("cols", cols);
  check.size("at", at, 0, INT64_MAX - (rows > 0 ? rows : 0));
  const int64_t bytes = check.product({rows, cols, 4});
  check.buffer("x", x, x_bytes, bytes);
  const int64_t before = check.bytes_of(out_dtype, check.product({at, cols}));
  check.buffer("out", out, out_bytes, check.bytes_of(out_dtype, check.product({check.ok() ? at + rows : 0, cols})),
               tkf::alignment_of(out_dtype));
  if (!check.ok() || bytes == 0) return check.status();
  context->kernels->rows_store(context, x, rows, cols, out_dtype, static_cast<uint8_t*>(out) + before);
  return check.done();
}

int32_t tkf_rows_norm(tkf_context* context, const float* x, uint64_t x_bytes, int64_t rows, int64_t cols, double* out,
                      uint64_t out_bytes) {
  tkf::Check check(context);
  check.size("rows", rows);
  check.size("cols", cols);
  check.buffer("x", x, x_bytes, check.product({rows, cols, 4}));
  check.buffer("out", out, out_bytes, check.product({rows, 8}), 8);
  if (!check.ok() || rows == 0) return check.status();
  context->kernels->rows_norm(context, x, rows, cols, out);
  return check.done();
}
