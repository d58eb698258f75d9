// Rows of a table, and whole tensors, as floats.
#include "../common/launch.h"
#include "../common/weights.cuh"

namespace tkf {

// One lane's values of one block, times `scale`, at their places in `out`, which begins where the block does.
template <class Weight>
__device__ __forceinline__ void dequantize_part(const uint8_t* block, int part, float* out, float scale = 1) {
  float w[Weight::RUNS * Weight::RUN];
  Weight::decode(block, part, w);
#pragma unroll
  for (int run = 0; run < Weight::RUNS; run++) {
    const int at = Weight::offset(part, run);
#pragma unroll
    for (int i = 0; i < Weight::RUN; i++) out[at + i] = scale * w[run * Weight::RUN + i];
  }
}

// parts: lanes' shares in all blocks.
template <class Weight>
__global__ void __launch_bounds__(256) dequantize_kernel(const uint8_t* values, int64_t parts, float* out) {
  wait_for_earlier_kernels();
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < parts; i += stride) {
    const int64_t block = i / Weight::LANES;
    dequantize_part<Weight>(values + block * Weight::BYTES, static_cast<int>(i % Weight::LANES),
                            out + block * Weight::VALUES);
  }
}

// A block of threads a row. A row of an id outside the table becomes 0.
template <class Weight>
__global__ void __launch_bounds__(256) embedding_kernel(const uint8_t* table, int64_t vocab, int64_t cols,
                                                        const int32_t* ids, int64_t rows, float scale, float* out,
                                                        int* fault) {
  wait_for_earlier_kernels();
  const int64_t blocks = cols / Weight::VALUES, parts = blocks * Weight::LANES;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const int64_t id = ids[row];
    float* to = out + row * cols;
    if (id < 0 || id >= vocab) {
      for (int64_t i = threadIdx.x; i < cols; i += blockDim.x) to[i] = 0;
      if (threadIdx.x == 0) tkf_fault(fault, kFaultIndex);
      continue;
    }
    const uint8_t* from = table + id * blocks * Weight::BYTES;
    for (int64_t i = threadIdx.x; i < parts; i += blockDim.x) {
      const int64_t block = i / Weight::LANES;
      dequantize_part<Weight>(from + block * Weight::BYTES, static_cast<int>(i % Weight::LANES),
                              to + block * Weight::VALUES, scale);
    }
  }
}

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
               as<int32_t>(a.ids), a.rows, static_cast<float>(a.scale), as<float>(a.out), cuda_fault(context));
  });
  return cuda_launched(context, "embedding");
}

}  // namespace tkf
