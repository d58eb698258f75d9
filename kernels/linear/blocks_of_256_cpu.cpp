// Products with weights in blocks of 256 values.
#include "multiply.h"

namespace tkf::TKF_NAMESPACE {

#define TKF_OF_256(name) TKF_MULTIPLY(Format##name)
#define TKF_OF_32(name)
#define TKF_OF(name, values, bytes) TKF_OF_##values(name)
TKF_BLOCK_TYPES(TKF_OF)

}  // namespace tkf::TKF_NAMESPACE
