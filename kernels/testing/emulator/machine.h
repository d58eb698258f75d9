// The emulated machine as a kernel sees it: indices, barriers, shuffles, votes, atomics, shared memory, launches.
#pragma once
#include <functional>
#include <tuple>

#include "types.h"

// A thread's own data stay on one operating-system thread; initial-exec makes reading them one instruction.
#define TKF_SIMT_THREAD extern __thread __attribute__((tls_model("initial-exec"), visibility("hidden")))

namespace tkf::simt {

constexpr unsigned kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// One operation of a warp, at which lanes meet: `data` points to each lane's arguments and results, on its own stack.
struct Meeting {
  uint32_t lanes;  // those that take part
  void* const (&data)[kWarp];
};
using Perform = void (*)(Meeting& meeting);

// A thread of a block.
struct Thread {
  uint3 index;
  unsigned linear, lane, warp;
  dim3 block_dim, grid_dim;
  uint3 block_index;
};
TKF_SIMT_THREAD Thread* current;

// Ends the process with a line that names the kernel, block and thread.
[[noreturn]] __attribute__((format(printf, 1, 2))) void die(const char* format, ...);

// Waits until all live lanes of `mask` are at this operation; the last to come performs it for all.
void meet(const char* name, uint32_t mask, void* data, Perform perform);
// Waits for all live threads of the block, who must be at the same line. Counts those whose predicate holds.
int sync_block(const char* file, int line, bool predicate = false);
// Waits for `threads` threads of the block, in whole warps, at one of 15 further barriers.
void sync_named(unsigned id, unsigned threads, const char* file, int line);

// ---- shared memory ----

// Memory of a variable of this block, NaN at its start. `key`: which variable.
void* shared_variable(const void* key, size_t bytes, size_t alignment);
void* shared_dynamic();
uint32_t shared_address(const void* shared);
// Aborts unless these bytes lie in shared memory of this block.
void check_shared(const char* name, const void* address, size_t bytes);

// Key: a type of its own for each variable.
template <class T, class Key>
T& shared(Key) {
  static const char key = 0;
  return *static_cast<T*>(shared_variable(&key, sizeof(T), alignof(T) < 16 ? 16 : alignof(T)));
}

// ---- launches ----

void launch(const char* name, const void* kernel, dim3 grid, dim3 block, size_t shared_bytes,
            std::function<void()> body);

template <class... P, class... A>
void launch(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, A&&... arguments) {
  std::tuple<std::decay_t<P>...> values(static_cast<std::decay_t<P>>(std::forward<A>(arguments))...);
  launch(name, reinterpret_cast<const void*>(kernel), grid, block, shared_bytes,
         [kernel, values] { std::apply(kernel, values); });
}

}  // namespace tkf::simt

#define TKF_SHARED(T, name) auto& name = ::tkf::simt::shared<T>([] {})
#define TKF_DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(::tkf::simt::shared_dynamic())
#define TKF_LAUNCH(stream, kernel, grid, block, shared_bytes, ...)                             \
  (static_cast<void>(stream),                                                                  \
   ::tkf::simt::launch(#kernel, kernel, dim3(grid), dim3(block), shared_bytes, __VA_ARGS__))
// Launches run one after the other.
namespace tkf {
inline void wait_for_earlier_kernels() {}
}  // namespace tkf

#define TKF_ALLOW_SHARED(kernel, bytes) \
  ::tkf::simt::allow_shared(reinterpret_cast<const void*>(kernel), static_cast<size_t>(bytes))

#define TKF_ASSUME(condition) \
  ((condition) ? static_cast<void>(0) : ::tkf::simt::die("found no %s, which the kernel relies on", #condition))

#define threadIdx (::tkf::simt::current->index)
#define blockIdx (::tkf::simt::current->block_index)
#define blockDim (::tkf::simt::current->block_dim)
#define gridDim (::tkf::simt::current->grid_dim)

#define __syncthreads() ::tkf::simt::sync_block(__FILE__, __LINE__)
#define __syncthreads_and(predicate) (::tkf::simt::sync_block(__FILE__, __LINE__, !(predicate)) == 0)
inline void __syncwarp(unsigned mask = tkf::simt::kAllLanes) {
  tkf::simt::meet("__syncwarp", mask, nullptr, [](tkf::simt::Meeting&) {});
}

// ---- shuffles and votes: a lane that takes no part gives NaN (all bits set) ----

namespace tkf::simt {

template <class T>
struct Exchange {
  T value;
  unsigned source;  // a lane
  T result;
};

template <class T>
T exchange(const char* name, unsigned mask, T value, unsigned source) {
  static_assert(std::is_trivially_copyable_v<T> && (sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8));
  Exchange<T> mine{value, source, value};
  meet(name, mask, &mine, [](Meeting& meeting) {
    for (unsigned lane = 0; lane < kWarp; lane++) {
      if (!(meeting.lanes >> lane & 1)) continue;
      auto* to = static_cast<Exchange<T>*>(meeting.data[lane]);
      if (meeting.lanes >> to->source & 1) {
        to->result = static_cast<Exchange<T>*>(meeting.data[to->source])->value;
      } else {
        memset(static_cast<void*>(&to->result), 0xff, sizeof(T));
      }
    }
  });
  return mine.result;
}

inline void check_width(int width) {
  const bool valid = width > 0 && width <= 32 && (width & (width - 1)) == 0;
  if (!valid) die("found a shuffle of width %d, expected a power of two up to 32", width);
}

struct Vote {
  bool predicate;
  unsigned result;
};

}  // namespace tkf::simt

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  tkf::simt::check_width(width);
  const unsigned lane = tkf::simt::current->lane, w = static_cast<unsigned>(width);
  return tkf::simt::exchange("__shfl_sync", mask, value, (lane & ~(w - 1)) | (static_cast<unsigned>(source) & (w - 1)));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  tkf::simt::check_width(width);
  const unsigned lane = tkf::simt::current->lane, w = static_cast<unsigned>(width);
  const unsigned source = (lane ^ static_cast<unsigned>(lanes)) & 31;
  return tkf::simt::exchange("__shfl_xor_sync", mask, value, source < (lane | (w - 1)) + 1 ? source : lane);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  tkf::simt::check_width(width);
  const unsigned lane = tkf::simt::current->lane, w = static_cast<unsigned>(width);
  return tkf::simt::exchange("__shfl_up_sync", mask, value, (lane & (w - 1)) >= delta ? lane - delta : lane);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  tkf::simt::Vote mine{predicate != 0, 0};
  tkf::simt::meet("__ballot_sync", mask, &mine, [](tkf::simt::Meeting& meeting) {
    unsigned all = 0;
    for (unsigned lane = 0; lane < tkf::simt::kWarp; lane++) {
      if (meeting.lanes >> lane & 1 && static_cast<tkf::simt::Vote*>(meeting.data[lane])->predicate) all |= 1u << lane;
    }
    for (unsigned lane = 0; lane < tkf::simt::kWarp; lane++) {
      if (meeting.lanes >> lane & 1) static_cast<tkf::simt::Vote*>(meeting.data[lane])->result = all;
    }
  });
  return mine.result;
}
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

// ---- atomics: threads run one at a time, so that these are plain ----

namespace tkf::simt {
template <class T, class Function>
T atomic(T* at, Function function) {
  const T old = *at;
  *at = function(old);
  return old;
}
template <class T>
using Same = std::common_type_t<T>;  // takes no part in deduction: atomicAdd(&unsigned, 1) works, as on the device
}  // namespace tkf::simt

#define TKF_ATOMIC(name, expression)                                            \
  template <class T>                                                            \
  inline T name(T* at, tkf::simt::Same<T> value) {                              \
    return tkf::simt::atomic(at, [value](T old) -> T { return expression; });   \
  }
TKF_ATOMIC(atomicAdd, old + value)
TKF_ATOMIC(atomic_add_acq_rel, old + value)
TKF_ATOMIC(atomicMin, value < old ? value : old)
TKF_ATOMIC(atomicExch, (static_cast<void>(old), value))
#undef TKF_ATOMIC
template <class T>
inline T atomicCAS(T* at, tkf::simt::Same<T> compare, tkf::simt::Same<T> value) {
  return tkf::simt::atomic(at, [=](T old) { return old == compare ? value : old; });
}
