// What entry points know of a context: where tensors lie, and the message of the last failure. The CPU library's contexts
// (cpu_context.h) and the CUDA library's (cuda/context.h) hold more.
#pragma once
#include <cstdint>

#include "kernels.h"

struct tkf_context {
  virtual ~tkf_context() = default;

  bool on_device = false;                   // tensors lie in device memory: entry points cannot read them
  int32_t launch_status = TKF_STATUS_OK;    // of kernels that could not be launched; the message is below
  char message[512] = "";
  char description[256] = "";
  bool busy = false;                        // a call is in it; threads read and write this field alone, and atomically
};

namespace tkf {

// A context for the time of one call. No other thread gets it meanwhile; what it holds is the first one's.
class Hold {
 public:
  explicit Hold(tkf_context* context)
      : context_(context), is_held_(context == nullptr || !__atomic_exchange_n(&context->busy, true, __ATOMIC_ACQUIRE)) {}
  ~Hold() {
    if (is_held_ && context_ != nullptr) __atomic_store_n(&context_->busy, false, __ATOMIC_RELEASE);
  }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

  bool is_held() const { return is_held_; }

 private:
  tkf_context* const context_;
  const bool is_held_;
};

}  // namespace tkf
