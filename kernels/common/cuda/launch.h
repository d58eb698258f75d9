// Host: what launchers share.
#pragma once
#include <cinttypes>
#include <cstdio>
#include <type_traits>

#include "../check.h"
#include "context.h"

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

// Blocks of a kernel that a multiprocessor holds at a time.
template <class... P>
int blocks_of_sm(void (*kernel)(P...), unsigned threads, size_t shared_bytes) {
  int blocks = 0;
  const cudaError_t error =
      cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, static_cast<int>(threads), shared_bytes);
  return error == cudaSuccess && blocks > 0 ? blocks : 1;  // an error comes back with the launch
}

// Memory that a call divides into pieces, each at an address that suits all kernels.
class Pieces {
 public:
  explicit Pieces(void* memory) : at_(static_cast<uint8_t*>(memory)) {}
  template <class T>
  T* take(int64_t count) {
    T* const piece = reinterpret_cast<T*>(at_);
    at_ += bytes_of(count * static_cast<int64_t>(sizeof(T)));
    return piece;
  }
  // How far they go; of no memory: how many bytes they need.
  uint8_t* end() const { return at_; }
  static int64_t bytes_of(int64_t bytes) { return (bytes + 255) / 256 * 256; }

 private:
  uint8_t* at_;
};

// Calls body(T()) with the element type of a code that was checked before: float, __half or __nv_bfloat16.
template <class F>
void with_type(int dtype, F&& body) {
  switch (dtype) {
    case TKF_DTYPE_F32: body(float()); break;
    case TKF_DTYPE_F16: body(__half()); break;
    default: body(__nv_bfloat16());
  }
}

// Calls body(size) with the first of SIZES, which ascend, that is at least `least`, as a type.
template <int... SIZES, class F>
void with_size(int64_t least, F&& body) {
  bool done = false;
  ((done || least > SIZES ? void() : (body(std::integral_constant<int, SIZES>()), void(done = true))), ...);
}

// Notes a buffer that lies where the device cannot load it from; TKF_STATUS_BUFFER.
inline int32_t cuda_misaligned(tkf_context* context, const char* name, uintptr_t alignment) {
  snprintf(context->message, sizeof context->message,
           "found \"%s\" misaligned, expected an address divisible by %" PRIuPTR " on a device", name, alignment);
  context->launch_status = TKF_STATUS_BUFFER;
  return TKF_STATUS_BUFFER;
}

}  // namespace tkf
