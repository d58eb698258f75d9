// The CUDA library's table of kernels: the same struct as a level of the CPU library, with functions that launch on
// the context's stream. Each is defined in kernels/<op>/<op>.cu.
#pragma once
#include "kernels.h"

namespace tkf {

extern const Kernels kKernelsCuda;

// What serves matrix products of many rows: one word or two for the context's description.
const char* cuda_products(const tkf_context* context);

namespace on_cuda {

void dequantize(tkf_context* context, int dtype, const uint8_t* values, int64_t count, float* out);
void embedding(tkf_context* context, int dtype, const uint8_t* table, int64_t vocab, int64_t cols, const int32_t* ids,
               int64_t rows, float* out);
void rms_norm(tkf_context* context, const float* x, const float* weight, double eps, int64_t rows, int64_t cols,
              float* out);
int linear(tkf_context* context, const float* x, int dtype, const uint8_t* weight, int64_t rows, int64_t n, int64_t k,
           float* out);
int rope(tkf_context* context, float* x, const int32_t* positions, double theta, int64_t rows, int64_t heads,
         int64_t head_dim);
void swiglu(tkf_context* context, const float* gate, const float* up, int64_t count, float* out);
void rows_gather(tkf_context* context, int dtype, const uint8_t* x, int64_t x_rows, int64_t cols,
                 const int32_t* indices, int64_t rows, int out_dtype, uint8_t* out);
void rows_scatter_add(tkf_context* context, float* x, int64_t x_rows, int64_t cols, const int32_t* indices,
                      int64_t rows, const float* delta);
void rows_store(tkf_context* context, const float* x, int64_t rows, int64_t cols, int out_dtype, uint8_t* out);
void rows_norm(tkf_context* context, const float* x, int64_t rows, int64_t cols, double* out);
void nll(tkf_context* context, const float* logits, const int32_t* targets, int64_t rows, int64_t vocab, double* nll);
void logits_compare(tkf_context* context, const float* base, const float* other, const int32_t* targets, int64_t rows,
                    int64_t vocab, double* nll, double* base_nll, double* kl, uint8_t* agree);
int filtered_attention(tkf_context* context, const AttentionJob* job);

}  // namespace on_cuda
}  // namespace tkf
