// tkf_filter_step: checks and launcher.
#include "kv_filter_step.cuh"

#include "../common/check_cache.h"
#include "../kv_filter_scan/check_filter.h"

namespace tkf {
namespace filter {
namespace {

template <class T>
void launch_step(tkf_context* context, const StepArguments& a) {
  const cudaStream_t stream = cuda_stream(context);
  const unsigned grid = static_cast<unsigned>(a.batch);
  const size_t bytes = a.filtered ? decide_shared_bytes(a.spec) : 0;
  if (a.filtered && a.spec.fusion == TKF_FUSION_LEARNED) {
    TKF_LAUNCH(stream, (filter_step_kernel<T, double>), grid, kThreads, bytes, a);
  } else {
    TKF_LAUNCH(stream, (filter_step_kernel<T, float>), grid, kThreads, bytes, a);
  }
}

}  // namespace
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
  if (a.filtered) {
    check_tensors(check, a, batch);
    check.values("filter_keys", a.filter_keys, a.kv_dtype, {batch, cache.kv_heads, cache.head_dim});
    check_states(check, a.spec, a.states, batch, true);
  } else {
    check.dtype("keys", a.kv_dtype);
    check.values("keys", a.keys, a.kv_dtype, {batch, cache.kv_heads, cache.head_dim});
    check.values("values", a.values, a.kv_dtype, {batch, cache.kv_heads, cache.head_dim});
  }
  check.array<int32_t>("positions", a.positions, {batch});
  if (a.chunks.data != nullptr) check.array<int32_t>("chunks", a.chunks, {batch});
  check.array<uint8_t>("keep", a.decisions.keep, {batch});
  check.array<int32_t>("kept", a.decisions.kept, {batch});
  check.array<int32_t>("kept_count", a.decisions.kept_count, {2});
  if (a.decisions.columns.data != nullptr) check.array<double>("columns", a.decisions.columns, {7, batch});
  return batch > 0;
}

int32_t on_cuda::filter_step(tkf_context* context, const tkf_filter_step_args& args) {
  const tkf_kv_cache& cache = args.cache;
  filter::StepArguments a = {};
  a.filtered = args.filtered != 0;
  if (a.filtered) {
    a.spec = args.spec;
    a.states = filter::state_of(args.states);
    a.signs = as<float>(args.states.signs);
  }
  a.filter_keys = args.filter_keys.data;
  a.keys = args.keys.data;
  a.values = args.values.data;
  a.residual = as<float>(args.residual);
  a.normed = as<float>(args.normed);
  a.queries = as<float>(args.queries);
  a.positions = as<int32_t>(args.positions);
  a.chunks = as<int32_t>(args.chunks);
  a.cache_skipped = args.cache_skipped != 0;
  a.cache = {cache.keys.data,
             cache.values.data,
             cache.recent_keys.data,
             cache.recent_values.data,
             as<int32_t>(cache.positions),
             as<int32_t>(cache.counts),
             as<int32_t>(cache.recent_positions),
             as<int32_t>(cache.pages),
             cache.capacity,
             pages_of(cache).in_pool,
             cache.page_rows,
             cache.dtype,
             cache.recent};
  a.keep = as<uint8_t>(args.decisions.keep);
  a.kept = as<int32_t>(args.decisions.kept);
  a.kept_count = as<int32_t>(args.decisions.kept_count);
  a.columns = as<double>(args.decisions.columns);
  a.fault = cuda_fault(context);
  a.batch = cache.batch;
  a.size = cache.kv_heads * cache.head_dim;
  switch (args.kv_dtype) {
    case TKF_DTYPE_F32: filter::launch_step<float>(context, a); break;
    case TKF_DTYPE_F16: filter::launch_step<__half>(context, a); break;
    default: filter::launch_step<__nv_bfloat16>(context, a);
  }
  return cuda_launched(context, "tkf_filter_step");
}

}  // namespace tkf
