// Sums and maxima over the lanes of a warp and the threads of a block.
#pragma once
#include "cuda.h"

namespace tkf {

constexpr unsigned kAllLanes = 0xffffffffu;

__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x & 31u); }
__device__ __forceinline__ int warp_index() { return static_cast<int>(threadIdx.x >> 5); }

// Every lane of a whole warp gets the sum.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kAllLanes, value, lanes);
  return value;
}
template <class T>
__device__ __forceinline__ T warp_max(T value) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, value, lanes);
    value = value < other ? other : value;
  }
  return value;
}

// Every thread of a one-dimensional block of whole warps gets the result, in an order that does not depend on timing.
// `shared`: room for one value a warp, which nobody else uses; ends with a barrier, so that it can be used again.
template <class T>
__device__ __forceinline__ T block_sum(T value, T* shared) {
  value = warp_sum(value);
  if (lane_index() == 0) shared[warp_index()] = value;
  __syncthreads();
  T total = shared[0];
  for (unsigned i = 1; i < blockDim.x / 32; i++) total += shared[i];
  __syncthreads();
  return total;
}
template <class T>
__device__ __forceinline__ T block_max(T value, T* shared) {
  value = warp_max(value);
  if (lane_index() == 0) shared[warp_index()] = value;
  __syncthreads();
  T most = shared[0];
  for (unsigned i = 1; i < blockDim.x / 32; i++) most = most < shared[i] ? shared[i] : most;
  __syncthreads();
  return most;
}

}  // namespace tkf
