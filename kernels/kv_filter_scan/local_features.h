// The features of local attention: how the scores over the sinks and the recent window stand against what the keys
// beyond them may add. Included by kv_filter_scan_cpu.cpp; formulas and names as in lib/methods/rules/local_features.ts.
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

// What one KV head remembers, laid out as in lib/methods/rules/local_features.ts.
struct HeadMemory {
  int64_t width, turn;  // doubles from row to row; rows of the ring
  double *sinks, *ring, *mean, *squares;

  HeadMemory(const FilterLocal& job, int kv_head)
      : width(int64_t{job.kv_heads} * job.head_dim),
        turn(int64_t{job.recent} + 1),
        sinks(job.memory + int64_t{kv_head} * job.head_dim),
        ring(sinks + job.sinks * width),
        mean(ring + turn * width),
        squares(mean + width) {}
};

template <class Type>
TKF_INLINE const typename Type::Value* key_at(const FilterLocal& job, int kv_head, int64_t row) {
  return static_cast<const typename Type::Value*>(job.keys) + (row * job.kv_heads + kv_head) * job.head_dim;
}
TKF_INLINE const float* queries_at(const FilterLocal& job, int kv_head, int64_t row) {
  return job.queries + (row * job.heads + int64_t{kv_head} * (job.heads / job.kv_heads)) * job.head_dim;
}
TKF_INLINE double* features_at(const FilterLocal& job, int kv_head, int64_t row) {
  return job.features + row * job.stride + 3 * int64_t{kv_head} * (job.heads / job.kv_heads);
}

// Takes a row's key in, and the one that leaves the window into mean and squares; gives the keys beyond it, at least 1.
template <class Type>
inline double take_key(const FilterLocal& job, const HeadMemory& memory, int kv_head, int64_t row) {
  const int d = job.head_dim;
  const int64_t t = job.position + row, beyond = t - job.recent - job.sinks;
  double *const slot = memory.ring + t % memory.turn * memory.width, *const mean = memory.mean;
  if (beyond > 0) {
    for (int i = 0; i < d; i++) {
      const double distance = slot[i] - mean[i];
      mean[i] += distance / static_cast<double>(beyond);
      memory.squares[i] += distance * (slot[i] - mean[i]);
    }
  }
  const auto* key = key_at<Type>(job, kv_head, row);
  for (int i = 0; i < d; i++) slot[i] = Type::one(key + i);
  if (t < job.sinks) memcpy(memory.sinks + t * memory.width, slot, sizeof(double) * static_cast<size_t>(d));
  return static_cast<double>(larger<int64_t>(1, beyond));
}

// What the `n` keys beyond the window may add to a query x [d], before what the near ones do is subtracted.
inline double look_far(const double* x, const HeadMemory& memory, int d, double scale, double n, double log_n) {
  const int whole = d / D * D;
  vd dots = {}, spreads = {};
  for (int i = 0; i < whole; i += D) {
    const vd v = load_doubles(x + i);
    dots += v * load_doubles(memory.mean + i);
    spreads += v * v * load_doubles(memory.squares + i);
  }
  double dot = sum_lanes(dots), spread = sum_lanes(spreads);
  for (int i = whole; i < d; i++) {
    dot += x[i] * memory.mean[i];
    spread += x[i] * x[i] * memory.squares[i];
  }
  return scale * dot + spread / n / (2 * d) + log_n;
}

// A query's three features.
inline void write_features(const FilterLocal& job, const LogSum& of_sinks, const LogSum& of_near, double far,
                           double* out) {
  constexpr double kFarLimit = 12;
  const double top = larger(of_sinks.top, of_near.top);
  const double L = top + log(of_sinks.sum * exp(of_sinks.top - top) + of_near.sum * exp(of_near.top - top));
  far -= L;
  out[0] = L;
  out[1] = job.sinks == 0 ? 0 : of_sinks.value() - L;
  out[2] = far > kFarLimit ? kFarLimit : far < -kFarLimit ? -kFarLimit : far;
}

// One KV head through a few rows.
template <class Type>
void follow_window(const FilterLocal& job, int kv_head, double* scratch) {
  const int d = job.head_dim, group = job.heads / job.kv_heads;
  const HeadMemory memory(job, kv_head);
  const int64_t turn = memory.turn, width = memory.width, stride = job.sinks + turn + 2 * D;
  double *const queries = scratch, *const near = queries + int64_t{group} * d;
  const double scale = 1 / sqrt(static_cast<double>(d));
  for (int64_t row = 0; row < job.rows; row++) {
    const double n = take_key<Type>(job, memory, kv_head, row), log_n = log(n);
    const float* const q = queries_at(job, kv_head, row);
    for (int64_t i = 0; i < int64_t{group} * d; i++) queries[i] = q[i];
    // Scores of the sinks, then of the window, which lies in the ring in one piece or two.
    const int64_t t = job.position + row, num_sinks = smaller<int64_t>(job.sinks, t + 1);
    const int64_t first = larger<int64_t>(t - job.recent, job.sinks);
    const int64_t num_near = larger<int64_t>(t + 1 - first, 0), from = first % turn;
    const int64_t piece = smaller(num_near, turn - from), at = (job.sinks + D - 1) / D * D;
    dot_rows(group, queries, memory.sinks, num_sinks, width, d, scale, near, stride);
    dot_rows(group, queries, memory.ring + from * width, piece, width, d, scale, near + at, stride);
    dot_rows(group, queries, memory.ring, num_near - piece, width, d, scale, near + at + piece, stride);
    double* const out = features_at(job, kv_head, row);
    for (int g = 0; g < group; g++) {
      write_features(job, log_sum(near + g * stride, num_sinks), log_sum(near + g * stride + at, num_near),
                     look_far(queries + int64_t{g} * d, memory, d, scale, n, log_n), out + 3 * g);
    }
    if (kv_head == 0) job.features[row * job.stride + 3 * int64_t{job.heads}] = log_n;
  }
}

// Many rows: neighbours see nearly the same keys, which are transposed once for all of them, D keys in a vector.
// Queries that share a pass over those keys, and rows whose queries do; rows that are taken in at once.
constexpr int kQueries = TKF_LEVEL == TKF_LEVEL_AVX512 ? 8 : 4, kRowsTogether = 8, kRowsAtOnce = 128;

// Where the keys of all rows lie: the sinks, those of the windows from position `first` on.
struct NearKeys {
  int64_t num_sinks, first, at;  // at: the first key of the windows
  int64_t tiles;                 // of D keys

  explicit NearKeys(const FilterLocal& job) {
    const int64_t end = job.position + job.rows;
    num_sinks = smaller<int64_t>(job.sinks, end);
    first = larger<int64_t>(job.position - job.recent, job.sinks);
    at = (num_sinks + D - 1) / D * D;
    tiles = (at + larger<int64_t>(end - first, 0) + D - 1) / D;
  }
  int64_t doubles(int d) const { return tiles * D * d; }
};

// Writes a key [d] where key `index` of the tiles lies.
template <class Read>
TKF_INLINE void store_key(double* tiles, int64_t index, int d, Read&& read) {
  double* const to = tiles + index / D * D * d + index % D;
  for (int i = 0; i < d; i++) to[int64_t{i} * D] = read(i);
}

// One KV head: transposes its keys, takes them in, and looks far, far [rows, group]. x [d] is scratch.
template <class Type>
void take_keys(const FilterLocal& job, const NearKeys& near, int kv_head, double* tiles, double* far, double* x) {
  const int d = job.head_dim, group = job.heads / job.kv_heads;
  const HeadMemory memory(job, kv_head);
  const double scale = 1 / sqrt(static_cast<double>(d));
  memset(tiles, 0, static_cast<size_t>(near.doubles(d)) * sizeof(double));  // keys that are not there
  for (int64_t t = 0; t < smaller<int64_t>(near.num_sinks, job.position); t++) {
    store_key(tiles, t, d, [&](int i) { return memory.sinks[t * memory.width + i]; });
  }
  for (int64_t t = near.first; t < job.position; t++) {
    const double* const slot = memory.ring + t % memory.turn * memory.width;
    store_key(tiles, near.at + t - near.first, d, [&](int i) { return slot[i]; });
  }
  for (int64_t row = 0; row < job.rows; row++) {
    const int64_t t = job.position + row;
    const auto* const key = key_at<Type>(job, kv_head, row);
    const auto read = [&](int i) -> double { return Type::one(key + i); };
    if (t < near.num_sinks) store_key(tiles, t, d, read);
    if (t >= near.first) store_key(tiles, near.at + t - near.first, d, read);
    const double n = take_key<Type>(job, memory, kv_head, row), log_n = log(n);
    const float* const q = queries_at(job, kv_head, row);
    for (int g = 0; g < group; g++) {
      for (int i = 0; i < d; i++) x[i] = q[g * d + i];
      far[row * group + g] = look_far(x, memory, d, scale, n, log_n);
    }
    if (kv_head == 0) job.features[row * job.stride + 3 * int64_t{job.heads}] = log_n;
  }
}

// scores[q * stride + k] = scale times query q [d] with key k of T tiles.
template <int T, int Q>
TKF_INLINE void score_tiles(const double* queries, const double* tiles, int d, double scale, double* scores,
                            int64_t stride) {
  vd sums[Q][T] = {};
  for (int i = 0; i < d; i++) {
    vd keys[T];
#pragma GCC unroll 2
    for (int t = 0; t < T; t++) keys[t] = load_doubles(tiles + (int64_t{t} * d + i) * D);
#pragma GCC unroll 8
    for (int q = 0; q < Q; q++) {
      const double x = queries[q * d + i];
#pragma GCC unroll 2
      for (int t = 0; t < T; t++) sums[q][t] += keys[t] * x;
    }
  }
#pragma GCC unroll 8
  for (int q = 0; q < Q; q++) {
#pragma GCC unroll 2
    for (int t = 0; t < T; t++) {
      const vd scaled = sums[q][t] * scale;
      memcpy(scores + q * stride + t * D, &scaled, sizeof scaled);
    }
  }
}
template <int Q>
void score_range(const double* queries, const double* tiles, int64_t from, int64_t to, int d, double scale,
                 double* scores, int64_t stride) {
  int64_t t = from;
  for (; t + 2 <= to; t += 2) score_tiles<2, Q>(queries, tiles + t * D * d, d, scale, scores + t * D, stride);
  if (t < to) score_tiles<1, Q>(queries, tiles + t * D * d, d, scale, scores + t * D, stride);
}

// Rows [begin, end) of one KV head, whose keys are in `tiles`.
inline void score_rows(const FilterLocal& job, const NearKeys& near, int kv_head, int64_t begin, int64_t end,
                       const double* tiles, const double* far, double* scratch) {
  const int d = job.head_dim, group = job.heads / job.kv_heads;
  const int64_t count = (end - begin) * group, stride = (near.tiles + 1) * D;
  double *const queries = scratch, *const scores = queries + int64_t{kRowsTogether} * group * d;
  const double scale = 1 / sqrt(static_cast<double>(d));
  for (int64_t row = begin; row < end; row++) {
    const float* const q = queries_at(job, kv_head, row);
    double* const to = queries + (row - begin) * group * d;
    for (int64_t i = 0; i < int64_t{group} * d; i++) to[i] = q[i];
  }
  const auto first_of = [&](int64_t row) {
    return near.at + larger<int64_t>(job.position + row - job.recent, job.sinks) - near.first;
  };
  const auto end_of = [&](int64_t row) { return near.at + job.position + row + 1 - near.first; };
  const auto score = [&](int64_t from, int64_t to) {
    int64_t q = 0;
    for (; q + kQueries <= count; q += kQueries) {
      score_range<kQueries>(queries + q * d, tiles, from, to, d, scale, scores + q * stride, stride);
    }
    for (; q < count; q++) score_range<1>(queries + q * d, tiles, from, to, d, scale, scores + q * stride, stride);
  };
  score(0, near.at / D);
  score(first_of(begin) / D, (end_of(end - 1) + D - 1) / D);
  for (int64_t row = begin; row < end; row++) {
    const int64_t num_sinks = smaller<int64_t>(job.sinks, job.position + row + 1);
    const int64_t from = first_of(row), num_near = larger<int64_t>(end_of(row) - from, 0);
    double* const out = features_at(job, kv_head, row);
    for (int g = 0; g < group; g++) {
      double* const own = scores + ((row - begin) * group + g) * stride;
      // Sums may write behind their scores, the sinks' before the windows' first.
      const LogSum of_sinks = log_sum(own, num_sinks), of_near = log_sum(own + from, num_near);
      write_features(job, of_sinks, of_near, far[row * group + g], out + 3 * g);
    }
  }
}

template <class Type>
int32_t many_local_features(tkf_context* context, const FilterLocal& job) {
  const NearKeys near(job);
  const int d = job.head_dim, group = job.heads / job.kv_heads;
  const int64_t tiles = near.doubles(d), far = job.rows * group, own = tiles + far + d;
  const int64_t scratch = int64_t{kRowsTogether} * group * (d + (near.tiles + 1) * D);
  if (!context_reserve(context, static_cast<size_t>(scratch) * sizeof(double),
                       static_cast<size_t>(own * job.kv_heads) * sizeof(double))) {
    return TKF_STATUS_MEMORY;
  }
  double* const shared = static_cast<double*>(context_shared(context));
  parallel(context, job.kv_heads, [&](int64_t head, int) {
    double* const to = shared + head * own;
    take_keys<Type>(job, near, static_cast<int>(head), to, to + tiles, to + tiles + far);
  });
  const int64_t pieces = (job.rows + kRowsTogether - 1) / kRowsTogether;
  parallel(context, job.kv_heads * pieces, [&](int64_t task, int thread) {
    const int64_t head = task / pieces, begin = task % pieces * kRowsTogether;
    const double* const from = shared + head * own;
    score_rows(job, near, static_cast<int>(head), begin, smaller(begin + kRowsTogether, job.rows), from, from + tiles,
               static_cast<double*>(context_scratch(context, thread)));
  });
  return TKF_STATUS_OK;
}

template <class Type>
int32_t few_local_features(tkf_context* context, const FilterLocal& job) {
  const int64_t group = job.heads / job.kv_heads, turn = int64_t{job.recent} + 1;
  const int64_t doubles = group * (job.head_dim + job.sinks + turn + 2 * D);
  if (!context_reserve(context, static_cast<size_t>(doubles) * sizeof(double), 0)) return TKF_STATUS_MEMORY;
  for (int head = 0; head < job.kv_heads; head++) {  // not worth waking threads
    follow_window<Type>(job, head, static_cast<double*>(context_scratch(context, 0)));
  }
  return TKF_STATUS_OK;
}

template <class Type>
int32_t local_features(tkf_context* context, const FilterLocal& job) {
  if (job.rows < kRowsTogether) return few_local_features<Type>(context, job);
  int32_t status = TKF_STATUS_OK;
  for (int64_t row = 0; row < job.rows && status == TKF_STATUS_OK; row += kRowsAtOnce) {
    FilterLocal some = job;
    some.rows = smaller<int64_t>(kRowsAtOnce, job.rows - row);
    some.position += row;
    some.keys = key_at<Type>(job, 0, row);
    some.queries = queries_at(job, 0, row);
    some.features = job.features + row * job.stride;
    status = many_local_features<Type>(context, some);
  }
  return status;
}

}  // namespace tkf::TKF_NAMESPACE::filter
