// Products of rows of x in int16, whichever way serves them: few rows, by tiles of AMX or by VNNI; many, by panels.
#pragma once
#include "int16.h"
#if TKF_LEVEL == TKF_LEVEL_AVX512 && TKF_AMX
#include "bf16.h"
#endif

namespace tkf::TKF_NAMESPACE {

// Up to so many rows of x, making floats of the weights once per four of them is cheaper than storing them.
constexpr int64_t kFewRows = 8;

template <class Format>
static int rounded_rows(tkf_context* context, const float* x, const ProductList& list, int64_t rows, int64_t k) {
  constexpr int most = 8;  // rows of x that share a panel's weights in registers
  const int64_t blocks = k / 32;
  const size_t factors = static_cast<size_t>(blocks) * sizeof(float), count = static_cast<size_t>(rows);
  const size_t panel = static_cast<size_t>(k) * int16::kRows;
  const bool vnni = context_products(context) != kInt16Plain;
#if TKF_LEVEL == TKF_LEVEL_AVX512
  // The fewest use weights in registers; up to 8 rows use them once they are turned about, a piece at a time.
  const bool few = vnni && rows <= (Format::VALUES == 32 ? 2 : 4);
  size_t own = few ? count * static_cast<size_t>(int16::few::quads_of(k)) * sizeof(int16::few::Quad) : 0;
#if TKF_AMX
  constexpr bool simple = Format::VALUES == 32;  // other blocks have no way by tiles
  const bool tiles = simple && rows >= int16::amx::kLeastRows && rows <= int16::amx::kMostRows &&
                     context_products(context) >= kBf16x2;
  if (tiles) own = static_cast<size_t>(int16::amx::blocks_of(k)) * sizeof(int16::amx::Block);
#endif
#else
  constexpr size_t own = 0;
#endif
  if (!context_reserve(context, panel + 2 * factors * int16::kRows,
                       own + count * 2 * (factors + static_cast<size_t>(k)))) {
    return TKF_STATUS_MEMORY;
  }
  float* const shared = reinterpret_cast<float*>(static_cast<uint8_t*>(context_shared(context)) + own);
  int8_t* const bytes_of_x = reinterpret_cast<int8_t*>(shared + 2 * rows * blocks);
  const int16::Rounded rounded = {k, bytes_of_x, bytes_of_x + rows * k, shared, shared + rows * blocks};
  parallel_ranges(context, rows, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row++) int16::round_row(x + row * k, rounded, row);
  });
  const int64_t bytes = row_bytes<Format>(k);
#if TKF_LEVEL == TKF_LEVEL_AVX512
#if TKF_AMX
  if constexpr (simple) {
    if (tiles) {
      int16::amx::Block* const turned = static_cast<int16::amx::Block*>(context_shared(context));
      int16::amx::make_blocks(rounded, rows, int16::few::kOffset<Format>, turned);
      int16::amx::products<Format>(context, turned, list, rows, k);
      return TKF_STATUS_OK;
    }
  }
#endif
  if (few) {
    int16::few::Quad* const turned = static_cast<int16::few::Quad*>(context_shared(context));
    int16::few::make_quads(rounded, rows, int16::few::kOffset<Format>, turned);
    int16::few::products<Format>(context, turned, list, rows, k);
    return TKF_STATUS_OK;
  }
#endif
  const int64_t grain = 32768 / larger(int16::kRows * k * rows, int64_t{1});
  constexpr int64_t tile = int16::kRows;
  parallel_products(context, list, tile, grain, [&](const tkf_product& p, int64_t begin, int64_t end, int thread) {
    uint8_t* const memory = static_cast<uint8_t*>(context_scratch(context, thread));
    float* const d = reinterpret_cast<float*>(memory + panel);
    const int16::Panel turned = {memory, d, d + blocks * int16::kRows};
    for (int64_t group = begin; group < end; group++) {
      const int64_t column = group * int16::kRows;
      const int valid = static_cast<int>(smaller(p.n - column, int64_t{int16::kRows}));
      const uint8_t* const weight = as<uint8_t>(p.weight) + column * bytes;
#if TKF_LEVEL == TKF_LEVEL_AVX512
      if (vnni && rows <= kFewRows) {
        float* const out = as<float>(p.out) + column;
        int16::vnni::turn_and_multiply<Format, most>(weight, valid, rounded, static_cast<int>(rows), out, p.n);
        continue;
      }
#endif
      int16::turn_rows<Format>(weight, valid, k, [&](int64_t part) -> int16::Panel {
        return {memory + part * int16::kPanelBytes, d + part * int16::kRows, turned.m + part * int16::kRows};
      }, [](int64_t, int, const int16::Panel&) {});
      for (int64_t row = 0; row < rows; row += most) {
        const int some = static_cast<int>(smaller(rows - row, int64_t{most}));
        float* const to = as<float>(p.out) + row * p.n + column;
#if TKF_LEVEL == TKF_LEVEL_AVX512
        if (vnni) {
          int16::vnni::tile<most>(turned, rounded, row, some, valid, to, p.n);
          continue;
        }
#endif
        int16::plain::tile<most>(turned, rounded, row, some, valid, to, p.n);
      }
    }
  });
  static_cast<void>(vnni);
  return TKF_STATUS_OK;
}

}  // namespace tkf::TKF_NAMESPACE
