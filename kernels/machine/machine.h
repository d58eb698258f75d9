// What the CPU library's levels do for tkf_machine_measure.
#pragma once
#include <cstdint>

namespace tkf {

// Rounds of independent multiply-adds on every thread; gives the floating-point operations of all.
struct MachineMultiply {
  int64_t rounds;
  double* operations;
};
// Reads `count` floats, a multiple of 8 vectors, once.
struct MachineRead {
  const float* data;
  int64_t count;
};

}  // namespace tkf
