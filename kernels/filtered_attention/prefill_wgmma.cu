// Launches prefill with wgmma and TMA.
#include "prefill_wgmma.h"

#include "prefill_grid.h"
#include "prefill_wgmma.cuh"

namespace tkf {
namespace attention {
namespace {

constexpr int64_t kFewestRows = kWgmmaRows;  // of the longest sequence: fewer leave half of a tile empty

hopper::EncodeFunction encode_function() {
  static const hopper::EncodeFunction found = hopper::find_encode();
  return found;
}

// [rows, kv_heads, head_dim] as TMA sees it. A tensor without rows is never read; its map shows one row of another.
bool make_map(hopper::EncodeFunction encode, CUtensorMap* map, const PrefillJob& job, int dtype, const void* data,
              int rows) {
  const cuuint64_t head_dim = static_cast<cuuint64_t>(job.head_dim), kv_heads = static_cast<cuuint64_t>(job.kv_heads);
  const cuuint64_t sizes[3] = {head_dim, kv_heads, static_cast<cuuint64_t>(rows < 1 ? 1 : rows)};
  const cuuint64_t strides[2] = {head_dim * 2, head_dim * kv_heads * 2};  // bytes, of all but the first
  const cuuint32_t box[3] = {64, 1, kWgmmaKeys}, steps[3] = {1, 1, 1};
  const CUtensorMapDataType type =
      dtype == TKF_DTYPE_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  return encode(map, type, 3, const_cast<void*>(data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

template <class T, int D>
void launch(cudaStream_t stream, const PrefillJob& job, const PrefillMaps& maps) {
  if (TKF_ALLOW_SHARED((prefill_wgmma_kernel<T, D>), kWgmmaShared<D>) != cudaSuccess) return;
  TKF_LAUNCH(stream, (prefill_wgmma_kernel<T, D>), prefill_grid(job, kWgmmaRows), dim3(kWgmmaThreads),
             kWgmmaShared<D>, job, maps);
}

}  // namespace

bool has_wgmma(const tkf_context* context) {
  const int arch = cuda_arch(context);
  if ((arch != 90 && arch != 0) || encode_function() == nullptr) return false;  // 0: emulated
  cudaFuncAttributes found = {};
  const cudaError_t error = cudaFuncGetAttributes(&found, prefill_wgmma_kernel<__nv_bfloat16, 128>);
  if (error != cudaSuccess) cudaGetLastError();  // told by our answer
  return error == cudaSuccess && found.ptxVersion >= 90;
}

bool launch_wgmma(tkf_context* context, PrefillJob& job, int dtype) {
  if (!cuda_wgmma(context) || job.head_dim > 128) return false;
  if (int64_t{job.longest_queries} * job.group < kFewestRows || job.num_rows[0] == 0) return false;
  const hopper::EncodeFunction encode = encode_function();
  PrefillMaps maps;
  for (int which = 0; which < 2; which++) {
    const int from = job.num_rows[which] > 0 ? which : 0;
    if (!make_map(encode, &maps.keys[which], job, dtype, job.keys[from], job.num_rows[which]) ||
        !make_map(encode, &maps.values[which], job, dtype, job.values[from], job.num_rows[which])) {
      return false;
    }
  }
  if (!plan_splits(context, job, kWgmmaRows)) return true;  // told by the caller
  const cudaStream_t stream = cuda_stream(context);
  if (dtype == TKF_DTYPE_F16) {
    job.head_dim <= 64 ? launch<__half, 64>(stream, job, maps) : launch<__half, 128>(stream, job, maps);
  } else {
    job.head_dim <= 64 ? launch<__nv_bfloat16, 64>(stream, job, maps) : launch<__nv_bfloat16, 128>(stream, job, maps);
  }
  return true;
}

}  // namespace attention
}  // namespace tkf
