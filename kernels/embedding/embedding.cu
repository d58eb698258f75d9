// Rows of a table, and whole tensors, as floats.
#include "../common/cuda/launch.h"
#include "../common/cuda/weights.cuh"

namespace tkf {

// One lane's values of one block, times `scale`, at their places in `out`, which begins where the block does.
template <class Weight>
__device__ __forceinline__ void dequantize_part(const uint8_t* block, int part, float scale, float* out) {
  float w[Weight::RUNS * Weight::RUN];
  Weight::decode(block, part, w);
#pragma unroll
  for (int run = 0; run < Weight::RUNS; run++) {
    const int at = Weight::offset(part, run);
#pragma unroll
    for (int i = 0; i < Weight::RUN; i++) out[at + i] = scale * w[run * Weight::RUN + i];
  }
}

// out = scale times `count` values in rows of `cols`, a block of threads a row: the rows `ids` of a table, or, without ids, the table
// itself, whose last row may be shorter. A row of an id outside the table becomes 0.
template <class Weight>
__global__ void __launch_bounds__(256) embedding_kernel(const uint8_t* table, int64_t vocab, int64_t cols,
                                                        const int32_t* ids, int64_t count, float scale, float* out,
                                                        int* fault) {
  wait_for_earlier_kernels();
  for (int64_t row = blockIdx.x; row * cols < count; row += gridDim.x) {
    const int64_t id = ids == nullptr ? row : ids[row];
    float* to = out + row * cols;
    if (id < 0 || id >= vocab) {
      for (int64_t i = threadIdx.x; i < cols; i += blockDim.x) to[i] = 0;
      if (threadIdx.x == 0) tkf_fault(fault, kFaultIndex);
      continue;
    }
    const uint8_t* from = table + id * (cols / Weight::VALUES) * Weight::BYTES;
    const int64_t parts = min(cols, count - row * cols) / Weight::VALUES * Weight::LANES;
    for (int64_t i = threadIdx.x; i < parts; i += blockDim.x) {
      const int64_t block = i / Weight::LANES;
      dequantize_part<Weight>(from + block * Weight::BYTES, static_cast<int>(i % Weight::LANES),
                              scale, to + block * Weight::VALUES);
    }
  }
}

namespace {

constexpr int64_t kDequantizedCols = 2048;  // whole blocks of every type

int32_t launch_embedding(tkf_context* context, const char* name, const tkf_buffer& table, int dtype, int64_t vocab,
                         int64_t cols, const int32_t* ids, int64_t count, float scale, float* out) {
  const uintptr_t alignment = weight_alignment(dtype);
  if (!is_aligned(table.data, alignment)) return cuda_misaligned(context, name, alignment);
  const auto launch = [&](auto weight) {
    using Weight = decltype(weight);
    const unsigned threads = row_threads(4 * (cols / Weight::VALUES * Weight::LANES), 256);
    TKF_LAUNCH(cuda_stream(context), (embedding_kernel<Weight>), grid_of(count, cols), threads, 0, as<uint8_t>(table),
               vocab, cols, ids, count, scale, out, cuda_fault(context));
  };
  if (is_dense(dtype)) {
    with_type(dtype, [&](auto zero) { launch(Single<decltype(zero)>()); });
  } else {
    with_blocks(dtype, launch);
  }
  return cuda_launched(context, "embedding");
}

}  // namespace

int32_t on_cuda::tensor_dequantize(tkf_context* context, const tkf_tensor_dequantize_args& a) {
  return launch_embedding(context, "values", a.values, a.dtype, INT64_MAX, kDequantizedCols, nullptr, a.count, 1,
                          as<float>(a.out));
}

int32_t on_cuda::embedding_gather(tkf_context* context, const tkf_embedding_gather_args& a) {
  return launch_embedding(context, "table", a.table, a.dtype, a.vocab, a.cols, as<int32_t>(a.ids), a.rows * a.cols,
                          static_cast<float>(a.scale), as<float>(a.out));
}

}  // namespace tkf
