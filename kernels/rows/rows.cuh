// Rows in and out of tensors: gathered by index, scattered back with an addition, stored with rounding, measured; and
// what a decode step does with the slots of its batch.
#pragma once
#include "../common/cuda_context.h"
#include "../common/reduce.cuh"
#include "../common/weights.cuh"

namespace tkf {

// What a copied value becomes: itself, or 16 bits as a float.
template <class To>
struct Copied {
  static __device__ __forceinline__ To of(To value) { return value; }
};
struct FromF16 {
  static __device__ __forceinline__ float of(uint16_t value) { return half_bits_to_float(value); }
};
struct FromBf16 {
  static __device__ __forceinline__ float of(uint16_t value) { return bfloat16_bits_to_float(value); }
};

// A block of threads a row of `cols` values (or of pieces of 16 bytes). A row of an index outside x becomes 0.
template <class From, class To, class Convert>
__global__ void __launch_bounds__(256) gather_kernel(const From* x, int64_t x_rows, int64_t cols,
                                                     const int32_t* indices, int64_t rows, To* out, int* fault) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const int64_t index = indices[row];
    const bool found = index >= 0 && index < x_rows;
    if (!found && threadIdx.x == 0) tkf_fault(fault, kFaultIndex);
    for (int64_t i = threadIdx.x; i < cols; i += blockDim.x) {
      out[row * cols + i] = found ? Convert::of(x[index * cols + i]) : To{};
    }
  }
}

__global__ void __launch_bounds__(256) scatter_add_kernel(float* x, int64_t x_rows, int64_t cols,
                                                          const int32_t* indices, int64_t rows, const float* delta,
                                                          int* fault) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const int64_t index = indices[row];
    if (index < 0 || index >= x_rows) {
      if (threadIdx.x == 0) tkf_fault(fault, kFaultIndex);
      continue;
    }
    for (int64_t i = threadIdx.x; i < cols; i += blockDim.x) x[index * cols + i] += delta[row * cols + i];
  }
}

// x [batch, cols] += delta at the slots kept [kept_count]; both NULL: everywhere.
__global__ void __launch_bounds__(256) add_kept_kernel(float* x, const float* delta, int64_t batch, int64_t cols,
                                                       const int32_t* kept, const int32_t* kept_count, int* fault) {
  const int64_t count = kept_count == nullptr ? batch : min(static_cast<int64_t>(*kept_count), batch);
  for (int64_t number = blockIdx.y; number < count; number += gridDim.y) {
    const int64_t slot = kept == nullptr ? number : kept[number];
    if (slot < 0 || slot >= batch) {
      if (threadIdx.x == 0) tkf_fault(fault, kFaultIndex);
      continue;
    }
    const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < cols; i += stride) {
      x[slot * cols + i] += delta[slot * cols + i];
    }
  }
}

struct ToF16 {
  static __device__ __forceinline__ uint16_t of(float value) { return float_to_half_bits(value); }
};
struct ToBf16 {
  static __device__ __forceinline__ uint16_t of(float value) { return float_to_bfloat16_bits(value); }
};
template <class To, class Convert>
__global__ void __launch_bounds__(256) store_kernel(const float* x, int64_t count, To* out) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    out[i] = Convert::of(x[i]);
  }
}

// A block of threads a row; in double: rows of huge or tiny values neither overflow nor vanish.
__global__ void __launch_bounds__(256) row_norms_kernel(const float* x, int64_t rows, int64_t cols, double* out) {
  TKF_SHARED(double[8], sums);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    double squares = 0;
    for (int64_t i = threadIdx.x; i < cols; i += blockDim.x) {
      const double value = static_cast<double>(x[row * cols + i]);
      squares += value * value;
    }
    const double total = block_sum(squares, sums);
    if (threadIdx.x == 0) out[row] = sqrt(total);
  }
}

__global__ void __launch_bounds__(256) advance_kernel(int32_t* positions, int64_t batch) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < batch; i += stride) {
    const int32_t position = positions[i];
    if (position >= 0 && position < INT32_MAX) positions[i] = position + 1;
  }
}

}  // namespace tkf
