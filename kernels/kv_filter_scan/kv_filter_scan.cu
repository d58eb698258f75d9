// tkf_filter_scan of the CUDA library, and tkf_filter_signs: checks and launchers.
#include "../common/cuda/launch.h"
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

template <class Real>
void launch_measure(const Stream& stream, const ScanArguments& a, int64_t tiles) {
  const dim3 grid(grid_of(2 * a.spec.kv_heads, kMeasureWarps), static_cast<unsigned>(tiles));
  with_size<2, 4, 8>((a.spec.head_dim + 31) / 32, [&](auto each) {
    TKF_LAUNCH(stream, (measure_kernel<Real, decltype(each)::value>), grid, 32 * kMeasureWarps, 0, a);
  });
}

// All tokens measured, then decided; the order of the kernels: scan.cuh.
template <class Real>
void launch_kernels(tkf_context* context, const ScanArguments& a) {
  const Stream stream = cuda_stream(context);
  const tkf_filter_spec& spec = a.spec;
  const int64_t elements = 2 * int64_t{a.size}, tiles = (a.count + a.tile - 1) / a.tile;
  const unsigned by_element = grid_of(elements, kThreads), by_thread = grid_of(a.count, kRowThreads);
  const unsigned by_warp = grid_of(a.count, kRowThreads / 32);
  const bool windowed = spec.threshold == TKF_THRESHOLD_BUDGET || spec.threshold == TKF_THRESHOLD_WINDOW;
  TKF_LAUNCH(stream, plan_kernel, 1, kThreads, 0, a);
  if (tiles > 1) {
    TKF_LAUNCH(stream, tile_kernel, dim3(by_element, static_cast<unsigned>(tiles)), kThreads, 0, a);
    TKF_LAUNCH(stream, starts_kernel, by_element, kThreads, 0, a);
  }
  launch_measure<Real>(stream, a, tiles);
  if (spec.fusion == TKF_FUSION_LEARNED) {
    TKF_LAUNCH(stream, features_kernel, static_cast<unsigned>(a.count), kRowThreads, 0, a);
  }
  TKF_LAUNCH(stream, score_kernel, by_thread, kRowThreads, 0, a);
  if (spec.threshold == TKF_THRESHOLD_BUDGET) TKF_LAUNCH(stream, bound_kernel, by_warp, kRowThreads, 0, a);
  if (spec.threshold == TKF_THRESHOLD_WINDOW) TKF_LAUNCH(stream, theta_kernel, by_warp, kRowThreads, 0, a);
  TKF_LAUNCH(stream, decide_kernel, 1, kThreads, 0, a);
  if (spec.threshold == TKF_THRESHOLD_BUDGET) TKF_LAUNCH(stream, theta_kernel, by_warp, kRowThreads, 0, a);
  if (windowed || spec.threshold == TKF_THRESHOLD_ROBBINS_MONRO) {
    const int64_t scores = score_capacity(spec) < a.count ? score_capacity(spec) : a.count;
    TKF_LAUNCH(stream, ring_kernel, grid_of(scores, kRowThreads), kRowThreads, 0, a);
  }
  TKF_LAUNCH(stream, (finish_kernel<Real>), by_element, kThreads, 0, a);
}

template <class Real>
void launch_scan(tkf_context* context, const ScanArguments& a) {
  const bool waits = a.spec.absorb == TKF_ABSORB_KEPT;  // anchors wait for decisions
  if (a.spec.threshold != TKF_THRESHOLD_TOPK && (waits || a.count <= kFewRows)) {
    TKF_LAUNCH(cuda_stream(context), (steps_kernel<Real>), 1, kThreads, decide_shared_bytes(a.spec), a);
  } else {
    launch_kernels<Real>(context, a);
  }
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
  check.dtype("keys", a.kv_dtype, {TKF_DTYPE_F32});
  check_states(check, a.spec, a.states, 1, false);
  check_scan(check, a, a.count);
  return true;
}
int32_t on_cuda::filter_scan(tkf_context* context, const tkf_filter_scan_args& args) {
  using namespace filter;
  ScanArguments a = {};
  static_cast<tkf_filter_scan_args&>(a) = args;
  const tkf_filter_spec& spec = a.spec;
  const bool learned = learns(spec);
  const int64_t least = (a.count + kMaxTiles - 1) / kMaxTiles;
  // Of `learned` one tile, so that anchors come out as in steps, bit for bit.
  const int64_t tile = learned ? a.count : least > kTileRows ? least : kTileRows;
  a.tile = static_cast<int32_t>(tile < a.count ? tile : a.count);
  a.size = spec.kv_heads * spec.head_dim;
  a.fault = cuda_fault(context);
  const int64_t signs = projects(spec) ? int64_t{spec.projections} * spec.hidden_size : 0;
  const auto lay_out = [&](void* memory) {
    Pieces pieces(memory);
    a.plan = pieces.take<Plan>(1);
    a.cosines = pieces.take<double>(a.count * 2 * spec.kv_heads);
    a.tiles = pieces.take<float>((a.count + a.tile - 1) / a.tile * 2 * a.size);
    a.bounds = pieces.take<int32_t>(a.count);
    a.states.signs.data = pieces.take<float>(signs);
    return reinterpret_cast<size_t>(pieces.end());
  };
  const size_t bytes = lay_out(nullptr);
  void* const workspace = cuda_workspace(context, bytes);
  if (workspace == nullptr) return cuda_short(context, bytes);
  lay_out(workspace);
  if (signs > 0) launch_signs(context, spec, as<float>(a.states.signs));
  learned ? launch_scan<double>(context, a) : launch_scan<float>(context, a);
  // A block whose last kept token was observed before, or that has none.
  if (learned) launch_observe(context, {spec, a.states, {}, {}, {}, {}, 0, a.fault}, 1);
  return cuda_launched(context, "tkf_filter_scan");
}

}  // namespace tkf
