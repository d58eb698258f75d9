// One token of one sequence, decided by a block of threads: the recurrence of lib/filter/scan.ts.
#pragma once
#include "select.cuh"

namespace tkf::filter {

// State of one layer of one sequence, in device memory.
struct State {
  float *anchor_k, *anchor_v;
  double *numbers, *scores, *learned;
};

// Of sequence b.
__device__ inline State state_of(const tkf_filter_spec& spec, const tkf_filter_states& first, int64_t b) {
  const int64_t size = int64_t{spec.kv_heads} * spec.head_dim;
  const bool learns = spec.fusion == TKF_FUSION_LEARNED;
  return {as<float>(first.anchor_k) + b * size, as<float>(first.anchor_v) + b * size,
          as<double>(first.numbers) + b * TKF_NUM_SLOTS, as<double>(first.scores) + b * score_capacity(spec),
          learns ? as<double>(first.learned) + b * LearnedLayout(spec).length : nullptr};
}

// The token, and where its results go.
struct Token {
  FeatureRows rows;
  double* columns;  // this token's redundancy; each further column `stride` behind the last; or nullptr
  int64_t stride;
};

// What of a spec an instance of a kernel is for, so that it holds no code of other rules and policies: a step runs
// through its code once, and waits for what of it comes from memory.
enum class Rule { kPlain, kVariance, kLearned };
enum class Policy { kQuantile, kMoving, kFixed };

template <Rule RULE, Policy POLICY>
__device__ __forceinline__ void assume(const tkf_filter_spec& spec) {
  if constexpr (RULE == Rule::kLearned) {
    TKF_ASSUME(spec.fusion == TKF_FUSION_LEARNED);
  } else if constexpr (RULE == Rule::kVariance) {
    TKF_ASSUME(spec.fusion == TKF_FUSION_VARIANCE);
  } else {
    TKF_ASSUME(spec.fusion != TKF_FUSION_LEARNED);
    TKF_ASSUME(spec.fusion != TKF_FUSION_VARIANCE);
  }
  if constexpr (POLICY == Policy::kFixed) {
    TKF_ASSUME(spec.threshold == TKF_THRESHOLD_FIXED);
  } else if constexpr (POLICY == Policy::kMoving) {
    TKF_ASSUME(spec.threshold == TKF_THRESHOLD_ROBBINS_MONRO);
  } else {
    TKF_ASSUME(spec.threshold == TKF_THRESHOLD_BUDGET || spec.threshold == TKF_THRESHOLD_WINDOW);
  }
}

// Host: calls body(rule, policy), integral constants of what serves a spec that was checked before.
template <class F>
void with_kind(const tkf_filter_spec& spec, const F& body) {
  const auto with_policy = [&](auto rule) {
    switch (spec.threshold) {
      case TKF_THRESHOLD_FIXED: body(rule, std::integral_constant<Policy, Policy::kFixed>()); break;
      case TKF_THRESHOLD_ROBBINS_MONRO: body(rule, std::integral_constant<Policy, Policy::kMoving>()); break;
      default: body(rule, std::integral_constant<Policy, Policy::kQuantile>());
    }
  };
  switch (spec.fusion) {
    case TKF_FUSION_LEARNED:  // has no other policy: see check_filter.h
      body(std::integral_constant<Rule, Rule::kLearned>(), std::integral_constant<Policy, Policy::kQuantile>());
      break;
    case TKF_FUSION_VARIANCE: with_policy(std::integral_constant<Rule, Rule::kVariance>()); break;
    default: with_policy(std::integral_constant<Rule, Rule::kPlain>());
  }
}

struct DecideShared {
  double sums[kThreads / 32];
  double statistics[2];  // of the quantile
  double theta, sdw;     // robbins-monro
  Moments moments;
  double score, key_weight;
  bool finite, skip;
  RadixShared radix;
};

// Bytes of dynamic shared memory that `decide` works in: cosines [2, kv_heads], sorted runs of scores.
inline size_t decide_shared_bytes(const tkf_filter_spec& spec) {
  const int64_t capacity = score_capacity(spec), runs = capacity <= kFewScores ? (capacity + 31) / 32 : kMaxRuns;
  return static_cast<size_t>(2 * spec.kv_heads + 32 * runs) * sizeof(double);
}

// A number of the keys by lanes 0 to 15 of a warp and of the values by the others: both, for all lanes.
struct Pair {
  double k, v;
};
__device__ inline Pair pair_of(double own) {
  return {__shfl_sync(kAllLanes, own, 0), __shfl_sync(kAllLanes, own, 16)};
}

// The mean over `count` numbers of a half of a warp, for all its lanes; at(i) gives one. Summed up in the order of a
// whole warp.
template <class At>
__device__ double half_mean(int count, const At& at) {
  double sum = 0, rest = 0;
#pragma unroll 1
  for (int i = lane_index() % 16; i < count; i += 32) {
    sum += at(i);
    if (i + 16 < count) rest += at(i + 16);
  }
  sum += rest;
#pragma unroll
  for (int lanes = 8; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
  return sum / count;
}

// Mean and population variance of cosines [2, count], by a warp: of the keys' in its first half, of the values' in the
// second.
__device__ inline void half_moments(const double* cosines, int count, double* mean, double* variance) {
  const double* const own = cosines + (lane_index() < 16 ? 0 : count);
  const double mu = half_mean(count, [&](int i) { return own[i]; });
  *mean = mu;
  *variance = half_mean(count, [&](int i) { return (own[i] - mu) * (own[i] - mu); });
}

// The ratio whose quantile is the threshold; 0 where this token has no such threshold.
__device__ inline double quantile_ratio(const tkf_filter_spec& spec, const Numbers& n) {
  switch (spec.threshold) {
    case TKF_THRESHOLD_BUDGET: return budget_ratio(spec, n.decided, n.skipped);
    case TKF_THRESHOLD_WINDOW: return spec.skip_ratio;
    case TKF_THRESHOLD_ROBBINS_MONRO:  // only where it starts
      return n.sdw > 0 || n.seen < score_capacity(spec) ? 0 : spec.skip_ratio;
    default: return 0;
  }
}

// The similarities' place of a row of features; zeros for the first token.
__device__ inline void write_similarities(const tkf_filter_spec& spec, const Moments& m, double* features) {
  if (!(spec.features & kSimilarity)) return;
  features[0] = m.mu_k;
  features[1] = m.mu_v;
  features[2] = sqrt(m.var_k);
  features[3] = sqrt(m.var_v);
}

// By warp 0: moments across heads, then the score before `invert`.
__device__ inline void score_token(const tkf_filter_spec& spec, const Numbers& n, const double* cosines, double* learned,
                                   DecideShared& s) {
  double mean, variance;
  half_moments(cosines, spec.kv_heads, &mean, &variance);
  const Pair mu = pair_of(mean), var = pair_of(variance);
  const Moments m = {mu.k, var.k, mu.v, var.v};
  bool finite = isfinite(m.mu_k + m.mu_v);
  Fused fused = {kUndefined, constant_key_weight(spec)};
  if (spec.fusion == TKF_FUSION_LEARNED) {
    const LearnedLayout at(spec);
    double* f = learned + at.f + static_cast<int64_t>(n.pending) * at.F;
    if (lane_index() == 0) write_similarities(spec, n.seen == 0 ? Moments{0, 0, 0, 0} : m, f);
    __syncwarp();
    double sum = 0;
    bool mine = true;
    for (int64_t i = lane_index(); i < at.F; i += 32) {
      mine = mine && isfinite(f[i]);
      if (n.fitted != 0) sum += at.standardised(learned, f, i) * learned[at.w + i];
    }
    finite = __all_sync(kAllLanes, finite && mine);
    sum = warp_sum(sum);
    if (n.fitted != 0) fused.score = -sum;
  } else if (n.seen > 0 && spec.fusion == TKF_FUSION_VARIANCE) {
    const Side side = side_of(spec, mean, variance);  // both sides' roots and logarithms at once
    const Pair level = pair_of(side.level), log_variance = pair_of(side.log_variance);
    fused = fuse_sides(spec, {level.k, log_variance.k}, {level.v, log_variance.v});
  } else if (n.seen > 0) {
    fused = fuse(spec, m, static_cast<uint64_t>(n.seen));
  }
  if (lane_index() == 0) {
    s.moments = m;
    s.score = spec.invert ? -fused.score : fused.score;
    s.key_weight = fused.key_weight;
    s.finite = finite;
    s.sdw = n.sdw;
    s.skip = false;
  }
}

// robbins-monro starts: the step size, from the standard deviation of all n scores so far; at(i) gives one. For the block.
template <class At>
__device__ double deviation(int64_t n, double* scratch, const At& at) {
  double sum = 0, squares = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += at(i);
  const double mean = block_sum(sum, scratch) / static_cast<double>(n);
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) squares += (at(i) - mean) * (at(i) - mean);
  return larger_of(1e-3, sqrt(block_sum(squares, scratch) / static_cast<double>(n)));
}

// By one thread: threshold, decision, and what the state remembers of them. `ratio`, `place`: of the quantile.
__device__ inline void settle(const tkf_filter_spec& spec, const State& state, const Token& token, const Numbers& n,
                              double ratio, const Place& place, DecideShared& s) {
  double* numbers = state.numbers;
  const double quantile = ratio > 0 ? interpolate(s.statistics[0], s.statistics[1], place.part) : kUndefined;
  double theta = spec.threshold == TKF_THRESHOLD_FIXED ? spec.theta : quantile;
  const bool moves = spec.threshold == TKF_THRESHOLD_ROBBINS_MONRO;
  const double sdw = s.sdw, moved = moves && ratio > 0 ? quantile : n.theta;
  if (moves) {
    theta = spec.skip_ratio > 0 && sdw > 0 ? moved : kUndefined;
    numbers[TKF_SLOT_THETA] = moved;
    numbers[TKF_SLOT_SDW] = sdw;
  }
  const bool decided = n.seen >= first_decided(spec), skip = decided && s.score > theta;
  s.skip = skip;
  if (token.columns != nullptr) {
    write_columns(token.columns, token.stride, s.score, theta, n.seen == 0, s.moments, s.key_weight);
  }
  numbers[TKF_SLOT_SEEN] = n.seen + 1;
  if (spec.absorb == TKF_ABSORB_ALL || !skip) numbers[TKF_SLOT_ABSORBED] = n.absorbed + 1;
  if (decided) numbers[TKF_SLOT_DECIDED] = n.decided + 1;
  if (skip) numbers[TKF_SLOT_SKIPPED] = n.skipped + 1;
  const bool scored = s.score == s.score;
  if (scored && moves && sdw > 0) {
    numbers[TKF_SLOT_THETA] = moved + spec.eta * sdw * ((s.score > moved ? 1.0 : 0.0) - spec.skip_ratio);
  } else if (scored && score_capacity(spec) > 0) {
    state.scores[ring_slot(n.scored, score_capacity(spec))] = s.score;
    numbers[TKF_SLOT_SCORED] = n.scored + 1;
  }
  if (spec.fusion == TKF_FUSION_LEARNED) {
    state.learned[LearnedLayout(spec).outcome + static_cast<int64_t>(n.pending)] = skip ? kSkipped : kKept;
    numbers[TKF_SLOT_PENDING] = n.pending + 1;
    if (skip) numbers[TKF_SLOT_SETTLED] = n.settled + 1;
  }
}

// Decides a token and updates the state; s.skip says how, and publish() is called as soon as it does, before the anchors
// follow. False, with a fault and no lasting change, where a number is not finite or the state does
// not allow it. For the whole block; `shared`: decide_shared_bytes.
template <class Real, class Publish>
__device__ bool decide(const tkf_filter_spec& spec, const State& state, const Token& token, int* fault,
                       double* shared, DecideShared& s, const Publish& publish) {
  // A step waits for memory above all: whatever can be loaded at once is, before its first use.
  const Numbers n = read_numbers(state.numbers);
  const double own_score = threadIdx.x < score_capacity(spec) ? state.scores[threadIdx.x] : 0;
  const int H = spec.kv_heads, d = spec.head_dim;
  double *cosines = shared, *runs = shared + 2 * H;
  for (int head = warp_index(); head < H; head += num_warps()) {
    const int64_t at = int64_t{head} * d;
    const double cosine =
        warp_cosines<Real>(token.rows.keys + at, state.anchor_k + at, token.rows.values + at, state.anchor_v + at, d);
    if (lane_index() == 0) cosines[head] = cosine;
    if (lane_index() == 2) cosines[H + head] = cosine;
  }
  const bool learns = spec.fusion == TKF_FUSION_LEARNED;
  if (!valid_numbers(spec, n) || (learns && room_of(spec, n) <= 0)) {
    if (threadIdx.x == 0) tkf_fault(fault, kFaultState);
    return false;
  }
  const int64_t held = held_scores(spec, n.scored);
  const double ratio = held > 0 ? quantile_ratio(spec, n) : 0;
  const Place place = quantile_position(1 - ratio, held > 0 ? held : 1);
  const bool few = held <= kFewScores;

  if (learns) {
    const LearnedLayout at(spec);
    write_features(spec, token.rows, state.learned + at.f + static_cast<int64_t>(n.pending) * at.F);
  }
  bool finite = true;
  if (ratio > 0 && few) {
    finite = sort_runs(state.scores, own_score, static_cast<int>(held), runs);
  } else if (ratio > 0) {
    for (int64_t i = threadIdx.x; i < held; i += blockDim.x) finite = finite && isfinite(state.scores[i]);
  }
  if (!__syncthreads_and(finite)) {
    if (threadIdx.x == 0) tkf_fault(fault, kFaultState);
    return false;
  }
  if (warp_index() == 0) score_token(spec, n, cosines, state.learned, s);
  if (ratio > 0) {
    if (few) {
      pick_from_runs(runs, static_cast<int>(held), place, s.statistics);
    } else {
      pick_by_radix(held, place, s.radix, s.statistics, [&](int64_t i) { return state.scores[i]; });
    }
    if (spec.threshold == TKF_THRESHOLD_ROBBINS_MONRO) {
      const double sdw = deviation(held, s.sums, [&](int64_t i) { return state.scores[i]; });
      if (threadIdx.x == 0) s.sdw = sdw;
    }
  }
  __syncthreads();
  if (!s.finite) {
    if (threadIdx.x == 0) tkf_fault(fault, kFaultNumber);
    __syncthreads();  // s is free again
    return false;
  }
  if (threadIdx.x == 0) settle(spec, state, token, n, ratio, place, s);
  __syncthreads();
  publish();
  if (spec.absorb == TKF_ABSORB_ALL || !s.skip) {
    const double decay = decay_of(spec, n.absorbed);
    const Real keep = static_cast<Real>(decay), rest = static_cast<Real>(1 - decay);
    for (int e = static_cast<int>(threadIdx.x); e < 2 * H * d; e += static_cast<int>(blockDim.x)) {
      const bool keys = e < H * d;
      const int i = keys ? e : e - H * d;
      float* anchor = keys ? state.anchor_k : state.anchor_v;
      anchor[i] = absorb(anchor[i], (keys ? token.rows.keys : token.rows.values)[i], keep, rest);
    }
  }
  return true;
}

}  // namespace tkf::filter
