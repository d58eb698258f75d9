// Everything that is compiled once per instruction-set level: the bodies of all ops, and the table of them.
#include "simd.h"

#include "../embedding/embedding_cpu.cpp"
#include "../filtered_attention/filtered_attention_cpu.cpp"
#include "../kv_filter_scan/kv_filter_scan_cpu.cpp"
#include "../linear/linear_cpu.cpp"
#include "../machine/machine_cpu.cpp"
#include "../nll/nll_cpu.cpp"
#include "../rms_norm/rms_norm_cpu.cpp"
#include "../rope/rope_cpu.cpp"
#include "../rows/rows_cpu.cpp"
#include "../swiglu/swiglu_cpu.cpp"

namespace tkf {

#if TKF_LEVEL == TKF_LEVEL_AVX512
#define TKF_TABLE kKernelsAvx512
#elif TKF_LEVEL == TKF_LEVEL_AVX2
#define TKF_TABLE kKernelsAvx2
#else
#define TKF_TABLE kKernelsBase
#endif

// In the order of kernels.h.
extern const Kernels TKF_TABLE = {
    TKF_NAMESPACE::dequantize,
    TKF_NAMESPACE::embedding,
    TKF_NAMESPACE::rms_norm,
    TKF_NAMESPACE::linear,
    TKF_NAMESPACE::rope,
    TKF_NAMESPACE::swiglu,
    TKF_NAMESPACE::rows_gather,
    TKF_NAMESPACE::rows_scatter_add,
    TKF_NAMESPACE::rows_store,
    TKF_NAMESPACE::rows_norm,
    TKF_NAMESPACE::nll,
    TKF_NAMESPACE::logits_compare,
    TKF_NAMESPACE::filtered_attention,
    TKF_NAMESPACE::filter_measure,
    TKF_NAMESPACE::filter_features,
    TKF_NAMESPACE::machine_multiply,
    TKF_NAMESPACE::machine_read,
};

}  // namespace tkf
