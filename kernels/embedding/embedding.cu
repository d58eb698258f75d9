// Launchers of tkf_tensor_dequantize and tkf_embedding_gather.
#include "embedding.cuh"

#include "../common/launch.h"

namespace tkf {

int32_t on_cuda::tensor_dequantize(tkf_context* context, const tkf_tensor_dequantize_args& a) {
  const uint8_t* values = as<uint8_t>(a.values);
  const uintptr_t alignment = weight_alignment(a.dtype);
  if (!is_aligned(values, alignment)) return cuda_misaligned(context, "values", alignment);
  with_weight(a.dtype, is_aligned(values, 16) && a.count % 8 == 0, [&](auto weight) {
    using Weight = decltype(weight);
    const int64_t parts = a.count / Weight::VALUES * Weight::LANES;
    TKF_LAUNCH(cuda_stream(context), (dequantize_kernel<Weight>), grid_of(parts, 256), 256, 0, values, parts,
               as<float>(a.out));
  });
  return cuda_launched(context, "dequantize");
}

int32_t on_cuda::embedding_gather(tkf_context* context, const tkf_embedding_gather_args& a) {
  const uint8_t* table = as<uint8_t>(a.table);
  const uintptr_t alignment = weight_alignment(a.dtype);
  if (!is_aligned(table, alignment)) return cuda_misaligned(context, "table", alignment);
  with_weight(a.dtype, is_aligned(table, 16) && a.cols % 8 == 0, [&](auto weight) {
    using Weight = decltype(weight);
    const unsigned threads = row_threads(4 * (a.cols / Weight::VALUES * Weight::LANES), 256);
    TKF_LAUNCH(cuda_stream(context), (embedding_kernel<Weight>), grid_of(a.rows, 1), threads, 0, table, a.vocab, a.cols,
               as<int32_t>(a.ids), a.rows, as<float>(a.out), cuda_fault(context));
  });
  return cuda_launched(context, "embedding");
}

}  // namespace tkf
