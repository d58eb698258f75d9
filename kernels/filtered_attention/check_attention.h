// Checks that all calls of attention share.
#pragma once
#include <cfloat>
#include <cmath>

#include "../common/check.h"

namespace tkf {

inline void check_heads(Check& check, int32_t heads, int32_t kv_heads, double scale) {
  check.size("kv_heads", kv_heads, 1, 65536);
  check.size("heads", heads, 1, 65536);
  if (check.ok() && heads % kv_heads != 0) {
    check.fail(TKF_STATUS_SHAPE, "found %d query heads over %d KV heads, expected a multiple", heads, kv_heads);
  }
  check.require(std::fabs(scale) <= FLT_MAX, TKF_STATUS_VALUE,
                "found a scale that is not finite in f32, expected a number");
}

}  // namespace tkf
