// Entry points of tkf_embedding_gather and tkf_tensor_dequantize.
#include "../common/check.h"

int32_t tkf_tensor_dequantize(tkf_context* context, int32_t dtype, const void* values, uint64_t values_bytes,
                              int64_t count, float* out, uint64_t out_bytes) {
  tkf::Check check(context);
  check.size("count", count);
  check.blocks("values", dtype, count);
  const int64_t bytes = check.product({count, 4});
  check.buffer("values", values, values_bytes, check.bytes_of(dtype, count), tkf::alignment_of(dtype));
  check.buffer("out", out, out_bytes, bytes);
  if (!check.ok() || bytes == 0) return check.status();
  context->kernels->dequantize(context, dtype, static_cast<const uint8_t*>(values), count, out);
  return check.done();
}

int32_t tkf_embedding_gather(tkf_context* context, int32_t dtype, const void* table, uint64_t table_bytes,
                             int64_t vocab, int64_t cols, const int32_t* ids, uint64_t ids_bytes, int64_t rows,
                             float* out, uint64_t out_bytes) {
  tkf::Check check(context);
  check.size("vocab", vocab);
  check.size("cols", cols);
  check.size("rows", rows);
  check.blocks("table", dtype, cols);
  const int64_t bytes = check.product({rows, cols, 4});
  check.buffer("table", table, table_bytes, check.bytes_of(dtype, check.product({vocab, cols})),
               tkf::alignment_of(dtype));
  check.buffer("ids", ids, ids_bytes, check.product({rows, 4}));
  check.buffer("out", out, out_bytes, bytes);
  check.indices("ids", ids, rows, vocab);
  if (!check.ok() || bytes == 0) return check.status();
  context->kernels->embedding(context, dtype, static_cast<const uint8_t*>(table), vocab, cols, ids, rows, out);
  return check.done();
}
