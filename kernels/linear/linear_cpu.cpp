// out = x W': products of one x are cut into lists of weights of one type, and their gate is applied.
#include "../common/bodies.h"
#include "by_format.h"
#include "panel.h"

namespace tkf::TKF_NAMESPACE {

// Steps of the innermost loop at once: with narrow vectors, its counting takes a tenth of the time. For WebAssembly, clang
// would mix the steps, which need more registers then.
#if defined(__wasm__)
constexpr int kUnrolledDepth = 1;
#else
constexpr int kUnrolledDepth = TKF_LEVEL == TKF_LEVEL_BASE ? 4 : 1;
#endif

// `rows` <= MR rows of x, `stride` apart, times a packed panel, of which `cols` columns are there: out[i * n + j]. What
// kDepth values give is added up apart, not in rows of out, which may meet in one set of the cache.
template <int MR>
static void multiply_block(int rows, const float* x, int64_t stride, int64_t k, const float* panel, int cols, float* out,
                           int64_t n) {
  if constexpr (MR > 1) {
    if (rows < MR) return multiply_block<MR - 1>(rows, x, stride, k, panel, cols, out, n);
  }
  alignas(64) float partial[MR * kPanel];
  vf sums[MR][kPanelVectors];
  for (int64_t at = 0;;) {
    const int64_t end = smaller(k, at + kDepth);
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) {
      for (int j = 0; j < kPanelVectors; j++) sums[i][j] = set1(0);
    }
#pragma GCC unroll kUnrolledDepth
    for (int64_t c = at; c < end; c++) {
      vf w[kPanelVectors];
      for (int j = 0; j < kPanelVectors; j++) w[j] = load(panel + c * kPanel + j * W);
#pragma GCC unroll 16
      for (int i = 0; i < MR; i++) {
        const vf v = set1(x[i * stride + c]);
        for (int j = 0; j < kPanelVectors; j++) sums[i][j] = fma(v, w[j], sums[i][j]);
      }
    }
    if (at > 0) {
#pragma GCC unroll 16
      for (int i = 0; i < MR; i++) {
        for (int j = 0; j < kPanelVectors; j++) sums[i][j] = load(partial + i * kPanel + j * W) + sums[i][j];
      }
    }
    at = end;
    if (at == k) break;
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) {
      for (int j = 0; j < kPanelVectors; j++) store(partial + i * kPanel + j * W, sums[i][j]);
    }
  }
  if (cols == kPanel) {
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) {
      for (int j = 0; j < kPanelVectors; j++) store(out + i * n + j * W, sums[i][j]);
    }
    return;
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++) {
    for (int j = 0; j < kPanelVectors && j * W < cols; j++) {
      store_part(out + i * n + j * W, sums[i][j], smaller(cols - j * W, W));
    }
  }
}

void multiply_panel(int rows, const float* x, int64_t stride, int64_t k, const float* panel, int cols, float* out,
                    int64_t n) {
  multiply_block<kBlockRows>(rows, x, stride, k, panel, cols, out, n);
}

// Whether weights of a type are multiplied in int8: others are exact.
static bool has_int8(int dtype) {
  return dtype == TKF_DTYPE_Q4_0 || dtype == TKF_DTYPE_Q4_1 || dtype == TKF_DTYPE_Q8_0 || dtype == TKF_DTYPE_Q4_K ||
         dtype == TKF_DTYPE_Q5_K || dtype == TKF_DTYPE_Q6_K;
}

static int32_t multiply_list(tkf_context* context, const float* x, const ProductList& list, int64_t rows, int64_t k,
                             int gate) {
  const Products products = context_products(context);
#if TKF_HAS_INT8_DOTS
  if (products == kInt8Dots && has_int8(list.at[0]->dtype)) return int8_dots::multiply(context, x, list, rows, k);
#endif
  if (products == kInt8 && has_int8(list.at[0]->dtype)) return int8::multiply(context, x, list, rows, k);
  int32_t status = TKF_STATUS_OK;
  with_format(list.at[0]->dtype, [&](auto format) {
    status = multiply<decltype(format)>(context, x, list, rows, k, gate);
  });
  return status;
}

int32_t linear_apply(tkf_context* context, const tkf_linear_apply_args& a) {
  const tkf_product* const products[] = {&a.first, &a.second, &a.third};
  if (a.gate != TKF_GATE_NONE && a.first.dtype == a.second.dtype && by_bf16(context, a.rows)) {
    return multiply_list(context, as<float>(a.x), {{&a.first, &a.second}, 2}, a.rows, a.k, a.gate);
  }
  for (int i = 0; i < 3; i++) {
    const auto joins = [&](int j) { return products[j]->n > 0 && products[j]->dtype == products[i]->dtype; };
    bool joined = products[i]->n == 0;
    for (int j = 0; j < i; j++) joined |= joins(j);
    if (joined) continue;
    ProductList list = {};
    for (int j = i; j < 3; j++) {
      if (joins(j)) list.at[list.count++] = products[j];
    }
    const int32_t status = multiply_list(context, as<float>(a.x), list, a.rows, a.k, TKF_GATE_NONE);
    if (status != TKF_STATUS_OK) return status;
  }
  const tkf_buffer gate = a.first.out, up = a.second.out;
  const int64_t count = a.rows * a.first.n;
  return a.gate == TKF_GATE_NONE ? TKF_STATUS_OK : gate_apply(context, {gate, up, gate, count, a.gate});
}

}  // namespace tkf::TKF_NAMESPACE
