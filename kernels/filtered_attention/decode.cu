// Launches flash decoding: tkf_attention_decode, and calls of tkf_attention_filtered with few queries.
#include "decode.cuh"

#include <algorithm>

#include "../common/check_cache.h"
#include "../common/launch.h"
#include "check_attention.h"
#include "decode.h"

namespace tkf {
namespace attention {
namespace {

constexpr int kMostSplits = 64;
constexpr int64_t kRowsOfSplit = 128;  // fewer are not worth a block
constexpr int kBlocksOfSm = 16;        // enough for an even load: four at a time, four times over

template <class T, int D, int G>
void launch_decode(cudaStream_t stream, const DecodeJob& job) {
  if (TKF_ALLOW_SHARED((decode_kernel<T, D, G>), kDecodeShared) != cudaSuccess) return;  // told by cuda_launched
  const dim3 grid(static_cast<unsigned>(job.kv_heads * ((job.group + G - 1) / G)), static_cast<unsigned>(job.splits),
                  static_cast<unsigned>(job.batch));
  TKF_LAUNCH(stream, (decode_kernel<T, D, G>), grid, dim3(kDecodeThreads), kDecodeShared, job);
}

template <class T, int D>
void launch_heads(cudaStream_t stream, const DecodeJob& job) {
  if (job.group == 1) {
    launch_decode<T, D, 1>(stream, job);
  } else if (job.group <= 4) {
    launch_decode<T, D, 4>(stream, job);
  } else {
    launch_decode<T, D, 8>(stream, job);
  }
}

template <class T>
void launch_sizes(cudaStream_t stream, const DecodeJob& job) {
  if (job.head_dim <= 64) {
    launch_heads<T, 64>(stream, job);
  } else if (job.head_dim <= 128) {
    launch_heads<T, 128>(stream, job);
  } else {
    launch_heads<T, 256>(stream, job);
  }
}

// Splits for a grid of `blocks` blocks over up to `rows` rows: a function of shapes alone, so that a graph can hold it.
int plan_splits(const tkf_context* context, int64_t blocks, int64_t rows) {
  const int64_t wanted = (int64_t{cuda_num_sms(context)} * kBlocksOfSm + blocks - 1) / blocks;
  const int64_t most = (rows + kRowsOfSplit - 1) / kRowsOfSplit;
  return static_cast<int>(max(int64_t{1}, min(min(wanted, most), int64_t{kMostSplits})));
}

int splits_of(const tkf_context* context, int64_t batch, int kv_heads, int group, int64_t rows) {
  const int g = group == 1 ? 1 : group <= 4 ? 4 : 8;
  return plan_splits(context, max(int64_t{1}, batch * kv_heads * ((int64_t{group} + g - 1) / g)), rows);
}

size_t workspace_of(int64_t splits, int64_t batch, int64_t heads, int64_t head_dim) {
  if (splits == 1) return 0;
  return sizeof(float) * static_cast<size_t>(splits * batch * heads * (2 + head_dim) + batch);
}

// Plans splits, takes the workspace, launches.
int32_t run_decode(tkf_context* context, DecodeJob& job, int dtype, int64_t rows) {
  job.fault = cuda_fault(context);
  job.splits = splits_of(context, job.batch, job.kv_heads, job.group, rows);
  const size_t bytes = workspace_of(job.splits, job.batch, job.heads, job.head_dim);
  if (bytes > 0) {
    job.partial = static_cast<float*>(cuda_workspace(context, bytes));
    if (job.partial == nullptr) return cuda_short(context, bytes);
    job.active = reinterpret_cast<int32_t*>(job.partial + int64_t{job.splits} * job.batch * job.heads *
                                                              (2 + job.head_dim));
  }
  job.wide = block_size(dtype).bytes * job.head_dim % 16 == 0;
  for (const void* rows : {job.keys, job.values, job.recent_keys, job.recent_values}) job.wide &= is_aligned(rows, 16);
  const cudaStream_t stream = cuda_stream(context);
  if (dtype == TKF_DTYPE_F32) {
    launch_sizes<float>(stream, job);
  } else if (dtype == TKF_DTYPE_F16) {
    launch_sizes<__half>(stream, job);
  } else {
    launch_sizes<__nv_bfloat16>(stream, job);
  }
  if (job.splits > 1) {
    TKF_LAUNCH(stream, decode_merge_kernel, dim3(static_cast<unsigned>(job.heads), static_cast<unsigned>(job.batch)),
               dim3(kMergeThreads), 0, job);
  }
  return cuda_launched(context, "found an attention kernel that cannot run");
}

unsigned reach_of(int window) { return window > 0 ? static_cast<unsigned>(window - 1) : kNoLimit; }

// What both functions have alike.
template <class Args>
DecodeJob job_of(const Args& a, int64_t batch, int32_t kv_heads, int32_t head_dim, unsigned key_reach, int32_t recent) {
  DecodeJob job = {};
  job.queries = as<float>(a.queries);
  job.out = as<float>(a.out);
  job.key_reach = key_reach;
  job.recent_reach = std::min(static_cast<unsigned>(recent), key_reach);
  job.batch = static_cast<int>(batch);
  job.heads = a.heads;
  job.kv_heads = kv_heads;
  job.head_dim = head_dim;
  job.group = a.heads / kv_heads;
  job.factor = static_cast<float>(a.scale) * kLog2E;
  return job;
}

}  // namespace

int32_t decode_few(tkf_context* context, const tkf_attention_filtered_args& a) {
  DecodeJob job = job_of(a, a.num_queries, a.kv_heads, a.head_dim, kNoLimit, a.recent_window);
  job.positions = as<int32_t>(a.query_positions);
  job.keys = a.keys.data;
  job.values = a.values.data;
  job.key_positions = as<int32_t>(a.key_positions);
  job.recent_keys = a.recent_keys.data;
  job.recent_values = a.recent_values.data;
  job.recent_positions = as<int32_t>(a.recent_positions);
  job.num_keys = static_cast<int>(a.num_keys);
  job.num_recent = static_cast<int>(a.num_recent);
  job.recent_ascends = true;
  return run_decode(context, job, a.kv_dtype, a.num_keys + a.num_recent);
}

}  // namespace attention

bool check_args(Check& check, const tkf_attention_decode_args& a) {
  const tkf_kv_cache& c = a.cache;
  check_cache(check, c);
  check_heads(check, a.heads, c.kv_heads, a.scale);
  check.size("window", a.window, 0, INT32_MAX);
  check.size("capacity + recent", c.capacity + c.recent, 0, INT32_MAX);
  check.array<float>("queries", a.queries, {c.batch, a.heads, c.head_dim});
  check.array<float>("out", a.out, {c.batch, a.heads, c.head_dim});
  check.array<int32_t>("positions", a.positions, {c.batch});
  check.array<uint8_t>("keep", a.keep, {c.batch});
  return c.batch > 0;
}

int32_t on_cuda::attention_decode(tkf_context* context, const tkf_attention_decode_args& a) {
  const tkf_kv_cache& c = a.cache;
  attention::DecodeJob job =
      attention::job_of(a, c.batch, c.kv_heads, c.head_dim, attention::reach_of(a.window), c.recent);
  job.positions = as<int32_t>(a.positions);
  job.keep = as<uint8_t>(a.keep);
  job.keys = c.keys.data;
  job.values = c.values.data;
  job.key_positions = as<int32_t>(c.positions);
  job.counts = as<int32_t>(c.counts);
  job.pages = as<int32_t>(c.pages);
  job.recent_keys = c.recent_keys.data;
  job.recent_values = c.recent_values.data;
  job.recent_positions = as<int32_t>(c.recent_positions);
  job.key_stride = c.capacity;
  job.recent_stride = c.recent;
  job.num_pages = pages_of(c).in_pool;
  job.pages_per_sequence = pages_of(c).of_sequence;
  job.num_keys = static_cast<int>(c.capacity);
  job.num_recent = c.recent;
  job.page_rows = c.page_rows;
  job.page_shift = -1;
  for (int shift = 0; shift < 31; shift++) {
    if (c.page_rows == 1 << shift) job.page_shift = shift;
  }
  return attention::run_decode(context, job, c.dtype, c.capacity + c.recent);
}

}  // namespace tkf
