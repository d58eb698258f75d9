// Where the numbers of the `learned` rule lie in a state's array `learned`; see layOut in lib/methods/rules/learned_fit.ts.
#pragma once
#include <cstddef>

#include "score.h"

namespace tkf {

enum FeatureGroup { kSimilarity = 1, kNorm = 2, kProjection = 4, kQuery = 8, kLocal = 16 };

enum Outcome { kSkipped = 0, kKept = 1, kObserved = 2 };

constexpr double kNormEps = 1e-6;  // added to norms before their logarithm
constexpr double kSdEps = 1e-3;    // added to a feature's standard deviation before dividing by it

struct LearnedLayout {
  int64_t F, P;  // features, the bias included; rows of the pending block at most
  int64_t mean, sd, A, b, w, f, y, outcome;
  int64_t local;  // what the features of local attention remember, if asked for; see lib/methods/rules/local_features.ts
  int64_t length;

  TKF_BOTH explicit LearnedLayout(const tkf_filter_spec& spec) {
    const int groups = spec.features;
    F = (groups & kSimilarity ? 4 : 0) + (groups & kNorm ? 3 : 0) + (groups & kProjection ? spec.projections : 0) +
        (groups & kQuery ? 1 : 0) + (groups & kLocal ? 3 * int64_t{spec.heads} + 1 : 0) + 1;
    P = spec.warmup > spec.block ? spec.warmup : spec.block;
    mean = 0;
    sd = F;
    A = 2 * F;
    b = A + F * F;
    w = b + F;
    f = w + F;
    y = f + P * F;
    outcome = y + P;
    local = outcome + P;
    const int64_t rows = groups & kLocal ? int64_t{spec.sinks} + spec.recent + 3 : 0;
    length = local + rows * spec.kv_heads * spec.head_dim;
  }

  // Standardised feature i of the row of raw features `f`.
  TKF_BOTH double standardised(const double* learned, const double* f, int64_t i) const {
    return i == F - 1 ? 1 : (f[i] - learned[mean + i]) / (learned[sd + i] + kSdEps);
  }
  // The outcome that the fit expects of such a row.
  TKF_BOTH double predict(const double* learned, const double* f) const {
    double sum = 0;
    for (int64_t i = 0; i < F; i++) sum += standardised(learned, f, i) * learned[w + i];
    return sum;
  }
};

// Mean and population standard deviation over `count` tokens of the features from, from + step, ..., and an empty fit of
// them: A = ridge*I.
TKF_BOTH inline void start_fit(const tkf_filter_spec& spec, const LearnedLayout& at, double* learned, int64_t count,
                               int64_t from, int64_t step) {
  const double n = static_cast<double>(count);
  for (int64_t i = from; i < at.F; i += step) {
    const double* f = learned + at.f + i;
    double sum = 0, squares = 0;
    for (int64_t row = 0; row < count; row++) sum += f[row * at.F];
    const double mean = sum / n;
    for (int64_t row = 0; row < count; row++) squares += (f[row * at.F] - mean) * (f[row * at.F] - mean);
    const bool bias = i == at.F - 1;
    learned[at.mean + i] = bias ? 0 : mean;
    learned[at.sd + i] = bias ? 1 : sqrt(squares / n);
    learned[at.A + i * at.F + i] = spec.ridge;
  }
}

// Length of the block whose first token is `first`: blocks begin at 0, at `warmup`, and at every multiple of `block`
// above it.
TKF_BOTH inline int64_t block_length(const tkf_filter_spec& spec, int64_t first) {
  return first < spec.warmup ? spec.warmup - first : spec.block - first % spec.block;
}

// A state's numbers, in the order of their slots.
struct Numbers {
  double seen, absorbed, scored, decided, skipped, theta, sdw, pending, settled, fitted;
};
static_assert(offsetof(Numbers, fitted) == TKF_SLOT_FITTED * sizeof(double), "the order of the slots");

// Tokens that may still be decided before the next fit.
TKF_BOTH inline int64_t room_of(const tkf_filter_spec& spec, const Numbers& n) {
  return block_length(spec, static_cast<int64_t>(n.seen - n.pending)) - static_cast<int64_t>(n.pending);
}

// The first slot found that holds no whole number from 0 to *most, or -1.
TKF_BOTH inline int wrong_slot(const tkf_filter_spec& spec, const Numbers& n, double* most) {
  const double largest = 9007199254740991;
  int wrong = -1;
  const auto check = [&](int slot, double number, double limit) {
    if (wrong >= 0 || (number >= 0 && number <= limit && number == floor(number))) return;
    wrong = slot;
    *most = limit;
  };
  check(TKF_SLOT_SEEN, n.seen, largest);
  check(TKF_SLOT_SCORED, n.scored, largest);
  check(TKF_SLOT_ABSORBED, n.absorbed, n.seen);
  check(TKF_SLOT_DECIDED, n.decided, n.seen);
  check(TKF_SLOT_SKIPPED, n.skipped, n.decided);
  if (spec.fusion != TKF_FUSION_LEARNED) return wrong;
  check(TKF_SLOT_FITTED, n.fitted, 1);
  check(TKF_SLOT_PENDING, n.pending, smaller_of(n.seen, static_cast<double>(LearnedLayout(spec).P)));
  check(TKF_SLOT_SETTLED, n.settled, n.pending);
  return wrong;
}

}  // namespace tkf
