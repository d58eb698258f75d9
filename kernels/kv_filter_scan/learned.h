// The `learned` rule: an online ridge regression of how much the attention adds; lib/methods/rules/learned.ts in C++.
// All its numbers lie in the state's array `learned`, packed as lib/methods/rules/learned_fit.ts says.
#pragma once
#include <cmath>
#include <vector>

#include "decide.h"
#include "kv_filter_scan.h"
#include "learned_layout.h"

namespace tkf {

class Learner {
 public:
  Learner(const tkf_filter_spec& spec, double* numbers, double* learned)
      : spec_(spec), at_(spec), numbers_(numbers), learned_(learned) {}

  const LearnedLayout& layout() const { return at_; }

  // Tokens that may still be decided before the next fit.
  int64_t room() const { return room_of(spec_, *reinterpret_cast<const Numbers*>(numbers_)); }
  // Kept tokens of the pending block whose outcomes are not yet known.
  int64_t open() const { return number(TKF_SLOT_PENDING) - number(TKF_SLOT_SETTLED); }

  // Takes in the next token's features (`others`: those behind the similarities). False where one is not finite;
  // then nothing has changed that counts.
  bool add(const Moments& m, const double* others) {
    double* f = learned_ + at_.f + number(TKF_SLOT_PENDING) * at_.F;
    int64_t i = 0;
    if (spec_.features & kSimilarity) {
      f[i++] = m.mu_k;
      f[i++] = m.mu_v;
      f[i++] = std::sqrt(m.var_k);
      f[i++] = std::sqrt(m.var_v);
    }
    while (i < at_.F - 1) f[i++] = *others++;
    f[i] = 1;
    for (i = 0; i < at_.F; i++) {
      if (!std::isfinite(f[i])) return false;
    }
    return true;
  }

  // Score, before `invert`, of the token added last; NaN before the first fit.
  double score() const {
    return numbers_[TKF_SLOT_FITTED] == 0 ? kUndefined : -predict(at_.f + number(TKF_SLOT_PENDING) * at_.F);
  }

  // Notes the decision on it.
  void settle(bool skip) {
    learned_[at_.outcome + number(TKF_SLOT_PENDING)] = skip ? kSkipped : kKept;
    numbers_[TKF_SLOT_PENDING]++;
    if (skip) numbers_[TKF_SLOT_SETTLED]++;
  }

  // Outcomes of the next `count` <= open() kept tokens.
  void observe(const double* y, int64_t count) {
    for (int64_t row = 0, taken = 0; taken < count && row < number(TKF_SLOT_PENDING); row++) {
      if (learned_[at_.outcome + row] != kKept) continue;
      learned_[at_.y + row] = y[taken++];
      learned_[at_.outcome + row] = kObserved;
    }
    numbers_[TKF_SLOT_SETTLED] += static_cast<double>(count);
  }

  // Where the pending block is complete and all its outcomes are known: fits anew and empties it. False where the
  // matrix of the fit is not positive definite. `scores`: the state's ring; fit(FilterFit): whether it went well.
  template <class Fit>
  bool fit_if_complete(double* scores, Fit&& fit) {
    const int64_t pending = number(TKF_SLOT_PENDING);
    if (number(TKF_SLOT_SETTLED) != pending || room() != 0) return true;
    const bool first = numbers_[TKF_SLOT_FITTED] == 0;
    if (first) start_fit(spec_, at_, learned_, pending, 0, 1);
    const int64_t uncounted = spec_.first_outcome - (number(TKF_SLOT_SEEN) - pending);
    const int64_t from = std::min(pending, std::max<int64_t>(0, uncounted));
    std::vector<double> scratch(static_cast<size_t>(at_.F + at_.F * at_.F));
    const FilterFit job = {at_.F, pending - from, learned_ + at_.f + from * at_.F, learned_ + at_.mean,
                           learned_ + at_.sd, learned_ + at_.y + from, learned_ + at_.outcome + from, kObserved,
                           kSdEps, learned_ + at_.A, learned_ + at_.b, learned_ + at_.w, scratch.data()};
    if (!fit(job)) return false;
    numbers_[TKF_SLOT_FITTED] = 1;
    if (first) {  // The threshold looks back on what the warm-up's tokens would have scored.
      Threshold threshold(spec_, scores, numbers_, true);
      for (int64_t row = 0; row < pending; row++) {
        const double score = -predict(at_.f + row * at_.F);
        threshold.push(spec_.invert ? -score : score);
      }
    }
    numbers_[TKF_SLOT_PENDING] = 0;
    numbers_[TKF_SLOT_SETTLED] = 0;
    return true;
  }

 private:
  int64_t number(int slot) const { return static_cast<int64_t>(numbers_[slot]); }

  // Of the row of features at `f` of the state.
  double predict(int64_t f) const { return at_.predict(learned_, learned_ + f); }

  const tkf_filter_spec& spec_;
  LearnedLayout at_;
  double* numbers_;
  double* learned_;
};

}  // namespace tkf
