// Host: what launchers share.
#pragma once
#include <cinttypes>
#include <cstdio>

#include "check.h"
#include "cuda_context.h"

namespace tkf {

// Blocks that cover `count` items, `per_block` each. A grid ends at 2^31 - 1: kernels go on in strides of it.
inline unsigned grid_of(int64_t count, int64_t per_block) {
  constexpr int64_t most = 0x7fffffff;
  const int64_t blocks = count / per_block + (count % per_block != 0);
  return static_cast<unsigned>(blocks < most ? blocks : most);
}

// Threads for a row of `cols` values: whole warps, about four values a thread.
inline unsigned row_threads(int64_t cols, unsigned most) {
  const int64_t warps = (cols + 127) / 128;
  return warps * 32 < most ? static_cast<unsigned>(warps < 1 ? 1 : warps) * 32 : most;
}

inline bool is_aligned(const void* address, uintptr_t alignment) {
  return reinterpret_cast<uintptr_t>(address) % alignment == 0;
}

// Notes a buffer that lies where the device cannot load it from; TKF_STATUS_BUFFER.
inline int32_t cuda_misaligned(tkf_context* context, const char* name, uintptr_t alignment) {
  snprintf(context->message, sizeof context->message,
           "found \"%s\" misaligned, expected an address divisible by %" PRIuPTR " on a device", name, alignment);
  context->launch_status = TKF_STATUS_BUFFER;
  return TKF_STATUS_BUFFER;
}

}  // namespace tkf
