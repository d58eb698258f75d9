// Tensor-core products, ldmatrix and cp.async; lane layouts as cuda.h says.
#pragma once
#include "machine.h"

namespace tkf {

namespace simt {
// With Perform, an operation of a whole warp.
struct Mma {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
  const float* c;
};
struct LoadMatrix {
  uint32_t* r;
  const void* row;
};
}  // namespace simt

inline uint32_t shared_address(const void* shared) { return simt::shared_address(shared); }

#define TKF_MMA(name)                                                                                   \
  namespace simt {                                                                                      \
  void perform_##name(Meeting& meeting);                                                                \
  }                                                                                                     \
  inline void name(float d[4], const uint32_t a[4], const uint32_t b[2], const float c[4]) {            \
    simt::Mma mine{d, a, b, c};                                                                         \
    simt::meet(#name, simt::kAllLanes, &mine, simt::perform_##name);                                    \
  }
TKF_MMA(mma_m16n8k16_f16)
TKF_MMA(mma_m16n8k16_bf16)
#undef TKF_MMA

#define TKF_LDMATRIX(name)                                                                              \
  namespace simt {                                                                                      \
  void perform_##name(Meeting& meeting);                                                                \
  }                                                                                                     \
  inline void name(uint32_t r[4], const void* shared_row) {                                             \
    simt::LoadMatrix mine{r, shared_row};                                                               \
    simt::meet(#name, simt::kAllLanes, &mine, simt::perform_##name);                                    \
  }
TKF_LDMATRIX(ldmatrix_x4)
TKF_LDMATRIX(ldmatrix_x4_trans)
#undef TKF_LDMATRIX

void cp_async_16(void* shared, const void* global, bool full = true);
void cp_async_commit();
void cp_async_wait(unsigned newest);
template <int N>
inline void cp_async_wait() {
  cp_async_wait(N);
}

template <int ID, int THREADS>
inline void sync_named(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  static_assert(ID >= 1 && ID <= 15 && THREADS > 0 && THREADS % 32 == 0);
  simt::sync_named(ID, THREADS, file, line);
}

}  // namespace tkf
