// What a score is made of, and the numbers of a threshold: the same lines for the CPU and for device code. Formulas and
// names as in lib/filter/{similarity,threshold}.ts and lib/methods/, whose results they must equal.
#pragma once
#include <cmath>

#include "../common/kernels.h"

namespace tkf {

constexpr double kUndefined = NAN;

TKF_BOTH inline double smaller_of(double a, double b) { return b < a ? b : a; }
TKF_BOTH inline double larger_of(double a, double b) { return a < b ? b : a; }

// SplitMix64's finalizer.
TKF_BOTH inline uint64_t mix64(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}
constexpr uint64_t kGolden = 0x9E3779B97F4A7C15u;

// Sign of projection j at entry a of the hidden vector.
TKF_BOTH inline float sign_of(const tkf_filter_spec& spec, int64_t a, int64_t j) {
  const uint64_t base = spec.seed * kGolden + (static_cast<uint64_t>(spec.layer) << 40);
  return mix64(base + (static_cast<uint64_t>(a) << 8) + static_cast<uint64_t>(j)) >> 63 ? -1.0f : 1.0f;
}

struct Moments {
  double mu_k, var_k, mu_v, var_v;
};

TKF_BOTH inline void moments_of(const double* cosines, int count, double* mean, double* variance) {
  double sum = 0, squares = 0;
  for (int i = 0; i < count; i++) sum += cosines[i];
  *mean = sum / count;
  for (int i = 0; i < count; i++) squares += (cosines[i] - *mean) * (cosines[i] - *mean);
  *variance = squares / count;
}

// The columns of one token's results, `stride` apart; the `first` token of a sequence has no moments.
TKF_BOTH inline void write_columns(double* columns, int64_t stride, double score, double theta, bool first,
                                   const Moments& m, double key_weight) {
  columns[0] = score;
  columns[stride] = theta;
  columns[2 * stride] = first ? kUndefined : m.mu_k;
  columns[3 * stride] = first ? kUndefined : m.var_k;
  columns[4 * stride] = first ? kUndefined : m.mu_v;
  columns[5 * stride] = first ? kUndefined : m.var_v;
  columns[6 * stride] = key_weight;
}

// Score before `invert` and the weight of the key side, of every rule but `learned`.
struct Fused {
  double score, key_weight;
};

// The weight that rules of a constant weight record, for the first token of a sequence too.
TKF_BOTH inline double constant_key_weight(const tkf_filter_spec& spec) {
  switch (spec.fusion) {
    case TKF_FUSION_MEAN: return 0.5;
    case TKF_FUSION_STATIC: return spec.alpha;
    case TKF_FUSION_KEY: return 1;
    case TKF_FUSION_VALUE: return 0;
    default: return kUndefined;
  }
}

// Of the `variance` rule: what one side, keys or values, gives to the score.
struct Side {
  double level, log_variance;
};
TKF_BOTH inline Side side_of(const tkf_filter_spec& spec, double mu, double var) {
  return {mu - spec.lambda * sqrt(var), log(var + spec.eps)};
}
TKF_BOTH inline Fused fuse_sides(const tkf_filter_spec& spec, const Side& k, const Side& v) {
  const double w = 1 / (1 + exp(spec.tau * (k.log_variance - v.log_variance)));
  return {smaller_of(1.0, larger_of(-1.0, w * k.level + (1 - w) * v.level)), w};
}

TKF_BOTH inline Fused fuse(const tkf_filter_spec& spec, const Moments& m, uint64_t t) {
  const double weight = constant_key_weight(spec);
  switch (spec.fusion) {
    case TKF_FUSION_VARIANCE:
      return fuse_sides(spec, side_of(spec, m.mu_k, m.var_k), side_of(spec, m.mu_v, m.var_v));
    case TKF_FUSION_MEAN: return {(m.mu_k + m.mu_v) / 2, weight};
    case TKF_FUSION_STATIC: return {spec.alpha * m.mu_k + (1 - spec.alpha) * m.mu_v, weight};
    case TKF_FUSION_KEY: return {m.mu_k, weight};
    case TKF_FUSION_VALUE: return {m.mu_v, weight};
    case TKF_FUSION_MIN: return {smaller_of(m.mu_k, m.mu_v), weight};
    case TKF_FUSION_MAX: return {larger_of(m.mu_k, m.mu_v), weight};
    case TKF_FUSION_PRODUCT: return {m.mu_k * m.mu_v, weight};
    default: {  // random
      const uint64_t counter = (spec.seed + static_cast<uint64_t>(static_cast<int64_t>(spec.chunk))) * kGolden +
                               (static_cast<uint64_t>(spec.layer) << 40) + t;
      return {static_cast<double>(mix64(counter) >> 11) / 9007199254740992.0, weight};
    }
  }
}

// a*b, rounded before it is added to anything: compilers would fuse the two, nvcc always.
TKF_BOTH inline double rounded_product(double a, double b) {
#ifdef __CUDA_ARCH__
  return __dmul_rn(a, b);
#else
  const volatile double product = a * b;
  return product;
#endif
}

// Linear interpolation between neighbouring order statistics.
TKF_BOTH inline double interpolate(double a, double b, double t) {
  return t < 0.5 ? a + rounded_product(b - a, t) : b - rounded_product(b - a, 1 - t);
}

// Length of the ring of scores; see Policy.capacity in lib/filter/threshold.ts.
TKF_BOTH inline int64_t score_capacity(const tkf_filter_spec& spec) {
  switch (spec.threshold) {
    case TKF_THRESHOLD_BUDGET:
    case TKF_THRESHOLD_WINDOW: return spec.window;
    case TKF_THRESHOLD_ROBBINS_MONRO: return spec.warmup > 2 ? spec.warmup : 2;
    default: return 0;
  }
}

// The ratio that `budget` aims at after `decided` decisions, `skipped` of them skips.
TKF_BOTH inline double budget_ratio(const tkf_filter_spec& spec, double decided, double skipped) {
  const double owed = rounded_product(spec.skip_ratio, decided) - skipped;
  return smaller_of(1.0, larger_of(0.0, spec.skip_ratio + owed / 16));
}

// Share of the old anchor that stays where `absorbed` tokens were absorbed before; see decayOf in lib/filter/similarity.ts.
TKF_BOTH inline double decay_of(const tkf_filter_spec& spec, double absorbed) {
  if (absorbed == 0) return 0;
  return spec.anchor == TKF_ANCHOR_MEAN ? absorbed / (absorbed + 1) : spec.gamma;
}

// Index of the first token that may be skipped.
TKF_BOTH inline int64_t first_decided(const tkf_filter_spec& spec) { return spec.warmup > 1 ? spec.warmup : 1; }

}  // namespace tkf
