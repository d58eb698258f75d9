// Fibers: a switch of stacks in a few instructions (x86-64, arm64). Announced to the address
// sanitizer, which otherwise takes a foreign stack for a stray pointer.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#define TKF_SIMT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TKF_SIMT_ASAN 1
#endif
#endif
#if defined(TKF_SIMT_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__APPLE__)
#define TKF_SIMT_SYMBOL "_tkf_simt_switch"
#else
#define TKF_SIMT_SYMBOL "tkf_simt_switch"
#endif

// Saves what a callee must keep and the stack pointer at *save, then goes on where `to` was saved.
extern "C" __attribute__((visibility("hidden"))) void tkf_simt_switch(void** save, void* to);
#if defined(__x86_64__)
asm(".text\n.p2align 4\n" TKF_SIMT_SYMBOL
    ":\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");
#elif defined(__aarch64__)
asm(".text\n.p2align 4\n" TKF_SIMT_SYMBOL
    ":\n"
    "sub sp, sp, #160\n"
    "stp x19, x20, [sp]\nstp x21, x22, [sp, #16]\nstp x23, x24, [sp, #32]\nstp x25, x26, [sp, #48]\n"
    "stp x27, x28, [sp, #64]\nstp x29, x30, [sp, #80]\n"
    "stp d8, d9, [sp, #96]\nstp d10, d11, [sp, #112]\nstp d12, d13, [sp, #128]\nstp d14, d15, [sp, #144]\n"
    "mov x9, sp\nstr x9, [x0]\nmov sp, x1\n"
    "ldp x19, x20, [sp]\nldp x21, x22, [sp, #16]\nldp x23, x24, [sp, #32]\nldp x25, x26, [sp, #48]\n"
    "ldp x27, x28, [sp, #64]\nldp x29, x30, [sp, #80]\n"
    "ldp d8, d9, [sp, #96]\nldp d10, d11, [sp, #112]\nldp d12, d13, [sp, #128]\nldp d14, d15, [sp, #144]\n"
    "add sp, sp, #160\nret\n");
#else
#error "the emulator runs on x86-64 and arm64"
#endif

namespace tkf::simt {

// A place where execution can go on, and the stack it uses.
struct Context {
  void* saved = nullptr;
  const void* stack = nullptr;  // lowest address; of the operating system's thread: known after the first switch away
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // the sanitizer's
};

// To be called first on a new stack: `from` is the context that was left.
inline void arrive(Context& to, Context& from) {
#if defined(TKF_SIMT_ASAN)
  const void* stack;
  size_t bytes;
  __sanitizer_finish_switch_fiber(to.fake_stack, &stack, &bytes);
  if (from.stack == nullptr) from.stack = stack, from.stack_bytes = bytes;
#else
  static_cast<void>(to), static_cast<void>(from);
#endif
}

// Leaves `from` for `to`; returns when something goes back to `from`. `*left` is set to the context that was left.
inline void switch_context(Context& from, Context& to, Context** left) {
  *left = &from;
#if defined(TKF_SIMT_ASAN)
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
#endif
  tkf_simt_switch(&from.saved, to.saved);
  arrive(from, **left);
}

// Prepares a context that begins with `entry`, which never returns. `used`: bytes left free at the stack's top.
inline void make_context(Context& context, char* stack, size_t bytes, size_t used, void (*entry)()) {
  context.stack = stack;
  context.stack_bytes = bytes;
#if defined(TKF_SIMT_ASAN)
  __asan_unpoison_memory_region(stack, bytes);  // frames of a thread that ended there, whose memory this was
#endif
  void** top = reinterpret_cast<void**>(stack + bytes - used);  // 16-byte aligned
#if defined(__x86_64__)
  *--top = nullptr;                         // no caller
  *--top = reinterpret_cast<void*>(entry);  // where `ret` goes
  for (int i = 0; i < 6; i++) *--top = nullptr;
#else
  for (int i = 0; i < 20; i++) *--top = nullptr;
  top[11] = reinterpret_cast<void*>(entry);  // x30
#endif
  context.saved = top;
}

// Stacks with a page below each that cannot be touched, so that an overflow is a fault and not a wrong number.
class Stacks {
 public:
#if defined(TKF_SIMT_ASAN)
  static constexpr size_t kBytes = 512 * 1024;
#else
  static constexpr size_t kBytes = 128 * 1024;
#endif
  Stacks() = default;
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;
  ~Stacks() {
    if (memory_ == nullptr) return;
#if defined(TKF_SIMT_ASAN)
    __asan_unpoison_memory_region(memory_, bytes_);  // frames that were left there: the memory may serve anything next
#endif
    munmap(memory_, bytes_);
  }
  bool reserve(size_t count) {
    page_ = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    bytes_ = count * kBytes;
    int flags = MAP_PRIVATE | MAP_ANON;
#if defined(MAP_NORESERVE)
    flags |= MAP_NORESERVE;
#endif
    void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) return false;
    memory_ = static_cast<char*>(memory);
    for (size_t i = 0; i < count; i++) mprotect(memory_ + i * kBytes, page_, PROT_NONE);
    return true;
  }
  char* stack(size_t i) const { return memory_ + i * kBytes + page_; }
  size_t stack_bytes() const { return kBytes - page_; }

 private:
  char* memory_ = nullptr;
  size_t bytes_ = 0, page_ = 0;
};

}  // namespace tkf::simt
