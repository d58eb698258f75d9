// Decode: one token of every sequence of a batch, decided and appended to the cache by a block each.
#include "../common/check_cache.h"
#include "../common/cuda/launch.h"
#include "../kv_filter_scan/check_filter.h"
#include "../kv_filter_scan/decide.cuh"

namespace tkf {
namespace filter {

struct StepArguments : tkf_filter_step_args {
  int32_t size;  // kv_heads * head_dim
  int* fault;
};

template <class Real, class Publish>
__device__ bool decide_step(const StepArguments& a, int64_t b, double* shared, DecideShared& s, const Publish& publish) {
  double* const columns = as<double>(a.decisions.columns);
  const Token token = {feature_rows(a, a.filter_keys, b), columns == nullptr ? nullptr : columns + b, a.cache.batch};
  return decide<Real>(a.spec, state_of(a.spec, a.states, b), token, a.fault, shared, s, publish);
}

// Rows of keys and of values.
template <class To>
__device__ inline void copy_rows(void* to_k, void* to_v, int64_t at, const float* k, const float* v, int size) {
  To *const row_k = static_cast<To*>(to_k) + at * size, *const row_v = static_cast<To*>(to_v) + at * size;
  for (int i = static_cast<int>(threadIdx.x); i < size; i += kThreads) {
    const float x = k[i], y = v[i];
    row_k[i] = To(x);
    row_v[i] = To(y);
  }
}

// Row of the cache that the next token of sequence b, which holds `count`, takes; -1, with a fault, where there is
// none.
__device__ inline int64_t free_row(const StepArguments& a, int64_t b, int64_t count) {
  const tkf_kv_cache& cache = a.cache;
  if (count < 0 || count >= cache.capacity) {
    if (threadIdx.x == 0) tkf_fault(a.fault, kFaultCacheFull);
    return -1;
  }
  return b * cache.capacity + count;
}

// The cache takes a kept token. A skipped one goes to slot `position % recent` of the ring, in place of the token
// `recent` before it, which no later query sees; a kept one leaves that slot as it is: its own query still sees it.
__device__ inline void append(const StepArguments& a, int64_t b, int32_t position, int32_t count, bool skip) {
  const tkf_kv_cache& cache = a.cache;
  const bool cached = !skip || a.cache_skipped;
  if (!cached && cache.recent == 0) return;
  const int64_t row = cached ? free_row(a, b, count) : b * cache.recent + position % cache.recent;
  if (row < 0) return;
  void* const keys = (cached ? cache.keys : cache.recent_keys).data;
  void* const values = (cached ? cache.values : cache.recent_values).data;
  const float *k = as<float>(a.keys) + b * a.size, *v = as<float>(a.values) + b * a.size;
  switch (cache.dtype) {
    case TKF_DTYPE_F32: copy_rows<float>(keys, values, row, k, v, a.size); break;
    case TKF_DTYPE_F16: copy_rows<__half>(keys, values, row, k, v, a.size); break;
    default: copy_rows<__nv_bfloat16>(keys, values, row, k, v, a.size);
  }
  if (threadIdx.x != 0) return;
  as<int32_t>(cached ? cache.positions : cache.recent_positions)[row] = position;
  if (cached) as<int32_t>(cache.counts)[b] = count + 1;
}

// Thread 32, which has no loads or stores under way for its fence to wait for.
__device__ inline bool publishes() { return threadIdx.x == 32; }

// By thread 32: publishes the decision for the block that lists them all. Returns the number published before.
__device__ inline int publish_kept(const StepArguments& a, bool keep) {
  as<uint8_t>(a.decisions.keep)[blockIdx.x] = keep;
  return atomic_add_acq_rel(as<int32_t>(a.decisions.kept_count) + 1, 1);
}

// The last block to publish its decision lists the kept sequences. `before`: what publish_kept gave thread 32, whose
// addition released its block's decision and acquired those of the blocks before; the barrier hands them on.
__device__ inline void list_kept(const StepArguments& a, int before, int* scratch) {
  TKF_SHARED(bool, last);
  if (publishes()) last = before == a.cache.batch - 1;
  __syncthreads();
  if (!last) return;
  int32_t *kept = as<int32_t>(a.decisions.kept), *kept_count = as<int32_t>(a.decisions.kept_count), total = 0;
  for (int first = 0; first < a.cache.batch; first += static_cast<int>(blockDim.x)) {
    const int b = first + static_cast<int>(threadIdx.x);
    const bool keep = b < a.cache.batch && __ldcg(as<uint8_t>(a.decisions.keep) + b) != 0;
    int count;
    const int rank = block_rank(keep, scratch, &count);
    if (keep) kept[total + rank] = b;
    total += count;
  }
  if (threadIdx.x == 0) {
    kept_count[0] = total;
    kept_count[1] = 0;  // blocks that are done: 0 between launches
  }
}

// FILTERED: false where every sequence that is not idle keeps its token; the rule and the policy then mean nothing.
template <bool FILTERED, Rule RULE, Policy POLICY>
__global__ void __launch_bounds__(kThreads, 2) filter_step_kernel(StepArguments a) {
  wait_for_earlier_kernels();
  using Real = std::conditional_t<RULE == Rule::kLearned, double, float>;
  TKF_DYNAMIC_SHARED(double, shared);
  TKF_SHARED(DecideShared, s);
  TKF_SHARED(int[kThreads / 32], counts);
  const int64_t b = blockIdx.x;
  const int32_t position = as<int32_t>(a.positions)[b], count = as<int32_t>(a.cache.counts)[b];
  int before = 0;  // of thread 32; it comes while the cache is written
  bool skip = false, published = false;
  const auto publish = [&] {
    published = true;
    skip = s.skip;
    if (publishes()) before = publish_kept(a, !skip);
  };
  if constexpr (FILTERED) {
    assume<RULE, POLICY>(a.spec);
    if (position >= 0) decide_step<Real>(a, b, shared, s, publish);
  }
  if (!published && publishes()) before = publish_kept(a, position >= 0);
  __syncthreads();  // all have read the count
  if (position >= 0) append(a, b, position, count, skip);
  list_kept(a, before, counts);
}

}  // namespace filter

bool check_args(Check& check, const tkf_filter_step_args& a) {
  const tkf_kv_cache& cache = a.cache;
  const int64_t batch = cache.batch;
  if (a.filtered) {
    check_spec(check, a.spec);
    filter::check_limits(check, a.spec);
    check.require(a.spec.threshold != TKF_THRESHOLD_TOPK, TKF_STATUS_STATE,
                  "found the policy \"topk\", which looks at a whole sequence, expected another");
    check.size("kv_heads of the cache", cache.kv_heads, a.spec.kv_heads, a.spec.kv_heads);
    check.size("head_dim of the cache", cache.head_dim, a.spec.head_dim, a.spec.head_dim);
  }
  check_cache(check, cache);
  check.array<float>("keys", a.keys, {batch, cache.kv_heads, cache.head_dim});
  check.array<float>("values", a.values, {batch, cache.kv_heads, cache.head_dim});
  if (a.filtered) {
    check.array<float>("filter_keys", a.filter_keys, {batch, cache.kv_heads, cache.head_dim});
    check_features(check, a, batch);
    check_states(check, a.spec, a.states, batch, true);
  }
  check.array<int32_t>("positions", a.positions, {batch});
  check.array<uint8_t>("keep", a.decisions.keep, {batch});
  check.array<int32_t>("kept", a.decisions.kept, {batch});
  check.array<int32_t>("kept_count", a.decisions.kept_count, {2});
  if (a.decisions.columns.data != nullptr) check.array<double>("columns", a.decisions.columns, {7, batch});
  return batch > 0;
}

int32_t on_cuda::filter_step(tkf_context* context, const tkf_filter_step_args& args) {
  const filter::StepArguments a = {args, args.cache.kv_heads * args.cache.head_dim, cuda_fault(context)};
  const unsigned grid = static_cast<unsigned>(a.cache.batch);
  if (!a.filtered) {
    constexpr auto rule = filter::Rule::kPlain;
    constexpr auto policy = filter::Policy::kFixed;
    TKF_LAUNCH(cuda_stream(context), (filter::filter_step_kernel<false, rule, policy>), grid, filter::kThreads, 0, a);
  } else {
    filter::with_kind(a.spec, [&](auto rule, auto policy) {
      TKF_LAUNCH(cuda_stream(context),
                 (filter::filter_step_kernel<true, decltype(rule)::value, decltype(policy)::value>), grid,
                 filter::kThreads, filter::decide_shared_bytes(a.spec), a);
    });
  }
  return cuda_launched(context, "tkf_filter_step");
}

}  // namespace tkf
