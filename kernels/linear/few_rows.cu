// Launcher of matrix products of few rows.
#include "few_rows.cuh"

#include "../common/launch.h"
#include "linear.h"

namespace tkf {
namespace {

template <class Weight, int M>
void launch(tkf_context* context, const float* x, const uint8_t* weight, const RowList& list, int64_t n, int64_t k,
            float* out) {
  const int64_t tiles = (n + kWeightRows<Weight> - 1) / kWeightRows<Weight>, groups = (list.rows + M - 1) / M;
  TKF_LAUNCH(cuda_stream(context), (few_rows_kernel<Weight, M>), grid_of(tiles * groups, 1), kFewRowsThreads, 0, x,
             weight, list, n, k, out, cuda_fault(context));
}

}  // namespace

int32_t linear_few_rows(tkf_context* context, const float* x, int dtype, const uint8_t* weight, const RowList& list,
                        int64_t n, int64_t k, float* out) {
  const bool whole = is_aligned(x, 16) && is_aligned(weight, 16) && k % 8 == 0;
  with_weight(dtype, whole, [&](auto format) {
    using Weight = decltype(format);
    if (list.rows == 1) {
      launch<Weight, 1>(context, x, weight, list, n, k, out);
    } else if (list.rows == 2) {
      launch<Weight, 2>(context, x, weight, list, n, k, out);
    } else if (list.rows <= 4) {
      launch<Weight, 4>(context, x, weight, list, n, k, out);
    } else {
      launch<Weight, 8>(context, x, weight, list, n, k, out);
    }
  });
  return cuda_launched(context, "linear");
}

}  // namespace tkf
