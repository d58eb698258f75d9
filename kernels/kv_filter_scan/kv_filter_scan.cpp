// Entry points of tkf_filter_scan and tkf_filter_observe: the recurrence of lib/filter/scan.ts.
#include "kv_filter_scan.h"

#include <cstring>

#include "../common/check.h"
#include "../common/cpu_context.h"
#include "check_filter.h"
#include "decide.h"
#include "learned.h"
#include "signs.h"

namespace tkf {
namespace {

// Rows measured at once where anchors do not wait for decisions: bounds the scratch memory of a long prefill.
constexpr int64_t kChunk = 512;

// Arguments of tkf_filter_scan, checked.
struct ScanCall {
  tkf_context* context;
  const tkf_filter_spec& spec;
  float *anchor_k, *anchor_v;
  double *numbers, *scores, *learned;
  int32_t kv_dtype;
  const char *keys, *values;
  const float *residual, *normed, *queries;
  int64_t count;
  uint8_t* keep;
  double* columns;
};

class Scan {
 public:
  // May throw std::bad_alloc, as all of this class.
  explicit Scan(const ScanCall& call)
      : call_(call),
        spec_(call.spec),
        learns_(call.spec.fusion == TKF_FUSION_LEARNED),
        size_(int64_t{call.spec.kv_heads} * call.spec.head_dim),
        learner_(call.spec, call.numbers, call.learned),
        threshold_(call.spec, call.scores, call.numbers, call.count == 1) {}

  // Decides rows until all are done, or a block ends, or a number is not finite: then `taken` rows are done.
  int32_t run(Check& check, int64_t* taken) {
    int64_t rows = call_.count;
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
                        call_.numbers[TKF_SLOT_SEEN]);
    }
    if (spec_.threshold == TKF_THRESHOLD_TOPK) {
      call_.numbers[TKF_SLOT_SKIPPED] =
          static_cast<double>(skip_highest(spec_, call_.columns, rows, call_.keep));
    }
    if (learns_ && !learner_.fit_if_complete(call_.scores)) return fail_fit(check);
    return TKF_STATUS_OK;
  }

  static int32_t fail_fit(Check& check) {
    return check.fail(TKF_STATUS_STATE, "found a matrix in the state that is not positive definite");
  }

 private:
  // Anchors that take in every token: all rows measured, then decided.
  bool run_chunk(int64_t rows, int64_t* taken) {
    const size_t bytes = static_cast<size_t>(size_) * sizeof(float);
    saved_.resize(2 * static_cast<size_t>(size_));
    memcpy(saved_.data(), call_.anchor_k, bytes);
    memcpy(saved_.data() + size_, call_.anchor_v, bytes);
    const int64_t first = *taken;
    measure(first, rows, true, true);
    int64_t done = 0;
    while (done < rows && decide(first + done, row_cosines(done))) done++;
    if (done < rows) {  // the anchors went too far
      memcpy(call_.anchor_k, saved_.data(), bytes);
      memcpy(call_.anchor_v, saved_.data() + size_, bytes);
      measure(first, done, false, true);
    }
    call_.numbers[TKF_SLOT_ABSORBED] += static_cast<double>(done);
    *taken += done;
    return done == rows;
  }

  // Anchors that wait for the decision.
  bool step(int64_t* taken) {
    measure(*taken, 1, true, false);
    if (!decide(*taken, row_cosines(0))) return false;
    if (call_.keep[*taken]) {
      measure(*taken, 1, false, true);
      call_.numbers[TKF_SLOT_ABSORBED]++;
    }
    ++*taken;
    return true;
  }

  const double* row_cosines(int64_t row) const { return cosines_.data() + row * 2 * spec_.kv_heads; }

  void measure(int64_t first, int64_t rows, bool cosines, bool absorb) {
    const int64_t bytes = first * size_ * (call_.kv_dtype == TKF_DTYPE_F32 ? 4 : 2);
    const FilterMeasure job = {rows, spec_.kv_heads, spec_.head_dim, call_.kv_dtype, call_.keys + bytes,
                               call_.values + bytes, call_.anchor_k, call_.anchor_v, cosines, absorb,
                               spec_.anchor == TKF_ANCHOR_MEAN, spec_.gamma, call_.numbers[TKF_SLOT_ABSORBED],
                               cosines ? cosines_.data() : nullptr};
    call_.context->kernels->filter_measure(call_.context, &job);
  }

  void measure_features(int64_t rows) {
    const int groups = spec_.features;
    const int64_t F = learner_.layout().F;
    const bool project = (groups & kProjection) && spec_.projections > 0;
    features_.resize(static_cast<size_t>(rows * F));
    const float* signs = project ? cpu(call_.context)->signs.get(spec_) : nullptr;
    const FilterFeatures job = {rows, static_cast<int>(size_), call_.kv_dtype, spec_.hidden_size, spec_.projections,
                                spec_.queries_size, static_cast<int>(F), (groups & kNorm) != 0, project,
                                (groups & kQuery) != 0, call_.keys, call_.values, call_.residual, call_.normed,
                                call_.queries, signs, features_.data()};
    call_.context->kernels->filter_features(call_.context, &job);
  }

  // One token, but for its anchors. False, with nothing changed, where a number is not finite.
  bool decide(int64_t row, const double* cosines) {
    double* numbers = call_.numbers;
    const double t = numbers[TKF_SLOT_SEEN];
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
      fused = fuse(spec_, m, static_cast<uint64_t>(t), spec_.chunk);
    }
    const double score = spec_.invert ? -fused.score : fused.score, theta = threshold_.next();
    const bool decided = t >= first_decided(spec_), skip = decided && score > theta;
    const bool moments = t > 0;
    const double column[7] = {score, theta, moments ? m.mu_k : kUndefined, moments ? m.var_k : kUndefined,
                              moments ? m.mu_v : kUndefined, moments ? m.var_v : kUndefined, fused.key_weight};
    for (int i = 0; i < 7; i++) call_.columns[i * call_.count + row] = column[i];
    call_.keep[row] = !skip;
    numbers[TKF_SLOT_SEEN] = t + 1;
    if (decided) numbers[TKF_SLOT_DECIDED]++;
    if (skip) numbers[TKF_SLOT_SKIPPED]++;
    if (!std::isnan(score)) threshold_.push(score);
    if (learns_) learner_.settle(skip);
    return true;
  }

  const ScanCall& call_;
  const tkf_filter_spec& spec_;
  const bool learns_;
  const int64_t size_;
  Learner learner_;
  Threshold threshold_;
  std::vector<double> cosines_;   // [rows of a chunk, 2, H]
  std::vector<double> features_;  // [rows, F], without the similarities
  std::vector<float> saved_;      // anchors before the chunk
};

}  // namespace
}  // namespace tkf

int32_t tkf_filter_scan(tkf_context* context, const tkf_filter_spec* spec, uint64_t spec_bytes, float* anchor_k,
                        uint64_t anchor_k_bytes, float* anchor_v, uint64_t anchor_v_bytes, double* numbers,
                        uint64_t numbers_bytes, double* scores, uint64_t scores_bytes, double* learned,
                        uint64_t learned_bytes, int32_t kv_dtype, const void* keys, uint64_t keys_bytes,
                        const void* values, uint64_t values_bytes, const float* residual, uint64_t residual_bytes,
                        const float* normed, uint64_t normed_bytes, const float* queries, uint64_t queries_bytes,
                        int64_t count, uint8_t* keep, uint64_t keep_bytes, double* columns, uint64_t columns_bytes,
                        int64_t* taken, uint64_t taken_bytes) {
  tkf::Check check(context);
  tkf::check_spec(check, spec, spec_bytes);
  tkf::check_state(check, spec, numbers, numbers_bytes, scores, scores_bytes, learned, learned_bytes);
  if (!check.ok()) return check.status();
  const int64_t size = check.product({spec->kv_heads, spec->head_dim});
  check.size("kv_heads * head_dim", size, 1, INT32_MAX);
  check.buffer("anchor_k", anchor_k, anchor_k_bytes, check.product({size, 4}));
  check.buffer("anchor_v", anchor_v, anchor_v_bytes, check.product({size, 4}));
  check.dtype("keys", kv_dtype, {TKF_DTYPE_F32, TKF_DTYPE_F16, TKF_DTYPE_BF16});
  check.size("count", count, 1);
  const int64_t alignment = tkf::alignment_of(kv_dtype);
  const int64_t kv_bytes = check.bytes_of(kv_dtype, check.product({count, size}));
  check.buffer("keys", keys, keys_bytes, kv_bytes, alignment);
  check.buffer("values", values, values_bytes, kv_bytes, alignment);
  if (spec->fusion == TKF_FUSION_LEARNED) {
    const int64_t hidden_bytes = check.product({count, spec->hidden_size, 4});
    check.buffer("residual", residual, residual_bytes, hidden_bytes);
    check.buffer("normed", normed, normed_bytes, hidden_bytes);
    if (spec->features & tkf::kQuery) {
      check.size("queries_size", spec->queries_size, 1);
      check.buffer("queries", queries, queries_bytes, check.product({count, spec->queries_size, 4}));
    }
  }
  check.buffer("keep", keep, keep_bytes, count, 1);
  check.buffer("columns", columns, columns_bytes, check.product({count, 7, 8}), 8);
  check.buffer("taken", taken, taken_bytes, 8, 8);
  if (check.ok() && spec->threshold == TKF_THRESHOLD_TOPK && numbers[TKF_SLOT_SEEN] > 0) {
    check.fail(TKF_STATUS_STATE, "found %.0f tokens before, expected none, since \"topk\" looks at a whole sequence",
               numbers[TKF_SLOT_SEEN]);
  }
  if (!check.ok()) return check.status();
  *taken = 0;
  const tkf::ScanCall call = {context, *spec, anchor_k, anchor_v, numbers, scores, learned, kv_dtype,
                              static_cast<const char*>(keys), static_cast<const char*>(values), residual, normed,
                              queries, count, keep, columns};
  try {
    return tkf::Scan(call).run(check, taken);
  } catch (...) {  // of memory alone, but nothing may cross the ABI
    return check.fail_memory();
  }
}

int32_t tkf_filter_observe(tkf_context* context, const tkf_filter_spec* spec, uint64_t spec_bytes, double* numbers,
                           uint64_t numbers_bytes, double* scores, uint64_t scores_bytes, double* learned,
                           uint64_t learned_bytes, const double* y, uint64_t y_bytes, int64_t count) {
  tkf::Check check(context);
  tkf::check_spec(check, spec, spec_bytes);
  if (check.ok() && spec->fusion != TKF_FUSION_LEARNED) {
    check.fail(TKF_STATUS_STATE, "found a rule that learns nothing, expected \"learned\"");
  }
  tkf::check_state(check, spec, numbers, numbers_bytes, scores, scores_bytes, learned, learned_bytes);
  check.size("count", count);
  check.buffer("y", y, y_bytes, check.product({count, 8}), 8);
  if (!check.ok()) return check.status();
  tkf::Learner learner(*spec, numbers, learned);
  if (count > learner.open()) {
    return check.fail(TKF_STATUS_STATE, "found %" PRId64 " outcomes, expected at most %" PRId64, count,
                      learner.open());
  }
  for (int64_t i = 0; i < count; i++) {
    if (!std::isfinite(y[i])) {
      return check.fail(TKF_STATUS_VALUE, "found an outcome that is not finite, expected finite numbers");
    }
  }
  try {
    learner.observe(y, count);
    return learner.fit_if_complete(scores) ? TKF_STATUS_OK : tkf::Scan::fail_fit(check);
  } catch (...) {  // of memory alone, but nothing may cross the ABI
    return check.fail_memory();
  }
}
