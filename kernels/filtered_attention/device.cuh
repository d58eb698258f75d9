// What the attention kernels share: element types, the exponential, and searches in ascending positions.
#pragma once
#include <cstring>

#include "../common/cuda_context.h"

namespace tkf {
namespace attention {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr float kLog2E = 1.44269504088896341f;
// Scores are scaled by `scale` times log2(e), so that weights are powers of 2.
constexpr float kSmallestFactor = 1e-30f;  // in place of 0: -infinity times 0 is NaN, and all weights come out as 1

// 2^x, within 2 units of the last place; 0 for -infinity.
__device__ __forceinline__ float exp2_fast(float x) {
#if defined(TKF_EMULATE)
  return exp2f(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// A pair of 16-bit floats as one number, the first in the low half.
template <class Pair>
__device__ __forceinline__ uint32_t bits(const Pair& pair) {
  static_assert(sizeof(Pair) == sizeof(uint32_t));
  uint32_t number;
  memcpy(&number, &pair, sizeof number);
  return number;
}

// Element types: 16 bytes of them as floats, single ones, and pairs for the tensor cores.
template <class T>
struct Element;
template <>
struct Element<float> {
  static __device__ __forceinline__ void expand(const uint4& piece, float x[4]) {
    x[0] = __uint_as_float(piece.x);
    x[1] = __uint_as_float(piece.y);
    x[2] = __uint_as_float(piece.z);
    x[3] = __uint_as_float(piece.w);
  }
  static __device__ __forceinline__ float to_float(float x) { return x; }
  static __device__ __forceinline__ float from_float(float x) { return x; }
};
template <>
struct Element<__half> {
  static constexpr uint32_t kExponents = 0x7c007c00u;  // of a pair
  static __device__ __forceinline__ void expand2(uint32_t pair, float x[2]) {
    x[0] = __half2float(__ushort_as_half(static_cast<unsigned short>(pair)));
    x[1] = __half2float(__ushort_as_half(static_cast<unsigned short>(pair >> 16)));
  }
  static __device__ __forceinline__ void expand(const uint4& piece, float x[8]) {
    expand2(piece.x, x);
    expand2(piece.y, x + 2);
    expand2(piece.z, x + 4);
    expand2(piece.w, x + 6);
  }
  static __device__ __forceinline__ float to_float(__half x) { return __half2float(x); }
  static __device__ __forceinline__ __half from_float(float x) { return __float2half_rn(x); }
  static __device__ __forceinline__ uint32_t pack(float a, float b) {
    return bits(__floats2half2_rn(a, b));
  }
  static __device__ __forceinline__ void multiply(float d[4], const uint32_t a[4], const uint32_t b[2]) {
    mma_m16n8k16_f16(d, a, b, d);
  }
};
template <>
struct Element<__nv_bfloat16> {
  static constexpr uint32_t kExponents = 0x7f807f80u;
  static __device__ __forceinline__ void expand2(uint32_t pair, float x[2]) {
    x[0] = __uint_as_float(pair << 16);
    x[1] = __uint_as_float(pair & 0xffff0000u);
  }
  static __device__ __forceinline__ void expand(const uint4& piece, float x[8]) {
    expand2(piece.x, x);
    expand2(piece.y, x + 2);
    expand2(piece.z, x + 4);
    expand2(piece.w, x + 6);
  }
  static __device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
  static __device__ __forceinline__ __nv_bfloat16 from_float(float x) { return __float2bfloat16_rn(x); }
  static __device__ __forceinline__ uint32_t pack(float a, float b) {
    return bits(__floats2bfloat162_rn(a, b));
  }
  static __device__ __forceinline__ void multiply(float d[4], const uint32_t a[4], const uint32_t b[2]) {
    mma_m16n8k16_bf16(d, a, b, d);
  }
};

// Elements of 16 bytes.
template <class T>
constexpr int kPiece = 16 / static_cast<int>(sizeof(T));

// Warp-wide: the first row in [begin, end) whose position is greater than `value`, else `end`. `at(row)` gives the
// position of a row; they ascend. Each round looks at 32 rows at once.
template <class At>
__device__ __forceinline__ int first_after(const At& at, int begin, int end, int64_t value) {
  const int lane = static_cast<int>(threadIdx.x & 31);
  while (begin < end) {
    const int64_t step = (int64_t{end} - begin + 31) / 32, row = begin + (lane + 1) * step - 1;
    const unsigned after = __ballot_sync(kAllLanes, row >= end || at(static_cast<int>(row)) > value);
    if (after == 0) return end;
    const int64_t first = begin + (__ffs(static_cast<int>(after)) - 1) * step;
    end = static_cast<int>(min(int64_t{end}, first + step - 1));
    begin = static_cast<int>(min(int64_t{end}, first));
  }
  return begin;
}

// A query at position i sees a key at position j where j <= i and i - j <= reach.
__device__ __forceinline__ bool sees(int i, int j, unsigned reach) {
  return j <= i && static_cast<unsigned>(i) - static_cast<unsigned>(j) <= reach;
}
constexpr unsigned kNoLimit = 0xffffffffu;

// Faults where positions [begin, end) do not ascend; `share` of `shares` does its part of the rows.
__device__ inline void check_ascending(const int32_t* positions, int begin, int end, int share, int shares,
                                       int* fault) {
  const int64_t threads = static_cast<int64_t>(blockDim.x);
  for (int64_t r = begin + 1 + share * threads + threadIdx.x; r < end; r += shares * threads) {
    if (positions[r] < positions[r - 1]) tkf_fault(fault, kFaultPositions);
  }
}

}  // namespace attention
}  // namespace tkf
