// Entry point of tkf_filter_step.
#include "kv_filter_step.cuh"

#include "../kv_filter_scan/check_states.h"

namespace tkf {
namespace filter {
namespace {

void check_cache(Check& check, const tkf_kv_cache* cache, uint64_t bytes, int64_t size) {
  check.buffer("cache", cache, bytes, sizeof(tkf_kv_cache), 8);
  if (!check.ok()) return;
  const tkf_kv_cache& c = *cache;
  check.dtype("cache", c.dtype, {TKF_DTYPE_F32, TKF_DTYPE_F16, TKF_DTYPE_BF16});
  check.size("batch", c.batch, 0, INT32_MAX);
  check.size("capacity", c.capacity, 0, INT32_MAX);
  check.size("recent", c.recent, 0, INT32_MAX);
  if (!check.ok()) return;
  const int64_t alignment = alignment_of(c.dtype), recent_rows = check.product({c.batch, c.recent});
  int64_t rows = check.product({c.batch, c.capacity});
  if (c.pages.data != nullptr || c.pages.bytes != 0) {
    check.size("page_rows", c.page_rows, 1, INT32_MAX);
    if (!check.ok()) return;
    check_buffer(check, "pages", c.pages,
                 check.product({c.batch, (c.capacity + c.page_rows - 1) / c.page_rows, 4}), 4);
    const int64_t page = check.product({c.page_rows, 4});  // as many pages as positions
    rows = check.ok() ? static_cast<int64_t>(c.positions.bytes / static_cast<uint64_t>(page)) * c.page_rows : 0;
  }
  const int64_t row_bytes = check.bytes_of(c.dtype, size);
  check_buffer(check, "keys of the cache", c.keys, check.product({rows, row_bytes}), alignment);
  check_buffer(check, "values of the cache", c.values, check.product({rows, row_bytes}), alignment);
  check_buffer(check, "positions of the cache", c.positions, check.product({rows, 4}), 4);
  check_buffer(check, "counts", c.counts, check.product({c.batch, 4}), 4);
  check_buffer(check, "recent_keys", c.recent_keys, check.product({recent_rows, row_bytes}), alignment);
  check_buffer(check, "recent_values", c.recent_values, check.product({recent_rows, row_bytes}), alignment);
  check_buffer(check, "recent_positions", c.recent_positions, check.product({recent_rows, 4}), 4);
}

void check_rows(Check& check, const tkf_filter_spec* spec, const tkf_step_rows* rows, int64_t batch, int64_t size) {
  check.dtype("rows", rows->kv_dtype, {TKF_DTYPE_F32, TKF_DTYPE_F16, TKF_DTYPE_BF16});
  if (!check.ok()) return;
  const int64_t bytes = check.bytes_of(rows->kv_dtype, check.product({batch, size}));
  const int64_t alignment = alignment_of(rows->kv_dtype);
  check_buffer(check, "keys", rows->keys, bytes, alignment);
  check_buffer(check, "values", rows->values, bytes, alignment);
  check_buffer(check, "positions", rows->positions, check.product({batch, 4}), 4);
  if (rows->chunks.data != nullptr) check_buffer(check, "chunks", rows->chunks, check.product({batch, 4}), 4);
  if (spec == nullptr) return;
  check_buffer(check, "filter_keys", rows->filter_keys, bytes, alignment);
  if (!learns(spec)) return;
  const int64_t hidden_bytes = check.product({batch, spec->hidden_size, 4});
  check_buffer(check, "residual", rows->residual, hidden_bytes, 4);
  check_buffer(check, "normed", rows->normed, hidden_bytes, 4);
  if (spec->features & kQuery) {
    check.size("queries_size", spec->queries_size, 1);
    check_buffer(check, "queries", rows->queries, check.product({batch, spec->queries_size, 4}), 4);
  }
}

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
}  // namespace tkf

int32_t tkf_filter_step(tkf_context* context, const tkf_filter_spec* spec, uint64_t spec_bytes,
                        const tkf_filter_states* states, uint64_t states_bytes, const tkf_kv_cache* cache,
                        uint64_t cache_bytes, const tkf_step_rows* rows, uint64_t rows_bytes,
                        const tkf_decisions* decisions, uint64_t decisions_bytes) {
  using namespace tkf;
  Check check(context);
  const bool filtered = spec != nullptr;
  if (filtered) {
    check_spec(check, spec, spec_bytes);
    check_device_limits(check, spec);
    if (check.ok() && spec->threshold == TKF_THRESHOLD_TOPK) {
      check.fail(TKF_STATUS_STATE, "found the policy \"topk\", which looks at a whole sequence, expected another");
    }
    check.buffer("states", states, states_bytes, sizeof(tkf_filter_states), 8);
  }
  check.buffer("cache", cache, cache_bytes, sizeof(tkf_kv_cache), 8);
  check.buffer("rows", rows, rows_bytes, sizeof(tkf_step_rows), 8);
  check.buffer("decisions", decisions, decisions_bytes, sizeof(tkf_decisions), 8);
  if (!check.ok()) return check.status();
  check.size("kv_heads of the cache", cache->kv_heads, filtered ? spec->kv_heads : 1,
             filtered ? spec->kv_heads : filter::kMaxHeads);
  check.size("head_dim of the cache", cache->head_dim, filtered ? spec->head_dim : 1,
             filtered ? spec->head_dim : filter::kMaxHeadDim);
  const int64_t batch = cache->batch, size = check.product({cache->kv_heads, cache->head_dim});
  filter::check_cache(check, cache, cache_bytes, size);
  if (check.ok()) filter::check_rows(check, spec, rows, batch, size);
  if (filtered) check_states(check, spec, states, batch, true);
  check_buffer(check, "keep", decisions->keep, batch, 1);
  check_buffer(check, "kept", decisions->kept, check.product({batch, 4}), 4);
  check_buffer(check, "kept_count", decisions->kept_count, 8, 4);
  if (decisions->columns.data != nullptr) {
    check_buffer(check, "columns", decisions->columns, check.product({7, batch, 8}), 8);
  }
  if (!check.ok() || batch == 0) return check.status();

  filter::StepArguments a = {};
  if (filtered) {
    a.spec = *spec;
    a.states = {static_cast<float*>(states->anchor_k.data), static_cast<float*>(states->anchor_v.data),
                static_cast<double*>(states->numbers.data), static_cast<double*>(states->scores.data),
                static_cast<double*>(states->learned.data)};
    a.signs = static_cast<const float*>(states->signs.data);
  }
  a.filtered = filtered;
  a.filter_keys = rows->filter_keys.data;
  a.keys = rows->keys.data;
  a.values = rows->values.data;
  a.residual = static_cast<const float*>(rows->residual.data);
  a.normed = static_cast<const float*>(rows->normed.data);
  a.queries = static_cast<const float*>(rows->queries.data);
  a.positions = static_cast<const int32_t*>(rows->positions.data);
  a.chunks = static_cast<const int32_t*>(rows->chunks.data);
  a.cache_skipped = rows->cache_skipped != 0;
  filter::CacheView& c = a.cache;
  c.keys = cache->keys.data;
  c.values = cache->values.data;
  c.recent_keys = cache->recent_keys.data;
  c.recent_values = cache->recent_values.data;
  c.positions = static_cast<int32_t*>(cache->positions.data);
  c.counts = static_cast<int32_t*>(cache->counts.data);
  c.recent_positions = static_cast<int32_t*>(cache->recent_positions.data);
  c.pages = static_cast<const int32_t*>(cache->pages.data);
  c.capacity = cache->capacity;
  c.page_rows = cache->page_rows;
  if (c.pages != nullptr) {
    c.num_pages = static_cast<int64_t>(cache->positions.bytes / 4 / static_cast<uint64_t>(c.page_rows));
  }
  c.dtype = cache->dtype;
  c.recent = cache->recent;
  a.keep = static_cast<uint8_t*>(decisions->keep.data);
  a.kept = static_cast<int32_t*>(decisions->kept.data);
  a.kept_count = static_cast<int32_t*>(decisions->kept_count.data);
  a.columns = static_cast<double*>(decisions->columns.data);
  a.fault = cuda_fault(context);
  a.batch = static_cast<int32_t>(batch);
  a.size = static_cast<int32_t>(size);
  switch (rows->kv_dtype) {
    case TKF_DTYPE_F32: filter::launch_step<float>(context, a); break;
    case TKF_DTYPE_F16: filter::launch_step<__half>(context, a); break;
    default: filter::launch_step<__nv_bfloat16>(context, a);
  }
  return check.done(cuda_launched(context, "tkf_filter_step"));
}
