// Tensor-core products, ldmatrix and cp.async; lane layouts as cuda.h says.
#pragma once
#include "machine.h"

namespace tkf {
namespace simt {

struct Mma {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
  const float* c;
};
void perform_mma_f16(Meeting& meeting);
void perform_mma_bf16(Meeting& meeting);

struct LoadMatrix {
  uint32_t* r;
  const void* row;
};
void perform_ldmatrix_x4(Meeting& meeting);
void perform_ldmatrix_x4_trans(Meeting& meeting);
void perform_ldmatrix_x2(Meeting& meeting);
void perform_ldmatrix_x2_trans(Meeting& meeting);

void copy_async(void* shared, const void* global, bool full);
void copy_async_commit();
void copy_async_wait(unsigned newest);

}  // namespace simt

template <int ID, int THREADS>
inline void sync_named(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  static_assert(ID >= 1 && ID <= 15 && THREADS > 0 && THREADS % 32 == 0);
  simt::sync_named(ID, THREADS, file, line);
}
inline uint32_t shared_address(const void* shared) { return simt::shared_address(shared); }

inline void mma_m16n8k16_f16(float d[4], const uint32_t a[4], const uint32_t b[2], const float c[4]) {
  simt::Mma mine{d, a, b, c};
  simt::meet("mma_m16n8k16_f16", simt::kAllLanes, &mine, simt::perform_mma_f16);
}
inline void mma_m16n8k16_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], const float c[4]) {
  simt::Mma mine{d, a, b, c};
  simt::meet("mma_m16n8k16_bf16", simt::kAllLanes, &mine, simt::perform_mma_bf16);
}
inline void ldmatrix_x4(uint32_t r[4], const void* shared_row) {
  simt::LoadMatrix mine{r, shared_row};
  simt::meet("ldmatrix_x4", simt::kAllLanes, &mine, simt::perform_ldmatrix_x4);
}
inline void ldmatrix_x4_trans(uint32_t r[4], const void* shared_row) {
  simt::LoadMatrix mine{r, shared_row};
  simt::meet("ldmatrix_x4_trans", simt::kAllLanes, &mine, simt::perform_ldmatrix_x4_trans);
}
inline void ldmatrix_x2(uint32_t r[2], const void* shared_row) {
  simt::LoadMatrix mine{r, shared_row};
  simt::meet("ldmatrix_x2", simt::kAllLanes, &mine, simt::perform_ldmatrix_x2);
}
inline void ldmatrix_x2_trans(uint32_t r[2], const void* shared_row) {
  simt::LoadMatrix mine{r, shared_row};
  simt::meet("ldmatrix_x2_trans", simt::kAllLanes, &mine, simt::perform_ldmatrix_x2_trans);
}
inline void cp_async_16(void* shared, const void* global, bool full = true) { simt::copy_async(shared, global, full); }
inline void cp_async_commit() { simt::copy_async_commit(); }
template <int N>
inline void cp_async_wait() {
  simt::copy_async_wait(N);
}

}  // namespace tkf
