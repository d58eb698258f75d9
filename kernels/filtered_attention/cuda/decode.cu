// Launches flash decoding: tkf_attention_decode, and calls of tkf_attention_filtered that take queries one by one.
#include "decode.cuh"

#include <algorithm>

#include "../../common/check_cache.h"
#include "launchers.h"

namespace tkf {
namespace attention {
namespace {

constexpr int64_t kMostSplits = 64;
constexpr int64_t kRowsOfSplit = 128;  // fewer are not worth a block
constexpr int64_t kMostQueries = 4096;  // of a launch: blocks enough for any device
constexpr int kTurns = 4;              // of blocks that a multiprocessor holds at a time: enough for an even load

// Query heads that a block serves.
int heads_of_block(int group) { return group == 1 ? 1 : group <= 4 ? 4 : 8; }

// Splits for a grid of so many blocks, `at_once` of them on a multiprocessor: a function of shapes and of the device
// alone, so that a graph can hold it.
int splits_of(const tkf_context* context, const DecodeJob& job, int64_t blocks, int at_once) {
  const int64_t room = int64_t{cuda_num_sms(context)} * at_once * kTurns;
  const int64_t rows = int64_t{job.num_rows[0]} + job.num_rows[1];
  const int64_t wanted = (room + blocks - 1) / blocks, most = (rows + kRowsOfSplit - 1) / kRowsOfSplit;
  return static_cast<int>(std::max<int64_t>(1, std::min({wanted, most, kMostSplits})));
}

// Plans splits, takes the workspace that they need (cuda_short where there is too little), launches.
template <class T, int D, int G>
int32_t launch_decode(tkf_context* context, DecodeJob& job) {
  // An error is reported by cuda_launched.
  if (TKF_ALLOW_SHARED((decode_kernel<T, D, G>), kDecodeShared) != cudaSuccess) return TKF_STATUS_OK;
  const int at_once = blocks_of_sm(decode_kernel<T, D, G>, kDecodeThreads, kDecodeShared);
  const int64_t heads = int64_t{job.kv_heads} * ((job.group + G - 1) / G);
  job.splits = splits_of(context, job, std::max<int64_t>(1, heads * job.batch), at_once);
  if (job.splits > 1) {
    const int64_t parts = int64_t{job.splits} * job.batch * job.heads * (2 + job.head_dim);
    const size_t bytes = sizeof(float) * static_cast<size_t>(parts + job.batch);
    job.partial = take_partial(context, job, bytes);
    if (job.partial == nullptr) return cuda_short(context, job.log_room * sizeof(float) + bytes);
    job.active = reinterpret_cast<int32_t*>(job.partial + parts);
  }
  const dim3 grid(static_cast<unsigned>(heads), static_cast<unsigned>(job.splits), static_cast<unsigned>(job.batch));
  TKF_LAUNCH(cuda_stream(context), (decode_kernel<T, D, G>), grid, dim3(kDecodeThreads), kDecodeShared, job);
  return TKF_STATUS_OK;
}

int32_t run_decode(tkf_context* context, DecodeJob& job, int dtype) {
  job.wide = block_size(dtype).bytes * job.head_dim % 16 == 0;
  for (int i = 0; i < 2; i++) job.wide &= is_aligned(job.keys[i], 16) && is_aligned(job.values[i], 16);
  int32_t status = TKF_STATUS_OK;
  with_type(dtype, [&](auto zero) {
    with_size<64, 128, 256>(job.head_dim, [&](auto size) {
      using T = decltype(zero);
      constexpr int D = decltype(size)::value;
      switch (heads_of_block(job.group)) {
        case 1: status = launch_decode<T, D, 1>(context, job); break;
        case 4: status = launch_decode<T, D, 4>(context, job); break;
        default: status = launch_decode<T, D, 8>(context, job);
      }
    });
  });
  if (status != TKF_STATUS_OK) return status;
  if (job.splits > 1) {
    TKF_LAUNCH(cuda_stream(context), decode_merge_kernel,
               dim3(static_cast<unsigned>(job.kv_heads * job.group), static_cast<unsigned>(job.batch)),
               dim3(kMergeThreads), 0, job);
  }
  return cuda_launched(context, "found an attention kernel that cannot run");
}

}  // namespace

int32_t decode_queries(tkf_context* context, const tkf_attention_filtered_args& a) {
  const int64_t row = int64_t{a.heads} * a.head_dim;
  for (int64_t first = 0; first < a.num_queries; first += kMostQueries) {
    DecodeJob job = job_of<DecodeJob>(context, a);
    if (!take_log_sums(context, a, &job)) return TKF_STATUS_STATE;
    if (job.log_sums != nullptr) job.log_sums += first * a.heads;
    job.batch = static_cast<int>(std::min(a.num_queries - first, kMostQueries));
    job.queries += first * row;
    job.out += first * row;
    job.query_positions += first;
    if (job.windows != nullptr) job.windows += first;
    job.recent_ascends = true;
    const int32_t status = run_decode(context, job, a.kv_dtype);
    if (status != TKF_STATUS_OK) return status;
  }
  return TKF_STATUS_OK;
}

}  // namespace attention

bool check_args(Check& check, const tkf_attention_decode_args& a) {
  const tkf_kv_cache& c = a.cache;
  check_cache(check, c);
  const bool some = a.kv_places.data != nullptr;
  if (some) {
    check.size("kv_heads", c.kv_heads, 1, a.query_kv_heads);
    check.array<int32_t>("kv_places", a.kv_places, {c.kv_heads});
  }
  check_heads(check, a.heads, some ? a.query_kv_heads : c.kv_heads, a.scale);
  check.size("window", a.window, 0, INT32_MAX);
  check.size("capacity + recent", c.capacity + c.recent, 0, INT32_MAX);
  check.array<float>("queries", a.queries, {c.batch, a.heads, c.head_dim});
  check.array<float>("out", a.out, {c.batch, a.heads, c.head_dim});
  check.array<int32_t>("positions", a.positions, {c.batch});
  check.array<uint8_t>("keep", a.keep, {c.batch});
  if (a.changes.data != nullptr) {
    check.size("change_rows", a.change_rows, 1, INT32_MAX);
    check.size("change_keys", a.change_keys, 1, INT32_MAX);
    check.size("change_distance", a.change_distance, 0, INT32_MAX);
    check.array<double>("changes", a.changes, {c.batch, a.change_rows, a.change_keys});
    check.array<float>("head_weights", a.head_weights, {a.heads});
    check.array<int32_t>("first", a.first, {c.batch});
  }
  return c.batch > 0;
}

int32_t on_cuda::attention_decode(tkf_context* context, const tkf_attention_decode_args& a) {
  const tkf_kv_cache& c = a.cache;
  auto job = attention::job_of<attention::DecodeJob>(context, a, c, a.positions, c.positions, a.window, c.recent);
  job.batch = c.batch;
  job.keep = as<uint8_t>(a.keep);
  job.counts = as<int32_t>(c.counts);
  job.stride[0] = c.capacity;
  job.stride[1] = c.recent;
  job.num_rows[0] = static_cast<int>(c.capacity);
  job.num_rows[1] = c.recent;
  job.kv_places = as<int32_t>(a.kv_places);
  if (job.kv_places != nullptr) job.group = a.heads / a.query_kv_heads;
  const bool shows = a.changes.data != nullptr;
  if (shows && !attention::take_log_sums(context, c.batch, &job)) return TKF_STATUS_STATE;
  const int32_t status = attention::run_decode(context, job, c.dtype);
  return shows && status == TKF_STATUS_OK ? attention::launch_changes(context, a, job) : status;
}

}  // namespace tkf
