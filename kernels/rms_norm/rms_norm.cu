// Launcher of tkf_rms_norm_apply.
#include "rms_norm.cuh"

#include "../common/cuda_table.h"
#include "../common/launch.h"

namespace tkf {
namespace on_cuda {

void rms_norm(tkf_context* context, const float* x, const float* weight, double eps, int64_t rows, int64_t cols,
              float* out) {
  TKF_LAUNCH(cuda_stream(context), (rms_norm_kernel), grid_of(rows, 1), row_threads(cols, kRmsNormThreads), 0, x,
             weight, eps, rows, cols, out);
  cuda_launched(context, "rms_norm");
}

}  // namespace on_cuda
}  // namespace tkf
