// What the launchers of matrix products share.
#pragma once
#include "../common/cuda_context.h"
#include "cublaslt.h"
#include "row_list.cuh"

namespace tkf {

// Products of few rows of x (few_rows.cu); any k. Quantised weights want x at addresses divisible by 16.
int32_t linear_few_rows(tkf_context* context, const float* x, int dtype, const uint8_t* weight, const RowList& list,
                        int64_t n, int64_t k, float* out);

}  // namespace tkf
