// Scores, and what of the thresholds can be known before the decisions: all tokens at once.
#pragma once
#include "scan.cuh"

namespace tkf::filter {

constexpr int kRowThreads = 128;  // of blocks that take rows by thread or by warp

// `learned`: features that need no anchor. Grid: rows.
static __global__ void __launch_bounds__(kRowThreads) features_kernel(ScanArguments a) {
  wait_for_earlier_kernels();
  const int64_t t = blockIdx.x;
  const Plan& plan = *a.plan;
  if (t >= plan.count) return;
  const LearnedLayout at(a.spec);
  double* learned = a.state().learned;
  write_features(a.spec, feature_rows(a, a.keys, t),
                 learned + at.f + (static_cast<int64_t>(plan.before.pending) + t) * at.F);
}

// Moments and score, and which row is the first that is not finite. A thread a row; grid: rows. Six blocks a
// multiprocessor leave it 80 registers, of which it takes 76 at most: left to itself, nvcc takes 48 on sm_120 and spills.
static __global__ void __launch_bounds__(kRowThreads, 6) score_kernel(ScanArguments a) {
  wait_for_earlier_kernels();
  const tkf_filter_spec& spec = a.spec;
  const int64_t t = int64_t{blockIdx.x} * kRowThreads + threadIdx.x;
  Plan& plan = *a.plan;
  if (t >= plan.count) return;
  const int H = spec.kv_heads;
  const double *cosines = a.cosines + t * 2 * H, seen = plan.before.seen + static_cast<double>(t);
  Moments m;
  moments_of(cosines, H, &m.mu_k, &m.var_k);
  moments_of(cosines + H, H, &m.mu_v, &m.var_v);
  bool finite = isfinite(m.mu_k + m.mu_v);
  Fused fused = {kUndefined, constant_key_weight(spec)};
  if (spec.fusion == TKF_FUSION_LEARNED) {
    const LearnedLayout at(spec);
    double* learned = a.state().learned;
    double* f = learned + at.f + (static_cast<int64_t>(plan.before.pending) + t) * at.F;
    write_similarities(spec, seen == 0 ? Moments{0, 0, 0, 0} : m, f);
    for (int64_t i = 0; i < at.F; i++) finite = finite && isfinite(f[i]);
    if (plan.before.fitted != 0) fused.score = -at.predict(learned, f);
  } else if (seen > 0) {
    fused = fuse(spec, m, static_cast<uint64_t>(seen));
  }
  if (!finite) atomicMin(&plan.taken, static_cast<int32_t>(t));
  write_columns(a.scores() + t, a.count, spec.invert ? -fused.score : fused.score, kUndefined, seen == 0,
                m, fused.key_weight);
}

// `budget`: a row is skipped if and only if at most so many of this call's rows were skipped before it, for the more
// were skipped, the higher is the threshold; -1: never. So decisions, each of which depends on those before it, need one
// comparison a row. A warp a row; grid: rows.
static __global__ void __launch_bounds__(kRowThreads) bound_kernel(ScanArguments a) {
  wait_for_earlier_kernels();
  const tkf_filter_spec& spec = a.spec;
  const int64_t t = int64_t{blockIdx.x} * (kRowThreads / 32) + warp_index();
  const Plan& plan = *a.plan;
  if (t >= plan.taken) return;
  const double score = a.scores()[t];
  const Window window(spec, plan, a.state().scores, a.scores(), t);
  const int64_t n = window.count();
  int64_t bound = -1;
  if (is_decided(spec, plan.before, t) && score == score && n > 0) {
    int64_t less = 0;
    double below = -HUGE_VAL, above = HUGE_VAL;  // the neighbours of the score among those of the window
    window.for_each([&](double x) {
      if (x < score) {
        less++;
        below = larger_of(below, x);
      } else {
        above = smaller_of(above, x);
      }
    });
    below = warp_reduce<Max>(below);
    above = warp_reduce<Min>(above);
    less = warp_sum(static_cast<long long>(less));
    // The ratio aimed at falls from 1 to 0 while the skips grow by 16: each lane tries a number of them.
    const double decided = decided_before(spec, plan.before, t);
    const double first = floor(spec.skip_ratio * decided + 16 * spec.skip_ratio - 16) - 4;
    const double ratio = budget_ratio(spec, decided, first + lane_index());
    bool skip = false;
    if (ratio > 0) {
      const Place place = quantile_position(1 - ratio, n);
      skip = less > place.above ||
             (less > place.below && score > interpolate(below, above, place.part));
    }
    const unsigned keeps = ~__ballot_sync(kAllLanes, skip);
    const int skips = keeps == 0 ? 32 : __ffs(static_cast<int>(keeps)) - 1;
    const double most = skips == 0 ? -1 : first + skips - 1 - plan.before.skipped;
    bound = most < -1 ? -1 : most > INT32_MAX ? INT32_MAX : static_cast<int64_t>(most);
  }
  if (lane_index() == 0) a.bounds[t] = static_cast<int32_t>(bound);
}

// `window`, `budget`: the threshold of every row; of `budget` once `bounds` holds the skips before it. A warp a row;
// grid: rows.
static __global__ void __launch_bounds__(kRowThreads) theta_kernel(ScanArguments a) {
  wait_for_earlier_kernels();
  const tkf_filter_spec& spec = a.spec;
  const int64_t t = int64_t{blockIdx.x} * (kRowThreads / 32) + warp_index();
  const Plan& plan = *a.plan;
  if (t >= plan.taken) return;
  const Window window(spec, plan, a.state().scores, a.scores(), t);
  double ratio = spec.skip_ratio;
  if (spec.threshold == TKF_THRESHOLD_BUDGET) {
    ratio = budget_ratio(spec, decided_before(spec, plan.before, t), plan.before.skipped + a.bounds[t]);
  }
  const int64_t n = window.count();
  if (ratio == 0 || n == 0) return;  // no threshold
  const double theta = warp_quantile(1 - ratio, n, [&](const auto& f) { window.for_each(f); });
  if (lane_index() == 0) a.theta(t) = theta;
}

// The last scores go into the state's ring. A thread a score; grid: scores.
static __global__ void __launch_bounds__(kRowThreads) ring_kernel(ScanArguments a) {
  wait_for_earlier_kernels();
  const tkf_filter_spec& spec = a.spec;
  const int64_t capacity = score_capacity(spec);
  const Plan& plan = *a.plan;
  const State state = a.state();
  const double before = plan.before.scored;
  const int64_t made = static_cast<int64_t>(state.numbers[TKF_SLOT_SCORED] - before);
  const int64_t first = made > capacity ? made - capacity : 0;
  const int64_t i = first + int64_t{blockIdx.x} * kRowThreads + threadIdx.x;
  if (i >= made) return;
  const int64_t row = scoreless(spec, plan.before, plan.count) + i;
  state.scores[ring_slot(before + static_cast<double>(i), capacity)] = a.scores()[row];
}

}  // namespace tkf::filter
