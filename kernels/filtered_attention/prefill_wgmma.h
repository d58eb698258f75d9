// Prefill with wgmma and TMA, where the device and the job's shape allow it (prefill_wgmma.cu).
#pragma once
#include "prefill.cuh"

namespace tkf {
namespace attention {

// Launches it on sm_90 for heads of at most 128; `job` fits the tensor-core kernels. False where prefill_mma.cuh has to
// do it.
bool launch_wgmma(tkf_context* context, const PrefillJob& job, int dtype);

}  // namespace attention
}  // namespace tkf
