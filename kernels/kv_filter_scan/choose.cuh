// The decisions of a scan, in order: by one block.
#pragma once
#include "scan.cuh"

namespace tkf::filter {

constexpr int kChainRows = 1024;  // rows that a chain of decisions holds in shared memory

struct ChooseShared {
  double sums[kThreads / 32];
  int counts[kThreads / 32];
  double scores[kChainRows];
  int32_t bounds[kChainRows], skips[kChainRows];
  double statistics[2], sdw, theta;
  int64_t skipped;
  RadixShared radix;
};

// `budget`: bounds become the skips before each row.
__device__ inline void choose_budget(const ScanArguments& a, const Plan& plan, ChooseShared& s) {
  for (int64_t first = 0; first < plan.taken; first += kChainRows) {
    const int count = static_cast<int>(plan.taken - first < kChainRows ? plan.taken - first : kChainRows);
    int32_t* bounds = a.bounds + first;
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) s.bounds[i] = bounds[i];
    __syncthreads();
    if (threadIdx.x == 0) {
      int32_t skipped = static_cast<int32_t>(s.skipped);
#pragma unroll 8
      for (int i = 0; i < count; i++) {
        s.skips[i] = skipped;
        skipped += skipped <= s.bounds[i];
      }
      s.skipped = skipped;
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
      a.kept(first + i) = s.skips[i] > s.bounds[i];
      bounds[i] = s.skips[i];
    }
    __syncthreads();
  }
}

// `window`, `fixed`: each row for itself.
__device__ inline void choose_alone(const ScanArguments& a, const Plan& plan, ChooseShared& s) {
  int64_t skipped = 0;
  for (int64_t t = threadIdx.x; t < plan.taken; t += kThreads) {
    if (a.spec.threshold == TKF_THRESHOLD_FIXED) a.theta(t) = a.spec.theta;
    const bool skip = is_decided(a.spec, plan.before, t) && a.scores()[t] > a.theta(t);
    a.kept(t) = !skip;
    skipped += skip;
  }
  const double sum = block_sum(static_cast<double>(skipped), s.sums);
  if (threadIdx.x == 0) s.skipped = static_cast<int64_t>(sum);
  __syncthreads();
}

// First row that `robbins-monro` has a threshold for; `taken` where it has none in this call.
__device__ inline int64_t moving_from(const tkf_filter_spec& spec, const Plan& plan) {
  if (plan.before.sdw > 0) return 0;
  const double least = static_cast<double>(score_capacity(spec)) - plan.before.seen;
  if (spec.skip_ratio == 0 || least >= plan.taken) return plan.taken;
  return least > 0 ? static_cast<int64_t>(least) : 0;
}

// `robbins-monro`: s.theta and s.sdw from all scores before row t.
__device__ inline void start_moving(const ScanArguments& a, const Plan& plan, const State& state, int64_t t,
                                    ChooseShared& s) {
  const Window window(a.spec, plan, state.scores, a.scores(), t);
  const int64_t n = window.count();
  const double sdw = deviation(n, s.sums, [&](int64_t i) { return window.at(i); });
  const Place place = quantile_position(1 - a.spec.skip_ratio, n);
  pick_by_radix(n, place, s.radix, s.statistics, [&](int64_t i) { return window.at(i); });
  if (threadIdx.x == 0) {
    s.theta = interpolate(s.statistics[0], s.statistics[1], place.part);
    s.sdw = sdw;
  }
}

__device__ inline void choose_moving(const ScanArguments& a, const Plan& plan, const State& state, ChooseShared& s) {
  const tkf_filter_spec& spec = a.spec;
  if (threadIdx.x == 0) {
    s.theta = plan.before.theta;
    s.sdw = plan.before.sdw;
  }
  const int64_t start = moving_from(spec, plan);
  if (start < plan.taken && !(plan.before.sdw > 0)) start_moving(a, plan, state, start, s);
  for (int64_t t = threadIdx.x; t < start; t += kThreads) a.kept(t) = 1;
  for (int64_t first = start; first < plan.taken; first += kChainRows) {
    const int count = static_cast<int>(plan.taken - first < kChainRows ? plan.taken - first : kChainRows);
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) s.scores[i] = a.scores()[first + i];
    __syncthreads();
    if (threadIdx.x == 0) {
      double theta = s.theta;
      const double up = spec.eta * s.sdw * (1 - spec.skip_ratio), down = spec.eta * s.sdw * (0 - spec.skip_ratio);
      for (int i = 0; i < count; i++) {
        const double score = s.scores[i];
        s.scores[i] = theta;
        const bool over = score > theta;
        s.skips[i] = over && spec.skip_ratio > 0 && is_decided(spec, plan.before, first + i);
        s.skipped += s.skips[i];
        if (score == score) theta += over ? up : down;
      }
      s.theta = theta;
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
      if (spec.skip_ratio > 0) a.theta(first + i) = s.scores[i];
      a.kept(first + i) = s.skips[i] == 0;
    }
  }
  __syncthreads();
}

// `topk`: of the rows past the warm-up those of highest score, ties to the earlier.
__device__ inline void choose_highest(const ScanArguments& a, const Plan& plan, ChooseShared& s) {
  const int64_t first = first_decided(a.spec), able = plan.taken - first;
  for (int64_t t = threadIdx.x; t < plan.taken; t += kThreads) a.kept(t) = 1;
  if (able <= 0) return;
  const double wanted = floor(a.spec.skip_ratio * static_cast<double>(plan.taken - a.spec.warmup) + 0.5);
  const int64_t skipped = able < wanted ? able : static_cast<int64_t>(wanted);
  if (skipped <= 0) return;
  const double* scores = a.scores() + first;
  const auto key_at = [&](int64_t i) { return ordered(-scores[i]); };  // ascending: highest score first
  const unsigned long long last = radix_select(able, skipped - 1, s.radix, key_at);
  int64_t before = 0;  // keys of `last` among the rows before
  double under = 0;
  for (int64_t i = threadIdx.x; i < able; i += kThreads) under += key_at(i) < last;
  const int64_t ties = skipped - static_cast<int64_t>(block_sum(under, s.sums));
  for (int64_t base = 0; base < able; base += kThreads) {
    const int64_t i = base + threadIdx.x;
    const unsigned long long key = i < able ? key_at(i) : ~0ull;
    int found;
    const int64_t rank = before + block_rank(i < able && key == last, s.counts, &found);
    if (i < able && (key < last || (key == last && rank < ties))) a.kept(first + i) = 0;
    before += found;
  }
  if (threadIdx.x == 0) s.skipped = skipped;
  __syncthreads();
}

// Decides, and brings the state's numbers up to date.
static __global__ void __launch_bounds__(kThreads, 2) decide_kernel(ScanArguments a) {
  wait_for_earlier_kernels();
  TKF_SHARED(ChooseShared, s);
  const tkf_filter_spec& spec = a.spec;
  const Plan& plan = *a.plan;
  const State state = a.state();
  if (threadIdx.x == 0) {
    *as<int64_t>(a.taken) = plan.taken;
    s.skipped = 0;
    if (plan.taken < plan.count) tkf_fault(a.fault, kFaultNumber);
  }
  __syncthreads();
  if (plan.taken == 0) return;
  switch (spec.threshold) {
    case TKF_THRESHOLD_BUDGET: choose_budget(a, plan, s); break;
    case TKF_THRESHOLD_ROBBINS_MONRO: choose_moving(a, plan, state, s); break;
    case TKF_THRESHOLD_TOPK: choose_highest(a, plan, s); break;
    default: choose_alone(a, plan, s);
  }
  __syncthreads();
  if (spec.fusion == TKF_FUSION_LEARNED) {
    double* outcome = state.learned + LearnedLayout(spec).outcome + static_cast<int64_t>(plan.before.pending);
    for (int64_t t = threadIdx.x; t < plan.taken; t += kThreads) outcome[t] = a.kept(t) ? kKept : kSkipped;
  }
  if (threadIdx.x != 0) return;
  const Numbers& before = plan.before;
  double* numbers = state.numbers;
  const double taken = plan.taken, skipped = static_cast<double>(s.skipped);
  numbers[TKF_SLOT_SEEN] = before.seen + taken;
  numbers[TKF_SLOT_ABSORBED] = before.absorbed + taken;
  numbers[TKF_SLOT_DECIDED] = decided_before(spec, before, plan.taken);
  numbers[TKF_SLOT_SKIPPED] = before.skipped + skipped;
  if (score_capacity(spec) > 0) {
    const bool moves = spec.threshold == TKF_THRESHOLD_ROBBINS_MONRO;
    const int64_t recorded = moves ? moving_from(spec, plan) : plan.taken;  // rows whose scores a window takes
    numbers[TKF_SLOT_SCORED] = scored_before(spec, before, plan.count, recorded);
    if (moves) {
      numbers[TKF_SLOT_THETA] = s.theta;
      numbers[TKF_SLOT_SDW] = s.sdw;
    }
  }
  if (spec.fusion == TKF_FUSION_LEARNED) {
    numbers[TKF_SLOT_PENDING] = before.pending + taken;
    numbers[TKF_SLOT_SETTLED] = before.settled + skipped;
  }
}

}  // namespace tkf::filter
