// Entry point of tkf_machine_measure: the roof that other kernels are measured against.
#include <chrono>
#include <cstdlib>

#include "../common/check.h"

namespace {

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Best of a few tries: others on the machine can only slow one down.
template <class Work>
double best_time(Work work) {
  double best = 1e30;
  for (int i = 0; i < 5; i++) {
    const double start = seconds();
    work();
    const double time = seconds() - start;
    if (time < best) best = time;
  }
  return best;
}

}  // namespace

int32_t tkf_machine_measure(tkf_context* context, double* out, uint64_t out_bytes) {
  tkf::Check check(context);
  check.buffer("out", out, out_bytes, 16, 8);
  if (!check.ok()) return check.status();
  constexpr int64_t kRounds = 2000000;         // some 10 milliseconds
  constexpr int64_t kFloats = int64_t{1} << 25;  // 128 MB: more than the caches hold
  void* memory = nullptr;
  if (posix_memalign(&memory, 64, kFloats * sizeof(float)) != 0) return check.fail_memory();
  float* data = static_cast<float*>(memory);
  for (int64_t i = 0; i < kFloats; i++) data[i] = 1;
  double operations = 0;
  const double multiply = best_time([&] { operations = context->kernels->machine_multiply(context, kRounds); });
  const double read = best_time([&] { context->kernels->machine_read(context, data, kFloats); });
  free(memory);
  out[0] = operations / multiply;
  out[1] = static_cast<double>(kFloats * 4) / read;
  return TKF_STATUS_OK;
}
