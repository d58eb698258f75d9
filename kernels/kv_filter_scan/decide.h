// One decision after another: moments, fusion, threshold. Plain C++, the same at every instruction-set level; formulas
// and names as in lib/filter/{similarity,fusion,threshold}.ts, whose results it must equal.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "../include/tokenfilter.h"

namespace tkf {

constexpr double kUndefined = NAN;

// SplitMix64's finalizer.
inline uint64_t mix64(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}
constexpr uint64_t kGolden = 0x9E3779B97F4A7C15u;

struct Moments {
  double mu_k, var_k, mu_v, var_v;
};

inline void moments_of(const double* cosines, int count, double* mean, double* variance) {
  double sum = 0, squares = 0;
  for (int i = 0; i < count; i++) sum += cosines[i];
  *mean = sum / count;
  for (int i = 0; i < count; i++) squares += (cosines[i] - *mean) * (cosines[i] - *mean);
  *variance = squares / count;
}

// Score before `invert` and the weight of the key side, of every rule but `learned`.
struct Fused {
  double score, key_weight;
};

// The weight that rules of a constant weight record, for the first token of a sequence too.
inline double constant_key_weight(const tkf_filter_spec& spec) {
  switch (spec.fusion) {
    case TKF_FUSION_MEAN: return 0.5;
    case TKF_FUSION_STATIC: return spec.alpha;
    case TKF_FUSION_KEY: return 1;
    case TKF_FUSION_VALUE: return 0;
    default: return kUndefined;
  }
}

inline Fused fuse(const tkf_filter_spec& spec, const Moments& m, uint64_t t) {
  const double weight = constant_key_weight(spec);
  switch (spec.fusion) {
    case TKF_FUSION_VARIANCE: {
      const double log_ratio = std::log(m.var_k + spec.eps) - std::log(m.var_v + spec.eps);
      const double w = 1 / (1 + std::exp(spec.tau * log_ratio));
      const double k = m.mu_k - spec.lambda * std::sqrt(m.var_k), v = m.mu_v - spec.lambda * std::sqrt(m.var_v);
      return {std::min(1.0, std::max(-1.0, w * k + (1 - w) * v)), w};
    }
    case TKF_FUSION_MEAN: return {(m.mu_k + m.mu_v) / 2, weight};
    case TKF_FUSION_STATIC: return {spec.alpha * m.mu_k + (1 - spec.alpha) * m.mu_v, weight};
    case TKF_FUSION_KEY: return {m.mu_k, weight};
    case TKF_FUSION_VALUE: return {m.mu_v, weight};
    case TKF_FUSION_MIN: return {std::min(m.mu_k, m.mu_v), weight};
    case TKF_FUSION_MAX: return {std::max(m.mu_k, m.mu_v), weight};
    case TKF_FUSION_PRODUCT: return {m.mu_k * m.mu_v, weight};
    default: {  // random
      const uint64_t counter = (spec.seed + static_cast<uint64_t>(spec.chunk)) * kGolden +
                               (static_cast<uint64_t>(spec.layer) << 40) + t;
      return {static_cast<double>(mix64(counter) >> 11) / 9007199254740992.0, weight};
    }
  }
}

// Linear interpolation between neighbouring order statistics.
inline double interpolate(double a, double b, double t) { return t < 0.5 ? a + (b - a) * t : b - (b - a) * (1 - t); }

// The scores that a layer looks back on: its state's ring, and the same numbers in order.
class ScoreWindow {
 public:
  // `once`: at most one quantile will be asked for, before any push; so a full sort does not pay.
  ScoreWindow(double* ring, int64_t capacity, double* numbers, bool once)
      : ring_(ring), capacity_(capacity), numbers_(numbers), once_(once) {
    size_ = static_cast<int64_t>(std::min(numbers[TKF_SLOT_SCORED], static_cast<double>(capacity)));
    sorted_.assign(ring, ring + size_);
    if (once) return;
    sorted_.reserve(static_cast<size_t>(capacity));
    std::sort(sorted_.begin(), sorted_.end());
  }

  int64_t size() const { return size_; }
  const std::vector<double>& scores() const { return sorted_; }

  double quantile(double q) {
    const double position = q * static_cast<double>(size_ - 1);
    const int64_t below = static_cast<int64_t>(position), above = std::min(below + 1, size_ - 1);
    if (once_) {
      const auto middle = sorted_.begin() + below;
      std::nth_element(sorted_.begin(), middle, sorted_.end());
      const double a = *middle, b = above == below ? a : *std::min_element(middle + 1, sorted_.end());
      return interpolate(a, b, position - static_cast<double>(below));
    }
    return interpolate(sorted_[below], sorted_[above], position - static_cast<double>(below));
  }

  // Takes a score in; the oldest one leaves a full window.
  void push(double score) {
    if (capacity_ == 0) return;
    double* slot = ring_ + static_cast<int64_t>(std::fmod(numbers_[TKF_SLOT_SCORED], static_cast<double>(capacity_)));
    if (!once_) {
      if (size_ == capacity_) {
        sorted_.erase(std::lower_bound(sorted_.begin(), sorted_.end(), *slot));
      }
      sorted_.insert(std::lower_bound(sorted_.begin(), sorted_.end(), score), score);
    }
    if (size_ < capacity_) size_++;
    *slot = score;
    numbers_[TKF_SLOT_SCORED]++;
  }

 private:
  double* ring_;
  int64_t capacity_;
  double* numbers_;
  bool once_;
  int64_t size_;
  std::vector<double> sorted_;
};

// Length of the ring of scores; see scoreCapacity in lib/filter/layer.ts.
inline int64_t score_capacity(const tkf_filter_spec& spec) {
  switch (spec.threshold) {
    case TKF_THRESHOLD_BUDGET:
    case TKF_THRESHOLD_WINDOW: return spec.window;
    case TKF_THRESHOLD_ROBBINS_MONRO: return std::max(spec.warmup, 2);
    default: return 0;
  }
}

// A threshold policy at work on one layer of one sequence.
class Threshold {
 public:
  Threshold(const tkf_filter_spec& spec, double* scores, double* numbers, bool once)
      : spec_(spec), numbers_(numbers), window_(scores, score_capacity(spec), numbers, once) {}

  // theta before the next token; NaN where there is none, so that the token is kept.
  double next() {
    switch (spec_.threshold) {
      case TKF_THRESHOLD_BUDGET: {
        const double owed = spec_.skip_ratio * numbers_[TKF_SLOT_DECIDED] - numbers_[TKF_SLOT_SKIPPED];
        return upper_quantile(std::min(1.0, std::max(0.0, spec_.skip_ratio + owed / 16)));
      }
      case TKF_THRESHOLD_WINDOW: return upper_quantile(spec_.skip_ratio);
      case TKF_THRESHOLD_ROBBINS_MONRO:
        if (spec_.skip_ratio == 0) return kUndefined;
        if (!started() && numbers_[TKF_SLOT_SEEN] >= std::max(spec_.warmup, 2)) start();
        return started() ? numbers_[TKF_SLOT_THETA] : kUndefined;
      case TKF_THRESHOLD_FIXED: return spec_.theta;
      default: return kUndefined;
    }
  }

  // Takes in a score, which then counts for later tokens.
  void push(double score) {
    if (spec_.threshold == TKF_THRESHOLD_ROBBINS_MONRO && started()) {
      const double over = score > numbers_[TKF_SLOT_THETA] ? 1 : 0;
      numbers_[TKF_SLOT_THETA] += spec_.eta * numbers_[TKF_SLOT_SDW] * (over - spec_.skip_ratio);
    } else {
      window_.push(score);
    }
  }

 private:
  bool started() const { return numbers_[TKF_SLOT_SDW] > 0; }

  double upper_quantile(double ratio) {
    return ratio == 0 || window_.size() == 0 ? kUndefined : window_.quantile(1 - ratio);
  }

  void start() {
    double sum = 0, squares = 0;
    const std::vector<double>& scores = window_.scores();
    for (double score : scores) sum += score;
    const double count = static_cast<double>(scores.size()), mean = sum / count;
    for (double score : scores) squares += (score - mean) * (score - mean);
    numbers_[TKF_SLOT_THETA] = upper_quantile(spec_.skip_ratio);
    numbers_[TKF_SLOT_SDW] = std::max(1e-3, std::sqrt(squares / count));
  }

  const tkf_filter_spec& spec_;
  double* numbers_;
  ScoreWindow window_;
};

// `topk` over a whole sequence: of the tokens past the warm-up, those of highest score are skipped, ties to the
// earlier; see chooseHighest in lib/filter/threshold.ts. Returns how many.
inline int64_t skip_highest(const tkf_filter_spec& spec, const double* scores, int64_t count, uint8_t* keep) {
  const int64_t first = std::max(spec.warmup, 1);
  if (count <= first) return 0;
  std::vector<int64_t> able(static_cast<size_t>(count - first));
  for (size_t i = 0; i < able.size(); i++) able[i] = first + static_cast<int64_t>(i);
  const double wanted = std::floor(spec.skip_ratio * static_cast<double>(count - spec.warmup) + 0.5);
  const int64_t skipped = std::min(count - first, static_cast<int64_t>(wanted));
  std::partial_sort(able.begin(), able.begin() + skipped, able.end(), [&](int64_t a, int64_t b) {
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
  });
  for (int64_t i = 0; i < skipped; i++) keep[able[i]] = 0;
  return skipped;
}

}  // namespace tkf
