// The products with weights of one type. They are most of what is compiled, so that each unit has some of the types:
// dense_cpu.cpp, blocks_of_32_cpu.cpp, blocks_of_256_cpu.cpp. linear_cpu.cpp calls them.
#pragma once
#include "../common/blocks.h"
#include "product_list.h"

namespace tkf::TKF_NAMESPACE {

// Up to this many rows of x, it is cheaper to dequantize the weights once for every four of them than to store them.
constexpr int64_t kFewRows = 8;

// Whether products of `rows` rows are computed in bf16, gate included. Fewer rows are exact.
TKF_INLINE bool by_bf16(const tkf_context* context, int64_t rows) {
  return context_products(context) != kExact && rows > kFewRows;
}

// All products of a list, whose weights are of one type. `gate` is only for products in bf16.
template <class Format>
int32_t multiply(tkf_context* context, const float* x, const ProductList& list, int64_t rows, int64_t k, int gate);

}  // namespace tkf::TKF_NAMESPACE
