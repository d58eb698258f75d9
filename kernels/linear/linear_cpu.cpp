// out = x W'. Few rows of x: each weight is made float in a register and used at once (memory-bound). Many rows: a
// panel of weights is made float in scratch memory, then multiplied by a BLAS or by the tiles below (compute-bound).
#include "../common/blocks.h"

namespace tkf::TKF_NAMESPACE {

// Up to so many rows of x, making floats of the weights once per four of them is cheaper than storing them.
constexpr int64_t kFewRows = 8;

// The sums of N vectors.
template <int N>
static TKF_INLINE void sums_of(const vf* v, float* sums) {
  if constexpr (N == 4) return sum4(v, sums);
#pragma GCC unroll 4
  for (int i = 0; i < N; i++) sums[i] = sum(v[i]);
}

// 32 vector registers with AVX-512 and on arm64, else 16.
#if TKF_LEVEL == TKF_LEVEL_AVX512 || defined(__aarch64__)
constexpr bool kManyRegisters = true;
#else
constexpr bool kManyRegisters = false;
#endif

// Few rows -----------------------------------------------------------------------------------------------------------

// Parts of a block to write out, so that the shifts of each are constants; not worth the code for narrow vectors.
constexpr int kUnrolledParts = TKF_LEVEL == TKF_LEVEL_BASE ? 1 : 8;

// Weights are asked for so many bytes before they are used: memory takes as long as a few tiles.
constexpr uintptr_t kAhead = 4096;

// Rows of x that share a tile, and where they lie: W values of each row of a tile, then the next W. Loads are aligned.
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
    row[r] = r < valid ? weight + r * bytes : weight;  // a row that is not there: the first one again, to no effect
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) {
      for (int c = 0; c < chains; c++) sums[r][m][c] = set1(0);
    }
  }
  const uintptr_t later = reinterpret_cast<uintptr_t>(weight) + kAhead;  // tiles lie one behind the other
  for (int64_t chunk = 0; chunk < blocks; chunk += kChunk<Format>) {
    const int count = static_cast<int>(smaller(blocks - chunk, int64_t{kChunk<Format>}));
    float scales[R][kChunkScales<Format>];
    for (int r = 0; r < R; r++) Format::prepare(row[r] + chunk * Format::BYTES, count, scales[r]);
    for (int b = 0; b < count; b++) {
#pragma GCC unroll 16
      for (int line = 0; line < R * Format::BYTES; line += 64) {
        prefetch<2>(later + static_cast<uintptr_t>((chunk + b) * R * Format::BYTES + line));
      }
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

// All rows of x, for `valid` rows of weights that stay in the nearest cache meanwhile.
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

// body(i, valid) for every tile of R of the n rows of weights: rows i .. i+valid-1. `work` is the cost of one row.
template <int R, class F>
static TKF_INLINE void few_rows_of(tkf_context* context, int64_t n, int64_t work, F&& body) {
  parallel_ranges(context, (n + R - 1) / R, 32768 / larger(R * work, int64_t{1}), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin * R; i < end * R; i += R) body(i, static_cast<int>(smaller(n - i, int64_t{R})));
  });
}

template <class Format>
static int few_rows(tkf_context* context, const float* x, const uint8_t* weight, int64_t rows, int64_t n, int64_t k,
                    float* out) {
  const int64_t bytes = row_bytes<Format>(k);
  if (!context_reserve(context, 0, static_cast<size_t>(rows * k) * 4)) return TKF_STATUS_MEMORY;
  float* const packed = static_cast<float*>(context_shared(context));
  pack_rows(x, rows, k, packed);
  if (rows == 1) {
    few_rows_of<4>(context, n, k, [&](int64_t i, int valid) {
      few_rows_tile<Format, 4, 1>(packed, x, weight + i * bytes, valid, n, k, out + i);
    });
  } else {
    few_rows_of<2>(context, n, k * rows, [&](int64_t i, int valid) {
      few_rows_group<Format>(packed, x, weight + i * bytes, valid, rows, n, k, out + i);
    });
  }
  return TKF_STATUS_OK;
}

// Many rows ----------------------------------------------------------------------------------------------------------

// Dot products of MR rows of x and NR rows of w, of `count` values each: out[i * n + j], added to where `add`.
template <int MR, int NR>
static void tile(const float* x, int64_t x_stride, const float* w, int64_t w_stride, int64_t count, bool add,
                 float* out, int64_t n) {
  vf sums[MR][NR];
  for (auto& row : sums) {
    for (vf& cell : row) cell = set1(0);
  }
  int64_t at = 0;
  for (; at + W <= count; at += W) {
    vf columns[NR];
    for (int j = 0; j < NR; j++) columns[j] = load(w + j * w_stride + at);
    for (int i = 0; i < MR; i++) {
      const vf v = load(x + i * x_stride + at);
      for (int j = 0; j < NR; j++) sums[i][j] = fma(v, columns[j], sums[i][j]);
    }
  }
  if (at < count) {
    const int rest = static_cast<int>(count - at);
    for (int i = 0; i < MR; i++) {
      const vf v = load_part(x + i * x_stride + at, rest);
      for (int j = 0; j < NR; j++) sums[i][j] = fma(v, load_part(w + j * w_stride + at, rest), sums[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < MR; i++) {
    float dots[NR];
    sums_of<NR>(sums[i], dots);
    for (int j = 0; j < NR; j++) out[i * n + j] = add ? out[i * n + j] + dots[j] : dots[j];
  }
}

// As large as the registers allow.
constexpr int kTileM = kManyRegisters ? 6 : 3, kTileN = 4;

// Calls the tile of the size that is left, 1 <= rows <= kTileM and 1 <= cols <= kTileN.
template <int MR, int NR>
static void edge_tile(int64_t rows, int64_t cols, const float* x, int64_t x_stride, const float* w, int64_t w_stride,
                      int64_t count, bool add, float* out, int64_t n) {
  if constexpr (MR > 1) {
    if (rows < MR) return edge_tile<MR - 1, NR>(rows, cols, x, x_stride, w, w_stride, count, add, out, n);
  }
  if constexpr (NR > 1) {
    if (cols < NR) return edge_tile<MR, NR - 1>(rows, cols, x, x_stride, w, w_stride, count, add, out, n);
  }
  tile<MR, NR>(x, x_stride, w, w_stride, count, add, out, n);
}

// x [m, k] times the transpose of w [cols, k] into out [m, cols] of row stride n.
static void multiply(const float* x, const float* w, int64_t m, int64_t cols, int64_t k, float* out, int64_t n) {
  constexpr int64_t height = 60;  // a multiple of kTileM; its rows of x stay in the second-level cache
  const int64_t pieces = larger(int64_t{1}, (k + 1023) / 1024), depth = ((k + pieces - 1) / pieces + W - 1) / W * W;
  if (k == 0) {
    for (int64_t i = 0; i < m; i++) memset(out + i * n, 0, static_cast<size_t>(cols) * 4);
  }
  for (int64_t top = 0; top < m; top += height) {
    const int64_t bottom = smaller(m, top + height);
    for (int64_t at = 0; at < k; at += depth) {
      const int64_t count = smaller(depth, k - at);
      for (int64_t j = 0; j < cols; j += kTileN) {
        for (int64_t i = top; i < bottom; i += kTileM) {
          edge_tile<kTileM, kTileN>(smaller(bottom - i, int64_t{kTileM}), smaller(cols - j, int64_t{kTileN}),
                                    x + i * k + at, k, w + j * k + at, k, count, at > 0, out + i * n + j, n);
        }
      }
    }
  }
}

// A BLAS packs its operands first, which pays from about so many rows on.
constexpr int64_t kBlasRows = TKF_LEVEL == TKF_LEVEL_BASE ? 1 : 128;

template <class Format>
static int many_rows(tkf_context* context, const float* x, const uint8_t* weight, int64_t rows, int64_t n, int64_t k,
                     float* out) {
  // Panels of at most 256 rows of weights and about a megabyte, as many as divide evenly among the threads.
  const int64_t threads = context_threads(context);
  const int64_t most = larger(int64_t{16}, smaller(int64_t{256}, (int64_t{1} << 18) / larger(k, int64_t{1})));
  const int64_t rounds = (n + most * threads - 1) / (most * threads);
  const int64_t panel = larger(int64_t{16}, (n + rounds * threads - 1) / (rounds * threads));
  const int64_t panels = (n + panel - 1) / panel;
  constexpr bool dense = sizeof(Format) == sizeof(FormatF32) && Format::BYTES == FormatF32::BYTES;
  if (!dense && !context_reserve(context, static_cast<size_t>(panel * k) * 4, 0)) return TKF_STATUS_MEMORY;
  const SgemmFunction sgemm = context_sgemm(context);
  const int64_t bytes = row_bytes<Format>(k);
  parallel(context, panels, [&](int64_t task, int thread) {
    const int64_t begin = task * panel, cols = smaller(panel, n - begin);
    const float* w = reinterpret_cast<const float*>(weight + begin * bytes);
    if (!dense) {
      float* scratch = static_cast<float*>(context_scratch(context, thread));
      for (int64_t r = 0; r < cols; r++) decode_row<Format>(weight + (begin + r) * bytes, k, scratch + r * k);
      w = scratch;
    }
    if (sgemm != nullptr && rows >= kBlasRows && k > 0) {
      constexpr int row_major = 101, plain = 111, transposed = 112;
      const int stride = static_cast<int>(k);
      sgemm(row_major, plain, transposed, static_cast<int>(rows), static_cast<int>(cols), stride, 1, x, stride, w,
            stride, 0, out + begin, static_cast<int>(n));
    } else {
      multiply(x, w, rows, cols, k, out + begin, n);
    }
  });
  return TKF_STATUS_OK;
}

static int32_t linear_apply(tkf_context* context, const tkf_linear_apply_args& a) {
  const float* x = as<float>(a.x);
  const uint8_t* weight = as<uint8_t>(a.weight);
  int32_t status = TKF_STATUS_OK;
  with_format(a.dtype, [&](auto format) {
    using Format = decltype(format);
    if (a.rows <= kFewRows) {
      status = few_rows<Format>(context, x, weight, a.rows, a.n, a.k, as<float>(a.out));
    } else {
      status = many_rows<Format>(context, x, weight, a.rows, a.n, a.k, as<float>(a.out));
    }
  });
  return status;
}

}  // namespace tkf::TKF_NAMESPACE
