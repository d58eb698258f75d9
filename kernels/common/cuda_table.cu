// The CUDA library's table of kernels, in the order of kernels.h. The filter's entry points and machine_measure are
// the library's own (kernels/kv_filter_scan/, kernels/machine/): they have no body here.
#include "cuda_table.h"

namespace tkf {

const Kernels kKernelsCuda = {
    on_cuda::dequantize,
    on_cuda::embedding,
    on_cuda::rms_norm,
    on_cuda::linear,
    on_cuda::rope,
    on_cuda::swiglu,
    on_cuda::rows_gather,
    on_cuda::rows_scatter_add,
    on_cuda::rows_store,
    on_cuda::rows_norm,
    on_cuda::nll,
    on_cuda::logits_compare,
    on_cuda::filtered_attention,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
};

}  // namespace tkf
