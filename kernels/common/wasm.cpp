// What the CPU library has in WebAssembly instead of the system's functions.
#include "cpu_context.h"

namespace tkf {

int32_t load_blas(tkf_context*, const char*, Check& check) {
  return check.fail(TKF_STATUS_UNSUPPORTED, "WebAssembly loads no libraries");
}

}  // namespace tkf

extern "C" {

// Threads of a context: workers of the caller's own, each an instance over the same memory with a stack of its own.
TKF_API void tkf_worker_enter(tkf_context* context) { tkf::cpu(context)->pool.enter(); }
TKF_API void tkf_worker_serve(tkf_context* context, int32_t thread) { tkf::cpu(context)->pool.serve(thread); }
TKF_API void tkf_worker_fail(tkf_context* context) { tkf::cpu(context)->pool.fail(); }

// Only memory that is used up throws in this library. There is nothing to unwind the stack with: the call traps.
void* __cxa_allocate_exception(size_t) { __builtin_trap(); }
[[noreturn]] void __cxa_throw(void*, void*, void (*)(void*)) { __builtin_trap(); }
}
