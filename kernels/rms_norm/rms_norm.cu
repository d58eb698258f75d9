// out = x / sqrt(mean(x^2) + eps) * weight, a block of threads a row; out may be x.
#include "../common/launch.h"
#include "../common/reduce.cuh"

namespace tkf {

constexpr unsigned kRmsNormThreads = 256;

// Squares are summed in double: rows of huge or tiny values neither overflow nor vanish.
__global__ void __launch_bounds__(kRmsNormThreads)
    rms_norm_kernel(const float* x, const float* weight, double eps, int64_t rows, int64_t cols, float* out) {
  TKF_SHARED(double[kRmsNormThreads / 32], sums);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float* from = x + row * cols;
    float* to = out + row * cols;
    double squares = 0;
    for (int64_t i = threadIdx.x; i < cols; i += blockDim.x) {
      const double value = static_cast<double>(from[i]);
      squares += value * value;
    }
    const double mean = block_sum(squares, sums) / static_cast<double>(cols);
    const float factor = static_cast<float>(1 / sqrt(mean + eps));
    for (int64_t i = threadIdx.x; i < cols; i += blockDim.x) to[i] = from[i] * factor * weight[i];
  }
}

int32_t on_cuda::rms_norm_apply(tkf_context* context, const tkf_rms_norm_apply_args& a) {
  TKF_LAUNCH(cuda_stream(context), (rms_norm_kernel), grid_of(a.rows, 1), row_threads(a.cols, kRmsNormThreads), 0,
             as<float>(a.x), as<float>(a.weight), a.eps, a.rows, a.cols, as<float>(a.out));
  return cuda_launched(context, "rms_norm");
}

}  // namespace tkf
