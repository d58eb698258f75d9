// Launches prefill attention: tkf_attention_prefill, and the CUDA library's body of tkf_attention_filtered.

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "../common/check.h"
#include "../common/cuda_table.h"
#include "../include/tokenfilter_cuda.h"
#include "decode.h"
#include "filtered_attention.h"
#include "prefill_grid.h"
#include "prefill_mma.cuh"
#include "prefill_plain.cuh"
#include "prefill_wgmma.h"

namespace tkf {
namespace attention {
namespace {

// A launch that fails leaves its error for cuda_launched.

constexpr int64_t kFewQueries = 16;  // up to so many, every query reads its keys itself: decode

template <class T, int D>
void launch_mma(tkf_context* context, PrefillJob& job) {
  using Shape = MmaShape<D>;
  if (!plan_splits(context, job, Shape::kRows)) return;
  if (TKF_ALLOW_SHARED((prefill_mma_kernel<T, D>), Shape::kShared) != cudaSuccess) return;
  TKF_LAUNCH(cuda_stream(context), (prefill_mma_kernel<T, D>), prefill_grid(job, Shape::kRows), dim3(kMmaThreads),
             Shape::kShared, job);
}

template <class T>
void launch_mma_sizes(tkf_context* context, PrefillJob& job) {
  if (job.head_dim <= 64) {
    launch_mma<T, 64>(context, job);
  } else if (job.head_dim <= 96) {
    launch_mma<T, 96>(context, job);
  } else if (job.head_dim <= 128) {
    launch_mma<T, 128>(context, job);
  } else {
    launch_mma<T, 256>(context, job);
  }
}

template <class T, int D>
void launch_plain(tkf_context* context, PrefillJob& job) {
  using Shape = PlainShape<D>;
  if (!plan_splits(context, job, Shape::kRows)) return;
  if (TKF_ALLOW_SHARED((prefill_plain_kernel<T, D>), Shape::kShared) != cudaSuccess) return;
  TKF_LAUNCH(cuda_stream(context), (prefill_plain_kernel<T, D>), prefill_grid(job, Shape::kRows), dim3(kPlainThreads),
             Shape::kShared, job);
}

template <class T>
void launch_plain_sizes(tkf_context* context, PrefillJob& job) {
  if (job.head_dim <= 64) {
    launch_plain<T, 64>(context, job);
  } else if (job.head_dim <= 128) {
    launch_plain<T, 128>(context, job);
  } else {
    launch_plain<T, 256>(context, job);
  }
}

bool aligned(const void* pointer, uintptr_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

// Puts the splits together, where there are several.
void merge(tkf_context* context, const PrefillJob& job, int dtype) {
  const int64_t rows = int64_t{job.longest_queries} * job.heads;
  const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>(job.batch));
  const cudaStream_t stream = cuda_stream(context);
  if (job.queries_f32) {
    TKF_LAUNCH(stream, (prefill_merge_kernel<float>), grid, dim3(kMergeThreads), 0, job);
  } else if (dtype == TKF_DTYPE_F16) {
    TKF_LAUNCH(stream, (prefill_merge_kernel<__half>), grid, dim3(kMergeThreads), 0, job);
  } else {
    TKF_LAUNCH(stream, (prefill_merge_kernel<__nv_bfloat16>), grid, dim3(kMergeThreads), 0, job);
  }
}

// Whether the tensor-core kernels can read and write a job's tensors: in pieces of 16 bytes, and in pairs.
bool fits_mma(const PrefillJob& job) {
  bool fits = job.head_dim % 8 == 0 && aligned(job.queries, 8) && aligned(job.out, 8);
  for (int which = 0; which < 2; which++) fits &= aligned(job.keys[which], 16) && aligned(job.values[which], 16);
  return fits;
}

int32_t run_prefill(tkf_context* context, PrefillJob& job, int dtype, double scale) {
  if (job.longest_queries == 0 || job.batch == 0) return TKF_STATUS_OK;
  job.fault = cuda_fault(context);
  job.group = job.heads / job.kv_heads;
  job.negative = scale < 0;
  job.factor = max(static_cast<float>(std::fabs(scale)) * kLog2E, kSmallestFactor);
  if (dtype == TKF_DTYPE_F32) {
    launch_plain_sizes<float>(context, job);
  } else if (!fits_mma(job)) {
    dtype == TKF_DTYPE_F16 ? launch_plain_sizes<__half>(context, job) : launch_plain_sizes<__nv_bfloat16>(context, job);
  } else if (!launch_wgmma(context, job, dtype)) {
    dtype == TKF_DTYPE_F16 ? launch_mma_sizes<__half>(context, job) : launch_mma_sizes<__nv_bfloat16>(context, job);
  }
  if (job.splits == 0) return TKF_STATUS_STATE;  // cuda_short
  if (job.splits > 1) merge(context, job, dtype);
  return cuda_launched(context, "found an attention kernel that cannot run");
}

}  // namespace
}  // namespace attention

int on_cuda::filtered_attention(tkf_context* context, const AttentionJob* job) {
  if (job->num_queries <= attention::kFewQueries) return attention::decode_few(context, *job);
  attention::PrefillJob prefill = {};
  prefill.queries = job->queries;
  prefill.out = job->out;
  prefill.query_positions = job->query_positions;
  prefill.keys[0] = job->keys;
  prefill.keys[1] = job->recent_keys;
  prefill.values[0] = job->values;
  prefill.values[1] = job->recent_values;
  prefill.positions[0] = job->key_positions;
  prefill.positions[1] = job->recent_positions;
  prefill.reach[0] = attention::kNoLimit;
  prefill.reach[1] = static_cast<unsigned>(job->recent_window);
  prefill.num_queries = prefill.longest_queries = static_cast<int>(job->num_queries);
  prefill.num_rows[0] = static_cast<int>(job->num_keys);
  prefill.num_rows[1] = static_cast<int>(job->num_recent);
  prefill.batch = 1;
  prefill.heads = job->heads;
  prefill.kv_heads = job->kv_heads;
  prefill.head_dim = job->head_dim;
  prefill.queries_f32 = true;
  return attention::run_prefill(context, prefill, job->kv_dtype, job->scale);
}

}  // namespace tkf

int32_t tkf_attention_prefill(tkf_context* context, const tkf_prefill_rows* rows, uint64_t rows_bytes) {
  tkf::Check check(context);
  check.buffer("rows", rows, rows_bytes, sizeof(tkf_prefill_rows), 8);
  if (!check.ok()) return check.status();
  const tkf_prefill_rows& r = *rows;
  check.dtype("keys", r.dtype, {TKF_DTYPE_F32, TKF_DTYPE_F16, TKF_DTYPE_BF16});
  check.dtype("queries", r.query_dtype, {TKF_DTYPE_F32, r.dtype});
  check.size("num_queries", r.num_queries, 0, INT32_MAX);
  check.size("num_keys", r.num_keys, 0, INT32_MAX);
  check.size("num_recent", r.num_recent, 0, INT32_MAX);
  check.size("longest_queries", r.longest_queries, 0, r.num_queries);
  check.size("batch", r.batch, 0, 65535);  // CUDA's limit of a grid's second and third dimension
  check.size("kv_heads", r.kv_heads, 1, 65535);
  check.size("heads", r.heads, 1, 65536);
  check.size("head_dim", r.head_dim, 1, 256);
  check.size("recent", r.recent, 0, INT32_MAX);
  check.size("window", r.window, 0, INT32_MAX);
  if (check.ok() && r.heads % r.kv_heads != 0) {
    check.fail(TKF_STATUS_SHAPE, "found %d query heads over %d KV heads, expected a multiple", r.heads, r.kv_heads);
  }
  check.require(std::fabs(r.scale) <= FLT_MAX, TKF_STATUS_VALUE,
                "found a scale that is not finite in f32, expected a number");
  if (!check.ok()) return check.status();

  const int64_t width = int64_t{r.kv_heads} * r.head_dim, alignment = tkf::alignment_of(r.dtype);
  const int64_t query_bytes = check.bytes_of(r.query_dtype, check.product({r.num_queries, r.heads, r.head_dim}));
  const int64_t key_bytes = check.bytes_of(r.dtype, check.product({r.num_keys, width}));
  const int64_t recent_bytes = check.bytes_of(r.dtype, check.product({r.num_recent, width}));
  const int64_t starts_bytes = (int64_t{r.batch} + 1) * 4;
  check.buffer("queries", r.queries.data, r.queries.bytes, query_bytes, tkf::alignment_of(r.query_dtype));
  check.buffer("out", r.out.data, r.out.bytes, query_bytes, tkf::alignment_of(r.query_dtype));
  check.buffer("query_positions", r.query_positions.data, r.query_positions.bytes, r.num_queries * 4);
  check.buffer("keys", r.keys.data, r.keys.bytes, key_bytes, alignment);
  check.buffer("values", r.values.data, r.values.bytes, key_bytes, alignment);
  check.buffer("key_positions", r.key_positions.data, r.key_positions.bytes, r.num_keys * 4);
  check.buffer("recent_keys", r.recent_keys.data, r.recent_keys.bytes, recent_bytes, alignment);
  check.buffer("recent_values", r.recent_values.data, r.recent_values.bytes, recent_bytes, alignment);
  check.buffer("recent_positions", r.recent_positions.data, r.recent_positions.bytes, r.num_recent * 4);
  check.buffer("query_starts", r.query_starts.data, r.query_starts.bytes, starts_bytes);
  check.buffer("key_starts", r.key_starts.data, r.key_starts.bytes, starts_bytes);
  check.buffer("recent_starts", r.recent_starts.data, r.recent_starts.bytes, starts_bytes);
  if (!check.ok()) return check.status();

  tkf::attention::PrefillJob job = {};
  job.queries = r.queries.data;
  job.out = r.out.data;
  job.query_positions = static_cast<const int32_t*>(r.query_positions.data);
  job.keys[0] = r.keys.data;
  job.keys[1] = r.recent_keys.data;
  job.values[0] = r.values.data;
  job.values[1] = r.recent_values.data;
  job.positions[0] = static_cast<const int32_t*>(r.key_positions.data);
  job.positions[1] = static_cast<const int32_t*>(r.recent_positions.data);
  job.query_starts = static_cast<const int32_t*>(r.query_starts.data);
  job.starts[0] = static_cast<const int32_t*>(r.key_starts.data);
  job.starts[1] = static_cast<const int32_t*>(r.recent_starts.data);
  job.reach[0] = r.window > 0 ? static_cast<unsigned>(r.window - 1) : tkf::attention::kNoLimit;
  job.reach[1] = std::min(static_cast<unsigned>(r.recent), job.reach[0]);
  job.num_queries = static_cast<int>(r.num_queries);
  job.num_rows[0] = static_cast<int>(r.num_keys);
  job.num_rows[1] = static_cast<int>(r.num_recent);
  job.longest_queries = static_cast<int>(r.longest_queries);
  job.batch = r.batch;
  job.heads = r.heads;
  job.kv_heads = r.kv_heads;
  job.head_dim = r.head_dim;
  job.queries_f32 = r.query_dtype == TKF_DTYPE_F32;
  return check.done(tkf::attention::run_prefill(context, job, r.dtype, r.scale));
}
