// Launches flash decoding: tkf_attention_decode, and calls of tkf_attention_filtered with few queries.
#include "decode.cuh"

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "../common/check_cache.h"
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

bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

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
  job.wide = static_cast<int64_t>(block_size(dtype).bytes) * job.head_dim % 16 == 0 && aligned(job.keys) &&
             aligned(job.values) && aligned(job.recent_keys) && aligned(job.recent_values);
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

}  // namespace

int32_t decode_few(tkf_context* context, const AttentionJob& job) {
  DecodeJob decode = {};
  decode.queries = job.queries;
  decode.out = job.out;
  decode.positions = job.query_positions;
  decode.keys = job.keys;
  decode.values = job.values;
  decode.key_positions = job.key_positions;
  decode.recent_keys = job.recent_keys;
  decode.recent_values = job.recent_values;
  decode.recent_positions = job.recent_positions;
  decode.num_keys = static_cast<int>(job.num_keys);
  decode.num_recent = static_cast<int>(job.num_recent);
  decode.key_reach = kNoLimit;
  decode.recent_reach = static_cast<unsigned>(job.recent_window);
  decode.batch = static_cast<int>(job.num_queries);
  decode.heads = job.heads;
  decode.kv_heads = job.kv_heads;
  decode.head_dim = job.head_dim;
  decode.group = job.heads / job.kv_heads;
  decode.factor = job.scale * kLog2E;
  decode.recent_ascends = true;
  return run_decode(context, decode, job.kv_dtype, job.num_keys + job.num_recent);
}

}  // namespace attention
}  // namespace tkf

uint64_t tkf_attention_decode_workspace(tkf_context* context, const tkf_kv_cache* cache, uint64_t cache_bytes,
                                        int32_t heads) {
  tkf::Check check(context);
  tkf::check_cache(check, cache, cache_bytes);
  if (!check.ok() || heads < 1 || heads % cache->kv_heads != 0) return 0;
  const int splits = tkf::attention::splits_of(context, cache->batch, cache->kv_heads, heads / cache->kv_heads,
                                               cache->capacity + cache->recent);
  return tkf::attention::workspace_of(splits, cache->batch, heads, cache->head_dim);
}

int32_t tkf_attention_decode(tkf_context* context, const tkf_kv_cache* cache, uint64_t cache_bytes,
                             const tkf_decode_rows* rows, uint64_t rows_bytes) {
  tkf::Check check(context);
  const tkf::CacheShape shape = tkf::check_cache(check, cache, cache_bytes);
  check.buffer("rows", rows, rows_bytes, sizeof(tkf_decode_rows), 8);
  if (!check.ok()) return check.status();
  const tkf_kv_cache& c = *cache;
  const tkf_decode_rows& r = *rows;
  check.size("heads", r.heads, 1, 65536);
  check.size("window", r.window, 0, INT32_MAX);
  check.size("capacity + recent", c.capacity + c.recent, 0, INT32_MAX);
  if (check.ok() && r.heads % c.kv_heads != 0) {
    check.fail(TKF_STATUS_SHAPE, "found %d query heads over %d KV heads, expected a multiple", r.heads, c.kv_heads);
  }
  check.require(std::fabs(r.scale) <= FLT_MAX, TKF_STATUS_VALUE,
                "found a scale that is not finite in f32, expected a number");
  const int64_t bytes = check.product({c.batch, r.heads, c.head_dim, 4});
  check.buffer("queries", r.queries.data, r.queries.bytes, bytes);
  check.buffer("out", r.out.data, r.out.bytes, bytes);
  check.buffer("positions", r.positions.data, r.positions.bytes, int64_t{c.batch} * 4);
  check.buffer("keep", r.keep.data, r.keep.bytes, c.batch, 1);
  if (!check.ok() || c.batch == 0) return check.status();

  tkf::attention::DecodeJob job = {};
  job.queries = static_cast<const float*>(r.queries.data);
  job.out = static_cast<float*>(r.out.data);
  job.positions = static_cast<const int32_t*>(r.positions.data);
  job.keep = static_cast<const uint8_t*>(r.keep.data);
  job.keys = c.keys.data;
  job.values = c.values.data;
  job.key_positions = static_cast<const int32_t*>(c.positions.data);
  job.counts = static_cast<const int32_t*>(c.counts.data);
  job.pages = static_cast<const int32_t*>(c.pages.data);
  job.recent_keys = c.recent_keys.data;
  job.recent_values = c.recent_values.data;
  job.recent_positions = static_cast<const int32_t*>(c.recent_positions.data);
  job.key_stride = c.capacity;
  job.recent_stride = c.recent;
  job.num_pages = shape.num_pages;
  job.pages_per_sequence = shape.pages_per_sequence;
  job.num_keys = static_cast<int>(c.capacity);
  job.num_recent = c.recent;
  job.page_rows = c.page_rows;
  job.page_shift = -1;
  for (int shift = 0; shift < 31; shift++) {
    if (c.page_rows == 1 << shift) job.page_shift = shift;
  }
  job.key_reach = tkf::attention::reach_of(r.window);
  job.recent_reach = std::min(static_cast<unsigned>(c.recent), job.key_reach);
  job.batch = c.batch;
  job.heads = r.heads;
  job.kv_heads = c.kv_heads;
  job.head_dim = c.head_dim;
  job.group = r.heads / c.kv_heads;
  job.factor = static_cast<float>(r.scale) * tkf::attention::kLog2E;
  return check.done(tkf::attention::run_decode(context, job, c.dtype, c.capacity + c.recent));
}
