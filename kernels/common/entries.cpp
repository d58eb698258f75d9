// Everything of the CPU library that is compiled once, for the lowest level: contexts, threads, and the entry points.
#if defined(__wasm__)
#include "wasm.cpp"
#else
#include "blas.cpp"
#endif
#include "context.cpp"
#include "pool.cpp"

#define TKF_BODY_OF(name) \
  [](tkf_context* own, const tkf_##name##_args& a) { return tkf::cpu(own)->kernels->name(own, a); }
#include "entry.h"
