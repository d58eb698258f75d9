// Launchers of tkf_swiglu_apply and tkf_geglu_apply.
#include "swiglu.cuh"

#include "../common/launch.h"

namespace tkf {

int32_t on_cuda::swiglu_apply(tkf_context* context, const tkf_swiglu_apply_args& a) {
  TKF_LAUNCH(cuda_stream(context), (swiglu_kernel), grid_of(a.count, 256), 256, 0, as<float>(a.gate), as<float>(a.up),
             a.count, as<float>(a.out));
  return cuda_launched(context, "swiglu");
}

int32_t on_cuda::geglu_apply(tkf_context* context, const tkf_geglu_apply_args& a) {
  TKF_LAUNCH(cuda_stream(context), (geglu_kernel), grid_of(a.count, 256), 256, 0, as<float>(a.gate), as<float>(a.up),
             a.count, as<float>(a.out));
  return cuda_launched(context, "geglu");
}

}  // namespace tkf
