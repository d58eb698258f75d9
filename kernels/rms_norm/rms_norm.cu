// Launcher of tkf_rms_norm_apply.
#include "rms_norm.cuh"

#include "../common/launch.h"

namespace tkf {

int32_t on_cuda::rms_norm_apply(tkf_context* context, const tkf_rms_norm_apply_args& a) {
  TKF_LAUNCH(cuda_stream(context), (rms_norm_kernel), grid_of(a.rows, 1), row_threads(a.cols, kRmsNormThreads), 0,
             as<float>(a.x), as<float>(a.weight), a.eps, a.rows, a.cols, as<float>(a.out));
  return cuda_launched(context, "rms_norm");
}

}  // namespace tkf
