// Launchers of tkf_rope_apply and tkf_rope_kept.
#include "rope.cuh"

#include <cmath>

#include "../common/check.h"
#include "../common/cuda_table.h"
#include "../common/launch.h"
#include "../include/tokenfilter_cuda.h"

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

int launch_rope(tkf_context* context, float* x, const int32_t* positions, double theta, int64_t rows, int64_t heads,
                int64_t head_dim, const int32_t* kept, const int32_t* kept_count) {
  const int64_t groups = (heads + kRopeHeads - 1) / kRopeHeads;
  for (int64_t first = 0; first < head_dim / 2; first += kRopePairs) {
    const int64_t pairs = head_dim / 2 - first < kRopePairs ? head_dim / 2 - first : kRopePairs;
    TKF_LAUNCH(cuda_stream(context), (rope_kernel), grid_of(rows * groups, 1),
               static_cast<unsigned>((pairs + 31) / 32 * 32), 0, x, positions, frequencies_of(theta, head_dim, first),
               static_cast<int>(first), static_cast<int>(pairs), rows, heads, head_dim, kept, kept_count,
               cuda_fault(context));
  }
  return cuda_launched(context, "rope");
}

}  // namespace

namespace on_cuda {

int rope(tkf_context* context, float* x, const int32_t* positions, double theta, int64_t rows, int64_t heads,
         int64_t head_dim) {
  return launch_rope(context, x, positions, theta, rows, heads, head_dim, nullptr, nullptr);
}

}  // namespace on_cuda
}  // namespace tkf

int32_t tkf_rope_kept(tkf_context* context, float* x, uint64_t x_bytes, const int32_t* positions,
                      uint64_t positions_bytes, double theta, int32_t batch, int64_t heads, int64_t head_dim,
                      const int32_t* kept, uint64_t kept_bytes, const int32_t* kept_count, uint64_t kept_count_bytes) {
  tkf::Check check(context);
  check.size("batch", batch);
  check.size("heads", heads);
  check.size("head_dim", head_dim, 0, 65536);
  check.require(head_dim % 2 == 0, TKF_STATUS_SHAPE, "found an odd head_dim, expected an even one");
  check.require(theta > 0 && std::isfinite(theta), TKF_STATUS_VALUE, "found theta not above 0, expected a number > 0");
  const int64_t bytes = check.product({batch, heads, head_dim, 4});
  check.buffer("x", x, x_bytes, bytes);
  check.buffer("positions", positions, positions_bytes, check.product({batch, 4}));
  tkf::check_kept(check, kept, kept_bytes, kept_count, kept_count_bytes, batch);
  if (!check.ok() || bytes == 0) return check.status();
  return check.done(tkf::launch_rope(context, x, positions, theta, batch, heads, head_dim, kept, kept_count));
}
