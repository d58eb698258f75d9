// tkf_filter_scan of the CPU library: the recurrence of lib/filter/scan.ts.
#include "kv_filter_scan.h"

#include <cstring>

#include "../common/cpu_context.h"
#include "check_filter.h"
#include "decide.h"
#include "fit.h"
#include "learned.h"
#include "signs.h"

namespace tkf {
namespace {

// Rows measured at once where anchors do not wait for decisions: bounds the scratch memory of a long prefill.
constexpr int64_t kChunk = 512;

class Scan {
 public:
  // May throw std::bad_alloc, as all of this class.
  Scan(tkf_context* context, const tkf_filter_scan_args& a)
      : context_(context),
        a_(a),
        spec_(a.spec),
        numbers_(as<double>(a.states.numbers)),
        scores_(as<double>(a.states.scores)),
        learns_(learns(a.spec)),
        size_(int64_t{a.spec.kv_heads} * a.spec.head_dim),
        learner_(a.spec, numbers_, as<double>(a.states.learned)),
        threshold_(a.spec, scores_, numbers_, a.count == 1, &cpu(context)->sorted_scores) {}

  // Decides rows until all are done, or a block ends, or a number is not finite: then `taken` rows are done.
  int32_t run(Check& check, int64_t* taken) {
    int64_t rows = a_.count;
    if (learns_) {
      rows = std::min(rows, learner_.room());
      if (rows == 0) {
        return check.fail(TKF_STATUS_STATE,
                          "found %" PRId64 " kept tokens of the last block not yet observed, expected their outcomes "
                          "first", learner_.open());
      }
      measure_features(rows);
    }
    const bool in_order = spec_.absorb == TKF_ABSORB_KEPT && spec_.threshold != TKF_THRESHOLD_TOPK;
    cosines_.resize(static_cast<size_t>((in_order ? 1 : std::min(rows, kChunk)) * 2 * spec_.kv_heads));
    bool finite = true;
    while (finite && *taken < rows) {
      finite = in_order ? step(taken) : run_chunk(std::min(rows - *taken, kChunk), taken);
    }
    if (!finite) {
      return check.fail(TKF_STATUS_VALUE, "found a number that is not finite at token %.0f, expected finite inputs",
                        numbers_[TKF_SLOT_SEEN]);
    }
    if (spec_.threshold == TKF_THRESHOLD_TOPK) {
      numbers_[TKF_SLOT_SKIPPED] =
          static_cast<double>(skip_highest(spec_, as<double>(a_.columns), rows, as<uint8_t>(a_.keep)));
    }
    if (learns_) threshold_.keep(&cpu(context_)->sorted_scores);
    if (learns_ && !learner_.fit_if_complete(scores_, fits_on(context_))) return fail_fit(check);
    return TKF_STATUS_OK;
  }

 private:
  // Anchors that take in every token: all rows measured, then decided.
  bool run_chunk(int64_t rows, int64_t* taken) {
    const size_t bytes = static_cast<size_t>(size_) * sizeof(float);
    saved_.resize(2 * static_cast<size_t>(size_));
    memcpy(saved_.data(), a_.states.anchor_k.data, bytes);
    memcpy(saved_.data() + size_, a_.states.anchor_v.data, bytes);
    const int64_t first = *taken;
    measure(first, rows, true, true);
    int64_t done = 0;
    while (done < rows && decide(first + done, row_cosines(done))) done++;
    if (done < rows) {  // the anchors went too far
      memcpy(a_.states.anchor_k.data, saved_.data(), bytes);
      memcpy(a_.states.anchor_v.data, saved_.data() + size_, bytes);
      measure(first, done, false, true);
    }
    numbers_[TKF_SLOT_ABSORBED] += static_cast<double>(done);
    *taken += done;
    return done == rows;
  }

  // Anchors that wait for the decision.
  bool step(int64_t* taken) {
    measure(*taken, 1, true, false);
    if (!decide(*taken, row_cosines(0))) return false;
    if (as<uint8_t>(a_.keep)[*taken]) {
      measure(*taken, 1, false, true);
      numbers_[TKF_SLOT_ABSORBED]++;
    }
    ++*taken;
    return true;
  }

  const double* row_cosines(int64_t row) const { return cosines_.data() + row * 2 * spec_.kv_heads; }

  void measure(int64_t first, int64_t rows, bool cosines, bool absorb) {
    const int64_t bytes = first * size_ * (a_.kv_dtype == TKF_DTYPE_F32 ? 4 : 2);
    kernels().filter_measure(
        context_, {rows, spec_.kv_heads, spec_.head_dim, a_.kv_dtype, as<char>(a_.keys) + bytes,
                   as<char>(a_.values) + bytes, as<float>(a_.states.anchor_k), as<float>(a_.states.anchor_v), cosines,
                   absorb, spec_.anchor == TKF_ANCHOR_MEAN, spec_.gamma, numbers_[TKF_SLOT_ABSORBED],
                   cosines ? cosines_.data() : nullptr});
  }

  void measure_features(int64_t rows) {
    const int groups = spec_.features;
    const int64_t F = learner_.layout().F;
    features_.resize(static_cast<size_t>(rows * F));
    kernels().filter_features(
        context_, {rows, static_cast<int>(size_), a_.kv_dtype, spec_.hidden_size, spec_.projections,
                   spec_.queries_size, static_cast<int>(F), (groups & kNorm) != 0, projects(spec_),
                   (groups & kQuery) != 0, a_.keys.data, a_.values.data, as<float>(a_.residual), as<float>(a_.normed),
                   as<float>(a_.queries), projects(spec_) ? cpu(context_)->signs.get(spec_) : nullptr,
                   SignCache::stride(spec_.projections),
                   features_.data()});
    if (groups & kLocal) measure_local(rows);
  }

  // Features of local attention, of the rows before one that is not finite: what is remembered cannot be taken back.
  void measure_local(int64_t rows) {
    const LearnedLayout& at = learner_.layout();
    const int64_t own = 3 * int64_t{spec_.heads} + 1;
    int64_t finite = 0;
    while (finite < rows && is_finite(finite)) finite++;
    kernels().filter_local(
        context_, {finite, static_cast<int64_t>(numbers_[TKF_SLOT_SEEN]), spec_.heads, spec_.kv_heads, spec_.head_dim,
                   a_.kv_dtype, spec_.sinks, spec_.recent, static_cast<int>(at.F), a_.keys.data, as<float>(a_.queries),
                   as<double>(a_.states.learned) + at.local,
                   features_.data() + at.F - 1 - own - (spec_.features & kSimilarity ? 4 : 0)});
  }

  // Whether all that a row's features come from is finite.
  bool is_finite(int64_t row) const {
    const auto floats = [row](const tkf_buffer& x, int64_t width) {
      uint32_t wrong = 0;
      const uint32_t* bits = as<uint32_t>(x) + row * width;
      for (int64_t i = 0; i < width; i++) wrong |= (bits[i] & 0x7F800000u) == 0x7F800000u;
      return wrong == 0;
    };
    const auto halves = [row](const tkf_buffer& x, int64_t width, uint16_t exponent) {
      uint16_t wrong = 0;
      const uint16_t* bits = as<uint16_t>(x) + row * width;
      for (int64_t i = 0; i < width; i++) wrong |= (bits[i] & exponent) == exponent;
      return wrong == 0;
    };
    const auto values = [&](const tkf_buffer& x) {
      return a_.kv_dtype == TKF_DTYPE_F32 ? floats(x, size_)
                                          : halves(x, size_, a_.kv_dtype == TKF_DTYPE_F16 ? 0x7C00u : 0x7F80u);
    };
    return values(a_.keys) && values(a_.values) && floats(a_.residual, spec_.hidden_size) &&
           floats(a_.normed, spec_.hidden_size) && floats(a_.queries, spec_.queries_size);
  }

  const Kernels& kernels() const { return *cpu(context_)->kernels; }

  // One token, but for its anchors. False, with nothing changed, where a number is not finite.
  bool decide(int64_t row, const double* cosines) {
    const double t = numbers_[TKF_SLOT_SEEN];
    Moments m;
    moments_of(cosines, spec_.kv_heads, &m.mu_k, &m.var_k);
    moments_of(cosines + spec_.kv_heads, spec_.kv_heads, &m.mu_v, &m.var_v);
    if (!std::isfinite(m.mu_k + m.mu_v)) return false;
    Fused fused = {kUndefined, constant_key_weight(spec_)};
    if (learns_) {
      if (t == 0) m = {0, 0, 0, 0};
      if (!learner_.add(m, features_.data() + row * learner_.layout().F)) return false;
      fused.score = learner_.score();
    } else if (t > 0) {
      fused = fuse(spec_, m, static_cast<uint64_t>(t));
    }
    const double score = spec_.invert ? -fused.score : fused.score, theta = threshold_.next();
    const bool decided = t >= first_decided(spec_), skip = decided && score > theta;
    write_columns(as<double>(a_.columns) + row, a_.count, score, theta, t == 0, m, fused.key_weight);
    as<uint8_t>(a_.keep)[row] = !skip;
    numbers_[TKF_SLOT_SEEN] = t + 1;
    if (decided) numbers_[TKF_SLOT_DECIDED]++;
    if (skip) numbers_[TKF_SLOT_SKIPPED]++;
    if (!std::isnan(score)) threshold_.push(score);
    if (learns_) learner_.settle(skip);
    return true;
  }

  tkf_context* const context_;
  const tkf_filter_scan_args& a_;
  const tkf_filter_spec& spec_;
  double *const numbers_, *const scores_;
  const bool learns_;
  const int64_t size_;
  Learner learner_;
  Threshold threshold_;
  std::vector<double> cosines_;   // [rows of a chunk, 2, H]
  std::vector<double> features_;  // [rows, F], without the similarities
  std::vector<float> saved_;      // anchors before the chunk
};

}  // namespace

bool check_args(Check& check, const tkf_filter_scan_args& a) {
  check_spec(check, a.spec);
  check_states(check, a.spec, a.states, 1, false);
  check.size("kv_heads * head_dim", check.product({a.spec.kv_heads, a.spec.head_dim}), 1, INT32_MAX);
  check.size("count", a.count, 1);
  check_scan(check, a, a.count);
  check_contents(check, a.spec, a.states);
  if (check.ok() && a.spec.threshold == TKF_THRESHOLD_TOPK && as<double>(a.states.numbers)[TKF_SLOT_SEEN] > 0) {
    check.fail(TKF_STATUS_STATE, "found %.0f tokens before, expected none, since \"topk\" looks at a whole sequence",
               as<double>(a.states.numbers)[TKF_SLOT_SEEN]);
  }
  return true;
}

int32_t filter_scan(tkf_context* context, const tkf_filter_scan_args& a) {
  Check check(context);
  int64_t* taken = as<int64_t>(a.taken);
  *taken = 0;
  try {
    return Scan(context, a).run(check, taken);
  } catch (...) {  // of memory alone, but nothing may cross the ABI
    return TKF_STATUS_MEMORY;
  }
}

}  // namespace tkf
