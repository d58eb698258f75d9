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
template <class T>
struct Token {
  FeatureRows<T> rows;
  int32_t chunk;
  double* columns;  // this token's redundancy; each further column `stride` behind the last; or nullptr
  int64_t stride;
};

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

// Sums of two numbers a lane, by a warp; for all its lanes.
__device__ inline void warp_sum2(double& a, double& b) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const double x = __shfl_xor_sync(kAllLanes, a, lanes), y = __shfl_xor_sync(kAllLanes, b, lanes);
    a += x;
    b += y;
  }
}

// Mean and population variance of cosines [2, count] of keys and values, by a warp; for all its lanes.
__device__ inline Moments warp_moments(const double* cosines, int count) {
  double k = 0, v = 0;
  for (int i = lane_index(); i < count; i += 32) {
    k += cosines[i];
    v += cosines[count + i];
  }
  warp_sum2(k, v);
  Moments m;
  m.mu_k = k / count;
  m.mu_v = v / count;
  k = v = 0;
  for (int i = lane_index(); i < count; i += 32) {
    k += (cosines[i] - m.mu_k) * (cosines[i] - m.mu_k);
    v += (cosines[count + i] - m.mu_v) * (cosines[count + i] - m.mu_v);
  }
  warp_sum2(k, v);
  m.var_k = k / count;
  m.var_v = v / count;
  return m;
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
__device__ inline void score_token(const tkf_filter_spec& spec, const Numbers& n, const double* cosines, int32_t chunk,
                                   double* learned, DecideShared& s) {
  const Moments m = warp_moments(cosines, spec.kv_heads);
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
  } else if (n.seen > 0) {
    if (lane_index() == 0) fused = fuse(spec, m, static_cast<uint64_t>(n.seen), chunk);
  }
  if (lane_index() == 0) {
    s.moments = m;
    s.score = spec.invert ? -fused.score : fused.score;
    s.key_weight = fused.key_weight;
    s.finite = finite;
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
template <class T>
__device__ void settle(const tkf_filter_spec& spec, const State& state, const Token<T>& token, const Numbers& n,
                       double ratio, const Place& place, DecideShared& s) {
  double* numbers = state.numbers;
  const double quantile = ratio > 0 ? interpolate(s.statistics[0], s.statistics[1], place.part) : kUndefined;
  double theta = spec.threshold == TKF_THRESHOLD_FIXED ? spec.theta : quantile;
  const bool moves = spec.threshold == TKF_THRESHOLD_ROBBINS_MONRO;
  const double sdw = moves && ratio > 0 ? s.sdw : n.sdw, moved = moves && ratio > 0 ? quantile : n.theta;
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
template <class T, class Real, class Publish>
__device__ bool decide(const tkf_filter_spec& spec, const State& state, const Token<T>& token, int* fault,
                       double* shared, DecideShared& s, const Publish& publish) {
  // A step waits for memory above all: whatever can be loaded at once is, before its first use.
  const Numbers n = read_numbers(state.numbers);
  const double own_score = threadIdx.x < score_capacity(spec) ? state.scores[threadIdx.x] : 0;
  const int H = spec.kv_heads, d = spec.head_dim;
  double *cosines = shared, *runs = shared + 2 * H;
  for (int head = warp_index(); head < H; head += num_warps()) {
    const int64_t at = int64_t{head} * d;
    double cosine_k, cosine_v;
    warp_cosines<T, Real>(token.rows.keys + at, state.anchor_k + at, token.rows.values + at, state.anchor_v + at, d,
                          &cosine_k, &cosine_v);
    if (lane_index() == 0) {
      cosines[head] = cosine_k;
      cosines[H + head] = cosine_v;
    }
  }
  const bool learns = spec.fusion == TKF_FUSION_LEARNED;
  if (!valid_numbers(spec, n) || (learns && room_of(spec, n) <= 0)) {
    if (threadIdx.x == 0) tkf_fault(fault, kFaultState);
    return false;
  }
  const int64_t held = held_scores(spec, n.scored);
  const double ratio = held > 0 ? quantile_ratio(spec, n) : 0;
  const Place place = place_of(1 - ratio, held > 0 ? held : 1);
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
  if (warp_index() == 0) score_token(spec, n, cosines, token.chunk, state.learned, s);
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
      anchor[i] = absorb(anchor[i], to_float((keys ? token.rows.keys : token.rows.values)[i]), keep, rest);
    }
  }
  return true;
}

}  // namespace tkf::filter
