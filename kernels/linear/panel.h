// Panels of weights of any type, dequantized and packed by columns, times rows of x: products of many rows.
#pragma once
#include "../common/simd.h"

namespace tkf::TKF_NAMESPACE {

// 32 vector registers with AVX-512 and on arm64, else 16.
#if TKF_LEVEL == TKF_LEVEL_AVX512 || defined(__aarch64__)
constexpr bool kManyRegisters = true;
#else
constexpr bool kManyRegisters = false;
#endif

constexpr int kPanelVectors = 2, kPanel = kPanelVectors * W;  // columns of a panel

// Values that are summed in a row before the sum is added to the rest, which keeps rounding errors small.
constexpr int64_t kDepth = 64;

// Rows of x that share a packed panel in registers: as many as those allow. Engines of WebAssembly need some for themselves.
#if defined(__wasm__)
constexpr int kBlockRows = 4;
#else
constexpr int kBlockRows = kManyRegisters ? 14 : 6;
#endif

// `rows` <= kBlockRows rows of x, `stride` apart, times a packed panel, of which `cols` columns are there: out[i * n + j].
void multiply_panel(int rows, const float* x, int64_t stride, int64_t k, const float* panel, int cols, float* out,
                    int64_t n);

}  // namespace tkf::TKF_NAMESPACE
