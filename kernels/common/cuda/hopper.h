// Instructions of sm_90a: mbarrier, TMA loads, wgmma. Source: PTX ISA 8.x,
// "Asynchronous Warpgroup Level Matrix Multiply-Accumulate" and "Data Movement: cp.async.bulk.tensor".
//
//   barrier_start, barrier_arrive, barrier_expect, barrier_wait, fence_async, load_box
//   wgmma_fence, wgmma_commit, wgmma_wait, wgmma_keep, Wgmma<T>::scores and ::values
//   find_encode() on the host: cuTensorMapEncodeTiled, or nullptr where the driver has it not
#pragma once
#include "cuda.h"

#include <cuda.h>
#include <dlfcn.h>

namespace tkf::hopper {

// ---- barriers in shared memory; a phase ends when all arrivals, and all announced bytes, are there ----

__device__ __forceinline__ void barrier_start(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void barrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
__device__ __forceinline__ void barrier_expect(uint64_t* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}
// Waits until the phase of this parity has ended.
__device__ __forceinline__ void barrier_wait(uint64_t* barrier, uint32_t parity) {
  uint32_t done;
  do {
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}\n"
        : "=r"(done)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
  } while (done == 0);
}
// Makes this thread's plain writes to shared memory visible to TMA and wgmma.
__device__ __forceinline__ void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Loads a box of a tensor [rows, heads, columns] into shared memory; `barrier` counts its bytes.
__device__ __forceinline__ void load_box(void* shared, const CUtensorMap* map, int column, int head, int row,
                                         uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];"
      :
      : "r"(shared_address(shared)), "l"(map), "r"(column), "r"(head), "r"(row), "r"(shared_address(barrier))
      : "memory");
}

// ---- wgmma ----

#define TKF_4(d, n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define TKF_32(d, n)                                                                                            \
  TKF_4(d, n), TKF_4(d, n + 1), TKF_4(d, n + 2), TKF_4(d, n + 3), TKF_4(d, n + 4), TKF_4(d, n + 5),             \
      TKF_4(d, n + 6), TKF_4(d, n + 7)
// Before products that add to `d`, and after them. That they touch `d` keeps its use elsewhere from being moved across.
// What fills the registers of a first factor is an operand of the product; what keeps them is wgmma_keep.
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
#define TKF_AROUND(name, instruction)                                                                           \
  __device__ __forceinline__ void name(float (&d)[8][4]) {                                                      \
    asm volatile(instruction : TKF_32(d, 0)::"memory");                                                         \
  }                                                                                                             \
  __device__ __forceinline__ void name(float (&d)[16][4]) {                                                     \
    asm volatile(instruction : TKF_32(d, 0), TKF_32(d, 8)::"memory");                                           \
  }
TKF_AROUND(wgmma_fence, "wgmma.fence.sync.aligned;")
TKF_AROUND(wgmma_wait, "wgmma.wait_group.sync.aligned 0;")
#undef TKF_AROUND

// After the wait for products with these first factors: until then they are read, and their registers serve nothing else.
template <int N>
__device__ __forceinline__ void wgmma_keep(const uint32_t (&a)[N][4]) {
#pragma unroll
  for (int k = 0; k < N; k++) asm volatile("" ::"r"(a[k][0]), "r"(a[k][1]), "r"(a[k][2]), "r"(a[k][3]));
}

#define TKF_D32                                                                                                 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,"  \
  "%29,%30,%31"
#define TKF_D64                                                                                                 \
  TKF_D32                                                                                                       \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,"   \
  "%58,%59,%60,%61,%62,%63"

// scores: d [64, 128] = a [64, 16] times the transpose of b [128, 16], both in shared memory; added to d where `add`.
// values: d [64, 8 N] += a [64, 16], fragments in registers, times b [16, 8 N] in shared memory.
template <class T>
struct Wgmma;
#define TKF_WGMMA(T, type)                                                                                      \
  template <>                                                                                                   \
  struct Wgmma<T> {                                                                                             \
    static __device__ __forceinline__ void scores(float (&d)[16][4], uint64_t a, uint64_t b, int add) {         \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"                                                 \
                   "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {" TKF_D64                    \
                   "}, %64, %65, p, 1, 1, 0, 0;\n}\n"                                                           \
                   : TKF_32(d, 0), TKF_32(d, 8)                                                                 \
                   : "l"(a), "l"(b), "r"(add));                                                                 \
    }                                                                                                           \
    static __device__ __forceinline__ void values(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b) {      \
      asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {" TKF_D64                    \
                   "}, {%64,%65,%66,%67}, %68, 1, 1, 1, 1;\n"                                                   \
                   : TKF_32(d, 0), TKF_32(d, 8)                                                                 \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                       \
    }                                                                                                           \
    static __device__ __forceinline__ void values(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b) {       \
      asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {" TKF_D32                     \
                   "}, {%32,%33,%34,%35}, %36, 1, 1, 1, 1;\n"                                                   \
                   : TKF_32(d, 0)                                                                               \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                       \
    }                                                                                                           \
  };
TKF_WGMMA(__half, "f16")
TKF_WGMMA(__nv_bfloat16, "bf16")
#undef TKF_WGMMA
#undef TKF_D64
#undef TKF_D32
#undef TKF_32
#undef TKF_4

using EncodeFunction = decltype(&cuTensorMapEncodeTiled);

// The driver's library is there wherever a device is. Not linked, so that what uses it loads without.
inline EncodeFunction find_encode() {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  return driver == nullptr ? nullptr : reinterpret_cast<EncodeFunction>(dlsym(driver, "cuTensorMapEncodeTiled"));
}

// A matrix in shared memory with rows of 128 bytes (64 values) that TMA or `swizzled` has swizzled; 8 rows are 1024
// bytes. `leading`: bytes from 64 columns to the next 64, where the columns are not what is summed over.
__device__ __forceinline__ uint64_t describe(const void* shared, uint32_t leading = 16) {
  return static_cast<uint64_t>((shared_address(shared) & 0x3ffffu) >> 4) | static_cast<uint64_t>(leading >> 4) << 16 |
         static_cast<uint64_t>(1024 >> 4) << 32 | uint64_t{1} << 62;
}
// Byte of columns c, c + 1 (of 64) of row r in such a matrix.
__device__ __forceinline__ int swizzled(int r, int c) { return r * 128 + ((c / 8) ^ (r % 8)) * 16 + c % 8 * 2; }

}  // namespace tkf::hopper
