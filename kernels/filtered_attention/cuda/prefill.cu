// Launches attention of many queries: the CUDA library's body of tkf_attention_filtered.
#include <algorithm>

#include "launchers.h"
#include "prefill_mma.cuh"
#include "prefill_plain.cuh"

namespace tkf {
namespace attention {

// Puts the splits of a row (query, head of the keys) together: a block each.
__global__ void __launch_bounds__(kMergeThreads) prefill_merge_kernel(const PrefillJob job) {
  wait_for_earlier_kernels();
  const unsigned heads = static_cast<unsigned>(job.kv_heads * job.group), query = blockIdx.x / heads;
  const int64_t row = int64_t{query} * job.heads + head_place(job, static_cast<int>(blockIdx.x - query * heads));
  merge_splits(job, row, partial_row(job, 0, row), partial_row(job, 1, 0) - job.partial, job.splits,
               job.out + row * job.head_dim);
}

namespace {

constexpr int64_t kFewQueries = 16;  // up to so many, every query reads its keys itself: decode

// A launch that fails leaves its error for cuda_launched.
template <class T>
void launch_mma(tkf_context* context, PrefillJob& job) {
  with_size<64, 96, 128, 256>(job.head_dim, [&](auto size) {
    constexpr int D = decltype(size)::value;
    using Shape = MmaShape<D>;
    if (TKF_ALLOW_SHARED((prefill_mma_kernel<T, D>), Shape::kShared) != cudaSuccess) return;
    const int at_once = blocks_of_sm(prefill_mma_kernel<T, D>, kMmaThreads, Shape::kShared);
    if (!plan_splits(context, job, Shape::kRows, at_once)) return;
    TKF_LAUNCH(cuda_stream(context), (prefill_mma_kernel<T, D>), prefill_grid(job, Shape::kRows), dim3(kMmaThreads),
               Shape::kShared, job);
  });
}

void launch_plain(tkf_context* context, PrefillJob& job) {
  with_size<64, 128, 256>(job.head_dim, [&](auto size) {
    constexpr int D = decltype(size)::value;
    using Shape = PlainShape<D>;
    if (TKF_ALLOW_SHARED((prefill_plain_kernel<D>), Shape::kShared) != cudaSuccess) return;
    const int at_once = blocks_of_sm(prefill_plain_kernel<D>, kPlainThreads, Shape::kShared);
    if (!plan_splits(context, job, Shape::kRows, at_once)) return;
    TKF_LAUNCH(cuda_stream(context), (prefill_plain_kernel<D>), prefill_grid(job, Shape::kRows), dim3(kPlainThreads),
               Shape::kShared, job);
  });
}

// Whether the tensor-core kernels can read a call's tensors in pieces of 16 bytes, and write pairs.
bool fits_mma(const tkf_attention_filtered_args& a) {
  bool fits = a.head_dim % 8 == 0 && is_aligned(a.queries.data, 16) && is_aligned(a.out.data, 8);
  for (const tkf_buffer& rows : {a.keys, a.values, a.recent_keys, a.recent_values}) fits &= is_aligned(rows.data, 16);
  return fits;
}

}  // namespace
}  // namespace attention

int32_t on_cuda::attention_filtered(tkf_context* context, const tkf_attention_filtered_args& a) {
  using namespace attention;
  const bool f32 = a.kv_dtype == TKF_DTYPE_F32;
  if (a.num_queries <= kFewQueries || !(f32 || fits_mma(a))) {
    const int32_t status = decode_queries(context, a);
    return status == TKF_STATUS_OK ? launch_shares(context, a) : status;
  }
  PrefillJob job = job_of<PrefillJob>(context, a);
  if (!take_log_sums(context, a, &job)) return TKF_STATUS_STATE;
  job.num_queries = static_cast<int>(a.num_queries);
  job.negative = job.factor < 0;
  job.factor = std::max(std::fabs(job.factor), kSmallestFactor);
  if (f32) {
    launch_plain(context, job);
  } else if (!launch_wgmma(context, job, a.kv_dtype)) {
    a.kv_dtype == TKF_DTYPE_F16 ? launch_mma<__half>(context, job) : launch_mma<__nv_bfloat16>(context, job);
  }
  if (job.splits == 0) return TKF_STATUS_STATE;  // cuda_short
  if (job.splits > 1) {
    TKF_LAUNCH(cuda_stream(context), prefill_merge_kernel, static_cast<unsigned>(a.num_queries * heads_of_keys(a)),
               kMergeThreads, 0, job);
  }
  const int32_t status = cuda_launched(context, "found an attention kernel that cannot run");
  return status == TKF_STATUS_OK ? launch_shares(context, a) : status;
}

}  // namespace tkf
