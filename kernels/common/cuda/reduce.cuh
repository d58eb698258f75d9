// Sums and maxima over the lanes of a warp and the threads of a block.
#pragma once
#include "cuda.h"

namespace tkf {

constexpr unsigned kAllLanes = 0xffffffffu;

__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x & 31u); }
__device__ __forceinline__ int warp_index() { return static_cast<int>(threadIdx.x >> 5); }

// What is made of two values.
struct Sum {
  template <class T>
  static __device__ __forceinline__ T of(T a, T b) { return a + b; }
};
struct Max {
  template <class T>
  static __device__ __forceinline__ T of(T a, T b) { return a < b ? b : a; }
};
struct Min {
  template <class T>
  static __device__ __forceinline__ T of(T a, T b) { return b < a ? b : a; }
};

// Every lane of a whole warp gets the result.
template <class Op, class T>
__device__ __forceinline__ T warp_reduce(T value) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) value = Op::of(value, __shfl_xor_sync(kAllLanes, value, lanes));
  return value;
}
template <class T>
__device__ __forceinline__ T warp_sum(T value) { return warp_reduce<Sum>(value); }

// Every thread of a one-dimensional block of whole warps gets the result, in an order that does not depend on timing.
// `shared`: room for one value a warp, for this call alone; ends with a barrier, so that it can be used again.
template <class Op, class T>
__device__ __forceinline__ T block_reduce(T value, T* shared) {
  value = warp_reduce<Op>(value);
  if (lane_index() == 0) shared[warp_index()] = value;
  __syncthreads();
  T total = shared[0];
  for (unsigned i = 1; i < blockDim.x / 32; i++) total = Op::of(total, shared[i]);
  __syncthreads();
  return total;
}
template <class T>
__device__ __forceinline__ T block_sum(T value, T* shared) { return block_reduce<Sum>(value, shared); }
template <class T>
__device__ __forceinline__ T block_max(T value, T* shared) { return block_reduce<Max>(value, shared); }

}  // namespace tkf
