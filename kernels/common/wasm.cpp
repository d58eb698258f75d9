// What the CPU library has in WebAssembly instead of the system's functions.
#include "cpu_context.h"

namespace tkf {

int32_t load_blas(tkf_context*, const char*, Check& check) {
  return check.fail(TKF_STATUS_UNSUPPORTED, "WebAssembly loads no libraries");
}

}  // namespace tkf

extern "C" {

// Only memory that is used up throws in this library. There is nothing to unwind the stack with: the call traps.
void* __cxa_allocate_exception(size_t) { __builtin_trap(); }
[[noreturn]] void __cxa_throw(void*, void*, void (*)(void*)) { __builtin_trap(); }
}
