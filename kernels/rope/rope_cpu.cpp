// Adjacent pairs (x[2i], x[2i+1]) turn by position * turns[i, 0] and are stretched by turns[i, 1]. Angles are in double:
// a float would be off by 1e-3 rad at position 16,000.
#include <cmath>

#include "../common/simd.h"

namespace tkf::TKF_NAMESPACE {

// Positions whose angles a context keeps.
constexpr int64_t kMostAngles = 512;

int32_t rope_apply(tkf_context* context, const tkf_rope_apply_args& a) {
  const double* turns = as<double>(a.turns);
  const int64_t heads = a.heads, head_dim = a.head_dim, pairs = head_dim / 2;
  const int64_t grain = larger(int64_t{1}, 8192 / (heads * head_dim + 16 * pairs));
  for (int64_t first = 0; first < a.rows; first += kMostAngles) {
    const int32_t* const positions = as<int32_t>(a.positions) + first;
    const int64_t rows = smaller(kMostAngles, a.rows - first);
    Angles angles;
    if (!context_angles(context, positions, rows, turns, pairs, &angles)) return TKF_STATUS_MEMORY;
    parallel_ranges(context, rows, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; row++) {
        float *const cosine = angles.values + angles.rows[row] * head_dim, *const sine = cosine + pairs;
        for (int64_t i = 0; i < pairs && !angles.known; i++) {
          const double angle = positions[row] * turns[2 * i], length = turns[2 * i + 1];
          cosine[i] = static_cast<float>(length * cos(angle));
          sine[i] = static_cast<float>(length * sin(angle));
        }
        float* head = as<float>(a.x) + (first + row) * heads * head_dim;
        for (int64_t h = 0; h < heads; h++, head += head_dim) {
          for (int64_t i = 0; i < pairs; i++) {
            const float p = head[2 * i], q = head[2 * i + 1];
            head[2 * i] = p * cosine[i] - q * sine[i];
            head[2 * i + 1] = p * sine[i] + q * cosine[i];
          }
        }
      }
    });
  }
  return TKF_STATUS_OK;
}

}  // namespace tkf::TKF_NAMESPACE
