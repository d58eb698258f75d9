// Numbers as sums of 16-bit floats, so that tensor cores multiply them without losing what float32 holds.
//
// For f16 and quantised weights: v = scale * (high + low), f16, where `scale` is a power of two that puts the row's
// largest value in [2^14, 2^15): 22 bits of each value, and nothing of the row overflows. For bf16 weights: v = high +
// middle + low, bf16, all 24 bits. Rows lie at addresses that 16 divides, and k is a multiple of 4. Parts are
// [parts][rows][padded k] with zeros from k on. Infinity and NaN go into the first part alone; the product of a row that
// holds one is infinite or NaN.
#pragma once
#include "../common/cuda/reduce.cuh"
#include "../common/cuda/weights.cuh"
#include "linear.h"

namespace tkf {

constexpr unsigned kSplitThreads = 256;

// Bits of |v| where it is finite, else 0: ordered as the numbers are.
__device__ __forceinline__ uint32_t finite_magnitude(float v) {
  const uint32_t bits = bits_as<uint32_t>(v) & 0x7fffffffu;
  return bits < 0x7f800000u ? bits : 0u;
}
// 2^exponent, for exponents of normal numbers.
__device__ __forceinline__ float power_of_two(int exponent) {
  return bits_as<float>(static_cast<uint32_t>(exponent + 127) << 23);
}
// Exponent of a row's scale, from the bits of its largest finite magnitude.
__device__ __forceinline__ int scale_exponent(uint32_t largest) {
  return max(static_cast<int>(largest >> 23) - 127, -112) - 14;
}

// What a thread of a block that splits a row of k values takes at a time: four values each, of kSplitEach places that
// are all loaded before the first is used. Zeros from k on.
constexpr int kSplitEach = 4;
__device__ __forceinline__ void load_split(const float* from, int64_t k, int64_t first, float4 v[kSplitEach]) {
#pragma unroll
  for (int e = 0; e < kSplitEach; e++) {
    const int64_t j = first + 4 * static_cast<int64_t>(threadIdx.x + e * blockDim.x);
    v[e] = {0, 0, 0, 0};
    if (j < k) v[e] = *reinterpret_cast<const float4*>(from + j);
  }
}
// Four 16-bit values.
__device__ __forceinline__ void store_parts(uint16_t* to, const uint16_t (&v)[4]) {
  const uint2 words = {v[0] | static_cast<uint32_t>(v[1]) << 16, v[2] | static_cast<uint32_t>(v[3]) << 16};
  *reinterpret_cast<uint2*>(to) = words;
}

__device__ __forceinline__ void store_f16_parts(float v, float factor, uint16_t* high, uint16_t* low) {
  const float scaled = v * factor;
  const uint16_t bits = float_to_half_bits(scaled);
  const float rest = scaled - half_bits_to_float(bits);
  *high = bits;
  *low = finite_magnitude(v) == 0 ? static_cast<uint16_t>(0) : float_to_half_bits(rest);
}

// Rows of x, a block of threads each: high and low parts [rows, padded], scales [rows].
__global__ void __launch_bounds__(kSplitThreads)
    split_f16_kernel(const float* x, RowList list, int64_t k, int64_t padded_k, uint16_t* high, uint16_t* low,
                     float* scales, GroupSums groups, int* fault) {
  wait_for_earlier_kernels();
  TKF_SHARED(uint32_t[kSplitThreads / 32], shared);
  const int32_t count = list.count();
  const int64_t step = int64_t{4} * kSplitEach * blockDim.x;
  float4 v[kSplitEach];
  for (int32_t i = static_cast<int32_t>(blockIdx.x); i < count; i += static_cast<int32_t>(gridDim.x)) {
    const float* from = x + max(list.row(i, fault), static_cast<int64_t>(0)) * k;
    uint32_t largest = 0;
    for (int64_t first = 0; first < k; first += step) {
      load_split(from, k, first, v);
#pragma unroll
      for (int e = 0; e < kSplitEach; e++) {
        largest = max(max(largest, max(finite_magnitude(v[e].x), finite_magnitude(v[e].y))),
                      max(finite_magnitude(v[e].z), finite_magnitude(v[e].w)));
      }
    }
    const int exponent = scale_exponent(block_max(largest, shared));
    const float factor = power_of_two(-exponent);
    for (int64_t first = 0; first < padded_k; first += step) {
      if (step < k) load_split(from, k, first, v);  // else they are there
#pragma unroll
      for (int e = 0; e < kSplitEach; e++) {
        const int64_t j = first + 4 * static_cast<int64_t>(threadIdx.x + e * blockDim.x), at = i * padded_k + j;
        uint16_t parts[2][4];
        store_f16_parts(v[e].x, factor, &parts[0][0], &parts[1][0]);
        store_f16_parts(v[e].y, factor, &parts[0][1], &parts[1][1]);
        store_f16_parts(v[e].z, factor, &parts[0][2], &parts[1][2]);
        store_f16_parts(v[e].w, factor, &parts[0][3], &parts[1][3]);
        if (groups.sums != nullptr) {  // the same for all threads
          float sum = factor * v[e].x + factor * v[e].y + (factor * v[e].z + factor * v[e].w);
          for (int lanes = 1; lanes < groups.size / 4; lanes *= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
          if (j < padded_k && j % groups.size == 0) groups.sums[at / groups.size] = sum;
        }
        if (j >= padded_k) continue;
        store_parts(high + at, parts[0]);
        store_parts(low + at, parts[1]);
      }
    }
    if (threadIdx.x == 0) scales[i] = power_of_two(exponent);
  }
}

__device__ __forceinline__ void split_bf16(float v, uint16_t* high, uint16_t* middle, uint16_t* low) {
  const bool plain = finite_magnitude(v) != 0;
  *high = plain ? static_cast<uint16_t>(bits_as<uint32_t>(v) >> 16) : float_to_bfloat16_bits(v);
  float rest = plain ? v - bfloat16_bits_to_float(*high) : 0;
  *middle = static_cast<uint16_t>(bits_as<uint32_t>(rest) >> 16);
  rest -= bfloat16_bits_to_float(*middle);
  *low = float_to_bfloat16_bits(rest);
}

// Rows of x: three parts [rows, padded], `stride` values apart. The first two are cut off, not rounded: nothing becomes
// infinite, and the last is exact.
__global__ void __launch_bounds__(kSplitThreads)
    split_bf16_kernel(const float* x, RowList list, int64_t k, int64_t padded_k, uint16_t* parts, int64_t stride,
                      int* fault) {
  wait_for_earlier_kernels();
  const int32_t count = list.count();
  const int64_t step = int64_t{4} * kSplitEach * blockDim.x;
  for (int32_t i = static_cast<int32_t>(blockIdx.x); i < count; i += static_cast<int32_t>(gridDim.x)) {
    const float* from = x + max(list.row(i, fault), static_cast<int64_t>(0)) * k;
    for (int64_t first = 0; first < padded_k; first += step) {
      float4 v[kSplitEach];
      load_split(from, k, first, v);
#pragma unroll
      for (int e = 0; e < kSplitEach; e++) {
        const int64_t j = first + 4 * static_cast<int64_t>(threadIdx.x + e * blockDim.x);
        uint16_t own[3][4];
        split_bf16(v[e].x, &own[0][0], &own[1][0], &own[2][0]);
        split_bf16(v[e].y, &own[0][1], &own[1][1], &own[2][1]);
        split_bf16(v[e].z, &own[0][2], &own[1][2], &own[2][2]);
        split_bf16(v[e].w, &own[0][3], &own[1][3], &own[2][3]);
        if (j >= padded_k) continue;
        uint16_t* const to = parts + i * padded_k + j;
        store_parts(to, own[0]);
        store_parts(to + stride, own[1]);
        store_parts(to + 2 * stride, own[2]);
      }
    }
  }
}

// Rows of quantised weights, a block of threads each: high and low f16 parts [rows, padded], scales [rows]. k is whole
// blocks of 32, so that there is nothing to pad.
template <class Weight>
__global__ void __launch_bounds__(kSplitThreads)
    split_weights_kernel(const uint8_t* weight, int64_t rows, int64_t k, uint16_t* high, uint16_t* low, float* scales) {
  wait_for_earlier_kernels();
  constexpr int VALUES = Weight::RUNS * Weight::RUN;
  TKF_SHARED(uint32_t[kSplitThreads / 32], shared);
  const int64_t blocks = k / Weight::VALUES, parts = blocks * Weight::LANES;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const uint8_t* from = weight + row * blocks * Weight::BYTES;
    uint32_t largest = 0;
    float w[VALUES];
    for (int64_t i = threadIdx.x; i < parts; i += blockDim.x) {
      Weight::decode(from + i / Weight::LANES * Weight::BYTES, static_cast<int>(i % Weight::LANES), w);
#pragma unroll
      for (int j = 0; j < VALUES; j++) largest = max(largest, finite_magnitude(w[j]));
    }
    const int exponent = scale_exponent(block_max(largest, shared));
    const float factor = power_of_two(-exponent);
    for (int64_t i = threadIdx.x; i < parts; i += blockDim.x) {
      const int64_t block = i / Weight::LANES;
      const int part = static_cast<int>(i % Weight::LANES);
      Weight::decode(from + block * Weight::BYTES, part, w);
#pragma unroll
      for (int run = 0; run < Weight::RUNS; run++) {
        const int64_t at = row * k + block * Weight::VALUES + Weight::offset(part, run);
#pragma unroll
        for (int j = 0; j < Weight::RUN; j++) {
          store_f16_parts(w[run * Weight::RUN + j], factor, high + at + j, low + at + j);
        }
      }
    }
    if (threadIdx.x == 0) scales[row] = power_of_two(exponent);
  }
}

}  // namespace tkf
