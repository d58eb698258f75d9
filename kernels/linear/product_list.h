// Products of one x whose weights have one element type: they share what is made of x, and are one job.
#pragma once
#include "../common/simd.h"

namespace tkf::TKF_NAMESPACE {

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

}  // namespace tkf::TKF_NAMESPACE
