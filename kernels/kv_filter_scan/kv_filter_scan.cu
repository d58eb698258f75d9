// tkf_filter_scan of the CUDA library, tkf_filter_scan_batch and tkf_filter_signs: checks and launchers.
#include "../common/launch.h"
#include "../kv_filter_observe/kv_filter_observe.h"
#include "anchors.cuh"
#include "check_filter.h"
#include "choose.cuh"
#include "scores.cuh"

namespace tkf {
namespace filter {
namespace {

constexpr int64_t kFewRows = 4;       // up to here one token after another is faster
constexpr int64_t kMaxTiles = 65535;  // of a grid
constexpr int64_t kMaxBatch = 65535;

__global__ void __launch_bounds__(kThreads) signs_kernel(tkf_filter_spec spec, float* signs) {
  wait_for_earlier_kernels();
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
void launch_measure(const Stream& stream, const ScanArguments& a, int64_t tiles) {
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
  const Stream stream = cuda_stream(context);
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

// Fills in what the caller left open, and launches. `own_signs`: they are made in the workspace.
int32_t run_scan(tkf_context* context, const tkf_filter_scan_batch_args& args, bool own_signs) {
  ScanArguments a = {};
  static_cast<tkf_filter_scan_batch_args&>(a) = args;
  const tkf_filter_spec& spec = a.spec;
  const bool learned = spec.fusion == TKF_FUSION_LEARNED;
  int64_t tile = a.tile == 0 ? kTileRows : a.tile;
  const int64_t least = (a.longest + kMaxTiles - 1) / kMaxTiles;
  if (tile < least) tile = least;
  if (learned) tile = a.longest;  // so that anchors come out as in steps, bit for bit
  a.tile = static_cast<int32_t>(tile < a.longest ? tile : a.longest);
  a.size = spec.kv_heads * spec.head_dim;
  a.fault = cuda_fault(context);
  const int64_t signs = own_signs ? int64_t{spec.projections} * spec.hidden_size : 0;
  const auto lay_out = [&](void* memory) {
    Pieces pieces(memory);
    a.plans = pieces.take<Plan>(a.batch);
    a.cosines = pieces.take<double>(a.num_rows * 2 * spec.kv_heads);
    a.tiles = pieces.take<float>(num_tile_slots(a.num_rows, a.batch, a.tile) * 2 * a.size);
    a.bounds = pieces.take<int32_t>(a.num_rows);
    float* const table = pieces.take<float>(signs);
    if (own_signs) a.states.signs.data = table;
    return reinterpret_cast<size_t>(pieces.end());
  };
  const size_t bytes = lay_out(nullptr);
  void* const workspace = cuda_workspace(context, bytes);
  if (workspace == nullptr) return cuda_short(context, bytes);
  lay_out(workspace);
  if (own_signs) launch_signs(context, spec, as<float>(a.states.signs));
  with_type(a.kv_dtype, [&](auto zero) {
    using T = decltype(zero);
    learned ? launch_scan<T, double>(context, a) : launch_scan<T, float>(context, a);
  });
  // A block whose last kept token was observed before, or that has none.
  if (learned) launch_observe(context, {spec, a.states, {}, {}, {}, {}, 0, a.fault}, a.batch);
  return cuda_launched(context, "tkf_filter_scan");
}

}  // namespace
}  // namespace filter

bool check_args(Check& check, const tkf_filter_signs_args& a) {
  check_spec(check, a.spec);
  check.size("hidden_size", a.spec.hidden_size, 1, 16777216);
  check.array<float>("signs", a.signs, {a.spec.projections, a.spec.hidden_size});
  return a.spec.projections > 0;
}
int32_t on_cuda::filter_signs(tkf_context* context, const tkf_filter_signs_args& a) {
  filter::launch_signs(context, a.spec, as<float>(a.signs));
  return cuda_launched(context, "tkf_filter_signs");
}

bool check_args(Check& check, const tkf_filter_scan_args& a) {
  check_spec(check, a.spec);
  filter::check_limits(check, a.spec);
  check.size("count", a.count, 1, INT32_MAX);
  check_states(check, a.spec, a.states, 1, false);
  check_scan(check, a, a.count, 1);
  return true;
}
int32_t on_cuda::filter_scan(tkf_context* context, const tkf_filter_scan_args& a) {
  const int32_t count = static_cast<int32_t>(a.count);
  const tkf_filter_scan_batch_args batch = {a.spec,    a.states, a.keys,    a.values, a.residual, a.normed,   a.queries,
                                            a.keep,    a.columns, a.taken,  {},       {},         count,      1,
                                            a.kv_dtype, count,   0};
  return filter::run_scan(context, batch, projects(a.spec));
}

bool check_args(Check& check, const tkf_filter_scan_batch_args& a) {
  check_spec(check, a.spec);
  filter::check_limits(check, a.spec);
  check.size("batch", a.batch, 0, filter::kMaxBatch);
  check.size("num_rows", a.num_rows, 0, INT32_MAX);
  check.size("longest", a.longest, a.batch > 0 ? 1 : 0, a.num_rows);
  check.size("tile", a.tile, 0, INT32_MAX);
  check_states(check, a.spec, a.states, a.batch, true);
  check.array<int32_t>("starts", a.starts, {int64_t{a.batch} + 1});
  if (a.chunks.data != nullptr) check.array<int32_t>("chunks", a.chunks, {a.batch});
  check_scan(check, a, a.num_rows, a.batch);
  return a.batch > 0;
}
int32_t on_cuda::filter_scan_batch(tkf_context* context, const tkf_filter_scan_batch_args& a) {
  return filter::run_scan(context, a, false);
}

}  // namespace tkf
