// x += delta, where there is one, and out = x / sqrt(mean(x^2) + eps) * weight, row by row.
#include <cmath>

#include "../common/simd.h"

namespace tkf::TKF_NAMESPACE {

int32_t rms_norm_apply(tkf_context* context, const tkf_rms_norm_apply_args& a) {
  float* x = as<float>(a.x);
  const float *delta = as<float>(a.delta), *weight = as<float>(a.weight);
  const uint8_t* keep = as<uint8_t>(a.keep);
  float* out = as<float>(a.out);
  const int64_t cols = a.cols;
  const double eps = a.eps;
  parallel_ranges(context, a.rows, larger(int64_t{1}, 16384 / cols), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row++) {
      float* in = x + row * cols;
      if (delta != nullptr && (keep == nullptr || keep[row] != 0)) {
        const float* more = delta + row * cols;
        int64_t i = 0;
        for (; i + W <= cols; i += W) store(in + i, load(in + i) + load(more + i));
        for (; i < cols; i++) in[i] += more[i];
      }
      float* to = out + row * cols;
      const double mean = sum_of_squares(in, cols) / static_cast<double>(cols);
      const float factor = static_cast<float>(1 / sqrt(mean + eps));
      const vf scale = set1(factor);
      int64_t i = 0;
      for (; i + W <= cols; i += W) store(to + i, load(in + i) * scale * load(weight + i));
      for (; i < cols; i++) to[i] = in[i] * factor * weight[i];
    }
  });
  return TKF_STATUS_OK;
}

}  // namespace tkf::TKF_NAMESPACE
