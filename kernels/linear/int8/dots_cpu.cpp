// Products in int8 by dot products of bytes, where the processor has them: AVX512-VNNI, AVX-VNNI, those of arm64.
#include "../pack_columns.h"
#include "../by_format.h"

#if TKF_HAS_INT8_DOTS
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__clang__) && defined(__aarch64__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#elif defined(__clang__) && TKF_LEVEL == TKF_LEVEL_AVX512
#pragma clang attribute push(__attribute__((target("avx512vnni"))), apply_to = function)
#elif defined(__clang__)
#pragma clang attribute push(__attribute__((target("avxvnni"))), apply_to = function)
#elif defined(__aarch64__)
#pragma GCC target("+dotprod")
#elif TKF_LEVEL == TKF_LEVEL_AVX512
#pragma GCC target("avx512vnni")
#else
#pragma GCC target("avxvnni")
#endif

#define TKF_INT8 int8_dots
#define TKF_INT8_DOTS 1
#include "int8.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
