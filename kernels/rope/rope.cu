// Adjacent pairs (x[2i], x[2i+1]) turn by position * turns[i, 0] and are stretched by turns[i, 1]. Angles are in double:
// a float would be off by 1e-3 rad at position 16,000.
#include "../common/cuda/launch.h"

namespace tkf {

// Pairs of one launch, and heads that share the work for an angle.
constexpr int kRopePairs = 128, kRopeHeads = 8;

// Cosine and sine, each to 1e-9: the angle less whole quarter turns, then Taylor's series on [-pi/4, pi/4]. The angle
// is at most 2^31, so that a quarter turn in two doubles is exact enough; the library's own functions would take a slow
// path through memory for such angles.
__device__ __forceinline__ void cosine_and_sine(double angle, float* cosine, float* sine) {
  constexpr double quarters_per_radian = 0.63661977236758134308;
  constexpr double quarter_high = 1.5707963267948965580, quarter_low = 6.1232339957367658860e-17;
  const double quarters = rint(angle * quarters_per_radian);
  const double r = fma(-quarters, quarter_low, fma(-quarters, quarter_high, angle));
  const double s = r * r;
  double odd = fma(s, -1.0 / 39916800, 1.0 / 362880);
  odd = fma(s, odd, -1.0 / 5040);
  odd = fma(s, odd, 1.0 / 120);
  odd = fma(s, odd, -1.0 / 6);
  odd = fma(s * odd, r, r);
  double even = fma(s, 1.0 / 479001600, -1.0 / 3628800);
  even = fma(s, even, 1.0 / 40320);
  even = fma(s, even, -1.0 / 720);
  even = fma(s, even, 1.0 / 24);
  even = fma(s, even, -0.5);
  even = fma(s, even, 1.0);
  const long long quadrant = static_cast<long long>(quarters);
  const float c = static_cast<float>((quadrant & 1) != 0 ? odd : even);
  const float d = static_cast<float>((quadrant & 1) != 0 ? even : odd);
  *cosine = ((quadrant + 1) & 2) != 0 ? -c : c;
  *sine = (quadrant & 2) != 0 ? -d : d;
}

// A thread a pair, a block kRopeHeads heads of a row. pairs <= blockDim.x: those of this launch, from `first_pair` on,
// which `turns` begins with.
// kept and kept_count: the rows to turn, as slots below `rows`; NULL for all.
__global__ void __launch_bounds__(kRopePairs)
    rope_kernel(float* x, const int32_t* positions, const double* turns, int first_pair, int pairs, int64_t rows, int64_t heads,
                int64_t head_dim, const int32_t* kept, const int32_t* kept_count, int* fault) {
  wait_for_earlier_kernels();
  const int64_t groups = (heads + kRopeHeads - 1) / kRopeHeads;
  const int64_t count = kept_count == nullptr ? rows : min(static_cast<int64_t>(*kept_count), rows);
  const int pair = static_cast<int>(threadIdx.x);
  if (pair >= pairs) return;
  const double frequency = __ldg(turns + 2 * pair);
  const float length = static_cast<float>(__ldg(turns + 2 * pair + 1));
  for (int64_t i = blockIdx.x; i < count * groups; i += gridDim.x) {
    const int64_t number = i / groups, first_head = (i - number * groups) * kRopeHeads;
    const int64_t row = kept == nullptr ? number : kept[number];
    if (row < 0 || row >= rows) {
      tkf_fault(fault, kFaultIndex);
      continue;
    }
    float cosine, sine;
    cosine_and_sine(positions[row] * frequency, &cosine, &sine);
    cosine *= length, sine *= length;
    float* at = x + (row * heads + first_head) * head_dim + 2 * (first_pair + pair);
    const int64_t here = min(heads - first_head, static_cast<int64_t>(kRopeHeads));
    float a[kRopeHeads], b[kRopeHeads];  // all of them are under way at once
#pragma unroll
    for (int head = 0; head < kRopeHeads; head++) {
      a[head] = head < here ? at[head * head_dim] : 0.0f;
      b[head] = head < here ? at[head * head_dim + 1] : 0.0f;
    }
#pragma unroll
    for (int head = 0; head < kRopeHeads; head++) {
      if (head >= here) continue;
      at[head * head_dim] = a[head] * cosine - b[head] * sine;
      at[head * head_dim + 1] = a[head] * sine + b[head] * cosine;
    }
  }
}


int32_t on_cuda::rope_apply(tkf_context* context, const tkf_rope_apply_args& a) {
  const int64_t groups = (a.heads + kRopeHeads - 1) / kRopeHeads, all = a.head_dim / 2;
  for (int64_t first = 0; first < all; first += kRopePairs) {
    const int64_t pairs = all - first < kRopePairs ? all - first : kRopePairs;
    TKF_LAUNCH(cuda_stream(context), (rope_kernel), grid_of(a.rows * groups, 1),
               static_cast<unsigned>((pairs + 31) / 32 * 32), 0, as<float>(a.x), as<int32_t>(a.positions),
               as<double>(a.turns) + 2 * first, static_cast<int>(first), static_cast<int>(pairs), a.rows, a.heads,
               a.head_dim, as<int32_t>(a.kept), as<int32_t>(a.kept_count), cuda_fault(context));
  }
  return cuda_launched(context, "rope");
}

}  // namespace tkf
