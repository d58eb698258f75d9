// Products with weights that are stored as they are: f32, f16, bf16.
#include "multiply.h"

namespace tkf::TKF_NAMESPACE {

TKF_MULTIPLY(FormatF32)
TKF_MULTIPLY(DenseFormat<F16>)
TKF_MULTIPLY(DenseFormat<Bf16>)

}  // namespace tkf::TKF_NAMESPACE
