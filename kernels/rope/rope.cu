// Launcher of tkf_rope_apply.
#include "rope.cuh"

#include <cmath>

#include "../common/launch.h"

namespace tkf {
namespace {

// pow() of 64 pairs takes some microseconds, as long as a launch: the last ones are kept.
struct CachedFrequencies {
  double theta = 0;
  int64_t head_dim = 0, first_pair = -1;
  RopeFrequencies frequencies = {};
};

const RopeFrequencies& frequencies_of(double theta, int64_t head_dim, int64_t first_pair) {
  static thread_local CachedFrequencies cached;
  if (cached.theta != theta || cached.head_dim != head_dim || cached.first_pair != first_pair) {
    for (int64_t i = 0; i < kRopePairs; i++) {
      cached.frequencies.values[i] =
          pow(theta, -2 * static_cast<double>(first_pair + i) / static_cast<double>(head_dim));
    }
    cached.theta = theta, cached.head_dim = head_dim, cached.first_pair = first_pair;
  }
  return cached.frequencies;
}

}  // namespace

int32_t on_cuda::rope_apply(tkf_context* context, const tkf_rope_apply_args& a) {
  const int64_t groups = (a.heads + kRopeHeads - 1) / kRopeHeads, all = a.head_dim / 2;
  for (int64_t first = 0; first < all; first += kRopePairs) {
    const int64_t pairs = all - first < kRopePairs ? all - first : kRopePairs;
    TKF_LAUNCH(cuda_stream(context), (rope_kernel), grid_of(a.rows * groups, 1),
               static_cast<unsigned>((pairs + 31) / 32 * 32), 0, as<float>(a.x), as<int32_t>(a.positions),
               frequencies_of(a.theta, a.head_dim, first), static_cast<int>(first), static_cast<int>(pairs), a.rows,
               a.heads, a.head_dim, as<int32_t>(a.kept), as<int32_t>(a.kept_count), cuda_fault(context));
  }
  return cuda_launched(context, "rope");
}

}  // namespace tkf
