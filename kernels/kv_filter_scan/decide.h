// Thresholds, one decision after another: plain C++, the same at every instruction-set level. Formulas and names as in
// lib/filter/threshold.ts, whose results it must equal.
#pragma once
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "score.h"
#include "sorted_scores.h"

namespace tkf {

// The value of rank k, from 0, among `values` [count], whose order is lost; `other` [count] is scratch. No branch hangs on
// a value, which could not be foreseen.
inline double select_rank(double* values, double* other, int64_t count, int64_t k) {
  while (count > 8) {
    const double a = values[0], b = values[count / 2], c = values[count - 1];
    const double pivot = std::max(std::min(a, b), std::min(std::max(a, b), c));
    const auto split = [&](auto goes_left) {
      int64_t left = 0, right = count;
      for (int64_t i = 0; i < count; i++) {
        const double x = values[i];
        const int64_t yes = goes_left(x);
        other[left] = x;  // one of the two is overwritten later
        other[right - 1] = x;
        left += yes;
        right -= 1 - yes;
      }
      return left;
    };
    int64_t left = split([&](double x) { return x < pivot; });
    const bool least = left == 0;  // no value is below it: it is split off itself
    if (least) left = split([&](double x) { return x <= pivot; });
    if (k < left) {
      if (least) return pivot;
      count = left;
      std::swap(values, other);
    } else {
      k -= left;
      count -= left;
      double* const rest = other + left;
      other = values;
      values = rest;
    }
  }
  std::nth_element(values, values + k, values + count);
  return values[k];
}

// How many of `sorted` [count], ascending, are below `value`. No branch hangs on a number.
inline int64_t count_below(const double* sorted, int64_t count, double value) {
  int64_t below = 0;
  for (; count > 1; count -= count / 2) below += sorted[below + count / 2 - 1] < value ? count / 2 : 0;
  return below + (count == 1 && sorted[below] < value);
}

// The scores that a layer looks back on: its state's ring, and the same numbers in order.
class ScoreWindow {
 public:
  // `once`: at most one quantile will be asked for, before any push; so a full sort does not pay.
  ScoreWindow(double* ring, int64_t capacity, double* numbers, bool once, const SortedScores* known)
      : ring_(ring), capacity_(capacity), numbers_(numbers), once_(once) {
    size_ = static_cast<int64_t>(std::min(numbers[TKF_SLOT_SCORED], static_cast<double>(capacity)));
    if (!once) sorted_.reserve(static_cast<size_t>(capacity));
    if (!once && known != nullptr && known->find(ring, static_cast<size_t>(size_), &sorted_)) return;
    sorted_.assign(ring, ring + size_);
    if (!once) std::sort(sorted_.begin(), sorted_.end());
  }

  void keep(SortedScores* known) const {
    if (!once_) known->keep(ring_, sorted_);
  }

  int64_t size() const { return size_; }
  const std::vector<double>& scores() const { return sorted_; }

  double quantile(double q) {
    const double position = q * static_cast<double>(size_ - 1);
    const int64_t below = static_cast<int64_t>(position), above = std::min(below + 1, size_ - 1);
    if (once_) {
      std::vector<double> other(sorted_.size());
      const double a = select_rank(sorted_.data(), other.data(), size_, below);
      constexpr int64_t kChains = 8;  // a chain alone would wait for each comparison
      int64_t up_to[kChains] = {};    // values that are not above it
      double next[kChains];
      std::fill(next, next + kChains, INFINITY);
      const auto take = [&](double x, int64_t chain) {
        up_to[chain] += x <= a;
        next[chain] = std::min(next[chain], x <= a ? INFINITY : x);
      };
      const int64_t whole = size_ / kChains * kChains;
      for (int64_t i = 0; i < whole; i += kChains) {
        for (int64_t c = 0; c < kChains; c++) take(ring_[i + c], c);
      }
      for (int64_t i = whole; i < size_; i++) take(ring_[i], i - whole);
      const bool equal = std::accumulate(up_to, up_to + kChains, int64_t{0}) > above;
      const double b = equal ? a : *std::min_element(next, next + kChains);
      return interpolate(a, b, position - static_cast<double>(below));
    }
    return interpolate(sorted_[below], sorted_[above], position - static_cast<double>(below));
  }

  // Takes a score in; the oldest one leaves a full window.
  void push(double score) {
    if (capacity_ == 0) return;
    double* slot = ring_ + static_cast<int64_t>(numbers_[TKF_SLOT_SCORED]) % capacity_;
    if (!once_) {
      const auto to = sorted_.begin() + count_below(sorted_.data(), size_, score);
      if (size_ < capacity_) {
        sorted_.insert(to, score);
      } else {  // those between the two move by one
        const auto from = sorted_.begin() + count_below(sorted_.data(), size_, *slot);
        *(from < to ? std::move(from + 1, to, from) : std::move_backward(to, from, from + 1) - 1) = score;
      }
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

// A threshold policy at work on one layer of one sequence.
class Threshold {
 public:
  Threshold(const tkf_filter_spec& spec, double* scores, double* numbers, bool once,
            const SortedScores* known = nullptr)
      : spec_(spec), numbers_(numbers), window_(scores, score_capacity(spec), numbers, once, known) {}

  void keep(SortedScores* known) const { window_.keep(known); }

  // theta before the next token; NaN where there is none, so that the token is kept.
  double next() {
    switch (spec_.threshold) {
      case TKF_THRESHOLD_BUDGET:
        return upper_quantile(budget_ratio(spec_, numbers_[TKF_SLOT_DECIDED], numbers_[TKF_SLOT_SKIPPED]));
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
  const int64_t first = first_decided(spec);
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
