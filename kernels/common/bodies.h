// The bodies of the level that is being compiled: each is defined in the unit of its op, <op>_cpu.cpp.
#pragma once
#include "simd.h"

namespace tkf::TKF_NAMESPACE {

#define TKF_OP(name, ...) int32_t name(tkf_context* context, const tkf_##name##_args& a);
#define TKF_ONCE(name, ...)
#define TKF_BODY(name, Job) int32_t name(tkf_context* context, const Job& job);
#include "../ops.def"

}  // namespace tkf::TKF_NAMESPACE
