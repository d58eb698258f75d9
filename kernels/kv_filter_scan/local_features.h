// The features of local attention: how the scores over the sinks and the recent window stand against what the keys
// beyond them may add. Included by kv_filter_scan_cpu.cpp; formulas and names as in lib/methods/local_features.ts.
#pragma once

namespace tkf::TKF_NAMESPACE::filter {

typedef int64_t vl __attribute__((vector_size(W * 4), may_alias));

TKF_INLINE vd load_doubles(const double* p) {
  vd v;
  memcpy(&v, p, sizeof v);
  return v;
}

// e^x for x <= 0, relative error below 1e-15; what is under e^-700 gives e^-700, NaN gives NaN.
// x = n ln 2 + r with n whole; e^r by its series, 2^n in the exponent's bits.
TKF_INLINE vd exp_wide(vd x) {
  const vd least = vd{} - 700.0;
  x = x < least ? least : x;
  const vd shifted = x * 1.4426950408889634 + 6755399441056767.0;  // 1.5 * 2^52 + 1023: the low bits are n + 1023
  const vd n = shifted - 6755399441056767.0;
  const vd r = x - n * 6.93147180369123816490e-01 - n * 1.90821492927058770002e-10;
  constexpr double kInverse[] = {1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880,
                                 1.0 / 40320,      1.0 / 5040,      1.0 / 720,      1.0 / 120,     1.0 / 24,
                                 1.0 / 6,          0.5,             1.0,            1.0};
  vd p = vd{} + kInverse[0];
#pragma GCC unroll 13
  for (int i = 1; i < 14; i++) p = p * r + kInverse[i];
  return p * (vd)((vl)shifted << 52);
}

// A sum of exponentials, e^top * sum.
struct LogSum {
  double top, sum;
  double value() const { return top + log(sum); }
};

// Of `count` scores; there is room up to a multiple of D.
inline LogSum log_sum(double* scores, int64_t count) {
  if (count == 0) return {-INFINITY, 0};
  double top = scores[0];
  for (int64_t i = 1; i < count; i++) top = larger(top, scores[i]);
  for (int64_t i = count; i % D != 0; i++) scores[i] = -INFINITY;
  vd sum = {};
  for (int64_t i = 0; i < count; i += D) sum += exp_wide(load_doubles(scores + i) - top);
  return {top, sum_lanes(sum)};
}

// Rows of keys that are taken together, and their sums.
constexpr int kDotRows = 8;
TKF_INLINE void sums_of_rows(const vd* v, double* out) {
#if TKF_LEVEL == TKF_LEVEL_AVX512
  // Pairs of lanes, then quarters, then halves: what is added next to each other belongs to one row.
  __m512d pairs[4], quarters[2];
  for (int i = 0; i < 4; i++) {
    pairs[i] = _mm512_unpacklo_pd(v[2 * i], v[2 * i + 1]) + _mm512_unpackhi_pd(v[2 * i], v[2 * i + 1]);
  }
  for (int i = 0; i < 2; i++) {
    const __m512d a = pairs[2 * i], b = pairs[2 * i + 1];
    quarters[i] = _mm512_shuffle_f64x2(a, b, 0x88) + _mm512_shuffle_f64x2(a, b, 0xDD);
  }
  const __m512d a = quarters[0], b = quarters[1];
  const __m512d sums = _mm512_shuffle_f64x2(a, b, 0x88) + _mm512_shuffle_f64x2(a, b, 0xDD);
  _mm512_storeu_pd(out, sums);
#else
  for (int i = 0; i < kDotRows; i++) out[i] = sum_lanes(v[i]);
#endif
}

// scores[g * stride + i] = scale times query g [d] with row i of `rows`, which are `width` apart.
template <int R, int G>
inline void dot_some(const double* queries, const double* rows, int64_t width, int d, double scale, double* scores,
                     int64_t stride) {
  const int whole = d / D * D;
  vd sums[G][R] = {};
  for (int c = 0; c < whole; c += D) {
    vd q[G];
#pragma GCC unroll 4
    for (int g = 0; g < G; g++) q[g] = load_doubles(queries + g * d + c);
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) {
      const vd k = load_doubles(rows + i * width + c);
#pragma GCC unroll 4
      for (int g = 0; g < G; g++) sums[g][i] += k * q[g];
    }
  }
  for (int g = 0; g < G; g++) {
    double dots[R];
    if constexpr (R == kDotRows) sums_of_rows(sums[g], dots);
    else dots[0] = sum_lanes(sums[g][0]);
    for (int i = 0; i < R; i++) {
      for (int c = whole; c < d; c++) dots[i] += rows[i * width + c] * queries[g * d + c];
      scores[g * stride + i] = scale * dots[i];
    }
  }
}
template <int G>
inline void dot_rows(const double* queries, const double* rows, int64_t count, int64_t width, int d, double scale,
                     double* scores, int64_t stride) {
  constexpr int R = TKF_LEVEL == TKF_LEVEL_AVX512 ? kDotRows : 1;  // as many as the registers hold
  int64_t i = 0;
  for (; i + R <= count; i += R) dot_some<R, G>(queries, rows + i * width, width, d, scale, scores + i, stride);
  for (; i < count; i++) dot_some<1, G>(queries, rows + i * width, width, d, scale, scores + i, stride);
}
inline void dot_rows(int group, const double* queries, const double* rows, int64_t count, int64_t width, int d,
                     double scale, double* scores, int64_t stride) {
  int g = 0;
  for (; g + 3 <= group; g += 3) dot_rows<3>(queries + g * d, rows, count, width, d, scale, scores + g * stride, stride);
  for (; g < group; g++) dot_rows<1>(queries + g * d, rows, count, width, d, scale, scores + g * stride, stride);
}

// One KV head through all rows.
template <class Type>
void follow_window(const FilterLocal& job, int kv_head, double* scratch) {
  constexpr double kFarLimit = 12;
  const int d = job.head_dim, whole = d / D * D, group = job.heads / job.kv_heads;
  const int64_t width = int64_t{job.kv_heads} * d, turn = int64_t{job.recent} + 1, stride = job.sinks + turn + 2 * D;
  double* const sinks = job.memory + int64_t{kv_head} * d;
  double *const ring = sinks + job.sinks * width, *const mean = ring + turn * width, *const squares = mean + width;
  double *const queries = scratch, *const near = queries + int64_t{group} * d;
  const double scale = 1 / sqrt(static_cast<double>(d));
  for (int64_t row = 0; row < job.rows; row++) {
    const int64_t t = job.position + row, gone = t - turn;
    double* const slot = ring + t % turn * width;
    if (gone >= job.sinks) {
      const double count = static_cast<double>(gone - job.sinks + 1);
      for (int i = 0; i < d; i++) {
        const double distance = slot[i] - mean[i];
        mean[i] += distance / count;
        squares[i] += distance * (slot[i] - mean[i]);
      }
    }
    const auto* key = static_cast<const typename Type::Value*>(job.keys) + row * width + int64_t{kv_head} * d;
    for (int i = 0; i < d; i++) slot[i] = Type::one(key + i);
    if (t < job.sinks) memcpy(sinks + t * width, slot, sizeof(double) * static_cast<size_t>(d));

    const float* const q = job.queries + (row * job.heads + int64_t{kv_head} * group) * d;
    for (int64_t i = 0; i < int64_t{group} * d; i++) queries[i] = q[i];
    // Scores of the sinks, then of the window, which lies in the ring in one piece or two.
    const int64_t num_sinks = smaller<int64_t>(job.sinks, t + 1), first = larger<int64_t>(t - job.recent, job.sinks);
    const int64_t num_near = larger<int64_t>(t + 1 - first, 0), from = first % turn;
    const int64_t piece = smaller(num_near, turn - from), at = (job.sinks + D - 1) / D * D;
    dot_rows(group, queries, sinks, num_sinks, width, d, scale, near, stride);
    dot_rows(group, queries, ring + from * width, piece, width, d, scale, near + at, stride);
    dot_rows(group, queries, ring, num_near - piece, width, d, scale, near + at + piece, stride);
    const double n = static_cast<double>(larger<int64_t>(1, gone - job.sinks + 1)), log_n = log(n);
    double* out = job.features + row * job.stride + 3 * int64_t{kv_head} * group;
    for (int g = 0; g < group; g++, out += 3) {
      const LogSum of_sinks = log_sum(near + g * stride, num_sinks), of_near = log_sum(near + g * stride + at, num_near);
      const double top = larger(of_sinks.top, of_near.top);
      const double L = top + log(of_sinks.sum * exp(of_sinks.top - top) + of_near.sum * exp(of_near.top - top));
      const double* x = queries + int64_t{g} * d;
      vd dots = {}, spreads = {};
      for (int i = 0; i < whole; i += D) {
        const vd v = load_doubles(x + i);
        dots += v * load_doubles(mean + i);
        spreads += v * v * load_doubles(squares + i);
      }
      double dot = sum_lanes(dots), spread = sum_lanes(spreads);
      for (int i = whole; i < d; i++) {
        dot += x[i] * mean[i];
        spread += x[i] * x[i] * squares[i];
      }
      const double far = scale * dot + spread / n / (2 * d) + log_n - L;
      out[0] = L;
      out[1] = job.sinks == 0 ? 0 : of_sinks.value() - L;
      out[2] = far > kFarLimit ? kFarLimit : far < -kFarLimit ? -kFarLimit : far;
    }
    if (kv_head == 0) job.features[row * job.stride + 3 * int64_t{job.heads}] = log_n;
  }
}

template <class Type>
int32_t local_features(tkf_context* context, const FilterLocal& job) {
  const int64_t group = job.heads / job.kv_heads, turn = int64_t{job.recent} + 1;
  const int64_t doubles = group * (job.head_dim + job.sinks + turn + 2 * D);
  if (!context_reserve(context, static_cast<size_t>(doubles) * sizeof(double), 0)) return TKF_STATUS_MEMORY;
  // Heads are independent; a token's features come from the tokens before it.
  const auto follow = [&](int64_t head, int thread) {
    follow_window<Type>(job, static_cast<int>(head), static_cast<double*>(context_scratch(context, thread)));
  };
  if (job.rows < 4) {  // not worth waking threads
    for (int64_t head = 0; head < job.kv_heads; head++) follow(head, 0);
  } else {
    parallel(context, job.kv_heads, follow);
  }
  return TKF_STATUS_OK;
}

}  // namespace tkf::TKF_NAMESPACE::filter
