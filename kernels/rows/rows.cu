// Launchers of the ops on rows, and the checks of those that only the CUDA library has.
#include "rows.cuh"

#include "../common/launch.h"

namespace tkf {
namespace {

template <class From, class To, class Convert>
void launch_gather(tkf_context* context, const tkf_rows_gather_args& a, int64_t cols) {
  TKF_LAUNCH(cuda_stream(context), (gather_kernel<From, To, Convert>), grid_of(a.rows, 1), row_threads(4 * cols, 256), 0,
             as<From>(a.x), a.x_rows, cols, as<int32_t>(a.indices), a.rows, as<To>(a.out), cuda_fault(context));
}

template <class To, class Convert>
void launch_store(tkf_context* context, const tkf_rows_store_args& a) {
  const int64_t count = a.rows * a.cols;
  TKF_LAUNCH(cuda_stream(context), (store_kernel<To, Convert>), grid_of(count, 256), 256, 0, as<float>(a.x), count,
             as<To>(a.out) + a.at * a.cols);
}

}  // namespace

int32_t on_cuda::rows_gather(tkf_context* context, const tkf_rows_gather_args& a) {
  const int64_t bytes = a.cols * (a.dtype == TKF_DTYPE_F32 ? 4 : 2);
  if (a.dtype != a.out_dtype) {
    a.dtype == TKF_DTYPE_F16 ? launch_gather<uint16_t, float, FromF16>(context, a, a.cols)
                             : launch_gather<uint16_t, float, FromBf16>(context, a, a.cols);
  } else if (bytes % 16 == 0 && is_aligned(a.x.data, 16) && is_aligned(a.out.data, 16)) {
    launch_gather<uint4, uint4, Copied<uint4>>(context, a, bytes / 16);
  } else if (a.dtype == TKF_DTYPE_F32) {
    launch_gather<uint32_t, uint32_t, Copied<uint32_t>>(context, a, a.cols);
  } else {
    launch_gather<uint16_t, uint16_t, Copied<uint16_t>>(context, a, a.cols);
  }
  return cuda_launched(context, "rows_gather");
}

int32_t on_cuda::rows_scatter_add(tkf_context* context, const tkf_rows_scatter_add_args& a) {
  TKF_LAUNCH(cuda_stream(context), (scatter_add_kernel), grid_of(a.rows, 1), row_threads(a.cols, 256), 0,
             as<float>(a.x), a.x_rows, a.cols, as<int32_t>(a.indices), a.rows, as<float>(a.delta), cuda_fault(context));
  return cuda_launched(context, "rows_scatter_add");
}

int32_t on_cuda::rows_store(tkf_context* context, const tkf_rows_store_args& a) {
  switch (a.out_dtype) {
    case TKF_DTYPE_F16: launch_store<uint16_t, ToF16>(context, a); break;
    case TKF_DTYPE_BF16: launch_store<uint16_t, ToBf16>(context, a); break;
    default: launch_store<float, Copied<float>>(context, a); break;
  }
  return cuda_launched(context, "rows_store");
}

int32_t on_cuda::rows_norm(tkf_context* context, const tkf_rows_norm_args& a) {
  TKF_LAUNCH(cuda_stream(context), (row_norms_kernel), grid_of(a.rows, 1), row_threads(a.cols, 256), 0, as<float>(a.x),
             a.rows, a.cols, as<double>(a.out));
  return cuda_launched(context, "rows_norm");
}

bool check_args(Check& check, const tkf_rows_add_kept_args& a) {
  check.size("rows", a.rows, 0, INT32_MAX);
  check.size("cols", a.cols);
  check.array<float>("x", a.x, {a.rows, a.cols});
  check.array<float>("delta", a.delta, {a.rows, a.cols});
  check.kept(a.kept, a.kept_count, a.rows);
  return a.rows > 0 && a.cols > 0;
}
int32_t on_cuda::rows_add_kept(tkf_context* context, const tkf_rows_add_kept_args& a) {
  const dim3 grid(grid_of(a.cols, 1024), static_cast<unsigned>(a.rows < 65535 ? a.rows : 65535));
  TKF_LAUNCH(cuda_stream(context), (add_kept_kernel), grid, 256, 0, as<float>(a.x), as<float>(a.delta), a.rows, a.cols,
             as<int32_t>(a.kept), as<int32_t>(a.kept_count), cuda_fault(context));
  return cuda_launched(context, "rows_add_kept");
}

bool check_args(Check& check, const tkf_positions_advance_args& a) {
  check.size("batch", a.batch, 0, INT32_MAX);
  check.array<int32_t>("positions", a.positions, {a.batch});
  return a.batch > 0;
}
int32_t on_cuda::positions_advance(tkf_context* context, const tkf_positions_advance_args& a) {
  TKF_LAUNCH(cuda_stream(context), (advance_kernel), grid_of(a.batch, 256), 256, 0, as<int32_t>(a.positions), a.batch);
  return cuda_launched(context, "positions_advance");
}

}  // namespace tkf
