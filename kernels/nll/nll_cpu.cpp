// Losses, divergence and agreement straight from logits: no probability is stored.
// A row is read in stretches of 1024 values, so that the second look at a stretch (for e^x) finds it in the cache; the
// sums of a stretch are float lanes, those of a row double.
#include <cmath>

#include "../common/simd.h"

namespace tkf::TKF_NAMESPACE {

constexpr int64_t kStretch = 1024;

// Largest of count >= 1 values; NaN where one of them is.
static TKF_INLINE float maximum_of(const float* x, int64_t count) {
  vf best = set1(-INFINITY), poison = set1(0);
  int64_t i = 0;
  for (; i + W <= count; i += W) {
    const vf v = load(x + i);
    best = maximum(v, best);
    poison = poison + (v - v) * set1(0);  // NaN from NaN and from infinities
  }
  float found = largest(best), bad = sum(poison);
  for (; i < count; i++) {
    found = larger(found, x[i]);
    bad += (x[i] - x[i]) * 0;
  }
  if (bad == bad) return found;
  for (i = 0; i < count; i++) {
    if (x[i] != x[i]) return NAN;
  }
  return found;
}

static TKF_INLINE double sum_in_double(vf v) {
  float lanes[W];
  store(lanes, v);
  double total = 0;
  for (float lane : lanes) total += static_cast<double>(lane);
  return total;
}

// sum of e^(x - shift) and, where `other` is given, of e^(x - shift) * (x - other), where a term of e^... = 0 is 0.
// At most 64 additions a lane before a sum goes on in double.
static TKF_INLINE void exponential_sums(const float* x, const float* other, int64_t count, float shift, double* sum_e,
                                        double* sum_ed) {
  const vf shift_lanes = set1(shift);
  for (int64_t at = 0; at < count; at += 64 * W) {
    const int64_t end = smaller(count, at + 64 * W);
    vf e_lanes = set1(0), ed_lanes = set1(0);
    for (int64_t i = at; i < end; i += W) {
      const int lanes = static_cast<int>(smaller(end - i, static_cast<int64_t>(W)));
      const bool whole = lanes == W;
      const vf v = whole ? load(x + i) : load_part(x + i, lanes);
      vf e = exponential(v - shift_lanes);
      if (!whole) {
        float kept[W];
        store(kept, e);
        e = load_part(kept, lanes);
      }
      e_lanes = e_lanes + e;
      if (other != nullptr) {
        const vf difference = v - (whole ? load(other + i) : load_part(other + i, lanes));
        ed_lanes = fma(e, (vf)((vi)difference & (vi)(e != set1(0))), ed_lanes);
      }
    }
    *sum_e += sum_in_double(e_lanes);
    *sum_ed += sum_in_double(ed_lanes);
  }
}

// The running log-sum-exp of a row.
struct LogSum {
  double sum = 0, weighted = 0;
  float shift = -INFINITY;

  TKF_INLINE void add(const float* x, const float* other, int64_t count) {
    const float found = maximum_of(x, count);
    if (found == -INFINITY) return;  // adds nothing
    if (!(found <= shift)) {
      // Nothing to rescale at first; e^(-inf - found) would be 0 all the same.
      const double factor = sum == 0 ? 0 : exp(static_cast<double>(shift) - static_cast<double>(found));
      sum *= factor;
      weighted *= factor;
      shift = found;
    }
    exponential_sums(x, other, count, shift, &sum, &weighted);
  }
  TKF_INLINE double value() const { return static_cast<double>(shift) + log(sum); }
};

int32_t nll_compute(tkf_context* context, const tkf_nll_compute_args& a) {
  const float* logits = as<float>(a.logits);
  const int32_t* targets = as<int32_t>(a.targets);
  double* nll = as<double>(a.nll);
  const int64_t vocab = a.vocab;
  parallel_ranges(context, a.rows, larger(int64_t{1}, 8192 / vocab), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row++) {
      const float* x = logits + row * vocab;
      LogSum total;
      for (int64_t at = 0; at < vocab; at += kStretch) total.add(x + at, nullptr, smaller(kStretch, vocab - at));
      nll[row] = total.value() - static_cast<double>(x[targets[row]]);
    }
  });
  return TKF_STATUS_OK;
}

// First index of the largest value, given that value.
static TKF_INLINE int64_t first_index_of(const float* x, int64_t count, float value) {
  constexpr int64_t piece = 64;  // looked through without a branch
  int64_t i = 0;
  for (; i + piece <= count; i += piece) {
    int found = 0;
    for (int64_t j = 0; j < piece; j++) found |= x[i + j] == value;
    if (found != 0) break;
  }
  for (; i < count; i++) {
    if (x[i] == value) return i;
  }
  return -1;  // a row with NaN never agrees
}

int32_t logits_compare(tkf_context* context, const tkf_logits_compare_args& a) {
  const float *base = as<float>(a.base), *other = as<float>(a.other);
  const int32_t* targets = as<int32_t>(a.targets);
  double *nll = as<double>(a.nll), *base_nll = as<double>(a.base_nll), *kl = as<double>(a.kl);
  uint8_t* agree = as<uint8_t>(a.agree);
  const int64_t vocab = a.vocab;
  parallel_ranges(context, a.rows, larger(int64_t{1}, 8192 / vocab), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row++) {
      const float *p = base + row * vocab, *q = other + row * vocab;
      LogSum of_base, of_other;
      for (int64_t at = 0; at < vocab; at += kStretch) {
        const int64_t count = smaller(kStretch, vocab - at);
        of_base.add(p + at, q + at, count);
        of_other.add(q + at, nullptr, count);
      }
      const double log_p = of_base.value(), log_q = of_other.value();
      base_nll[row] = log_p - static_cast<double>(p[targets[row]]);
      nll[row] = log_q - static_cast<double>(q[targets[row]]);
      // sum of P*(ln P - ln Q) = E_P[p - q] - ln Z_p + ln Z_q, never below 0 but for rounding.
      kl[row] = larger(0.0, of_base.weighted / of_base.sum - log_p + log_q);
      const int64_t top = first_index_of(p, vocab, of_base.shift);
      agree[row] = top >= 0 && top == first_index_of(q, vocab, of_other.shift);
    }
  });
  return TKF_STATUS_OK;
}

}  // namespace tkf::TKF_NAMESPACE
