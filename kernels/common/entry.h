// The functions of the ABI that both libraries have alike, and one for each op. Whoever includes it defines
// TKF_BODY_OF(name): what to call with a context and checked arguments; and TKF_ON_CUDA in the CUDA library.
#pragma once
#include "check.h"

namespace tkf {

// Whether there is something to do, once the arguments are found right.
#define TKF_OP(name, ...) bool check_args(Check& check, const tkf_##name##_args& a);
#define TKF_CUDA_OP TKF_OP
#include "../ops.def"

template <class Args, class Body>
inline int32_t enter(tkf_context* context, const Args* args, uint64_t bytes, Body body) {
  const Hold hold(context);
  if (!hold.is_held()) return TKF_STATUS_STATE;  // without a message: that is the other call's
  Check check(context);
  check.buffer("args", {const_cast<Args*>(args), bytes}, sizeof(Args), alignof(Args));
  if (!check.ok() || !check_args(check, *args) || !check.ok()) return check.status();
  return check.done(body(context, *args));
}

}  // namespace tkf

#define TKF_CHECKS
#include "../ops.def"

#define TKF_OP(name, ...)                                                                          \
  int32_t tkf_##name(tkf_context* context, const tkf_##name##_args* args, uint64_t args_bytes) {   \
    return tkf::enter(context, args, args_bytes, TKF_BODY_OF(name));                               \
  }
#if defined(TKF_ON_CUDA)
#define TKF_CUDA_OP TKF_OP
#endif
#include "../ops.def"

int32_t tkf_abi_version(void) { return TKF_ABI_VERSION; }

double tkf_abi_address(const void* data) { return static_cast<double>(reinterpret_cast<uintptr_t>(data)); }

#define TKF_STRUCT(name, ...) "struct " #name " " #__VA_ARGS__ "\n"
#define TKF_OP(name, ...) "op tkf_" #name " " #__VA_ARGS__ "\n"
#if defined(TKF_ON_CUDA)
#define TKF_CUDA_OP TKF_OP
#endif
const char* tkf_abi_describe(void) {
  return ""
#include "../ops.def"
      ;
}

int32_t tkf_context_destroy(tkf_context* context) {
  if (context == nullptr) return TKF_STATUS_NULL;
  delete context;
  return TKF_STATUS_OK;
}

const char* tkf_context_message(tkf_context* context) {
  return context == nullptr ? "found no context" : context->message;
}
