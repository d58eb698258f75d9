// `selftest <order> <case>` runs a kernel on the emulator and prints whether its result was right. The kernels are
// broken on purpose in ways that the real ones (../mutants/) cannot be: they end the process, or leave their memory.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "../../common/cuda.h"
#include "tokenfilter_emulator.h"

namespace {

// out[0] = sum of threadIdx.x over the warps of a block, through shared memory.
template <bool kBarrier>
__global__ void sum_block(int* out) {
  TKF_SHARED(int[8], sums);
  int value = static_cast<int>(threadIdx.x);
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  if (kBarrier) __syncthreads();
  if (threadIdx.x != 0) return;
  out[0] = 0;
  for (int sum : sums) out[0] += sum;
}
__global__ void lonely_barrier(int*) {
  if (threadIdx.x <= 32) __syncthreads();
  else __syncwarp();  // with thread 32
}
__global__ void past_shared(int* out) {
  TKF_DYNAMIC_SHARED(int, memory);
  memory[5 + out[0]] = 1;
}
__global__ void past_global(int* out) { out[16] = 1; }
__global__ void deep_stack(int* out) {
  volatile int big[256 * 1024];
  big[0] = out[0];
  out[0] = big[0];
}
// Of 1 and twice seven products of 1.75 * 2^-25, which tensor cores cut to 2^-25 each: what they add to 1, in 2^-23.
__global__ void cut_products(int* out) {
  const unsigned column = threadIdx.x % 4 * 2;
  const uint32_t first = column == 0 ? 0x3c00 : 0x0f00, ninth = column == 0 ? 0 : 0x0800;
  const uint32_t a[4] = {0x0f000000 | first, 0x0f000000 | first, 0x0f000f00, 0x0f000f00};
  const uint32_t b[2] = {0x08000000 | (column == 0 ? 0x3c00u : 0x0800u), 0x08000000 | ninth};
  const float c[4] = {};
  float d[4];
  tkf::mma_m16n8k16_f16(d, a, b, c);
  if (threadIdx.x == 0) out[0] = static_cast<int>((d[0] - 1) * 0x1p23f);
}

struct Case {
  const char* name;
  void (*kernel)(int*);
  unsigned threads, shared_bytes;
  int expected;
};
const Case kCases[] = {
    {"sum_block", sum_block<true>, 256, 0, 255 * 128}, {"sum_block_without_barrier", sum_block<false>, 256, 0, 255 * 128},
    {"lonely_barrier", lonely_barrier, 64, 0, 0},      {"past_shared", past_shared, 1, 20, 0},
    {"past_global", past_global, 1, 0, 0},             {"deep_stack", deep_stack, 1, 0, 0},
    {"eight_products", cut_products, 32, 0, 2},        {"sixteen_products", cut_products, 32, 0, 3},
};

}  // namespace

int main(int, char** arguments) {
  for (const Case& one : kCases) {
    if (strcmp(one.name, arguments[2]) != 0) continue;
    bool right = true;
    for (int turn = 0; turn < 2; turn++) {  // the second thread's stacks may lie where those of the first were
      std::thread([&] {
        tkf_emulator_order(atoi(arguments[1]), 42);
        std::vector<int> out(16);
        TKF_LAUNCH(nullptr, one.kernel, 1, one.threads, one.shared_bytes, out.data());
        right &= cudaGetLastError() == cudaSuccess && out[0] == one.expected;
      }).join();
    }
    puts(right ? "right" : "wrong");
  }
  return 0;
}
