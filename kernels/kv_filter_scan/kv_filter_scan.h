// What the bodies of the filter (kv_filter_scan_cpu.cpp, once per instruction-set level) do for its entry points.
#pragma once
#include <cstdint>

namespace tkf {

// Cosines of tokens with the anchors, and the anchors' steps; H = kv_heads, d = head_dim.
struct FilterMeasure {
  int64_t rows;               // tokens
  int kv_heads, head_dim, kv_dtype;
  const void *keys, *values;  // [rows, H, d] of kv_dtype
  float *anchor_k, *anchor_v;  // [H, d]
  bool measure;               // fill `cosines`, each row with the anchors before it
  bool absorb;                // let the anchors take each row in
  bool running_mean;          // decay m / (m + 1) where m tokens were absorbed before, instead of gamma
  double gamma, absorbed;     // m before the first row; the first token of all sets the anchor
  double* cosines;            // [rows, 2, H]: of keys, of values; NaN where a number is not finite
};

// Features of the `learned` rule that need no anchor, at `features` [rows, stride]: the logarithms of norms, then the
// projections, then the logarithm of the query's norm; groups that are not asked for take no room.
struct FilterFeatures {
  int64_t rows;
  int kv_size, kv_dtype, hidden_size, projections, queries_size, stride;
  bool norms, project, query;
  const void *keys, *values;                 // [rows, kv_size] of kv_dtype
  const float *residual, *normed, *queries;  // [rows, hidden_size], likewise, [rows, queries_size]
  const uint8_t* signs;                      // [hidden_size, sign_stride] of SignCache
  int64_t sign_stride;
  double* features;
};

// Features of local attention, 3 * heads + 1 at `features` [rows, stride], and what they remember; see
// lib/methods/rules/local_features.ts, whose results they must equal.
struct FilterLocal {
  int64_t rows, position;  // of the first row
  int heads, kv_heads, head_dim, kv_dtype, sinks, recent, stride;
  const void* keys;      // [rows, kv_heads, head_dim] of kv_dtype
  const float* queries;  // [rows, heads, head_dim]
  double* memory;        // LearnedLayout::local
  double* features;
};

// One fit of the `learned` rule: the observed rows of a block enter A and b, and A w = b is solved by Cholesky's
// decomposition. Arrays of LearnedLayout.
struct FilterFit {
  int64_t F, rows;
  const double *f, *mean, *sd;  // raw features [rows, F], and what standardises them [F]
  const double *y, *outcome;    // [rows]; rows whose outcome is not `observed` are left out
  double observed, sd_eps;      // sd_eps is added to a deviation before dividing by it
  double *A, *b, *w;            // [F, F], [F], [F]
  double* scratch;              // [F + F * F]
};

}  // namespace tkf
