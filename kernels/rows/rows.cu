// Launchers of tkf_rows_gather, tkf_rows_scatter_add, tkf_rows_store, tkf_rows_norm, tkf_rows_add_kept and
// tkf_positions_advance.
#include "rows.cuh"

#include "../common/check.h"
#include "../common/cuda_table.h"
#include "../common/launch.h"
#include "../include/tokenfilter_cuda.h"

namespace tkf {
namespace {

template <class From, class To, class Convert>
void launch_gather(tkf_context* context, const uint8_t* x, int64_t x_rows, int64_t cols, const int32_t* indices,
                   int64_t rows, uint8_t* out) {
  TKF_LAUNCH(cuda_stream(context), (gather_kernel<From, To, Convert>), grid_of(rows, 1), row_threads(4 * cols, 256), 0,
             reinterpret_cast<const From*>(x), x_rows, cols, indices, rows, reinterpret_cast<To*>(out),
             cuda_fault(context));
}

template <class To, class Convert>
void launch_store(tkf_context* context, const float* x, int64_t count, uint8_t* out) {
  TKF_LAUNCH(cuda_stream(context), (store_kernel<To, Convert>), grid_of(count, 256), 256, 0, x, count,
             reinterpret_cast<To*>(out));
}

}  // namespace

namespace on_cuda {

void rows_gather(tkf_context* context, int dtype, const uint8_t* x, int64_t x_rows, int64_t cols,
                 const int32_t* indices, int64_t rows, int out_dtype, uint8_t* out) {
  const int64_t bytes = cols * (dtype == TKF_DTYPE_F32 ? 4 : 2);
  if (dtype != out_dtype) {
    dtype == TKF_DTYPE_F16
        ? launch_gather<uint16_t, float, FromF16>(context, x, x_rows, cols, indices, rows, out)
        : launch_gather<uint16_t, float, FromBf16>(context, x, x_rows, cols, indices, rows, out);
  } else if (bytes % 16 == 0 && is_aligned(x, 16) && is_aligned(out, 16)) {
    launch_gather<uint4, uint4, Copied<uint4>>(context, x, x_rows, bytes / 16, indices, rows, out);
  } else if (dtype == TKF_DTYPE_F32) {
    launch_gather<uint32_t, uint32_t, Copied<uint32_t>>(context, x, x_rows, cols, indices, rows, out);
  } else {
    launch_gather<uint16_t, uint16_t, Copied<uint16_t>>(context, x, x_rows, cols, indices, rows, out);
  }
  cuda_launched(context, "rows_gather");
}

void rows_scatter_add(tkf_context* context, float* x, int64_t x_rows, int64_t cols, const int32_t* indices,
                      int64_t rows, const float* delta) {
  TKF_LAUNCH(cuda_stream(context), (scatter_add_kernel), grid_of(rows, 1), row_threads(cols, 256), 0, x, x_rows, cols,
             indices, rows, delta, cuda_fault(context));
  cuda_launched(context, "rows_scatter_add");
}

void rows_store(tkf_context* context, const float* x, int64_t rows, int64_t cols, int out_dtype, uint8_t* out) {
  const int64_t count = rows * cols;
  switch (out_dtype) {
    case TKF_DTYPE_F16: launch_store<uint16_t, ToF16>(context, x, count, out); break;
    case TKF_DTYPE_BF16: launch_store<uint16_t, ToBf16>(context, x, count, out); break;
    default: launch_store<float, Copied<float>>(context, x, count, out); break;
  }
  cuda_launched(context, "rows_store");
}

void rows_norm(tkf_context* context, const float* x, int64_t rows, int64_t cols, double* out) {
  TKF_LAUNCH(cuda_stream(context), (row_norms_kernel), grid_of(rows, 1), row_threads(cols, 256), 0, x, rows, cols, out);
  cuda_launched(context, "rows_norm");
}

}  // namespace on_cuda
}  // namespace tkf

int32_t tkf_rows_add_kept(tkf_context* context, float* x, uint64_t x_bytes, const float* delta, uint64_t delta_bytes,
                          int32_t batch, int64_t cols, const int32_t* kept, uint64_t kept_bytes,
                          const int32_t* kept_count, uint64_t kept_count_bytes) {
  tkf::Check check(context);
  check.size("batch", batch);
  check.size("cols", cols);
  const int64_t bytes = check.product({batch, cols, 4});
  check.buffer("x", x, x_bytes, bytes);
  check.buffer("delta", delta, delta_bytes, bytes);
  tkf::check_kept(check, kept, kept_bytes, kept_count, kept_count_bytes, batch);
  if (!check.ok() || bytes == 0) return check.status();
  const dim3 grid(tkf::grid_of(cols, 1024), static_cast<unsigned>(batch < 65535 ? batch : 65535));
  TKF_LAUNCH(tkf::cuda_stream(context), (tkf::add_kept_kernel), grid, 256, 0, x, delta, batch, cols, kept, kept_count,
             tkf::cuda_fault(context));
  tkf::cuda_launched(context, "rows_add_kept");
  return check.done();
}

int32_t tkf_positions_advance(tkf_context* context, int32_t* positions, uint64_t positions_bytes, int32_t batch) {
  tkf::Check check(context);
  check.size("batch", batch);
  check.buffer("positions", positions, positions_bytes, check.product({batch, 4}));
  if (!check.ok() || batch == 0) return check.status();
  TKF_LAUNCH(tkf::cuda_stream(context), (tkf::advance_kernel), tkf::grid_of(batch, 256), 256, 0, positions, batch);
  tkf::cuda_launched(context, "positions_advance");
  return check.done();
}
