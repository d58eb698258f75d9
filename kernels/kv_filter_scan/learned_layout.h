// Where the numbers of the `learned` rule lie in a state's array `learned`; see layOut in lib/methods/learned_fit.ts.
#pragma once
#include "score.h"

namespace tkf {

enum FeatureGroup { kSimilarity = 1, kNorm = 2, kProjection = 4, kQuery = 8 };

enum Outcome { kSkipped = 0, kKept = 1, kObserved = 2 };

constexpr double kNormEps = 1e-6;  // added to norms before their logarithm
constexpr double kSdEps = 1e-3;    // added to a feature's standard deviation before dividing by it

struct LearnedLayout {
  int64_t F, P;  // features, the bias included; rows of the pending block at most
  int64_t mean, sd, A, b, w, f, y, outcome, length;

  TKF_BOTH explicit LearnedLayout(const tkf_filter_spec& spec) {
    const int groups = spec.features;
    F = (groups & kSimilarity ? 4 : 0) + (groups & kNorm ? 3 : 0) + (groups & kProjection ? spec.projections : 0) +
        (groups & kQuery ? 1 : 0) + 1;
    P = spec.warmup > spec.block ? spec.warmup : spec.block;
    mean = 0;
    sd = F;
    A = 2 * F;
    b = A + F * F;
    w = b + F;
    f = w + F;
    y = f + P * F;
    outcome = y + P;
    length = outcome + P;
  }

  // Standardised feature i of the row of raw features `f`.
  TKF_BOTH double standardised(const double* learned, const double* f, int64_t i) const {
    return i == F - 1 ? 1 : (f[i] - learned[mean + i]) / (learned[sd + i] + kSdEps);
  }
};

// Length of the block whose first token is `first`: blocks begin at 0, at `warmup`, and at every multiple of `block`
// above it.
TKF_BOTH inline int64_t block_length(const tkf_filter_spec& spec, int64_t first) {
  return first < spec.warmup ? spec.warmup - first : spec.block - first % spec.block;
}

}  // namespace tkf
