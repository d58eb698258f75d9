// Launcher of tkf_linear_apply: which kernel serves which product, and where its parts lie.
//
// Activations are never quantised, and f32 never goes through TF32. Few rows: few_rows.cu, products by weights of one
// type together, and what a gate makes of them (5 to 64 rows by quantised weights, 5 to 16 by those of 16 bits:
// few_rows_mma.cuh). Many rows by cuBLASLt: f32 weights in float32; f16 and quantised weights as f16 parts, bf16 weights
// as bf16 parts (split.cuh), whose products are added in float32; weights are read once, as parts of x are rows of one
// matrix. Where tkf_products_use has asked for bf16, all factors are rounded to one part of it instead. Without cuBLASLt,
// few_rows.cu takes many rows too, f32 apart. That, lists of kept rows by f32 weights, and dense rows that cannot be read
// in pieces of 16 bytes go to products.cuh.
#include <algorithm>
#include <cstdio>

#include "../common/cuda/launch.h"
#include "cublaslt.h"
#include "linear.h"
#include "products.cuh"
#include "split.cuh"

namespace tkf {

void split_rows(tkf_context* context, const float* x, const RowList& list, int64_t k, int64_t padded_k, int num_parts,
                uint16_t* parts, float* scales, const GroupSums& groups) {
  const int64_t stride = list.rows * padded_k;
  const unsigned blocks = grid_of(list.rows, 1), threads = row_threads(padded_k, kSplitThreads);
  if (num_parts == 3) {
    TKF_LAUNCH(cuda_stream(context), split_bf16_kernel, blocks, threads, 0, x, list, k, padded_k, parts, stride,
               cuda_fault(context));
  } else {
    TKF_LAUNCH(cuda_stream(context), split_f16_kernel, blocks, threads, 0, x, list, k, padded_k, parts, parts + stride,
               scales, groups, cuda_fault(context));
  }
}

namespace {

// Most rows of x for which reading the weights takes longer than multiplying by them; more for quantised weights.
constexpr int64_t kFewRows = 16, kFewRowsOfBlocks = 64;
// Rows of x, bytes of products of parts, and bytes of weights' parts, at a time: the latter stay in the second-level
// cache until they are used. Weights are taken in whole numbers of kWholeRows.
constexpr int64_t kMostRows = 4096, kMostProductBytes = int64_t{64} << 20, kMostWeightBytes = int64_t{16} << 20;
constexpr int64_t kWholeRows = 64;

int32_t cublaslt_failed(tkf_context* context, int32_t status) {
  cuda_cublaslt(context)->failure(context->message, sizeof context->message);
  context->launch_status = status;
  return status;
}

// Quantised weights as two parts of f16.
void split_weights(tkf_context* context, int dtype, const uint8_t* weight, int64_t rows, int64_t k, uint16_t* parts,
                   float* scales) {
  with_blocks(dtype, [&](auto format) {
    TKF_LAUNCH(cuda_stream(context), (split_weights_kernel<decltype(format)>), grid_of(rows, 1),
               row_threads(k, kSplitThreads), 0, weight, rows, k, parts, parts + rows * k, scales);
  });
}

// Rows of k values as bf16.
void round_rows(tkf_context* context, const float* from, int64_t rows, int64_t k, uint16_t* to) {
  tkf_rows_copy_args copy = {};
  copy.x.data = const_cast<float*>(from), copy.out.data = to;
  copy.x_rows = copy.rows = rows, copy.cols = k;
  copy.dtype = TKF_DTYPE_F32, copy.out_dtype = TKF_DTYPE_BF16;
  on_cuda::rows_copy(context, copy);
}

// One product by the kernels of few rows, which take any number of them.
int32_t few_rows(tkf_context* context, const float* x, const tkf_product& p, const RowList& list, int64_t k) {
  ProductSet alone = {};
  alone.weight[0] = as<uint8_t>(p.weight), alone.out[0] = as<float>(p.out), alone.n[0] = p.n;
  return linear_few_rows(context, x, p.dtype, alone, list, k);
}

// A product of many rows in 16-bit parts by cuBLASLt, which takes the parts of x as rows of one matrix.
struct PartPlan {
  int type, x_parts;  // f16 in two parts, or bf16 in three; one of bf16 where factors are rounded to it
  int w_parts;        // 0: the weights serve as they are
  int64_t rows, n;    // rows of x and of weights at a time

  PartPlan(bool rounded, int dtype, int64_t all_rows, int64_t all_n, int64_t k) {
    type = rounded || dtype == TKF_DTYPE_BF16 ? TKF_DTYPE_BF16 : TKF_DTYPE_F16;
    x_parts = rounded ? 1 : type == TKF_DTYPE_BF16 ? 3 : 2;
    w_parts = dtype == type ? 0 : rounded ? 1 : 2;
    rows = std::min(all_rows, kMostRows);
    int64_t most = kMostProductBytes / (4 * x_parts * rows);
    if (w_parts > 0) most = std::min(most, kMostWeightBytes / (2 * w_parts * k));
    n = std::min(all_n, std::max(most / kWholeRows, int64_t{1}) * kWholeRows);
  }
};

// Many rows by 16-bit weights or quantised ones. Of a list of kept rows all are multiplied, and those kept are written:
// cuBLASLt takes its shapes from the host.
int32_t many_rows_in_parts(tkf_context* context, const float* x, const tkf_product& p, const RowList& all, int64_t k) {
  const bool rounded = cuda_bf16(context), unpacked = rounded && p.dtype != TKF_DTYPE_BF16 && p.dtype != TKF_DTYPE_F32;
  const PartPlan plan(rounded, p.dtype, all.rows, p.n, k);
  const bool direct = plan.x_parts == 1 && all.kept == nullptr;  // a product is the result
  CublasLt* const lt = cuda_cublaslt(context);
  const Stream stream = cuda_stream(context);
  const auto bytes_of = [](int64_t bytes) { return static_cast<size_t>(Pieces::bytes_of(bytes)); };
  const size_t bytes = kCublasLtWorkspace + bytes_of(2 * plan.x_parts * plan.rows * k) + bytes_of(4 * plan.rows) +
                       bytes_of(2 * plan.w_parts * plan.n * k) + bytes_of(4 * plan.n) +
                       bytes_of(4 * plan.x_parts * plan.rows * plan.n) + bytes_of(unpacked ? 4 * plan.n * k : 0);
  SplitRows known = cuda_split_rows(context);
  void* const memory = cuda_workspace(context, bytes);
  if (memory == nullptr) return cuda_short(context, bytes);
  Pieces pieces(memory);
  uint8_t* const lt_memory = pieces.take<uint8_t>(static_cast<int64_t>(kCublasLtWorkspace));
  uint16_t* const x_parts = pieces.take<uint16_t>(plan.x_parts * plan.rows * k);
  float* const x_scales = pieces.take<float>(plan.rows);
  uint16_t* const w_parts = pieces.take<uint16_t>(plan.w_parts * plan.n * k);
  float* const w_scales = pieces.take<float>(plan.n);
  float* const products = pieces.take<float>(plan.x_parts * plan.rows * plan.n);
  float* const values = pieces.take<float>(unpacked ? plan.n * k : 0);
  const int64_t row_bytes = k / block_size(p.dtype).values * block_size(p.dtype).bytes;

  for (int64_t first = 0; first < all.rows; first += plan.rows) {
    const int32_t rows = static_cast<int32_t>(std::min(all.rows - first, plan.rows));
    const RowList here = {nullptr, nullptr, all.batch, first, rows}, list = all.kept == nullptr ? here : all;
    const SplitRows own = {x, x_parts, first, rows, k, plan.x_parts, 0, cuda_capture(context)};
    if (!(known == own) && rounded) round_rows(context, x + first * k, rows, k, x_parts);
    if (!(known == own) && !rounded) split_rows(context, x, here, k, k, plan.x_parts, x_parts, x_scales, {});
    known = own;
    for (int64_t left = 0; left < p.n; left += plan.n) {
      const int64_t width = std::min(p.n - left, plan.n);
      const uint8_t* const from = as<uint8_t>(p.weight) + left * row_bytes;
      if (unpacked) {
        on_cuda::tensor_dequantize(context, {{const_cast<uint8_t*>(from), 0}, {values, 0}, width * k, p.dtype});
      }
      if (plan.w_parts == 1) {
        round_rows(context, unpacked ? values : reinterpret_cast<const float*>(from), width, k, w_parts);
      } else if (plan.w_parts == 2) {
        split_weights(context, p.dtype, from, width, k, w_parts, w_scales);
      }
      const uint16_t* const weight = plan.w_parts > 0 ? w_parts : reinterpret_cast<const uint16_t*>(from);
      // Products of parts x and w where x + w < x_parts: what is left out is below the last bit kept.
      for (int w = 0; w < std::max(plan.w_parts, 1); w++) {
        const LtProduct product = {plan.type, x_parts, weight + w * width * k, (plan.x_parts - w) * rows, width, k,
                                   direct ? as<float>(p.out) + first * p.n + left : products, direct ? p.n : width,
                                   w > 0};
        int32_t status = TKF_STATUS_OK;
        if (lt->multiply(product, lt_memory, stream, &status)) continue;
        return status == TKF_STATUS_OK ? few_rows(context, x, p, all, k) : cublaslt_failed(context, status);
      }
      if (direct) continue;
      const dim3 grid(static_cast<unsigned>(list.rows), grid_of(width, kSumColumns));
      TKF_LAUNCH(stream, sum_parts_kernel, grid, kSplitThreads, 0, products, plan.x_parts, first, int64_t{rows}, list,
                 width, p.n, plan.type == TKF_DTYPE_F16 ? x_scales : nullptr, plan.w_parts == 2 ? w_scales : nullptr,
                 as<float>(p.out) + left, cuda_fault(context));
    }
  }
  const int32_t status = cuda_launched(context, "linear");
  if (status == TKF_STATUS_OK) cuda_split_rows(context) = known;
  return status;
}

// Dense weights in float32.
int32_t plain_product(tkf_context* context, const float* x, const tkf_product& p, const RowList& list, int64_t k) {
  CublasLt* const lt = p.dtype == TKF_DTYPE_F32 && list.kept == nullptr ? cuda_cublaslt(context) : nullptr;
  if (lt != nullptr) {
    void* const memory = cuda_workspace(context, kCublasLtWorkspace);
    if (memory == nullptr) return cuda_short(context, kCublasLtWorkspace);
    const LtProduct product = {TKF_DTYPE_F32, x, p.weight.data, list.rows, p.n, k, as<float>(p.out), p.n, false};
    int32_t status = TKF_STATUS_OK;
    if (lt->multiply(product, memory, cuda_stream(context), &status)) return TKF_STATUS_OK;
    if (status != TKF_STATUS_OK) return cublaslt_failed(context, status);
  }
  const int64_t tiles = (p.n + kPlainTile - 1) / kPlainTile * ((list.rows + kPlainTile - 1) / kPlainTile);
  with_type(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    TKF_LAUNCH(cuda_stream(context), (plain_product_kernel<T>), grid_of(tiles, 1), kPlainThreads, 0, x, as<T>(p.weight),
               list, p.n, k, as<float>(p.out), cuda_fault(context));
  });
  return cuda_launched(context, "linear");
}

// What takes a product: few_rows.cu, cuBLASLt in parts, or float32.
enum class Way { kFew, kParts, kPlain };
Way way_of(const tkf_context* context, const float* x, const tkf_product& p, int64_t rows, int64_t k) {
  if (k == 0) return Way::kFew;
  if (is_dense(p.dtype) && (k % 8 != 0 || !is_aligned(x, 16) || !is_aligned(p.weight.data, 16))) return Way::kPlain;
  if (rows <= (is_dense(p.dtype) ? kFewRows : kFewRowsOfBlocks)) return Way::kFew;
  if (p.dtype == TKF_DTYPE_F32 && !cuda_bf16(context)) return Way::kPlain;
  return cuda_cublaslt(context) == nullptr ? Way::kFew : Way::kParts;
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
    const Way way = way_of(context, x, all[i], a.rows, a.k);
    if (way != Way::kFew) {
      status = way == Way::kParts ? many_rows_in_parts(context, x, all[i], list, a.k)
                                  : plain_product(context, x, all[i], list, a.k);
      continue;
    }
    ProductSet same = {};  // those of one type together
    int count = 0;
    for (int j = i; j < kMostProducts; j++) {
      if (all[j].n == 0 || all[j].dtype != all[i].dtype) continue;
      if (way_of(context, x, all[j], a.rows, a.k) != Way::kFew) continue;
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
