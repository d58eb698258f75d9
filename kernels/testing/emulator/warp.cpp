// Tensor-core products and ldmatrix, performed for a whole warp at once.
#include "warp.h"

#include <cstdlib>

#include "tensor_cores.h"

namespace tkf::simt {
namespace {

// Whether mma.sync adds 16 products at a time, as an H100 does, or 8: TKF_EMULATOR_MMA=16.
bool adds_16() {
  static const char* const asked = getenv("TKF_EMULATOR_MMA");
  return asked != nullptr && strcmp(asked, "16") == 0;
}

// Lane layouts: PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type".
template <float (*kToFloat)(uint16_t)>
void perform_mma(const char* name, Meeting& meeting) {
  if (meeting.lanes != kAllLanes) die("%s: found lanes %08x, expected a whole warp", name, meeting.lanes);
  float a[16][16], d[16][8];
  RightFactor<8> b;
  const auto low = [](uint32_t pair) { return kToFloat(static_cast<uint16_t>(pair)); };
  const auto high = [](uint32_t pair) { return kToFloat(static_cast<uint16_t>(pair >> 16)); };
  for (unsigned lane = 0; lane < kWarp; lane++) {
    const Mma& mine = *static_cast<Mma*>(meeting.data[lane]);
    const unsigned group = lane / 4, column = lane % 4 * 2;
    for (unsigned i = 0; i < 4; i++) {
      const unsigned row = group + (i & 1) * 8, k = column + (i >> 1) * 8;
      a[row][k] = low(mine.a[i]), a[row][k + 1] = high(mine.a[i]);
    }
    for (unsigned i = 0; i < 2; i++) {
      const unsigned k = column + i * 8;
      b.set(k, group, low(mine.b[i])), b.set(k + 1, group, high(mine.b[i]));
    }
    for (unsigned i = 0; i < 4; i++) d[group + (i >> 1) * 8][column + (i & 1)] = mine.c[i];
  }
  const auto add = adds_16() ? add_products<16, 8> : add_products<8, 8>;
  for (unsigned row = 0; row < 16; row++) add(a[row], b, d[row]);
  for (unsigned lane = 0; lane < kWarp; lane++) {
    const Mma& mine = *static_cast<Mma*>(meeting.data[lane]);
    const unsigned group = lane / 4, column = lane % 4 * 2;
    for (unsigned i = 0; i < 4; i++) mine.d[i] = d[group + (i >> 1) * 8][column + (i & 1)];
  }
}

void load_matrices(const char* name, Meeting& meeting, bool transposed) {
  if (meeting.lanes != kAllLanes) die("%s: found lanes %08x, expected a whole warp", name, meeting.lanes);
  uint16_t loaded[4][8][8];
  for (unsigned i = 0; i < 4 * 8; i++) {
    const void* row = static_cast<LoadMatrix*>(meeting.data[i])->row;
    check_shared(name, row, 16);
    memcpy(loaded[i / 8][i % 8], row, 16);
  }
  for (unsigned lane = 0; lane < kWarp; lane++) {
    const unsigned row = lane / 4, column = lane % 4 * 2;
    for (unsigned i = 0; i < 4; i++) {
      const auto& matrix = loaded[i];
      const uint32_t first = transposed ? matrix[column][row] : matrix[row][column];
      const uint32_t second = transposed ? matrix[column + 1][row] : matrix[row][column + 1];
      static_cast<LoadMatrix*>(meeting.data[lane])->r[i] = first | second << 16;
    }
  }
}

}  // namespace

void perform_mma_m16n8k16_f16(Meeting& meeting) { perform_mma<half_to_float>("mma_m16n8k16_f16", meeting); }
void perform_mma_m16n8k16_bf16(Meeting& meeting) { perform_mma<bfloat16_to_float>("mma_m16n8k16_bf16", meeting); }
void perform_ldmatrix_x4(Meeting& meeting) { load_matrices("ldmatrix_x4", meeting, false); }
void perform_ldmatrix_x4_trans(Meeting& meeting) { load_matrices("ldmatrix_x4_trans", meeting, true); }

}  // namespace tkf::simt
