// Launcher of tkf_rope_apply.
#include "rope.cuh"

#include "../common/launch.h"

namespace tkf {

int32_t on_cuda::rope_apply(tkf_context* context, const tkf_rope_apply_args& a) {
  const int64_t groups = (a.heads + kRopeHeads - 1) / kRopeHeads, all = a.head_dim / 2;
  for (int64_t first = 0; first < all; first += kRopePairs) {
    const int64_t pairs = all - first < kRopePairs ? all - first : kRopePairs;
    TKF_LAUNCH(cuda_stream(context), (rope_kernel), grid_of(a.rows * groups, 1),
               static_cast<unsigned>((pairs + 31) / 32 * 32), 0, as<float>(a.x), as<int32_t>(a.positions),
               as<double>(a.turns) + 2 * first, static_cast<int>(first), static_cast<int>(pairs), a.rows, a.heads,
               a.head_dim, as<int32_t>(a.kept), as<int32_t>(a.kept_count), cuda_fault(context));
  }
  return cuda_launched(context, "rope");
}

}  // namespace tkf
