// Checks of a filter's options and of its memory, which comes back from the caller at every call.
#pragma once
#include <cmath>

#include "../common/check.h"
#include "learned.h"

namespace tkf {

inline void check_number(Check& check, const char* name, double found, double least, double most) {
  if (check.ok() && !(found >= least && found <= most)) {
    check.fail(TKF_STATUS_VALUE, "found %s = %g, expected a number in [%g, %g]", name, found, least, most);
  }
}

// The ranges of lib/filter/options.ts.
inline void check_spec(Check& check, const tkf_filter_spec* spec, uint64_t bytes) {
  check.buffer("spec", spec, bytes, sizeof(tkf_filter_spec), 8);
  if (!check.ok()) return;
  const tkf_filter_spec& s = *spec;
  const double largest = 1.7976931348623157e308;
  check.size("layer", s.layer, 0, INT32_MAX);
  check.size("kv_heads", s.kv_heads, 1, 65536);
  check.size("head_dim", s.head_dim, 1, 65536);
  check_number(check, "fusion", s.fusion, 0, TKF_FUSION_LEARNED);
  check_number(check, "invert", s.invert, 0, 1);
  check_number(check, "anchor", s.anchor, 0, TKF_ANCHOR_MEAN);
  check_number(check, "absorb", s.absorb, 0, TKF_ABSORB_KEPT);
  check_number(check, "warmup", s.warmup, 0, 1000000);
  check_number(check, "threshold", s.threshold, 0, TKF_THRESHOLD_TOPK);
  check_number(check, "window", s.window, 1, 65536);
  check_number(check, "chunk", s.chunk, 0, INT32_MAX);
  check_number(check, "skip_ratio", s.skip_ratio, 0, 1);
  check_number(check, "tau", s.tau, 0, 64);
  check_number(check, "lambda", s.lambda, 0, 64);
  check_number(check, "eps", s.eps, 5e-324, 1);
  check_number(check, "alpha", s.alpha, 0, 1);
  check_number(check, "gamma", s.gamma, 0, 0.99999999999999989);
  check_number(check, "theta", s.theta, -largest, largest);
  check_number(check, "eta", s.eta, 5e-324, 10);
  check_number(check, "block", s.block, 1, 65536);
  check_number(check, "projections", s.projections, 0, 256);
  check_number(check, "features", s.features, 0, 15);
  check_number(check, "ridge", s.ridge, 5e-324, 1e12);
  if (s.fusion != TKF_FUSION_LEARNED) return;
  check.size("hidden_size", s.hidden_size, 1, 16777216);
  check_number(check, "warmup under \"learned\"", s.warmup, 8, 65536);
  check_number(check, "threshold under \"learned\"", s.threshold, TKF_THRESHOLD_BUDGET, TKF_THRESHOLD_WINDOW);
  check_number(check, "absorb under \"learned\"", s.absorb, TKF_ABSORB_ALL, TKF_ABSORB_ALL);
}

// A whole number in slot `slot`, in [0, most].
inline void check_slot(Check& check, const double* numbers, int slot, double most) {
  if (check.ok() && !(numbers[slot] >= 0 && numbers[slot] <= most && numbers[slot] == std::floor(numbers[slot]))) {
    check.fail(TKF_STATUS_STATE, "found %g in slot %d of the state, expected a whole number from 0 to %g",
               numbers[slot], slot, most);
  }
}

// The arrays of a state but its anchors; call after check_spec.
inline void check_state(Check& check, const tkf_filter_spec* spec, const double* numbers, uint64_t numbers_bytes,
                        const double* scores, uint64_t scores_bytes, const double* learned, uint64_t learned_bytes) {
  if (!check.ok()) return;
  const int64_t capacity = score_capacity(*spec);
  check.buffer("numbers", numbers, numbers_bytes, TKF_NUM_SLOTS * 8, 8);
  check.buffer("scores", scores, scores_bytes, capacity * 8, 8);
  const bool learns = spec->fusion == TKF_FUSION_LEARNED;
  if (learns) check.buffer("learned", learned, learned_bytes, LearnedLayout(*spec).length * 8, 8);
  if (!check.ok()) return;
  const double most = 9007199254740991;
  check_slot(check, numbers, TKF_SLOT_SEEN, most);
  check_slot(check, numbers, TKF_SLOT_SCORED, most);
  check_slot(check, numbers, TKF_SLOT_ABSORBED, numbers[TKF_SLOT_SEEN]);
  check_slot(check, numbers, TKF_SLOT_DECIDED, numbers[TKF_SLOT_SEEN]);
  check_slot(check, numbers, TKF_SLOT_SKIPPED, numbers[TKF_SLOT_DECIDED]);
  const int64_t held = check.ok() ? std::min(capacity, static_cast<int64_t>(numbers[TKF_SLOT_SCORED])) : 0;
  bool finite = true;
  for (int64_t i = 0; i < held; i++) finite &= std::isfinite(scores[i]);
  finite = finite && std::isfinite(numbers[TKF_SLOT_THETA]) && std::isfinite(numbers[TKF_SLOT_SDW]);
  check.require(finite, TKF_STATUS_STATE, "found a score or threshold in the state that is not finite");
  if (!learns || !check.ok()) return;
  check_slot(check, numbers, TKF_SLOT_FITTED, 1);
  check_slot(check, numbers, TKF_SLOT_PENDING,
             std::min(numbers[TKF_SLOT_SEEN], static_cast<double>(LearnedLayout(*spec).P)));
  check_slot(check, numbers, TKF_SLOT_SETTLED, numbers[TKF_SLOT_PENDING]);
  if (!check.ok()) return;
  const Learner learner(*spec, const_cast<double*>(numbers), const_cast<double*>(learned));
  check.require(learner.room() >= 0, TKF_STATUS_STATE, "found more pending tokens in the state than a block has");
}

}  // namespace tkf
