// The bodies of ops, and what they see of a context. The ABI's functions (entry.h) check their arguments and call the
// body: in the CPU library through the table of the context's level, in the CUDA library by name.
//
// Bodies of the CPU (<op>_cpu.cpp) are compiled once for each level of instructions, and see the context through the
// functions below alone. They use no class or template of the standard library: the linker keeps one copy of such code
// for all levels, and it could be one that this machine cannot run.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../include/tokenfilter_cuda.h"

namespace tkf {

#if defined(__CUDACC__)
#define TKF_BOTH __host__ __device__
#else
#define TKF_BOTH
#endif

// Element types in blocks: X(name, values of a block, its bytes) for each.
#define TKF_BLOCK_TYPES(X)                                                                                      \
  X(Q4_0, 32, 18) X(Q4_1, 32, 20) X(Q5_0, 32, 22) X(Q5_1, 32, 24) X(Q8_0, 32, 34) X(IQ4_NL, 32, 18)             \
  X(MXFP4, 32, 17) X(Q2_K, 256, 84) X(Q3_K, 256, 110) X(Q4_K, 256, 144) X(Q5_K, 256, 176) X(Q6_K, 256, 210)     \
  X(IQ4_XS, 256, 136)

// The memory of a buffer, as an array of T.
template <class T>
TKF_BOTH inline T* as(const tkf_buffer& buffer) {
  return static_cast<T*>(buffer.data);
}

// One task of a job: `task` counts from 0, `thread` is the index of the thread that runs it (0 = the caller).
using TaskFunction = void (*)(void* argument, int64_t task, int thread);
// cblas_sgemm of a BLAS with 32-bit integers.
using SgemmFunction = void (*)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float* a,
                               int lda, const float* b, int ldb, float beta, float* c, int ldc);

int context_threads(const tkf_context* context);
// Runs tasks 0 .. tasks-1 on the pool; see `parallel` in simd.h for the comfortable form.
void context_run(tkf_context* context, int64_t tasks, TaskFunction function, void* argument);
// Makes scratch memory ready: so much for each thread, and so much that all share. False when memory is short.
// What was there before is lost.
bool context_reserve(tkf_context* context, size_t bytes_per_thread, size_t shared_bytes);
// That memory, 64-byte aligned, not zeroed.
void* context_scratch(const tkf_context* context, int thread);
void* context_shared(const tkf_context* context);
// Cosines, then sines, of the pairs at position i: at values + rows[i] * 2 * pairs. Not `known`: the caller fills all.
struct Angles {
  float* values;
  const int64_t* rows;
  bool known;
};
// Those of positions [rows] by turns [pairs, 2]. False when memory is short.
bool context_angles(tkf_context* context, const int32_t* positions, int64_t rows, const double* turns, int64_t pairs,
                    Angles* out);
// Whether the compiler knows AMX.
#if defined(__x86_64__) && defined(__clang__)
#define TKF_AMX (__clang_major__ >= 12)
#elif defined(__x86_64__) && defined(__GNUC__)
#define TKF_AMX (__GNUC__ >= 11)
#else
#define TKF_AMX 0
#endif

// Whether the compiler knows dot products of bytes for the level: AVX512-VNNI, AVX-VNNI, arm64's.
#if defined(__aarch64__)
#define TKF_HAS_INT8_DOTS 1
#else
#define TKF_HAS_INT8_DOTS (TKF_AMX && TKF_LEVEL > TKF_LEVEL_BASE)
#endif

// What products round, and by what they are computed then: see TKF_PRODUCTS_….
enum Products { kExact, kBf16Dots, kBf16Tiles, kInt8, kInt8Dots };
Products context_products(const tkf_context* context);
// Whether the cache of a decode step is to be asked for in the order of its addresses, a tile ahead; else head by head.
// AMD's processors want the first, Intel's the second (docs/log/speed-notes.md).
bool context_asks_in_order(const tkf_context* context);
// The loaded BLAS, or NULL.
SgemmFunction context_sgemm(const tkf_context* context);

// A level's bodies. Each may assume checked arguments, and returns a status.
#define TKF_BODY(name, Job) struct Job;
#include "../ops.def"
struct Kernels {
#define TKF_OP(name, ...) int32_t (*name)(tkf_context * context, const tkf_##name##_args& a);
#define TKF_BODY(name, Job) int32_t (*name)(tkf_context * context, const Job& job);
#include "../ops.def"
};
// Ops with one body for all levels.
#define TKF_ONCE(name, ...) int32_t name(tkf_context* context, const tkf_##name##_args& a);
#include "../ops.def"
extern const Kernels kKernelsBase, kKernelsAvx2, kKernelsAvx512;  // those that TKF_LEVELS names

// The bodies of the CUDA library launch on the context's stream; each is defined in kernels/<op>/.
namespace on_cuda {
#define TKF_OP(name, ...) int32_t name(tkf_context* context, const tkf_##name##_args& a);
#define TKF_CUDA_OP TKF_OP
#include "../ops.def"
}  // namespace on_cuda

}  // namespace tkf
