// Checks of tkf_machine_measure and tkf_memory_advise; and what they do on the CPU: the former gives the roof that other
// kernels are measured against.
#include "../common/check.h"

#if !defined(TKF_ON_CUDA)
#include <chrono>
#include <cstdlib>

#include "../common/cpu_context.h"
#include "machine.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif
#endif

namespace tkf {

bool check_args(Check& check, const tkf_machine_measure_args& a) {
  check.array<double>("out", a.out, {2});
  return true;
}

bool check_args(Check& check, const tkf_memory_advise_args& a) {
  check.size("size", a.size);
  check.array<uint8_t>("memory", a.memory, {a.size});
  return a.size > 0;
}

#if !defined(TKF_ON_CUDA)
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

int32_t machine_measure(tkf_context* context, const tkf_machine_measure_args& a) {
  constexpr int64_t kRounds = 2000000;         // some 10 milliseconds
  constexpr int64_t kFloats = int64_t{1} << 27;  // 512 MB: more than the caches hold
  void* memory = nullptr;
  if (posix_memalign(&memory, 64, kFloats * sizeof(float)) != 0) return TKF_STATUS_MEMORY;
  float* data = static_cast<float*>(memory);
  for (int64_t i = 0; i < kFloats; i++) data[i] = 1;
  double operations = 0;
  const Kernels& kernels = *cpu(context)->kernels;
  const double multiply = best_time([&] { kernels.machine_multiply(context, {kRounds, &operations}); });
  const double read = best_time([&] { kernels.machine_read(context, {data, kFloats}); });
  free(memory);
  double* out = as<double>(a.out);
  out[0] = operations / multiply;
  out[1] = static_cast<double>(kFloats * 4) / read;
  return TKF_STATUS_OK;
}

int32_t memory_advise(tkf_context*, const tkf_memory_advise_args& a) {
#if defined(__linux__)
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)), at = reinterpret_cast<uintptr_t>(a.memory.data);
  const uintptr_t begin = (at + page - 1) / page * page, end = (at + static_cast<uintptr_t>(a.size)) / page * page;
  // Advice alone: a system that does not take it keeps small pages.
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  static_cast<void>(a);
#endif
  return TKF_STATUS_OK;
}
#else
int32_t on_cuda::machine_measure(tkf_context* context, const tkf_machine_measure_args&) {
  return Check(context).fail(TKF_STATUS_UNSUPPORTED, "found a device, expected the CPU library");
}

// A device's memory has large pages.
int32_t on_cuda::memory_advise(tkf_context*, const tkf_memory_advise_args&) { return TKF_STATUS_OK; }
#endif

}  // namespace tkf
