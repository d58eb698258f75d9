// What the kernels and launchers of matrix products share.
#pragma once
#include "../common/cuda_context.h"

namespace tkf {

// Which rows of x a product is for: rows [first, first + rows) of all, or of a list of kept slots on the device.
struct RowList {
  const int32_t* kept;        // i32 [batch], or NULL: all
  const int32_t* kept_count;  // i32 [1], or NULL
  int64_t batch, first;
  int32_t rows;

  // How many of them there are.
  __device__ __forceinline__ int32_t count() const {
    if (kept_count == nullptr) return rows;
    const int64_t left = min(static_cast<int64_t>(__ldg(kept_count)), batch) - first;
    return static_cast<int32_t>(max(min(left, static_cast<int64_t>(rows)), static_cast<int64_t>(0)));
  }
  // The row of x and of the result of number i < count(); -1 and a fault where the list names none.
  __device__ __forceinline__ int64_t row(int32_t i, int* fault) const {
    if (kept == nullptr) return first + i;
    const int32_t slot = __ldg(kept + first + i);
    if (slot >= 0 && slot < batch) return slot;
    tkf_fault(fault, kFaultIndex);
    return -1;
  }
};

// Products of few rows of x (few_rows.cu); any k. Quantised weights want x at addresses divisible by 16.
int32_t linear_few_rows(tkf_context* context, const float* x, int dtype, const uint8_t* weight, const RowList& list,
                        int64_t n, int64_t k, float* out);

}  // namespace tkf
