// Kernels of the self-test that end the process, with a message of the emulator or of a sanitizer.
#pragma once
#include <vector>

#include "../cuda.h"

namespace {

struct Case {
  const char* name;
  bool (*run)();
};

bool launched() { return cudaGetLastError() == cudaSuccess; }

// The kernel on 16 numbers, of which it gets the first.
#define TKF_ENDS(kernel, threads, first, shared)                          \
  {#kernel, [] {                                                          \
     std::vector<int> out(16);                                            \
     out[0] = first;                                                      \
     TKF_LAUNCH(nullptr, kernel, 1, threads, shared, out.data());         \
     return launched();                                                   \
   }}

constexpr unsigned kAll = 0xffffffffu;

__global__ void lonely_barrier(int*) {
  if (threadIdx.x <= 32) __syncthreads();
  else __syncwarp();  // with thread 32
}
__global__ void two_barriers(int* out) {
  if (threadIdx.x < 16) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[0] = 1;
}
__global__ void half_a_warp(int* out) {
  if (threadIdx.x < 16) out[0] = __shfl_sync(kAll, 1, 0);
  else __syncthreads();
}
__global__ void foreign_mask(int* out) { out[0] = __shfl_sync(1u, 1, 0); }
__global__ void global_ldmatrix(int* out) {
  uint32_t r[4];
  tkf::ldmatrix_x4(r, out);
}
__global__ void odd_copy(int* out) {
  TKF_SHARED(int[8], to);
  tkf::cp_async_16(to + 1, out);
}
__global__ void past_shared(int* out) {
  TKF_DYNAMIC_SHARED(int, memory);
  memory[out[0]] = 1;
}
__global__ void past_fixed(int* out) {
  TKF_SHARED(int[5], memory);
  memory[out[0]] = 1;
}
__global__ void past_global(int* out) { out[16] = 1; }
__global__ void deep_stack(int* out) {
  volatile int big[256 * 1024];
  big[0] = out[0];
  out[0] = big[0];
}

}  // namespace
