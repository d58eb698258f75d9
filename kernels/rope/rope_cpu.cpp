// Adjacent pairs (x[2i], x[2i+1]) turn by position * turns[i, 0] and are stretched by turns[i, 1]. Angles are in double:
// a float would be off by 1e-3 rad at position 16,000.
#include <cmath>

#include "../common/simd.h"

namespace tkf::TKF_NAMESPACE {

static int32_t rope_apply(tkf_context* context, const tkf_rope_apply_args& a) {
  float* x = as<float>(a.x);
  const int32_t* positions = as<int32_t>(a.positions);
  const double* turns = as<double>(a.turns);
  const int64_t heads = a.heads, head_dim = a.head_dim, pairs = head_dim / 2;
  // Per thread: the cosine and sine of each pair at one position, in x's order.
  if (!context_reserve(context, static_cast<size_t>(head_dim) * sizeof(float), 0)) return TKF_STATUS_MEMORY;
  const int64_t grain = larger(int64_t{1}, 8192 / (heads * head_dim + 16 * pairs));
  parallel_ranges(context, a.rows, grain, [&](int64_t begin, int64_t end, int thread) {
    float* cosine = static_cast<float*>(context_scratch(context, thread));
    float* sine = cosine + pairs;
    for (int64_t row = begin; row < end; row++) {
      for (int64_t i = 0; i < pairs; i++) {
        const double angle = positions[row] * turns[2 * i], length = turns[2 * i + 1];
        cosine[i] = static_cast<float>(length * cos(angle));
        sine[i] = static_cast<float>(length * sin(angle));
      }
      float* head = x + row * heads * head_dim;
      for (int64_t h = 0; h < heads; h++, head += head_dim) {
        for (int64_t i = 0; i < pairs; i++) {
          const float p = head[2 * i], q = head[2 * i + 1];
          head[2 * i] = p * cosine[i] - q * sine[i];
          head[2 * i + 1] = p * sine[i] + q * cosine[i];
        }
      }
    }
  });
  return TKF_STATUS_OK;
}

}  // namespace tkf::TKF_NAMESPACE
