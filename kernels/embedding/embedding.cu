// Launchers of tkf_embedding_gather and tkf_tensor_dequantize.
#include "embedding.cuh"

#include "../common/check.h"
#include "../common/cuda_table.h"
#include "../common/launch.h"

namespace tkf {
namespace on_cuda {

void dequantize(tkf_context* context, int dtype, const uint8_t* values, int64_t count, float* out) {
  if (!is_aligned(values, weight_alignment(dtype))) {
    cuda_misaligned(context, "values", weight_alignment(dtype));
    return;
  }
  const bool whole = is_aligned(values, 16) && count % 8 == 0;
  with_weight(dtype, whole, [&](auto weight) {
    using Weight = decltype(weight);
    const int64_t parts = count / Weight::VALUES * Weight::LANES;
    TKF_LAUNCH(cuda_stream(context), (dequantize_kernel<Weight>), grid_of(parts, 256), 256, 0, values, parts, out);
  });
  cuda_launched(context, "dequantize");
}

void embedding(tkf_context* context, int dtype, const uint8_t* table, int64_t vocab, int64_t cols, const int32_t* ids,
               int64_t rows, float* out) {
  if (!is_aligned(table, weight_alignment(dtype))) {
    cuda_misaligned(context, "table", weight_alignment(dtype));
    return;
  }
  const bool whole = is_aligned(table, 16) && cols % 8 == 0;
  with_weight(dtype, whole, [&](auto weight) {
    using Weight = decltype(weight);
    const unsigned threads = row_threads(4 * (cols / Weight::VALUES * Weight::LANES), 256);
    TKF_LAUNCH(cuda_stream(context), (embedding_kernel<Weight>), grid_of(rows, 1), threads, 0, table, vocab, cols, ids,
               rows, out, cuda_fault(context));
  });
  cuda_launched(context, "embedding");
}

}  // namespace on_cuda
}  // namespace tkf
