// x += delta, where there is one, and out = x / sqrt(mean(x^2) + eps) * weight, a block of threads a row; out may be x.
#include "../common/cuda/launch.h"
#include "../common/cuda/reduce.cuh"

namespace tkf {

constexpr unsigned kRmsNormThreads = 512;

// Squares are summed in double: rows of huge or tiny values neither overflow nor vanish.
__device__ __forceinline__ float rms_factor(double squares, int64_t cols, double eps, double* shared) {
  return static_cast<float>(1 / sqrt(block_sum(squares, shared) / static_cast<double>(cols) + eps));
}
__device__ __forceinline__ double square(float value) {
  return static_cast<double>(value) * static_cast<double>(value);
}

// What is added to x first, if anything: to all rows, or to those kept.
struct Addend {
  const float* delta;   // [rows, cols], or NULL
  const uint8_t* keep;  // [rows], or NULL: all

  __device__ __forceinline__ bool is_for(int64_t row) const {
    return delta != nullptr && (keep == nullptr || keep[row] != 0);
  }
};

// Rows of whole pieces of 16 bytes, up to EACH a thread: a row is read once, all of it at a time.
template <int EACH>
__global__ void __launch_bounds__(kRmsNormThreads)
    rms_norm_pieces_kernel(float4* x, Addend addend, const float4* weight, double eps, int64_t rows, int pieces,
                           float4* out) {
  wait_for_earlier_kernels();
  TKF_SHARED(double[kRmsNormThreads / 32], sums);
  const float4* const delta = reinterpret_cast<const float4*>(addend.delta);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    float4 v[EACH], w[EACH], d[EACH];
#pragma unroll
    for (int e = 0; e < EACH; e++) {
      const int i = static_cast<int>(threadIdx.x + e * blockDim.x);
      v[e] = i < pieces ? x[row * pieces + i] : float4{0, 0, 0, 0};
      w[e] = i < pieces ? __ldg(weight + i) : float4{0, 0, 0, 0};
      d[e] = i < pieces && addend.delta != nullptr ? delta[row * pieces + i] : float4{0, 0, 0, 0};
    }
    if (addend.is_for(row)) {
#pragma unroll
      for (int e = 0; e < EACH; e++) {
        const int i = static_cast<int>(threadIdx.x + e * blockDim.x);
        v[e] = {v[e].x + d[e].x, v[e].y + d[e].y, v[e].z + d[e].z, v[e].w + d[e].w};
        if (i < pieces) x[row * pieces + i] = v[e];
      }
    }
    double squares = 0;
#pragma unroll
    for (int e = 0; e < EACH; e++) squares += (square(v[e].x) + square(v[e].y)) + (square(v[e].z) + square(v[e].w));
    const float factor = rms_factor(squares, int64_t{4} * pieces, eps, sums);
#pragma unroll
    for (int e = 0; e < EACH; e++) {
      const int i = static_cast<int>(threadIdx.x + e * blockDim.x);
      const float4 scaled = {v[e].x * factor * w[e].x, v[e].y * factor * w[e].y, v[e].z * factor * w[e].z,
                             v[e].w * factor * w[e].w};
      if (i < pieces) out[row * pieces + i] = scaled;
    }
  }
}

// Any rows.
__global__ void __launch_bounds__(kRmsNormThreads)
    rms_norm_kernel(float* x, Addend addend, const float* weight, double eps, int64_t rows, int64_t cols, float* out) {
  wait_for_earlier_kernels();
  TKF_SHARED(double[kRmsNormThreads / 32], sums);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    float* from = x + row * cols;
    float* to = out + row * cols;
    const float* delta = addend.is_for(row) ? addend.delta + row * cols : nullptr;
    double squares = 0;
#pragma unroll 1  // two at a time spill on sm_120
    for (int64_t i = threadIdx.x; i < cols; i += blockDim.x) {
      float v = from[i];
      if (delta != nullptr) from[i] = v += delta[i];
      squares += square(v);
    }
    const float factor = rms_factor(squares, cols, eps, sums);
    for (int64_t i = threadIdx.x; i < cols; i += blockDim.x) to[i] = from[i] * factor * weight[i];
  }
}

int32_t on_cuda::rms_norm_apply(tkf_context* context, const tkf_rms_norm_apply_args& a) {
  const Stream stream = cuda_stream(context);
  float *const x = as<float>(a.x), *const out = as<float>(a.out);
  const float* const weight = as<float>(a.weight);
  const Addend addend = {as<float>(a.delta), as<uint8_t>(a.keep)};
  const int64_t pieces = a.cols / 4;
  const bool whole = a.cols % 4 == 0 && is_aligned(x, 16) && is_aligned(weight, 16) && is_aligned(out, 16) &&
                     is_aligned(addend.delta, 16);
  if (whole && pieces <= 4 * kRmsNormThreads) {
    with_size<1, 2, 4>((pieces + kRmsNormThreads - 1) / kRmsNormThreads, [&](auto each) {
      constexpr int EACH = decltype(each)::value;
      TKF_LAUNCH(stream, (rms_norm_pieces_kernel<EACH>), grid_of(a.rows, 1),
                 row_threads(a.cols / EACH, kRmsNormThreads), 0, reinterpret_cast<float4*>(x), addend,
                 reinterpret_cast<const float4*>(weight), a.eps, a.rows, static_cast<int>(pieces),
                 reinterpret_cast<float4*>(out));
    });
  } else {
    TKF_LAUNCH(stream, (rms_norm_kernel), grid_of(a.rows, 1), row_threads(a.cols, kRmsNormThreads), 0, x, addend,
               weight, a.eps, a.rows, a.cols, out);
  }
  return cuda_launched(context, "rms_norm");
}

}  // namespace tkf
