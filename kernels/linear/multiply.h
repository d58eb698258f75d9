// out = x W'. Few rows of x (memory-bound): weights are dequantized in registers, nibbles as in few_nibbles.h. Many rows
// (compute-bound): panels of weights are dequantized into scratch memory, then multiplied by a BLAS or by panel.h.
// Between the two: some_rows.h. A unit that includes this instantiates its types by TKF_MULTIPLY.
#pragma once
#include "../common/lanes.h"
#if TKF_LEVEL == TKF_LEVEL_AVX512
#if TKF_AMX
#include "bf16.h"
#endif
#include "few_nibbles.h"
#endif
#include "by_format.h"
#include "pack_columns.h"
#include "panel.h"
#include "some_rows.h"

namespace tkf::TKF_NAMESPACE {

// The sums of N vectors.
template <int N>
static TKF_INLINE void sums_of(const vf* v, float* sums) {
  if constexpr (N == 4) return sum4(v, sums);
#pragma GCC unroll 4
  for (int i = 0; i < N; i++) sums[i] = sum(v[i]);
}

// Few rows -----------------------------------------------------------------------------------------------------------

// Parts of a block to unroll, so that their shifts are constants; not worth the code for narrow vectors.
constexpr int kUnrolledParts = TKF_LEVEL == TKF_LEVEL_BASE ? 1 : 8;

// Rows of x that share a tile, packed: W values of each row of the tile, then the next W.
constexpr int kMostRows = kManyRegisters ? 8 : 4;
TKF_INLINE int tile_rows(int64_t rows) {
  return rows >= kMostRows ? kMostRows : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
}
static void pack_rows(const float* x, int64_t rows, int64_t k, float* packed) {
  const int64_t whole = k / 32 * 32;
  for (int64_t m = 0; m < rows;) {
    const int some = tile_rows(rows - m);
    for (int row = 0; row < some; row++, m++) {
      for (int64_t i = 0; i < whole; i += W) store(packed + i * some + row * W, load(x + m * k + i));
    }
    packed += whole * some;
  }
}

// R rows of weights, of which `valid` are there, times M rows of x: out[m * n + r].
template <class Format, int R, int M>
static TKF_INLINE void few_rows_tile(const float* packed, const float* x, const uint8_t* weight, int valid, int64_t n,
                                     int64_t k, float* out) {
  constexpr int parts = Format::VALUES / 32;
  constexpr int chains = R * M < 4 ? 2 : 1;  // sums in flight, to hide the latency of the additions
  constexpr int together = kManyRegisters ? R : 1;  // rows of weights that lie in registers at once
  const int64_t bytes = row_bytes<Format>(k), blocks = k / Format::VALUES;
  const uint8_t* row[R];
  vf sums[R][M][chains];
#pragma GCC unroll 4
  for (int r = 0; r < R; r++) {
    row[r] = r < valid ? weight + r * bytes : weight;  // a missing row: the first one again, to no effect
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) {
      for (int c = 0; c < chains; c++) sums[r][m][c] = set1(0);
    }
  }
  const uintptr_t later = ahead_of(weight, R * bytes);
  for (int64_t chunk = 0; chunk < blocks; chunk += kChunk<Format>) {
    const int count = static_cast<int>(smaller(blocks - chunk, int64_t{kChunk<Format>}));
    float scales[R][kChunkScales<Format>];
    for (int r = 0; r < R; r++) Format::prepare(row[r] + chunk * Format::BYTES, count, scales[r]);
    for (int b = 0; b < count; b++) {
      prefetch_lines<R * Format::BYTES>(later + static_cast<uintptr_t>((chunk + b) * R * Format::BYTES));
#pragma GCC unroll kUnrolledParts
      for (int part = 0; part < parts; part++) {
        const float* at = packed + ((chunk + b) * Format::VALUES + 32 * part) * M;
#pragma GCC unroll 4
        for (int first = 0; first < R; first += together) {
          vf w[together][kVectors];
#pragma GCC unroll 4
          for (int r = 0; r < together; r++) {
            const int own = first + r;
            Format::decode(row[own] + (chunk + b) * Format::BYTES, scales[own] + b * Format::SCALES, part, w[r]);
          }
#pragma GCC unroll 8
          for (int m = 0; m < M; m++) {
#pragma GCC unroll 8
            for (int i = 0; i < kVectors; i++) {
              const vf v = load(at + (i * M + m) * W);
#pragma GCC unroll 4
              for (int r = 0; r < together; r++) {
                vf& chain = sums[first + r][m][i % chains];
                chain = fma(w[r][i], v, chain);
              }
            }
          }
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; m++) {
    float dots[R];
    vf totals[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) totals[r] = chains == 2 ? sums[r][m][0] + sums[r][m][chains - 1] : sums[r][m][0];
    sums_of<R>(totals, dots);
    for (int r = 0; r < smaller(R, valid); r++) {
      if constexpr (Format::DENSE) {
        constexpr int value_bytes = Format::BYTES / 32;
        const uint8_t* rest = weight + r * bytes;
        for (int64_t i = blocks * 32; i < k; i++) dots[r] += Format::scalar(rest + i * value_bytes) * x[m * k + i];
      }
      out[m * n + r] = dots[r];
    }
  }
}

// All rows of x, for `valid` rows of weights, which stay in the L1 cache.
template <class Format>
static TKF_INLINE void few_rows_group(const float* packed, const float* x, const uint8_t* weight, int valid,
                                      int64_t rows, int64_t n, int64_t k, float* out) {
  const int64_t whole = k / 32 * 32;
  for (int64_t m = 0; m < rows; m += tile_rows(rows - m)) {
    const float *at = packed + m * whole, *own = x + m * k;
    switch (tile_rows(rows - m)) {
      case 8:
        if constexpr (kMostRows == 8) few_rows_tile<Format, 2, 8>(at, own, weight, valid, n, k, out + m * n);
        break;
      case 4: few_rows_tile<Format, 2, 4>(at, own, weight, valid, n, k, out + m * n); break;
      case 2: few_rows_tile<Format, 2, 2>(at, own, weight, valid, n, k, out + m * n); break;
      default: few_rows_tile<Format, 2, 1>(at, own, weight, valid, n, k, out + m * n);
    }
  }
}

// body(product, i, valid) for every tile of R of a product's rows of weights: rows i .. i+valid-1. `work` is the cost of a row.
template <int R, class F>
static TKF_INLINE void few_rows_of(tkf_context* context, const ProductList& list, int64_t work, F&& body) {
  const int64_t grain = 32768 / larger(R * work, int64_t{1});
  parallel_products(context, list, R, grain, [&](const tkf_product& product, int64_t begin, int64_t end, int) {
    for (int64_t i = begin * R; i < end * R; i += R) {
      body(product, i, static_cast<int>(smaller(product.n - i, int64_t{R})));
    }
  });
}

template <class Format>
static int few_rows(tkf_context* context, const float* x, const ProductList& list, int64_t rows, int64_t k) {
  const int64_t bytes = row_bytes<Format>(k);
  if (!context_reserve(context, 0, static_cast<size_t>(rows * k) * 4)) return TKF_STATUS_MEMORY;
  float* const packed = static_cast<float*>(context_shared(context));
  pack_rows(x, rows, k, packed);
  if (rows == 1) {
    few_rows_of<4>(context, list, k, [&](const tkf_product& p, int64_t i, int valid) {
      few_rows_tile<Format, 4, 1>(packed, x, as<uint8_t>(p.weight) + i * bytes, valid, p.n, k, as<float>(p.out) + i);
    });
  } else {
    few_rows_of<2>(context, list, k * rows, [&](const tkf_product& p, int64_t i, int valid) {
      few_rows_group<Format>(packed, x, as<uint8_t>(p.weight) + i * bytes, valid, rows, p.n, k, as<float>(p.out) + i);
    });
  }
  return TKF_STATUS_OK;
}

// Many rows ----------------------------------------------------------------------------------------------------------

// Rows whose stride is a multiple of kMeeting floats map to one set of the L1 cache: x is copied with a stride of kApart
// more, up to kMostCopied values (64 MB).
constexpr int64_t kMeeting = 1024, kApart = 16, kMostCopied = int64_t{1} << 24;

// Least rows for which a BLAS pays, which packs its operands first.
constexpr int64_t kBlasRows = TKF_LEVEL == TKF_LEVEL_BASE ? 1 : 128;

// Rows that share one of the last panels, so that dequantizing it costs little.
constexpr int64_t kLastRows = 96;

// Tasks of a GEMM of many rows: ranges of panels, then each of the last panels alone, by parts of its rows, so that all
// threads end at about the same time.
struct ManyRows {
  int64_t rows, panels, bulk, tasks, parts;  // all panels; those in ranges, and how many ranges; parts of each other's rows

  // `last`: how many panels are last ones.
  ManyRows(int64_t rows, int64_t panels, int64_t most, int64_t last, int threads)
      : rows(rows), panels(panels), bulk(panels - last) {
    tasks = smaller(bulk, (bulk + most * threads - 1) / (most * threads) * threads);
    parts = larger(int64_t{1}, rows / kLastRows);
  }
  int64_t held() const { return (bulk + tasks - 1) / tasks; }  // panels of a task at most

  // body(first panel, end, first row, end, thread)
  template <class F>
  void run(tkf_context* context, F&& body) const {
    const int64_t each = bulk / tasks, longer = bulk % tasks;  // the longer ones first, as parallel_parts has them
    parallel(context, tasks + (panels - bulk) * parts, [&](int64_t task, int thread) {
      const int64_t begin = each * task + smaller(task, longer);
      if (task < tasks) return body(begin, begin + each + (task < longer), int64_t{0}, rows, thread);
      const int64_t panel = bulk + (task - tasks) / parts, part = (task - tasks) % parts;
      body(panel, panel + 1, rows * part / parts, rows * (part + 1) / parts, thread);
    });
  }
};

template <class Format>
static int many_rows(tkf_context* context, const float* x, const ProductList& list, int64_t rows, int64_t k) {
  // Ranges of about 512 KB of floats, as many for each thread; shorter ones where x fits the cache anyway.
  const int threads = context_threads(context);
  const auto panels_of = [&](int i) { return (list.at[i]->n + kPanel - 1) / kPanel; };
  int64_t panels = 0;
  for (int i = 0; i < list.count; i++) panels += panels_of(i);
  int64_t most = (int64_t{1} << 17) / (kPanel * larger(k, int64_t{1}));
  if (rows * k <= int64_t{1} << 16) most = smaller(most, panels / (4 * threads));
  const SgemmFunction sgemm = rows >= kBlasRows && k > 0 ? context_sgemm(context) : nullptr;
  const int64_t last = threads == 1 || sgemm != nullptr ? 0 : smaller(panels / 2, int64_t{threads});
  const ManyRows cut(rows, panels, larger(int64_t{1}, most), last, threads);
  const bool meets = sgemm == nullptr && k > 0 && k % kMeeting == 0 && rows <= kMostCopied / k;
  const int64_t stride = meets ? k + kApart : k, bytes = row_bytes<Format>(k);
  const int64_t copied = meets ? rows * stride : 0;
  if (!context_reserve(context, static_cast<size_t>(cut.held() * kPanel * k) * 4, static_cast<size_t>(copied) * 4)) {
    return TKF_STATUS_MEMORY;
  }
  if (meets) {
    float* const apart = static_cast<float*>(context_shared(context));
    parallel_ranges(context, rows, larger(int64_t{1}, 65536 / k), [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; i++) memcpy(apart + i * stride, x + i * k, static_cast<size_t>(k) * 4);
    });
    x = apart;
  }
  // Columns [begin, end) of a product's rows [top, bottom).
  const auto multiply = [&](const tkf_product& p, int64_t begin, int64_t end, int64_t top, int64_t bottom, float* packed) {
    const uint8_t* const weight = as<uint8_t>(p.weight);
    const float* const own = x + top * stride;
    float* const out = as<float>(p.out) + top * p.n;
    if (sgemm != nullptr) {
      for (int64_t j = begin; j < end; j++) decode_row<Format>(weight + j * bytes, k, packed + (j - begin) * k);
      constexpr int row_major = 101, plain = 111, transposed = 112;
      const int depth = static_cast<int>(k);
      return sgemm(row_major, plain, transposed, static_cast<int>(bottom - top), static_cast<int>(end - begin), depth, 1,
                   own, depth, packed, depth, 0, out + begin, static_cast<int>(p.n));
    }
    for (int64_t j = begin; j < end; j += W) {
      const int64_t within = j - begin;
      pack_columns<Format>(weight + j * bytes, smaller(end - j, int64_t{W}), k,
                           packed + within / kPanel * kPanel * k + within % kPanel);
    }
    const int64_t count = bottom - top, blocks = (count + kBlockRows - 1) / kBlockRows;
    for (int64_t block = 0; block < blocks; block++) {
      const int64_t first = count * block / blocks, some = count * (block + 1) / blocks - first;
      for (int64_t j = begin; j < end; j += kPanel) {
        multiply_panel(static_cast<int>(some), own + first * stride, stride, k, packed + (j - begin) * k,
                       static_cast<int>(smaller(end - j, int64_t{kPanel})), out + first * p.n + j, p.n);
      }
    }
  };
  cut.run(context, [&](int64_t begin, int64_t end, int64_t top, int64_t bottom, int thread) {
    float* const packed = static_cast<float*>(context_scratch(context, thread));
    int64_t before = 0;
    for (int i = 0; i < list.count; i++) {
      const tkf_product& p = *list.at[i];
      const int64_t from = larger(begin - before, int64_t{0}) * kPanel, to = smaller(p.n, (end - before) * kPanel);
      if (from < to) multiply(p, from, to, top, bottom, packed);
      before += panels_of(i);
    }
  });
  return TKF_STATUS_OK;
}

template <class Format>
int32_t multiply(tkf_context* context, const float* x, const ProductList& list, int64_t rows, int64_t k,
                 [[maybe_unused]] int gate) {
#if TKF_LEVEL == TKF_LEVEL_AVX512 && TKF_AMX
  if (by_bf16(context, rows)) {
    const auto products = context_products(context) == kBf16Dots ? bf16::products<bf16::Dots, Format>
                                                                 : bf16::products<bf16::Tiles, Format>;
    return products(context, x, list, rows, k, gate);
  }
#endif
#if TKF_LEVEL == TKF_LEVEL_AVX512
  if constexpr (few_nibbles::Layout<Format>::KNOWN) {
    // Fewer than kMostRows rows share each weight, which is dequantized by a table.
    if (rows < kMostRows) return few_nibbles::products<Format>(context, x, list, rows, k);
  }
#endif
  if (rows <= kFewRows) return few_rows<Format>(context, x, list, rows, k);
  if (some_rows::serves(rows, kTransposesWords<Format>) && (rows < kBlasRows || context_sgemm(context) == nullptr)) {
    return some_rows::products<Format>(context, x, list, rows, k);
  }
  return many_rows<Format>(context, x, list, rows, k);
}

#define TKF_MULTIPLY(Format)                                                                                  \
  template int32_t multiply<Format>(tkf_context * context, const float* x, const ProductList& list, int64_t rows, \
                                    int64_t k, int gate);

}  // namespace tkf::TKF_NAMESPACE
