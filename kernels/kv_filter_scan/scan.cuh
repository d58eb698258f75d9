// Prefill: what the kernels of a scan share, and how each sees its sequence. A scan runs, in this order:
//   plan_kernel      reads each state and notes what this call does to it
//   tile_kernel      anchors.cuh: what each tile of tokens adds to the anchors      } only where there is more than
//   starts_kernel    anchors.cuh: the anchors before each tile                      } one tile
//   measure_kernel   anchors.cuh: cosines of every token with the anchors before it
//   features_kernel  scores.cuh: `learned`: the features that need no anchor
//   score_kernel     scores.cuh: moments and score of every token
//   bound_kernel     scores.cuh: `budget`: up to how many skips before it a token is skipped
//   theta_kernel     scores.cuh: `window`: the threshold of every token
//   decide_kernel    choose.cuh: decisions, in order, and the state's numbers
//   theta_kernel     `budget`: the same, now that the skips before each token are known
//   finish_kernel    anchors.cuh: the state's ring of scores and its anchors
// All tokens are measured before one is decided, which needs anchors that take in every token. Where they do not
// (`absorb` = kept), or there are few tokens, steps_kernel decides one after another instead.
#pragma once
#include "decide.cuh"

namespace tkf::filter {

// What a scan does; numbers as they were before.
struct Plan {
  Numbers before;
  int32_t count;  // rows
  int32_t taken;  // rows before the first that is not finite
};

struct ScanArguments : tkf_filter_scan_args {
  int32_t size;  // kv_heads * head_dim
  int32_t tile;  // tokens that the anchors' scan takes in one piece
  int* fault;
  // Workspace:
  Plan* plan;
  double* cosines;  // [rows, 2, kv_heads]
  float* tiles;     // [tiles, 2, size]: what a tile adds, then the anchors before it
  int32_t* bounds;  // [rows]: of `budget`; then the skips in this call before each row

  __device__ double* scores() const { return as<double>(columns); }  // the first column
  __device__ double& theta(int64_t row) const { return scores()[count + row]; }
  __device__ uint8_t& kept(int64_t row) const { return as<uint8_t>(keep)[row]; }
  __device__ State state() const { return state_of(spec, states, 0); }
};

// ---- scores: number `first_score(plan) + i` is that of row `scoreless + i` ----

// Rows at the start of this call that have no score: the first token of all, and those before the first fit.
__device__ inline int64_t scoreless(const tkf_filter_spec& spec, const Numbers& before, int64_t count) {
  if (spec.fusion == TKF_FUSION_LEARNED) return before.fitted != 0 ? 0 : count;
  return before.seen == 0 ? 1 : 0;
}

// Scores before row t of this call.
__device__ inline double scored_before(const tkf_filter_spec& spec, const Numbers& before, int64_t count, int64_t t) {
  const int64_t fresh = t - scoreless(spec, before, count);
  return before.scored + static_cast<double>(fresh > 0 ? fresh : 0);
}

// The last `held` <= capacity scores before row t: up to two stretches of the state's ring, then rows of this call.
struct Window {
  const double *ring, *fresh;
  int64_t capacity, old_first, old_count, fresh_count;

  __device__ Window(const tkf_filter_spec& spec, const Plan& plan, const double* ring, const double* redundancy,
                    int64_t t)
      : ring(ring), capacity(score_capacity(spec)) {
    const Numbers& before = plan.before;
    const int64_t none = scoreless(spec, before, plan.count);
    int64_t made = t - none > 0 ? t - none : 0;
    const int64_t all = held_scores(spec, before.scored + static_cast<double>(made));
    if (made > all) made = all;
    fresh = redundancy + t - made;
    fresh_count = made;
    old_count = all - made;
    old_first = old_count > 0 ? ring_slot(before.scored - static_cast<double>(old_count), capacity) : 0;
  }

  __device__ int64_t count() const { return old_count + fresh_count; }

  __device__ double at(int64_t i) const {
    if (i >= old_count) return fresh[i - old_count];
    const int64_t slot = old_first + i;
    return ring[slot < capacity ? slot : slot - capacity];
  }

  // f(score) for this lane's share of a warp.
  template <class Function>
  __device__ void for_each(const Function& f) const {
    const int64_t unbroken = old_count < capacity - old_first ? old_count : capacity - old_first;
    for (int64_t i = lane_index(); i < unbroken; i += 32) f(ring[old_first + i]);
    for (int64_t i = lane_index(); i < old_count - unbroken; i += 32) f(ring[i]);
    for (int64_t i = lane_index(); i < fresh_count; i += 32) f(fresh[i]);
  }
};

// Tokens decided before row t of this call: those since max(warmup, 1).
__device__ inline double decided_before(const tkf_filter_spec& spec, const Numbers& before, int64_t t) {
  const double first = larger_of(before.seen, static_cast<double>(first_decided(spec)));
  return before.decided + larger_of(0.0, before.seen + static_cast<double>(t) - first);
}

__device__ inline bool is_decided(const tkf_filter_spec& spec, const Numbers& before, int64_t t) {
  return before.seen + static_cast<double>(t) >= static_cast<double>(first_decided(spec));
}

// ---- the first kernel ----

// No rows, with a fault, where the state does not allow the call.
__device__ inline Plan plan_of(const ScanArguments& a) {
  const tkf_filter_spec& spec = a.spec;
  Plan plan = {};
  plan.before = read_numbers(as<double>(a.states.numbers));
  int64_t count = a.count;
  bool valid = valid_numbers(spec, plan.before);
  if (valid && spec.fusion == TKF_FUSION_LEARNED) {
    const int64_t room = room_of(spec, plan.before);
    valid = room > 0;
    count = count < room ? count : room;
  }
  if (spec.threshold == TKF_THRESHOLD_TOPK) valid = valid && plan.before.seen == 0;
  if (!valid) {
    tkf_fault(a.fault, kFaultState);
    return plan;
  }
  plan.count = plan.taken = static_cast<int32_t>(count);
  return plan;
}

static __global__ void __launch_bounds__(kThreads, 2) plan_kernel(ScanArguments a) {
  wait_for_earlier_kernels();
  TKF_SHARED(Plan, plan);
  if (threadIdx.x == 0) plan = plan_of(a);
  __syncthreads();
  const double* scores = a.state().scores;
  const int64_t held = plan.count > 0 ? held_scores(a.spec, plan.before.scored) : 0;
  bool finite = true;
  for (int64_t i = threadIdx.x; i < held; i += kThreads) finite = finite && isfinite(scores[i]);
  finite = __syncthreads_and(finite);
  if (threadIdx.x != 0) return;
  if (!finite) {
    tkf_fault(a.fault, kFaultState);
    plan.count = plan.taken = 0;
  }
  *a.plan = plan;
}

// ---- one token after another, by one block ----

template <class Real>
__global__ void __launch_bounds__(kThreads, 2) steps_kernel(ScanArguments a) {
  wait_for_earlier_kernels();
  TKF_DYNAMIC_SHARED(double, shared);
  TKF_SHARED(DecideShared, s);
  TKF_SHARED(Plan, plan);
  if (threadIdx.x == 0) plan = plan_of(a);
  __syncthreads();
  const State state = a.state();
  int32_t row = 0;
  for (; row < plan.count; row++) {
    const Token token = {feature_rows(a, a.keys, row), a.scores() + row, a.count};
    const auto publish = [&] {
      if (threadIdx.x == 0) a.kept(row) = !s.skip;
    };
    if (!decide<Real>(a.spec, state, token, a.fault, shared, s, publish)) break;
    __syncthreads();  // the state is whole again
  }
  if (threadIdx.x == 0) *as<int64_t>(a.taken) = row;
}

}  // namespace tkf::filter
