// CUDA on the CPU, for tests: kernels compiled by a C++ compiler run with each thread as a fiber. Barriers, shuffles,
// votes, mma.sync, ldmatrix and cp.async act as on the device, and so do mbarriers, TMA and wgmma (hopper.h). Shared
// memory is NaN (all bits set) before each block, and what a copy or a product brings is NaN until waited for. A
// barrier that not all live threads reach ends the process with a line that names the kernel.
//
// Threads run one at a time, each until it has to wait, in one of five orders (tokenfilter_emulator.h): what a missing
// barrier spoils goes wrong in at least one of them. Memory order is not modelled: no threadfence can be missed here.
//
// Compile with -DTKF_EMULATE -fno-strict-aliasing; link testing/emulator/*.cpp but its self-test. Their ABI:
// tokenfilter_emulator.h.
#pragma once
#include "types.h"

#include "machine.h"
#include "runtime.h"
#include "warp.h"
