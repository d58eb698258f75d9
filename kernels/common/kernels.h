// The table of kernels: one entry an op, one table an instruction-set level. An entry point (<op>.cpp) checks its
// arguments and calls through context->kernels; the bodies (<op>_cpu.cpp) are compiled once per level.
//
// Bodies see the context through the functions below alone. They use no class or template of the standard library:
// the linker keeps one copy of such code for all levels, and it could be one that this machine cannot run.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../include/tokenfilter.h"

namespace tkf {

struct AttentionJob;    // filtered_attention/filtered_attention.h
struct FilterMeasure;   // kv_filter_scan/kv_filter_scan.h
struct FilterFeatures;  // kv_filter_scan/kv_filter_scan.h

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
// The loaded BLAS, or NULL.
SgemmFunction context_sgemm(const tkf_context* context);

// Every function may assume checked arguments, and runs on the context's pool. A status where memory may be short.
struct Kernels {
  void (*dequantize)(tkf_context* context, int dtype, const uint8_t* values, int64_t count, float* out);
  void (*embedding)(tkf_context* context, int dtype, const uint8_t* table, int64_t vocab, int64_t cols,
                    const int32_t* ids, int64_t rows, float* out);
  void (*rms_norm)(tkf_context* context, const float* x, const float* weight, double eps, int64_t rows, int64_t cols,
                   float* out);
  int (*linear)(tkf_context* context, const float* x, int dtype, const uint8_t* weight, int64_t rows, int64_t n,
                int64_t k, float* out);
  int (*rope)(tkf_context* context, float* x, const int32_t* positions, double theta, int64_t rows, int64_t heads,
              int64_t head_dim);
  void (*swiglu)(tkf_context* context, const float* gate, const float* up, int64_t count, float* out);
  void (*rows_gather)(tkf_context* context, int dtype, const uint8_t* x, int64_t x_rows, int64_t cols,
                      const int32_t* indices, int64_t rows, int out_dtype, uint8_t* out);
  void (*rows_scatter_add)(tkf_context* context, float* x, int64_t x_rows, int64_t cols, const int32_t* indices,
                           int64_t rows, const float* delta);
  void (*rows_store)(tkf_context* context, const float* x, int64_t rows, int64_t cols, int out_dtype, uint8_t* out);
  void (*rows_norm)(tkf_context* context, const float* x, int64_t rows, int64_t cols, double* out);
  void (*nll)(tkf_context* context, const float* logits, const int32_t* targets, int64_t rows, int64_t vocab,
              double* nll);
  void (*logits_compare)(tkf_context* context, const float* base, const float* other, const int32_t* targets,
                         int64_t rows, int64_t vocab, double* nll, double* base_nll, double* kl, uint8_t* agree);
  int (*filtered_attention)(tkf_context* context, const AttentionJob* job);
  void (*filter_measure)(tkf_context* context, const FilterMeasure* job);
  void (*filter_features)(tkf_context* context, const FilterFeatures* job);
  double (*machine_multiply)(tkf_context* context, int64_t rounds);
  void (*machine_read)(tkf_context* context, const float* data, int64_t count);
};

// The table of each level; those above base exist in x86-64 builds only.
extern const Kernels kKernelsBase;
extern const Kernels kKernelsAvx2;
extern const Kernels kKernelsAvx512;

}  // namespace tkf
