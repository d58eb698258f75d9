// The one include of all device code. What kernels use of CUDA, beside plain CUDA C++, is here:
//
//   TKF_SHARED(float[2][32], name);      shared memory of a fixed size (in place of `__shared__ float name[2][32];`)
//   TKF_DYNAMIC_SHARED(T, name);         T* name = the launch's shared memory, 128-byte aligned
//   TKF_LAUNCH(stream, (kernel<4>), grid, block, shared_bytes, arguments...);
//   wait_for_earlier_kernels();          first of all in every kernel: what those before it wrote is there afterwards
//   TKF_ALLOW_SHARED((kernel<4>), bytes) before a launch with more than 48 KB; a cudaError_t
//   TKF_ASSUME(condition)                what a kernel's instance may rely on, so that it holds no code for the rest
//   atomic_add_acq_rel(address, value)   an atomicAdd that releases what the thread wrote and acquires what others did
//   mma_m16n8k16_f16/bf16, ldmatrix_x4(_trans), cp_async_16, cp_async_commit, cp_async_wait<N>, sync_named<ID, N>
//
// What sm_90a has beside it (mbarriers, TMA, wgmma) is in hopper.h.
#pragma once
#include <cstddef>
#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace tkf {
template <class T>
using Declared = T;  // lets a macro declare an array: Declared<float[4]> name
}

#define TKF_SHARED(T, name) __shared__ ::tkf::Declared<T> name
// One extern array for all kernels: its type may not change between two of them.
#define TKF_DYNAMIC_SHARED(T, name)                              \
  extern __shared__ __align__(128) unsigned char tkf_dynamic[];  \
  T* const name = reinterpret_cast<T*>(tkf_dynamic)
#define TKF_LAUNCH(stream, kernel, grid, block, shared_bytes, ...) \
  ::tkf::launch_kernel(stream, kernel, dim3(grid), dim3(block), shared_bytes, __VA_ARGS__)
#define TKF_ASSUME(condition) __builtin_assume(condition)
#define TKF_ALLOW_SHARED(kernel, bytes) \
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes))

namespace tkf {

// Tensor cores (sm_80 and up), warp-wide: d [16, 8] = a [16, 16] times b [16, 8] + c. With g = lane / 4, t = lane % 4:
//   a[0] (g, 2t..2t+1)  a[1] (g + 8, 2t..)  a[2] (g, 2t + 8..)  a[3] (g + 8, 2t + 8..)      (row, columns)
//   b[0] (2t..2t+1, g)  b[1] (2t + 8.., g)                                                  (rows, column)
//   c, d[0..1] (g, 2t..2t+1)  [2..3] (g + 8, 2t..2t+1)
// Source: PTX ISA, "Matrix Fragments for mma.m16n8k16".
#define TKF_MMA(name, type)                                                                                       \
  __device__ __forceinline__ void name(float d[4], const uint32_t a[4], const uint32_t b[2], const float c[4]) {  \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 "                                   \
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"                                      \
                 : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])                                                 \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),        \
                   "f"(c[2]), "f"(c[3]));                                                                         \
  }
TKF_MMA(mma_m16n8k16_f16, "f16")
TKF_MMA(mma_m16n8k16_bf16, "bf16")
#undef TKF_MMA

// A kernel of a dependent launch (context.h) begins before the one ahead of it has ended, and waits here until all
// of those have, and their writes are seen. Then it lets the next one begin, which waits in its turn. Where it was
// launched otherwise, nothing happens.
__device__ __forceinline__ void wait_for_earlier_kernels() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// In the order of memory of the device; as a fence and an atomicAdd, which cost two waits.
__device__ __forceinline__ int atomic_add_acq_rel(int* address, int value) {
  int before;
  asm volatile("atom.acq_rel.gpu.global.add.s32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(__cvta_generic_to_global(address)), "r"(value)
               : "memory");
  return before;
}

__device__ __forceinline__ uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// Warp-wide: loads 4 matrices [8, 8] of 16-bit values from shared memory. Lane 8 i + j gives the address of row j
// (16 bytes, aligned) of matrix i; r[i] is then (lane / 4, 2 (lane % 4) ..+1) of matrix i, transposed for `_trans`.
#define TKF_LDMATRIX(name, modifier)                                                                 \
  __device__ __forceinline__ void name(uint32_t r[4], const void* shared_row) {                      \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" modifier ".shared.b16 {%0,%1,%2,%3}, [%4];"         \
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])                                    \
                 : "r"(shared_address(shared_row))                                                   \
                 : "memory");                                                                        \
  }
TKF_LDMATRIX(ldmatrix_x4, "")
TKF_LDMATRIX(ldmatrix_x4_trans, ".trans")
#undef TKF_LDMATRIX

// Copies 16 bytes from global to shared memory in the background, both aligned; where not `full`, writes zeros and
// reads nothing. A thread sees its copies after cp_async_wait, other threads after a barrier that follows.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, bool full = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(shared_address(shared)), "l"(__cvta_generic_to_global(global)), "r"(full ? 16 : 0)
               : "memory");
}
// Ends a group of copies.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most the newest N groups of this thread are under way.
template <int N>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Waits for THREADS threads of the block, in whole warps, at barrier ID (1 .. 15); __syncthreads has barrier 0.
template <int ID, int THREADS>
__device__ __forceinline__ void sync_named() {
  static_assert(ID >= 1 && ID <= 15 && THREADS > 0 && THREADS % 32 == 0);
  asm volatile("bar.sync %0, %1;" ::"n"(ID), "n"(THREADS) : "memory");
}

}  // namespace tkf
