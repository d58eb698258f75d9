// What the machine can do at this level at most: multiply-adds in registers, and reading from memory.
#include "../common/simd.h"
#include "machine.h"

namespace tkf::TKF_NAMESPACE {

int32_t machine_multiply(tkf_context* context, const MachineMultiply& job) {
  constexpr int kChains = 12;
  const int threads = context_threads(context);
  parallel(context, threads, [&](int64_t, int) {
    const vf a = set1(0.999f), b = set1(0.001f);
    vf x[kChains];
    for (int i = 0; i < kChains; i++) x[i] = set1(static_cast<float>(i));
    for (int64_t round = 0; round < job.rounds; round++) {
#pragma GCC unroll 12
      for (int i = 0; i < kChains; i++) x[i] = fma(x[i], a, b);
    }
    vf total = set1(0);
    for (int i = 0; i < kChains; i++) total = total + x[i];
    volatile float sink = sum(total);
    (void)sink;
  });
  *job.operations = 2.0 * W * kChains * static_cast<double>(job.rounds) * threads;
  return TKF_STATUS_OK;
}

int32_t machine_read(tkf_context* context, const MachineRead& job) {
  constexpr int kChains = 8;
  const float* data = job.data;
  parallel_ranges(context, job.count / (kChains * W), 4096, [&](int64_t begin, int64_t end, int) {
    vf x[kChains] = {};
    for (int64_t i = begin; i < end; i++) {
#pragma GCC unroll 8
      for (int j = 0; j < kChains; j++) x[j] = x[j] + load(data + (i * kChains + j) * W);
    }
    vf total = set1(0);
    for (int j = 0; j < kChains; j++) total = total + x[j];
    volatile float sink = sum(total);
    (void)sink;
  });
  return TKF_STATUS_OK;
}

}  // namespace tkf::TKF_NAMESPACE
