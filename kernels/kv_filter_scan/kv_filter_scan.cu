// Entry points of tkf_filter_scan (of the CUDA library), tkf_filter_scan_batch and tkf_filter_signs.
#include "../kv_filter_observe/kv_filter_observe.h"
#include "anchors.cuh"
#include "check_states.h"
#include "choose.cuh"
#include "scores.cuh"

namespace tkf {
namespace filter {
namespace {

constexpr int64_t kFewRows = 4;       // up to here one token after another is faster
constexpr int64_t kMaxTiles = 65535;  // of a grid
constexpr int64_t kMaxBatch = 65535;

__global__ void __launch_bounds__(kThreads) signs_kernel(tkf_filter_spec spec, float* signs) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, hidden = spec.hidden_size;
  if (i < hidden * spec.projections) signs[i] = sign_of(spec, i % hidden, i / hidden);
}

void launch_signs(tkf_context* context, const tkf_filter_spec& spec, float* signs) {
  const int64_t count = int64_t{spec.projections} * spec.hidden_size;
  TKF_LAUNCH(cuda_stream(context), signs_kernel, static_cast<unsigned>((count + kThreads - 1) / kThreads), kThreads, 0,
             spec, signs);
}

dim3 grid_of(int64_t items, int64_t items_per_block, int64_t y, int64_t z = 1) {
  return dim3(static_cast<unsigned>((items + items_per_block - 1) / items_per_block), static_cast<unsigned>(y),
              static_cast<unsigned>(z));
}

template <class T, class Real>
void launch_measure(cudaStream_t stream, const ScanArguments& a, int64_t tiles) {
  const dim3 grid = grid_of(2 * a.spec.kv_heads, kMeasureWarps, tiles, a.batch);
  const unsigned block = 32 * kMeasureWarps;
  if (a.spec.head_dim <= 64) {
    TKF_LAUNCH(stream, (measure_kernel<T, Real, 2>), grid, block, 0, a);
  } else if (a.spec.head_dim <= 128) {
    TKF_LAUNCH(stream, (measure_kernel<T, Real, 4>), grid, block, 0, a);
  } else {
    TKF_LAUNCH(stream, (measure_kernel<T, Real, 8>), grid, block, 0, a);
  }
}

// All tokens measured, then decided; the order of the kernels: scan.cuh.
template <class T, class Real>
void launch_kernels(tkf_context* context, const ScanArguments& a) {
  const cudaStream_t stream = cuda_stream(context);
  const tkf_filter_spec& spec = a.spec;
  const int64_t elements = 2 * int64_t{a.size}, tiles = (a.longest + a.tile - 1) / a.tile;
  const unsigned batch = static_cast<unsigned>(a.batch);
  const dim3 by_element = grid_of(elements, kThreads, batch), by_thread = grid_of(a.longest, kRowThreads, batch);
  const dim3 by_warp = grid_of(a.longest, kRowThreads / 32, batch);
  const bool windowed = spec.threshold == TKF_THRESHOLD_BUDGET || spec.threshold == TKF_THRESHOLD_WINDOW;
  TKF_LAUNCH(stream, plan_kernel, batch, kThreads, 0, a);
  if (tiles > 1) {
    TKF_LAUNCH(stream, (tile_kernel<T>), grid_of(elements, kThreads, tiles, batch), kThreads, 0, a);
    TKF_LAUNCH(stream, starts_kernel, by_element, kThreads, 0, a);
  }
  launch_measure<T, Real>(stream, a, tiles);
  if (spec.fusion == TKF_FUSION_LEARNED) {
    TKF_LAUNCH(stream, (features_kernel<T>), grid_of(a.longest, 1, batch), kRowThreads, 0, a);
  }
  TKF_LAUNCH(stream, score_kernel, by_thread, kRowThreads, 0, a);
  if (spec.threshold == TKF_THRESHOLD_BUDGET) TKF_LAUNCH(stream, bound_kernel, by_warp, kRowThreads, 0, a);
  if (spec.threshold == TKF_THRESHOLD_WINDOW) TKF_LAUNCH(stream, theta_kernel, by_warp, kRowThreads, 0, a);
  TKF_LAUNCH(stream, decide_kernel, batch, kThreads, 0, a);
  if (spec.threshold == TKF_THRESHOLD_BUDGET) TKF_LAUNCH(stream, theta_kernel, by_warp, kRowThreads, 0, a);
  if (windowed || spec.threshold == TKF_THRESHOLD_ROBBINS_MONRO) {
    const int64_t scores = score_capacity(spec) < a.longest ? score_capacity(spec) : a.longest;
    TKF_LAUNCH(stream, ring_kernel, grid_of(scores, kRowThreads, batch), kRowThreads, 0, a);
  }
  TKF_LAUNCH(stream, (finish_kernel<T, Real>), by_element, kThreads, 0, a);
}

template <class T, class Real>
void launch_scan(tkf_context* context, const ScanArguments& a) {
  const bool waits = a.spec.absorb == TKF_ABSORB_KEPT;  // anchors wait for decisions
  if (a.spec.threshold != TKF_THRESHOLD_TOPK && (waits || a.longest <= kFewRows)) {
    TKF_LAUNCH(cuda_stream(context), (steps_kernel<T, Real>), static_cast<unsigned>(a.batch), kThreads,
               decide_shared_bytes(a.spec), a);
  } else {
    launch_kernels<T, Real>(context, a);
  }
}

template <class T>
void launch_scan_of(tkf_context* context, const ScanArguments& a) {
  if (a.spec.fusion == TKF_FUSION_LEARNED) {
    launch_scan<T, double>(context, a);
  } else {
    launch_scan<T, float>(context, a);
  }
}

// A workspace is handed out from its start.
template <class T>
T* take(char*& at, int64_t count) {
  T* const taken = reinterpret_cast<T*>(at);
  at += (count * static_cast<int64_t>(sizeof(T)) + 255) / 256 * 256;
  return taken;
}

// Fills in what the caller left open, and launches. `own_signs`: they are made in the workspace.
int32_t run_scan(tkf_context* context, ScanArguments a, int32_t kv_dtype, int64_t tile, bool own_signs) {
  const tkf_filter_spec& spec = a.spec;
  const bool learned = spec.fusion == TKF_FUSION_LEARNED;
  if (tile == 0) tile = kTileRows;
  const int64_t least = (a.longest + kMaxTiles - 1) / kMaxTiles;
  if (tile < least) tile = least;
  if (learned) tile = a.longest;  // so that anchors come out as in steps, bit for bit
  a.tile = static_cast<int32_t>(tile < a.longest ? tile : a.longest);
  a.fault = cuda_fault(context);
  const int64_t signs = own_signs ? int64_t{spec.projections} * spec.hidden_size : 0;
  const auto lay_out = [&](char* at) {
    char* const base = at;
    a.plans = take<Plan>(at, a.batch);
    a.cosines = take<double>(at, a.rows * 2 * spec.kv_heads);
    a.tiles = take<float>(at, num_tile_slots(a.rows, a.batch, a.tile) * 2 * a.size);
    a.bounds = take<int32_t>(at, a.rows);
    float* const table = take<float>(at, signs);
    if (own_signs) a.signs = table;
    return static_cast<size_t>(at - base);
  };
  const size_t bytes = lay_out(nullptr);
  void* const workspace = cuda_workspace(context, bytes);
  if (workspace == nullptr) return cuda_short(context, bytes);
  lay_out(static_cast<char*>(workspace));
  if (own_signs) launch_signs(context, spec, const_cast<float*>(a.signs));
  switch (kv_dtype) {
    case TKF_DTYPE_F32: launch_scan_of<float>(context, a); break;
    case TKF_DTYPE_F16: launch_scan_of<__half>(context, a); break;
    default: launch_scan_of<__nv_bfloat16>(context, a);
  }
  if (learned) {  // a block whose last kept token was observed before, or that has none
    ObserveArguments fit = {};
    fit.spec = spec;
    fit.numbers = a.states.numbers;
    fit.scores = a.states.scores;
    fit.learned = a.states.learned;
    fit.fault = a.fault;
    launch_observe(context, fit, a.batch);
  }
  return cuda_launched(context, "tkf_filter_scan");
}

// Tensors of a scan: [count, …].
void check_tensors(Check& check, const tkf_filter_spec* spec, int32_t kv_dtype, int64_t count, const tkf_buffer& keys,
                   const tkf_buffer& values, const tkf_buffer& residual, const tkf_buffer& normed,
                   const tkf_buffer& queries) {
  check.dtype("keys", kv_dtype, {TKF_DTYPE_F32, TKF_DTYPE_F16, TKF_DTYPE_BF16});
  if (!check.ok()) return;
  const int64_t bytes = check.bytes_of(kv_dtype, check.product({count, spec->kv_heads, spec->head_dim}));
  check_buffer(check, "keys", keys, bytes, alignment_of(kv_dtype));
  check_buffer(check, "values", values, bytes, alignment_of(kv_dtype));
  if (!learns(spec)) return;
  const int64_t hidden_bytes = check.product({count, spec->hidden_size, 4});
  check_buffer(check, "residual", residual, hidden_bytes, 4);
  check_buffer(check, "normed", normed, hidden_bytes, 4);
  if (spec->features & kQuery) {
    check.size("queries_size", spec->queries_size, 1);
    check_buffer(check, "queries", queries, check.product({count, spec->queries_size, 4}), 4);
  }
}

ScanArguments arguments_of(const tkf_filter_spec* spec, const tkf_filter_states& states, const tkf_buffer& keys,
                           const tkf_buffer& values, const tkf_buffer& residual, const tkf_buffer& normed,
                           const tkf_buffer& queries, const tkf_buffer& keep, const tkf_buffer& columns,
                           const tkf_buffer& taken) {
  ScanArguments a = {};
  a.spec = *spec;
  a.states = {static_cast<float*>(states.anchor_k.data), static_cast<float*>(states.anchor_v.data),
              static_cast<double*>(states.numbers.data), static_cast<double*>(states.scores.data),
              static_cast<double*>(states.learned.data)};
  a.signs = static_cast<const float*>(states.signs.data);
  a.keys = keys.data;
  a.values = values.data;
  a.residual = static_cast<const float*>(residual.data);
  a.normed = static_cast<const float*>(normed.data);
  a.queries = static_cast<const float*>(queries.data);
  a.keep = static_cast<uint8_t*>(keep.data);
  a.columns = static_cast<double*>(columns.data);
  a.taken = static_cast<int64_t*>(taken.data);
  a.size = spec->kv_heads * spec->head_dim;
  return a;
}

tkf_buffer buffer_of(const void* data, uint64_t bytes) { return {const_cast<void*>(data), bytes}; }

}  // namespace
}  // namespace filter
}  // namespace tkf

int32_t tkf_filter_signs(tkf_context* context, const tkf_filter_spec* spec, uint64_t spec_bytes, float* signs,
                         uint64_t signs_bytes) {
  tkf::Check check(context);
  tkf::check_spec(check, spec, spec_bytes);
  if (check.ok()) check.size("hidden_size", spec->hidden_size, 1, 16777216);
  const int64_t count = check.ok() ? check.product({spec->projections, spec->hidden_size}) : 0;
  check.buffer("signs", signs, signs_bytes, check.product({count, 4}));
  if (!check.ok() || count == 0) return check.status();
  tkf::filter::launch_signs(context, *spec, signs);
  return check.done(tkf::cuda_launched(context, "tkf_filter_signs"));
}

int32_t tkf_filter_scan(tkf_context* context, const tkf_filter_spec* spec, uint64_t spec_bytes, float* anchor_k,
                        uint64_t anchor_k_bytes, float* anchor_v, uint64_t anchor_v_bytes, double* numbers,
                        uint64_t numbers_bytes, double* scores, uint64_t scores_bytes, double* learned,
                        uint64_t learned_bytes, int32_t kv_dtype, const void* keys, uint64_t keys_bytes,
                        const void* values, uint64_t values_bytes, const float* residual, uint64_t residual_bytes,
                        const float* normed, uint64_t normed_bytes, const float* queries, uint64_t queries_bytes,
                        int64_t count, uint8_t* keep, uint64_t keep_bytes, double* columns, uint64_t columns_bytes,
                        int64_t* taken, uint64_t taken_bytes) {
  using namespace tkf;
  using filter::buffer_of;
  Check check(context);
  check_spec(check, spec, spec_bytes);
  check_device_limits(check, spec);
  check.size("count", count, 1, INT32_MAX);
  const tkf_filter_states states = {
      buffer_of(anchor_k, anchor_k_bytes), buffer_of(anchor_v, anchor_v_bytes), buffer_of(numbers, numbers_bytes),
      buffer_of(scores, scores_bytes),     buffer_of(learned, learned_bytes),   {nullptr, 0}};
  check_states(check, spec, &states, 1, false);
  if (!check.ok()) return check.status();
  const tkf_buffer k = buffer_of(keys, keys_bytes), v = buffer_of(values, values_bytes),
                   x = buffer_of(residual, residual_bytes), h = buffer_of(normed, normed_bytes),
                   q = buffer_of(queries, queries_bytes);
  filter::check_tensors(check, spec, kv_dtype, count, k, v, x, h, q);
  check.buffer("keep", keep, keep_bytes, count, 1);
  check.buffer("columns", columns, columns_bytes, check.product({count, 7, 8}), 8);
  check.buffer("taken", taken, taken_bytes, 8, 8);
  if (!check.ok()) return check.status();
  filter::ScanArguments a = filter::arguments_of(spec, states, k, v, x, h, q, buffer_of(keep, keep_bytes),
                                                 buffer_of(columns, columns_bytes), buffer_of(taken, taken_bytes));
  a.rows = count;
  a.batch = 1;
  a.longest = static_cast<int32_t>(count);
  return check.done(filter::run_scan(context, a, kv_dtype, 0, projects(spec)));
}

int32_t tkf_filter_scan_batch(tkf_context* context, const tkf_filter_spec* spec, uint64_t spec_bytes,
                              const tkf_filter_states* states, uint64_t states_bytes, const tkf_scan_rows* rows,
                              uint64_t rows_bytes) {
  using namespace tkf;
  Check check(context);
  check_spec(check, spec, spec_bytes);
  check_device_limits(check, spec);
  check.buffer("states", states, states_bytes, sizeof(tkf_filter_states), 8);
  check.buffer("rows", rows, rows_bytes, sizeof(tkf_scan_rows), 8);
  if (!check.ok()) return check.status();
  const tkf_scan_rows& r = *rows;
  check.size("batch", r.batch, 0, filter::kMaxBatch);
  check.size("num_rows", r.num_rows, 0, INT32_MAX);
  check.size("longest", r.longest, 0, r.num_rows);
  check.size("tile", r.tile, 0, INT32_MAX);
  check_states(check, spec, states, r.batch, true);
  if (!check.ok()) return check.status();
  filter::check_tensors(check, spec, r.kv_dtype, r.num_rows, r.keys, r.values, r.residual, r.normed, r.queries);
  check_buffer(check, "starts", r.starts, check.product({int64_t{r.batch} + 1, 4}), 4);
  if (r.chunks.data != nullptr) check_buffer(check, "chunks", r.chunks, check.product({r.batch, 4}), 4);
  check_buffer(check, "keep", r.keep, r.num_rows, 1);
  check_buffer(check, "columns", r.columns, check.product({r.num_rows, 7, 8}), 8);
  check_buffer(check, "taken", r.taken, check.product({r.batch, 8}), 8);
  if (check.ok() && r.batch > 0 && r.longest == 0) check.size("longest", r.longest, 1);
  if (!check.ok() || r.batch == 0) return check.status();
  filter::ScanArguments a = filter::arguments_of(spec, *states, r.keys, r.values, r.residual, r.normed, r.queries,
                                                 r.keep, r.columns, r.taken);
  a.starts = static_cast<const int32_t*>(r.starts.data);
  a.chunks = static_cast<const int32_t*>(r.chunks.data);
  a.rows = r.num_rows;
  a.batch = r.batch;
  a.longest = r.longest;
  return check.done(filter::run_scan(context, a, r.kv_dtype, r.tile, false));
}
