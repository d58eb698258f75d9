// The products with weights of one type. They are most of what is compiled, so that each unit has some of the types:
// dense_cpu.cpp, blocks_of_32_cpu.cpp, blocks_of_256_cpu.cpp. linear_cpu.cpp calls them.
#pragma once
#include "../common/blocks.h"

namespace tkf::TKF_NAMESPACE {

// Products of one x whose weights have one element type: they share what is made of x, and are one job.
struct ProductList {
  const tkf_product* at[3];
  int count;
};

// body(product, begin, end, thread) over ranges that cover the tiles, `tile` rows of weights each, of all products.
template <class F>
static TKF_INLINE void parallel_products(tkf_context* context, const ProductList& list, int64_t tile, int64_t grain,
                                         F&& body) {
  const auto tiles_of = [&](int i) { return (list.at[i]->n + tile - 1) / tile; };
  int64_t all = 0;
  for (int i = 0; i < list.count; i++) all += tiles_of(i);
  parallel_ranges(context, all, grain, [&](int64_t begin, int64_t end, int thread) {
    int64_t first = 0;  // of the product's tiles
    for (int i = 0; i < list.count; i++) {
      const int64_t tiles = tiles_of(i), from = larger(begin - first, int64_t{0}), to = smaller(end - first, tiles);
      if (from < to) body(*list.at[i], from, to, thread);
      first += tiles;
    }
  });
}

// Up to this many rows of x, it is cheaper to dequantize the weights once for every four of them than to store them.
constexpr int64_t kFewRows = 8;

// Whether products of `rows` rows are computed in bf16, gate included. Fewer rows are exact.
TKF_INLINE bool by_bf16(const tkf_context* context, int64_t rows) {
  const Products products = context_products(context);
  return (products == kBf16Dots || products == kBf16Tiles) && rows > kFewRows;
}

// All products of a list, whose weights are of one type. `gate` is only for products in bf16.
template <class Format>
int32_t multiply(tkf_context* context, const float* x, const ProductList& list, int64_t rows, int64_t k, int gate);

// The same with x rounded to bytes, of types that has_int8() names: by what the level has, or by dot products of bytes.
namespace int8 {
int32_t multiply(tkf_context* context, const float* x, const ProductList& list, int64_t rows, int64_t k);
}
namespace int8_dots {
int32_t multiply(tkf_context* context, const float* x, const ProductList& list, int64_t rows, int64_t k);
}

}  // namespace tkf::TKF_NAMESPACE
