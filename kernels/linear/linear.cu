// Launcher of tkf_linear_apply: which kernel serves which product, and where its parts lie.
//
// Activations are never quantised, and f32 never goes through TF32. Few rows: few_rows.cu, products by weights of one
// type together, and what a gate makes of them (5 to 64 rows by quantised weights, 5 to 16 by those of 16 bits:
// few_rows_mma.cuh). Many rows: f32 weights in float32; f16 and quantised weights as f16 parts, bf16 weights as bf16
// parts (split.cuh), whose products are added in float32, by cuBLASLt where it was loaded, else by the tiles of
// products.cuh. Where rows are few, as in the decode of a batch, cuBLASLt takes the parts of x as rows of one matrix, so
// that weights are read once, and all rows of a list of kept slots, of which those kept are written: it takes its shapes
// from the host. Longer lists are by the tiles. Dense rows that cannot be read in pieces of 16 bytes are many rows, too.
#include <cstdio>
#include <type_traits>

#include "../common/launch.h"
#include "cublaslt.h"
#include "linear.h"
#include "products.cuh"
#include "split.cuh"

namespace tkf {
namespace {

// Most rows of x for which reading the weights takes longer than multiplying by them; more for quantised weights.
constexpr int64_t kFewRows = 16, kFewRowsOfBlocks = 64;
// Rows of x, and bytes of weights' parts, at a time: the latter stay in the second-level cache until they are used.
constexpr int64_t kMostRows = 4096, kMostWeightBytes = int64_t{16} << 20;
// Rows of x whose parts are stacked, of all or of a list of them, and bytes of what comes of them.
constexpr int64_t kMostStacked = 64, kMostStackedOfList = 256, kMostStackedBytes = int64_t{64} << 20;

int32_t cublaslt_failed(tkf_context* context, int32_t status) {
  cuda_cublaslt(context)->failure(context->message, sizeof context->message);
  context->launch_status = status;
  return status;
}

// A product of many rows in 16-bit parts.
struct PartPlan {
  int type;               // TKF_DTYPE_F16 or BF16: of the parts
  int x_parts, w_parts;   // w_parts 0: the weights serve as they are
  int64_t padded_k, rows, n;  // rows of x and of weights at a time

  PartPlan(int dtype, const void* weight, int64_t all_rows, int64_t all_n, int64_t k) {
    type = dtype == TKF_DTYPE_BF16 ? TKF_DTYPE_BF16 : TKF_DTYPE_F16;
    x_parts = type == TKF_DTYPE_BF16 ? 3 : 2;
    padded_k = padded(k);
    const bool as_they_are = padded_k == k && is_aligned(weight, 16);
    w_parts = !is_dense(dtype) ? 2 : as_they_are ? 0 : 1;
    rows = all_rows < kMostRows ? all_rows : kMostRows;
    int64_t most = all_n;
    if (w_parts > 0) {
      most = kMostWeightBytes / (2 * w_parts * padded_k) / kPartTile * kPartTile;
      most = most < kPartTile ? kPartTile : most;
    }
    n = all_n < most ? all_n : most;
  }
  int64_t x_bytes() const { return Pieces::bytes_of(2 * x_parts * rows * padded_k) + Pieces::bytes_of(4 * rows); }
  int64_t w_bytes() const { return Pieces::bytes_of(2 * w_parts * n * padded_k) + Pieces::bytes_of(4 * n); }
};

// Rows of x as parts.
void split_x(tkf_context* context, const float* x, const RowList& rows, int64_t k, const PartPlan& plan,
             uint16_t* parts, float* scales) {
  const Stream stream = cuda_stream(context);
  const unsigned threads = row_threads(plan.padded_k, kSplitThreads);
  const int64_t stride = plan.rows * plan.padded_k;
  const auto launch = [&](auto wide) {
    constexpr bool WIDE = decltype(wide)::value;
    if (plan.type == TKF_DTYPE_F16) {
      TKF_LAUNCH(stream, (split_f16_kernel<WIDE>), grid_of(rows.rows, 1), threads, 0, x, rows, k, plan.padded_k, parts,
                 parts + stride, scales, GroupSums{}, cuda_fault(context));
    } else {
      TKF_LAUNCH(stream, (split_bf16_kernel<WIDE>), grid_of(rows.rows, 1), threads, 0, x, rows, k, plan.padded_k,
                 parts, stride, cuda_fault(context));
    }
  };
  k % 4 == 0 && is_aligned(x, 16) ? launch(std::true_type()) : launch(std::false_type());
}

// Weights as parts, where they do not serve as they are.
void split_weights(tkf_context* context, int dtype, const uint8_t* weight, int64_t rows, int64_t k,
                   const PartPlan& plan, uint16_t* parts, float* scales) {
  const Stream stream = cuda_stream(context);
  const unsigned threads = row_threads(plan.padded_k, kSplitThreads);
  if (is_dense(dtype)) {
    TKF_LAUNCH(stream, (pad_weights_kernel), grid_of(rows, 1), threads, 0, reinterpret_cast<const uint16_t*>(weight),
               rows, k, plan.padded_k, parts);
    return;
  }
  with_blocks(dtype, [&](auto format) {
    TKF_LAUNCH(stream, (split_weights_kernel<decltype(format)>), grid_of(rows, 1), threads, 0, weight, rows, k, parts,
               parts + rows * k, scales);
  });
}

template <bool BF16, int XP, int WP>
void launch_parts(tkf_context* context, const PartProduct& product, const RowList& list) {
  const int64_t tiles = (product.n + kPartTile - 1) / kPartTile * ((list.rows + kPartTile - 1) / kPartTile);
  TKF_LAUNCH(cuda_stream(context), (part_product_kernel<BF16, XP, WP>), grid_of(tiles, 1), kPartThreads,
             (kPartSharedBytes<XP, WP>), product, list, cuda_fault(context));
}

// One product of parts by cuBLASLt: the sum over pairs of parts, then the scales. False where cuBLASLt does not do it.
bool multiply_parts(tkf_context* context, CublasLt* lt, const PartProduct& p, const PartPlan& plan, int64_t rows,
                    void* workspace, int32_t* status) {
  const int w_parts = plan.w_parts == 2 ? 2 : 1;
  bool add = false;
  for (int i = 0; i < plan.x_parts; i++) {
    for (int w = 0; w < w_parts && i + w < plan.x_parts; w++, add = true) {
      const LtProduct product = {plan.type, p.x + i * p.x_stride, p.weight + w * p.w_stride, rows, p.n, p.padded_k,
                                 p.out, p.out_stride, add};
      if (!lt->multiply(product, workspace, cuda_stream(context), status)) return false;
    }
  }
  if (p.x_scales != nullptr) {
    TKF_LAUNCH(cuda_stream(context), (unscale_kernel), grid_of(rows, 1), row_threads(p.n, kSplitThreads), 0, p.out,
               rows, p.n, p.out_stride, p.x_scales, p.w_scales);
  }
  return true;
}

// The same of few rows, whose parts are the rows of one matrix: a product for each part of the weights, into `products`
// [parts of x, rows, n]; then their sum, of the rows of `list`.
bool multiply_stacked(tkf_context* context, CublasLt* lt, const PartProduct& p, const PartPlan& plan,
                      const RowList& list, float* products, void* workspace, int32_t* status) {
  const Stream stream = cuda_stream(context);
  for (int w = 0; w < (plan.w_parts == 2 ? 2 : 1); w++) {
    const LtProduct product = {plan.type, p.x, p.weight + w * p.w_stride, (plan.x_parts - w) * plan.rows, p.n,
                               p.padded_k, products, p.n, w > 0};
    if (!lt->multiply(product, workspace, stream, status)) return false;
  }
  const dim3 grid(grid_of(p.n, kSumColumns), static_cast<unsigned>(list.rows));
  TKF_LAUNCH(stream, (sum_parts_kernel), grid, kSplitThreads, 0, products, plan.x_parts, list, p.n, p.out_stride,
             p.x_scales, p.w_scales, p.out, cuda_fault(context));
  return true;
}

// Many rows by 16-bit weights or quantised ones, in parts. may_stack: whether cuBLASLt may take parts as rows.
int32_t many_rows_in_parts(tkf_context* context, const float* x, int dtype, const uint8_t* weight, const RowList& all,
                       int64_t n, int64_t k, float* out, bool may_stack = true) {
  const PartPlan plan(dtype, weight, all.rows, n, k);
  const int64_t stacked_bytes = Pieces::bytes_of(4 * plan.x_parts * plan.rows * plan.n);
  const int64_t most_stacked = all.kept == nullptr ? kMostStacked : kMostStackedOfList;
  const bool stacks = may_stack && cuda_cublaslt(context) != nullptr && all.rows <= most_stacked &&
                      stacked_bytes <= kMostStackedBytes;
  CublasLt* const lt = all.kept == nullptr || stacks ? cuda_cublaslt(context) : nullptr;
  SplitRows& split_rows = cuda_split_rows(context);
  SplitRows known = split_rows;
  const int64_t lt_bytes = lt == nullptr ? 0 : static_cast<int64_t>(kCublasLtWorkspace);
  const size_t bytes =
      static_cast<size_t>(lt_bytes + plan.x_bytes() + plan.w_bytes() + (stacks ? stacked_bytes : 0));
  void* const memory = cuda_workspace(context, bytes);
  if (memory == nullptr) return cuda_short(context, bytes);
  Pieces pieces(memory);
  uint8_t* const lt_memory = pieces.take<uint8_t>(lt_bytes);
  uint16_t* const x_parts = pieces.take<uint16_t>(plan.x_parts * plan.rows * plan.padded_k);
  float* const x_scales = pieces.take<float>(plan.rows);
  uint16_t* const w_parts = pieces.take<uint16_t>(plan.w_parts * plan.n * plan.padded_k);
  float* const w_scales = pieces.take<float>(plan.n);
  float* const products = pieces.take<float>(stacks ? plan.x_parts * plan.rows * plan.n : 0);
  const bool f16 = plan.type == TKF_DTYPE_F16;
  const int64_t x_stride = plan.rows * plan.padded_k;
  const unsigned long long capture = cuda_capture(context);
  const int64_t row_bytes = is_dense(dtype) ? 2 * k : k / block_size(dtype).values * block_size(dtype).bytes;

  for (int64_t first = 0; first < all.rows; first += plan.rows) {
    RowList list = all;
    list.first = all.first + first;
    list.rows = static_cast<int32_t>(all.rows - first < plan.rows ? all.rows - first : plan.rows);
    const RowList split = stacks ? RowList{nullptr, nullptr, all.batch, 0, list.rows} : list;
    const SplitRows own = {x, x_parts, list.first, list.rows, k, plan.type, capture};
    if (split.kept != nullptr || !(known == own)) {
      split_x(context, x, split, k, plan, x_parts, x_scales);
      known = split.kept == nullptr ? own : SplitRows{};
    }
    for (int64_t left = 0; left < n; left += plan.n) {
      const int64_t width = n - left < plan.n ? n - left : plan.n;
      const uint8_t* here = weight + left * row_bytes;
      if (plan.w_parts > 0) split_weights(context, dtype, here, width, k, plan, w_parts, w_scales);
      PartProduct product = {x_parts,
                             plan.w_parts > 0 ? w_parts : reinterpret_cast<const uint16_t*>(here),
                             f16 ? x_scales : nullptr,
                             plan.w_parts == 2 ? w_scales : nullptr,
                             out + left,
                             x_stride,
                             width * plan.padded_k,
                             width,
                             plan.padded_k,
                             n};
      int32_t status = TKF_STATUS_OK;
      if (stacks) {
        if (multiply_stacked(context, lt, product, plan, list, products, lt_memory, &status)) continue;
        if (status != TKF_STATUS_OK) return cublaslt_failed(context, status);
        return many_rows_in_parts(context, x, dtype, weight, all, n, k, out, false);
      }
      if (lt != nullptr) {
        product.out = out + list.first * n + left;
        if (multiply_parts(context, lt, product, plan, list.rows, lt_memory, &status)) continue;
        if (status != TKF_STATUS_OK) return cublaslt_failed(context, status);
        product.out = out + left;
      }
      if (!f16) {
        launch_parts<true, 3, 1>(context, product, list);
      } else if (plan.w_parts == 2) {
        launch_parts<false, 2, 2>(context, product, list);
      } else {
        launch_parts<false, 2, 1>(context, product, list);
      }
    }
  }
  const int32_t status = cuda_launched(context, "linear");
  if (status == TKF_STATUS_OK) split_rows = known;
  return status;
}

int32_t many_rows_f32(tkf_context* context, const float* x, const uint8_t* weight, const RowList& list, int64_t n,
                  int64_t k, float* out) {
  const float* const w = reinterpret_cast<const float*>(weight);
  CublasLt* const lt = list.kept == nullptr ? cuda_cublaslt(context) : nullptr;
  if (lt != nullptr) {
    void* const memory = cuda_workspace(context, kCublasLtWorkspace);
    if (memory == nullptr) return cuda_short(context, kCublasLtWorkspace);
    const LtProduct product = {TKF_DTYPE_F32, x, w, list.rows, n, k, out, n, false};
    int32_t status = TKF_STATUS_OK;
    if (lt->multiply(product, memory, cuda_stream(context), &status)) return TKF_STATUS_OK;
    if (status != TKF_STATUS_OK) return cublaslt_failed(context, status);
  }
  const int64_t tiles = (n + kF32Tile - 1) / kF32Tile * ((list.rows + kF32Tile - 1) / kF32Tile);
  TKF_LAUNCH(cuda_stream(context), (f32_product_kernel), grid_of(tiles, 1), kF32Threads, 0, x, w, list, n, k, out,
             cuda_fault(context));
  return cuda_launched(context, "linear");
}

// Whether few_rows.cu takes a product: rows of x are so few that reading the weights is what takes time, and dense ones
// can be read in pieces of 16 bytes.
bool are_few(const float* x, const tkf_product& p, int64_t rows, int64_t k) {
  if (k == 0 || !is_dense(p.dtype)) return k == 0 || rows <= kFewRowsOfBlocks;
  return rows <= kFewRows && k % 8 == 0 && is_aligned(x, 16) && is_aligned(p.weight.data, 16);
}

int32_t many_rows(tkf_context* context, const float* x, const tkf_product& p, const RowList& list, int64_t k) {
  const uint8_t* const weight = as<uint8_t>(p.weight);
  float* const out = as<float>(p.out);
  return p.dtype == TKF_DTYPE_F32 ? many_rows_f32(context, x, weight, list, p.n, k, out)
                                  : many_rows_in_parts(context, x, p.dtype, weight, list, p.n, k, out);
}

}  // namespace

const char* cuda_products(const tkf_context* context) {
  const CublasLt* const lt = cuda_cublaslt(context);
  return lt == nullptr ? "built-in matrix products" : lt->name();
}

int32_t on_cuda::linear_apply(tkf_context* context, const tkf_linear_apply_args& a) {
  const float* x = as<float>(a.x);
  const RowList list = {as<int32_t>(a.kept), as<int32_t>(a.kept_count), a.rows, 0, static_cast<int32_t>(a.rows)};
  for (const tkf_product& p : {a.first, a.second, a.third}) {
    const uintptr_t alignment = weight_alignment(p.dtype);
    if (!is_aligned(p.weight.data, alignment)) return cuda_misaligned(context, "weight", alignment);
    if (!is_dense(p.dtype) && !is_aligned(x, 16)) return cuda_misaligned(context, "x", 16);
  }
  if (a.same_x == 0) cuda_split_rows(context) = {};
  const tkf_product all[kMostProducts] = {a.first, a.second, a.third};
  bool done[kMostProducts] = {};
  int32_t gate = a.gate, status = TKF_STATUS_OK;
  for (int i = 0; i < kMostProducts && status == TKF_STATUS_OK; i++) {
    if (done[i] || all[i].n == 0) continue;
    if (!are_few(x, all[i], a.rows, a.k)) {
      status = many_rows(context, x, all[i], list, a.k);
      continue;
    }
    ProductSet same = {};  // those of one type together
    int count = 0;
    for (int j = i; j < kMostProducts; j++) {
      if (all[j].n == 0 || all[j].dtype != all[i].dtype || !are_few(x, all[j], a.rows, a.k)) continue;
      same.weight[count] = as<uint8_t>(all[j].weight), same.out[count] = as<float>(all[j].out);
      same.n[count++] = all[j].n;
      done[j] = true;
    }
    if (gate != TKF_GATE_NONE && count == 2) same.gate = gate, gate = TKF_GATE_NONE;
    status = linear_few_rows(context, x, all[i].dtype, same, list, a.k);
  }
  if (status != TKF_STATUS_OK || gate == TKF_GATE_NONE) return status;
  const tkf_buffer out = a.first.out, up = a.second.out;
  return gate_apply(context, {out, up, out, a.rows * a.first.n, gate});
}

}  // namespace tkf
