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
        const vf next = narrow({unfused(a.low * decay) + unfused(v.low * rest),
                                unfused(a.high * decay) + unfused(v.high * rest)});
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
  if (job.rows * units * job.head_dim < 8192) {  // not worth waking threads
    for (int64_t index = 0; index < units; index++) unit(index, 0);
  } else {
    parallel(context, units, unit);
  }
}

TKF_INLINE Wide add_squares(Wide sum, Wide v) { return {sum.low + v.low * v.low, sum.high + v.high * v.high}; }

template <class Type>
double log_norm(const void* rows, int64_t row, int64_t size) {
  const auto* x = static_cast<const typename Type::Value*>(rows) + row * size;
  Wide even = {}, odd = {};  // chains of additions
  int64_t i = 0;
  for (; i + 2 * W <= size; i += 2 * W) {
    even = add_squares(even, widen(Type::load(x + i)));
    odd = add_squares(odd, widen(Type::load(x + i + W)));
  }
  for (; i < size; i += W) {
    even = add_squares(even, widen(load_values<Type>(x + i, static_cast<int>(smaller(int64_t{W}, size - i)))));
  }
  return log(sqrt(sum_lanes((even.low + odd.low) + (even.high + odd.high))) + 1e-6);
}

// Rows that are projected together: each sign is made double once for all of them. And entries that are made double at
// once, an even number.
constexpr int kTogether = TKF_LEVEL == TKF_LEVEL_AVX512 ? 8 : 4, kPiece = 128;

#if TKF_LEVEL != TKF_LEVEL_AVX512
// Lanes of signs by their bits.
struct SignLanes {
  alignas(sizeof(vd)) double of[1 << D][D] = {};
  constexpr SignLanes() {
    for (int bits = 0; bits < 1 << D; bits++) {
      for (int lane = 0; lane < D; lane++) of[bits][lane] = bits >> lane & 1 ? -1 : 1;
    }
  }
};
constexpr SignLanes kSigns;
#endif

// The signs of projections j to j + W - 1, j a multiple of W; of those that are not there, any.
TKF_INLINE Wide signs_at(const uint8_t* entry, int j) {
#if TKF_LEVEL == TKF_LEVEL_AVX512
  const vd plus = vd{} + 1.0, minus = vd{} - 1.0;
  return {_mm512_mask_blend_pd(entry[j / 8], plus, minus), _mm512_mask_blend_pd(entry[j / 8 + 1], plus, minus)};
#else
  const int bits = entry[j / 8] >> (j % 8), lanes = (1 << D) - 1;
  return {*reinterpret_cast<const vd*>(kSigns.of[bits & lanes]),
          *reinterpret_cast<const vd*>(kSigns.of[bits >> D & lanes])};
#endif
}

// Adds `count` entries of R rows, x [R, kPiece], times their signs: even and odd ones in chains of their own, one after
// the other, or at once where a row is alone.
template <int R>
TKF_INLINE void project_piece(const double* x, const uint8_t* signs, int64_t stride, int j, int count,
                              Wide (*sums)[2]) {
  constexpr int chains = R == 1 ? 2 : 1;
  for (int first = 0; first < 2; first += chains) {
    Wide own[chains][R];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 2
      for (int c = 0; c < chains; c++) own[c][r] = sums[r][first + c];
    }
    for (int a = first; a < count; a += 2) {
#pragma GCC unroll 2
      for (int c = 0; c < chains; c++) {
        if (a + c >= count) continue;
        const Wide s = signs_at(signs + (a + c) * stride, j);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
          const double v = x[r * kPiece + a + c];
          own[c][r] = {own[c][r].low + s.low * v, own[c][r].high + s.high * v};
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 2
      for (int c = 0; c < chains; c++) sums[r][first + c] = own[c][r];
    }
  }
}

// out [projections] of each row = h [hidden_size] times signs, over sqrt(hidden_size).
template <int R>
inline void project(const FilterFeatures& job, int64_t row, double* out) {
  const int size = job.hidden_size;
  for (int j = 0; j < job.projections; j += W) {
    const int some = smaller(W, job.projections - j);
    Wide sums[R][2] = {};
    double x[R * kPiece];
    for (int from = 0; from < size; from += kPiece) {
      const int count = smaller(kPiece, size - from);
      for (int r = 0; r < R; r++) {
        const float* const h = job.normed + (row + r) * size + from;
        for (int a = 0; a < count; a++) x[r * kPiece + a] = h[a];
      }
      project_piece<R>(x, job.signs + from * job.sign_stride, job.sign_stride, j, count, sums);
    }
    for (int r = 0; r < R; r++) {
      const vd low = sums[r][0].low + sums[r][1].low, high = sums[r][0].high + sums[r][1].high;
      double* const to = out + int64_t{r} * job.stride + j;
      for (int l = 0; l < some; l++) to[l] = (l < D ? low[l] : high[l - D]) / sqrt(double(size));
    }
  }
}

template <class Type>
void features(tkf_context* context, const FilterFeatures& job) {
  parallel_ranges(context, job.rows, kTogether, [&](int64_t begin, int64_t end, int) {
    const int before = job.norms ? 3 : 0;
    if (job.project) {
      int64_t row = begin;
      for (; row + kTogether <= end; row += kTogether) {
        project<kTogether>(job, row, job.features + row * job.stride + before);
      }
      for (; row < end; row++) project<1>(job, row, job.features + row * job.stride + before);
    }
    for (int64_t row = begin; row < end; row++) {
      double* const out = job.features + row * job.stride;
      if (job.norms) {
        out[0] = log_norm<Type>(job.keys, row, job.kv_size);
        out[1] = log_norm<Type>(job.values, row, job.kv_size);
        out[2] = log_norm<F32>(job.residual, row, job.hidden_size);
      }
      if (job.query) {
        out[before + (job.project ? job.projections : 0)] = log_norm<F32>(job.queries, row, job.queries_size);
      }
    }
  });
}

// See FilterFit. Each number is summed in the order of lib/methods/rules/learned_fit.ts.
inline bool fit(const FilterFit& job) {
  const int64_t n = job.F;
  double *const __restrict z = job.scratch, *const __restrict U = z + n, *const __restrict w = job.w;
  for (int64_t row = 0; row < job.rows; row++) {
    if (job.outcome[row] != job.observed) continue;
    const double *const __restrict f = job.f + row * n, y = job.y[row];
    for (int64_t i = 0; i < n - 1; i++) z[i] = (f[i] - job.mean[i]) / (job.sd[i] + job.sd_eps);
    z[n - 1] = 1;
    for (int64_t i = 0; i < n; i++) {
      double* const __restrict A = job.A + i * n;
      const double own = z[i];
      for (int64_t j = 0; j < n; j++) A[j] += own * z[j];
    }
    for (int64_t i = 0; i < n; i++) job.b[i] += z[i] * y;
  }
  // A = U' U, row by row of U: what row k takes from the rows below it is subtracted at once.
  memcpy(U, job.A, sizeof(double) * static_cast<size_t>(n * n));
  memcpy(w, job.b, sizeof(double) * static_cast<size_t>(n));
  for (int64_t k = 0; k < n; k++) {
    double* const __restrict own = U + k * n;
    if (!(own[k] > 0)) return false;
    const double root = sqrt(own[k]);
    own[k] = root;
    for (int64_t j = k + 1; j < n; j++) own[j] /= root;
    for (int64_t i = k + 1; i < n; i++) {
      double* const __restrict below = U + i * n;
      const double factor = own[i];
      for (int64_t j = i; j < n; j++) below[j] -= factor * own[j];
    }
    w[k] /= root;  // U' v = b, along with it
    const double v = w[k];
    for (int64_t j = k + 1; j < n; j++) w[j] -= own[j] * v;
  }
  for (int64_t i = n - 1; i >= 0; i--) {  // U w = v
    const double* const own = U + i * n;
    double sum = w[i];
    for (int64_t k = i + 1; k < n; k++) sum -= own[k] * w[k];
    w[i] = sum / own[i];
  }
  return true;
}

}  // namespace filter
}  // namespace tkf::TKF_NAMESPACE

#include "local_features.h"

namespace tkf::TKF_NAMESPACE {

int32_t filter_measure(tkf_context* context, const FilterMeasure& job) {
  with_type(job.kv_dtype, [&](auto type) { filter::measure<decltype(type)>(context, job); });
  return TKF_STATUS_OK;
}

int32_t filter_features(tkf_context* context, const FilterFeatures& job) {
  with_type(job.kv_dtype, [&](auto type) { filter::features<decltype(type)>(context, job); });
  return TKF_STATUS_OK;
}

int32_t filter_fit(tkf_context*, const FilterFit& job) {
  return filter::fit(job) ? TKF_STATUS_OK : TKF_STATUS_STATE;
}

int32_t filter_local(tkf_context* context, const FilterLocal& job) {
  int32_t status = TKF_STATUS_OK;
  with_type(job.kv_dtype, [&](auto type) { status = filter::local_features<decltype(type)>(context, job); });
  return status;
}

}  // namespace tkf::TKF_NAMESPACE
