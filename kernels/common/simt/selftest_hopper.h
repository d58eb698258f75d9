// Cases of the self-test for mbarriers, TMA, wgmma and named barriers: right kernels, and the same broken on purpose.
#pragma once
#include <cstdlib>
#include <vector>

#include "../hopper.h"
#include "selftest_ends.h"

namespace {

using namespace tkf::hopper;

// How a kernel is broken; each breaks one thing.
enum Break {
  kNone,
  // Wrong numbers.
  kNoFence,         // queries written, and no fence_async after them
  kNoWaitCopy,      // reads what TMA brings without a wait
  kEarlyParity,     // waits for the phase before
  kNoCommit,
  kNoWaitProduct,
  kEarlyOverwrite,  // a factor overwritten by TMA while the product is under way
  kStep,            // half a step along the depth
  kLeading,         // half the distance between 64 columns and the next 64
  kRow,             // queries swizzled otherwise
  // Ends.
  kSecondWarp,      // the second warp has another descriptor
  kLoneThread,      // one thread takes no part in a product
  kNoWgmmaFence,
  kTouchedSums,     // accumulators changed before the wait
  kAbandoned,       // ends while products are under way
  kUncollected,     // ends while a copy is under way
  kFewBytes,
  kManyBytes,
  kNoExpect,
  kTwice,           // an arrival more than announced
  kMisaligned,      // TMA's destination
  kBase,            // a matrix that begins within a pattern
  kSwizzleMode,
  kBaseOffset,
  kNoStartFence,    // mbarriers not shown to TMA
  kUnused,          // a bit of a descriptor that means nothing
  kPlainWrite,      // TMA's destination written by a thread, without a fence
};

struct Maps {
  CUtensorMap a, b;
};

constexpr int kDepth = 128, kBlock = 128 * 128;  // bytes of 64 columns of 128 rows

// scores [64, 128] = x [64, 128] keys^T, then out [64, 128] = scores values, and once more its last 64 columns: keys
// and values [128, 1, 128] by TMA, x by the threads, scores as fragments. 128 threads.
template <class T>
__global__ void two_products(const T* x, const Maps maps, float* scores, float* out, Break broken) {
  TKF_DYNAMIC_SHARED(unsigned char, dynamic);
  TKF_SHARED(uint64_t[2], ready);
  const int off = broken == kMisaligned ? 64 : broken == kBase ? 128 : 0;
  unsigned char* const shared = dynamic + (1024 - tkf::shared_address(dynamic) % 1024) % 1024 + off;
  unsigned char *const rows = shared + kBlock * 2, *const queries = rows + kBlock * 2;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  if (thread == 0) {
    barrier_start(&ready[0], 1);
    barrier_start(&ready[1], broken == kTwice ? 2 : 1);
    if (broken != kNoStartFence) fence_async();
  }
  __syncthreads();
  if (thread == 0) {
    const int bytes = kBlock * 2 + (broken == kFewBytes ? -16 : broken == kManyBytes ? 16 : 0);
    if (broken == kPlainWrite) shared[3] = 0;
    if (broken != kNoExpect) barrier_expect(&ready[0], static_cast<uint32_t>(bytes));
    for (int c = 0; c < 2; c++) load_box(shared + c * kBlock, &maps.a, c * 64, 0, 0, &ready[0]);
    if (broken == kTwice) {
      for (int i = 0; i < 3; i++) barrier_arrive(&ready[1]);
    }
    barrier_expect(&ready[1], kBlock * 2);
    for (int c = 0; c < 2; c++) load_box(rows + c * kBlock, &maps.b, c * 64, 0, 0, &ready[1]);
  }
  for (int i = thread; i < 64 * kDepth / 2; i += 128) {
    const int r = i / (kDepth / 2), c = i % (kDepth / 2) * 2;
    const int at = c / 64 * (kBlock / 2) + swizzled(r, c % 64);
    *reinterpret_cast<uint32_t*>(queries + (broken == kRow ? at ^ 16 : at)) =
        *reinterpret_cast<const uint32_t*>(x + r * kDepth + c);
  }
  if (broken != kNoFence) fence_async();
  tkf::sync_named<3, 128>();
  if (broken != kNoWaitCopy) barrier_wait(&ready[0], broken == kEarlyParity ? 1 : 0);

  float d[16][4];
  if (broken != kNoWgmmaFence) wgmma_fence(d);
  uint64_t a = describe(queries), b = describe(shared);
  if (broken == kSecondWarp && warp == 1) a += 64;
  if (broken == kSwizzleMode) a ^= uint64_t{3} << 62;
  if (broken == kBaseOffset) a |= uint64_t{1} << 49;
  if (broken == kUnused) a |= uint64_t{1} << 46;
  for (int k = 0; k < kDepth / 16; k++) {
    const int step = broken == kStep ? 16 : 32;
    const auto along = [&](int block) { return static_cast<uint64_t>((k / 4 * block + k % 4 * step) >> 4); };
    if (broken == kLoneThread && thread == 77) break;
    Wgmma<T>::scores(d, a + along(kBlock / 2), b + along(kBlock), k > 0);
  }
  if (broken == kAbandoned) return;
  if (broken != kNoCommit) wgmma_commit();
  if (broken == kTouchedSums) d[3][1] = 0;
  if (broken == kEarlyOverwrite && thread == 0) {
    barrier_wait(&ready[1], 0);
    barrier_expect(&ready[1], kBlock);
    load_box(shared, &maps.b, 0, 0, 0, &ready[1]);
    barrier_wait(&ready[1], 1);
  }
  if (broken != kNoWaitProduct) wgmma_wait(d);
  const auto store = [&](float* to, int columns, const float (*from)[4]) {
    for (int n = 0; n < columns / 8; n++) {
      for (int i = 0; i < 4; i++) {
        to[(warp * 16 + lane / 4 + i / 2 * 8) * columns + n * 8 + lane % 4 * 2 + i % 2] = from[n][i];
      }
    }
  };
  store(scores, 128, d);
  if (broken == kUncollected) return;

  uint32_t fragments[8][4];
  for (int k = 0; k < 8; k++) {
    for (int i = 0; i < 4; i++) {
      const float* const pair = &d[2 * k + i / 2][i % 2 * 2];
      const T values[2] = {T(pair[0]), T(pair[1])};
      memcpy(&fragments[k][i], values, 4);
    }
  }
  barrier_wait(&ready[1], broken == kEarlyOverwrite ? 1 : 0);
  float sums[16][4] = {}, half[8][4] = {};
  wgmma_fence(sums);
  wgmma_fence(half);
  b = describe(rows, broken == kLeading ? kBlock / 2 : kBlock);
  for (int k = 0; k < 8; k++) {
    Wgmma<T>::values(sums, fragments[k], b + static_cast<uint64_t>(k * 2048 >> 4));
    Wgmma<T>::values(half, fragments[k], describe(rows + kBlock) + static_cast<uint64_t>(k * 2048 >> 4));
  }
  wgmma_commit();
  wgmma_wait(sums);
  store(out, 128, sums);
  store(out + 64 * 128, 64, half);
  if (broken == kNoWaitCopy || broken == kEarlyParity) barrier_wait(&ready[0], 0);
}

CUresult encode(CUtensorMap* map, const void* data, uint64_t rows) {
  const cuuint64_t sizes[3] = {kDepth, 1, rows}, strides[2] = {kDepth * 2, kDepth * 2};
  const cuuint32_t box[3] = {64, 1, 128}, steps[3] = {1, 1, 1};
  return find_encode()(map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 3, const_cast<void*>(data), sizes, strides, box, steps,
                       CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_NONE,
                       CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

template <class T>
struct Aligned {  // to 16 bytes, as TMA asks
  T* data;
  explicit Aligned(size_t count) : data(static_cast<T*>(aligned_alloc(16, (count * sizeof(T) + 15) / 16 * 16))) {}
  ~Aligned() { free(data); }
};

// Small whole numbers: every sum is exact, and so is every score as f16 and bf16.
template <class T>
bool test_products(Break broken) {
  constexpr int kKeys = 120;  // the last 8 rows of the box lie outside
  Aligned<T> x(64 * kDepth), keys(kKeys * kDepth), values(kKeys * 128);
  std::vector<float> scores(64 * 128), out(64 * 192), expected_scores(64 * 128), expected(64 * 192);
  for (int i = 0; i < 64 * kDepth; i++) x.data[i] = static_cast<float>(i * 37 % 3 - 1);
  for (int i = 0; i < kKeys * kDepth; i++) keys.data[i] = static_cast<float>(i % 11 == i / 128 % 11 ? 1 : 0);
  for (int i = 0; i < kKeys * 128; i++) values.data[i] = static_cast<float>(i * 29 % 5 - 2);
  for (int r = 0; r < 64; r++) {
    for (int n = 0; n < kKeys; n++) {
      float& s = expected_scores[r * 128 + n];
      for (int k = 0; k < kDepth; k++) s += float(x.data[r * kDepth + k]) * float(keys.data[n * kDepth + k]);
      for (int c = 0; c < 128; c++) expected[r * 128 + c] += s * float(values.data[n * 128 + c]);
    }
  }
  for (int i = 0; i < 64 * 64; i++) expected[64 * 128 + i] = expected[i / 64 * 128 + 64 + i % 64];
  Maps maps;
  if (encode(&maps.a, keys.data, kKeys) != CUDA_SUCCESS) return false;
  if (encode(&maps.b, values.data, kKeys) != CUDA_SUCCESS) return false;
  constexpr size_t shared = 5 * kBlock + 1024;
  if (TKF_ALLOW_SHARED(two_products<T>, shared) != cudaSuccess) return false;
  TKF_LAUNCH(nullptr, two_products<T>, 1, 128, shared, x.data, maps, scores.data(), out.data(), broken);
  return launched() && scores == expected_scores && out == expected;
}

// A tensor [5, 3, 40] read from (-8, 1, -2) on: zeros outside, and pieces where the swizzle puts them.
__global__ void box(const CUtensorMap map, unsigned short* out) {
  TKF_DYNAMIC_SHARED(unsigned char, dynamic);
  TKF_SHARED(uint64_t, ready);
  if (threadIdx.x == 0) {
    barrier_start(&ready, 1);
    fence_async();
    load_box(dynamic, &map, -8, 1, -2, &ready);  // bytes may be announced after the copy
    out[0] = *reinterpret_cast<unsigned short*>(dynamic);
    barrier_expect(&ready, 8 * 2 * 128);
  }
  __syncthreads();
  barrier_wait(&ready, 0);
  const unsigned row = threadIdx.x / 64, c = threadIdx.x % 64;
  const unsigned address = tkf::shared_address(dynamic) + row * 128 + c * 2;
  const unsigned swizzled = (address ^ (address >> 3 & 0x70)) - tkf::shared_address(dynamic);
  out[1 + threadIdx.x] = *reinterpret_cast<unsigned short*>(dynamic + swizzled);
}

bool test_box() {
  Aligned<unsigned short> x(5 * 3 * 40);
  for (int i = 0; i < 5 * 3 * 40; i++) x.data[i] = static_cast<unsigned short>(i + 1);
  const cuuint64_t sizes[3] = {40, 3, 5}, strides[2] = {80, 240};
  const cuuint32_t size[3] = {64, 2, 8}, steps[3] = {1, 1, 1};
  CUtensorMap map;
  if (cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 3, x.data, sizes, strides, size, steps,
                             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_NONE,
                             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS) return false;
  std::vector<unsigned short> out(1 + 1024);
  TKF_LAUNCH(nullptr, box, 1, 1024, 2048, map, out.data());
  bool right = launched() && out[0] == 0xffff;
  for (int i = 0; i < 1024; i++) {
    const int column = i % 64 - 8, head = 1 + i / 64 % 2, row = i / 128 - 2;
    const bool inside = column >= 0 && column < 40 && head < 3 && row >= 0 && row < 5;
    right = right && out[1 + i] == (inside ? (row * 3 + head) * 40 + column + 1 : 0);
  }
  return right;
}

// Two sides hand a number to and fro, 6 times, over barriers of 32 and of 1 arrivals.
template <bool kWait>
__global__ void to_and_fro(int* out) {
  TKF_SHARED(uint64_t[2], turn);
  TKF_SHARED(int, number);
  if (threadIdx.x == 0) {
    barrier_start(&turn[0], 1);
    barrier_start(&turn[1], 32);
    number = 0;
  }
  __syncthreads();
  for (unsigned round = 0; round < 6; round++) {
    if (threadIdx.x == 0) {
      if (round > 0 && kWait) barrier_wait(&turn[1], (round - 1) & 1);
      number++;
      barrier_arrive(&turn[0]);
    }
    if (threadIdx.x >= 32) {
      barrier_wait(&turn[0], round & 1);
      out[(threadIdx.x - 32) * 6 + round] = number;
      barrier_arrive(&turn[1]);
    }
  }
}

template <bool kWait>
bool test_to_and_fro() {
  std::vector<int> out(32 * 6);
  TKF_LAUNCH(nullptr, (to_and_fro<kWait>), 1, 64, 0, out.data());
  bool right = launched();
  for (int i = 0; i < 32 * 6; i++) right = right && out[i] == i % 6 + 1;
  return right;
}

// Warps 0 and 1 exchange at a barrier of their own, of which a lane has ended, while warp 2 waits at another.
template <bool kSync>
__global__ void named(int* out) {
  TKF_SHARED(int[96], slots);
  const unsigned t = threadIdx.x;
  if (t == 5) return;
  slots[t] = static_cast<int>(t);
  if (t < 64) {
    if (kSync) tkf::sync_named<1, 64>();
    out[t] = slots[t ^ 63];
  } else {
    tkf::sync_named<2, 32>();
    out[t] = slots[64 + (t ^ 31) % 32];
  }
}

template <bool kSync>
bool test_named() {
  std::vector<int> out(96);
  TKF_LAUNCH(nullptr, (named<kSync>), 1, 96, 0, out.data());
  bool right = launched();
  for (int i = 0; i < 96; i++) {
    if (i != 5 && i != 58) right = right && out[i] == (i < 64 ? i ^ 63 : 64 + (i ^ 31) % 32);
  }
  return right;
}

// What the driver refuses.
bool test_maps() {
  Aligned<unsigned short> x(64 * 64);
  struct {
    CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    cuuint32_t rank = 2;
    unsigned char* address = nullptr;
    cuuint64_t sizes[5] = {64, 64, 1, 1, 1}, strides[4] = {128, 8192, 8192, 8192};
    cuuint32_t box[5] = {64, 64, 1, 1, 1}, steps[5] = {1, 1, 1, 1, 1};
    CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_128B;
  } const good;
  const auto takes = [&](auto change) {
    auto with = good;
    with.address = reinterpret_cast<unsigned char*>(x.data);
    change(with);
    CUtensorMap map;
    return cuTensorMapEncodeTiled(&map, with.type, with.rank, with.address, with.sizes, with.strides, with.box,
                                  with.steps, CU_TENSOR_MAP_INTERLEAVE_NONE, with.swizzle,
                                  CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
  };
  return takes([](auto&) {}) && takes([](auto& m) { m.rank = 5; }) && takes([](auto& m) { m.box[1] = 256; }) &&
         takes([](auto& m) { m.sizes[0] = 60; }) && !takes([](auto& m) { m.rank = 0; }) &&
         !takes([](auto& m) { m.rank = 6; }) && !takes([](auto& m) { m.address += 8; }) &&
         !takes([](auto& m) { m.sizes[1] = 0; }) && !takes([](auto& m) { m.sizes[1] = (uint64_t{1} << 32) + 1; }) &&
         !takes([](auto& m) { m.strides[0] = 136; }) && !takes([](auto& m) { m.strides[0] = uint64_t{1} << 40; }) &&
         !takes([](auto& m) { m.strides[0] = 112; }) && !takes([](auto& m) { m.box[1] = 257; }) &&
         !takes([](auto& m) { m.box[1] = 0; }) && !takes([](auto& m) { m.box[0] = 60; }) &&
         !takes([](auto& m) { m.box[0] = 72; }) && !takes([](auto& m) { m.steps[1] = 9; }) &&
         !takes([](auto& m) { m.swizzle = CU_TENSOR_MAP_SWIZZLE_64B; });
}

__global__ void lonely_named(int*) {
  if (threadIdx.x < 32) tkf::sync_named<4, 64>();
}
__global__ void two_numbers(int*) {
  if (threadIdx.x < 32) tkf::sync_named<4, 64>();
  else tkf::sync_named<4, 32>();
}
__global__ void overwritten_mbarrier(int*) {
  TKF_SHARED(uint64_t, barrier);
  barrier_start(&barrier, 1);
  barrier = 0;
  barrier_arrive(&barrier);
}
__global__ void no_arrivals(int* out) {
  TKF_SHARED(uint64_t, barrier);
  barrier_start(&barrier, out[0]);
}
__global__ void half_a_group(int*) {
  float d[8][4];
  wgmma_fence(d);
}

// Two products, broken so.
#define TKF_BROKEN(how) {#how, [] { return test_products<__half>(how); }}
const Case kHopperCases[] = {
    {"products_f16", [] { return test_products<__half>(kNone); }},
    {"products_bf16", [] { return test_products<__nv_bfloat16>(kNone); }},
    {"box", test_box},
    {"to_and_fro", test_to_and_fro<true>},
    {"named", test_named<true>},
    {"maps", test_maps},
    // Wrong numbers.
    {"named_without_barrier", test_named<false>},
    TKF_BROKEN(kNoFence),
    TKF_BROKEN(kNoWaitCopy),
    TKF_BROKEN(kEarlyParity),
    TKF_BROKEN(kNoCommit),
    TKF_BROKEN(kNoWaitProduct),
    TKF_BROKEN(kEarlyOverwrite),
    TKF_BROKEN(kStep),
    TKF_BROKEN(kLeading),
    TKF_BROKEN(kRow),
    // Ends.
    TKF_BROKEN(kSecondWarp),
    TKF_BROKEN(kLoneThread),
    TKF_BROKEN(kNoWgmmaFence),
    TKF_BROKEN(kTouchedSums),
    TKF_BROKEN(kAbandoned),
    TKF_BROKEN(kUncollected),
    TKF_BROKEN(kFewBytes),
    TKF_BROKEN(kManyBytes),
    TKF_BROKEN(kNoExpect),
    TKF_BROKEN(kTwice),
    TKF_BROKEN(kMisaligned),
    TKF_BROKEN(kBase),
    TKF_BROKEN(kSwizzleMode),
    TKF_BROKEN(kBaseOffset),
    TKF_BROKEN(kNoStartFence),
    TKF_BROKEN(kUnused),
    TKF_BROKEN(kPlainWrite),
    {"to_and_fro_without_wait", test_to_and_fro<false>},
    TKF_ENDS(lonely_named, 64, 0, 0),
    TKF_ENDS(two_numbers, 64, 0, 0),
    TKF_ENDS(overwritten_mbarrier, 1, 0, 0),
    TKF_ENDS(no_arrivals, 1, 0, 0),
    TKF_ENDS(half_a_group, 64, 0, 0),
};

}  // namespace
