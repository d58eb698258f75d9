// Checks of a filter's options, of its memory, which comes back from the caller at every call, and of what it reads.
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

// The ranges of the table in lib/methods/bind/option_table.ts, to which ffi/library/abi_test.ts holds them.
inline void check_spec(Check& check, const tkf_filter_spec& s) {
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
  const bool local = !check.on_device();  // the CPU library alone has what `learned` asks for with local attention
  check_number(check, "features", s.features, 0, local ? 31 : 15);
  check_number(check, "recent", s.recent, 0, 65536);
  check_number(check, "sinks", s.sinks, 0, 1024);
  check_number(check, "first_outcome", s.first_outcome, 0, local ? INT32_MAX : 0);
  check_number(check, "ridge", s.ridge, 5e-324, 1e12);
  if (s.fusion != TKF_FUSION_LEARNED) return;
  check.size("hidden_size", s.hidden_size, 1, 16777216);
  check_number(check, "warmup under \"learned\"", s.warmup, 8, 65536);
  check_number(check, "threshold under \"learned\"", s.threshold, TKF_THRESHOLD_BUDGET, TKF_THRESHOLD_WINDOW);
  check_number(check, "absorb under \"learned\"", s.absorb, TKF_ABSORB_ALL, TKF_ABSORB_ALL);
  if ((s.features & kLocal) == 0) return;
  check.size("heads", s.heads, 1, 65536);
  check.require(check.ok() && s.heads % s.kv_heads == 0, TKF_STATUS_SHAPE,
                "found heads that KV heads cannot share evenly, expected a multiple");
}

inline bool learns(const tkf_filter_spec& spec) { return spec.fusion == TKF_FUSION_LEARNED; }
inline bool projects(const tkf_filter_spec& spec) {
  return learns(spec) && (spec.features & kProjection) && spec.projections > 0;
}
inline void check_learns(Check& check, const tkf_filter_spec& spec) {
  check.require(learns(spec), TKF_STATUS_STATE, "found a rule that learns nothing, expected \"learned\"");
}

inline int32_t fail_fit(Check& check) {
  return check.fail(TKF_STATUS_STATE, "found a matrix in the state that is not positive definite");
}

// What a state of one sequence holds, where it can be read.
inline void check_contents(Check& check, const tkf_filter_spec& spec, const tkf_filter_states& states) {
  if (!check.readable()) return;
  const Numbers& n = *as<Numbers>(states.numbers);
  double most = 0;
  const int slot = wrong_slot(spec, n, &most);
  if (slot >= 0) {
    check.fail(TKF_STATUS_STATE, "found %g in slot %d of the state, expected a whole number from 0 to %g",
               as<double>(states.numbers)[slot], slot, most);
    return;
  }
  const int64_t held = std::min(score_capacity(spec), static_cast<int64_t>(n.scored));
  bool finite = std::isfinite(n.theta) && std::isfinite(n.sdw);
  for (int64_t i = 0; i < held; i++) finite &= std::isfinite(as<double>(states.scores)[i]);
  check.require(finite, TKF_STATUS_STATE, "found a score or threshold in the state that is not finite");
  check.require(!learns(spec) || room_of(spec, n) >= 0, TKF_STATUS_STATE,
                "found more pending tokens in the state than a block has");
}

// The arrays of a batch's states but anchors and signs. Call after check_spec, as all below.
inline void check_memory(Check& check, const tkf_filter_spec& spec, const tkf_filter_states& states, int64_t batch) {
  if (!check.ok()) return;
  check.array<double>("numbers", states.numbers, {batch, TKF_NUM_SLOTS});
  check.array<double>("scores", states.scores, {batch, score_capacity(spec)});
  if (learns(spec)) check.array<double>("learned", states.learned, {batch, LearnedLayout(spec).length});
}

// All of them. `signs`: those too.
inline void check_states(Check& check, const tkf_filter_spec& spec, const tkf_filter_states& states, int64_t batch,
                         bool signs) {
  check_memory(check, spec, states, batch);
  check.array<float>("anchor_k", states.anchor_k, {batch, spec.kv_heads, spec.head_dim});
  check.array<float>("anchor_v", states.anchor_v, {batch, spec.kv_heads, spec.head_dim});
  if (signs && projects(spec)) check.array<float>("signs", states.signs, {spec.projections, spec.hidden_size});
}

// The tensors [rows, ...] of `learned` that a scan or a step reads.
template <class Args>
inline void check_features(Check& check, const Args& a, int64_t rows) {
  const tkf_filter_spec& spec = a.spec;
  if (!learns(spec)) return;
  check.array<float>("residual", a.residual, {rows, spec.hidden_size});
  check.array<float>("normed", a.normed, {rows, spec.hidden_size});
  if ((spec.features & (kQuery | kLocal)) == 0) return;
  const int64_t own = int64_t{spec.heads} * spec.head_dim;
  const bool local = (spec.features & kLocal) != 0;
  check.size("queries_size", spec.queries_size, local ? own : 1, local ? own : INT32_MAX);
  check.array<float>("queries", a.queries, {rows, spec.queries_size});
}
// What a scan of `rows` rows reads and gives.
inline void check_scan(Check& check, const tkf_filter_scan_args& a, int64_t rows) {
  check.dtype("keys", a.kv_dtype);
  check.values("keys", a.keys, a.kv_dtype, {rows, a.spec.kv_heads, a.spec.head_dim});
  check.values("values", a.values, a.kv_dtype, {rows, a.spec.kv_heads, a.spec.head_dim});
  check_features(check, a, rows);
  check.array<uint8_t>("keep", a.keep, {rows});
  check.array<double>("columns", a.columns, {rows, 7});
  check.array<int64_t>("taken", a.taken, {1});
}

}  // namespace tkf
