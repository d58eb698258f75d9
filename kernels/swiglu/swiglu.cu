// Launcher of tkf_swiglu_apply.
#include "swiglu.cuh"

#include "../common/cuda_table.h"
#include "../common/launch.h"

namespace tkf {
namespace on_cuda {

void swiglu(tkf_context* context, const float* gate, const float* up, int64_t count, float* out) {
  TKF_LAUNCH(cuda_stream(context), (swiglu_kernel), grid_of(count, 256), 256, 0, gate, up, count, out);
  cuda_launched(context, "swiglu");
}

}  // namespace on_cuda
}  // namespace tkf
