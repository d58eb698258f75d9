// What entry points know of a context: where tensors lie, and the message of the last failure. The CPU library's contexts
// (cpu_context.h) and the CUDA library's (cuda_context.h) hold more.
#pragma once
#include <cstdint>

#include "kernels.h"

struct tkf_context {
  virtual ~tkf_context() = default;

  bool on_device = false;                   // tensors lie in device memory: entry points cannot read them
  int32_t launch_status = TKF_STATUS_OK;    // of kernels that could not be launched; the message is below
  char message[512] = "";
  char description[256] = "";
};
