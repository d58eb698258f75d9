// The filter's sums over keys, values and the residual stream, accumulated in double so that decisions do not hang on
// the order of additions. The decisions themselves are in decide.h.
#include <cmath>

#include "../common/simd.h"
#include "kv_filter_scan.h"

namespace tkf::TKF_NAMESPACE {
namespace filter {

// Half as many doubles as a vf has floats.
constexpr int D = W / 2;
typedef double vd __attribute__((vector_size(W * 4), may_alias));

struct Wide {
  vd low, high;
};

#if TKF_LEVEL == TKF_LEVEL_AVX512
TKF_INLINE Wide widen(vf x) {
  return {_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1))};
}
TKF_INLINE vf narrow(Wide x) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(x.low)), _mm512_cvtpd_ps(x.high), 1);
}
#elif TKF_LEVEL == TKF_LEVEL_AVX2
TKF_INLINE Wide widen(vf x) {
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))};
}
TKF_INLINE vf narrow(Wide x) { return _mm256_set_m128(_mm256_cvtpd_ps(x.high), _mm256_cvtpd_ps(x.low)); }
#else
TKF_INLINE Wide widen(vf x) { return {vd{x[0], x[1]}, vd{x[2], x[3]}}; }
TKF_INLINE vf narrow(Wide x) {
  return vf{static_cast<float>(x.low[0]), static_cast<float>(x.low[1]), static_cast<float>(x.high[0]),
            static_cast<float>(x.high[1])};
}
#endif

// A product as it is, not fused with the addition that follows: anchors come out bit for bit as in the reference, where
// a last bit of float32 would otherwise move later cosines by 1e-7.
TKF_INLINE vd rounded(vd x) {
#if defined(__x86_64__)
  asm("" : "+x"(x));
#elif defined(__aarch64__)
  asm("" : "+w"(x));
#endif
  return x;
}

TKF_INLINE double sum_lanes(vd x) {
#if TKF_LEVEL == TKF_LEVEL_AVX512
  return _mm512_reduce_add_pd(x);
#elif TKF_LEVEL == TKF_LEVEL_AVX2
  const __m128d half = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
  return _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)));
#else
  return x[0] + x[1];
#endif
}

// `count` <= W values at `p`; other lanes 0.
template <class Type>
TKF_INLINE vf load_values(const typename Type::Value* p, int count) {
  return count == W ? Type::load(p) : Type::load_part(p, count);
}

// One head of keys or of values through all rows.
template <class Type>
void follow_head(const FilterMeasure& job, const typename Type::Value* x, float* anchor, int head, double* cosines) {
  const int d = job.head_dim;
  const int64_t stride = int64_t{job.kv_heads} * d;
  for (int64_t row = 0; row < job.rows; row++) {
    const int64_t at = row * stride + int64_t{head} * d;
    const double m = job.absorbed + static_cast<double>(row);
    const double decay = m == 0 ? 0.0 : job.running_mean ? m / (m + 1) : job.gamma, rest = 1 - decay;
    Wide dot = {}, xx = {}, aa = {};
    for (int i = 0; i < d; i += W) {
      const int count = smaller(W, d - i);
      const Wide v = widen(load_values<Type>(x + at + i, count)), a = widen(load_values<F32>(anchor + i, count));
      dot = {dot.low + v.low * a.low, dot.high + v.high * a.high};
      xx = {xx.low + v.low * v.low, xx.high + v.high * v.high};
      aa = {aa.low + a.low * a.low, aa.high + a.high * a.high};
      if (job.absorb) {
        const vf next = narrow({rounded(a.low * decay) + rounded(v.low * rest),
                                rounded(a.high * decay) + rounded(v.high * rest)});
        if (count == W) {
          store(anchor + i, next);
        } else {
          store_part(anchor + i, next, count);
        }
      }
    }
    if (job.measure) {
      const double norms = sqrt(sum_lanes(xx.low + xx.high)) * sqrt(sum_lanes(aa.low + aa.high));
      cosines[row * 2 * job.kv_heads] = norms == 0 ? 0.0 : sum_lanes(dot.low + dot.high) / norms;
    }
  }
}

template <class Type>
void measure(tkf_context* context, const FilterMeasure& job) {
  // A head is a chain from token to token; heads are independent.
  const auto unit = [&](int64_t index, int) {
    const int head = static_cast<int>(index % job.kv_heads);
    const bool keys = index < job.kv_heads;
    double* cosines = job.cosines == nullptr ? nullptr : job.cosines + index;
    follow_head<Type>(job, static_cast<const typename Type::Value*>(keys ? job.keys : job.values),
                      (keys ? job.anchor_k : job.anchor_v) + int64_t{head} * job.head_dim, head, cosines);
  };
  const int64_t units = int64_t{2} * job.kv_heads;
  if (job.rows * units * job.head_dim < 32768) {  // not worth waking threads
    for (int64_t index = 0; index < units; index++) unit(index, 0);
  } else {
    parallel(context, units, unit);
  }
}

template <class Type>
double log_norm(const void* rows, int64_t row, int64_t size) {
  const auto* x = static_cast<const typename Type::Value*>(rows) + row * size;
  Wide squares = {};
  for (int64_t i = 0; i < size; i += W) {
    const int count = static_cast<int>(smaller(int64_t{W}, size - i));
    const Wide v = widen(load_values<Type>(x + i, count));
    squares = {squares.low + v.low * v.low, squares.high + v.high * v.high};
  }
  return log(sqrt(sum_lanes(squares.low + squares.high)) + 1e-6);
}

// out [projections] = h [hidden_size] times signs, over sqrt(hidden_size).
inline void project(const FilterFeatures& job, const float* h, double* out) {
  for (int j = 0; j < job.projections; j += W) {
    const int count = smaller(W, job.projections - j);
    const float* signs = job.signs + j;
    const auto signs_of = [&](int a) {
      const float* at = signs + int64_t{a} * job.projections;
      return widen(load_values<F32>(at, count));
    };
    Wide even = {}, odd = {};  // two chains of additions
    int a = 0;
    for (; a + 1 < job.hidden_size; a += 2) {
      const Wide s = signs_of(a), t = signs_of(a + 1);
      const double x = h[a], y = h[a + 1];
      even = {even.low + s.low * x, even.high + s.high * x};
      odd = {odd.low + t.low * y, odd.high + t.high * y};
    }
    if (a < job.hidden_size) {
      const Wide s = signs_of(a);
      even = {even.low + s.low * h[a], even.high + s.high * h[a]};
    }
    const vd low = even.low + odd.low, high = even.high + odd.high;
    for (int l = 0; l < count; l++) out[j + l] = (l < D ? low[l] : high[l - D]) / sqrt(double(job.hidden_size));
  }
}

template <class Type>
void features(tkf_context* context, const FilterFeatures& job) {
  parallel_ranges(context, job.rows, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row++) {
      double* out = job.features + row * job.stride;
      if (job.norms) {
        *out++ = log_norm<Type>(job.keys, row, job.kv_size);
        *out++ = log_norm<Type>(job.values, row, job.kv_size);
        *out++ = log_norm<F32>(job.residual, row, job.hidden_size);
      }
      if (job.project) {
        project(job, job.normed + row * job.hidden_size, out);
        out += job.projections;
      }
      if (job.query) *out = log_norm<F32>(job.queries, row, job.queries_size);
    }
  });
}

}  // namespace filter
}  // namespace tkf::TKF_NAMESPACE

#include "local_features.h"

namespace tkf::TKF_NAMESPACE {

static int32_t filter_measure(tkf_context* context, const FilterMeasure& job) {
  with_type(job.kv_dtype, [&](auto type) { filter::measure<decltype(type)>(context, job); });
  return TKF_STATUS_OK;
}

static int32_t filter_features(tkf_context* context, const FilterFeatures& job) {
  with_type(job.kv_dtype, [&](auto type) { filter::features<decltype(type)>(context, job); });
  return TKF_STATUS_OK;
}

static int32_t filter_local(tkf_context* context, const FilterLocal& job) {
  int32_t status = TKF_STATUS_OK;
  with_type(job.kv_dtype, [&](auto type) { status = filter::local_features<decltype(type)>(context, job); });
  return status;
}

}  // namespace tkf::TKF_NAMESPACE
