// mbarrier, TMA and wgmma of sm_90a, as common/hopper.h offers them; what they do: async.h.
#pragma once
#include "machine.h"
#include "tensor_map.h"

namespace tkf {
namespace simt {

// Of a call, for messages.
struct Place {
  const char* file;
  int line;
};

// d [64, columns] of f32 from a [64, 16] and b [16, columns].
struct ProductShape {
  int columns;
  bool bf16, a_in_registers, b_columns_first;  // b_columns_first: N-major, otherwise K-major
  bool operator==(const ProductShape& o) const {
    return columns == o.columns && bf16 == o.bf16 && a_in_registers == o.a_in_registers &&
           b_columns_first == o.b_columns_first;
  }
};
// `fragments`: of a, where it is in registers; else `a` describes it.
void wgmma(ProductShape shape, float* d, const uint32_t* fragments, uint64_t a, uint64_t b, bool add);
void wgmma_fence();
void wgmma_wait(Place place);

}  // namespace simt

namespace hopper {

void barrier_start(uint64_t* barrier, int arrivals);
void barrier_arrive(uint64_t* barrier);
void barrier_expect(uint64_t* barrier, uint32_t bytes);
void barrier_wait(uint64_t* barrier, uint32_t parity, const char* file = __builtin_FILE(), int line = __builtin_LINE());
void fence_async();
void load_box(void* shared, const CUtensorMap* map, int column, int head, int row, uint64_t* barrier);
void wgmma_commit();

template <int N>
inline void wgmma_fence(float (&)[N][4]) {
  simt::wgmma_fence();
}
template <int N>
inline void wgmma_wait(float (&)[N][4], const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt::wgmma_wait({file, line});
}
template <int N>
inline void wgmma_keep(const uint32_t (&)[N][4]) {}  // products have their own copies

template <class T>
struct Wgmma {
  static constexpr bool kBf16 = std::is_same_v<T, __nv_bfloat16>;
  static_assert(kBf16 || std::is_same_v<T, __half>);
  static void scores(float (&d)[16][4], uint64_t a, uint64_t b, int add) {
    simt::wgmma({128, kBf16, false, false}, d[0], nullptr, a, b, add != 0);
  }
  template <int N>
  static void values(float (&d)[N][4], const uint32_t (&a)[4], uint64_t b) {
    static_assert(N == 8 || N == 16);
    simt::wgmma({8 * N, kBf16, true, true}, d[0], a, 0, b, true);
  }
};

using EncodeFunction = decltype(&cuTensorMapEncodeTiled);
inline EncodeFunction find_encode() { return cuTensorMapEncodeTiled; }

}  // namespace hopper
}  // namespace tkf
