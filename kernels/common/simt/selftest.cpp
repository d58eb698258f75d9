// A program that tests the emulator: `selftest <order> <case>...` runs kernels, some of them broken on purpose, and
// says of each whether its result was right or wrong. Kernels that end the process are in selftest_ends.h, those of
// sm_90a in selftest_hopper.h.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "../../include/tokenfilter_emulator.h"
#include "../cuda.h"

#include "selftest_ends.h"
#include "selftest_hopper.h"

using namespace tkf;

namespace {

// ---- right kernels ----

// out[block] = sum of the block's part of x, over warps through shared memory; n need not fill the last block.
template <bool kBarrier>
__global__ void sum_block(const float* x, float* out, int n) {
  TKF_SHARED(float[8], sums);
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  float value = i < n ? x[i] : 0.0f;
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kAll, value, step);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  if (kBarrier) __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0;
    for (int i = 0; i < 8; i++) sum += sums[i];
    out[blockIdx.x] = sum;
  }
}

template <bool kBarrier>
bool test_sum_block() {
  const int n = 1000;
  std::vector<float> x(n), out(4), expected(4);
  for (int i = 0; i < n; i++) x[i] = static_cast<float>(i % 7), expected[i / 256] += x[i];
  TKF_LAUNCH(nullptr, (sum_block<kBarrier>), 4, 256, 0, x.data(), out.data(), n);
  return launched() && out == expected;
}

// Turns a ring of values by one thread, several times: two barriers a round are needed.
template <int kBarriers>
__global__ void turn(int* out) {
  TKF_SHARED(int[96], ring);
  const unsigned t = threadIdx.x;
  ring[t] = static_cast<int>(t);
  __syncthreads();
  for (int round = 0; round < 5; round++) {
    const int next = ring[(t + 1) % 96];
    if (kBarriers > 1) __syncthreads();
    ring[t] = next;
    __syncthreads();
  }
  out[t] = ring[t];
}

template <int kBarriers>
bool test_turn() {
  std::vector<int> out(96);
  TKF_LAUNCH(nullptr, (turn<kBarriers>), 1, 96, 0, out.data());
  bool right = launched();
  for (int i = 0; i < 96; i++) right = right && out[i] == (i + 5) % 96;
  return right;
}

// Lanes exchange through shared memory within a warp: __syncwarp is needed.
template <bool kSync>
__global__ void swap_lanes(int* out) {
  TKF_SHARED(int[32], slots);
  slots[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (kSync) __syncwarp();
  out[threadIdx.x] = slots[31 - threadIdx.x];
}

template <bool kSync>
bool test_swap_lanes() {
  std::vector<int> out(32);
  TKF_LAUNCH(nullptr, (swap_lanes<kSync>), 1, 32, 0, out.data());
  bool right = launched();
  for (int i = 0; i < 32; i++) right = right && out[i] == 31 - i;
  return right;
}

__global__ void shuffles(int* out) {
  const int lane = static_cast<int>(threadIdx.x), value = 100 + lane;
  int* mine = out + lane * 8;
  mine[0] = __shfl_sync(kAll, value, lane + 1);  // wraps round
  mine[1] = __shfl_sync(kAll, value, 9, 8);      // lane 1 of each 8
  mine[2] = __shfl_up_sync(kAll, value, 3);
  mine[3] = __shfl_down_sync(kAll, value, 3, 16);
  mine[4] = __shfl_xor_sync(kAll, value, 5, 8);
  mine[5] = static_cast<int>(__ballot_sync(kAll, lane % 3 == 0));
  mine[6] = __any_sync(kAll, lane == 31) * 2 + __all_sync(kAll, lane < 31);
  mine[7] = lane < 10 ? static_cast<int>(__ballot_sync(0x3ffu, lane != 4)) : 0;
}

bool test_shuffles() {
  std::vector<int> out(32 * 8);
  TKF_LAUNCH(nullptr, shuffles, 1, 32, 0, out.data());
  bool right = launched();
  for (int lane = 0; lane < 32; lane++) {
    const int* mine = out.data() + lane * 8;
    right = right && mine[0] == 100 + (lane + 1) % 32 && mine[1] == 100 + lane / 8 * 8 + 1;
    right = right && mine[2] == 100 + (lane >= 3 ? lane - 3 : lane);
    right = right && mine[3] == 100 + (lane % 16 + 3 < 16 ? lane + 3 : lane) && mine[4] == 100 + (lane ^ 5);
    right = right && mine[5] == 0x49249249 && mine[6] == 2 && mine[7] == (lane < 10 ? 0x3ef : 0);
  }
  return right;
}

// d [16, 8] = a [16, 16] b [16, 8]: through cp.async, ldmatrix and mma.sync.
template <class T, bool kWait, bool kSwapped>
__global__ void multiply(const T* a, const T* b, float* d) {
  TKF_SHARED(T[16][16], tile_a);
  TKF_SHARED(T[16][8], tile_b);
  const unsigned lane = threadIdx.x;
  cp_async_16(&tile_a[lane / 2][lane % 2 * 8], a + lane * 8);
  if (lane < 16) cp_async_16(&tile_b[lane][0], b + lane * 8);
  cp_async_commit();
  if (kWait) cp_async_wait<0>();
  else cp_async_wait<1>();
  __syncthreads();
  uint32_t fragment_a[4], fragment_b[2];
  float sum[4] = {0, 0, 0, 0};
  ldmatrix_x4(fragment_a, &tile_a[lane % 16][lane / 16 * 8]);
  ldmatrix_x2_trans(fragment_b, &tile_b[lane % 16][0]);
  if (kSwapped) {
    const uint32_t first = fragment_a[1];
    fragment_a[1] = fragment_a[2];
    fragment_a[2] = first;
  }
  if constexpr (std::is_same_v<T, __half>) mma_m16n8k16_f16(sum, fragment_a, fragment_b, sum);
  else mma_m16n8k16_bf16(sum, fragment_a, fragment_b, sum);
  for (unsigned i = 0; i < 4; i++) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
}

template <class T, bool kWait, bool kSwapped>
bool test_multiply() {
  alignas(16) T a[256], b[128];
  float d[128], expected[128] = {};
  for (int i = 0; i < 256; i++) a[i] = static_cast<float>(i * 37 % 64 - 32) / 8;
  for (int i = 0; i < 128; i++) b[i] = static_cast<float>(i * 53 % 64 - 31) / 16;
  for (int i = 0; i < 2048; i++) {
    expected[i / 128 * 8 + i % 8] += float(a[i / 128 * 16 + i / 8 % 16]) * float(b[i % 128]);
  }
  TKF_LAUNCH(nullptr, (multiply<T, kWait, kSwapped>), 1, 32, 0, a, b, d);
  return launched() && memcmp(d, expected, sizeof d) == 0;  // all sums are exact
}

__global__ void copies(const int* from, int* out) {
  TKF_SHARED(int[4][4], to);
  to[3][0] = 7;
  cp_async_16(to[0], from);
  cp_async_commit();
  cp_async_16(to[1], from + 4);
  cp_async_16(to[2], from + 1, false);  // neither read nor aligned
  cp_async_commit();
  out[0] = to[0][0];
  cp_async_wait<1>();
  out[1] = to[0][0], out[2] = to[1][3], out[3] = to[2][0];
  cp_async_wait<0>();
  out[4] = to[1][3], out[5] = to[2][0], out[6] = to[3][0], out[7] = to[3][1];
}

bool test_copies() {
  alignas(16) int from[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  int out[8];
  TKF_LAUNCH(nullptr, copies, 1, 1, 0, from, out);
  const int expected[8] = {-1, 1, -1, -1, 8, 0, 7, -1};
  return launched() && memcmp(out, expected, sizeof out) == 0;
}

// Every block sees its shared memory new, of both kinds.
__global__ void fresh(int* out) {
  TKF_SHARED(int, fixed);
  TKF_DYNAMIC_SHARED(int, dynamic);
  out[blockIdx.x] = fixed == -1 && dynamic[3] == -1;
  fixed = 0, dynamic[3] = 0;
}

bool test_fresh() {
  int out[3] = {};
  TKF_LAUNCH(nullptr, fresh, 3, 1, 16, out);
  return launched() && out[0] && out[1] && out[2];
}

// Threads that have ended are waited for by nobody.
__global__ void early_exit(int* out) {
  if (threadIdx.x % 3 == 0) return;
  __syncthreads();
  const int lanes = static_cast<int>(__popc(__ballot_sync(kAll, 1)));
  __syncthreads();
  out[threadIdx.x] = lanes;
}

bool test_early_exit() {
  std::vector<int> out(64);
  TKF_LAUNCH(nullptr, early_exit, 1, 64, 0, out.data());
  return launched() && out[1] == 21 && out[62] == 21 && out[3] == 0;
}

// The last block to finish adds up what all have written.
__global__ void last_block(const int* x, int* partial, unsigned* done, int* out) {
  TKF_SHARED(unsigned, ticket);
  atomicAdd(&partial[blockIdx.x], x[blockIdx.x * blockDim.x + threadIdx.x]);
  __threadfence();
  if (__syncthreads_count(true) != static_cast<int>(blockDim.x)) return;
  if (threadIdx.x == 0) ticket = atomicAdd(done, 1u);
  __syncthreads();
  if (ticket + 1 == gridDim.x && threadIdx.x == 0) {
    for (unsigned i = 0; i < gridDim.x; i++) *out += partial[i];
  }
}

bool test_last_block() {
  std::vector<int> x(5 * 64), partial(5);
  int sum = 0, out = 0;
  unsigned done = 0;
  for (int i = 0; i < 320; i++) sum += x[i] = i * i % 11;
  TKF_LAUNCH(nullptr, last_block, 5, 64, 0, x.data(), partial.data(), &done, &out);
  return launched() && out == sum;
}

__global__ void indices(int* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * 24 + thread]++;
}

bool test_indices() {
  std::vector<int> out(30 * 24);
  TKF_LAUNCH(nullptr, indices, dim3(2, 3, 5), dim3(4, 3, 2), 0, out.data());
  return launched() && out == std::vector<int>(30 * 24, 1);
}

bool test_floats() {
  for (unsigned i = 0; i < 65536; i++) {
    const auto bits = static_cast<uint16_t>(i);
    const float half = simt::half_to_float(bits), bfloat16 = simt::bfloat16_to_float(bits);
    if (half == half && simt::float_to_half(half) != bits) return false;
    if (bfloat16 == bfloat16 && simt::float_to_bfloat16(bfloat16) != bits) return false;
    if (half != half && simt::float_to_half(half) != 0x7fff) return false;
  }
  // Ties go to even, 65520 is infinite, the smallest number survives.
  return simt::float_to_half(1.0f + 1.0f / 2048) == 0x3c00 && simt::float_to_half(1.0f + 3.0f / 2048) == 0x3c02 &&
         simt::float_to_half(65519.0f) == 0x7bff && simt::float_to_half(65520.0f) == 0x7c00 &&
         simt::float_to_half(-5.9604645e-8f) == 0x8001 && simt::float_to_half(2.9802322e-8f) == 0 &&
         simt::float_to_bfloat16(1.00390625f) == 0x3f80 && simt::float_to_bfloat16(1.01171875f) == 0x3f82;
}

__global__ void add_one(int* x) { atomicAdd(x, 1); }

// What is captured does not run, is replayed as often as asked, and breaks where something waits or allocates.
bool test_capture() {
  int x = 0, y = 0;
  tkf_emulator_graph* graph = nullptr;
  if (tkf_emulator_capture_end(&graph) != TKF_STATUS_STATE) return false;
  if (tkf_emulator_capture_begin() != TKF_STATUS_OK) return false;
  if (tkf_emulator_capture_begin() != TKF_STATUS_STATE) return false;
  TKF_LAUNCH(nullptr, add_one, 3, 2, 0, &x);
  cudaMemcpyAsync(&y, &x, sizeof x, cudaMemcpyDeviceToDevice);
  if (x != 0 || tkf_emulator_capture_end(&graph) != TKF_STATUS_OK || x != 0) return false;
  tkf_emulator_graph_launch(graph);
  x = 10;
  tkf_emulator_graph_launch(graph);
  tkf_emulator_graph_destroy(graph);
  if (x != 16 || y != 16) return false;
  void* memory = nullptr;
  const auto breaks = [&](auto call) {
    tkf_emulator_capture_begin();
    const bool refused = call() == cudaErrorStreamCaptureUnsupported;
    return cudaGetLastError() == cudaErrorStreamCaptureUnsupported && refused &&
           tkf_emulator_capture_end(&graph) == TKF_STATUS_STATE && graph == nullptr;
  };
  return breaks([] { return cudaStreamSynchronize(nullptr); }) && breaks([] { return cudaDeviceSynchronize(); }) &&
         breaks([&] { return cudaMalloc(&memory, 4); }) && breaks([] { return cudaFree(nullptr); }) &&
         cudaStreamSynchronize(nullptr) == cudaSuccess;
}

// Launches that a device refuses.
bool test_refused() {
  int x = 0;
  TKF_LAUNCH(nullptr, add_one, 1, 1025, 0, &x);
  if (cudaGetLastError() != cudaErrorInvalidConfiguration) return false;
  TKF_LAUNCH(nullptr, add_one, 0, 32, 0, &x);
  if (cudaGetLastError() != cudaErrorInvalidConfiguration) return false;
  TKF_LAUNCH(nullptr, add_one, 1, 1, 49 * 1024, &x);
  if (cudaGetLastError() != cudaErrorInvalidValue || x != 0) return false;
  if (TKF_ALLOW_SHARED(add_one, 228 * 1024) != cudaErrorInvalidValue) return false;
  cudaGetLastError();
  if (TKF_ALLOW_SHARED(add_one, 49 * 1024) != cudaSuccess) return false;
  TKF_LAUNCH(nullptr, add_one, 1, 1, 49 * 1024, &x);
  return launched() && x == 1;
}

__global__ void missing_lane(int* out) {  // lane 20 does not exist in a block of 20 threads
  out[threadIdx.x] = __shfl_sync(kAll, 1, static_cast<int>(threadIdx.x) + 1);
}
bool test_missing_lane() {
  std::vector<int> out(20);
  TKF_LAUNCH(nullptr, missing_lane, 1, 20, 0, out.data());
  return launched() && out[18] == 1 && out[19] == 1;
}

const Case kCases[] = {
    {"sum_block", test_sum_block<true>},
    {"turn", test_turn<2>},
    {"swap_lanes", test_swap_lanes<true>},
    {"shuffles", test_shuffles},
    {"multiply_f16", test_multiply<__half, true, false>},
    {"multiply_bf16", test_multiply<__nv_bfloat16, true, false>},
    {"copies", test_copies},
    {"fresh", test_fresh},
    {"early_exit", test_early_exit},
    {"last_block", test_last_block},
    {"indices", test_indices},
    {"floats", test_floats},
    {"capture", test_capture},
    {"refused", test_refused},
    // Wrong numbers.
    {"sum_block_without_barrier", test_sum_block<false>},
    {"turn_with_one_barrier", test_turn<1>},
    {"swap_lanes_without_sync", test_swap_lanes<false>},
    {"multiply_without_wait", test_multiply<__half, false, false>},
    {"multiply_wrong_registers", test_multiply<__half, true, true>},
    {"missing_lane", test_missing_lane},
    // Ends.
    TKF_ENDS(lonely_barrier, 64, 0, 0),
    TKF_ENDS(two_barriers, 32, 0, 0),
    TKF_ENDS(half_a_warp, 32, 0, 0),
    TKF_ENDS(foreign_mask, 32, 0, 0),
    TKF_ENDS(global_ldmatrix, 32, 0, 0),
    TKF_ENDS(odd_copy, 1, 0, 0),
    TKF_ENDS(past_shared, 1, 5, 20),
    TKF_ENDS(past_fixed, 1, 5, 0),
    TKF_ENDS(past_global, 1, 0, 0),
    TKF_ENDS(deep_stack, 1, 0, 0),
};

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) return 2;
  if (count == 2) {  // all cases, a line each
    for (const Case& one : kCases) puts(one.name);
    for (const Case& one : kHopperCases) puts(one.name);
    return 0;
  }
  if (tkf_emulator_order(atoi(arguments[1]), 42) != TKF_STATUS_OK) return 2;
  for (int i = 2; i < count; i++) {
    const auto run = [&](const Case& one) {
      if (strcmp(one.name, arguments[i]) == 0) printf("%s %s\n", one.name, one.run() ? "right" : "wrong");
    };
    for (const Case& one : kCases) run(one);
    for (const Case& one : kHopperCases) run(one);
  }
  return 0;
}
