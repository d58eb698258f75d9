// The `learned` rule takes in outcomes and, where a block of tokens is complete, fits anew: a block of threads for each
// sequence. lib/methods/rules/learned_fit.ts on the device.
#include "../kv_filter_scan/check_filter.h"
#include "../kv_filter_scan/device.cuh"
#include "kv_filter_observe.h"

namespace tkf {
namespace filter {

constexpr int kFitRows = 32;       // tokens whose standardised features lie in shared memory at once, at most
constexpr int kFitShared = 24576;  // bytes that they may take
constexpr int kFactorWidth = 64;   // factors of matrices up to here lie in shared memory too

struct FitShared {
  double sums[kThreads / 32];
  int counts[kThreads / 32];
  double y;
  bool sound;
};

TKF_BOTH inline int fit_rows(int64_t F) {
  const int64_t rows = kFitShared / (F * 8);
  return static_cast<int>(rows < 1 ? 1 : rows < kFitRows ? rows : kFitRows);
}
// Bytes of dynamic shared memory: diagonal of the factor and result [2, F]; then rows of features and outcomes
// [fit_rows, F + 1], later the factor.
inline size_t fit_shared_bytes(const tkf_filter_spec& spec) {
  const int64_t F = LearnedLayout(spec).F;
  const int64_t rows = fit_rows(F) * (F + 1), factor = F <= kFactorWidth ? F * (F | 1) : 0;
  return static_cast<size_t>(2 * F + (rows > factor ? rows : factor)) * sizeof(double);
}

// Gives outcomes to the next `count` kept tokens of the pending block that have none; y_of(i): of the i-th.
template <class OutcomeOf>
__device__ void take_outcomes(const LearnedLayout& at, double* learned, int64_t pending, int64_t count, FitShared& s,
                              const OutcomeOf& y_of) {
  int64_t taken = 0;
  for (int64_t first = 0; first < pending && taken < count; first += blockDim.x) {
    const int64_t row = first + threadIdx.x;
    const bool open = row < pending && learned[at.outcome + row] == kKept;
    int found;
    const int64_t rank = taken + block_rank(open, s.counts, &found);
    if (open && rank < count) {
      const double y = y_of(rank);
      learned[at.y + row] = y;
      learned[at.outcome + row] = isfinite(y) ? kObserved : kSkipped;
    }
    taken += found;
  }
  __syncthreads();
}

// A += sum z z', b += sum z*y over the observed tokens of the block. `shared`: [rows, F + 1].
__device__ inline void accumulate(const LearnedLayout& at, double* learned, int64_t pending, int rows, double* shared) {
  const int64_t F = at.F, pitch = F + 1;  // a token's features, then its outcome; zeros where it has none
  for (int64_t first = 0; first < pending; first += rows) {
    const int64_t count = pending - first < rows ? pending - first : rows;
    for (int64_t i = threadIdx.x; i < count * pitch; i += blockDim.x) {
      const int64_t row = first + i / pitch, column = i % pitch;
      const bool observed = learned[at.outcome + row] == kObserved;
      shared[i] = !observed      ? 0.0
                  : column == F ? learned[at.y + row]
                                : at.standardised(learned, learned + at.f + row * F, column);
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < F * pitch; i += blockDim.x) {
      const int64_t a = i / pitch, b = i % pitch;
      double* to = b == F ? learned + at.b + a : learned + at.A + a * F + b;
      double sum = *to;
      for (int64_t row = 0; row < count; row++) sum += shared[row * pitch + a] * shared[row * pitch + b];
      *to = sum;
    }
    __syncthreads();
  }
}

// w = solve(A, b) by Cholesky's decomposition A = L L'. L (i, j), i > j, lies at factor[i*down + j*across]: shared
// memory, or, where that is too small, the triangle of A above its diagonal, which repeats the one below and is
// restored. False where A is not positive definite.
__device__ inline bool solve(const LearnedLayout& at, double* learned, double* diagonal, double* v, double* factor,
                             FitShared& s) {
  const int64_t n = at.F;
  double* A = learned + at.A;
  const bool in_place = n > kFactorWidth;
  const int64_t down = in_place ? 1 : n | 1, across = in_place ? n : 1;
  if (in_place) factor = A;
  if (threadIdx.x == 0) s.sound = true;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    diagonal[i] = A[i * n + i];
    v[i] = learned[at.b + i];
  }
  if (!in_place) {
    for (int64_t i = threadIdx.x; i < n * n; i += blockDim.x) {
      if (i / n > i % n) factor[i / n * down + i % n] = A[i];
    }
  }
  __syncthreads();
  for (int64_t k = 0; k < n; k++) {
    const double pivot = diagonal[k];
    if (!(pivot > 0)) {  // the same for all threads
      if (threadIdx.x == 0) s.sound = false;
      break;
    }
    const double root = sqrt(pivot);
    for (int64_t i = k + 1 + threadIdx.x; i < n; i += blockDim.x) factor[i * down + k * across] /= root;
    __syncthreads();
    if (threadIdx.x == 0) diagonal[k] = root;
    const int64_t left = n - 1 - k;
    for (int64_t p = threadIdx.x; p < left * left; p += blockDim.x) {
      const int64_t i = k + 1 + p / left, j = k + 1 + p % left;
      if (j > i) continue;
      const double product = factor[i * down + k * across] * factor[j * down + k * across];
      if (i == j) diagonal[i] -= product;
      else factor[i * down + j * across] -= product;
    }
    __syncthreads();
  }
  __syncthreads();
  const bool sound = s.sound;
  for (int64_t k = 0; sound && k < n; k++) {  // L v = b
    if (threadIdx.x == 0) v[k] /= diagonal[k];
    __syncthreads();
    for (int64_t i = k + 1 + threadIdx.x; i < n; i += blockDim.x) v[i] -= factor[i * down + k * across] * v[k];
    __syncthreads();
  }
  for (int64_t k = n - 1; sound && k >= 0; k--) {  // L' w = v
    if (threadIdx.x == 0) v[k] /= diagonal[k];
    __syncthreads();
    for (int64_t i = threadIdx.x; i < k; i += blockDim.x) v[i] -= factor[k * down + i * across] * v[k];
    __syncthreads();
  }
  if (in_place) {
    for (int64_t i = threadIdx.x; i < n * n; i += blockDim.x) {
      if (i / n < i % n) A[i] = A[i % n * n + i / n];
    }
  }
  if (sound) {
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) learned[at.w + i] = v[i];
  }
  __syncthreads();
  return sound;
}

// The threshold looks back on what the warm-up's tokens would have scored.
__device__ inline void score_warmup(const tkf_filter_spec& spec, const LearnedLayout& at, double* scores,
                                    const double* learned, double scored, int64_t pending) {
  const int64_t capacity = score_capacity(spec);
  for (int64_t row = threadIdx.x; row < pending; row += blockDim.x) {
    if (row < pending - capacity) continue;
    const double sum = at.predict(learned, learned + at.f + row * at.F);
    scores[ring_slot(scored + static_cast<double>(row), capacity)] = spec.invert ? sum : -sum;
  }
}

static __global__ void __launch_bounds__(kThreads, 2) filter_observe_kernel(ObserveArguments a) {
  wait_for_earlier_kernels();
  TKF_DYNAMIC_SHARED(double, shared);
  TKF_SHARED(FitShared, s);
  const tkf_filter_spec& spec = a.spec;
  const LearnedLayout at(spec);
  const int64_t b = blockIdx.x;
  double *numbers = as<double>(a.states.numbers) + b * TKF_NUM_SLOTS;
  double *learned = as<double>(a.states.learned) + b * at.length, *y = as<double>(a.y);
  const Numbers n = read_numbers(numbers);
  const bool step = a.keep.data != nullptr;
  const int64_t count = step ? as<uint8_t>(a.keep)[b] != 0 : a.count;
  const int64_t pending = static_cast<int64_t>(n.pending);
  if (!valid_numbers(spec, n) || static_cast<double>(count) > n.pending - n.settled) {
    if (threadIdx.x == 0 && (count > 0 || !step)) tkf_fault(a.fault, kFaultState);
    return;
  }
  bool finite = true;
  if (step && count > 0) {
    const float* output = as<float>(a.output) + b * spec.hidden_size;
    const float* residual = as<float>(a.residual) + b * spec.hidden_size;
    double o = 0, x = 0;
    for (int i = static_cast<int>(threadIdx.x); i < spec.hidden_size; i += static_cast<int>(blockDim.x)) {
      o += static_cast<double>(output[i]) * output[i];
      x += static_cast<double>(residual[i]) * residual[i];
    }
    o = block_sum(o, s.sums);
    x = block_sum(x, s.sums);
    if (threadIdx.x == 0) s.y = log((sqrt(o) + kNormEps) / (sqrt(x) + kNormEps));
    __syncthreads();
    finite = isfinite(s.y);
    take_outcomes(at, learned, pending, 1, s, [&](int64_t) { return s.y; });
  } else if (!step) {
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) finite = finite && isfinite(y[i]);
    finite = __syncthreads_and(finite);
    if (finite) take_outcomes(at, learned, pending, count, s, [&](int64_t i) { return y[i]; });
  }
  if (!finite) {
    if (threadIdx.x == 0) tkf_fault(a.fault, kFaultNumber);
    if (!step) return;  // nothing has changed
  }
  const double settled = n.settled + static_cast<double>(count);
  const bool complete =
      settled == n.pending && pending == block_length(spec, static_cast<int64_t>(n.seen - n.pending));
  if (!complete) {
    if (threadIdx.x == 0 && count > 0) numbers[TKF_SLOT_SETTLED] = settled;
    return;
  }
  const bool first = n.fitted == 0;
  double *diagonal = shared, *v = shared + at.F, *space = shared + 2 * at.F;
  __syncthreads();  // outcomes are there for all
  if (first) start_fit(spec, at, learned, pending, threadIdx.x, blockDim.x);
  __syncthreads();
  accumulate(at, learned, pending, fit_rows(at.F), space);
  if (!solve(at, learned, diagonal, v, space, s)) {
    if (threadIdx.x == 0) {
      numbers[TKF_SLOT_SETTLED] = settled;
      tkf_fault(a.fault, kFaultState);
    }
    return;
  }
  if (first) score_warmup(spec, at, as<double>(a.states.scores) + b * score_capacity(spec), learned, n.scored, pending);
  if (threadIdx.x == 0) {
    if (first) numbers[TKF_SLOT_SCORED] = n.scored + n.pending;
    numbers[TKF_SLOT_FITTED] = 1;
    numbers[TKF_SLOT_PENDING] = 0;
    numbers[TKF_SLOT_SETTLED] = 0;
  }
}

void launch_observe(tkf_context* context, const ObserveArguments& arguments, int64_t batch) {
  TKF_LAUNCH(cuda_stream(context), filter_observe_kernel, static_cast<unsigned>(batch), kThreads,
             fit_shared_bytes(arguments.spec), arguments);
}

}  // namespace filter

bool check_args(Check& check, const tkf_filter_observe_args& a) {
  check_spec(check, a.spec);
  check_learns(check, a.spec);
  check_memory(check, a.spec, a.states, 1);
  check.size("count", a.count);
  check.array<double>("y", a.y, {a.count});
  return true;
}
int32_t on_cuda::filter_observe(tkf_context* context, const tkf_filter_observe_args& a) {
  filter::launch_observe(context, {a.spec, a.states, {}, {}, {}, a.y, a.count, cuda_fault(context)}, 1);
  return cuda_launched(context, "tkf_filter_observe");
}

bool check_args(Check& check, const tkf_filter_observe_batch_args& a) {
  check_spec(check, a.spec);
  check_learns(check, a.spec);
  check.size("batch", a.batch, 0, INT32_MAX);
  check_memory(check, a.spec, a.states, a.batch);
  check.array<uint8_t>("keep", a.keep, {a.batch});
  check.array<float>("output", a.output, {a.batch, a.spec.hidden_size});
  check.array<float>("residual", a.residual, {a.batch, a.spec.hidden_size});
  return a.batch > 0;
}
int32_t on_cuda::filter_observe_batch(tkf_context* context, const tkf_filter_observe_batch_args& a) {
  filter::launch_observe(context, {a.spec, a.states, a.keep, a.output, a.residual, {}, 0, cuda_fault(context)}, a.batch);
  return cuda_launched(context, "tkf_filter_observe_batch");
}

}  // namespace tkf
