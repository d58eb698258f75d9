// Launches prefill attention: tkf_attention_prefill, and the CUDA library's body of tkf_attention_filtered.
#include <algorithm>

#include "../common/launch.h"
#include "check_attention.h"
#include "launchers.h"
#include "prefill_mma.cuh"
#include "prefill_plain.cuh"

namespace tkf {
namespace attention {
namespace {

// A launch that fails leaves its error for cuda_launched.

constexpr int64_t kFewQueries = 16;  // up to so many, every query reads its keys itself: decode

template <class T>
void launch_mma(tkf_context* context, PrefillJob& job) {
  with_head_dim<64, 96, 128, 256>(job.head_dim, [&](auto size) {
    constexpr int D = decltype(size)::value;
    using Shape = MmaShape<D>;
    if (TKF_ALLOW_SHARED((prefill_mma_kernel<T, D>), Shape::kShared) != cudaSuccess) return;
    const int at_once = blocks_of_sm(prefill_mma_kernel<T, D>, kMmaThreads, Shape::kShared);
    if (!plan_splits(context, job, Shape::kRows, at_once)) return;
    TKF_LAUNCH(cuda_stream(context), (prefill_mma_kernel<T, D>), prefill_grid(job, Shape::kRows), dim3(kMmaThreads),
               Shape::kShared, job);
  });
}

template <class T>
void launch_plain(tkf_context* context, PrefillJob& job) {
  with_head_dim<64, 128, 256>(job.head_dim, [&](auto size) {
    constexpr int D = decltype(size)::value;
    using Shape = PlainShape<D>;
    if (TKF_ALLOW_SHARED((prefill_plain_kernel<T, D>), Shape::kShared) != cudaSuccess) return;
    const int at_once = blocks_of_sm(prefill_plain_kernel<T, D>, kPlainThreads, Shape::kShared);
    if (!plan_splits(context, job, Shape::kRows, at_once)) return;
    TKF_LAUNCH(cuda_stream(context), (prefill_plain_kernel<T, D>), prefill_grid(job, Shape::kRows),
               dim3(kPlainThreads), Shape::kShared, job);
  });
}

// Puts the splits together, where there are several.
void merge(tkf_context* context, const PrefillJob& job, int dtype) {
  const int64_t rows = int64_t{job.longest_queries} * job.heads;
  const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>(job.batch));
  with_type(job.queries_f32 ? TKF_DTYPE_F32 : dtype, [&](auto zero) {
    TKF_LAUNCH(cuda_stream(context), (prefill_merge_kernel<decltype(zero)>), grid, dim3(kMergeThreads), 0, job);
  });
}

// Whether the tensor-core kernels can read a job's tensors in pieces of 16 bytes, and write pairs.
bool fits_mma(const PrefillJob& job) {
  bool fits = job.head_dim % 8 == 0 && is_aligned(job.queries, 16) && is_aligned(job.out, 8);
  for (int which = 0; which < 2; which++) fits &= is_aligned(job.keys[which], 16) && is_aligned(job.values[which], 16);
  return fits;
}

int32_t run_prefill(tkf_context* context, PrefillJob& job, int dtype) {
  job.negative = job.factor < 0;
  job.factor = std::max(std::fabs(job.factor), kSmallestFactor);
  const bool f16 = dtype == TKF_DTYPE_F16;
  if (dtype == TKF_DTYPE_F32 || !fits_mma(job)) {
    with_type(dtype, [&](auto zero) { launch_plain<decltype(zero)>(context, job); });
  } else if (!launch_wgmma(context, job, dtype)) {
    f16 ? launch_mma<__half>(context, job) : launch_mma<__nv_bfloat16>(context, job);
  }
  if (job.splits == 0) return TKF_STATUS_STATE;  // cuda_short
  if (job.splits > 1) merge(context, job, dtype);
  return cuda_launched(context, "found an attention kernel that cannot run");
}

template <class Args>
PrefillJob prefill_of(tkf_context* context, const Args& a, int32_t window, int32_t recent) {
  PrefillJob job = job_of<PrefillJob>(context, a, a, a.query_positions, a.key_positions, window, recent);
  job.num_queries = job.longest_queries = static_cast<int>(a.num_queries);
  job.num_rows[0] = static_cast<int>(a.num_keys);
  job.num_rows[1] = static_cast<int>(a.num_recent);
  job.batch = 1;
  job.queries_f32 = true;
  return job;
}

}  // namespace
}  // namespace attention

int32_t on_cuda::attention_filtered(tkf_context* context, const tkf_attention_filtered_args& a) {
  if (a.num_queries <= attention::kFewQueries) return attention::decode_few(context, a);
  attention::PrefillJob job = attention::prefill_of(context, a, 0, a.recent_window);
  attention::set_gaps(job, a);
  return attention::run_prefill(context, job, a.kv_dtype);
}

bool check_args(Check& check, const tkf_attention_prefill_args& a) {
  check_rows(check, a, a.query_dtype, a.dtype);
  check.size("longest_queries", a.longest_queries, 0, a.num_queries);
  check.size("batch", a.batch, 0, 65535);  // CUDA's limit of a grid's second and third dimension
  check.size("kv_heads", a.kv_heads, 1, 65535);
  check.size("recent", a.recent, 0, INT32_MAX);
  check.size("window", a.window, 0, INT32_MAX);
  check.array<int32_t>("query_starts", a.query_starts, {int64_t{a.batch} + 1});
  check.array<int32_t>("key_starts", a.key_starts, {int64_t{a.batch} + 1});
  check.array<int32_t>("recent_starts", a.recent_starts, {int64_t{a.batch} + 1});
  return a.longest_queries > 0 && a.batch > 0;
}

int32_t on_cuda::attention_prefill(tkf_context* context, const tkf_attention_prefill_args& a) {
  attention::PrefillJob job = attention::prefill_of(context, a, a.window, a.recent);
  job.query_starts = as<int32_t>(a.query_starts);
  job.starts[0] = as<int32_t>(a.key_starts);
  job.starts[1] = as<int32_t>(a.recent_starts);
  job.longest_queries = static_cast<int>(a.longest_queries);
  job.batch = a.batch;
  job.queries_f32 = a.query_dtype == TKF_DTYPE_F32;
  return attention::run_prefill(context, job, a.dtype);
}

}  // namespace tkf
