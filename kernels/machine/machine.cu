// tkf_machine_measure of the CUDA library: the roof that other kernels are measured against. Beside cuda_context.cu
// this is the one file that waits for the device.
#if defined(TKF_EMULATE)
#include <chrono>
#endif

#include "../common/launch.h"

namespace tkf {

constexpr int kMultiplyChains = 8, kMultiplyThreads = 256;

// `rounds` of independent multiply-adds a thread; `sink` keeps the compiler from leaving them out.
__global__ void __launch_bounds__(kMultiplyThreads) multiply_kernel(int rounds, float* sink) {
  wait_for_earlier_kernels();
  float x[kMultiplyChains];
#pragma unroll
  for (int i = 0; i < kMultiplyChains; i++) x[i] = static_cast<float>(threadIdx.x + static_cast<unsigned>(i));
  for (int round = 0; round < rounds; round++) {
#pragma unroll
    for (int i = 0; i < kMultiplyChains; i++) x[i] = fmaf(x[i], 0.999f, 0.001f);
  }
  float total = 0;
#pragma unroll
  for (int i = 0; i < kMultiplyChains; i++) total += x[i];
  if (total == -1) *sink = total;  // never
}

__global__ void __launch_bounds__(256) copy_kernel(const float4* from, float4* to, int64_t count) {
  wait_for_earlier_kernels();
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) to[i] = from[i];
}

namespace {

// Seconds that the work enqueued by `launch` takes on a stream; negative where it cannot be timed.
template <class Launch>
double seconds_of(const Stream& stream, Launch launch) {
#if defined(TKF_EMULATE)
  static_cast<void>(stream);  // launches have run when they return
  const auto start = std::chrono::steady_clock::now();
  launch();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
#else
  cudaEvent_t start = nullptr, end = nullptr;
  float milliseconds = -1;
  if (cudaEventCreate(&start) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess) {
    cudaEventRecord(start, stream);
    launch();
    cudaEventRecord(end, stream);
    if (cudaEventSynchronize(end) != cudaSuccess || cudaEventElapsedTime(&milliseconds, start, end) != cudaSuccess) {
      milliseconds = -1;
    }
  }
  if (start != nullptr) cudaEventDestroy(start);
  if (end != nullptr) cudaEventDestroy(end);
  return milliseconds / 1000.0;
#endif
}

// Best of a few tries, the first of which warms up.
template <class Launch>
double best_seconds(const Stream& stream, Launch launch) {
  double best = -1;
  for (int i = 0; i < 6; i++) {
    const double seconds = seconds_of(stream, launch);
    if (seconds > 0 && (best < 0 || seconds < best)) best = seconds;
  }
  return best;
}

}  // namespace

// A device's memory has large pages.
int32_t on_cuda::memory_advise(tkf_context*, const tkf_memory_advise_args&) { return TKF_STATUS_OK; }

int32_t on_cuda::machine_measure(tkf_context* context, const tkf_machine_measure_args& a) {
  const bool emulated = cuda_arch(context) == 0;
  // More than a cache holds.
  const int64_t bytes = emulated ? int64_t{1} << 18 : int64_t{1} << 28;
  const int rounds = emulated ? 100 : 20000;
  void* const memory = cuda_workspace(context, static_cast<size_t>(2 * bytes));
  if (memory == nullptr) return cuda_short(context, static_cast<size_t>(2 * bytes));
  const Stream stream = cuda_stream(context);
  const int blocks = 8 * cuda_num_sms(context);
  float4* const data = static_cast<float4*>(memory);
  const int64_t count = bytes / static_cast<int64_t>(sizeof(float4));
  cudaMemsetAsync(memory, 0, static_cast<size_t>(2 * bytes), stream);

  const double multiply = best_seconds(stream, [&] {
    TKF_LAUNCH(stream, (multiply_kernel), static_cast<unsigned>(blocks), kMultiplyThreads, 0, rounds,
               static_cast<float*>(memory));
  });
  const double copy = best_seconds(stream, [&] {
    TKF_LAUNCH(stream, (copy_kernel), grid_of(count, 4 * 256), 256, 0, data, data + count, count);
  });
  const int32_t status = cuda_launched(context, "machine_measure");
  if (status != TKF_STATUS_OK) return status;
  if (multiply <= 0 || copy <= 0) {
    return Check(context).fail(TKF_STATUS_UNSUPPORTED,
                               "found a stream that cannot be timed, expected none that is captured");
  }
  const double operations = 2.0 * rounds * kMultiplyChains * kMultiplyThreads * blocks;
  double* out = as<double>(a.out);
  out[0] = operations / multiply;
  out[1] = 2.0 * static_cast<double>(bytes) / copy;
  return TKF_STATUS_OK;
}

}  // namespace tkf
