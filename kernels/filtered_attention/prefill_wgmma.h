// Prefill with wgmma and TMA, where the device and the job's shape allow it (prefill_wgmma.cu).
#pragma once
#include "prefill.cuh"

namespace tkf {
namespace attention {

// Whether the device is an sm_90 and this library holds code made for it. (What sm_90 compiles from PTX of compute_80
// has no wgmma.) The emulator has it too.
bool has_wgmma(const tkf_context* context);

// Launches it, where tkf_cuda_wgmma_use asks for it, for heads of at most 128; `job` fits the tensor-core kernels.
// False where prefill_mma.cuh has to do it. Plans the job's splits.
bool launch_wgmma(tkf_context* context, PrefillJob& job, int dtype);

}  // namespace attention
}  // namespace tkf
