// What queries gave to keys: their weights once more, from scores and the sums of softmaxes, and how much outputs would change
// without each key. A few keys of many, so that each is read by a warp of its own.
#include "launchers.h"
#include "../share_queries.h"

namespace tkf::attention {
namespace {

constexpr int kShareWarps = 8;  // keys of a block
constexpr int64_t kMostShareRows = 65535;  // of a grid

// queries, out: [num_queries, heads, head_dim]; shares, changes: [num_rows, num_shares] of the last queries and keys.
struct SharesJob : AttentionJob {
  int first_query, first_key, num_queries, num_shares, distance;
  double *shares, *changes;
  const float* head_weights;  // NULL: no changes
};

__device__ __forceinline__ float number_at(const float* x, int64_t i) { return x[i]; }
__device__ __forceinline__ float number_at(const __half* x, int64_t i) { return __half2float(x[i]); }
__device__ __forceinline__ float number_at(const __nv_bfloat16* x, int64_t i) { return __bfloat162float(x[i]); }

// The sum of the weights that the heads of a query gave to a key, and of what their outputs would change without it.
struct Given {
  float share = 0.0f, change = 0.0f;
};

// Warp-wide, its lanes the columns. head_weights: NULL: no changes.
template <class T>
__device__ __forceinline__ Given given_to(const AttentionJob& job, const float* head_weights, int query, int64_t key) {
  const T *const keys = static_cast<const T*>(job.keys[0]), *const values = static_cast<const T*>(job.values[0]);
  Given given;
  for (int head = 0; head < job.kv_heads * job.group; head++) {
    const int place = head_place(job, head);
    const int64_t row = int64_t{query} * job.heads + place, from = row * job.head_dim;
    const int64_t cached = (key * job.kv_heads + head / job.group) * job.head_dim;
    float score = 0.0f, distance = 0.0f;
    for (int c = lane_index(); c < job.head_dim; c += 32) {
      score = fmaf(job.queries[from + c], number_at(keys, cached + c), score);
      const float apart = head_weights == nullptr ? 0.0f : number_at(values, cached + c) - job.out[from + c];
      distance = fmaf(apart, apart, distance);
    }
    const float weight = exp2_fast(fminf(0.0f, warp_sum(score) * job.factor - job.log_sums[row]));
    given.share += weight;
    if (head_weights == nullptr) continue;
    const float moved = weight / fmaxf(kLeastOthers, 1.0f - weight);
    given.change = fmaf(head_weights[place] * moved * moved, warp_sum(distance), given.change);
  }
  return given;
}

// Block (keys, query); a warp has a key.
template <class T>
__global__ void __launch_bounds__(kShareWarps * 32) shares_kernel(const SharesJob job) {
  wait_for_earlier_kernels();
  const int at = static_cast<int>(blockIdx.x) * kShareWarps + warp_index(), lane = lane_index();
  if (at >= job.num_shares) return;
  const int key = job.first_key + at, key_position = job.positions[0][key];
  for (int query = job.first_query + static_cast<int>(blockIdx.y); query < job.num_queries; query += static_cast<int>(gridDim.y)) {
    const int position = job.query_positions[query];
    const int window = job.windows == nullptr ? -1 : job.windows[query];
    const bool seen = int64_t{position} - key_position >= job.distance && (job.key_ends == nullptr || position < job.key_ends[key]) &&
                      (key_position >= window_begin(position, window) || key_position < job.sinks);
    const Given given = seen ? given_to<T>(job, job.head_weights, query, key) : Given{};
    if (lane != 0) continue;
    const int64_t to = int64_t{query - job.first_query} * job.num_shares + at;
    job.shares[to] = static_cast<double>(given.share) / (job.kv_heads * job.group);
    if (job.head_weights != nullptr) job.changes[to] = given.change;
  }
}

// Sequences of a batch in decode, each with a cache of its own.
struct ChangesJob : AttentionJob {
  const uint8_t* keep;
  const int32_t *counts, *first;
  const float* head_weights;
  double* changes;
  int capacity, change_rows, change_keys, distance;
};

// Block (last keys, sequence); a warp has a key.
template <class T>
__global__ void __launch_bounds__(kShareWarps * 32) changes_kernel(const ChangesJob job) {
  wait_for_earlier_kernels();
  const int b = static_cast<int>(blockIdx.y), back = static_cast<int>(blockIdx.x) * kShareWarps + warp_index();
  const int position = job.query_positions[b], row = min(job.counts[b], job.capacity) - 1 - back;
  if (position < 0 || job.keep[b] == 0 || back >= job.change_keys || row < 0) return;
  const int64_t key = int64_t{b} * job.capacity + row;
  const int key_position = job.positions[0][key];
  if (key_position < max(0, job.first[b])) return;
  const bool seen = int64_t{position} - key_position >= job.distance && sees(position, key_position, job.reach[0]);
  const float change = seen ? given_to<T>(job, job.head_weights, b, key).change : 0.0f;
  const int64_t to = int64_t{b} * job.change_rows + position % job.change_rows;
  if (lane_index() == 0) job.changes[to * job.change_keys + key_position % job.change_keys] = change;
}

}  // namespace

int32_t launch_changes(tkf_context* context, const tkf_attention_decode_args& a, const AttentionJob& attended) {
  ChangesJob job = {};
  static_cast<AttentionJob&>(job) = attended;
  job.keep = as<uint8_t>(a.keep);
  job.counts = as<int32_t>(a.cache.counts);
  job.first = as<int32_t>(a.first);
  job.head_weights = as<float>(a.head_weights);
  job.changes = as<double>(a.changes);
  job.capacity = static_cast<int>(a.cache.capacity);
  job.change_rows = a.change_rows;
  job.change_keys = a.change_keys;
  job.distance = a.change_distance;
  const dim3 grid(static_cast<unsigned>((a.change_keys + kShareWarps - 1) / kShareWarps),
                  static_cast<unsigned>(a.cache.batch));
  with_type(a.cache.dtype, [&](auto zero) {
    TKF_LAUNCH(cuda_stream(context), changes_kernel<decltype(zero)>, grid, dim3(kShareWarps * 32), 0, job);
  });
  return cuda_launched(context, "found an attention kernel that cannot run");
}

int32_t launch_shares(tkf_context* context, const tkf_attention_filtered_args& a) {
  const int64_t queries = share_queries(a);
  if (queries == 0) return TKF_STATUS_OK;
  SharesJob job = job_of<SharesJob>(context, a);
  if (!take_log_sums(context, a, &job)) return TKF_STATUS_STATE;
  job.num_queries = static_cast<int>(a.num_queries);
  job.num_shares = static_cast<int>(a.num_shares);
  job.distance = a.share_distance;
  job.first_query = static_cast<int>(a.num_queries - queries);
  job.first_key = static_cast<int>(a.num_keys - a.num_shares);
  job.shares = as<double>(a.shares);
  job.changes = as<double>(a.changes);
  job.head_weights = as<float>(a.head_weights);
  const dim3 grid(static_cast<unsigned>((a.num_shares + kShareWarps - 1) / kShareWarps),
                  static_cast<unsigned>(std::min(queries, kMostShareRows)));
  with_type(a.kv_dtype, [&](auto zero) {
    TKF_LAUNCH(cuda_stream(context), shares_kernel<decltype(zero)>, grid, dim3(kShareWarps * 32), 0, job);
  });
  return cuda_launched(context, "found an attention kernel that cannot run");
}

}  // namespace tkf::attention
